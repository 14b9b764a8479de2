//! The brain in a small world: one node, pods that serve at once, a load that the test sets.

use std::collections::BTreeMap;

use super::*;
use crate::counters::Counters;
use crate::node::LocalForecast;
use crate::plan::{Decision, Limiter};
use crate::time::Mono;
use crate::wire::{AgentHealth, NodeWorkload, PodReport, PodState, Resources};
use crate::world::{Mode, Pod, PodPhase, WorkloadSettings};
use prescale_agent_ebpf::histogram::bucket_of;
use prescale_models::{Forecast, Grid, Quantiles, Target};

const EPOCH_MS: i64 = 1_700_000_000_000;
const RPS_PER_POD: f64 = 50.0;

pub(in crate::cluster) struct Small {
    pub(in crate::cluster) cluster: Cluster,
    /// Hears the same, on a clock that is so many seconds ahead; once it is compared, it must plan the same.
    pub(in crate::cluster) twin: Option<(Cluster, u64)>,
    pub(in crate::cluster) compared: bool,
    pub(in crate::cluster) seconds: u64,
    sequence: u64,
    pub(in crate::cluster) rps: f64,
    pub(in crate::cluster) state: WorkloadState,
    counters: BTreeMap<String, Counters>,
    pub(in crate::cluster) reporting: bool,
    pub(in crate::cluster) decisions: Vec<(u64, Decision)>,
    /// What the node says comes in each of the next two minutes' bins, requests/s.
    pub(in crate::cluster) expected: Option<f64>,
    /// Seconds from a pod's appearance until it serves.
    pub(in crate::cluster) start_up: u64,
    born: BTreeMap<String, u64>,
    leaving: BTreeMap<String, u64>,
    pods_made: u32,
}

pub(in crate::cluster) fn id() -> WorkloadId {
    WorkloadId { namespace: "shop".into(), name: "web".into() }
}

/// The same instant on a clock whose `mono` began earlier.
pub(in crate::cluster) fn later(now: Now, seconds: u64) -> Now {
    Now { mono: Mono(now.mono.0 + seconds * 1_000_000_000), ..now }
}

fn settings() -> WorkloadSettings {
    WorkloadSettings {
        mode: Mode::Full,
        min_replicas: 1,
        max_replicas: 40,
        rps_per_pod: Some(RPS_PER_POD),
        slo_seconds: Some(0.25),
        headroom: 0.0,
        paused: false,
    }
}

impl Small {
    pub(in crate::cluster) fn new(replicas: u32, rps: f64) -> Self {
        let state =
            WorkloadState { id: id(), settings: settings(), replicas, resource_version: 1, pods: Vec::new() };
        let mut small = Self {
            cluster: Cluster::new(ClusterSettings::default()),
            twin: None,
            compared: false,
            seconds: 0,
            sequence: 0,
            rps,
            state,
            counters: BTreeMap::new(),
            reporting: true,
            decisions: Vec::new(),
            expected: None,
            start_up: 5,
            born: BTreeMap::new(),
            leaving: BTreeMap::new(),
            pods_made: 0,
        };
        small.settle_pods();
        small.state.pods.iter_mut().for_each(|p| p.phase = PodPhase::Ready);
        small.born.clear();
        small
    }

    pub(in crate::cluster) fn now(&self) -> Now {
        Now {
            mono: Mono((10_000 + self.seconds) * 1_000_000_000),
            wall: Wall(EPOCH_MS + self.seconds as i64 * 1000),
        }
    }

