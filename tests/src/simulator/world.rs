//! The deterministic world: arrivals, a load balancer, pods that take time to start, callers that wait, hang up and
//! try again, and a `/scale` that can be written.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use prescale_core::world::{Pod, PodPhase, WorkloadId, WorkloadSettings, WorkloadState};

use super::load::Load;
use super::pod::{Ended, Nanos, SECOND, SimPod};
use super::random::Random;
use super::tally::Tally;

/// How the world behaves.
#[derive(Clone, Debug)]
pub struct Physics {
    /// Requests that one pod works on at a time.
    pub slots: usize,
    /// Mean service time, seconds; exponential around it, no less than a fifth: half is fixed work.
    pub service_seconds: f64,
    /// From a pod's creation until it serves, seconds.
    pub start_up_seconds: f64,
    /// Callers hang up after so long, seconds.
    pub patience_seconds: f64,
    /// How often a caller whose request failed tries again.
    pub retries: u32,
    /// Callers that wait for an answer and think for a second before they ask again, beside the open load.
    pub closed_loop_callers: u32,
    /// Nodes, round which pods are dealt.
    pub nodes: usize,
}

impl Default for Physics {
    fn default() -> Self {
        Self {
            slots: 2,
            service_seconds: 0.1,
            start_up_seconds: 30.0,
            patience_seconds: 10.0,
            retries: 0,
            closed_loop_callers: 0,
            nodes: 3,
        }
    }
}

/// From a pod's creation until its cgroup appears, seconds: the scheduler and the kubelet.
const DIRECTORY_SECONDS: u64 = 2;
/// From a decision to drop a pod until the balancer knows, seconds: endpoint changes spread.
const ENDPOINT_SECONDS: u64 = 1;
/// A pod that leaves is killed after so long, seconds: Kubernetes' default grace.
const GRACE_SECONDS: u64 = 30;
/// A closed-loop caller thinks for so long on average, seconds.
const THINK_SECONDS: f64 = 1.0;
/// A caller whose request failed waits so long before it tries again, seconds.
const RETRY_SECONDS: f64 = 0.5;
/// The first requests come after so long, seconds: the first pods are measured by then.
pub const QUIET_SECONDS: u64 = 5;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Ready(usize),
    OutOfBalance(usize),
    Gone(usize),
    /// An arrival that is not part of the open load: tries left, and whether its caller will be back.
    Arrival {
        tries: u32,
        again: bool,
    },
}

/// The world of one workload.
pub struct World {
    physics: Physics,
    settings: WorkloadSettings,
    id: WorkloadId,
    load: Load,
    start_seconds: f64,
    now: Nanos,
    pods: Vec<SimPod>,
    /// Indices into `pods`: served by the balancer; alive or not yet released.
    balanced: Vec<usize>,
    present: Vec<usize>,
    events: BinaryHeap<Reverse<(Nanos, u64, Event)>>,
    serial: u64,
    next_open: Nanos,
    rate_second: Option<u64>,
    rate: f64,
    arrivals: Random,
    services: Random,
    replicas: u32,
    resource_version: u64,
    /// What callers saw and what it cost.
    pub tally: Tally,
}

impl World {
    /// A world with `replicas` pods that serve from the start, `start_seconds` into the day.
    pub fn new(
        seed: u64,
        load: Load,
        start_seconds: f64,
        physics: Physics,
        settings: WorkloadSettings,
        replicas: u32,
    ) -> Self {
        let id = WorkloadId { namespace: "simulated".to_owned(), name: "web".to_owned() };
        let objective_seconds = settings.slo_seconds.unwrap_or(1.0);
        let mut world = Self {
            settings,
            id,
            load,
            start_seconds,
            now: 0,
            pods: Vec::new(),
            balanced: Vec::new(),
            present: Vec::new(),
            events: BinaryHeap::new(),
            serial: 0,
            next_open: QUIET_SECONDS * SECOND,
            rate_second: None,
            rate: 0.0,
            arrivals: Random::new(seed, 0xA1),
            services: Random::new(seed, 0x5E),
            replicas,
            resource_version: 1,
            tally: Tally::new(objective_seconds),
            physics,
        };
        for _ in 0..replicas {
            let pod = world.create();
            world.serve(pod);
        }
        for _ in 0..world.physics.closed_loop_callers {
            let at = world.next_open + nanos(world.arrivals.exponential(THINK_SECONDS));
            world.schedule(at, Event::Arrival { tries: 0, again: true });
        }
        world.draw_open();
        world
    }

