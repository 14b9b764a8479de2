//! The node's brain: which pods to measure, their samples, the local forecast, the burst flag, the report.
//!
//! The shell scans directories, attaches, reads and sends; it decides nothing. Every poll it calls
//! [`Node::found`], does what the actions say, and calls [`Node::tick`] with what it read.

mod attach;
mod burst;
mod local;
mod saturation;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};

use attach::{Need, WatchedState};
use local::LocalWorkload;
pub use local::local_ensemble;
use prescale_models::Forecast;

use crate::counters::Counters;
use crate::sample::{Sample, SampleError};
use crate::time::{Mono, Now, Wall};
use crate::wire::{
    AgentHealth, Burst, Censored, MAX_PODS, NodeReport, NotMeasurable, PodReport, PodState, Resources,
    VERSION, WatchList, WatchedPod,
};
use crate::world::WorkloadId;

/// A pod's last counters are repeated for so long after it is gone, seconds, so that no lost report loses them.
const LAST_REPEATED_SECONDS: f64 = 60.0;
/// Reports go out this often, seconds, and at once when a burst flag rises.
const REPORT_SECONDS: f64 = 1.0;
/// A poll comes a little early now and then; it must not cost a whole period.
const REPORT_SLACK_SECONDS: f64 = 0.2;

/// What a node expects of one workload: the sum over the node's measured pods.
#[derive(Clone, Debug, PartialEq)]
pub struct LocalForecast {
    /// Pods that the forecast is about.
    pub pods: u32,
    /// Requests/s on the node's own grid.
    pub forecast: Forecast,
}

/// Who the node is.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeSettings {
    /// The node's name.
    pub node: String,
    /// The kernel's boot id.
    pub boot_id: String,
    /// When this agent process started.
    pub agent_start: Wall,
}

/// What the shell read of one pod, this poll.
#[derive(Clone, Debug, PartialEq)]
pub struct Reading {
    /// The pod.
    pub uid: String,
    /// What its kernel maps say.
    pub counters: Counters,
    /// What its cgroup says.
    pub resources: Resources,
}

/// What the agent itself uses; goes into the report's health.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OwnUse {
    /// CPU time, nanoseconds.
    pub cpu_ns: u64,
    /// Memory of its cgroup, bytes.
    pub memory_bytes: u64,
}

/// What the shell is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Attach to the directory, then call [`Node::attached`] or [`Node::attach_failed`].
    Attach {
        /// The pod.
        uid: String,
        /// Its cgroup directory, as `found` was told.
        directory: String,
        /// Ports to measure; empty means every port.
        ports: Vec<u16>,
        /// Request lines of its probes, to be counted apart.
        probes: Vec<String>,
    },
    /// Read the pod's counters once more into the next `tick`, then free its links and its slot. Does nothing where
    /// nothing is attached.
    Release {
        /// The pod.
        uid: String,
    },
}

/// One pod, for the agent's metrics.
#[derive(Clone, Copy, Debug)]
pub struct PodView<'a> {
    /// Names and ports.
    pub pod: &'a WatchedPod,
    /// Whether it is measured.
    pub state: PodState,
    /// From when the pod was wanted and its directory there until it was attached, seconds of the caller's clock.
    pub attach_lag_seconds: Option<f64>,
    /// Cumulative counters since its attach.
    pub counters: Option<&'a Counters>,
    /// What its cgroup said last.
    pub resources: Option<Resources>,
    /// What it did between the last two polls.
    pub sample: Option<&'a Sample>,
    /// Its served rate is a lower bound.
    pub censored: Option<Censored>,
}

/// One workload, for the agent's metrics.
#[derive(Clone, Debug)]
pub struct WorkloadView<'a> {
    /// Which.
    pub id: &'a WorkloadId,
    /// Requests/s at the last poll, the node's measured pods.
    pub rate: f64,
    /// The local forecast, while its model is awake.
    pub forecast: Option<LocalForecast>,
    /// The burst flag, while it is up.
    pub burst: Option<Burst>,
}

/// A pod that is gone, and its last report.
struct Departed {
    workload: WorkloadId,
    report: PodReport,
    since: Mono,
}

