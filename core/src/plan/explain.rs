//! A plan in sentences, with its numbers.

use super::{Limiter, Rules, Step, WorkloadPlan};

impl WorkloadPlan {
    /// Why a step changed the number, for a person.
    pub fn sentence(&self, step: &Step, rules: &Rules) -> String {
        let basis = &self.basis;
        let per_pod = basis.capacity.map_or(0.0, |c| c.rps_per_pod.get());
        let spare = if basis.headroom > 0.0 {
            format!(" and {:.0} % headroom", basis.headroom * 100.0)
        } else {
            String::new()
        };
        let pods = step.after;
        match step.limiter {
            Limiter::Forecast => match basis.scale_out {
                Some(upper) => format!(
                    "With {:.0} % probability the load stays below {:.1} requests/s for the next {} s; at {per_pod:.1} \
                     per pod{spare} that needs {pods}.",
                    upper.level.probability() * 100.0,
                    upper.load.get(),
                    upper.seconds,
                ),
                None => step.limiter.sentence().to_owned(),
            },
            Limiter::WithinChance => format!(
                "The forecast exceeds the {:.1} requests/s that {pods} pods carry by no more than chance moves it: no pod \
                 is added for that.",
                f64::from(pods) * per_pod / (1.0 + basis.headroom),
            ),
            Limiter::ReactiveFloor => format!(
                "At least {:.1} requests/s arrive right now; at {per_pod:.1} per pod{spare} that needs {pods}.",
                basis.measured_rps
            ),
            Limiter::Burst => format!(
                "The load rises faster than chance explains; at this pace {:.1} requests/s come within {:.0} s, which needs \
                 {pods}.",
                basis.burst_rps.map_or(0.0, |r| r.get()),
                basis.lead_time_seconds
            ),
            Limiter::Backlog => format!(
                "{:.0} requests wait beyond the objective; {pods} pods drain them within {:.0} s.",
                basis.backlog, basis.lead_time_seconds
            ),
            Limiter::CensoredDemand => format!(
                "{} of {} ready pods are saturated, so more is asked than can be counted: {pods} pods, never fewer.",
                basis.saturated_pods, basis.ready_pods
            ),
            Limiter::LookAhead => match basis.scale_in {
                Some(upper) => format!(
                    "Up to {:.1} requests/s may come back within {} s, too soon to drop below {pods}.",
                    upper.load.get(),
                    upper.seconds
                ),
                None => step.limiter.sentence().to_owned(),
            },
            Limiter::Stabilisation => {
                format!("{pods} were needed within the last {:.0} s.", rules.stabilisation_seconds)
            }
            Limiter::RampUp => format!(
                "Growth is bounded: by {} pods or {:.0} % per {:.0} s, whichever is more; {pods} for now.",
                rules.up_pods,
                (rules.up_factor - 1.0) * 100.0,
                rules.up_period_seconds
            ),
            Limiter::RampDown => format!(
                "Pods leave a few at a time: {} or {:.0} % per {:.0} s, whichever is more; {pods} for now.",
                rules.down_pods,
                rules.down_share * 100.0,
                rules.down_period_seconds
            ),
            Limiter::Minimum => format!("min-replicas is {pods}."),
            Limiter::Maximum => format!("max-replicas is {pods}; {} would be needed.", step.before),
            Limiter::Hold(_) | Limiter::FloorMode | Limiter::ScaledToZero => {
                step.limiter.sentence().to_owned()
            }
        }
    }
}
