//! Pure: units, counters, the wire, merging, planning and the two brains, [`Node`] and [`Cluster`].
//!
//! Nothing here reads a clock, a file, a socket or an environment variable: `now`, bytes and seeds come in,
//! values go out.

pub mod annotations;
pub mod capacity;
pub mod check;
pub mod choices;
pub mod cluster;
pub mod counters;
pub mod fitted;
pub mod hpa;
pub mod lead_time;
pub mod merge;
pub mod node;
pub mod plan;
pub mod sample;
pub mod series;
pub mod standing;
pub mod time;
pub mod units;
pub mod view;
pub mod wire;
pub mod world;

pub use time::{Mono, Now, Wall};
