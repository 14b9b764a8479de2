//! Gradient-boosted quantile trees: histograms, depth-wise and leaf-wise growth, one pooled model for all workloads.

mod booster;
mod cuts;
mod examples;
mod expert;
mod features;
mod grow;
mod saved;

pub use booster::{Booster, Growth, Objective, Settings};
pub use cuts::Cuts;
pub use examples::{Collector, Examples};
pub use expert::{PooledTrees, fingerprint, shipped};
pub use features::{Features, NAMES as FEATURE_NAMES, SIZE as FEATURES};
pub use saved::NoBooster;