    fn settle_pods(&mut self) {
        let (seconds, start_up) = (self.seconds, self.start_up);
        // Those that leave stay for three seconds without load, as draining pods do.
        self.state.pods.retain(|p| self.leaving.get(&p.uid).is_none_or(|since| since + 3 > seconds));
        let leaving = |p: &Pod| p.phase == PodPhase::Terminating;
        let mut there = self.state.pods.iter().filter(|p| !leaving(p)).count() as u32;
        while there < self.state.replicas {
            let uid = format!("pod-{}", self.pods_made);
            self.pods_made += 1;
            there += 1;
            self.born.insert(uid.clone(), seconds);
            self.state.pods.push(Pod {
                uid: uid.clone(),
                name: uid,
                node: "node-1".into(),
                phase: PodPhase::Starting,
                ports: vec![],
                probes: Vec::new(),
                start_seconds: None,
            });
        }
        let extra = (there - self.state.replicas) as usize;
        for pod in self.state.pods.iter_mut().rev().filter(|p| !leaving(p)).take(extra) {
            pod.phase = PodPhase::Terminating;
            self.leaving.insert(pod.uid.clone(), seconds);
        }
        for pod in self.state.pods.iter_mut().filter(|p| p.phase == PodPhase::Starting) {
            if self.born.get(&pod.uid).is_none_or(|born| born + start_up <= seconds) {
                pod.phase = PodPhase::Ready;
            }
        }
    }

    /// One second passes; decisions are carried out at once.
    pub(in crate::cluster) fn second(&mut self) {
        for (_, decision) in self.quiet_second() {
            self.apply(&decision);
        }
    }

    pub(in crate::cluster) fn seconds(&mut self, count: u64) {
        for _ in 0..count {
            self.second();
        }
    }

    fn apply(&mut self, decision: &Decision) {
        assert_eq!(decision.resource_version, self.state.resource_version);
        self.state.replicas = decision.replicas;
        self.state.resource_version += 1;
        let outcome = Outcome::Applied { resource_version: self.state.resource_version };
        let now = self.now();
        self.cluster.outcome(now, &id(), outcome);
        if let Some((twin, ahead)) = &mut self.twin {
            twin.outcome(later(now, *ahead), &id(), outcome);
        }
    }

    /// One second passes; returns what was decided in it.
    fn quiet_second(&mut self) -> Vec<(u64, Decision)> {
        self.seconds += 1;
        self.settle_pods();
        let now = self.now();
        self.cluster.world(now, std::slice::from_ref(&self.state));
        if let Some((twin, ahead)) = &mut self.twin {
            twin.world(later(now, *ahead), std::slice::from_ref(&self.state));
        }
        if self.reporting {
            let report = self.report();
            self.cluster.report(now, &report).unwrap();
            if let Some((twin, ahead)) = &mut self.twin {
                twin.report(later(now, *ahead), &report).unwrap();
            }
        }
        let plan = self.cluster.tick(self.now());
        if let Some((twin, ahead)) = &mut self.twin {
            let plans = twin.tick(later(now, *ahead));
            if self.compared {
                assert_eq!(plans.decisions, plan.decisions, "at {} s", self.seconds);
                assert_eq!(format!("{:?}", plans.report[0].basis), format!("{:?}", plan.report[0].basis));
                assert_eq!(plans.report[0].steps, plan.report[0].steps, "at {} s", self.seconds);
            }
        }
        assert_eq!(
            self.cluster.violations().count(),
            0,
            "{:?}",
            self.cluster.violations().collect::<Vec<_>>()
        );
        let new: Vec<_> = plan.decisions.into_iter().map(|d| (self.seconds, d)).collect();
        self.decisions.extend(new.clone());
        new
    }

    pub(in crate::cluster) fn report(&mut self) -> NodeReport {
        let mut left = self.rps as u64;
        let mut serving = self.state.pods.iter().filter(|p| p.phase == PodPhase::Ready).count() as u64;
        let read = self.now().wall;
        let mut pods = Vec::new();
        for pod in &self.state.pods {
            let counters = self.counters.entry(pod.uid.clone()).or_default();
            counters.read_at_ns = (10_000 + self.seconds) * 1_000_000_000;
            if pod.phase == PodPhase::Ready {
                let share = left / serving;
                (left, serving) = (left - share, serving - 1);
                counters.starts += share;
                counters.finishes[2] += share;
                counters.in_flight_integral_ns += share * 20_000_000;
                counters.first_byte.0[bucket_of(20_000_000)] += share;
                counters.last_byte[2].0[bucket_of(20_000_000)] += share;
            }
            pods.push(PodReport {
                uid: pod.uid.clone(),
                workload: 0,
                attach_generation: 1,
                state: PodState::Measured,
                read,
                counters: Some(counters.clone()),
                resources: Resources::default(),
                censored: None,
                last: false,
            });
        }
        self.sequence += 1;
        NodeReport {
            version: VERSION,
            node: "node-1".into(),
            boot_id: "boot".into(),
            agent_start: Wall(EPOCH_MS),
            sequence: self.sequence,
            sent: self.now().wall,
            workloads: vec![NodeWorkload { id: id(), forecast: self.local_forecast(), burst: None }],
            pods,
            agent: AgentHealth::default(),
        }
    }

