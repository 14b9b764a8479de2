//! Which bins not to learn from, and which not to act on.
//!
//! [`Filter`] reads a series bin by bin and gives a [`Verdict`]: one word on learning, one on acting, each with its reason.
//! Rules find what has a shape (a flood, a generated load, a broken counter); an isolation forest ([`Forest`]) and an
//! autoencoder ([`Autoencoder`]) say how strange the bin is to this workload's own past, and a flood needs their agreement.
//! Nothing here shrinks anything: the strongest word is [`Acting::Hold`].

mod autoencoder;
mod filter;
mod forest;
mod shape;

pub use autoencoder::Autoencoder;
pub use filter::{Acting, Filter, Learning, Reason, Scores, Verdict};
pub use forest::Forest;
