//! An independent reader of finished plans: recomputes every bound from the inputs, in another way than the planner.
//!
//! Where the planner divides and rounds up, the checker multiplies and compares; where the planner bounds the rate
//! that a count proves, the checker tests whether the count fits what the pods take. A plan that breaks a rule is not
//! carried out.

use crate::plan::{Data, HoldCause, Inputs, WorkloadPlan};
use crate::world::Mode;

#[cfg(test)]
mod mutations;

/// A rule that a plan breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Violation {
    /// It names another workload, version or starting point than its inputs.
    OtherInputs,
    /// Its steps don't lead from 0 to its replicas in the fixed order.
    BrokenChain,
    /// Outside min and max.
    OutOfBounds,
    /// It wakes a workload that was scaled to 0.
    WokeFromZero,
    /// It changes something although the settings contradict themselves.
    InvalidSettings,
    /// It shrinks on missing, stale or impossible data, or without capacity or forecast.
    ShrankOnHold,
    /// It shrinks while pods are saturated.
    ShrankSaturated,
    /// It shrinks in mode `floor`.
    ShrankInFloorMode,
    /// Fewer than the forecast needs, with nothing to stop it.
    BelowForecast,
    /// Fewer than the load measured now needs, with nothing to stop it.
    BelowMeasured,
    /// Fewer than burst or backlog need, with nothing to stop it.
    BelowBacklog,
    /// It drops pods that the forecast needs back.
    DropsNeededSoon,
    /// It drops pods that were needed a moment ago.
    DropsNeededBefore,
    /// It grows faster than allowed.
    RampUpExceeded,
    /// It shrinks faster than allowed.
    RampDownExceeded,
    /// It grows beyond what anything needs.
    MoreThanNeeded,
    /// It remembers a smaller need than there is.
    NeedUnderstated,
    /// It would act although it must not.
    GateIgnored,
}

impl Violation {
    /// Its label.
    pub fn name(self) -> &'static str {
        match self {
            Self::OtherInputs => "other_inputs",
            Self::BrokenChain => "broken_chain",
            Self::OutOfBounds => "out_of_bounds",
            Self::WokeFromZero => "woke_from_zero",
            Self::InvalidSettings => "invalid_settings",
            Self::ShrankOnHold => "shrank_on_hold",
            Self::ShrankSaturated => "shrank_saturated",
            Self::ShrankInFloorMode => "shrank_in_floor_mode",
            Self::BelowForecast => "below_forecast",
            Self::BelowMeasured => "below_measured",
            Self::BelowBacklog => "below_backlog",
            Self::DropsNeededSoon => "drops_needed_soon",
            Self::DropsNeededBefore => "drops_needed_before",
            Self::RampUpExceeded => "ramp_up_exceeded",
            Self::RampDownExceeded => "ramp_down_exceeded",
            Self::MoreThanNeeded => "more_than_needed",
            Self::NeedUnderstated => "need_understated",
            Self::GateIgnored => "gate_ignored",
        }
    }
}

