//! Reports → the demand of each workload: order-free, idempotent, and it knows what it does not know.
//!
//! Every attach of a pod (boot, agent start, generation) counts from 0; of each, the newest counters win. A workload's
//! totals are the sum over its pods' attaches, plus what retired pods left behind: any order, any duplicate and any
//! loss of reports between gives the same. Rates come from neighbouring counters of one attach and the kernel's clock
//! between them; the grid of seconds from the node's wall clock, corrected when it is a few seconds off.
//!
//! What is not heard is not zero: ready pods without a fresh report are taken to do what the heard ones do, as long as
//! those are at least half; the demand then says [`Hold::Stale`], and nobody shrinks the workload.

mod demand;
mod local;
mod node;
mod pod;
#[cfg(test)]
mod tests;
mod workload;

use std::collections::BTreeMap;

pub use demand::{Demand, Hold, Latency, MergedBurst, PodLoad, Refused, Second, Totals, WrongUnit};
pub use local::merged_forecast;

use crate::counters::Histogram;
use crate::time::Now;
use crate::wire::NodeReport;
use crate::world::{WorkloadId, WorkloadState};
use node::NodeState;
use pod::Key;
use workload::WorkloadMerge;

/// Most nodes: Kubernetes itself supports 5,000.
const MAX_NODES: usize = 10_000;
/// Most pods of one workload that the target does not know (any more); further ones are not taken.
const MAX_UNKNOWN_PODS: usize = 1_024;
/// A pod that the target no longer knows and nobody reports is retired after so long, seconds: longer than the oldest
/// report that is taken ([`node::MAX_OFF_SECONDS`]), so that no late report counts twice.
const RETIRE_SECONDS: f64 = 900.0;

/// What the merge works by.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MergeSettings {
    /// A pod's counters older than this are stale, seconds. Agents report once a second; ten lost ones in a row are no
    /// hiccup.
    pub fresh_seconds: f64,
    /// Below this share of ready pods with fresh counters, nothing may shrink.
    pub min_freshness: f64,
}

impl Default for MergeSettings {
    fn default() -> Self {
        Self { fresh_seconds: 10.0, min_freshness: 0.9 }
    }
}

/// What became of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// Pods whose counters are newer than what was known.
    pub newer: usize,
    /// Pods of workloads that the target does not know.
    pub unknown: usize,
    /// Pods whose counters are impossible; they were not taken.
    pub impossible: usize,
    /// A node's burst flag is up: decide now, not at the next tick.
    pub burst: bool,
}

/// All reports, merged.
#[derive(Debug, Default)]
pub struct Merge {
    settings: MergeSettings,
    nodes: BTreeMap<String, NodeState>,
    workloads: BTreeMap<WorkloadId, WorkloadMerge>,
    /// The workload and the node of each pod that the target knows.
    owners: BTreeMap<String, (WorkloadId, String)>,
}

impl Merge {
    /// A merge that knows nothing yet.
    pub fn new(settings: MergeSettings) -> Self {
        Self { settings, ..Self::default() }
    }

    /// Takes all workloads that exist, as the target sees them. One that is missing is forgotten.
    pub fn world(&mut self, now: Now, workloads: &[WorkloadState]) {
        let exists: std::collections::BTreeSet<_> = workloads.iter().map(|w| &w.id).collect();
        self.workloads.retain(|id, _| exists.contains(id));
        self.owners.clear();
        for state in workloads {
            self.workloads.entry(state.id.clone()).or_default().world(now, state);
            self.owners
                .extend(state.pods.iter().map(|pod| (pod.uid.clone(), (state.id.clone(), pod.node.clone()))));
        }
    }

