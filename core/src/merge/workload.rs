//! One workload: its pods' loads, summed; what is missing, and what may not be believed.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::demand::{Demand, Hold, Latency, PodLoad, Second, Totals};
use super::node::NodeState;
use super::pod::{Key, PodMerge, Rates, Taken};
use super::{MAX_UNKNOWN_PODS, MergeSettings, RETIRE_SECONDS, local};
use crate::counters::Histogram;
use crate::time::{Mono, Now};
use crate::units::{Concurrency, RequestsPerSecond};
use crate::wire::{Censored, NodeReport, PodReport, PodState};
use crate::world::{PodPhase, WorkloadId, WorkloadState};

/// Share of the ready pods that has to be heard for the rest to be estimated from them. Pods behind one Service do
/// alike; below half the estimate says more about the silent ones than about the heard ones.
const MIN_SHARE: f64 = 0.5;
/// Latency slots: the current one and the four before, of so many seconds each.
const LATENCY_SLOTS: usize = 5;
const LATENCY_SLOT_SECONDS: f64 = 2.0;
/// Pods that report this many times the load of their siblings on other nodes, or less than one part of it, are not
/// believed: least-connection and keep-alive balancing differ by two or three.
const FAR: f64 = 10.0;
/// Beyond chance, too: this many standard deviations of a Poisson count.
const FAR_SIGMAS: f64 = 5.0;
/// Nodes that it takes to say which of them is far off.
const MIN_NODES: usize = 3;
/// A pod that was heard first less than this ago, seconds, may have little load: connections move over slowly.
const NEW_POD_SECONDS: f64 = 120.0;
/// Impossible counters hold for so long, seconds; a pod that keeps sending them renews it.
const IMPOSSIBLE_SECONDS: f64 = 30.0;
/// With this share of the received bytes on connections whose requests can't be read, the load is not known: those that
/// can be read say too little. Below it, the plan's margins cover what is missing.
const UNREAD_SHARE: f64 = 0.1;
/// It holds for so long after, seconds: as long as Kubernetes' own default for scaling in looks back.
const UNREAD_SECONDS: f64 = 300.0;
/// Most seconds that are closed by one call; older ones are gaps.
const MAX_SECONDS: i64 = 600;

/// A workload's state in the merge.
#[derive(Debug, Default)]
pub(super) struct WorkloadMerge {
    pods: BTreeMap<String, PodMerge>,
    /// Totals of the pods that are retired.
    base: Totals,
    /// Newest last: slot number and the latencies in it.
    latency: VecDeque<(u64, Histogram)>,
    /// The next second to close.
    next_second: Option<i64>,
    /// Nodes whose pods are far above their siblings.
    far: BTreeSet<String>,
    /// When too much of what the pods received could not be read, and its share.
    unread: Option<(Mono, f64)>,
}

impl WorkloadMerge {
    pub(super) fn world(&mut self, now: Now, state: &WorkloadState) {
        self.next_second.get_or_insert(now.wall.unix_seconds());
        for pod in self.pods.values_mut() {
            pod.phase = None;
        }
        for pod in &state.pods {
            let known = self.pods.entry(pod.uid.clone()).or_insert_with(|| PodMerge::new(now, &pod.node));
            known.phase = Some(pod.phase);
        }
        let base = &mut self.base;
        self.pods.retain(|_, pod| {
            let keep = pod.phase.is_some() || pod.silent_for(now) < RETIRE_SECONDS;
            if !keep {
                base.add(&pod.totals());
            }
            keep
        });
    }

    pub(super) fn report(
        &mut self,
        now: Now,
        report: &NodeReport,
        pod: &PodReport,
        key: Key,
        correction_ms: i64,
        newest: bool,
    ) -> Taken {
        if !self.pods.contains_key(&pod.uid) {
            if self.pods.values().filter(|p| p.phase.is_none()).count() >= MAX_UNKNOWN_PODS {
                return Taken::Unknown;
            }
            self.pods.insert(pod.uid.clone(), PodMerge::new(now, &report.node));
        }
        let known = self.pods.get_mut(&pod.uid).expect("inserted above");
        // The last counters of an attach that is over say nothing of the pod's state now.
        if newest && !pod.last {
            known.node.clone_from(&report.node);
            known.state = pod.state;
            known.censored = pod.censored;
        }
        let (taken, latency) = known.report(now, report, pod, key, correction_ms);
        if let Some(latency) = latency {
            let slot = (now.mono.0 as f64 / (LATENCY_SLOT_SECONDS * 1e9)) as u64;
            match self.latency.back_mut() {
                Some((newest, histogram)) if *newest == slot => histogram.add(&latency),
                _ => self.latency.push_back((slot, latency)),
            }
            self.forget_latency(slot);
        }
        taken
    }