    /// Now.
    pub fn now(&self) -> Nanos {
        self.now
    }

    /// The workload.
    pub fn id(&self) -> &WorkloadId {
        &self.id
    }

    /// `spec.replicas`.
    pub fn replicas(&self) -> u32 {
        self.replicas
    }

    /// Pods that serve.
    pub fn ready(&self) -> usize {
        self.balanced.len()
    }

    /// Arrivals per second that the open load has at `seconds` after the simulation's start.
    pub fn load_at(&self, seconds: f64) -> f64 {
        self.load.at(self.start_seconds + seconds)
    }

    /// Lets everything happen until `until`.
    pub fn advance(&mut self, until: Nanos) {
        loop {
            let event = self.events.peek().map_or(Nanos::MAX, |Reverse((at, ..))| *at);
            if event.min(self.next_open) > until {
                break;
            }
            if event <= self.next_open {
                let Some(Reverse((at, _, event))) = self.events.pop() else { break };
                self.now = at;
                self.happen(event);
            } else {
                self.now = self.next_open;
                self.arrive(self.physics.retries, false);
                self.draw_open();
            }
        }
        self.now = until;
        for &pod in &self.present {
            let tally = &mut self.tally;
            self.pods[pod].pass(until, &mut |ended| tally.ended(ended));
        }
    }

    fn schedule(&mut self, at: Nanos, event: Event) {
        self.serial += 1;
        self.events.push(Reverse((at, self.serial, event)));
    }

    /// Draws the next arrival of the open load: Poisson, its rate that of the second it falls into.
    fn draw_open(&mut self) {
        let mut at = self.next_open;
        loop {
            let second = at / SECOND;
            if self.rate_second != Some(second) {
                self.rate_second = Some(second);
                self.rate = self.load_at(second as f64);
            }
            let gap = nanos(self.arrivals.exponential(1.0 / self.rate.max(1e-9)));
            if (at + gap) / SECOND == second {
                self.next_open = at + gap.max(1);
                return;
            }
            // Memoryless: at the second's end the clock starts anew with the next second's rate.
            at = (second + 1) * SECOND;
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Ready(pod) if self.pods[pod].phase == PodPhase::Starting => self.serve(pod),
            Event::Ready(_) => {}
            Event::OutOfBalance(pod) => self.balanced.retain(|p| *p != pod),
            Event::Gone(pod) => self.gone(pod),
            Event::Arrival { tries, again } => self.arrive(tries, again),
        }
    }

    fn arrive(&mut self, tries: u32, again: bool) {
        self.tally.arrived();
        let Some(pod) = self.balance() else {
            // Nobody serves: refused at once.
            self.tally.refused();
            self.come_back(self.now, tries, again, false);
            return;
        };
        let tally = &mut self.tally;
        let pod = &mut self.pods[pod];
        pod.pass(self.now, &mut |ended: Ended| tally.ended(ended));
        let fixed = self.physics.service_seconds / 2.0;
        let service = nanos(fixed + self.services.exponential(fixed));
        let (end, complete) = pod.request(self.now, service, nanos(self.physics.patience_seconds));
        self.come_back(end, tries, again, complete);
    }

    fn come_back(&mut self, end: Nanos, tries: u32, again: bool, complete: bool) {
        if !complete && tries > 0 {
            self.schedule(end + nanos(RETRY_SECONDS), Event::Arrival { tries: tries - 1, again });
        } else if again {
            let think = nanos(self.arrivals.exponential(THINK_SECONDS));
            self.schedule(end + think.max(1), Event::Arrival { tries: self.physics.retries, again });
        }
    }

    /// The less busy of two pods drawn at random.
    fn balance(&mut self) -> Option<usize> {
        let n = self.balanced.len();
        if n == 0 {
            return None;
        }
        let (a, b) = (self.balanced[self.services.below(n)], self.balanced[self.services.below(n)]);
        Some(if self.pods[b].in_flight() < self.pods[a].in_flight() { b } else { a })
    }

    fn create(&mut self) -> usize {
        let index = self.pods.len();
        // The node with the fewest pods, the first of those.
        let count = |node: usize| self.present.iter().filter(|p| self.pods[**p].node == node).count();
        let node = (0..self.physics.nodes).min_by_key(|node| (count(*node), *node)).unwrap_or(0);
        self.pods.push(SimPod::new(format!("pod-{index:05}"), node, self.now, self.physics.slots));
        self.present.push(index);
        self.tally.pods(self.now, self.present.len());
        index
    }

