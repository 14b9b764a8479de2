//! Pure: units, counters, the wire, merging, planning and the two brains, [`Node`] and [`Cluster`].
//!
//! Nothing here reads a clock, a file, a socket or an environment variable: `now`, bytes and seeds come in,
//! values go out.

pub mod counters;
pub mod hpa;
pub mod time;
pub mod units;
pub mod world;

pub use time::{Mono, Now, Wall};