    /// As of the node's newest whole bin.
    fn local_forecast(&self) -> Option<LocalForecast> {
        let quantiles = Quantiles::new([self.expected?; 5]).unwrap();
        let ready = self.state.pods.iter().filter(|pod| pod.phase == PodPhase::Ready).count();
        let grid = Grid { step_seconds: 5 };
        let origin = grid.index_at(self.now().wall.unix_seconds()) - 1;
        let points = [1, 6, 24].map(|steps| (Target::At { steps }, quantiles)).to_vec();
        Some(LocalForecast { pods: ready as u32, forecast: Forecast { origin, grid, points } })
    }

    pub(in crate::cluster) fn reason(&self) -> &'static str {
        self.cluster.list(self.now()).workloads[0].reason.unwrap()
    }

    pub(in crate::cluster) fn view(&self) -> view::Workload {
        self.cluster.view(self.now(), &id()).unwrap()
    }
}

#[test]
fn a_step_in_load_is_answered_within_three_seconds() {
    let mut small = Small::new(4, 150.0);
    small.seconds(600);
    let before = small.state.replicas;
    assert!((3..=4).contains(&before), "{before}");
    small.rps = 600.0;
    small.decisions.clear();
    small.seconds(60);
    let (first, decision) = &small.decisions[0];
    assert!(*first <= 603, "the first decision came after {} s", first - 600);
    assert!(decision.replicas > before);
    assert!(small.state.replicas >= 12, "{}", small.state.replicas);
    assert!(small.cluster.list(small.now()).workloads[0].warning.is_none());
}

#[test]
fn too_many_replicas_leave_only_after_the_warm_up_and_then_slowly() {
    let mut small = Small::new(20, 150.0);
    small.seconds(299);
    assert_eq!((small.state.replicas, small.reason()), (20, "warming_up"));
    small.seconds(500);
    assert!((3..=5).contains(&small.state.replicas), "{}", small.state.replicas);
    assert!(small.decisions.iter().all(|(_, d)| d.replicas < d.replicas_before));
    assert!(
        small.decisions.iter().all(|(_, d)| d.replicas * 4 + 4 > d.replicas_before * 3),
        "a quarter at most"
    );
}

#[test]
fn a_restarted_brain_never_shrinks_before_it_has_watched_for_long() {
    let mut small = Small::new(4, 150.0);
    small.seconds(400);
    small.state.replicas = 12;
    small.cluster = Cluster::new(ClusterSettings::default());
    small.seconds(299);
    assert_eq!((small.state.replicas, small.reason()), (12, "warming_up"));
    // It may grow at once.
    small.cluster = Cluster::new(ClusterSettings::default());
    small.rps = 1000.0;
    small.seconds(10);
    assert!(small.state.replicas >= 18, "{}", small.state.replicas);
}

#[test]
fn silence_holds() {
    let mut small = Small::new(20, 950.0);
    small.seconds(400);
    let before = small.state.replicas;
    small.reporting = false;
    small.seconds(600);
    assert_eq!(small.state.replicas, before);
    assert_eq!(small.reason(), "data_stale");
    assert!(small.view().warning.unwrap().starts_with("Nothing shrinks"));
    // Back with far less to do: nothing leaves within the stabilisation window.
    small.reporting = true;
    small.rps = 100.0;
    small.seconds(50);
    assert_eq!(small.state.replicas, before);
    small.seconds(500);
    assert!(small.state.replicas <= 5, "{}", small.state.replicas);
}

#[test]
fn without_capacity_nothing_changes() {
    let mut small = Small::new(4, 150.0);
    small.state.settings.rps_per_pod = None;
    small.seconds(400);
    small.rps = 2000.0;
    small.seconds(60);
    assert_eq!((small.state.replicas, small.reason()), (4, "capacity_unknown"));
}

