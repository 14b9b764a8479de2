//! The Kubernetes HorizontalPodAutoscaler's rule, exactly, as a pure state machine: the baseline of demo, simulator
//! and shadow scoring.
//!
//! Follows kube-controller-manager (`pkg/controller/podautoscaler`, 1.36) step by step, integer arithmetic and
//! comparisons at the edge of windows included; `golden` holds the vectors of an independent port. Every period is in
//! seconds of the caller's clock, so that a compressed demo compresses the HPA with it.

mod normalise;
mod proposal;

#[cfg(test)]
mod golden;

pub use normalise::{Behavior, Policy, PolicyKind, Rules, Select};
pub use proposal::{Metric, PodReading, PodUsage, ReadyCondition, milli};

use serde::{Deserialize, Serialize};

use crate::time::Mono;
use normalise::{Record, ScaleEvent};

/// The HPA object's spec and the controller's flags, at their defaults unless changed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HpaSettings {
    /// `spec.minReplicas`, at least 1 here (0 needs the alpha gate HPAScaleToZero).
    pub min_replicas: u32,
    /// `spec.maxReplicas`.
    pub max_replicas: u32,
    /// `spec.behavior`; `None` takes the legacy path, which is another algorithm.
    pub behavior: Option<Behavior>,
    /// Relative deviation upwards that is ignored (`--horizontal-pod-autoscaler-tolerance`).
    pub tolerance_up: f64,
    /// Relative deviation downwards that is ignored.
    pub tolerance_down: f64,
    /// From the end of one run to the next, seconds (`--horizontal-pod-autoscaler-sync-period`).
    pub sync_period_seconds: f64,
    /// Window of the legacy path, seconds (`--horizontal-pod-autoscaler-downscale-stabilization`).
    pub downscale_window_seconds: f64,
    /// After a pod's start its CPU counts only once it is ready, seconds.
    pub cpu_initialization_seconds: f64,
    /// A pod that became unready so soon after its start has never been ready, seconds.
    pub initial_readiness_delay_seconds: f64,
}

impl HpaSettings {
    /// kube-controller-manager's defaults, with `behavior` as the API server fills it in once it is present.
    pub fn new(min_replicas: u32, max_replicas: u32) -> Self {
        Self {
            min_replicas: min_replicas.max(1),
            max_replicas: max_replicas.max(min_replicas.max(1)),
            behavior: Some(Behavior::default()),
            tolerance_up: 0.1,
            tolerance_down: 0.1,
            sync_period_seconds: 15.0,
            downscale_window_seconds: 300.0,
            cpu_initialization_seconds: 300.0,
            initial_readiness_delay_seconds: 30.0,
        }
    }

    /// The same without `spec.behavior`: the legacy path.
    pub fn legacy(min_replicas: u32, max_replicas: u32) -> Self {
        Self { behavior: None, ..Self::new(min_replicas, max_replicas) }
    }

    fn within_tolerance(&self, ratio: f64) -> bool {
        1.0 - self.tolerance_down <= ratio && ratio <= 1.0 + self.tolerance_up
    }
}

/// What one reconcile reads.
#[derive(Clone, Debug, PartialEq)]
pub struct HpaInputs<'a> {
    /// `spec.replicas` of `/scale`.
    pub replicas: u32,
    /// `status.replicas` of `/scale`: the pods that exist, ready or not.
    pub status_replicas: u32,
    /// Pods that are running and ready; Object and External values use it.
    pub ready_pods: u32,
    /// The metrics, as the adapters answered.
    pub metrics: &'a [Metric],
}

/// Why a reconcile ended as it did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum HpaReason {
    /// `spec.replicas` is 0: switched off.
    Disabled,
    /// Above the maximum: set to it without reading a metric.
    AboveMaximum,
    /// Below the minimum: set to it without reading a metric.
    BelowMinimum,
    /// No metric gave a proposal, or some failed and the rest would shrink.
    MetricsFailed,
    /// Metrics decided, limits included.
    Metrics,
}

impl HpaReason {
    /// Its label.
    pub fn name(self) -> &'static str {
        match self {
            Self::Disabled => "disabled",
            Self::AboveMaximum => "above_maximum",
            Self::BelowMinimum => "below_minimum",
            Self::MetricsFailed => "metrics_failed",
            Self::Metrics => "metrics",
        }
    }
}

/// What one reconcile decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HpaOutcome {
    /// Replicas to have; written to `/scale` if it differs from the current ones.
    pub replicas: u32,
    /// The metrics' proposal before stabilisation and limits, if they were read and gave one.
    pub proposal: Option<u32>,
    /// Why.
    pub reason: HpaReason,
}

/// One HPA's memory: recommendations and scale events. A controller's restart forgets it: make a new one.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Hpa {
    settings: HpaSettings,
    // Pruned at each run, so bounded by window ÷ sync period (20 by default).
    recommendations: Vec<Record>,
    ups: Vec<ScaleEvent>,
    downs: Vec<ScaleEvent>,
    last_run: Option<Mono>,
}

impl Hpa {
    /// An HPA that the controller sees for the first time.
    pub fn new(settings: HpaSettings) -> Self {
        Self { settings, recommendations: Vec::new(), ups: Vec::new(), downs: Vec::new(), last_run: None }
    }

    /// Its settings.
    pub fn settings(&self) -> &HpaSettings {
        &self.settings
    }

    /// The same on another clock.
    pub(crate) fn rebased(mut self, shift: impl Fn(Mono) -> Mono) -> Self {
        self.recommendations.iter_mut().for_each(|record| record.at = shift(record.at));
        self.ups.iter_mut().chain(&mut self.downs).for_each(|event| event.at = shift(event.at));
        self.last_run = self.last_run.map(shift);
        self
    }

    /// Whether the sync period has passed since the last run.
    pub fn due(&self, now: Mono) -> bool {
        self.last_run
            .is_none_or(|last| now.0.saturating_sub(last.0) >= nanos(self.settings.sync_period_seconds))
    }

    /// One reconcile. The outcome is assumed to be written: the behaviour path remembers it as a scale event.
    pub fn reconcile(&mut self, now: Mono, inputs: &HpaInputs<'_>) -> HpaOutcome {
        self.last_run = Some(now);
        let current = inputs.replicas;
        if self.recommendations.is_empty() {
            self.recommendations.push(Record { at: now, replicas: current });
        }
        let (min, max) = (self.settings.min_replicas, self.settings.max_replicas);
        let outcome = if current == 0 {
            HpaOutcome { replicas: 0, proposal: None, reason: HpaReason::Disabled }
        } else if current > max {
            HpaOutcome { replicas: max, proposal: None, reason: HpaReason::AboveMaximum }
        } else if current < min {
            HpaOutcome { replicas: min, proposal: None, reason: HpaReason::BelowMinimum }
        } else if let Some(proposal) = proposal::combined(&self.settings, now, inputs) {
            let replicas = self.normalise(now, current, proposal);
            HpaOutcome { replicas, proposal: Some(proposal), reason: HpaReason::Metrics }
        } else {
            HpaOutcome { replicas: current, proposal: None, reason: HpaReason::MetricsFailed }
        };
        self.store_event(now, current, outcome.replicas);
        outcome
    }
}

pub(crate) fn nanos(seconds: f64) -> u64 {
    // Saturates; settings are seconds to days.
    (seconds * 1e9) as u64
}
