//! The reasons: what may change a number on its way to a decision, what may hold it, what may keep it from being
//! carried out. Log line, API, metric label and (in Kubernetes) Event come from here.

use serde::{Deserialize, Serialize};

/// What changed the number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Limiter {
    /// Upper quantile of the largest load over the lead time.
    Forecast,
    /// The pods that are there fall short of the forecast by no more than chance moves it.
    WithinChance,
    /// The load measured right now.
    ReactiveFloor,
    /// The load rises faster than chance explains.
    Burst,
    /// Requests wait beyond the objective.
    Backlog,
    /// The pods are saturated.
    CensoredDemand,
    /// The forecast needs the pods back soon.
    LookAhead,
    /// They were needed a moment ago.
    Stabilisation,
    /// Something is not known well enough to shrink.
    Hold(HoldCause),
    /// Growth per period is bounded.
    RampUp,
    /// Shrinkage per period is bounded.
    RampDown,
    /// Mode `floor` only adds.
    FloorMode,
    /// `min-replicas`.
    Minimum,
    /// `max-replicas`.
    Maximum,
    /// Someone scaled to 0.
    ScaledToZero,
}

impl Limiter {
    /// All limiters in the order in which they have their say, each hold once.
    pub const ORDER: [Self; 26] = [
        Self::ScaledToZero,
        Self::Forecast,
        Self::WithinChance,
        Self::ReactiveFloor,
        Self::Burst,
        Self::Backlog,
        Self::CensoredDemand,
        Self::LookAhead,
        Self::Stabilisation,
        Self::Hold(HoldCause::CapacityUnknown),
        Self::Hold(HoldCause::SettingsInvalid),
        Self::Hold(HoldCause::Missing),
        Self::Hold(HoldCause::Stale),
        Self::Hold(HoldCause::Partial),
        Self::Hold(HoldCause::Unread),
        Self::Hold(HoldCause::Impossible),
        Self::Hold(HoldCause::WarmingUp),
        Self::Hold(HoldCause::MonitoringFault),
        Self::Hold(HoldCause::Flood),
        Self::Hold(HoldCause::NoForecast),
        Self::Hold(HoldCause::CheckFailed),
        Self::RampUp,
        Self::RampDown,
        Self::FloorMode,
        Self::Minimum,
        Self::Maximum,
    ];

    /// Its label.
    pub fn name(self) -> &'static str {
        match self {
            Self::Forecast => "forecast",
            Self::WithinChance => "within_chance",
            Self::ReactiveFloor => "reactive_floor",
            Self::Burst => "burst",
            Self::Backlog => "backlog",
            Self::CensoredDemand => "censored_demand",
            Self::LookAhead => "look_ahead",
            Self::Stabilisation => "stabilisation",
            Self::Hold(cause) => cause.name(),
            Self::RampUp => "ramp_up",
            Self::RampDown => "ramp_down",
            Self::FloorMode => "floor_mode",
            Self::Minimum => "minimum",
            Self::Maximum => "maximum",
            Self::ScaledToZero => "scaled_to_zero",
        }
    }

    /// For a person.
    pub fn sentence(self) -> &'static str {
        match self {
            Self::Forecast => {
                "The forecast's upper quantile of the largest load until new pods serve needs this many."
            }
            Self::WithinChance => {
                "The forecast exceeds what these pods carry by no more than chance moves it; no pod is added for that."
            }
            Self::ReactiveFloor => "The load measured right now needs this many.",
            Self::Burst => {
                "The load rises faster than chance explains; this many are needed where that leads."
            }
            Self::Backlog => {
                "Requests wait beyond the objective; these pods drain them within one lead time."
            }
            Self::CensoredDemand => {
                "Pods are saturated, so more is asked than can be counted: one more for each of a few, a bounded step for most; never fewer."
            }
            Self::LookAhead => "The forecast needs these pods back too soon to be worth dropping them.",
            Self::Stabilisation => "These pods were needed a moment ago; wait before dropping them.",
            Self::Hold(cause) => cause.sentence(),
            Self::RampUp => "Growth per period is bounded.",
            Self::RampDown => "Pods leave a few at a time, so that a wrong forecast costs little.",
            Self::FloorMode => "Mode floor only adds.",
            Self::Minimum => "min-replicas.",
            Self::Maximum => "max-replicas.",
            Self::ScaledToZero => "Someone scaled this workload to 0; that is left alone.",
        }
    }

    /// Place in [`Limiter::ORDER`]; holds share theirs.
    pub(crate) fn rank(self) -> usize {
        let place = |l: Self| Self::ORDER.iter().position(|o| *o == l).unwrap_or(Self::ORDER.len());
        if let Self::Hold(_) = self { place(Self::Hold(HoldCause::CapacityUnknown)) } else { place(self) }
    }
}