#[test]
fn lead_times_are_measured_from_decision_to_first_response() {
    let mut small = Small::new(4, 150.0);
    small.start_up = 12;
    small.seconds(400);
    assert_eq!(small.view().lead_time.planned_seconds, 30.0);
    small.rps = 900.0;
    small.seconds(120);
    let lead = small.view().lead_time;
    assert!(lead.measured_starts >= 9, "{lead:?}");
    // The pod appears a second after the decision, serves 12 s later, and is heard of a second after that.
    assert!((12.0..=15.0).contains(&lead.planned_seconds), "{lead:?}");
}

#[test]
fn one_write_at_a_time_and_back_off_after_failures() {
    let mut small = Small::new(4, 150.0);
    small.seconds(400);
    small.rps = 900.0;
    let mut decided = Vec::new();
    while decided.is_empty() {
        decided = small.quiet_second();
    }
    for _ in 0..20 {
        assert!(small.quiet_second().is_empty(), "a write is under way");
    }
    small.cluster.outcome(small.now(), &id(), Outcome::Conflict);
    assert_eq!(small.view().decisions.last().unwrap().outcome, Some("conflict"));
    let again = small.quiet_second();
    assert_eq!(again.len(), 1, "after one second");
    small.cluster.outcome(small.now(), &id(), Outcome::Failed);
    assert!(small.quiet_second().is_empty());
    assert_eq!(small.quiet_second().len(), 1, "after two");
    assert!(small.view().warning.is_none());
}

#[test]
fn a_foreign_write_is_respected_until_the_settings_change() {
    let mut small = Small::new(4, 150.0);
    small.seconds(400);
    small.state.replicas = 2;
    small.state.resource_version += 1;
    small.seconds(5);
    assert_eq!(small.state.replicas, 2);
    let view = small.view();
    assert_eq!(view.plan.unwrap().gate.unwrap().name, "foreign_write");
    assert!(view.warning.unwrap().contains("from 4 to 2"));
    small.rps = 900.0;
    small.seconds(60);
    assert_eq!(small.state.replicas, 2);
    small.state.settings.headroom = 0.1;
    small.seconds(60);
    assert!(small.state.replicas >= 18, "{}", small.state.replicas);
}

#[test]
fn a_standby_that_takes_over_goes_on_where_the_leader_wrote() {
    let mut small = Small::new(4, 150.0);
    small.cluster.set_standby(true);
    small.seconds(400);
    small.state.replicas = 2;
    small.state.resource_version += 1;
    small.seconds(5);
    assert!(small.view().warning.is_none(), "{:?}", small.view().warning);
    small.cluster.set_standby(false);
    small.rps = 900.0;
    small.seconds(60);
    assert!(small.state.replicas >= 18, "{}", small.state.replicas);
}

#[test]
fn a_workload_made_anew_is_not_what_someone_wrote_to() {
    let mut small = Small::new(4, 150.0);
    small.seconds(400);
    small.state.replicas = 2;
    small.state.resource_version += 1;
    small.seconds(5);
    assert!(small.view().warning.is_some());
    small.cluster.world(small.now(), &[]);
    small.state.replicas = 3;
    small.seconds(5);
    assert!(small.view().warning.is_none(), "{:?}", small.view().warning);
}

#[test]
fn a_person_who_undoes_our_write_is_noticed() {
    let mut small = Small::new(4, 150.0);
    small.seconds(400);
    let before = small.state.replicas;
    small.rps = 900.0;
    small.seconds(60);
    assert!(small.state.replicas > before);
    small.state.replicas = before;
    small.state.resource_version += 1;
    small.seconds(30);
    assert_eq!(small.state.replicas, before);
    assert!(small.view().warning.is_some_and(|w| w.starts_with("Someone else")));
}

#[test]
fn a_write_that_failed_and_arrived_all_the_same_is_our_own() {
    let mut small = Small::new(4, 150.0);
    small.seconds(400);
    small.rps = 900.0;
    let mut decided = Vec::new();
    while decided.is_empty() {
        decided = small.quiet_second();
    }
    small.cluster.outcome(small.now(), &id(), Outcome::Failed);
    small.state.replicas = decided[0].1.replicas;
    small.state.resource_version += 1;
    small.seconds(60);
    assert!(small.view().warning.is_none());
    assert!(small.state.replicas >= 18, "{}", small.state.replicas);
}

