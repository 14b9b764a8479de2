//! What the brain does when a load is not what it seems: it says so, nothing shrinks for it, nothing grows less.

use super::tests::{Small, id};
use crate::plan::Limiter;
use crate::time::Wall;
use crate::units::RequestsPerSecond;

/// Two days of minutes about 150 requests/s, up to the first second of `small`, and a warm-up of seven minutes like them.
fn seasoned(replicas: u32) -> Small {
    let mut small = Small::new(replicas, 150.0);
    let now = small.now();
    let minute = now.wall.unix_seconds().div_euclid(60);
    let history: Vec<_> = (minute - 2880..minute)
        .map(|at| (Wall(at * 60_000), RequestsPerSecond::new(usual(at)).expect("a rate")))
        .collect();
    small.cluster.import(now, &id(), &history);
    for _ in 0..7 {
        usual_minute(&mut small);
    }
    assert_eq!(small.view().anomaly, None, "the usual load is usual");
    small
}

/// The counts of independent users about 150 requests/s: never the same twice in a row.
fn usual(minute: i64) -> f64 {
    150.0 + (minute * 7919 % 101) as f64 * 0.1 - 5.0
}

fn usual_minute(small: &mut Small) {
    let now = small.now().wall.unix_seconds();
    small.rps = usual(now.div_euclid(60));
    small.seconds(60 - now.rem_euclid(60) as u64);
}

fn found(small: &Small) -> Option<&'static str> {
    small.view().anomaly.map(|it| it.reason)
}

#[test]
fn a_load_that_is_gone_at_once_is_a_fault_and_no_pod_leaves_for_it_for_an_hour() {
    let mut small = seasoned(4);
    let before = small.state.replicas;
    small.rps = 0.0;
    let mut held = 0;
    for minute in 0..80 {
        small.seconds(60);
        if found(&small) == Some("fault") {
            held += 1;
            assert_eq!(small.reason(), "monitoring_fault", "minute {minute}");
            assert!(small.view().warning.is_some_and(|it| it.contains("measuring may be broken")));
            assert_eq!(small.state.replicas, before, "minute {minute}");
        }
    }
    assert_eq!(held, 60, "then it is the load");
    assert_eq!(small.state.replicas, 1, "an hour of nothing needs no pods");
}

#[test]
fn when_a_fault_has_ended_the_forecast_is_what_it_was() {
    let mut small = seasoned(4);
    let hour = |small: &Small| small.view().forecast.unwrap().at.last().unwrap().quantiles[1];
    let before = hour(&small);
    small.rps = 0.0;
    small.seconds(20 * 60);
    usual_minute(&mut small);
    usual_minute(&mut small);
    assert_eq!(found(&small), None);
    let after = hour(&small);
    assert!((after / before - 1.0).abs() < 0.03, "an hour ahead: {before}, then {after}");
}

#[test]
fn a_flood_is_named_and_served_up_to_the_maximum_and_forgotten_when_it_has_gone() {
    let mut small = seasoned(4);
    let hour = |small: &Small| small.view().forecast.unwrap().at.last().unwrap().quantiles[3];
    let before = hour(&small);
    for minute in 0..20 {
        small.rps = 3000.0 + f64::from(minute);
        small.seconds(60);
        let view = small.view();
        if minute > 1 {
            assert_eq!(
                view.anomaly.map(|it| (it.reason, it.holds)),
                Some(("flood", true)),
                "minute {minute}"
            );
            assert_eq!(small.state.replicas, 40, "all that may be");
            // The plan still sees what comes, though the minutes are spared it.
            assert!(view.plan.unwrap().planned_for_rps.is_some_and(|it| it > 2900.0), "minute {minute}");
        }
    }
    for _ in 0..10 {
        usual_minute(&mut small);
    }
    assert_eq!(found(&small), None);
    let after = hour(&small);
    assert!(after < 1.1 * before, "an hour ahead: {before}, then {after}");
    small.seconds(600);
    assert!(small.state.replicas < 40, "pods go when it has gone: {}", small.state.replicas);
}

#[test]
fn a_verdict_goes_on_after_a_restart() {
    let mut small = seasoned(4);
    small.rps = 0.0;
    small.seconds(150);
    assert_eq!(found(&small), Some("fault"));
    let now = small.now();
    let saved = small.cluster.checkpoint(now, &id()).unwrap();
    small.cluster = super::Cluster::new(super::ClusterSettings::default());
    small.cluster.restore(now, &id(), &saved.base.unwrap(), &saved.tail).unwrap();
    small.seconds(1);
    assert_eq!(found(&small), Some("fault"));
    assert!(small.decisions.iter().all(|(_, it)| it.reason != Limiter::Minimum));
}
