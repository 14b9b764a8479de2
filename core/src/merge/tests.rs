//! The merge's laws: order, duplicates and losses change nothing; what is missing is not zero.

use prescale_agent_ebpf::histogram::bucket_of;
use prescale_models::{Forecast, Grid, Quantiles, Target};
use proptest::prelude::*;

use super::*;
use crate::counters::Counters;
use crate::node::LocalForecast;
use crate::time::{Mono, Wall};
use crate::wire::{AgentHealth, Burst, NodeWorkload, NotMeasurable, PodReport, PodState, Resources, VERSION};
use crate::world::{Mode, Pod, PodPhase, WorkloadSettings};

const EPOCH_MS: i64 = 1_700_000_000_000;

fn at(seconds: f64) -> Now {
    Now { mono: Mono((seconds * 1e9) as u64), wall: Wall(EPOCH_MS + (seconds * 1e3).round() as i64) }
}

fn web() -> WorkloadId {
    WorkloadId { namespace: "shop".into(), name: "web".into() }
}

fn world(pods: &[(&str, &str, PodPhase)]) -> WorkloadState {
    let pod = |(uid, node, phase): &(&str, &str, PodPhase)| Pod {
        uid: (*uid).into(),
        name: format!("web-{uid}"),
        node: (*node).into(),
        phase: *phase,
        ports: vec![],
        probes: vec![],
        start_seconds: None,
    };
    WorkloadState {
        id: web(),
        settings: WorkloadSettings {
            mode: Mode::Full,
            min_replicas: 1,
            max_replicas: 9,
            rps_per_pod: Some(100.0),
            slo_seconds: None,
            headroom: 0.0,
            paused: false,
        },
        replicas: pods.len() as u32,
        resource_version: 1,
        pods: pods.iter().map(pod).collect(),
    }
}

/// A pod that serves `rate` requests/s, each for 100 ms, as read `seconds` after the epoch.
fn pod(uid: &str, seconds: f64, rate: f64) -> PodReport {
    let starts = (seconds * rate).round() as u64;
    let mut counters = Counters {
        read_at_ns: (seconds * 1e9) as u64 + 5_000_000_000,
        starts,
        in_flight_integral_ns: starts * 100_000_000,
        ..Counters::default()
    };
    counters.finishes[2] = starts;
    counters.last_byte[2].0[bucket_of(100_000_000)] = starts;
    PodReport {
        uid: uid.into(),
        workload: 0,
        attach_generation: 1,
        state: PodState::Measured,
        read: at(seconds).wall,
        counters: Some(counters),
        resources: Resources::default(),
        censored: None,
        last: false,
    }
}

fn report(node: &str, seconds: f64, pods: Vec<PodReport>) -> NodeReport {
    NodeReport {
        version: VERSION,
        node: node.into(),
        boot_id: format!("boot-of-{node}"),
        agent_start: Wall(EPOCH_MS),
        sequence: (seconds * 10.0) as u64,
        sent: at(seconds).wall,
        workloads: vec![NodeWorkload { id: web(), forecast: None, burst: None }],
        pods,
        agent: AgentHealth::default(),
    }
}

const READY: PodPhase = PodPhase::Ready;

/// Two ready pods on two nodes, 60 and 40 requests/s, reported each second up to and including `until`.
fn two_pods(until: u32) -> Merge {
    let mut merge = Merge::new(MergeSettings::default());
    merge.world(at(0.0), &[world(&[("a", "n1", READY), ("b", "n2", READY)])]);
    for s in 0..=until {
        let seconds = f64::from(s);
        merge.report(at(seconds), &report("n1", seconds, vec![pod("a", seconds, 60.0)])).unwrap();
        merge
            .report(at(seconds + 0.3), &report("n2", seconds + 0.3, vec![pod("b", seconds + 0.3, 40.0)]))
            .unwrap();
    }
    merge
}

fn rate(demand: &Demand) -> Option<f64> {
    demand.rate.map(|r| r.get().round())
}

