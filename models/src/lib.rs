//! Forecasters of one workload's load, their online ensemble and its calibration.
//!
//! Pure: no clock, no I/O, no ambient randomness. A series lives on a [`Grid`]; a [`Bin`] is one observation;
//! an [`Expert`] turns bins into point forecasts; the [`Ensemble`] turns experts into a [`Forecast`].

mod admission;
pub mod anomaly;
pub mod arima;
pub mod catalogue;
pub mod choice;
pub mod combiner;
mod drift;
pub mod ensemble;
pub mod expert;
pub mod experts;
pub mod forecast;
mod head;
pub mod holidays;
pub mod hybrid;
mod mixture;
pub mod neural;
pub mod nn;
mod packed;
pub mod prophet;
pub mod regime;
pub mod residual;
pub mod retraining;
pub mod rls;
pub mod scale;
mod score;
pub mod season;
pub mod state;
mod track;
pub mod tracking;
pub mod trees;
pub mod weights;
pub mod window;

pub use admission::Verdict;
pub use choice::Choice;
pub use ensemble::{Ensemble, EnsembleSettings, Weight};
pub use expert::{Bin, Expert, ModelKind};
pub use forecast::{Forecast, Forecaster, Grid, LEVELS, Level, NotFinite, Quantiles, Target};
pub use head::HeadState;
pub use holidays::Holidays;
pub use regime::Regime;
pub use score::{Errors, ExpertScore, Score};
pub use state::Unreadable;
pub use weights::{AllWeights, Weights, WeightsKind};
