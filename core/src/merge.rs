//! Reports → the demand of each workload: order-free, idempotent, and it knows what it does not know.

mod demand;

pub use demand::{Demand, Hold, Latency, MergedBurst, PodLoad, Refused, Second, Totals, WrongUnit};