#[test]
fn pods_are_summed_and_seconds_close_once() {
    let mut merge = Merge::new(MergeSettings::default());
    merge.world(at(0.0), &[world(&[("a", "n1", READY), ("b", "n2", READY)])]);
    let mut seconds = Vec::new();
    for s in 0..30 {
        let t = f64::from(s);
        merge.report(at(t), &report("n1", t, vec![pod("a", t, 60.0)])).unwrap();
        merge.report(at(t + 0.3), &report("n2", t + 0.3, vec![pod("b", t + 0.3, 40.0)])).unwrap();
        seconds.extend(merge.seconds(at(t + 0.4), &web()));
    }
    let demand = merge.demand(at(29.5), &web()).unwrap();
    assert_eq!(rate(&demand), Some(100.0));
    assert!((demand.concurrency.unwrap().get() - 10.0).abs() < 0.2);
    assert_eq!((demand.freshness, demand.hold.clone(), demand.censored), (1.0, None, None));
    let latency = demand.latency.unwrap();
    assert!((900..1200).contains(&latency.count), "about ten seconds: {}", latency.count);
    assert!((0.09..0.115).contains(&latency.p99_seconds));
    assert_eq!(demand.pods.len(), 2);
    assert_eq!(demand.pods[0].rate.unwrap().get().round(), 60.0);

    let indices: Vec<i64> = seconds.iter().map(|s| s.unix_seconds - EPOCH_MS / 1000).collect();
    // Pod b's first reading comes at 0.3 s; second 28 waits for it to reach 29.
    assert_eq!(indices, (0..29).collect::<Vec<_>>(), "each once, the last as soon as both reached its end");
    for second in &seconds[1..] {
        let load = second.load.unwrap().get();
        assert!((load - 100.0).abs() < 1.5, "{second:?}");
    }
}

#[test]
fn a_silent_pod_is_not_zero_and_holds() {
    let mut merge = two_pods(20);
    for s in 21..40 {
        let t = f64::from(s);
        merge.report(at(t), &report("n1", t, vec![pod("a", t, 60.0)])).unwrap();
    }
    let demand = merge.demand(at(39.5), &web()).unwrap();
    assert_eq!(demand.freshness, 0.5);
    assert_eq!(rate(&demand), Some(120.0), "the silent one is taken to do what the heard one does");
    assert_eq!(demand.hold, Some(Hold::Stale { fresh: 1, ready: 2, within_seconds: 10.0 }));
    let demand = merge.demand(at(60.0), &web()).unwrap();
    assert_eq!((rate(&demand), demand.freshness), (None, 0.0));
    let gaps = merge.seconds(at(60.0), &web());
    assert!(gaps.last().unwrap().load.is_none(), "a gap, not zero: {:?}", gaps.last());
}

#[test]
fn before_the_first_report_nothing_is_known() {
    let mut merge = Merge::new(MergeSettings::default());
    assert_eq!(merge.demand(at(0.0), &web()), None);
    merge.world(at(0.0), &[world(&[("a", "n1", READY)])]);
    let demand = merge.demand(at(0.0), &web()).unwrap();
    assert_eq!((demand.rate, demand.hold), (None, Some(Hold::NoReports)));
    let stranger = NodeReport {
        workloads: vec![NodeWorkload {
            id: WorkloadId { namespace: "x".into(), name: "y".into() },
            forecast: None,
            burst: None,
        }],
        ..report("n1", 1.0, vec![pod("z", 1.0, 5.0)])
    };
    assert_eq!(merge.report(at(1.0), &stranger).unwrap().unknown, 1);
}

