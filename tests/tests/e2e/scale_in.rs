//! A workload with too many pods gives them back, but not before it has been watched for five minutes.

use std::time::Instant;

use super::Run;
use super::app::{App, Load, Scale, arrivals, steady};
use super::kubectl::Namespace;

/// `warm_up_seconds` of the plan's rules.
const WARM_UP: f64 = 300.0;

/// Four pods with the load of one: they stay for the warm-up, then go one by one, and no client notices.
pub fn after_the_warm_up(run: &Run) {
    let namespace = Namespace::new("scale-in");
    let annotations = [("mode", "full"), ("max-replicas", "8"), ("rps-per-pod", "50")]
        .map(|(name, value)| (name, value.to_owned()));
    // Its share of the cores outlives the tests beside it that take both.
    App { replicas: 3, cpu: "200m", annotations: annotations.into(), ..App::default() }.start(&namespace);
    let scale = Scale::watch(&namespace);
    let begin = Instant::now();
    let load = Load::start(&namespace, arrivals(&[steady(20.0, 720.0)], 2));
    let (first, replicas) = scale.change_after(begin, 480);
    let waited = first.duration_since(begin).as_secs_f64();
    run.say(&format!("3 to {replicas} pods {waited:.0} s after opting in"));
    assert!(replicas == 2, "one pod at a time, not {replicas}");
    // Measured a moment before our own clock began.
    assert!(waited > WARM_UP - 15.0, "it shrank within the warm-up");
    let (second, replicas) = scale.change_after(first, 120);
    let apart = second.duration_since(first).as_secs_f64();
    run.say(&format!("2 to {replicas} pods {apart:.0} s later"));
    assert_eq!(replicas, 1);
    namespace.event("web", "Scaled", &["from 2 to 1"], 30);
    let totals = load.stop();
    let lost = totals.aborted + totals.unsent;
    run.say(&format!("{} requests meanwhile, {lost} lost", totals.arrivals));
    assert_eq!(lost, 0, "{totals:?}");
}
