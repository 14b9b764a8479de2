//! What load one pod carries within the objective.

use crate::units::RequestsPerSecond;
use crate::world::WorkloadSettings;

/// One pod's capacity, and how it is known.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Capacity {
    /// Load that one pod carries within the objective; above 0.
    pub rps_per_pod: RequestsPerSecond,
    /// How it is known.
    pub source: CapacitySource,
}

/// How a capacity is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum CapacitySource {
    /// The user said so (`prescale.dev/rps-per-pod`).
    Stated,
}

impl CapacitySource {
    /// Its label.
    pub fn name(self) -> &'static str {
        match self {
            Self::Stated => "stated",
        }
    }
}

impl Capacity {
    /// The capacity that the settings state, if they state a usable one.
    pub fn stated(settings: &WorkloadSettings) -> Option<Self> {
        let rps_per_pod = RequestsPerSecond::new(settings.rps_per_pod?).ok()?;
        (rps_per_pod.get() > 0.0).then_some(Self { rps_per_pod, source: CapacitySource::Stated })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_positive_number_is_a_capacity() {
        let stated = |rps_per_pod| {
            let settings = WorkloadSettings {
                mode: crate::world::Mode::Full,
                min_replicas: 1,
                max_replicas: 2,
                rps_per_pod,
                slo_seconds: None,
                headroom: 0.0,
                paused: false,
            };
            Capacity::stated(&settings).map(|c| c.rps_per_pod.get())
        };
        assert_eq!(stated(Some(25.0)), Some(25.0));
        for unusable in [None, Some(0.0), Some(-1.0), Some(f64::NAN), Some(f64::INFINITY)] {
            assert_eq!(stated(unusable), None, "{unusable:?}");
        }
    }
}
