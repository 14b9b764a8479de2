//! Everything that a workload's plan depends on, and the arithmetic from load to pods.

use prescale_models::Level;

use super::{Gate, HoldCause, Memory, Rules};
use crate::capacity::Capacity;
use crate::time::Mono;
use crate::units::RequestsPerSecond;
use crate::world::{WorkloadId, WorkloadSettings};

/// The finer grid's bins, seconds of the caller's clock: what a forecast's level is smoothed from.
const BIN_SECONDS: f64 = 10.0;

/// What a plan is made from. Nothing else has a say: the same inputs give the same plan.
#[derive(Clone, Debug)]
pub struct Inputs<'a> {
    /// The time.
    pub at: Mono,
    /// Which workload.
    pub workload: &'a WorkloadId,
    /// Its settings, valid ([`WorkloadSettings::problem`]).
    pub settings: &'a WorkloadSettings,
    /// The rules' constants.
    pub rules: &'a Rules,
    /// Recent needs and replicas.
    pub memory: &'a Memory,
    /// `spec.replicas`.
    pub replicas: u32,
    /// Its version.
    pub resource_version: u64,
    /// Pods that serve.
    pub ready_pods: u32,
    /// The load as measured.
    pub load: Load,
    /// Whether the measurements can be trusted.
    pub data: Data,
    /// What one pod carries, if known.
    pub capacity: Option<Capacity>,
    /// Upper quantile of the largest load until a pod asked for now could serve.
    pub scale_out: Option<Upper>,
    /// The same until a pod dropped now would be worth its start again.
    pub scale_in: Option<Upper>,
    /// From decision to a new pod's first response, seconds of the caller's clock.
    pub lead_time_seconds: f64,
    /// Seconds of the caller's clock per real second; 1 in production.
    pub clock_speed: f64,
    /// A reason of the cluster's not to act (a foreign write, a write under way).
    pub gate: Option<Gate>,
}

/// The load as measured, summed over pods.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Load {
    /// Requests that arrived over the last seconds, for several lengths.
    pub windows: Vec<Window>,
    /// Requests in flight now, queued ones included.
    pub in_flight: u64,
    /// Variance of the seconds' counts over their mean: 1 for Poisson arrivals; what is below counts as 1.
    pub dispersion: f64,
    /// Pods whose served rate is a lower bound of what is asked of them.
    pub saturated_pods: u32,
    /// Where a rise that chance does not explain leads within the lead time; `None` while there is none.
    pub burst_rps: Option<RequestsPerSecond>,
}

/// Requests counted over a time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Window {
    /// Requests that arrived.
    pub starts: f64,
    /// In how many seconds of the kernel's clock.
    pub seconds: f64,
}

/// An upper quantile of the forecast of a maximum.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Upper {
    /// The quantile.
    pub load: RequestsPerSecond,
    /// Its level.
    pub level: Level,
    /// How far ahead the maximum reaches, seconds of the caller's clock.
    pub seconds: u32,
    /// The grid that it came from, seconds per bin.
    pub step_seconds: u32,
}

/// Whether the measurements can be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Data {
    /// All ready pods are measured, and lately.
    Fresh,
    /// They are not.
    Hold(HoldCause),
}

/// The numbers that a plan rests on, as its report shows them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Basis {
    /// The rate that the last seconds' counts prove, requests/s.
    pub measured_rps: f64,
    /// Requests that wait beyond the objective.
    pub backlog: f64,
    /// Pods that serve.
    pub ready_pods: u32,
    /// Pods that serve less than is asked of them.
    pub saturated_pods: u32,
    /// Where a rise that chance does not explain leads within the lead time.
    pub burst_rps: Option<RequestsPerSecond>,
    /// What one pod carries.
    pub capacity: Option<Capacity>,
    /// What is grown for.
    pub scale_out: Option<Upper>,
    /// What is kept for.
    pub scale_in: Option<Upper>,
    /// From decision to a new pod's first response, seconds of the caller's clock.
    pub lead_time_seconds: f64,
    /// Spare capacity asked for, as a share.
    pub headroom: f64,
}

impl Load {
    /// A rate that the true one exceeds with near certainty: the best lower bound over the windows, requests/s.
    ///
    /// `(√c − z/2)²`: a count `c` of Poisson mean `m < c` has a probability of at most `e^−KL` (Chernoff), where
    /// `KL = c·ln(c/m) − c + m ≥ 2(√c − √m)²`, so at most `e^−z²/2` where the bound equals `m`. It holds down to a
    /// handful of requests, where a normal interval proves too much; below `z²/4` of them nothing is proven. As in
    /// quasi-likelihood, `z` grows with the root of the dispersion.
    pub fn lower_rps(&self, rules: &Rules) -> f64 {
        let margin = rules.reactive_sigmas / 2.0 * self.dispersion.max(1.0).sqrt();
        let lower = |w: &Window| {
            let root = (w.starts.sqrt() - margin).max(0.0);
            if w.seconds > 0.0 { root * root / w.seconds } else { 0.0 }
        };
        self.windows.iter().map(lower).fold(0.0, f64::max)
    }
}