#[test]
fn timestamps_in_the_wrong_unit_are_refused_and_hold() {
    let units = [
        (EPOCH_MS / 1000, Some(WrongUnit::Seconds)),
        (EPOCH_MS * 1000, Some(WrongUnit::Microseconds)),
        (EPOCH_MS * 1_000_000, Some(WrongUnit::Nanoseconds)),
        (EPOCH_MS + 3_600_000, None),
    ];
    for (sent, expected) in units {
        let mut merge = two_pods(20);
        let before = merge.totals(&web());
        let wrong = NodeReport { sent: Wall(sent), ..report("n2", 21.3, vec![pod("b", 21.3, 400.0)]) };
        let refused = merge.report(at(21.3), &wrong).unwrap_err();
        let Refused::Clock(Hold::Clock { unit, .. }) = &refused else { panic!("{refused}") };
        assert_eq!(*unit, expected, "{refused}");
        assert_eq!(merge.totals(&web()), before);
        let hold = merge.demand(at(21.5), &web()).unwrap().hold;
        assert!(matches!(&hold, Some(Hold::Clock { node, .. }) if node == "n2"), "{hold:?}");
        merge.report(at(22.0), &report("n1", 22.0, vec![pod("a", 22.0, 60.0)])).unwrap();
        merge.report(at(22.3), &report("n2", 22.3, vec![pod("b", 22.3, 40.0)])).unwrap();
        assert_eq!(merge.demand(at(22.5), &web()).unwrap().hold, None, "a possible report ends it");
    }
}

#[test]
fn one_pod_that_can_not_be_read_does_not_silence_its_node() {
    let mut merge = Merge::new(MergeSettings::default());
    merge.world(at(0.0), &[world(&[("a", "n1", READY), ("b", "n1", READY)])]);
    for s in 0..500 {
        let t = f64::from(s);
        // From second 20 on the agent repeats b's old counters.
        let old = pod("b", t.min(20.0), 40.0);
        merge.report(at(t), &report("n1", t, vec![pod("a", t, 60.0), old])).unwrap();
    }
    let demand = merge.demand(at(499.5), &web()).unwrap();
    assert_eq!((rate(&demand), demand.freshness), (Some(120.0), 0.5));
    assert!(matches!(demand.hold, Some(Hold::Stale { .. })), "{:?}", demand.hold);
    let mut ahead = pod("a", 500.0, 60.0);
    ahead.read.0 += 60_000;
    assert_eq!(merge.report(at(500.0), &report("n1", 500.0, vec![ahead])).unwrap().impossible, 1);
}

#[test]
fn a_node_whose_clock_was_set_back_is_heard_again() {
    let mut merge = two_pods(20);
    let flagged = |seconds: f64| {
        let mut r = report("n1", seconds, vec![pod("a", seconds, 60.0)]);
        // The agent was restarted after the clock went back: it seems to have started before its former life.
        r.agent_start = Wall(EPOCH_MS - 3_600_000);
        r.workloads[0].burst = Some(Burst { since: at(seconds).wall, rate: 180.0, baseline: 60.0 });
        r
    };
    merge.report(at(21.0), &flagged(21.0)).unwrap();
    assert_eq!(merge.demand(at(21.1), &web()).unwrap().burst, None, "for all we know an old report");
    merge.report(at(60.0), &flagged(60.0)).unwrap();
    assert!(merge.demand(at(60.1), &web()).unwrap().burst.is_some());
}

#[test]
fn a_clock_that_is_seconds_off_is_corrected() {
    let mut merge = Merge::new(MergeSettings::default());
    merge.world(at(0.0), &[world(&[("a", "n1", READY)])]);
    let mut seconds = Vec::new();
    for s in 0..30 {
        let t = f64::from(s);
        let mut late = report("n1", t, vec![pod("a", t, 60.0)]);
        late.sent.0 -= 40_000;
        late.pods[0].read.0 -= 40_000;
        merge.report(at(t), &late).unwrap();
        seconds.extend(merge.seconds(at(t), &web()));
    }
    assert_eq!(seconds.len(), 29);
    assert!(seconds[1..].iter().all(|s| (s.load.unwrap().get() - 60.0).abs() < 1.0));
}

