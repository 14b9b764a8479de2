//! The aggregator's brain: reports and the target's world in, plans out. The shell and the simulator drive it.
//!
//! Per workload it holds the history, two ensembles, the measured lead time, what the plan remembers and what became of
//! its writes. A tick closes seconds, shows them to the ensembles, plans, has the plan checked, and logs.

mod forecasts;
mod models;
mod moments;
mod scores;
mod shadow;
mod show;
mod starts;
mod state;
mod tracked;
mod trend;
mod writes;

#[cfg(test)]
mod doubts;
#[cfg(test)]
mod informed;
#[cfg(test)]
mod own;
#[cfg(test)]
mod sweep;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod young;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use prescale_models::WeightsKind;
use prescale_models::retraining::{History, RetrainingSettings};

pub use crate::merge::{Accepted, Refused};
pub use state::{Checkpoint, Restored, Unreadable};
pub use writes::Outcome;

use crate::check::Violation;
use crate::choices::Choices;
use crate::fitted::Fitted;
use crate::merge::{Merge, MergeSettings};
use crate::plan::{Plan, Rules};
use crate::time::{Now, Wall};
use crate::units::{RequestsPerSecond, Seconds};
use crate::view;
use crate::wire::{NodeReport, VERSION, WatchList, WatchedPod};
use crate::world::{Pod, PodPhase, WorkloadId, WorkloadState};
use tracked::Tracked;

/// What a cluster works by.
#[derive(Clone, Debug, PartialEq)]
pub struct ClusterSettings {
    /// Seconds of the caller's clock per second of the kernel's: 1 in production, more in a demo.
    pub clock_speed: f64,
    /// Lead time until nine starts were measured: the kubelet's and the HPA's own allowance for a pod to become ready
    /// (`--horizontal-pod-autoscaler-initial-readiness-delay`).
    pub lead_time_prior: Seconds,
    /// The plan's constants.
    pub rules: Rules,
    /// The merge's constants.
    pub merge: MergeSettings,
    /// What the workloads' heads and trees run with.
    pub weights: Fitted,
    /// Which models forecast which workloads.
    pub models: Choices,
}

impl Default for ClusterSettings {
    fn default() -> Self {
        Self {
            clock_speed: 1.0,
            lead_time_prior: Seconds::new(30.0).expect("30 is a length of time"),
            rules: Rules::default(),
            merge: MergeSettings::default(),
            weights: Fitted::shipped(),
            models: Choices::default(),
        }
    }
}

/// A workload that the target no longer names is remembered for so long, seconds: a Deployment that is replaced, or a
/// target that hiccups, must not cost what was learned.
const FORGET_SECONDS: f64 = 3600.0;

/// The brain of one aggregator.
pub struct Cluster {
    settings: ClusterSettings,
    merge: Merge,
    workloads: BTreeMap<WorkloadId, Tracked>,
    violations: BTreeMap<Violation, u64>,
    standby: bool,
    /// Workloads whose state is still to come: they decide nothing.
    awaited: BTreeSet<WorkloadId>,
}

impl Cluster {
    /// A cluster that knows nothing yet.
    ///
    /// # Panics
    /// If the settings would break a law of the plan.
    pub fn new(settings: ClusterSettings) -> Self {
        settings.rules.assert_valid();
        assert!(settings.clock_speed.is_finite() && settings.clock_speed > 0.0, "a clock runs forward");
        let merge = Merge::new(settings.merge);
        Self {
            settings,
            merge,
            workloads: BTreeMap::new(),
            violations: BTreeMap::new(),
            standby: false,
            awaited: BTreeSet::new(),
        }
    }

    /// Whether another aggregator writes: then this one decides but writes nothing.
    pub fn set_standby(&mut self, standby: bool) {
        self.standby = standby;
    }

    /// Takes all workloads that exist, as the target sees them.
    pub fn world(&mut self, now: Now, workloads: &[WorkloadState]) {
        self.merge.world(now, workloads);
        let mut missing: BTreeSet<WorkloadId> = self.workloads.keys().cloned().collect();
        for state in workloads {
            missing.remove(&state.id);
            let settings = &self.settings;
            let tracked =
                self.workloads.entry(state.id.clone()).or_insert_with(|| Tracked::new(settings, &state.id));
            tracked.world(now, state, self.standby);
        }
        for id in missing {
            if let Some(tracked) = self.workloads.get_mut(&id)
                && tracked.missing_for(now) > FORGET_SECONDS
            {
                self.workloads.remove(&id);
            }
        }
    }

    /// Takes a node's report.
    ///
    /// # Errors
    /// [`Refused`], when nothing of it can be used.
    pub fn report(&mut self, now: Now, report: &NodeReport) -> Result<Accepted, Refused> {
        self.merge.report(now, report)
    }

    /// Takes a workload's load from before our time, oldest first and all at once; before or after the target has
    /// named it. The ensembles start anew: with this history, then with what was measured since.
    pub fn import(&mut self, _now: Now, id: &WorkloadId, history: &[(Wall, RequestsPerSecond)]) {
        let settings = &self.settings;
        self.workloads
            .entry(id.clone())
            .or_insert_with(|| Tracked::new(settings, id))
            .import(history, &settings.weights.of(id));
    }

