//! Measures lead times: from a decision to the first response of each pod that it brought.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde::{Deserialize, Serialize};

use crate::lead_time::LeadTime;
use crate::time::Mono;
use crate::units::Seconds;
use crate::world::Pod;

/// A decision that has brought no pod for so long, seconds, never will: longer than any node takes to be provisioned.
const GIVE_UP_SECONDS: f64 = 1800.0;
/// Decisions that wait for pods; more than max-replicas rarely make sense, and one decision may bring many.
const MOST_WAITING: usize = 256;

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Starts {
    // Decisions that still owe pods, oldest first.
    owed: VecDeque<(Mono, u32)>,
    // Pods that came after a decision and have not answered yet.
    awaited: BTreeMap<String, Mono>,
    known: BTreeSet<String>,
    primed: bool,
}

impl Starts {
    /// The same on another clock.
    pub(super) fn rebased(mut self, shift: impl Fn(Mono) -> Mono) -> Self {
        self.owed.iter_mut().for_each(|(at, _)| *at = shift(*at));
        self.awaited.values_mut().for_each(|at| *at = shift(*at));
        self
    }

    /// Replicas were raised by `more`.
    pub(super) fn raised(&mut self, at: Mono, more: u32) {
        if self.owed.len() == MOST_WAITING {
            self.owed.pop_front();
        }
        self.owed.push_back((at, more));
    }

    /// The last decision was not written.
    pub(super) fn undone(&mut self) {
        self.owed.pop_back();
    }

    /// Replicas were lowered: what is still owed may never come.
    pub(super) fn lowered(&mut self) {
        self.owed.clear();
    }

    /// The pods that exist. Those of the first call were there before us.
    pub(super) fn pods(&mut self, now: Mono, pods: &[Pod]) {
        self.owed.retain(|(at, _)| now.seconds_since(*at) < GIVE_UP_SECONDS);
        for pod in pods.iter().filter(|p| !self.known.contains(&p.uid)) {
            if !self.primed {
                continue;
            }
            // A pod that nothing is owed for takes a dead one's place: its start says nothing about a decision.
            if let Some((at, left)) = self.owed.front_mut() {
                self.awaited.insert(pod.uid.clone(), *at);
                *left -= 1;
                if *left == 0 {
                    self.owed.pop_front();
                }
            }
        }
        self.primed = true;
        self.known = pods.iter().map(|p| p.uid.clone()).collect();
        let known = &self.known;
        self.awaited.retain(|uid, _| known.contains(uid));
    }

    /// A pod answered a request.
    pub(super) fn answered(&mut self, now: Mono, uid: &str, lead_time: &mut LeadTime) {
        if let Some(decided) = self.awaited.remove(uid) {
            let seconds = Seconds::new(now.seconds_since(decided)).expect("a difference of clocks is finite");
            lead_time.record(seconds);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::PodPhase;

    fn at(seconds: u64) -> Mono {
        Mono(seconds * 1_000_000_000)
    }

    fn pods(uids: &[&str]) -> Vec<Pod> {
        let pod = |uid: &&str| Pod {
            uid: (*uid).to_owned(),
            name: (*uid).to_owned(),
            node: "n".into(),
            phase: PodPhase::Starting,
            ports: vec![],
            probes: Vec::new(),
            start_seconds: None,
        };
        uids.iter().map(pod).collect()
    }

    #[test]
    fn a_start_runs_from_its_decision_to_its_first_response() {
        let (mut starts, mut lead) = (Starts::default(), LeadTime::new(Seconds::new(30.0).unwrap()));
        starts.pods(at(0), &pods(&["a"]));
        starts.raised(at(10), 1);
        starts.raised(at(20), 1);
        starts.pods(at(21), &pods(&["a", "b"]));
        starts.pods(at(25), &pods(&["a", "b", "c"]));
        starts.answered(at(30), "a", &mut lead);
        assert_eq!(lead.count(), 0, "a was there before");
        starts.answered(at(52), "b", &mut lead);
        starts.answered(at(52), "b", &mut lead);
        assert_eq!((lead.count(), lead.planned_seconds()), (1, 42.0));
        starts.answered(at(99), "c", &mut lead);
        assert_eq!((lead.count(), lead.planned_seconds()), (2, 79.0));
    }

    #[test]
    fn what_no_decision_brought_is_not_a_start() {
        let (mut starts, mut lead) = (Starts::default(), LeadTime::new(Seconds::new(30.0).unwrap()));
        starts.pods(at(0), &pods(&[]));
        starts.pods(at(1), &pods(&["replacement"]));
        starts.raised(at(2), 1);
        starts.lowered();
        starts.pods(at(3), &pods(&["replacement", "b"]));
        starts.raised(at(4), 1);
        starts.pods(at(2000), &pods(&["replacement", "b", "late"]));
        for uid in ["replacement", "b", "late"] {
            starts.answered(at(2001), uid, &mut lead);
        }
        assert_eq!(lead.count(), 0);
    }
}