/// Four pods of 50 requests/s on four nodes; after 150 s node n1 reports `factor` times that.
fn lying(factor: f64) -> Demand {
    let mut merge = Merge::new(MergeSettings::default());
    let pods = [("a", "n1"), ("b", "n2"), ("c", "n3"), ("d", "n4")];
    merge.world(at(0.0), &[world(&pods.map(|(uid, node)| (uid, node, READY)))]);
    for s in 0..170 {
        let t = f64::from(s);
        for (uid, node) in pods {
            let mut p = pod(uid, t, 50.0);
            if node == "n1" && t > 150.0 {
                let counters = p.counters.as_mut().unwrap();
                counters.starts = (150.0 * 50.0 + (t - 150.0) * 50.0 * factor) as u64;
                counters.finishes[2] = counters.starts;
            }
            merge.report(at(t), &report(node, t, vec![p])).unwrap();
        }
    }
    merge.demand(at(169.5), &web()).unwrap()
}

#[test]
fn a_lying_node_is_not_believed() {
    let far = |d: &Demand| matches!(&d.hold, Some(Hold::FarFromSiblings { node, .. }) if node == "n1");
    let above = lying(40.0);
    assert!(far(&above), "{:?}", above.hold);
    assert_eq!(rate(&above), Some(200.0), "its pod is taken to do what the siblings do");
    let below = lying(0.0);
    assert!(far(&below), "{:?}", below.hold);
    assert_eq!(lying(3.0).hold, None, "three times a sibling's load is balancing");
}

#[test]
fn impossible_counters_are_not_taken() {
    let mut merge = two_pods(20);
    let before = merge.totals(&web()).unwrap();
    let mut absurd = pod("a", 21.0, 60.0);
    absurd.counters.as_mut().unwrap().starts = u64::MAX / 2;
    let mut back = pod("b", 21.3, 40.0);
    back.counters.as_mut().unwrap().starts = 3;
    assert_eq!(merge.report(at(21.0), &report("n1", 21.0, vec![absurd])).unwrap().impossible, 1);
    assert_eq!(merge.report(at(21.3), &report("n2", 21.3, vec![back])).unwrap().impossible, 1);
    assert_eq!(merge.totals(&web()).unwrap(), before);
    assert!(matches!(merge.demand(at(21.5), &web()).unwrap().hold, Some(Hold::Counters { .. })));
}

#[test]
fn traffic_that_can_not_be_read_holds_for_five_minutes() {
    let mut merge = two_pods(20);
    let mut tell = |seconds: f64, received: u64, unread: u64| {
        for (node, uid, rate) in [("n1", "a", 60.0), ("n2", "b", 40.0)] {
            let mut pod = pod(uid, seconds, rate);
            let counters = pod.counters.as_mut().unwrap();
            (counters.bytes_received, counters.bytes_unread) = (received, unread);
            merge.report(at(seconds), &report(node, seconds, vec![pod])).unwrap();
        }
        merge.demand(at(seconds), &web()).unwrap().hold
    };
    // A probe over TLS now and then is no traffic.
    assert_eq!(tell(21.5, 100_000, 9_000), None);
    let hold = tell(22.5, 200_000, 50_000);
    assert_eq!(hold, Some(Hold::Unread { share: 0.25 }));
    assert!(hold.unwrap().to_string().starts_with("25 % of the bytes that the pods receive are TLS"));
    // It is over once it is half a minute gone from the readings, and five minutes more.
    let mut last = None;
    let over = (23..400).find(|s| {
        let before =
            std::mem::replace(&mut last, tell(f64::from(*s) + 0.5, 200_000 + *s as u64 * 1000, 50_000));
        before.is_some() && last.is_none()
    });
    assert!(over.is_some_and(|s| (322..=360).contains(&s)), "{over:?}");
}