    /// Has every model run with these weights: no workload starts anew. A head whose network is another sleeps until its state
    /// has filled (half an hour), its workload being forecast by the experts alone.
    pub fn set_weights(&mut self, wanted: Fitted) {
        let ran = std::mem::replace(&mut self.settings.weights, wanted);
        let wanted = &self.settings.weights;
        for kind in WeightsKind::ALL {
            let same = wanted.pooled.of(kind) == ran.pooled.of(kind);
            // Trees have no state that their weights made, so those that stay may be given once more.
            if same && (kind != WeightsKind::Trees || wanted.own == ran.own) {
                continue;
            }
            for (id, tracked) in &mut self.workloads {
                tracked.forecasts.set_weights(&wanted.of(id).of(kind));
            }
        }
    }

    /// What heads and trees run with.
    pub fn weights(&self) -> &Fitted {
        &self.settings.weights
    }

    /// The workloads with the most pods among those that trees forecast, `most` at most: what they run with costs most.
    pub fn dearest(&self, most: usize) -> Vec<WorkloadId> {
        let of_trees = |id: &WorkloadId| self.settings.models.of(id).has(WeightsKind::Trees.name());
        let mut all: Vec<(Reverse<u32>, &WorkloadId)> = self
            .workloads
            .iter()
            .filter(|(id, _)| of_trees(id))
            .filter_map(|(id, tracked)| Some((Reverse(tracked.state()?.replicas), id)))
            .collect();
        all.sort_unstable();
        all.into_iter().take(most).map(|(_, id)| id.clone()).collect()
    }

    /// What a retraining on the history of all known workloads is about.
    pub fn retraining(&self, now: Now, seed: u64) -> RetrainingSettings {
        forecasts::retraining(now, self.workloads.len(), seed)
    }

    /// A workload's load by the minute; `None` if it is not known.
    pub fn minutes(&self, id: &WorkloadId) -> Option<History> {
        Some(forecasts::minutes(&self.workloads.get(id)?.series))
    }

    /// These workloads' state is about to be restored: until then, or until [`Cluster::without_state`], they decide
    /// nothing.
    pub fn await_state(&mut self, workloads: impl IntoIterator<Item = WorkloadId>) {
        self.awaited.extend(workloads);
    }

    /// There is no state of this workload to wait for: it goes on with what it knows.
    pub fn without_state(&mut self, id: &WorkloadId) {
        self.awaited.remove(id);
    }

    /// One workload's state as of `now`; `None` if it is not known.
    pub fn checkpoint(&mut self, now: Now, id: &WorkloadId) -> Option<Checkpoint> {
        // A state that is still to be restored must not be overwritten by less.
        if self.awaited.contains(id) {
            return None;
        }
        // The first bases of all workloads are made together, the later ones must not be.
        let stagger_seconds = f64::from(crc32fast::hash(format!("{id:?}").as_bytes()) % 300);
        Some(self.workloads.get_mut(id)?.checkpoint(now, stagger_seconds))
    }

    /// The newest checkpoint of this workload was not kept: the next one must stand alone.
    pub fn checkpoint_lost(&mut self, id: &WorkloadId) {
        if let Some(tracked) = self.workloads.get_mut(id) {
            tracked.mark = None;
        }
    }

    /// Takes one workload's state: it goes on from there, with what it has measured itself since. The parts are those
    /// of [`Checkpoint`]. Before or after the target has named it.
    ///
    /// # Errors
    /// [`Unreadable`]: the workload stays as it is, and no longer waits for its state.
    pub fn restore(
        &mut self,
        now: Now,
        id: &WorkloadId,
        base: &[u8],
        tail: &[u8],
    ) -> Result<Restored, Unreadable> {
        self.awaited.remove(id);
        let known = self.workloads.entry(id.clone()).or_insert_with(|| Tracked::new(&self.settings, id));
        let (tracked, restored) = known.restored(now, id, base, tail, &self.settings)?;
        *known = tracked;
        Ok(restored)
    }

    /// Every workload that is known.
    pub fn workloads(&self) -> impl Iterator<Item = &WorkloadId> {
        self.workloads.keys()
    }

    /// Plans every workload. Once a second, and at once when a report said [`Accepted::burst`].
    pub fn tick(&mut self, now: Now) -> Plan {
        let mut plan = Plan::default();
        for (id, tracked) in &mut self.workloads {
            let demand = self.merge.demand(now, id);
            let seconds = self.merge.seconds(now, id);
            let standby = self.standby || self.awaited.contains(id);
            let tick = tracked.tick(now, id, demand, &seconds, &self.settings, standby);
            let Some((planned, broken)) = tick else {
                continue;
            };
            for violation in broken {
                *self.violations.entry(violation).or_insert(0) += 1;
            }
            plan.decisions.extend(planned.decision());
            plan.report.push(planned);
        }
        plan
    }

    /// What became of a decision. Exactly once for each.
    pub fn outcome(&mut self, now: Now, id: &WorkloadId, outcome: Outcome) {
        if let Some(tracked) = self.workloads.get_mut(id) {
            tracked.outcome(now, outcome);
        }
    }

