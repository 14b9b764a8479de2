//! Replica proposals from metrics: `replica_calculator.go` and the metrics client's utilisation ratio.

use super::{HpaInputs, HpaSettings, nanos};
use crate::time::Mono;

/// A quantity in Kubernetes' milli-units, rounded up as `resource.Quantity.MilliValue` does; saturates, NaN becomes 0.
pub fn milli(value: f64) -> i64 {
    (value * 1000.0).ceil() as i64
}

/// One metric of the spec with what its adapter answered; quantities in milli-units (see [`milli`]).
#[derive(Clone, Debug, PartialEq)]
pub enum Metric {
    /// Resource metric, target type Utilization.
    Utilisation {
        /// `averageUtilization`, percent of the request.
        target_percent: i32,
        /// CPU has readiness rules of its own; memory does not.
        cpu: bool,
        /// All pods that the selector matches.
        pods: Vec<PodReading>,
    },
    /// Object or External metric, target type Value.
    Value {
        /// The target.
        target_milli: i64,
        /// The value; `None` when the adapter failed.
        value_milli: Option<i64>,
    },
    /// Object or External metric, target type AverageValue: what KEDA makes.
    AverageValue {
        /// The target per pod.
        target_milli: i64,
        /// The total over all pods; `None` when the adapter failed.
        total_milli: Option<i64>,
    },
}

impl Metric {
    /// An AverageValue metric in whole units, for example requests/s per pod and in total.
    pub fn average_value(target: f64, total: Option<f64>) -> Self {
        Self::AverageValue { target_milli: milli(target), total_milli: total.map(milli) }
    }
}

/// A pod as the replica calculator sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct PodReading {
    /// Deleted or Failed: ignored altogether.
    pub gone: bool,
    /// Phase Pending.
    pub pending: bool,
    /// `status.startTime`.
    pub started: Option<Mono>,
    /// The Ready condition.
    pub ready: Option<ReadyCondition>,
    /// The resource request, milli-units.
    pub request_milli: i64,
    /// Its usage, if the metrics server has one.
    pub usage: Option<PodUsage>,
}

/// A pod's Ready condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadyCondition {
    /// Status True.
    pub ready: bool,
    /// `lastTransitionTime`.
    pub since: Mono,
}

/// A pod's usage as the metrics server tells it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PodUsage {
    /// Milli-units, averaged over the window.
    pub milli: i64,
    /// End of the window.
    pub at: Mono,
    /// Length of the window, seconds.
    pub window_seconds: f64,
}

/// The largest proposal; `None` if all metrics failed, or some did and the rest would shrink.
pub(super) fn combined(settings: &HpaSettings, now: Mono, inputs: &HpaInputs<'_>) -> Option<u32> {
    let proposals: Vec<Option<i64>> =
        inputs.metrics.iter().map(|m| proposal(settings, now, inputs, m)).collect();
    let largest = proposals.iter().flatten().copied().max()?;
    if proposals.contains(&None) && largest < i64::from(inputs.replicas) {
        return None;
    }
    Some(u32::try_from(largest.max(0)).unwrap_or(u32::MAX))
}

fn proposal(settings: &HpaSettings, now: Mono, inputs: &HpaInputs<'_>, metric: &Metric) -> Option<i64> {
    match metric {
        Metric::Utilisation { target_percent, cpu, pods } => {
            utilisation(settings, now, i64::from(inputs.replicas), *target_percent, *cpu, pods)
        }
        Metric::Value { target_milli, value_milli } => {
            let ratio = (*value_milli)? as f64 / *target_milli as f64;
            if inputs.replicas == 0 {
                return Some(ratio.ceil() as i64);
            }
            let stays = settings.within_tolerance(ratio);
            Some(if stays { i64::from(inputs.replicas) } else { scaled(ratio, inputs.ready_pods as usize) })
        }
        Metric::AverageValue { target_milli, total_milli } => {
            let (total, target) = ((*total_milli)? as f64, *target_milli as f64);
            let ratio = total / (target * f64::from(inputs.status_replicas));
            let stays = settings.within_tolerance(ratio);
            Some(if stays { i64::from(inputs.status_replicas) } else { (total / target).ceil() as i64 })
        }
    }
}

fn scaled(ratio: f64, pods: usize) -> i64 {
    (ratio * pods as f64).ceil() as i64
}

enum Group {
    Ignored,
    Unready,
    Missing,
    Counted(i64),
}

fn group(settings: &HpaSettings, now: Mono, cpu: bool, pod: &PodReading) -> Group {
    if pod.gone {
        return Group::Ignored;
    }
    if pod.pending {
        return Group::Unready;
    }
    let Some(usage) = pod.usage else { return Group::Missing };
    if cpu && unready(settings, now, pod, usage) {
        return Group::Unready;
    }
    Group::Counted(usage.milli)
}

fn unready(settings: &HpaSettings, now: Mono, pod: &PodReading, usage: PodUsage) -> bool {
    let (Some(condition), Some(started)) = (pod.ready, pod.started) else { return true };
    let initialising = started.0 + nanos(settings.cpu_initialization_seconds) > now.0;
    if initialising {
        !condition.ready || usage.at.0 < condition.since.0 + nanos(usage.window_seconds)
    } else {
        let never_ready = started.0 + nanos(settings.initial_readiness_delay_seconds) > condition.since.0;
        !condition.ready && never_ready
    }
}

fn utilisation(
    settings: &HpaSettings,
    now: Mono,
    current: i64,
    target_percent: i32,
    cpu: bool,
    pods: &[PodReading],
) -> Option<i64> {
    // (usage, request) of the pods that count, and the requests of those without a number.
    let (mut counted, mut missing, mut unready) = (Vec::new(), Vec::new(), Vec::new());
    for pod in pods {
        match group(settings, now, cpu, pod) {
            Group::Ignored => {}
            Group::Unready => unready.push(pod.request_milli),
            Group::Missing => missing.push(pod.request_milli),
            Group::Counted(usage) => counted.push((usage, pod.request_milli)),
        }
    }
    let ratio = utilisation_ratio(&counted, target_percent)?;
    let up_with_unready = !unready.is_empty() && ratio > 1.0;
    if !up_with_unready && missing.is_empty() {
        return Some(if settings.within_tolerance(ratio) { current } else { scaled(ratio, counted.len()) });
    }
    // What is unknown is assumed to speak against the direction.
    if ratio < 1.0 {
        let fallback_percent = i64::from(target_percent.max(100));
        counted.extend(missing.iter().map(|&request| (request * fallback_percent / 100, request)));
    } else if ratio > 1.0 {
        counted.extend(missing.iter().map(|&request| (0, request)));
    }
    if up_with_unready {
        counted.extend(unready.iter().map(|&request| (0, request)));
    }
    let filled = utilisation_ratio(&counted, target_percent)?;
    let turned = (ratio < 1.0 && filled > 1.0) || (ratio > 1.0 && filled < 1.0);
    if settings.within_tolerance(filled) || turned {
        return Some(current);
    }
    let proposal = scaled(filled, counted.len());
    let contradicts = (filled < 1.0 && proposal > current) || (filled > 1.0 && proposal < current);
    Some(if contradicts { current } else { proposal })
}

/// Utilisation over target; whole percent, truncated, as the metrics client computes it.
fn utilisation_ratio(counted: &[(i64, i64)], target_percent: i32) -> Option<f64> {
    let usage: i64 = counted.iter().map(|(usage, _)| usage).sum();
    let request: i64 = counted.iter().map(|(_, request)| request).sum();
    (request > 0).then(|| (usage * 100 / request) as f64 / f64::from(target_percent))
}
