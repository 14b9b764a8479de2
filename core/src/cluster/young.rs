//! A ramp in a workload's first minutes is followed to what it comes to need, and no further.

use super::sweep::load::Random;
use super::tests::Small;

/// The end-to-end test's ramp (`tests/tests/e2e/ramp.rs`): 120 s from 50 to 400 requests/s, planned for 40 a pod.
const RISE: u64 = 120;
const FROM: f64 = 50.0;
const TO: f64 = 400.0;
const RPS_PER_POD: f64 = 40.0;
/// More than this a pod can't serve in time.
const MOST_PER_POD: f64 = 57.0;
/// At most this share may come to find a pod too few: the last pod of a step is at times some seconds late.
const MOST_SHORT: f64 = 0.005;
const START_UP: u64 = 11;
/// The flat minute before the rise counts, too.
const FLAT: u64 = 60;

/// What one ramp came to.
#[derive(Debug, Default)]
struct Ramp {
    /// From the rise's beginning to the first decision, seconds.
    first: i64,
    pod_seconds: f64,
    /// Of one who knows the mean load and has the pods for it when it comes.
    oracle: f64,
    /// Share of the ramp's requests that were more than the pods that served could do in their second.
    short: f64,
}

/// The ramp after `history` seconds of 50 requests/s, the pods' own starts known.
fn ramp(history: u64, seed: u64) -> Ramp {
    let load = |at: u64| FROM + (TO - FROM) * (at.saturating_sub(history) as f64 / RISE as f64).min(1.0);
    let mut random = Random::new(seed);
    let mut small = Small::new(2, FROM);
    small.start_up = START_UP;
    small.state.settings.rps_per_pod = Some(RPS_PER_POD);
    small.state.pods.iter_mut().for_each(|pod| pod.start_seconds = Some(START_UP as u32));
    let mut ramp = Ramp::default();
    for at in 0..history + RISE {
        small.rps = random.poisson(load(at));
        small.second();
        if at + FLAT >= history {
            ramp.pod_seconds += f64::from(small.state.replicas);
            ramp.oracle += (load(at + START_UP + 1) / RPS_PER_POD).ceil();
        }
        let ready = f64::from(small.cluster.list(small.now()).workloads[0].replicas.ready);
        ramp.short += (load(at) - ready * MOST_PER_POD).max(0.0);
    }
    ramp.short /= (0..RISE).map(|at| load(history + at)).sum::<f64>();
    ramp.first = small.decisions[0].0 as i64 - history as i64;
    ramp
}

#[test]
fn a_ramp_is_followed_to_what_it_needs_however_young_the_forecast_is() {
    for history in [85, 150, 300, 600, 1900] {
        let all: Vec<Ramp> = (1..=10).map(|seed| ramp(history, seed)).collect();
        let sum = |of: fn(&Ramp) -> f64| all.iter().map(of).sum::<f64>();
        let cost = sum(|it| it.pod_seconds) / sum(|it| it.oracle);
        println!("after {history} s: {cost:.2} of the oracle's pod-seconds");
        assert!(cost < 1.05, "after {history} s: {cost} {all:?}");
        for ramp in &all {
            assert!((0..20).contains(&ramp.first), "after {history} s: {ramp:?}");
            assert!(ramp.short <= MOST_SHORT, "after {history} s: {ramp:?}");
        }
    }
}