/// Every rule that `plan` breaks; none for a good one.
pub fn check(inputs: &Inputs<'_>, plan: &WorkloadPlan) -> Vec<Violation> {
    let mut broken = Vec::new();
    let mut rule = |violation, holds: bool| {
        if !holds {
            broken.push(violation);
        }
    };
    let (before, after) = (inputs.replicas, plan.replicas);
    rule(
        Violation::OtherInputs,
        plan.workload == *inputs.workload
            && plan.resource_version == inputs.resource_version
            && plan.replicas_before == before
            && plan.at == inputs.at,
    );
    rule(Violation::BrokenChain, chain_holds(plan));
    rule(Violation::GateIgnored, plan.gate.is_some() || !gated(inputs));
    if before == 0 {
        rule(Violation::WokeFromZero, after == 0);
        return broken;
    }
    if inputs.data == Data::Hold(HoldCause::SettingsInvalid) {
        rule(Violation::InvalidSettings, after == before);
        return broken;
    }

    let (min, max) = (inputs.settings.min_replicas, inputs.settings.max_replicas);
    rule(Violation::OutOfBounds, (min..=max).contains(&after));
    let shrinks = after < before.min(max);
    let unknown = inputs.capacity.is_none() || inputs.scale_out.is_none() || inputs.scale_in.is_none();
    let held = unknown || inputs.data != Data::Fresh;
    rule(Violation::ShrankOnHold, !shrinks || !held);
    rule(Violation::ShrankSaturated, !shrinks || inputs.load.saturated_pods == 0);
    rule(Violation::ShrankInFloorMode, !shrinks || inputs.settings.mode != Mode::Floor);
    rule(Violation::NeedUnderstated, plan.need >= before || !held);
    let recent = inputs.memory.largest_need(inputs.at, inputs.rules.stabilisation_seconds);
    rule(Violation::DropsNeededBefore, !shrinks || recent.is_none_or(|need| after >= need));
    ramps(inputs, plan, &mut rule);

    let Some(enough) = Enough::of(inputs) else {
        rule(Violation::MoreThanNeeded, after <= before.max(min));
        return broken;
    };
    // The only excuses for too few: the maximum, and as much growth as is allowed.
    let stopped = after >= max || after >= growth_allowed(inputs);
    rule(Violation::BelowForecast, stopped || enough.forecast(inputs, after));
    rule(Violation::BelowMeasured, stopped || enough.measured(inputs, after));
    rule(Violation::BelowBacklog, stopped || (enough.burst(inputs, after) && enough.backlog(inputs, after)));
    rule(Violation::NeedUnderstated, enough.all(inputs, plan.need));
    let comes_back = inputs.scale_in.is_none_or(|upper| enough.keeps(inputs, after, upper.load.get()));
    rule(Violation::DropsNeededSoon, !shrinks || comes_back);
    let grows = after > before.max(min);
    rule(Violation::MoreThanNeeded, !grows || !enough.all(inputs, after - 1));
    broken
}

fn chain_holds(plan: &WorkloadPlan) -> bool {
    let mut value = 0;
    let mut last_rank = None;
    for step in &plan.steps {
        let rank = step.limiter.rank();
        if step.before != value || last_rank.is_some_and(|last| rank <= last) {
            return false;
        }
        value = step.after;
        last_rank = Some(rank);
    }
    value == plan.replicas
}

fn gated(inputs: &Inputs<'_>) -> bool {
    inputs.settings.paused || inputs.settings.mode == Mode::Observe || inputs.gate.is_some()
}

fn growth_allowed(inputs: &Inputs<'_>) -> u32 {
    let start =
        inputs.memory.replicas_at(inputs.at, inputs.rules.up_period_seconds).unwrap_or(inputs.replicas);
    let by_factor = (f64::from(start) * inputs.rules.up_factor) as u32;
    let by_pods = start.saturating_add(inputs.rules.up_pods);
    inputs.replicas.max(inputs.settings.min_replicas).max(by_factor.max(by_pods))
}

fn ramps(inputs: &Inputs<'_>, plan: &WorkloadPlan, rule: &mut impl FnMut(Violation, bool)) {
    rule(Violation::RampUpExceeded, plan.replicas <= growth_allowed(inputs));
    let start =
        inputs.memory.replicas_at(inputs.at, inputs.rules.down_period_seconds).unwrap_or(inputs.replicas);
    let left = f64::from(start) - f64::from(plan.replicas);
    let allowed = (f64::from(start) * inputs.rules.down_share).max(f64::from(inputs.rules.down_pods));
    let shrinks = plan.replicas < inputs.replicas.min(inputs.settings.max_replicas);
    rule(Violation::RampDownExceeded, !shrinks || left <= allowed);
}

/// Whether a number of pods is enough, by what they carry.
struct Enough {
    /// Load that one pod carries with the headroom kept free, requests/s.
    rps_per_pod: f64,
}

/// Two ways of rounding may differ in the last bits; a millionth of a pod is no pod.
const SLACK: f64 = 1e-6;

impl Enough {
    fn of(inputs: &Inputs<'_>) -> Option<Self> {
        let capacity = inputs.capacity?;
        Some(Self { rps_per_pod: capacity.rps_per_pod.get() / (1.0 + inputs.settings.headroom) })
    }

    fn carries(&self, pods: u32, rps: f64) -> bool {
        rps <= (f64::from(pods) + SLACK * (1.0 + f64::from(pods))) * self.rps_per_pod
    }

