//! From a proposal to replicas: stabilisation and rate limits, the legacy path and the behaviour path.

use serde::{Deserialize, Serialize};

use super::{Hpa, nanos};
use crate::time::Mono;

/// `spec.behavior`, with the defaults that the API server fills in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Behavior {
    /// Scaling up.
    pub up: Rules,
    /// Scaling down.
    pub down: Rules,
}

impl Default for Behavior {
    fn default() -> Self {
        let policy = |kind, value| Policy { kind, value, period_seconds: 15.0 };
        Self {
            up: Rules {
                window_seconds: 0.0,
                select: Select::Max,
                policies: vec![policy(PolicyKind::Pods, 4), policy(PolicyKind::Percent, 100)],
            },
            down: Rules {
                window_seconds: 300.0,
                select: Select::Max,
                policies: vec![policy(PolicyKind::Percent, 100)],
            },
        }
    }
}

/// One direction's rules.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rules {
    /// `stabilizationWindowSeconds`.
    pub window_seconds: f64,
    /// `selectPolicy`.
    pub select: Select,
    /// `policies`.
    pub policies: Vec<Policy>,
}

/// `selectPolicy`: which policy's limit holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Select {
    /// The one that allows the largest change.
    Max,
    /// The one that allows the smallest change.
    Min,
    /// No change in this direction.
    Disabled,
}

/// One policy: at most `value` per period.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Policy {
    /// Of what.
    pub kind: PolicyKind,
    /// How many pods, or how many percent.
    pub value: u32,
    /// The period, seconds.
    pub period_seconds: f64,
}

/// What a policy's value counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PolicyKind {
    /// Pods.
    Pods,
    /// Percent of the replicas at the period's start.
    Percent,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) at: Mono,
    pub(super) replicas: u32,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct ScaleEvent {
    pub(super) at: Mono,
    change: u32,
}

impl Hpa {
    pub(super) fn normalise(&mut self, now: Mono, current: u32, proposal: u32) -> u32 {
        let record = Record { at: now, replicas: proposal };
        let replicas = match self.settings.behavior.clone() {
            None => self.legacy(now, current, proposal),
            Some(behavior) => self.with_behavior(now, current, proposal, &behavior),
        };
        self.recommendations.push(record);
        replicas
    }

    fn legacy(&mut self, now: Mono, current: u32, proposal: u32) -> u32 {
        let window = nanos(self.settings.downscale_window_seconds);
        // "Before the cutoff" is expired: a record exactly as old as the window still counts.
        self.recommendations.retain(|r| r.at.0 + window >= now.0);
        let stabilised = self.recommendations.iter().map(|r| r.replicas).fold(proposal, u32::max);
        let (min, max) = (self.settings.min_replicas, self.settings.max_replicas);
        stabilised.clamp(min, max.min(current.saturating_mul(2).max(4)).max(min))
    }

    fn with_behavior(&mut self, now: Mono, current: u32, proposal: u32, behavior: &Behavior) -> u32 {
        let (up_window, down_window) =
            (nanos(behavior.up.window_seconds), nanos(behavior.down.window_seconds));
        // "After the cutoff" counts: a record exactly as old as the window no longer does.
        self.recommendations.retain(|r| r.at.0 + up_window.max(down_window) > now.0);
        let within = |window: u64| {
            let records = self.recommendations.iter();
            records.filter(move |r| r.at.0 + window > now.0).map(|r| r.replicas)
        };
        let up = within(up_window).fold(proposal, u32::min);
        let down = within(down_window).fold(proposal, u32::max);
        let stabilised = current.max(up).min(down);

        let (min, max) = (self.settings.min_replicas, self.settings.max_replicas);
        if stabilised > current {
            stabilised.min(self.up_limit(now, current, &behavior.up).max(current).min(max))
        } else if stabilised < current {
            stabilised.max(self.down_limit(now, current, &behavior.down).min(current).max(min))
        } else {
            stabilised
        }
    }

    fn up_limit(&self, now: Mono, current: u32, rules: &Rules) -> u32 {
        let limits = rules.policies.iter().map(|policy| {
            let base = self.period_start(now, current, policy);
            let limit = match policy.kind {
                PolicyKind::Pods => base + f64::from(policy.value),
                PolicyKind::Percent => (base * (1.0 + f64::from(policy.value) / 100.0)).ceil(),
            };
            // Saturates at 0 and u32::MAX.
            limit as u32
        });
        match rules.select {
            Select::Max => limits.max().unwrap_or(current),
            Select::Min => limits.min().unwrap_or(current),
            Select::Disabled => current,
        }
    }

    fn down_limit(&self, now: Mono, current: u32, rules: &Rules) -> u32 {
        let limits = rules.policies.iter().map(|policy| {
            let base = self.period_start(now, current, policy);
            let limit = match policy.kind {
                PolicyKind::Pods => base - f64::from(policy.value),
                PolicyKind::Percent => base * (1.0 - f64::from(policy.value) / 100.0),
            };
            // Truncates; saturates at 0.
            limit as u32
        });
        match rules.select {
            Select::Max => limits.min().unwrap_or(current),
            Select::Min => limits.max().unwrap_or(current),
            Select::Disabled => current,
        }
    }

    /// The replicas at the start of a policy's period, from the events strictly younger than it.
    fn period_start(&self, now: Mono, current: u32, policy: &Policy) -> f64 {
        let period = nanos(policy.period_seconds);
        let sum = |events: &[ScaleEvent]| -> f64 {
            events.iter().filter(|e| e.at.0 + period > now.0).map(|e| f64::from(e.change)).sum()
        };
        f64::from(current) - sum(&self.ups) + sum(&self.downs)
    }

    /// The behaviour path remembers what it wrote, for as long as its longest period.
    pub(super) fn store_event(&mut self, now: Mono, before: u32, after: u32) {
        let Some(behavior) = &self.settings.behavior else { return };
        let policies = behavior.up.policies.iter().chain(&behavior.down.policies);
        let longest = policies.map(|p| nanos(p.period_seconds)).max().unwrap_or(0);
        for events in [&mut self.ups, &mut self.downs] {
            events.retain(|e| e.at.0 + longest > now.0);
        }
        if after > before {
            self.ups.push(ScaleEvent { at: now, change: after - before });
        } else if after < before {
            self.downs.push(ScaleEvent { at: now, change: before - after });
        }
    }
}