#[test]
fn an_answer_from_before_our_own_write_is_no_foreign_write() {
    let mut small = Small::new(4, 150.0);
    small.seconds(400);
    small.rps = 900.0;
    let old = small.state.clone();
    small.second();
    while small.state.replicas == old.replicas {
        small.second();
    }
    small.cluster.world(small.now(), std::slice::from_ref(&old));
    small.seconds(30);
    assert!(small.view().warning.is_none());
    assert!(small.state.replicas >= 18);
}

#[test]
fn observing_decides_and_writes_nothing() {
    let mut small = Small::new(4, 150.0);
    small.state.settings.mode = Mode::Observe;
    small.seconds(400);
    small.rps = 900.0;
    small.seconds(30);
    assert!(small.decisions.is_empty());
    let view = small.view();
    assert!(view.replicas.wanted.unwrap() >= 8, "{:?}", view.replicas);
    assert_eq!(view.plan.unwrap().gate.unwrap().name, "observe");
}

#[test]
fn imported_history_forecasts_from_the_first_minute_and_grows_ahead_of_the_hour() {
    let mut small = Small::new(4, 90.0);
    // Five days: quiet, but for a ramp that begins every day 20 minutes from now.
    let day = 86_400i64;
    let from = EPOCH_MS / 1000 - 5 * day;
    let ramp_at = |t: i64| (t - EPOCH_MS / 1000 - 1200).rem_euclid(day) < 3600;
    let load = |t: i64| if ramp_at(t) { 450.0 } else { 90.0 };
    let history: Vec<(Wall, RequestsPerSecond)> = (from..EPOCH_MS / 1000)
        .step_by(60)
        .map(|t| (Wall(t * 1000), RequestsPerSecond::new(load(t)).unwrap()))
        .collect();
    small.cluster.import(small.now(), &id(), &history);
    small.seconds(1);
    assert!(small.view().forecast.is_some());
    small.seconds(1080);
    let grows = |(_, d): &(u64, Decision)| d.replicas > d.replicas_before;
    assert!(!small.decisions.iter().any(grows), "too early: {:?}", small.decisions);
    // The last two minutes before the hour: the season is known, the load has not moved.
    small.seconds(110);
    assert!(small.state.replicas >= 8, "{} replicas; {:#?}", small.state.replicas, small.view().plan);
    let reasons: Vec<Limiter> = small.decisions.iter().map(|(_, d)| d.reason).collect();
    assert!(reasons.contains(&Limiter::Forecast), "{reasons:?}");
}

/// Between its points such a load has no noise: a grid of 10 s would learn that there is none, and judge itself by it.
#[test]
fn history_of_minutes_is_not_shown_to_the_grid_of_ten_seconds() {
    let mut small = Small::new(4, 90.0);
    let minute = EPOCH_MS / 60_000;
    let load = |m: i64| RequestsPerSecond::new(60.0 + (m % 7) as f64).unwrap();
    let history: Vec<_> = (minute - 600..minute).map(|m| (Wall(m * 60_000), load(m))).collect();
    small.cluster.import(small.now(), &id(), &history);
    small.seconds(65);
    let settled =
        |bin: u32| small.view().scores.iter().filter(|it| it.bin_seconds == bin).map(|it| it.settled).max();
    assert!(settled(60).unwrap() > 500, "{:?}", settled(60));
    // What has been measured: a minute, less the first forecast and the 30 s that it is about.
    assert!((1..=4).contains(&settled(10).unwrap()), "{:?}", settled(10));
}

#[test]
fn an_hour_of_load_has_a_regime() {
    let mut small = Small::new(4, 90.0);
    small.seconds(70);
    assert_eq!(small.view().regime, None);
    // Three hours of minutes with a timer every quarter of an hour.
    let minute = EPOCH_MS / 60_000;
    let load = |m: i64| RequestsPerSecond::new(if m % 15 == 0 { 600.0 } else { 60.0 }).unwrap();
    let history: Vec<_> = (minute - 180..minute).map(|m| (Wall(m * 60_000), load(m))).collect();
    let mut small = Small::new(4, 90.0);
    small.cluster.import(small.now(), &id(), &history);
    small.seconds(1);
    assert_eq!(small.view().regime, Some("cron-like"));
}

