//! How forecasts have done, as the API, the page and the metrics show it.

use serde::Serialize;

/// How one forecaster has done for one target, over about the newest 3,000 settled forecasts. `docs/metrics.md` has the
/// definitions; `null` before the first, and where an error is not defined.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Errors {
    /// Root of the mean squared error of the median, requests/s.
    pub rmse_rps: Option<f64>,
    /// Mean squared error of the median, (requests/s)².
    pub mse: Option<f64>,
    /// Mean absolute error of the median, requests/s.
    pub mae_rps: Option<f64>,
    /// Mean absolute error as a share of the outcome; `null` while an outcome of 0 is among them.
    pub mape: Option<f64>,
    /// Mean absolute error, in the mean movement from a bin to the next.
    pub mase: Option<f64>,
    /// Twice the mean pinball loss, as a share of the outcomes.
    pub wql: Option<f64>,
    /// Share of the outcomes at or below the 95 % quantile; of the newest 3,000 to 6,000, or all.
    pub q95_coverage: Option<f64>,
    /// Shortage above the 90 % quantile, five times, and spare below it, as a share of the outcomes.
    pub provisioning_loss: Option<f64>,
}

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
    /// Share of all these outcomes above the 10 % quantile and at or below the 90 % one; `null` before the first.
    pub band_coverage: Option<f64>,
    /// Mean pinball loss over the levels of what was issued, requests/s.
    pub loss_rps: Option<f64>,
    /// That loss, in those of the last value taken as every quantile.
    pub loss_ratio: Option<f64>,
    /// The same of the experts alone.
    pub loss_ratio_without_head: Option<f64>,
    /// The same of experts and network together, admitted or not; `null` on grids without one.
    pub loss_ratio_with_head: Option<f64>,
    /// Mean absolute error of the median, in those of the last value from as far away.
    pub error_ratio: Option<f64>,
    /// What was issued.
    #[serde(flatten)]
    pub errors: Errors,
    /// The experts alone; `null` on grids without a network, where that is what is issued.
    pub without_head: Option<Errors>,
    /// Experts and network together, admitted or not; `null` on grids without one.
    pub with_head: Option<Errors>,
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
    /// Its errors; `q95_coverage` is `covered` of `settled`.
    #[serde(flatten)]
    pub errors: Errors,
}

impl Score {
    /// Its key among a workload's targets.
    pub fn key(&self) -> (bool, u32, u32) {
        (self.max_over, self.horizon_seconds, self.bin_seconds)
    }
}
