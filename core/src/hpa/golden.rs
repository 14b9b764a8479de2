//! Golden vectors G1–G18, computed by an independent port of the controller, and the edges between them.

use super::*;

fn at(seconds: u64) -> Mono {
    // Not 0, so that a subtraction at the edge would show.
    Mono((1_000_000 + seconds) * 1_000_000_000)
}

/// Runs an HPA every `step` seconds on given proposals (as an AverageValue metric, target 1, no tolerance).
fn run(mut settings: HpaSettings, start: u32, step: u64, proposals: &[u32]) -> Vec<u32> {
    settings.tolerance_up = 0.0;
    settings.tolerance_down = 0.0;
    let mut hpa = Hpa::new(settings);
    let mut replicas = start;
    let mut seen = Vec::new();
    for (tick, proposal) in proposals.iter().enumerate() {
        let metrics = [Metric::average_value(1.0, Some(f64::from(*proposal)))];
        let now = at(tick as u64 * step);
        assert!(hpa.due(now) || step < 15);
        let inputs =
            HpaInputs { replicas, status_replicas: replicas, ready_pods: replicas, metrics: &metrics };
        replicas = hpa.reconcile(now, &inputs).replicas;
        seen.push(replicas);
    }
    seen
}

fn rules(window_seconds: f64, select: Select, policies: &[(PolicyKind, u32, f64)]) -> Rules {
    let policies = policies
        .iter()
        .map(|&(kind, value, period_seconds)| Policy { kind, value, period_seconds })
        .collect();
    Rules { window_seconds, select, policies }
}

#[test]
fn g1_legacy_from_3() {
    assert_eq!(run(HpaSettings::legacy(1, 100), 3, 15, &[40; 5]), [6, 12, 24, 40, 40]);
}

#[test]
fn g2_legacy_from_1() {
    assert_eq!(run(HpaSettings::legacy(1, 100), 1, 15, &[40; 5]), [4, 8, 16, 32, 40]);
}

#[test]
fn g3_behaviour_from_3() {
    assert_eq!(run(HpaSettings::new(1, 100), 3, 15, &[40; 5]), [7, 14, 28, 40, 40]);
}

#[test]
fn g4_behaviour_from_1() {
    assert_eq!(run(HpaSettings::new(1, 100), 1, 15, &[40; 4]), [5, 10, 20, 40]);
}

#[test]
fn g5_downscale_window_edges() {
    let behaviour = run(HpaSettings::new(1, 100), 10, 15, &[2; 22]);
    assert_eq!(behaviour.iter().position(|&r| r == 2), Some(300 / 15));
    assert!(behaviour[..20].iter().all(|&r| r == 10));
    let legacy = run(HpaSettings::legacy(1, 100), 10, 15, &[2; 22]);
    assert_eq!(legacy.iter().position(|&r| r == 2), Some(315 / 15));
    assert!(legacy[..21].iter().all(|&r| r == 10));
}

#[test]
fn g6_alternating_proposals_stay_up() {
    let proposals: Vec<u32> = (0..40).map(|i| if i % 2 == 0 { 8 } else { 4 }).collect();
    assert!(run(HpaSettings::new(1, 100), 4, 15, &proposals).iter().all(|&r| r == 8));
}

#[test]
fn g7_up_window_swallows_a_spike() {
    let mut settings = HpaSettings::new(1, 100);
    settings.behavior = Some(Behavior {
        up: Rules { window_seconds: 60.0, ..Behavior::default().up },
        ..Behavior::default()
    });
    let mut proposals = [4; 12];
    proposals[5] = 20;
    assert_eq!(run(settings, 4, 15, &proposals), [4; 12]);
}

#[test]
fn g8_down_ten_percent_a_minute() {
    let mut settings = HpaSettings::new(1, 100);
    let down = rules(0.0, Select::Max, &[(PolicyKind::Percent, 10, 60.0)]);
    settings.behavior = Some(Behavior { down, ..Behavior::default() });
    let seen = run(settings, 80, 15, &[10; 13]);
    assert_eq!([seen[0], seen[4], seen[8], seen[12]], [72, 64, 57, 51]);
    assert_eq!(seen[3], 72, "between the minutes nothing moves");
}

