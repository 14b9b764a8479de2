//! The sweep behind the plan's constants: forecasts and plan on a fluid queue, days in seconds, against the HPA.
//!
//! `cargo test --release -p prescale-core --lib sweep -- --ignored --nocapture` prints `docs/decisions/plan-constants.md`'s
//! tables, those of `noise` too. It leaves out what the constants don't depend on (agents, reports, writes), which the
//! simulator in `tests` has; the forecasts are the cluster's own, made once per world, as they do not depend on the plan.

pub(super) mod load;
mod noise;
mod policies;

use load::{Kind, World};
use policies::{Score, hpa, planned};
use prescale_models::Level;

use crate::plan::Rules;

/// Worlds per kind of load.
const SEEDS: u64 = 3;
/// What a pod really carries, requests/s.
const CAPACITY_RPS: f64 = 50.0;
/// What the user states: the load at which the objective holds with certainty.
const STATED_RPS: f64 = 40.0;

#[derive(Clone, Debug)]
struct Variant {
    name: String,
    rules: Rules,
    stated_rps: f64,
    /// Knows the future instead of forecasting it: the bound.
    oracle: bool,
}

impl Variant {
    fn new(name: &str) -> Self {
        Self { name: name.into(), rules: Rules::default(), stated_rps: STATED_RPS, oracle: false }
    }

    fn with(name: &str, value: f64, set: impl Fn(&mut Self, f64)) -> Self {
        let mut variant = Self::new(&format!("{name} {value}"));
        set(&mut variant, value);
        variant
    }
}

fn variants() -> Vec<Variant> {
    let mut all = vec![Variant::new("as it is")];
    let mut each = |name: &str, values: &[f64], set: &dyn Fn(&mut Variant, f64)| {
        all.extend(values.iter().map(|value| Variant::with(name, *value, set)));
    };
    each("stated rps per pod", &[32.5, 36.0, 44.0], &|v, x| v.stated_rps = x);
    each("level", &[0.5, 0.9, 0.99], &|v, x| {
        v.rules.level = Level::ALL.into_iter().find(|l| l.probability() == x).expect("a level");
    });
    each("burst sigmas", &[3.0, 4.0, 5.0, 100.0], &|v, x| v.rules.burst_sigmas = x);
    each("reactive sigmas", &[3.0, 6.0], &|v, x| v.rules.reactive_sigmas = x);
    each("grow sigmas", &[0.0, 0.5, 1.0, 1.5, 2.0], &|v, x| v.rules.grow_sigmas = x);
    each("leave sigmas", &[0.0, 0.5, 1.0], &|v, x| v.rules.leave_sigmas = x);
    each("censored growth", &[1.0, 1.5, 3.0], &|v, x| v.rules.censored_growth = x);
    each("stabilisation", &[0.0, 120.0, 300.0], &|v, x| v.rules.stabilisation_seconds = x);
    each("look ahead", &[0.0, 120.0, 240.0], &|v, x| v.rules.look_ahead_seconds = x);
    each("down share", &[0.1, 1.0], &|v, x| v.rules.down_share = x);
    each("up factor", &[1.5, 4.0], &|v, x| v.rules.up_factor = x);
    let mut oracle = Variant::new("oracle");
    oracle.oracle = true;
    all.push(oracle);
    all
}

#[test]
#[ignore = "a sweep of minutes, not a check"]
fn sweep() {
    for start_up in [10usize, 40] {
        for kind in [Kind::Bursty, Kind::Cron] {
            println!("\n{kind:?}, pods start in {start_up} s\n");
            println!(
                "| policy | slow requests | pod-hours a day | changes a day |\n| --- | --- | --- | --- |"
            );
            let worlds: Vec<World> =
                (1..=SEEDS).map(|seed| World::new(seed, kind, start_up, &variants())).collect();
            for share in [0.5, 0.65, 0.8] {
                let scores = worlds.iter().map(|w| hpa(w, share * CAPACITY_RPS));
                print(&format!("HPA at {:.0} %", share * 100.0), &Score::mean(scores));
            }
            for variant in variants() {
                print(&variant.name, &Score::mean(worlds.iter().map(|w| planned(w, &variant))));
            }
        }
    }
}

fn print(name: &str, score: &Score) {
    println!(
        "| {name} | {:.3} % | {:.0} | {:.0} |",
        score.slow / score.requests * 100.0,
        score.pod_seconds / 3600.0,
        score.changes
    );
}

/// The sweep's own ground: Prescale must beat the HPA on a load that has a rhythm, and leave noise alone.
#[test]
fn on_the_frontier() {
    let as_it_is = Variant::new("as it is");
    let world = World::new(1, Kind::Cron, 40, std::slice::from_ref(&as_it_is));
    let ours = planned(&world, &as_it_is);
    let theirs = hpa(&world, 0.65 * CAPACITY_RPS);
    assert!(ours.slow < theirs.slow / 2.0, "{ours:?} {theirs:?}");
    assert!(ours.pod_seconds < theirs.pod_seconds * 1.02, "{ours:?} {theirs:?}");
    let world = World::new(1, Kind::Noise, 40, std::slice::from_ref(&as_it_is));
    let ours = planned(&world, &as_it_is);
    assert!(ours.changes <= 4.0 && ours.slow == 0.0, "{ours:?}");
}
