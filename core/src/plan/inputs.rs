//! Everything that a workload's plan depends on, and the arithmetic from load to pods.

use prescale_models::Level;

use super::{Gate, HoldCause, Memory, Rules};
use crate::capacity::Capacity;
use crate::time::Mono;
use crate::units::RequestsPerSecond;
use crate::world::{WorkloadId, WorkloadSettings};

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
    /// Pods are saturated: more is asked than arrives.
    pub censored: bool,
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
    /// The score interval of a Poisson mean, `c + z²/2 − z·√(c + z²/4)`: never negative, and growing in `c`.
    pub fn lower_rps(&self, rules: &Rules) -> f64 {
        let z = rules.reactive_sigmas;
        let lower = |w: &Window| {
            let count = w.starts + z * z / 2.0 - z * (w.starts + z * z / 4.0).sqrt();
            if w.seconds > 0.0 { count.max(0.0) / w.seconds } else { 0.0 }
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

    /// The numbers for the report.
    pub fn basis(&self) -> Basis {
        Basis {
            measured_rps: self.load.lower_rps(self.rules),
            backlog: self.backlog(),
            ready_pods: self.ready_pods,
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
