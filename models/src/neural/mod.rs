//! Pooled neural forecasters: one global network over the normalised history of all workloads.
//!
//! A [`Frame`] turns one series into normalised inputs, online and from the past alone: levels, calendar and phase
//! features, and for each target a list of simple forecasts with how far each was off lately. A [`Network`] reads the
//! inputs step by step, chooses among those forecasts and answers with ascending quantiles for any target (direct
//! multi-horizon: the target is an input of the head). Nothing in it is a workload's own, so that one network serves,
//! and learns from, all of them. [`training`] fits it; [`Pooled`] is the calibrated forecaster.
//!
//! Sources: Wen et al., *A Multi-Horizon Quantile Recurrent Forecaster*, 2017 (recurrent state, one shared head for all
//! horizons); Montero-Manso, Hyndman, *Principles and algorithms for forecasting groups of time series*, IJF 2021 (why
//! one global network); Montero-Manso et al., *FFORMA*, IJF 2020 (learning the weights of simple forecasts).

mod candidates;
mod core;
mod forecaster;
mod frame;
mod head;
pub(crate) mod lesson;
mod levels;
mod network;
mod pooled;
pub(crate) mod retraining;
#[cfg(test)]
mod testing;
pub mod training;

pub use self::core::CoreKind;
pub use forecaster::{Neural, shipped, shipped_as};
pub use frame::{FEATURES, Frame, INPUTS, View};
pub(crate) use levels::{Level, Profile};
pub use network::{Network, NetworkSettings};
pub use pooled::Pooled;
