//! The trait that every forecaster, now and later, stands behind.

use crate::forecast::{Forecast, Grid, Target};
use crate::state::State;
use crate::weights::Weights;

/// The largest value that a series carries: far above any request rate, and still exact in `f32` to one part in 10^7.
///
/// Larger finite input is clamped to it, so that sums, squares and `f32` storage can't overflow.
pub const VALUE_LIMIT: f64 = 1e15;

/// One observation on a grid.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bin {
    /// Which bin: Unix seconds of its start divided by the grid's step.
    pub index: i64,
    /// The bin's mean load (requests/s, or whatever the series measures), or `None` where it is missing.
    pub value: Option<f64>,
    /// The value is a lower bound: the pods were saturated, more was asked than served.
    pub censored: bool,
}

impl Bin {
    /// A measured bin.
    pub fn new(index: i64, value: f64) -> Self {
        Self { index, value: Some(value), censored: false }
    }

    /// A bin without a measurement.
    pub fn missing(index: i64) -> Self {
        Self { index, value: None, censored: false }
    }

    /// The same bin with an impossible value (NaN, infinite, negative) taken as missing and a huge one clamped to
    /// [`VALUE_LIMIT`].
    pub fn sane(self) -> Self {
        let value = self.value.filter(|v| v.is_finite() && *v >= 0.0).map(|v| v.min(VALUE_LIMIT));
        Self { value, ..self }
    }

    /// What an expert learns from that would itself have predicted `predicted`.
    ///
    /// A censored bin is a lower bound, so it counts only where it is above what was expected: nothing is ever
    /// trained downwards by it.
    pub fn learnable(&self, predicted: f64) -> Option<f64> {
        self.value.map(|v| if self.censored { v.max(predicted) } else { v })
    }
}

/// Every forecaster's name; labels of metrics and of the API come from here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ModelKind {
    /// The last observed value.
    LastValue,
    /// Least squares over the last two minutes, extrapolated.
    LinearTwoMinutes,
    /// Simple exponential smoothing, its factor chosen online per target.
    TunedSmoothing,
    /// Holt-Winters: damped trend, additive daily season.
    HoltWinters,
    /// Holt-Winters with an hourly season: timers and crons.
    HourlyHoltWinters,
    /// Holt-Winters with a weekly season of quarter-hours.
    WeeklyHoltWinters,
    /// The value of the same bin yesterday.
    SeasonalNaiveDay,
    /// The value of the same bin a week ago.
    SeasonalNaiveWeek,
    /// The mean of the last quarter of an hour.
    QuarterMean,
    /// The shape of a cycle of any length, found by autocorrelation.
    PhaseProfile,
    /// Recursive least squares on recent values and yesterday's.
    RlsAr,
    /// ARIMA, its order chosen by AICc.
    Arima,
    /// Prophet: a trend that bends, a daily and a weekly shape, holidays.
    Prophet,
    /// StatuScale: lines of resistance and support, steady between them or bursting.
    StatuScale,
    /// Prophet's fit, its residuals forecast by a small LSTM that was trained on other workloads.
    ProphetLstm,
    /// What the nodes expect, merged: needs to be told ([`Expert::hear`]), and sleeps until it is.
    NodeMerge,
    /// Boosted trees, fitted on the past of many workloads.
    Trees,
}

impl ModelKind {
    /// All.
    pub const ALL: [Self; 17] = [
        Self::LastValue,
        Self::LinearTwoMinutes,
        Self::TunedSmoothing,
        Self::HoltWinters,
        Self::HourlyHoltWinters,
        Self::WeeklyHoltWinters,
        Self::SeasonalNaiveDay,
        Self::SeasonalNaiveWeek,
        Self::QuarterMean,
        Self::PhaseProfile,
        Self::RlsAr,
        Self::Arima,
        Self::Prophet,
        Self::StatuScale,
        Self::ProphetLstm,
        Self::NodeMerge,
        Self::Trees,
    ];

    /// Whether it knows of holidays.
    pub fn reads_holidays(self) -> bool {
        matches!(self, Self::Prophet | Self::ProphetLstm)
    }

    /// The name in metrics, files and the API.
    pub fn name(self) -> &'static str {
        match self {
            Self::LastValue => "last_value",
            Self::LinearTwoMinutes => "linear_2m",
            Self::TunedSmoothing => "tuned_smoothing",
            Self::HoltWinters => "holt_winters",
            Self::HourlyHoltWinters => "holt_winters_hour",
            Self::WeeklyHoltWinters => "holt_winters_week",
            Self::SeasonalNaiveDay => "seasonal_naive_day",
            Self::SeasonalNaiveWeek => "seasonal_naive_week",
            Self::QuarterMean => "mean_15m",
            Self::PhaseProfile => "phase_profile",
            Self::RlsAr => "rls_ar",
            Self::Arima => "arima",
            Self::Prophet => "prophet",
            Self::StatuScale => "statuscale",
            Self::ProphetLstm => "prophet_lstm",
            Self::NodeMerge => "node_merge",
            Self::Trees => "trees",
        }
    }
}

/// A forecaster of one series: online, deterministic, bounded in memory and in work per bin.
pub trait Expert: Send + State {
    /// Which model this is.
    fn kind(&self) -> ModelKind;

    /// Takes what the nodes expect, merged, before the bin that has just ended is observed. Who looks at the series alone
    /// does not care.
    fn hear(&mut self, _nodes: &Forecast) {}

    /// Goes on with other weights, where they are of its kind; what it knows of the series stays. Who was not fitted on other
    /// workloads does not care.
    fn set_weights(&mut self, _weights: &Weights) {}

    /// The weights that it runs with, where it has any that are fitted on many workloads or anew.
    fn fitted(&self) -> Option<Weights> {
        None
    }

    /// Takes the next bin, already [`Bin::sane`]. Indices only grow; a jump is a gap of missing bins.
    fn observe(&mut self, bin: Bin);

    /// Whether the history suffices. A sleeping expert is neither believed nor scored; what it predicts in its sleep
    /// (usually the last value) serves only where nobody else is awake.
    fn awake(&self) -> bool;

    /// Point forecasts for each of `targets`, written to `out` (same length), finite and not negative.
    ///
    /// `targets` are those that the expert was made for, in the same order. Depends on the observed bins alone. For
    /// [`Target::MaxOver`] this is the largest value of the expert's own path; what noise adds to a maximum is left
    /// to the residual quantiles.
    fn predict(&self, targets: &[Target], out: &mut [f64]);

    /// The grid that the expert was made for.
    fn grid(&self) -> Grid;

    /// Bytes on the heap, for the memory budget.
    fn heap_bytes(&self) -> usize;
}
