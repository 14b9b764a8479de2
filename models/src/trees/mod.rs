//! Gradient-boosted quantile trees: histograms, depth-wise and leaf-wise growth, one pooled model for all workloads.

mod booster;
mod cuts;
mod examples;
mod expert;
mod features;
mod fitting;
mod grow;
pub(crate) mod retraining;
mod saved;

pub use booster::{Booster, Growth, Objective, Settings};
pub use examples::{Collector, Examples};
pub use expert::{PooledTrees, fingerprint, shipped};
pub use features::{Features, NAMES as FEATURE_NAMES, SIZE as FEATURES};
pub use fitting::Fitting;
pub use saved::NoBooster;