    fn forget_latency(&mut self, slot: u64) {
        while self.latency.front().is_some_and(|(old, _)| old + (LATENCY_SLOTS as u64) <= slot) {
            self.latency.pop_front();
        }
    }

    pub(super) fn totals(&self) -> Totals {
        let mut sum = self.base.clone();
        for pod in self.pods.values() {
            sum.add(&pod.totals());
        }
        sum
    }

    pub(super) fn demand(
        &mut self,
        now: Now,
        id: &WorkloadId,
        settings: &MergeSettings,
        nodes: &BTreeMap<String, NodeState>,
    ) -> Demand {
        self.forget_latency((now.mono.0 as f64 / (LATENCY_SLOT_SECONDS * 1e9)) as u64);
        let is_fresh = |pod: &PodMerge| {
            pod.age_seconds(now).is_some_and(|age| age <= settings.fresh_seconds)
                && nodes.get(&pod.node).is_none_or(|n| n.clock.is_none())
        };
        let loads: Vec<(&String, &PodMerge, Option<Rates>)> = self
            .pods
            .iter()
            .map(|(uid, pod)| (uid, pod, if is_fresh(pod) { pod.newest() } else { None }))
            .collect();
        let far = far_from_siblings(now, &loads);
        self.far = far.iter().filter(|(_, ratio)| *ratio > 1.0).map(|(node, _)| node.clone()).collect();

        let mut sum = Sum::default();
        let mut in_flight = 0;
        for (_, pod, rates) in &loads {
            let believed = rates.filter(|_| !self.far.contains(&pod.node));
            sum.add(pod.phase, believed);
            if believed.is_some() {
                in_flight += pod.in_flight();
            }
        }
        let total = sum.total();
        let quantity = |of: fn(&Rates) -> f64| total.and_then(|t| RequestsPerSecond::new(of(&t)).ok());
        let ready: Vec<_> = loads.iter().filter(|(_, p, _)| p.phase == Some(PodPhase::Ready)).collect();
        let fresh = ready.iter().filter(|(_, p, _)| is_fresh(p)).count();
        let freshness = if ready.is_empty() { 1.0 } else { fresh as f64 / ready.len() as f64 };
        let views = views(now, id, settings, nodes, &loads, &self.far);
        let hold = hold(now, settings, nodes, &loads, (fresh, ready.len()), &far);
        if let Some(share) = unread_share(&loads).filter(|share| *share >= UNREAD_SHARE) {
            self.unread = Some((now.mono, share));
        }
        let unread = self.unread.filter(|(at, _)| now.mono.seconds_since(*at) < UNREAD_SECONDS);
        let hold = hold.or(unread.map(|(_, share)| Hold::Unread { share }));
        let window = self.latency.iter().fold(Histogram::default(), |mut sum, (_, slot)| {
            sum.add(slot);
            sum
        });
        Demand {
            rate: quantity(|r| r.starts),
            finish_rate: quantity(|r| r.finishes),
            error_rate: quantity(|r| r.errors),
            concurrency: total.and_then(|t| Concurrency::new(t.concurrency).ok()),
            in_flight,
            latency: Latency::of(&window),
            censored: censored(&loads),
            freshness,
            hold,
            local_forecast: local::merged_forecast(
                views.iter().filter_map(|node| node.forecast),
                ready.len(),
            ),
            burst: local::burst(&views),
            pods: loads.iter().map(|(uid, pod, rates)| pod_load(now, uid, pod, *rates)).collect(),
        }
    }

    /// The next seconds that are complete, or that have waited long enough.
    pub(super) fn seconds(&mut self, now: Now, settings: &MergeSettings) -> Vec<Second> {
        let over = now.wall.unix_seconds();
        let mut next = self.next_second.unwrap_or(over).max(over - MAX_SECONDS);
        let mut out = Vec::new();
        while next < over {
            let end_ms = (next + 1) * 1000;
            let complete =
                self.pods.values().filter(|p| p.phase == Some(PodPhase::Ready)).all(|p| p.reaches(end_ms));
            let waited_ms = now.wall.0.saturating_sub(end_ms);
            if !complete && (waited_ms as f64) < settings.fresh_seconds * 1e3 {
                break;
            }
            out.push(self.second(next));
            next += 1;
        }
        self.next_second = Some(next);
        out
    }