#[test]
fn a_ready_pod_that_can_not_be_measured_holds() {
    let mut merge = two_pods(20);
    let mut lost = pod("b", 21.3, 40.0);
    lost.state = PodState::NotMeasurable(NotMeasurable::CgroupTaken);
    merge.report(at(21.3), &report("n2", 21.3, vec![lost])).unwrap();
    let hold = merge.demand(at(21.4), &web()).unwrap().hold;
    assert!(matches!(hold, Some(Hold::NotMeasurable { .. })), "{hold:?}");
}

#[test]
fn leaving_pods_are_load_and_retired_pods_stay_in_the_totals() {
    let mut merge = two_pods(20);
    merge.world(at(20.5), &[world(&[("a", "n1", READY), ("b", "n2", PodPhase::Terminating)])]);
    let demand = merge.demand(at(20.6), &web()).unwrap();
    assert_eq!((rate(&demand), demand.freshness), (Some(100.0), 1.0));
    merge.world(at(21.0), &[world(&[("a", "n1", READY)])]);
    let before = merge.totals(&web()).unwrap();
    assert_eq!(before.starts, 60 * 20 + 812);
    merge.world(at(2000.0), &[world(&[("a", "n1", READY)])]);
    assert_eq!(merge.totals(&web()).unwrap(), before);
    assert_eq!(merge.demand(at(2000.0), &web()).unwrap().pods.len(), 1, "b is retired");
}

fn local(pods: u32, origin: i64, median: f64, spread: f64) -> LocalForecast {
    let q =
        Quantiles::new([median - spread, median, median + spread, median + spread, median + spread]).unwrap();
    LocalForecast {
        pods,
        forecast: Forecast {
            origin,
            grid: Grid { step_seconds: 5 },
            points: vec![(Target::At { steps: 6 }, q)],
        },
    }
}

#[test]
fn local_forecasts_are_averaged_per_pod_and_scaled() {
    let mut merge = two_pods(20);
    let origin = EPOCH_MS / 5000 + 4;
    for (node, uid, forecast) in
        [("n1", "a", local(1, origin, 60.0, 2.0)), ("n2", "b", local(1, origin, 40.0, 2.0))]
    {
        let mut r = report(node, 21.0, vec![pod(uid, 21.0, 50.0)]);
        r.workloads[0].forecast = Some(forecast);
        merge.report(at(21.0), &r).unwrap();
    }
    let median = |merge: &mut Merge| {
        let forecast = merge.demand(at(21.0), &web()).unwrap().local_forecast.unwrap();
        forecast.get(Target::At { steps: 6 }).unwrap().median()
    };
    assert!((median(&mut merge) - 100.0).abs() < 1e-9);
    let mut sure = report("n1", 22.0, vec![pod("a", 22.0, 60.0)]);
    sure.workloads[0].forecast = Some(local(1, origin, 60.0, 0.1));
    merge.report(at(22.0), &sure).unwrap();
    assert!(median(&mut merge) > 119.0, "the certain node weighs more: {}", median(&mut merge));
    assert!(merge.demand(at(60.0), &web()).unwrap().local_forecast.is_none(), "beyond its reach of 30 s");
}

#[test]
fn a_burst_is_confirmed_by_the_sum_over_nodes() {
    let mut merge = two_pods(20);
    let flag = |rate, baseline| Some(Burst { since: at(20.0).wall, rate, baseline });
    let mut r = report("n1", 21.0, vec![pod("a", 21.0, 60.0)]);
    r.workloads[0].burst = flag(180.0, 60.0);
    assert!(merge.report(at(21.0), &r).unwrap().burst);
    let burst = merge.demand(at(21.1), &web()).unwrap().burst.unwrap();
    assert_eq!((burst.rate.round(), burst.baseline.round()), (220.0, 100.0));
    // 5 requests/s that moved over from the other node are no burst of the workload.
    let mut r = report("n1", 22.0, vec![pod("a", 22.0, 60.0)]);
    r.workloads[0].burst = flag(65.0, 60.0);
    merge.report(at(22.0), &r).unwrap();
    assert_eq!(merge.demand(at(22.1), &web()).unwrap().burst, None);
}

