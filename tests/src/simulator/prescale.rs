//! Prescale in the simulated world: the very `Node` and `Cluster` brains, with only encoded bytes between them.

use prescale_core::cluster::{Cluster, ClusterSettings, Outcome};
use prescale_core::node::{Action, Node, NodeSettings, OwnUse, Reading};
use prescale_core::plan::{Limiter, Plan};
use prescale_core::units::RequestsPerSecond;
use prescale_core::wire::{NodeReport, Resources, WatchList};
use prescale_core::{Mono, Now, Wall};

use super::Fault;
use super::load::Load;
use super::pod::{Nanos, SECOND};
use super::random::noise;
use super::world::{World, node_name};

/// Midnight of the simulated day: Monday, 2 March 2026, UTC, milliseconds.
const DAY_MS: i64 = 1_772_409_600_000;
/// Each machine was up for some time before; kernels don't agree on it.
const UPTIME_SECONDS: u64 = 1_000_000;
/// Days of history that are imported before the start: what a Prometheus of the usual retention holds at least.
const HISTORY_DAYS: f64 = 6.0;
/// A node polls at this offset into each second, the next one so much later, nanoseconds.
const FIRST_POLL: Nanos = SECOND / 10;
const NEXT_POLL: Nanos = SECOND / 5;
/// The aggregator ticks at this offset.
const TICK: Nanos = 9 * SECOND / 10;

/// Prescale's agents and aggregator.
pub struct Prescale {
    nodes: Vec<Node>,
    cluster: Cluster,
    start_ms: i64,
    history: Vec<(Wall, RequestsPerSecond)>,
    faults: Vec<Fault>,
    /// Bytes that went over the wire.
    pub wire_bytes: u64,
    /// Limiter that had the last word at the last tick.
    pub reason: Option<Limiter>,
    /// Whether the last tick held.
    pub holding: bool,
    /// Reports that the aggregator refused.
    pub refused: u64,
}

impl Prescale {
    /// Agents on every node and an aggregator that was given six days of history.
    pub fn new(
        seed: u64,
        world: &World,
        load: &Load,
        start_seconds: f64,
        nodes: usize,
        faults: Vec<Fault>,
    ) -> Self {
        let start_ms = DAY_MS + (start_seconds * 1e3) as i64;
        let node = |i: usize| {
            Node::new(NodeSettings {
                node: node_name(i),
                boot_id: format!("boot-{i}"),
                agent_start: Wall(start_ms - 1000),
            })
        };
        let mut prescale = Self {
            nodes: (0..nodes).map(node).collect(),
            cluster: Cluster::new(ClusterSettings::default()),
            start_ms,
            history: history(seed, load, start_seconds),
            faults,
            wire_bytes: 0,
            reason: None,
            holding: false,
            refused: 0,
        };
        prescale.import(world);
        prescale
    }

    fn import(&mut self, world: &World) {
        let now = self.now(world.now());
        self.cluster.world(now, &[world.state()]);
        self.cluster.import(now, world.id(), &self.history);
    }

    fn now(&self, at: Nanos) -> Now {
        Now { mono: Mono(UPTIME_SECONDS * SECOND + at), wall: Wall(self.start_ms + (at / 1_000_000) as i64) }
    }

    /// One second of all agents and the aggregator, in which the world goes on.
    pub fn second(&mut self, world: &mut World, second: u64) {
        let start = second * SECOND;
        if self.faults.iter().any(|f| f.restarts_at(second)) {
            self.cluster = Cluster::new(ClusterSettings::default());
            self.import(world);
        }
        for node in 0..self.nodes.len() {
            world.advance(start + FIRST_POLL + node as u64 * NEXT_POLL);
            if self.poll(world, node, second) {
                self.tick(world);
            }
        }
        world.advance(start + TICK);
        let state = world.state();
        self.cluster.world(self.now(world.now()), &[state]);
        self.tick(world);
        world.advance(start + SECOND);
    }