    /// Takes a node's report.
    ///
    /// # Errors
    /// [`Refused`] when its clock is impossible: then nothing of it is used, and the workloads with pods on that node
    /// hold until a possible report comes.
    pub fn report(&mut self, now: Now, report: &NodeReport) -> Result<Accepted, Refused> {
        if self.nodes.len() >= MAX_NODES && !self.nodes.contains_key(&report.node) {
            return Err(Refused::TooManyNodes { limit: MAX_NODES });
        }
        let node = self.nodes.entry(report.node.clone()).or_default();
        let (newest, correction_ms) = node.report(now, report).map_err(Refused::Clock)?;
        let mut accepted = Accepted { newer: 0, unknown: 0, impossible: 0, burst: false };
        for pod in &report.pods {
            let claimed = &report.workloads[pod.workload].id;
            let id = match self.owners.get(&pod.uid) {
                // A bound pod never moves: whoever reports it from elsewhere lies or is mistaken.
                Some((_, node)) if *node != report.node => {
                    accepted.unknown += 1;
                    continue;
                }
                Some((id, _)) => id,
                None => claimed,
            };
            let Some(workload) = self.workloads.get_mut(id) else {
                accepted.unknown += 1;
                continue;
            };
            let key = Key::of(report, pod);
            match workload.report(now, report, pod, key, correction_ms, newest) {
                pod::Taken::Newer => accepted.newer += 1,
                pod::Taken::Known => {}
                pod::Taken::Impossible => accepted.impossible += 1,
                pod::Taken::Unknown => accepted.unknown += 1,
            }
        }
        accepted.burst = newest && report.workloads.iter().any(|w| w.burst.is_some());
        Ok(accepted)
    }

    /// The demand of a workload as of now; `None` when the target does not know it.
    pub fn demand(&mut self, now: Now, id: &WorkloadId) -> Option<Demand> {
        let workload = self.workloads.get_mut(id)?;
        Some(workload.demand(now, id, &self.settings, &self.nodes))
    }

    /// The seconds of a workload that have closed since the last call, ascending: once every ready pod's counters are
    /// past their end, or [`MergeSettings::fresh_seconds`] later. Each second is given once.
    pub fn seconds(&mut self, now: Now, id: &WorkloadId) -> Vec<Second> {
        self.workloads.get_mut(id).map_or_else(Vec::new, |w| w.seconds(now, &self.settings))
    }

    /// Cumulative totals of a workload; they never go back while it exists.
    pub fn totals(&self, id: &WorkloadId) -> Option<Totals> {
        self.workloads.get(id).map(WorkloadMerge::totals)
    }

    /// The nodes that reported, with the age of their newest report in seconds; `None`: all of them were refused.
    pub fn nodes(&self, now: Now) -> impl Iterator<Item = (&str, Option<f64>)> {
        self.nodes.iter().map(move |(name, node)| (name.as_str(), node.age_seconds(now)))
    }
}

impl Totals {
    pub(crate) fn add(&mut self, other: &Self) {
        self.starts = self.starts.saturating_add(other.starts);
        for (to, more) in self.finishes.iter_mut().zip(&other.finishes) {
            *to = to.saturating_add(*more);
        }
        self.aborts = self.aborts.saturating_add(other.aborts);
        self.in_flight_integral_ns = self.in_flight_integral_ns.saturating_add(other.in_flight_integral_ns);
        self.bytes_received = self.bytes_received.saturating_add(other.bytes_received);
        self.bytes_sent = self.bytes_sent.saturating_add(other.bytes_sent);
        self.connections_opened = self.connections_opened.saturating_add(other.connections_opened);
        self.retransmits = self.retransmits.saturating_add(other.retransmits);
        self.last_byte.add(&other.last_byte);
    }

    pub(crate) fn of(counters: &crate::counters::Counters) -> Self {
        let mut last_byte = Histogram::default();
        for class in &counters.last_byte {
            last_byte.add(class);
        }
        Self {
            starts: counters.starts,
            finishes: counters.finishes,
            aborts: counters.aborts,
            in_flight_integral_ns: counters.in_flight_integral_ns,
            bytes_received: counters.bytes_received,
            bytes_sent: counters.bytes_sent,
            connections_opened: counters.connections_opened,
            retransmits: counters.retransmits,
            last_byte,
        }
    }
}