    /// Whether the forecast fits, or exceeds what the present pods carry by no more than chance: then the variance of
    /// ten seconds' counts, `dispersion × mean`, explains what is missing of them.
    fn forecast(&self, inputs: &Inputs<'_>, pods: u32) -> bool {
        inputs.scale_out.is_none_or(|upper| {
            let present = f64::from(inputs.replicas) * self.rps_per_pod;
            let seconds = 10.0 / inputs.clock_speed;
            let missing = (upper.load.get() - present).max(0.0) * seconds;
            let variance = present * seconds * inputs.load.dispersion.max(1.0);
            let by_chance = missing * missing
                <= inputs.rules.grow_sigmas * inputs.rules.grow_sigmas * variance * (1.0 + SLACK) + SLACK;
            self.carries(pods, upper.load.get()) || (pods >= inputs.replicas && by_chance)
        })
    }

    /// Whether each count fits a load that the pods carry: its root, whose deviation is a half whatever the mean, at
    /// most z of them above the mean's.
    fn measured(&self, inputs: &Inputs<'_>, pods: u32) -> bool {
        inputs.load.windows.iter().filter(|w| w.seconds > 0.0).all(|window| {
            let mean =
                (f64::from(pods) + SLACK * (1.0 + f64::from(pods))) * self.rps_per_pod * window.seconds;
            let deviation = inputs.load.dispersion.max(1.0).sqrt() / 2.0;
            window.starts.sqrt() <= mean.sqrt() + inputs.rules.reactive_sigmas * deviation + SLACK
        })
    }

    /// Whether a load fits with what chance could add: what is left over, squared, against the variance.
    fn keeps(&self, inputs: &Inputs<'_>, pods: u32, rps: f64) -> bool {
        let seconds = 10.0 / inputs.clock_speed;
        let left = ((f64::from(pods) + SLACK * (1.0 + f64::from(pods))) * self.rps_per_pod - rps) * seconds;
        let variance = rps * seconds * inputs.load.dispersion.max(1.0);
        let sigmas = inputs.rules.leave_sigmas;
        left >= 0.0 && left * left >= sigmas * sigmas * variance * (1.0 - SLACK) - SLACK
    }

    fn burst(&self, inputs: &Inputs<'_>, pods: u32) -> bool {
        inputs.load.burst_rps.is_none_or(|rps| self.carries(pods, rps.get()))
    }

    fn backlog(&self, inputs: &Inputs<'_>, pods: u32) -> bool {
        let (Some(capacity), Some(slo)) = (inputs.capacity, inputs.settings.slo_seconds) else { return true };
        let normal = f64::from(inputs.ready_pods) * capacity.rps_per_pod.get() * slo;
        let late = inputs.load.in_flight as f64 - normal;
        // What the pods can take in one lead time must hold the late ones and what arrives meanwhile.
        let real_seconds = (inputs.lead_time_seconds / inputs.clock_speed).max(1e-3);
        let spare = (f64::from(pods) + SLACK * (1.0 + f64::from(pods))) * self.rps_per_pod
            - inputs.load.lower_rps(inputs.rules);
        late <= 0.0 || late <= spare * real_seconds
    }

    fn saturation(&self, inputs: &Inputs<'_>, pods: u32) -> bool {
        let saturated = inputs.load.saturated_pods;
        let others = pods.saturating_sub(saturated);
        let most = 2 * u64::from(saturated) >= u64::from(inputs.ready_pods);
        let grown = f64::from(inputs.ready_pods) * inputs.rules.censored_growth;
        saturated == 0
            || (pods >= saturated.max(inputs.replicas)
                && self.carries(others, inputs.load.lower_rps(inputs.rules))
                && inputs.scale_out.is_none_or(|upper| self.carries(others, upper.load.get()))
                && (!most || f64::from(pods) >= grown))
    }

    fn all(&self, inputs: &Inputs<'_>, pods: u32) -> bool {
        self.forecast(inputs, pods)
            && self.measured(inputs, pods)
            && self.burst(inputs, pods)
            && self.backlog(inputs, pods)
            && self.saturation(inputs, pods)
    }
}
