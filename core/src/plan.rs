//! From forecast, capacity and lead time to replicas: a pure function whose result leaves the executor no choice.
//!
//! The plan starts from what the forecast needs and passes a fixed row of limiters; each that changes the number
//! leaves a [`Step`] that says why. What the load needs comes first, so that a later limit (ramp, maximum) has the last word;
//! every one is monotone in the load, so the whole is. `check` reads the result and recomputes its bounds another way.

mod explain;
mod inputs;
mod limiter;
mod memory;
mod rules;

#[cfg(test)]
pub(crate) mod arbitrary;
#[cfg(test)]
mod laws;

pub use inputs::{Basis, Data, Inputs, Load, Upper, Window};
pub use limiter::{Gate, HoldCause, Limiter, Step};
pub use memory::Memory;
pub use rules::Rules;

use crate::time::Mono;
use crate::world::{Mode, WorkloadId};

/// What one tick decided for all workloads.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// What to carry out, all of it, as it stands.
    pub decisions: Vec<Decision>,
    /// Why, one row per workload, those without a decision too.
    pub report: Vec<WorkloadPlan>,
}

/// One write to carry out.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// Whose replicas.
    pub workload: WorkloadId,
    /// What they were.
    pub replicas_before: u32,
    /// What they shall be.
    pub replicas: u32,
    /// The version that this was decided on; the write must carry it.
    pub resource_version: u64,
    /// The limiter that had the last word.
    pub reason: Limiter,
}

/// One workload's plan.
#[derive(Clone, Debug, PartialEq)]
pub struct WorkloadPlan {
    /// Which workload.
    pub workload: WorkloadId,
    /// When.
    pub at: Mono,
    /// `spec.replicas` that it was planned on.
    pub replicas_before: u32,
    /// The version that it was planned on.
    pub resource_version: u64,
    /// Replicas to have.
    pub replicas: u32,
    /// What the load needs, before anything that only holds or limits; remembered for the stabilisation window.
    pub need: u32,
    /// Each limiter that had a say, in order; the first starts at 0, the last ends at `replicas`.
    pub steps: Vec<Step>,
    /// Why it is not carried out although it differs, if so.
    pub gate: Option<Gate>,
    /// The numbers that it rests on.
    pub basis: Basis,
}

impl WorkloadPlan {
    /// The limiter that had the last word.
    pub fn reason(&self) -> Limiter {
        self.steps.last().map_or(Limiter::Minimum, |step| step.limiter)
    }

    /// The write to carry out, if there is one.
    pub fn decision(&self) -> Option<Decision> {
        (self.gate.is_none() && self.replicas != self.replicas_before).then(|| Decision {
            workload: self.workload.clone(),
            replicas_before: self.replicas_before,
            replicas: self.replicas,
            resource_version: self.resource_version,
            reason: self.reason(),
        })
    }
}

/// Plans one workload.
pub fn plan(inputs: &Inputs<'_>) -> WorkloadPlan {
    let mut steps = Chain::default();
    let (need, hold) = if inputs.replicas == 0 {
        steps.set(Limiter::ScaledToZero, 0);
        (0, None)
    } else if inputs.data == Data::Hold(HoldCause::SettingsInvalid) {
        // Bounds that contradict themselves bound nothing.
        steps.set(Limiter::Hold(HoldCause::SettingsInvalid), inputs.replicas);
        (0, Some(HoldCause::SettingsInvalid))
    } else {
        let need = needed(inputs, &mut steps);
        (need, limited(inputs, need, &mut steps))
    };
    WorkloadPlan {
        workload: inputs.workload.clone(),
        at: inputs.at,
        replicas_before: inputs.replicas,
        resource_version: inputs.resource_version,
        replicas: steps.value,
        // While data is missing the need is unknown: the window then starts again from what there is.
        need: if hold.is_some() { need.max(inputs.replicas) } else { need },
        steps: steps.steps,
        gate: gate(inputs),
        basis: inputs.basis(),
    }
}

/// What the load, expected and measured, needs.
fn needed(inputs: &Inputs<'_>, steps: &mut Chain) -> u32 {
    let rules = inputs.rules;
    if let Some(pods) = inputs.pods_for_forecast(inputs.scale_out) {
        steps.set(Limiter::Forecast, pods);
        if inputs.short_by_chance() {
            steps.lower(Limiter::WithinChance, inputs.replicas);
        }
    }
    if let Some(pods) = inputs.pods_for(inputs.load.lower_rps(rules)) {
        steps.raise(Limiter::ReactiveFloor, pods);
    }
    if let Some(pods) = inputs.load.burst_rps.and_then(|rps| inputs.pods_for(rps.get())) {
        steps.raise(Limiter::Burst, pods);
    }
    if let Some(pods) = inputs.pods_for_backlog() {
        steps.raise(Limiter::Backlog, pods);
    }
    if let Some(pods) = inputs.pods_for_saturated() {
        steps.raise(Limiter::CensoredDemand, pods.max(inputs.replicas));
    }
    steps.value
}

/// The limiters that hold, slow and bound. Returns the hold, if there was a cause.
fn limited(inputs: &Inputs<'_>, need: u32, steps: &mut Chain) -> Option<HoldCause> {
    let (rules, current) = (inputs.rules, inputs.replicas);
    if let Some(pods) = inputs.pods_to_keep() {
        steps.raise(Limiter::LookAhead, pods.min(current));
    }
    let recent = inputs.memory.largest_need(inputs.at, rules.stabilisation_seconds).unwrap_or(need);
    steps.raise(Limiter::Stabilisation, recent.min(current));
    let hold = inputs.hold();
    if let Some(cause) = hold {
        // Said even where the number would stay anyway: whoever asks why must hear that something is unknown.
        if steps.value <= current {
            steps.set(Limiter::Hold(cause), current);
        }
    }

    if steps.value > current {
        let start = inputs.memory.replicas_at(inputs.at, rules.up_period_seconds).unwrap_or(current);
        steps.lower(Limiter::RampUp, rules.up_limit(start).max(current));
    } else if steps.value < current {
        let start = inputs.memory.replicas_at(inputs.at, rules.down_period_seconds).unwrap_or(current);
        steps.raise(Limiter::RampDown, rules.down_limit(start).min(current));
    }
    if inputs.settings.mode == Mode::Floor {
        steps.raise(Limiter::FloorMode, current);
    }
    steps.raise(Limiter::Minimum, inputs.settings.min_replicas);
    steps.lower(Limiter::Maximum, inputs.settings.max_replicas);
    hold
}

fn gate(inputs: &Inputs<'_>) -> Option<Gate> {
    if inputs.settings.mode == Mode::Observe {
        Some(Gate::Observe)
    } else if inputs.settings.paused {
        Some(Gate::Paused)
    } else {
        inputs.gate
    }
}

#[derive(Default)]
struct Chain {
    value: u32,
    steps: Vec<Step>,
}

impl Chain {
    fn set(&mut self, limiter: Limiter, after: u32) {
        self.steps.push(Step { limiter, before: self.value, after });
        self.value = after;
    }

    fn raise(&mut self, limiter: Limiter, floor: u32) {
        if floor > self.value {
            self.set(limiter, floor);
        }
    }

    fn lower(&mut self, limiter: Limiter, cap: u32) {
        if cap < self.value {
            self.set(limiter, cap);
        }
    }
}
