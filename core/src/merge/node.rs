//! One node: which of its reports is the newest, and whether its clock is possible.

use super::demand::{Hold, WrongUnit};
use crate::time::{Mono, Now, Wall};
use crate::wire::{NodeReport, NodeWorkload};

/// Farthest that a node's clock may be off, seconds: an unsynchronised machine is off by seconds, a lost time zone by
/// an hour; a queue of reports that an agent kept during an outage is older than this only when it is useless.
pub(super) const MAX_OFF_SECONDS: i64 = 300;
/// A clock that is off by no more than this is taken as it is, milliseconds: reports are under way for some time.
const SYNCHRONISED_MS: i64 = 2_000;

/// After so long without a newer report, seconds, the order starts anew with the next one: longer than reports overtake
/// each other, shorter than anybody should wait for a node to be believed again.
const FORGET_ORDER_SECONDS: f64 = 30.0;

/// What the merge keeps of a node.
#[derive(Debug, Default)]
pub(super) struct NodeState {
    /// Agent start and sequence of the newest report.
    newest: Option<(Wall, u64)>,
    received: Option<Mono>,
    /// Added to the node's instants; changes only when the clock jumps.
    correction_ms: i64,
    /// Its clock was impossible at its last report.
    pub(super) clock: Option<Hold>,
    /// What its newest report says of its workloads.
    pub(super) workloads: Vec<NodeWorkload>,
}

impl NodeState {
    /// Takes a report's head: whether it is the newest, and what to add to its instants.
    ///
    /// # Errors
    /// [`Hold::Clock`] when its clock is impossible.
    pub(super) fn report(&mut self, now: Now, report: &NodeReport) -> Result<(bool, i64), Hold> {
        // Only when it was sent: one pod that can't be read any more has old counters, and that is no lie.
        if let Some(hold) = impossible(now, &report.node, report.sent) {
            self.clock = Some(hold.clone());
            return Err(hold);
        }
        self.clock = None;
        let order = (report.agent_start, report.sequence);
        // A node whose clock was set back between two lives of its agent must not be old for ever.
        let forgotten = self.age_seconds(now).is_some_and(|age| age > FORGET_ORDER_SECONDS);
        let newest = forgotten || self.newest.is_none_or(|known| order > known);
        let off_ms = now.wall.0 - report.sent.0;
        if newest {
            self.newest = Some(order);
            self.received = Some(now.mono);
            self.workloads.clone_from(&report.workloads);
            if off_ms.abs() <= SYNCHRONISED_MS {
                self.correction_ms = 0;
            } else if (off_ms - self.correction_ms).abs() > SYNCHRONISED_MS {
                self.correction_ms = off_ms;
            }
        }
        Ok((newest, self.correction_ms))
    }

    /// Seconds since its newest report came; `None`: all that came was refused.
    pub(super) fn age_seconds(&self, now: Now) -> Option<f64> {
        self.received.map(|at| now.mono.seconds_since(at))
    }
}

fn impossible(now: Now, node: &str, instant: Wall) -> Option<Hold> {
    let off_ms = i128::from(instant.0) - i128::from(now.wall.0);
    let limit_ms = i128::from(MAX_OFF_SECONDS) * 1000;
    if off_ms.abs() <= limit_ms {
        return None;
    }
    let ours = i128::from(now.wall.0);
    let units = [
        (WrongUnit::Seconds, i128::from(instant.0) * 1000),
        (WrongUnit::Microseconds, i128::from(instant.0) / 1000),
        (WrongUnit::Nanoseconds, i128::from(instant.0) / 1_000_000),
    ];
    let unit = units.into_iter().find(|(_, ms)| (ms - ours).abs() <= limit_ms).map(|(unit, _)| unit);
    Some(Hold::Clock { node: node.to_owned(), off_seconds: (off_ms / 1000) as i64, unit })
}
