//! Our writes and those of others: one write at a time, back-off after failures, foreign writes noticed.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::plan::{Decision, Gate};
use crate::time::Mono;
use crate::world::{Mode, WorkloadState};

/// What became of a decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// Written.
    Applied {
        /// The version that the write made.
        resource_version: u64,
    },
    /// The version had changed: nothing was written. The next world decides anew.
    Conflict,
    /// It could not be written, or nobody knows whether it was.
    Failed,
}

impl Outcome {
    /// Its label.
    pub fn name(self) -> &'static str {
        match self {
            Self::Applied { .. } => "applied",
            Self::Conflict => "conflict",
            Self::Failed => "failed",
        }
    }
}

/// Replicas that someone else wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Foreign {
    pub(super) from: u32,
    pub(super) to: u32,
}

/// First and longest wait after a failed write, seconds: as long as an API server takes to come back, and no longer
/// than the HPA's own period.
const BACK_OFF_SECONDS: (f64, f64) = (1.0, 15.0);
/// A write that failed may have arrived all the same; so many are remembered, to know them when they show up.
const REMEMBERED: usize = 8;

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Writes {
    pending: Option<u32>,
    // Replicas of writes that failed, newest last: they may have arrived all the same.
    ours: VecDeque<u32>,
    // Nothing older than our own last write is believed.
    written_version: u64,
    failures: u32,
    wait_until: Option<Mono>,
    foreign: Option<Foreign>,
}

impl Writes {
    /// What another process needs to know of it: a write under way may still arrive, but nobody waits for it any more,
    /// and the versions are read anew.
    pub(super) fn after_a_restart(&self) -> Self {
        let mut after = Self { pending: None, written_version: 0, ..self.clone() };
        if let Some(pending) = self.pending {
            after.expect(pending);
        }
        after
    }

    /// When these replicas show up, they are of our own writing.
    pub(super) fn expect(&mut self, replicas: u32) {
        if self.ours.len() == REMEMBERED {
            self.ours.pop_front();
        }
        self.ours.push_back(replicas);
    }

    /// The same on another clock.
    pub(super) fn rebased(self, shift: impl Fn(Mono) -> Mono) -> Self {
        Self { wait_until: self.wait_until.map(shift), ..self }
    }

    pub(super) fn gate(&self, now: Mono) -> Option<Gate> {
        if self.pending.is_some() {
            Some(Gate::WritePending)
        } else if self.foreign.is_some() {
            Some(Gate::ForeignWrite)
        } else if self.wait_until.is_some_and(|until| now < until) {
            Some(Gate::BackOff)
        } else {
            None
        }
    }

    pub(super) fn foreign(&self) -> Option<Foreign> {
        self.foreign
    }

    pub(super) fn decided(&mut self, decision: &Decision) {
        self.pending = Some(decision.replicas);
    }

    /// Returns the replicas that are in force now, if the write came through.
    pub(super) fn outcome(&mut self, now: Mono, outcome: Outcome) -> Option<u32> {
        let pending = self.pending.take()?;
        match outcome {
            Outcome::Applied { resource_version } => {
                self.written_version = resource_version;
                // Whatever the target shows from now on is newer than all that we asked for before.
                self.ours.clear();
                self.failures = 0;
                self.wait_until = None;
                Some(pending)
            }
            Outcome::Conflict | Outcome::Failed => {
                if outcome == Outcome::Failed {
                    self.expect(pending);
                }
                self.failures = self.failures.saturating_add(1);
                // Doubles; 2^4 is past the longest.
                let wait = BACK_OFF_SECONDS.0 * f64::from(1u32 << (self.failures - 1).min(4));
                let nanos = (wait.min(BACK_OFF_SECONDS.1) * 1e9) as u64;
                self.wait_until = Some(Mono(now.0.saturating_add(nanos)));
                None
            }
        }
    }

    /// Whether what the target says about replicas is older than our own last write.
    pub(super) fn outdated(&self, state: &WorkloadState) -> bool {
        state.resource_version < self.written_version
    }

    /// The target says that `replicas` changed. In mode `full` nobody else should write them; in the others an HPA
    /// or a person does.
    pub(super) fn changed(&mut self, mode: Mode, from: u32, to: u32) {
        if mode == Mode::Full && self.pending != Some(to) && !self.ours.contains(&to) {
            self.foreign = Some(Foreign { from, to });
        }
    }

    /// Someone changed the settings: that is how we are told otherwise.
    pub(super) fn settings_changed(&mut self) {
        self.foreign = None;
    }
}