#[test]
fn g9_down_the_smaller_policy() {
    let mut settings = HpaSettings::new(1, 100);
    let down = rules(0.0, Select::Min, &[(PolicyKind::Percent, 10, 60.0), (PolicyKind::Pods, 4, 60.0)]);
    settings.behavior = Some(Behavior { down, ..Behavior::default() });
    let seen = run(settings, 80, 15, &[10; 9]);
    assert_eq!([seen[0], seen[4], seen[8]], [76, 72, 68]);
}

fn pod(percent: f64) -> PodReading {
    PodReading {
        gone: false,
        pending: false,
        started: Some(at(0)),
        ready: Some(ReadyCondition { ready: true, since: at(10) }),
        request_milli: 1000,
        usage: Some(PodUsage { milli: (percent * 10.0) as i64, at: at(990), window_seconds: 30.0 }),
    }
}

fn pods(count: usize, percent: f64) -> Vec<PodReading> {
    vec![pod(percent); count]
}

fn missing(count: usize) -> Vec<PodReading> {
    vec![PodReading { usage: None, ..pod(0.0) }; count]
}

/// The first result of a fresh HPA whose down window is 0, so that the proposal shows.
fn utilisation(target_percent: i32, current: u32, pods: Vec<PodReading>) -> u32 {
    let metrics = [Metric::Utilisation { target_percent, cpu: true, pods }];
    let mut settings = HpaSettings::new(1, 100);
    let down = rules(0.0, Select::Max, &[(PolicyKind::Percent, 100, 15.0)]);
    settings.behavior = Some(Behavior { down, ..Behavior::default() });
    let inputs =
        HpaInputs { replicas: current, status_replicas: current, ready_pods: current, metrics: &metrics };
    Hpa::new(settings).reconcile(at(1000), &inputs).replicas
}

#[test]
fn g10_four_at_90_percent() {
    assert_eq!(utilisation(50, 4, pods(4, 90.0)), 8);
}

#[test]
fn g11_utilisation_is_truncated_and_the_edge_tolerated() {
    assert_eq!(utilisation(50, 4, pods(4, 55.0)), 4);
    assert_eq!(utilisation(50, 4, pods(4, 55.9)), 4);
    assert_eq!(utilisation(50, 4, pods(4, 56.0)), 5);
}

#[test]
fn g12_lower_edge() {
    assert_eq!(utilisation(50, 10, pods(10, 45.0)), 10);
    assert_eq!(utilisation(50, 10, pods(10, 44.0)), 9);
}

#[test]
fn g13_unready_pods_dampen_a_scale_up() {
    let unready = PodReading {
        ready: Some(ReadyCondition { ready: false, since: at(995) }),
        started: Some(at(900)),
        ..pod(100.0)
    };
    let all = [pods(4, 100.0), vec![unready; 4]].concat();
    assert_eq!(utilisation(50, 8, all), 8);
}

#[test]
fn g14_pending_pods_dampen_a_scale_up() {
    let pending = PodReading { pending: true, usage: None, ready: None, started: None, ..pod(0.0) };
    assert_eq!(utilisation(50, 8, [pods(4, 90.0), vec![pending; 4]].concat()), 8);
}

#[test]
fn g15_missing_pods_dampen_a_scale_down() {
    assert_eq!(utilisation(50, 10, [pods(8, 20.0), missing(2)].concat()), 8);
    assert_eq!(utilisation(50, 8, pods(8, 20.0)), 4);
}

#[test]
fn g16_missing_pods_dampen_a_scale_up() {
    assert_eq!(utilisation(50, 10, [pods(8, 80.0), missing(2)].concat()), 13);
}

#[test]
fn g17_missing_above_a_hundred_percent() {
    assert_eq!(utilisation(120, 5, [pods(4, 60.0), missing(1)].concat()), 3);
}

#[test]
fn g18_average_value() {
    let result = |status_replicas| {
        let metrics = [Metric::average_value(10.0, Some(95.0))];
        let inputs = HpaInputs { replicas: 9, status_replicas, ready_pods: 9, metrics: &metrics };
        Hpa::new(HpaSettings::new(1, 100)).reconcile(at(0), &inputs).proposal
    };
    assert_eq!([result(0), result(9), result(8)], [Some(10), Some(9), Some(10)]);
}

