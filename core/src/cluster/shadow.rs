//! What the plain HPA would have done: the real rule on the same load, with replicas of its own.

use serde::{Deserialize, Serialize};

use crate::hpa::{Hpa, HpaInputs, HpaSettings, Metric};
use crate::time::Mono;
use crate::units::RequestsPerSecond;
use crate::world::WorkloadSettings;

/// An HPA on requests/s (AverageValue, default behaviour) with the workload's own bounds, and the stated load per pod
/// less the headroom as its target: what a careful user would have written without us. Its metric has no lag.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Shadow {
    hpa: Hpa,
    target_rps: f64,
    replicas: u32,
}

impl Shadow {
    /// Runs the HPA when its period has passed; starts anew, from `current`, when the settings change.
    pub(super) fn follow(
        slot: &mut Option<Self>,
        now: Mono,
        settings: &WorkloadSettings,
        current: u32,
        rate: Option<RequestsPerSecond>,
    ) {
        let Some(rps_per_pod) = settings.rps_per_pod.filter(|_| settings.problem().is_none()) else {
            *slot = None;
            return;
        };
        let target_rps = rps_per_pod / (1.0 + settings.headroom);
        let wanted = HpaSettings::new(settings.min_replicas, settings.max_replicas);
        let same = |s: &Self| s.target_rps == target_rps && *s.hpa.settings() == wanted;
        if !slot.as_ref().is_some_and(same) {
            *slot = Some(Self { hpa: Hpa::new(wanted), target_rps, replicas: current });
        }
        if let Some(shadow) = slot.as_mut().filter(|shadow| shadow.hpa.due(now)) {
            shadow.run(now, rate);
        }
    }

    /// The same on another clock.
    pub(super) fn rebased(self, shift: impl Fn(Mono) -> Mono) -> Self {
        Self { hpa: self.hpa.rebased(shift), ..self }
    }

    fn run(&mut self, now: Mono, rate: Option<RequestsPerSecond>) {
        let metrics = [Metric::average_value(self.target_rps, rate.map(RequestsPerSecond::get))];
        let replicas = self.replicas;
        let inputs =
            HpaInputs { replicas, status_replicas: replicas, ready_pods: replicas, metrics: &metrics };
        self.replicas = self.hpa.reconcile(now, &inputs).replicas;
    }

    pub(super) fn replicas(&self) -> u32 {
        self.replicas
    }

    pub(super) fn target_rps(&self) -> f64 {
        self.target_rps
    }
}
