//! Forecasters of one workload's load, their online ensemble and its calibration.
//!
//! Pure: no clock, no I/O, no ambient randomness. A series lives on a [`Grid`]; a [`Bin`] is one observation;
//! an [`Expert`] turns bins into point forecasts; the ensemble turns experts into a [`Forecast`].

pub mod expert;
pub mod forecast;

pub use expert::{Bin, Expert, ModelKind};
pub use forecast::{Forecast, Grid, LEVELS, Level, NotFinite, Quantiles, Target};