#[test]
fn cpu_readiness_rules() {
    // Within 300 s of the start a sample must cover one window after the pod became ready.
    let young = PodReading {
        started: Some(at(900)),
        ready: Some(ReadyCondition { ready: true, since: at(970) }),
        ..pod(100.0)
    };
    // 4 at 100 % and 4 whose samples are too young: as unready, so r′ = 1.
    assert_eq!(utilisation(50, 8, [pods(4, 100.0), vec![young.clone(); 4]].concat()), 8);
    let settled = PodReading { ready: Some(ReadyCondition { ready: true, since: at(960) }), ..young };
    assert_eq!(utilisation(50, 8, [pods(4, 100.0), vec![settled; 4]].concat()), 16);
    // Later an unready pod counts, unless it has never been ready.
    let fallen = PodReading { ready: Some(ReadyCondition { ready: false, since: at(500) }), ..pod(100.0) };
    assert_eq!(utilisation(50, 8, [pods(4, 100.0), vec![fallen; 4]].concat()), 16);
    let never = PodReading { ready: Some(ReadyCondition { ready: false, since: at(29) }), ..pod(100.0) };
    assert_eq!(utilisation(50, 8, [pods(4, 100.0), vec![never; 4]].concat()), 8);
    let gone = PodReading { gone: true, ..pod(0.0) };
    assert_eq!(utilisation(50, 4, [pods(4, 90.0), vec![gone; 4]].concat()), 8);
    // Nobody has a number: no change.
    assert_eq!(utilisation(50, 4, missing(4)), 4);
}

#[test]
fn several_metrics_take_the_largest_and_failures_never_shrink() {
    let result = |metrics: &[Metric]| {
        let inputs = HpaInputs { replicas: 8, status_replicas: 8, ready_pods: 8, metrics };
        let outcome = Hpa::new(HpaSettings::new(1, 100)).reconcile(at(0), &inputs);
        (outcome.proposal, outcome.reason)
    };
    let wants = |pods: f64| Metric::average_value(10.0, Some(pods * 10.0));
    let failed = Metric::average_value(10.0, None);
    let value = |value: f64| Metric::Value { target_milli: milli(10.0), value_milli: Some(milli(value)) };
    assert_eq!(result(&[wants(12.0), wants(5.0), value(4.0)]), (Some(12), HpaReason::Metrics));
    assert_eq!(result(&[value(25.0)]), (Some(20), HpaReason::Metrics));
    assert_eq!(result(&[value(11.0)]), (Some(8), HpaReason::Metrics));
    assert_eq!(result(&[wants(5.0), failed.clone()]), (None, HpaReason::MetricsFailed));
    assert_eq!(result(&[wants(12.0), failed.clone()]), (Some(12), HpaReason::Metrics));
    assert_eq!(result(&[failed]), (None, HpaReason::MetricsFailed));
    assert_eq!(result(&[]), (None, HpaReason::MetricsFailed));
}

#[test]
fn bounds_come_before_metrics() {
    let result = |replicas| {
        let inputs = HpaInputs { replicas, status_replicas: replicas, ready_pods: replicas, metrics: &[] };
        let outcome = Hpa::new(HpaSettings::new(3, 10)).reconcile(at(0), &inputs);
        (outcome.replicas, outcome.reason)
    };
    assert_eq!(result(0), (0, HpaReason::Disabled));
    assert_eq!(result(2), (3, HpaReason::BelowMinimum));
    assert_eq!(result(11), (10, HpaReason::AboveMaximum));
}

#[test]
fn sync_period_runs_from_the_last_run() {
    let mut hpa = Hpa::new(HpaSettings::new(1, 10));
    assert!(hpa.due(at(0)));
    let inputs = HpaInputs { replicas: 1, status_replicas: 1, ready_pods: 1, metrics: &[] };
    hpa.reconcile(at(0), &inputs);
    assert!(!hpa.due(at(14)));
    assert!(hpa.due(at(15)));
}