    /// The pods that a node shall measure. The revision comes from the content, so that an aggregator's restart is none
    /// for the agents.
    pub fn watch_list(&self, node: &str) -> WatchList {
        let mut pods = Vec::new();
        for (id, tracked) in &self.workloads {
            let Some(state) = tracked.state() else { continue };
            pods.extend(state.pods.iter().filter(|pod| pod.node == node).map(|pod| watched(id, pod)));
        }
        WatchList { version: VERSION, revision: revision(&pods), pods }
    }

    /// Every node's [`Cluster::watch_list`] that is not empty, in one pass.
    pub fn watch_lists(&self) -> BTreeMap<String, WatchList> {
        let mut nodes: BTreeMap<&str, Vec<WatchedPod>> = BTreeMap::new();
        for (id, tracked) in &self.workloads {
            for pod in tracked.state().iter().flat_map(|state| &state.pods) {
                nodes.entry(&pod.node).or_default().push(watched(id, pod));
            }
        }
        let list = |(node, pods): (&str, Vec<WatchedPod>)| {
            (node.to_owned(), WatchList { version: VERSION, revision: revision(&pods), pods })
        };
        nodes.into_iter().map(list).collect()
    }

    /// Every node that a pod is bound to or that has reported, by name.
    pub fn nodes(&self, now: Now) -> Vec<String> {
        let states = self.workloads.values().filter_map(Tracked::state);
        let bound = states.flat_map(|state| state.pods.iter().map(|pod| pod.node.as_str()));
        let all: BTreeSet<&str> = bound.chain(self.merge.nodes(now).map(|(node, _)| node)).collect();
        all.into_iter().map(str::to_owned).collect()
    }

    /// The nodes with ready pods to measure that have not reported since this began, by name: what it plans lacks theirs.
    pub fn unheard(&self, now: Now) -> BTreeSet<&str> {
        let pods = self.workloads.values().filter_map(Tracked::state).flat_map(|state| &state.pods);
        let ready = pods.filter(|pod| pod.phase == PodPhase::Ready).map(|pod| pod.node.as_str());
        let heard: BTreeSet<&str> =
            self.merge.nodes(now).filter(|(_, age)| age.is_some()).map(|(node, _)| node).collect();
        ready.filter(|node| !heard.contains(node)).collect()
    }

    /// How often a plan broke which rule, since the start. Above 0 is a mistake of ours.
    pub fn violations(&self) -> impl Iterator<Item = (Violation, u64)> + '_ {
        self.violations.iter().map(|(violation, count)| (*violation, *count))
    }

    /// All workloads in short.
    pub fn list(&self, now: Now) -> view::List {
        let nodes = self.merge.nodes(now).map(|(node, age_seconds)| view::Node {
            node: node.to_owned(),
            age_seconds,
            stale: age_seconds.is_none_or(|age| age > self.settings.merge.fresh_seconds),
        });
        view::List {
            now_unix_ms: now.wall.0,
            clock_speed: self.settings.clock_speed,
            workloads: self.workloads.iter().filter_map(|(id, tracked)| tracked.summary(id)).collect(),
            nodes: nodes.collect(),
        }
    }

    /// One workload in full; `None` when the target does not name it.
    pub fn view(&self, now: Now, id: &WorkloadId) -> Option<view::Workload> {
        let totals = self.merge.totals(id).unwrap_or_default();
        self.workloads.get(id)?.view(now, id, &totals, &self.settings, true)
    }

    /// Every model, and how it does over all workloads.
    pub fn models(&self, now: Now) -> view::Models {
        let forecasts = self.workloads.values().map(|tracked| &tracked.forecasts);
        models::models(now, forecasts, &self.settings.models, &self.settings.weights.pooled)
    }

    /// As [`Cluster::view`], less the timeline and the decisions: what metrics need of every workload.
    pub fn view_of_now(&self, now: Now, id: &WorkloadId) -> Option<view::Workload> {
        let totals = self.merge.totals(id).unwrap_or_default();
        self.workloads.get(id)?.view(now, id, &totals, &self.settings, false)
    }
}

fn watched(id: &WorkloadId, pod: &Pod) -> WatchedPod {
    WatchedPod {
        uid: pod.uid.clone(),
        name: pod.name.clone(),
        workload: id.clone(),
        ports: pod.ports.clone(),
        probes: pod.probes.clone(),
    }
}

/// FNV-1a over the list's content.
fn revision(pods: &[WatchedPod]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325u64;
    let mut add = |bytes: &[u8]| {
        // Each field ends with a byte that no name holds.
        for byte in bytes.iter().chain(&[0xff]) {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    };
    for pod in pods {
        add(pod.uid.as_bytes());
        add(pod.name.as_bytes());
        add(pod.workload.namespace.as_bytes());
        add(pod.workload.name.as_bytes());
        for port in &pod.ports {
            add(&port.to_be_bytes());
        }
        for probe in &pod.probes {
            add(probe.as_bytes());
        }
    }
    hash
}