/// What an agent would report over `lives` lives of `pods` pods on one node: counters that only grow within a life.
fn history(lives: &[Vec<u8>]) -> Vec<NodeReport> {
    let mut out = Vec::new();
    let mut t = 0.0;
    for steps in lives {
        let (mut starts, first) = ([0u64; 2], t);
        for (sequence, step) in steps.iter().enumerate() {
            t += 1.0;
            let mut pods = Vec::new();
            for (i, uid) in ["a", "b"].into_iter().enumerate() {
                starts[i] += u64::from(*step) * (i as u64 + 1);
                let mut p = pod(uid, t, 0.0);
                let counters = p.counters.as_mut().unwrap();
                counters.starts = starts[i];
                counters.finishes[2] = starts[i];
                counters.last_byte[2].0[bucket_of(100_000_000)] = starts[i];
                counters.in_flight_integral_ns = starts[i] * 1000;
                p.attach_generation = 1;
                pods.push(p);
            }
            // Each life is another agent process: its sequence starts anew.
            let mut r = report("n1", t, pods);
            r.agent_start = at(first).wall;
            r.sequence = sequence as u64 + 1;
            out.push(r);
        }
    }
    out
}

proptest! {
    #[test]
    fn order_duplicates_and_losses_change_no_total(
        lives in prop::collection::vec(prop::collection::vec(0u8..50, 1..8), 1..4),
        picks in prop::collection::vec((any::<prop::sample::Index>(), any::<bool>()), 0..80),
    ) {
        let reports = history(&lives);
        let fresh = || {
            let mut merge = Merge::new(MergeSettings::default());
            merge.world(at(0.0), &[world(&[("a", "n1", READY), ("b", "n1", READY)])]);
            merge
        };
        let end = at(reports.len() as f64 + 1.0);
        let mut in_order = fresh();
        for r in &reports {
            in_order.report(end, r).unwrap();
        }
        // Any order, any number of times; what was never picked is lost, except the last of each life.
        let mut shuffled = fresh();
        let lasts = {
            let mut n = 0;
            lives.iter().map(|l| { n += l.len(); n - 1 }).collect::<Vec<_>>()
        };
        let mut rest = lasts.clone();
        let mut heard = std::collections::BTreeSet::new();
        for (index, late) in &picks {
            let i = index.index(reports.len());
            heard.insert(i);
            prop_assert_eq!(shuffled.report(end, &reports[i]).unwrap().impossible, 0);
            if *late && let Some(last) = rest.pop() {
                heard.insert(last);
                shuffled.report(end, &reports[last]).unwrap();
            }
        }
        for last in rest {
            heard.insert(last);
            shuffled.report(end, &reports[last]).unwrap();
        }
        prop_assert_eq!(shuffled.totals(&web()), in_order.totals(&web()));
        if heard.len() == reports.len() {
            let (a, b) = (shuffled.demand(end, &web()).unwrap(), in_order.demand(end, &web()).unwrap());
            prop_assert_eq!((a.rate, a.concurrency, a.in_flight), (b.rate, b.concurrency, b.in_flight));
        }
    }
}

#[test]
fn a_node_can_report_its_own_pods_only() {
    let mut merge = Merge::new(MergeSettings::default());
    merge.world(at(0.0), &[world(&[("a", "n1", PodPhase::Ready)])]);
    merge.report(at(1.0), &report("n1", 1.0, vec![pod("a", 1.0, 10.0)])).unwrap();
    let lie = merge.report(at(2.0), &report("n2", 2.0, vec![pod("a", 2.0, 9000.0)])).unwrap();
    assert_eq!((lie.newer, lie.unknown), (0, 1));
    merge.report(at(2.0), &report("n1", 2.0, vec![pod("a", 2.0, 10.0)])).unwrap();
    let rate = merge.demand(at(2.0), &web()).and_then(|it| it.rate).expect("two readings make a rate");
    assert!((rate.get() - 10.0).abs() < 0.5, "{rate:?}");
}