    fn serve(&mut self, pod: usize) {
        self.pods[pod].phase = PodPhase::Ready;
        self.balanced.push(pod);
    }

    fn gone(&mut self, pod: usize) {
        let tally = &mut self.tally;
        self.pods[pod].kill(self.now, &mut |ended| tally.ended(ended));
        self.present.retain(|p| *p != pod);
        self.tally.pods(self.now, self.present.len());
    }

    /// Writes `/scale`. The new version, or `None` when the version had changed.
    pub fn scale(&mut self, replicas: u32, resource_version: u64) -> Option<u64> {
        if resource_version != self.resource_version {
            return None;
        }
        self.resource_version += 1;
        if replicas != self.replicas {
            self.tally.scaled(self.now, self.replicas, replicas);
        }
        self.replicas = replicas;
        let alive = |world: &Self| -> Vec<usize> {
            let stays = |p: &&usize| world.pods[**p].phase != PodPhase::Terminating;
            world.present.iter().filter(stays).copied().collect()
        };
        while alive(self).len() < replicas as usize {
            let pod = self.create();
            // Starts vary by a tenth either way.
            let seconds = self.physics.start_up_seconds * (0.9 + 0.2 * self.services.unit());
            self.schedule(self.now + nanos(seconds), Event::Ready(pod));
        }
        while alive(self).len() > replicas as usize {
            // As the ReplicaSet controller does: those that don't serve yet first, then the newest.
            let rank = |p: &usize| (self.pods[*p].phase == PodPhase::Starting, *p);
            let Some(pod) = alive(self).into_iter().max_by_key(rank) else { break };
            self.leave(pod);
        }
        Some(self.resource_version)
    }

    fn leave(&mut self, pod: usize) {
        let now = self.now;
        let is_starting = self.pods[pod].phase == PodPhase::Starting;
        self.pods[pod].phase = PodPhase::Terminating;
        // It drains for as long as its line is, at most the grace; a pod that never served leaves at once.
        let wait = if is_starting {
            ENDPOINT_SECONDS
        } else {
            GRACE_SECONDS.min(2 + ENDPOINT_SECONDS + self.drain_seconds(pod))
        };
        self.schedule(now + ENDPOINT_SECONDS * SECOND, Event::OutOfBalance(pod));
        self.schedule(now + wait * SECOND, Event::Gone(pod));
    }

    fn drain_seconds(&self, pod: usize) -> u64 {
        let line = self.pods[pod].in_flight() as f64 / self.physics.slots as f64;
        libm::ceil(line * self.physics.service_seconds) as u64
    }

    /// The workload as the target sees it.
    pub fn state(&self) -> WorkloadState {
        let pod = |p: &usize| {
            let pod = &self.pods[*p];
            Pod {
                uid: pod.uid.clone(),
                name: format!("web-{}", pod.uid),
                node: node_name(pod.node),
                phase: pod.phase,
                ports: Vec::new(),
                probes: Vec::new(),
                start_seconds: None,
            }
        };
        WorkloadState {
            id: self.id.clone(),
            settings: self.settings.clone(),
            replicas: self.replicas,
            resource_version: self.resource_version,
            pods: self.present.iter().map(pod).collect(),
        }
    }

    /// The cgroup directories of a node, as (uid, path).
    pub fn directories(&self, node: usize) -> Vec<(String, String)> {
        let there = |p: &&usize| {
            let pod = &self.pods[**p];
            pod.node == node && pod.created + DIRECTORY_SECONDS * SECOND <= self.now
        };
        let path = |p: &usize| {
            let uid = &self.pods[*p].uid;
            (uid.clone(), format!("/sys/fs/cgroup/kubepods/pod{uid}"))
        };
        self.present.iter().filter(there).map(path).collect()
    }

    /// A pod, whether it is still there or not.
    pub fn pod_mut(&mut self, uid: &str) -> Option<&mut SimPod> {
        let index: usize = uid.strip_prefix("pod-")?.parse().ok()?;
        self.pods.get_mut(index)
    }
}

/// A node's name.
pub fn node_name(node: usize) -> String {
    format!("node-{node}")
}

fn nanos(seconds: f64) -> Nanos {
    (seconds * 1e9) as Nanos
}