impl Inputs<'_> {
    /// Pods for a load with the stated headroom; `None` while the capacity is unknown.
    pub fn pods_for(&self, rps: f64) -> Option<u32> {
        let capacity = self.capacity.as_ref()?.rps_per_pod.get();
        let pods = rps * (1.0 + self.settings.headroom) / capacity;
        // 110 rps at 11 per pod are 10 pods, though the quotient may come out a few bits above. Saturates.
        Some((pods - pods * 1e-9).ceil() as u32)
    }

    /// Pods for a forecast quantile; `None` without forecast or capacity.
    pub fn pods_for_forecast(&self, upper: Option<Upper>) -> Option<u32> {
        self.pods_for(upper?.load.get())
    }

    /// How far chance alone moves the forecast of a steady load, requests/s: `sigmas` standard deviations of the mean
    /// over one bin of the finer grid.
    pub fn chance_rps(&self, rps: f64, sigmas: f64) -> f64 {
        let seconds = BIN_SECONDS / self.clock_speed;
        sigmas * (rps.max(0.0) * self.load.dispersion.max(1.0) / seconds).sqrt()
    }

    /// Whether the present pods fall short of the forecast by no more than chance moves it.
    pub fn short_by_chance(&self) -> bool {
        let (Some(capacity), Some(upper)) = (&self.capacity, self.scale_out) else { return false };
        let carried = f64::from(self.replicas) * capacity.rps_per_pod.get() / (1.0 + self.settings.headroom);
        upper.load.get() <= carried + self.chance_rps(carried, self.rules.grow_sigmas)
    }

    /// Pods that must not leave: what the forecast needs back soon, and what chance could ask for beyond it.
    pub fn pods_to_keep(&self) -> Option<u32> {
        let load = self.scale_in?.load.get();
        self.pods_for(load + self.chance_rps(load, self.rules.leave_sigmas))
    }

    /// Requests in flight beyond what the ready pods hold at full load within the objective (Little's law).
    pub fn backlog(&self) -> f64 {
        let (Some(capacity), Some(slo)) = (&self.capacity, self.settings.slo_seconds) else { return 0.0 };
        let normal = f64::from(self.ready_pods) * capacity.rps_per_pod.get() * slo;
        (self.load.in_flight as f64 - normal).max(0.0)
    }

    /// Pods for the present load and the backlog, drained within one lead time: the extra pods are there no sooner,
    /// and a slower drain would keep requests late for longer than the cause lasted.
    pub fn pods_for_backlog(&self) -> Option<u32> {
        let backlog = self.backlog();
        if backlog <= 0.0 {
            return None;
        }
        // The one place where a count in real time meets a duration of the caller's clock.
        let drain_seconds = (self.lead_time_seconds / self.clock_speed).max(1e-3);
        self.pods_for(self.load.lower_rps(self.rules) + backlog / drain_seconds)
    }

    /// Pods that make up for saturated ones; `None` while there is none, or the capacity is unknown. A few of many are slow,
    /// stuck or have more connections than the others: one pod each, beside those that the load needs, expected and counted,
    /// takes over what they can't serve. Where at least half are saturated the load is too much for all, and can't be counted: it
    /// is searched for by a step from the pods that serve, so that the next one waits until the last one has arrived.
    pub fn pods_for_saturated(&self) -> Option<u32> {
        let saturated = Some(self.load.saturated_pods).filter(|it| *it > 0)?;
        let counted = self.pods_for(self.load.lower_rps(self.rules))?;
        let others = self.pods_for_forecast(self.scale_out).unwrap_or(0).max(counted);
        let instead = others.saturating_add(saturated);
        if u64::from(saturated) * 2 < u64::from(self.ready_pods) {
            return Some(instead);
        }
        Some(((f64::from(self.ready_pods) * self.rules.censored_growth).ceil() as u32).max(instead))
    }

    /// The numbers for the report.
    pub fn basis(&self) -> Basis {
        Basis {
            measured_rps: self.load.lower_rps(self.rules),
            backlog: self.backlog(),
            ready_pods: self.ready_pods,
            saturated_pods: self.load.saturated_pods,
            burst_rps: self.load.burst_rps,
            capacity: self.capacity,
            scale_out: self.scale_out,
            scale_in: self.scale_in,
            lead_time_seconds: self.lead_time_seconds,
            headroom: self.settings.headroom,
        }
    }

    /// Why replicas must not shrink, if there is a cause.
    pub fn hold(&self) -> Option<HoldCause> {
        if self.capacity.is_none() {
            return Some(HoldCause::CapacityUnknown);
        }
        if let Data::Hold(cause) = self.data {
            return Some(cause);
        }
        (self.scale_out.is_none() || self.scale_in.is_none()).then_some(HoldCause::NoForecast)
    }
}