/// Why replicas must not shrink.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum HoldCause {
    /// Nobody said or learned what one pod carries.
    CapacityUnknown,
    /// The settings contradict themselves.
    SettingsInvalid,
    /// No report about this workload has ever come.
    Missing,
    /// Reports stopped.
    Stale,
    /// Some ready pods are not measured.
    Partial,
    /// Much of the traffic is on connections whose requests can't be read.
    Unread,
    /// Measurements contradict each other or time.
    Impossible,
    /// Prescale has watched this workload for too short a time.
    WarmingUp,
    /// The load that is read stands still as no load does, or is gone at once.
    MonitoringFault,
    /// The load is many times what the last week had.
    Flood,
    /// There is no forecast that reaches far enough.
    NoForecast,
    /// The checker refused the plan.
    CheckFailed,
}

impl HoldCause {
    /// Its label.
    pub fn name(self) -> &'static str {
        match self {
            Self::CapacityUnknown => "capacity_unknown",
            Self::SettingsInvalid => "settings_invalid",
            Self::Missing => "data_missing",
            Self::Stale => "data_stale",
            Self::Partial => "data_partial",
            Self::Unread => "data_unread",
            Self::Impossible => "data_impossible",
            Self::WarmingUp => "warming_up",
            Self::MonitoringFault => "monitoring_fault",
            Self::Flood => "flood",
            Self::NoForecast => "no_forecast",
            Self::CheckFailed => "check_failed",
        }
    }

    /// For a person.
    pub fn sentence(self) -> &'static str {
        match self {
            Self::CapacityUnknown => {
                "How much load one pod carries is not known yet; set prescale.dev/rps-per-pod. Replicas stay."
            }
            Self::SettingsInvalid => "The settings contradict themselves. Replicas stay.",
            Self::Missing => "No agent has measured this workload yet. Replicas stay.",
            Self::Stale => "Reports have stopped. Replicas don't shrink.",
            Self::Partial => "Some ready pods are not measured. Replicas don't shrink.",
            Self::Unread => {
                "Much of the traffic is TLS, HTTP/2, WebSocket or no HTTP, so the load is not known. Replicas don't shrink."
            }
            Self::Impossible => "Measurements contradict each other or the time. Replicas don't shrink.",
            Self::WarmingUp => "Prescale has not watched this workload for long enough to shrink it.",
            Self::MonitoringFault => {
                "The load that is read stands still, or was gone at once, as chance would not have it: the measuring may be \
                 broken. Replicas don't shrink."
            }
            Self::Flood => {
                "The load is many times that of the last hour and of the last week, at once: this may be a flood. Pods are \
                 added for it up to max-replicas, none leaves."
            }
            Self::NoForecast => "There is no forecast that reaches far enough. Replicas don't shrink.",
            Self::CheckFailed => "The plan broke one of its own rules and was refused. Replicas stay.",
        }
    }
}

/// Why a plan is not carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Gate {
    /// Mode `observe` writes nothing.
    Observe,
    /// Paused.
    Paused,
    /// Someone else wrote the replicas.
    ForeignWrite,
    /// A write is under way.
    WritePending,
    /// The last write failed; the next waits.
    BackOff,
    /// Another replica of the aggregator writes.
    Standby,
}

impl Gate {
    /// All gates.
    pub const ALL: [Self; 6] =
        [Self::Observe, Self::Paused, Self::ForeignWrite, Self::WritePending, Self::BackOff, Self::Standby];

    /// Its label.
    pub fn name(self) -> &'static str {
        match self {
            Self::Observe => "observe",
            Self::Paused => "paused",
            Self::ForeignWrite => "foreign_write",
            Self::WritePending => "write_pending",
            Self::BackOff => "back_off",
            Self::Standby => "standby",
        }
    }

    /// For a person.
    pub fn sentence(self) -> &'static str {
        match self {
            Self::Observe => "Mode observe decides but writes nothing.",
            Self::Paused => "Paused: decides but writes nothing.",
            Self::ForeignWrite => {
                "Someone else set the replicas; that is respected until the workload's settings change."
            }
            Self::WritePending => "A write is under way.",
            Self::BackOff => "The last write failed; the next one waits.",
            Self::Standby => "Another replica of the aggregator holds the Lease and writes.",
        }
    }
}

/// One limiter's say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// Who.
    pub limiter: Limiter,
    /// The number it found.
    pub before: u32,
    /// The number it left.
    pub after: u32,
}
