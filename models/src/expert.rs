//! The trait that every forecaster, now and later, stands behind.

use crate::forecast::{Grid, Target};

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
}

impl ModelKind {
    /// The name in metrics, files and the API.
    pub fn name(self) -> &'static str {
        match self {
            Self::LastValue => "last_value",
            Self::LinearTwoMinutes => "linear_2m",
            Self::TunedSmoothing => "tuned_smoothing",
            Self::HoltWinters => "holt_winters",
        }
    }
}

/// A forecaster of one series: online, deterministic, bounded in memory and in work per bin.
pub trait Expert: Send {
    /// Which model this is.
    fn kind(&self) -> ModelKind;

    /// Takes the next bin. Indices only grow; a jump is a gap of missing bins.
    fn observe(&mut self, bin: Bin);

    /// Whether the history suffices. A sleeping expert is neither asked nor scored.
    fn awake(&self) -> bool;

    /// Point forecasts for each of `targets`, written to `out` (same length), finite and not negative.
    ///
    /// Depends on the observed bins alone.
    fn predict(&self, targets: &[Target], out: &mut [f64]);

    /// The grid that the expert was made for.
    fn grid(&self) -> Grid;
}