/// The brain of one agent.
pub struct Node {
    settings: NodeSettings,
    pods: BTreeMap<String, WatchedState>,
    departed: VecDeque<Departed>,
    workloads: BTreeMap<WorkloadId, LocalWorkload>,
    revision: Option<u64>,
    sequence: u64,
    generation: u32,
    reported: Option<Mono>,
    health: AgentHealth,
}

impl Node {
    /// A node that watches nothing yet.
    pub fn new(settings: NodeSettings) -> Self {
        Self {
            settings,
            pods: BTreeMap::new(),
            departed: VecDeque::new(),
            workloads: BTreeMap::new(),
            revision: None,
            sequence: 0,
            generation: 0,
            reported: None,
            health: AgentHealth::default(),
        }
    }

    /// Takes the list of pods to measure. Pods that are no longer on it are released with the next [`Self::found`].
    pub fn watch(&mut self, now: Now, list: WatchList) {
        self.revision = Some(list.revision);
        for state in self.pods.values_mut() {
            state.wanted = false;
        }
        for watched in list.pods {
            match self.pods.get_mut(&watched.uid) {
                Some(state) if state.watched.measured_alike(&watched) => {
                    state.watched = watched;
                    state.wanted = true;
                }
                Some(state) if !state.holds() => *state = WatchedState::new(now, watched),
                Some(state) => state.replace(watched),
                None => {
                    self.pods.insert(watched.uid.clone(), WatchedState::new(now, watched));
                }
            }
        }
        self.pods.retain(|_, state| state.wanted || state.holds());
    }

    /// Revision of the watch list in force, to ask for the next one.
    pub fn revision(&self) -> Option<u64> {
        self.revision
    }

    /// The pods whose directories to look for.
    pub fn wanted(&self) -> impl Iterator<Item = &str> {
        self.pods.values().filter(|s| s.wanted).map(|s| s.watched.uid.as_str())
    }

    /// Takes all directories that hold a wanted pod, as (uid, path). What is missing has vanished.
    pub fn found(&mut self, now: Now, directories: &[(String, String)]) -> Vec<Action> {
        let directories: BTreeMap<&str, &str> =
            directories.iter().map(|(uid, path)| (uid.as_str(), path.as_str())).collect();
        let mut actions = Vec::new();
        for (uid, state) in &mut self.pods {
            match state.scan(now, directories.get(uid.as_str()).copied()) {
                Need::Nothing => {}
                Need::Attach(directory) => actions.push(Action::Attach {
                    uid: uid.clone(),
                    directory,
                    ports: state.watched.ports.clone(),
                    probes: state.watched.probes.clone(),
                }),
                Need::Release => actions.push(Action::Release { uid: uid.clone() }),
            }
        }
        actions
    }

    /// The shell has attached to the pod; its counters start at 0.
    pub fn attached(&mut self, now: Now, uid: &str) {
        self.generation += 1;
        if let Some(state) = self.pods.get_mut(uid) {
            state.attached(now, self.generation);
        }
    }

    /// The shell could not attach; it is asked again after a back-off of 1 s, 2 s … 60 s.
    pub fn attach_failed(&mut self, now: Now, uid: &str, reason: NotMeasurable) {
        self.health.attach_failures += 1;
        if let Some(state) = self.pods.get_mut(uid) {
            state.attach_failed(now, reason);
        }
    }

    /// Takes what the shell read this poll. A report, when one is due: once a second, and at once on a burst.
    pub fn tick(&mut self, now: Now, readings: Vec<Reading>, own: OwnUse) -> Option<NodeReport> {
        for state in self.pods.values_mut() {
            state.sample = None;
        }
        for reading in readings {
            self.read(now, reading);
        }
        self.depart(now);
        let burst = self.observe(now);
        let due = self.reported.is_none_or(|at| {
            now.mono.seconds_since(at) >= REPORT_SECONDS - REPORT_SLACK_SECONDS || at > now.mono
        });
        if !burst && !due {
            return None;
        }
        self.reported = Some(now.mono);
        self.sequence += 1;
        self.health.cpu_ns = own.cpu_ns;
        self.health.memory_bytes = own.memory_bytes;
        Some(self.report(now))
    }

    /// As [`Self::tick`], for the last time: the agent stops, and its report goes out whether it is due or not.
    pub fn finish(&mut self, now: Now, readings: Vec<Reading>, own: OwnUse) -> NodeReport {
        self.reported = None;
        self.tick(now, readings, own).expect("without an earlier report one is due")
    }

