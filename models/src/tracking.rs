//! Online quantile tracking: the last correction, which makes coverage come true.

use crate::state::state;

/// Step of the correction, in local scales, when a quantile was missed. At 5 % misses the correction drifts by 0.0005
/// scales a bin between them, a scale in 2,000 bins, and a miss brings it back by 0.01. Of 0.1, 0.05, 0.02, 0.01 and
/// 0.005 the smaller scored better on FORECAST.md's traces (relWQL 0.499, 0.484, 0.475, 0.471, 0.470); the last gains
/// too little for half the speed against a drift.
const STEP: f64 = 0.01;

/// The very first step; it shrinks with the square root of the settled forecasts and is down to [`STEP`] after 400.
///
/// Angelopoulos, Barber, Bates: *Online conformal prediction with decaying step sizes*, ICML 2024.
const FIRST_STEP: f64 = 0.2;

/// Corrections beyond this many scales would hide a broken expert.
const LIMIT: f64 = 20.0;

/// One quantile's running correction, in local scales.
///
/// Angelopoulos, Candès, Tibshirani: *Conformal PID Control for Time Series Prediction*, NeurIPS 2023, §2.1 (quantile
/// tracking: q ← q + η(err − (1 − level))): the share of misses tends to 1 − level for any bounded sequence, after
/// Gibbs & Candès, *Adaptive Conformal Inference Under Distribution Shift*, NeurIPS 2021. Outcomes arrive as many bins
/// late as the target is long, which adds at most that many steps to their bound.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tracker {
    correction: f32,
}
state!(Tracker { correction });

impl Tracker {
    /// The correction in local scales.
    pub fn correction(self) -> f64 {
        f64::from(self.correction)
    }

    /// The forecast of `level` was at or above the outcome, or below it, after `settled` earlier ones.
    pub fn settle(&mut self, level: f64, covered: bool, settled: u64) {
        let step = STEP.max(FIRST_STEP / (settled as f64 + 1.0).sqrt());
        let miss = if covered { 0.0 } else { 1.0 };
        let moved = self.correction() + step * (miss - (1.0 - level));
        self.correction = moved.clamp(-LIMIT, LIMIT) as f32;
    }
}
