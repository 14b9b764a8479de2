//! How forecasts have done, as the API, the page and the metrics show it.

use serde::Serialize;

/// How one target's forecasts have done. Ratios are of means over the same settled forecasts, below 1 is better than the
/// last value; they remember about 3,000 of them.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Score {
    /// From the origin.
    pub horizon_seconds: u32,
    /// Length of the means that it is about.
    pub bin_seconds: u32,
    /// The largest load until then, not the load then.
    pub max_over: bool,
    /// Forecasts settled against a measured outcome, since the workload's forecasters began.
    pub settled: u64,
    /// Of them, how many outcomes were at or below the quantile, in the order of `Forecast::levels`.
    pub covered: [u64; 5],
    /// Share of the outcomes at or below the 95 % quantile; `null` before the first.
    pub q95_coverage: Option<f64>,
    /// Share of the outcomes above the 10 % quantile and at or below the 90 % one.
    pub band_coverage: Option<f64>,
    /// Mean pinball loss over the levels of what was issued, requests/s.
    pub loss_rps: Option<f64>,
    /// That loss, in those of the last value taken as every quantile.
    pub loss_ratio: Option<f64>,
    /// The same of the experts alone.
    pub loss_ratio_without_head: Option<f64>,
    /// The same of experts and network together, admitted or not; `null` on grids without one.
    pub loss_ratio_with_head: Option<f64>,
    /// Mean absolute error of the median, in those of the last value: MASE with the naive forecast from as far away.
    pub error_ratio: Option<f64>,
    /// Each expert.
    pub models: Vec<ModelScore>,
}

/// How one expert has done for one target, while it was awake.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct ModelScore {
    /// Which model.
    pub name: &'static str,
    /// Whether its history suffices.
    pub awake: bool,
    /// Its share of the median.
    pub weight: f64,
    /// Settled forecasts that the coverage is over: the newest 3,000 to 6,000, or all.
    pub settled: u64,
    /// Of them, how many outcomes were at or below its 95 % quantile.
    pub covered: u64,
    /// Mean pinball loss of its quantiles, in those of the last value; `null` before the first.
    pub loss_ratio: Option<f64>,
    /// `covered` of `settled`.
    pub q95_coverage: Option<f64>,
}

impl Score {
    /// Its key among a workload's targets.
    pub fn key(&self) -> (bool, u32, u32) {
        (self.max_over, self.horizon_seconds, self.bin_seconds)
    }
}
