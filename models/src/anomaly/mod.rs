//! Which bins not to learn from, and which not to act on.
//!
//! [`Filter`] reads a series bin by bin and gives a [`Verdict`]: one word on learning, one on acting, each with its reason.
//! Rules find what has a shape (a flood, a generated load, a broken counter); where one suspects a flood, an isolation forest
//! ([`Forest`]) and an autoencoder ([`Autoencoder`]), made of the day before it at that moment, say how strange the bin is,
//! and one of them must agree.
//! Nothing here shrinks anything: the strongest word is [`Acting::Hold`].

mod autoencoder;
mod filter;
mod forest;
mod shape;
mod strange;

pub use autoencoder::Autoencoder;
pub use filter::{Acting, Filter, Learning, Reason, Verdict};
pub use forest::Forest;
pub use strange::Scores;