    fn second(&self, unix_seconds: i64) -> Second {
        let mut sum = Sum::default();
        let mut is_censored = false;
        for pod in self.pods.values() {
            let (rates, covered) = pod.second(unix_seconds * 1000);
            let believed = !self.far.contains(&pod.node);
            // A ready pod that was heard for half of the second did the same in the other half.
            let rates = if pod.phase == Some(PodPhase::Ready) {
                (covered >= 0.5 && believed).then(|| rates.scaled(1.0 / covered))
            } else {
                (covered > 0.0 && believed).then_some(rates)
            };
            is_censored |= rates.is_some() && pod.censored.is_some();
            sum.add(pod.phase, rates);
        }
        let total = sum.total();
        Second {
            unix_seconds,
            load: total.and_then(|t| RequestsPerSecond::new(t.starts).ok()),
            concurrency: total.and_then(|t| Concurrency::new(t.concurrency).ok()),
            censored: is_censored && total.is_some(),
        }
    }
}

impl Rates {
    fn scaled(self, by: f64) -> Self {
        Self {
            starts: self.starts * by,
            finishes: self.finishes * by,
            errors: self.errors * by,
            concurrency: self.concurrency * by,
        }
    }

    fn add(&mut self, other: Self) {
        self.starts += other.starts;
        self.finishes += other.finishes;
        self.errors += other.errors;
        self.concurrency += other.concurrency;
    }
}

/// The sum over pods, with what the ready and unheard ones are taken to do.
#[derive(Default)]
struct Sum {
    ready: Rates,
    heard: usize,
    unheard: usize,
    others: Rates,
    others_heard: bool,
}

impl Sum {
    fn add(&mut self, phase: Option<PodPhase>, rates: Option<Rates>) {
        match (phase == Some(PodPhase::Ready), rates) {
            (true, Some(rates)) => {
                self.ready.add(rates);
                self.heard += 1;
            }
            (true, None) => self.unheard += 1,
            (false, Some(rates)) => {
                self.others.add(rates);
                self.others_heard = true;
            }
            (false, None) => {}
        }
    }

    fn total(&self) -> Option<Rates> {
        let ready = self.heard + self.unheard;
        if ready == 0 {
            return self.others_heard.then_some(self.others);
        }
        if (self.heard as f64) < MIN_SHARE * ready as f64 {
            return None;
        }
        let mut total = self.ready.scaled(ready as f64 / self.heard as f64);
        total.add(self.others);
        Some(total)
    }
}

type Load<'a> = (&'a String, &'a PodMerge, Option<Rates>);

fn pod_load(now: Now, uid: &str, pod: &PodMerge, rates: Option<Rates>) -> PodLoad {
    PodLoad {
        uid: uid.to_owned(),
        node: pod.node.clone(),
        phase: pod.phase,
        state: pod.state,
        age_seconds: pod.age_seconds(now),
        rate: rates.and_then(|r| RequestsPerSecond::new(r.starts).ok()),
        concurrency: rates.and_then(|r| Concurrency::new(r.concurrency).ok()),
        in_flight: pod.in_flight(),
        latency: rates.and(pod.latency),
        censored: pod.censored,
    }
}

/// A backlog anywhere says more than throttling somewhere.
fn censored(loads: &[Load<'_>]) -> Option<Censored> {
    let mut reasons = loads.iter().filter(|(.., rates)| rates.is_some()).filter_map(|(_, p, _)| p.censored);
    reasons.clone().find(|r| *r == Censored::Backlog).or_else(|| reasons.next())
}

fn views<'a>(
    now: Now,
    id: &WorkloadId,
    settings: &MergeSettings,
    nodes: &'a BTreeMap<String, NodeState>,
    loads: &[Load<'_>],
    far: &BTreeSet<String>,
) -> Vec<local::NodeView<'a>> {
    let mut by_node: BTreeMap<&str, f64> = BTreeMap::new();
    for (_, pod, rates) in loads {
        *by_node.entry(&pod.node).or_default() += rates.map_or(0.0, |r| r.starts);
    }
    let mut out = Vec::new();
    for (name, rate) in by_node.into_iter().filter(|(name, _)| !far.contains(*name)) {
        let Some(node) = nodes.get(name).filter(|n| n.clock.is_none()) else { continue };
        let said = node.workloads.iter().find(|w| &w.id == id);
        let Some(age) = node.age_seconds(now) else { continue };
        // A forecast outlives the reports' silence by its own reach: filling such gaps is what it is for.
        let forecast = said.and_then(|w| w.forecast.as_ref()).filter(|f| {
            let reach = f.forecast.points.iter().map(|(t, _)| t.steps()).max().unwrap_or(0);
            age <= f64::from(reach) * f64::from(f.forecast.grid.step_seconds)
        });
        let burst = said.and_then(|w| w.burst).filter(|_| age <= settings.fresh_seconds);
        out.push(local::NodeView { forecast, burst, rate });
    }
    out
}