    /// One poll of an agent. True when the aggregator shall decide at once.
    fn poll(&mut self, world: &mut World, index: usize, second: u64) -> bool {
        let at = world.now();
        let now = self.now(at);
        // Nodes' kernels started at different times.
        let boot_ns = (UPTIME_SECONDS + 1000 * index as u64) * SECOND;
        let list = self.cluster.watch_list(&node_name(index));
        let node = &mut self.nodes[index];
        if node.revision() != Some(list.revision) {
            let bytes = list.encode();
            self.wire_bytes += bytes.len() as u64;
            node.watch(now, WatchList::decode(&bytes).expect("the aggregator's own list is readable"));
        }
        let directories = world.directories(index);
        let mut uids: Vec<String> = node.pods().map(|p| p.pod.uid.clone()).collect();
        for action in node.found(now, &directories) {
            match action {
                Action::Attach { uid, .. } => {
                    if let Some(pod) = world.pod_mut(&uid) {
                        pod.attach(at);
                    }
                    node.attached(now, &uid);
                }
                Action::Release { uid } => uids.push(uid),
            }
        }
        uids.sort_unstable();
        uids.dedup();
        let mut readings = Vec::with_capacity(uids.len());
        for uid in uids {
            if let Some(counters) = world.pod_mut(&uid).and_then(|pod| pod.read(at, boot_ns)) {
                readings.push(Reading { uid, counters, resources: Resources::default() });
            }
        }
        let Some(mut report) = node.tick(now, readings, OwnUse::default()) else { return false };
        if self.faults.iter().any(|f| f.stops_reports(second)) {
            return false;
        }
        if self.faults.iter().any(|f| f.wrong_unit(second)) {
            in_seconds(&mut report);
        }
        let bytes = report.encode();
        self.wire_bytes += bytes.len() as u64;
        let report = NodeReport::decode(&bytes).expect("an agent's own report is readable");
        match self.cluster.report(now, &report) {
            Ok(accepted) => accepted.burst,
            Err(_) => {
                self.refused += 1;
                false
            }
        }
    }

    fn tick(&mut self, world: &mut World) {
        let now = self.now(world.now());
        let plan: Plan = self.cluster.tick(now);
        if let Some(planned) = plan.report.first() {
            self.reason = Some(planned.reason());
            self.holding = planned.steps.iter().any(|s| matches!(s.limiter, Limiter::Hold(_)));
        }
        for decision in plan.decisions {
            let outcome = match world.scale(decision.replicas, decision.resource_version) {
                Some(resource_version) => Outcome::Applied { resource_version },
                None => Outcome::Conflict,
            };
            self.cluster.outcome(now, &decision.workload, outcome);
            self.cluster.world(now, &[world.state()]);
        }
    }

    /// Plans that broke a rule of the checker.
    pub fn violations(&self) -> u64 {
        self.cluster.violations().map(|(_, count)| count).sum()
    }
}

/// Timestamps in seconds where milliseconds belong.
fn in_seconds(report: &mut NodeReport) {
    report.sent.0 /= 1000;
    for pod in &mut report.pods {
        pod.read.0 /= 1000;
    }
}

/// Minute means of the days before the start, with the chance that a minute's count has.
fn history(seed: u64, load: &Load, start_seconds: f64) -> Vec<(Wall, RequestsPerSecond)> {
    let first = libm::floor((start_seconds - HISTORY_DAYS * 86_400.0) / 60.0) as i64;
    let last = libm::floor(start_seconds / 60.0) as i64;
    (first..last)
        .map(|minute| {
            let rate = load.at(minute as f64 * 60.0 + 30.0);
            // A uniform variable of the Poisson mean's variance.
            let chance = (3.0 * rate / 60.0).sqrt() * noise(seed ^ 0x415, minute);
            let value = RequestsPerSecond::new((rate + chance).max(0.0)).expect("finite and not negative");
            (Wall(DAY_MS + minute * 60_000), value)
        })
        .collect()
}