    fn read(&mut self, now: Now, reading: Reading) {
        let Some(state) = self.pods.get_mut(&reading.uid).filter(|s| s.is_read()) else { return };
        if let Err(e) = state.read(now, reading.counters, reading.resources) {
            self.health.refused_samples += 1;
            if let SampleError::WentBack { .. } = e {
                // Another life of the counters: a new key, so that the totals before are kept.
                self.generation += 1;
                state.generation = self.generation;
            }
        }
    }

    /// Moves the pods whose last counters have been read to the departed.
    fn depart(&mut self, now: Now) {
        for state in self.pods.values_mut() {
            if let Some(Some(report)) = state.leave(now, 0) {
                let workload = state.watched.workload.clone();
                self.departed.push_back(Departed { workload, report, since: now.mono });
            }
        }
        self.pods.retain(|_, state| state.wanted || state.holds());
        self.departed.retain(|d| now.mono.seconds_since(d.since) < LAST_REPEATED_SECONDS);
        while self.departed.len() + self.pods.len() > MAX_PODS && self.departed.pop_front().is_some() {}
    }

    /// Feeds each workload's samples to its forecast and detector. True when a burst flag rises.
    fn observe(&mut self, now: Now) -> bool {
        let mut samples: BTreeMap<&WorkloadId, Vec<(&str, &Sample)>> = BTreeMap::new();
        for (uid, state) in &self.pods {
            let of_workload = samples.entry(&state.watched.workload).or_default();
            if let Some(sample) = state.sample.as_ref().filter(|_| state.is_attached()) {
                of_workload.push((uid, sample));
            }
        }
        self.workloads.retain(|id, _| samples.contains_key(id));
        let mut burst = false;
        for (id, samples) in samples {
            let workload = self.workloads.entry(id.clone()).or_insert_with(LocalWorkload::new);
            burst |= workload.observe(now, &samples);
        }
        burst
    }

    fn report(&self, now: Now) -> NodeReport {
        let mut ids: Vec<&WorkloadId> = self.pods.values().map(|s| &s.watched.workload).collect();
        ids.extend(self.departed.iter().map(|d| &d.workload));
        ids.sort_unstable();
        ids.dedup();
        let index = |id: &WorkloadId| ids.binary_search(&id).expect("every pod's workload was put in");
        let departed =
            self.departed.iter().map(|d| PodReport { workload: index(&d.workload), ..d.report.clone() });
        let pods = self
            .pods
            .values()
            .map(|state| state.report(index(&state.watched.workload)))
            .chain(departed)
            .collect();
        let mut health = self.health;
        health.attached = self.pods.values().filter(|s| s.is_attached()).count() as u32;
        NodeReport {
            version: VERSION,
            node: self.settings.node.clone(),
            boot_id: self.settings.boot_id.clone(),
            agent_start: self.settings.agent_start,
            sequence: self.sequence,
            sent: now.wall,
            workloads: ids.iter().map(|id| self.node_workload(now, id)).collect(),
            pods,
            agent: health,
        }
    }

    fn node_workload(&self, now: Now, id: &WorkloadId) -> crate::wire::NodeWorkload {
        match self.workloads.get(id) {
            Some(workload) => workload.report(now, id),
            None => crate::wire::NodeWorkload { id: id.clone(), forecast: None, burst: None },
        }
    }

    /// The watched pods, for metrics.
    pub fn pods(&self) -> impl Iterator<Item = PodView<'_>> {
        self.pods.values().map(|state| PodView {
            pod: &state.watched,
            state: state.state(),
            attach_lag_seconds: state.attach_lag_seconds,
            counters: state.newest.as_ref().map(|(counters, ..)| counters),
            resources: state.newest.as_ref().map(|(_, resources, _)| *resources),
            sample: state.sample.as_ref(),
            censored: state.censored(),
        })
    }

    /// The workloads of the watched pods, for metrics.
    pub fn workloads(&self, now: Now) -> impl Iterator<Item = WorkloadView<'_>> {
        self.workloads.iter().map(move |(id, workload)| WorkloadView {
            id,
            rate: workload.rate(),
            forecast: workload.forecast(now),
            burst: workload.burst(),
        })
    }

    /// The agent's own state as of the last tick.
    pub fn health(&self) -> AgentHealth {
        self.health
    }
}
