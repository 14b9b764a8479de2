//! What the brains are told of the world: workloads, their settings, their pods.
//!
//! The aggregator's target (local worker processes; `/scale` next) fills these in; the aggregator's watch lists
//! carry the agent's part. JSON names are these field names.

use serde::{Deserialize, Serialize};

/// A workload's name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct WorkloadId {
    /// Kubernetes namespace (`demo` in the demo).
    pub namespace: String,
    /// Name of the Deployment.
    pub name: String,
}

/// What Prescale may do to a workload: a ladder, each allows more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Forecast, plan, score; write nothing.
    #[default]
    Observe,
    /// May only add.
    Floor,
    /// Owns the replica count.
    Full,
}

/// A workload's settings, checked where they are read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WorkloadSettings {
    /// What may be done.
    pub mode: Mode,
    /// Never fewer.
    pub min_replicas: u32,
    /// Never more.
    pub max_replicas: u32,
    /// Load that one pod carries within the objective, requests/s (`prescale.dev/rps-per-pod`).
    pub rps_per_pod: Option<f64>,
    /// A request slower than this is slow, seconds.
    pub slo_seconds: Option<f64>,
    /// Spare capacity beyond the forecast's upper quantile, as a share (0.1 = 10 %).
    pub headroom: f64,
    /// Decide but do not act.
    pub paused: bool,
}

impl WorkloadSettings {
    /// What contradicts itself, if anything: with such settings nothing is changed.
    pub fn problem(&self) -> Option<&'static str> {
        let positive = |value: Option<f64>| value.is_none_or(|v| v.is_finite() && v > 0.0);
        if self.max_replicas == 0 {
            Some("max_replicas is 0")
        } else if self.min_replicas > self.max_replicas {
            Some("min_replicas is above max_replicas")
        } else if !positive(self.rps_per_pod) {
            Some("rps_per_pod is not a number above 0")
        } else if !positive(self.slo_seconds) {
            Some("slo_seconds is not a number above 0")
        } else if !(self.headroom.is_finite() && (0.0..=MOST_HEADROOM).contains(&self.headroom)) {
            Some("headroom is not between 0 and 10")
        } else {
            None
        }
    }
}

/// Eleven times the forecast: beyond any use; more is a mistake of units (percent for a share).
const MOST_HEADROOM: f64 = 10.0;

/// Where a pod is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PodPhase {
    /// Bound, not yet serving.
    Starting,
    /// Serving.
    Ready,
    /// Leaving: load without capacity.
    Terminating,
}

/// One pod of a workload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pod {
    /// Unique for ever.
    pub uid: String,
    /// For labels and logs.
    pub name: String,
    /// The node it runs on.
    pub node: String,
    /// Where it is in its life.
    pub phase: PodPhase,
    /// Ports that its containers serve on; empty means every port.
    pub ports: Vec<u16>,
    /// Request lines of the kubelet's probes, which are no load.
    #[serde(default)]
    pub probes: Vec<String>,
    /// From its making to its readiness, seconds, where the target knows that of a pod that serves.
    #[serde(default)]
    pub start_seconds: Option<u32>,
}

/// A workload as the target sees it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WorkloadState {
    /// Which workload.
    #[serde(flatten)]
    pub id: WorkloadId,
    /// Its settings.
    pub settings: WorkloadSettings,
    /// `spec.replicas`.
    pub replicas: u32,
    /// Changes with each write; a write names the one it was decided on.
    pub resource_version: u64,
    /// Its pods, those that leave included.
    pub pods: Vec<Pod>,
}