#[test]
fn watch_lists_name_the_nodes_pods_and_survive_a_restart() {
    let mut small = Small::new(3, 150.0);
    small.second();
    let list = small.cluster.watch_list("node-1");
    assert_eq!(list.pods.len(), 3);
    assert!(small.cluster.watch_list("node-2").pods.is_empty());
    assert_ne!(list.revision, small.cluster.watch_list("node-2").revision);
    small.cluster = Cluster::new(ClusterSettings::default());
    small.second();
    assert_eq!(small.cluster.watch_list("node-1"), list);
    small.state.replicas = 4;
    small.second();
    assert_ne!(small.cluster.watch_list("node-1").revision, list.revision);
    assert_eq!(small.cluster.nodes(small.now()), ["node-1"]);
}

#[test]
fn a_workload_that_the_target_forgets_for_a_moment_keeps_what_was_learned() {
    let mut small = Small::new(4, 150.0);
    small.seconds(400);
    small.cluster.world(small.now(), &[]);
    assert_eq!(small.cluster.tick(small.now()), Plan::default());
    assert!(small.cluster.view(small.now(), &id()).is_none());
    small.seconds(30);
    assert!(small.view().forecast.is_some());
    assert_eq!(small.reason(), "forecast");
}

#[test]
fn what_a_network_learns_from_are_the_minutes_without_gaps_and_lower_bounds_in_them() {
    let mut small = Small::new(4, 120.0);
    let now = small.now();
    let ago = |minutes: i64| Wall(now.wall.0 - minutes * 60_000);
    let rate = |rps| RequestsPerSecond::new(rps).unwrap();
    small.cluster.import(now, &id(), &[(ago(40), rate(7.0)), (ago(39), rate(8.0)), (ago(20), rate(9.0))]);
    small.seconds(150);
    let history = small.cluster.minutes(&id()).unwrap();
    let known: Vec<f64> =
        history.rates.iter().filter(|rate| rate.is_finite()).map(|rate| rate.round()).collect();
    // A point stands for ten minutes at most, and the first minute of our own was not whole.
    assert_eq!(known[..12], [7.0, 8.0, 8.0, 8.0, 8.0, 8.0, 8.0, 8.0, 8.0, 8.0, 8.0, 9.0]);
    assert!(known[12..].iter().all(|rate| (100.0..140.0).contains(rate)), "{known:?}");
    let settings = small.cluster.retraining(small.now(), 1);
    assert_eq!((settings.workloads, settings.end), (1, small.now().wall.unix_seconds() / 60));
    assert!(
        history.first + history.rates.len() as i64 <= settings.end,
        "the minute that is open is none yet"
    );
    assert_eq!(small.cluster.minutes(&WorkloadId { name: "other".into(), ..id() }), None);
}

#[test]
fn a_node_is_unheard_of_while_it_has_ready_pods_and_has_never_reported() {
    let mut small = Small::new(1, 20.0);
    let unheard =
        |small: &Small| small.cluster.unheard(small.now()).into_iter().collect::<Vec<_>>().join(",");
    small.reporting = false;
    small.seconds(2);
    assert_eq!(unheard(&small), "node-1");
    small.reporting = true;
    small.second();
    assert_eq!(unheard(&small), "");
    // One that falls silent has been heard: its workloads hold.
    small.reporting = false;
    small.seconds(60);
    assert_eq!(unheard(&small), "");
    small.state.pods.push(Pod {
        node: "node-2".into(),
        phase: PodPhase::Starting,
        ..small.state.pods[0].clone()
    });
    let now = small.now();
    small.cluster.world(now, std::slice::from_ref(&small.state));
    assert_eq!(unheard(&small), "", "nothing to measure there yet");
    small.state.pods.last_mut().unwrap().phase = PodPhase::Ready;
    small.cluster.world(now, std::slice::from_ref(&small.state));
    assert_eq!(unheard(&small), "node-2");
}
