//! What a forecast is: a grid, targets, quantiles; and what makes one.

use crate::expert::Bin;

/// The quantile levels that every forecast carries, ascending.
pub const LEVELS: [f64; 5] = [0.1, 0.5, 0.9, 0.95, 0.99];

/// One of [`LEVELS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Level {
    /// 10 %.
    P10,
    /// The median, also the point forecast.
    P50,
    /// 90 %.
    P90,
    /// 95 %.
    P95,
    /// 99 %.
    P99,
}

impl Level {
    /// All levels, ascending.
    pub const ALL: [Self; 5] = [Self::P10, Self::P50, Self::P90, Self::P95, Self::P99];

    /// The probability.
    pub fn probability(self) -> f64 {
        LEVELS[self as usize]
    }
}

/// A value was NaN or infinite.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotFinite;

impl std::fmt::Display for NotFinite {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a forecast value was not finite")
    }
}

impl std::error::Error for NotFinite {}

/// Values at [`LEVELS`]: finite, not negative, not decreasing.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Quantiles([f64; 5]);

impl Quantiles {
    /// All zero.
    pub const ZERO: Self = Self([0.0; 5]);

    /// Takes the values in the order of [`LEVELS`]; negatives become 0, a decreasing one its predecessor.
    ///
    /// # Errors
    /// [`NotFinite`] if any value is NaN or infinite.
    pub fn new(mut values: [f64; 5]) -> Result<Self, NotFinite> {
        let mut floor = 0.0;
        for value in &mut values {
            if !value.is_finite() {
                return Err(NotFinite);
            }
            floor = value.max(floor);
            *value = floor;
        }
        Ok(Self(values))
    }

    /// The value at `level`.
    pub fn at(&self, level: Level) -> f64 {
        self.0[level as usize]
    }

    /// The median.
    pub fn median(&self) -> f64 {
        self.at(Level::P50)
    }

    /// All five, in the order of [`LEVELS`].
    pub fn values(&self) -> [f64; 5] {
        self.0
    }
}

/// A regular grid in wall-clock time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grid {
    /// Length of a bin in seconds; divides a day.
    pub step_seconds: u32,
}

impl Grid {
    /// The bin that a Unix time falls into.
    pub fn index_at(self, unix_seconds: i64) -> i64 {
        unix_seconds.div_euclid(i64::from(self.step_seconds))
    }

    /// Bins in a day.
    pub fn bins_per_day(self) -> usize {
        (86_400 / self.step_seconds) as usize
    }
}

/// What is forecast, in bins after the origin (the last observed bin).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Target {
    /// The value of the bin `steps` after the origin.
    At {
        /// At least 1.
        steps: u32,
    },
    /// The largest value of the bins 1 to `steps` after the origin: what pods are sized for.
    MaxOver {
        /// At least 1.
        steps: u32,
    },
}

impl Target {
    /// Bins until the target is known.
    pub fn steps(self) -> u32 {
        match self {
            Self::At { steps } | Self::MaxOver { steps } => steps,
        }
    }
}

/// Quantiles for each target, from one origin.
#[derive(Clone, Debug, PartialEq)]
pub struct Forecast {
    /// Index of the last bin that the forecast has seen.
    pub origin: i64,
    /// The grid of the bins.
    pub grid: Grid,
    /// One entry per target, in the order they were configured.
    pub points: Vec<(Target, Quantiles)>,
}

impl Forecast {
    /// The quantiles of `target`, if it was configured.
    pub fn get(&self, target: Target) -> Option<&Quantiles> {
        self.points.iter().find(|(t, _)| *t == target).map(|(_, q)| q)
    }
}

/// What turns a series into quantiles: an [`Ensemble`](crate::Ensemble) of experts, or a network alone, which answers with
/// quantiles of its own where an [`Expert`](crate::Expert) gives points.
pub trait Forecaster: Send {
    /// Takes the next bin: settles the forecasts that it makes due, learns, forecasts anew. Indices only grow: a bin that is
    /// not later than all before is ignored.
    fn observe(&mut self, bin: Bin);

    /// The forecast from the newest bin; `None` until a first value was observed.
    fn forecast(&self) -> Option<&Forecast>;

    /// Bytes that it holds, what it shares with others left out.
    fn memory_bytes(&self) -> usize;
}