fn hold(
    now: Now,
    settings: &MergeSettings,
    nodes: &BTreeMap<String, NodeState>,
    loads: &[Load<'_>],
    (fresh, ready): (usize, usize),
    far: &[(String, f64)],
) -> Option<Hold> {
    let known = || loads.iter().filter(|(_, p, _)| p.phase.is_some());
    if let Some(clock) = known().find_map(|(_, p, _)| nodes.get(&p.node)?.clock.clone()) {
        return Some(clock);
    }
    let impossible =
        |p: &PodMerge| p.impossible.is_some_and(|at| now.mono.seconds_since(at) < IMPOSSIBLE_SECONDS);
    if let Some((uid, ..)) = known().find(|(_, p, _)| impossible(p)) {
        return Some(Hold::Counters { uid: (*uid).clone() });
    }
    if let Some((node, ratio)) = far.first() {
        return Some(Hold::FarFromSiblings { node: node.clone(), ratio: *ratio });
    }
    let is_ready = |p: &PodMerge| p.phase == Some(PodPhase::Ready);
    for (uid, pod, _) in known().filter(|(_, p, _)| is_ready(p)) {
        if let PodState::NotMeasurable(reason) = pod.state {
            return Some(Hold::NotMeasurable { uid: (*uid).clone(), reason });
        }
    }
    if ready > 0 && known().all(|(_, p, _)| p.first_heard.is_none()) {
        return Some(Hold::NoReports);
    }
    ((fresh as f64) < settings.min_freshness * ready as f64).then_some(Hold::Stale {
        fresh,
        ready,
        within_seconds: settings.fresh_seconds,
    })
}

/// Of the bytes that the heard pods received lately, the share on connections whose requests can't be read.
fn unread_share(loads: &[Load<'_>]) -> Option<f64> {
    let heard = loads.iter().filter(|(.., rates)| rates.is_some()).map(|(_, pod, _)| pod.received());
    let (received, unread) =
        heard.fold((0.0, 0.0), |(r, u), (received, unread)| (r + received as f64, u + unread as f64));
    (received > 0.0).then(|| unread / received)
}

/// Nodes whose ready pods do far more, or far less, than their siblings on the other nodes, and the ratio.
fn far_from_siblings(now: Now, loads: &[Load<'_>]) -> Vec<(String, f64)> {
    let mut means: BTreeMap<&str, (f64, f64)> = BTreeMap::new();
    for (_, pod, rates) in loads.iter().filter(|(_, p, _)| p.phase == Some(PodPhase::Ready)) {
        let is_old = pod.first_heard.is_some_and(|at| now.mono.seconds_since(at) >= NEW_POD_SECONDS);
        if let Some(rates) = rates.filter(|_| is_old) {
            let (sum, n) = means.entry(&pod.node).or_default();
            *sum += rates.starts;
            *n += 1.0;
        }
    }
    if means.len() < MIN_NODES {
        return Vec::new();
    }
    let means: Vec<(&str, f64)> = means.into_iter().map(|(node, (sum, n))| (node, sum / n)).collect();
    let mut out = Vec::new();
    for (node, mean) in &means {
        let mut siblings: Vec<f64> = means.iter().filter(|(n, _)| n != node).map(|(_, m)| *m).collect();
        siblings.sort_unstable_by(f64::total_cmp);
        let median = siblings[siblings.len() / 2];
        let beyond_chance = (mean - median).abs() > FAR_SIGMAS * (median.max(*mean).max(1.0)).sqrt();
        if beyond_chance && (*mean > FAR * median || *mean * FAR < median) {
            out.push(((*node).to_owned(), mean / median.max(1e-9)));
        }
    }
    out
}
