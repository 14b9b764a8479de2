//! A burst that comes every day at the same minute is foreseen by the upper quantiles after six days.

#![allow(clippy::unwrap_used, reason = "a test may panic, in its helpers too")]

mod common;

use common::{Rng, diurnal};
use prescale_models::{Bin, Ensemble, Grid, Level, Target};

const DAY: i64 = 86_400;

/// Six days are replayed, each with as many bursts more that never come back, then the seventh is lived through; returns for each target the least share of the burst that
/// q95 foresaw at the last origin before it, and the largest share that it claimed two hours earlier.
fn foreseen(step: u32, steps: &[u32], seed: u64, strays: usize) -> Vec<(u32, f64, f64)> {
    let grid = Grid { step_seconds: step };
    let targets: Vec<Target> = steps.iter().map(|&steps| Target::MaxOver { steps }).collect();
    let mut ensemble = Ensemble::cluster(grid, &targets);
    let mut rng = Rng(seed);
    // The burst lasts four minutes and is 400 requests/s over a wave of 20 to 180.
    let at = (6.0 * 3600.0 + 14.0 * 3600.0 * rng.uniform()) as i64 / 60 * 60;
    let stray = |day| (0..strays).map(move |_| day).collect::<Vec<i64>>();
    let strays: Vec<i64> =
        (0..6).flat_map(stray).map(|day| day * DAY + (rng.uniform() * 86_400.0) as i64).collect();
    let burst = |t: i64| {
        let daily = (at..at + 240).contains(&t.rem_euclid(DAY));
        let once = strays.iter().any(|from| (*from..from + 240).contains(&t));
        if daily || once { 400.0 } else { 0.0 }
    };
    let last = 6 * DAY + at - i64::from(step);
    let mut early = Vec::new();
    for index in 0..=last / i64::from(step) {
        let t = index * i64::from(step);
        ensemble.observe(Bin::new(index, diurnal(&mut rng, t, step) + burst(t)));
        if t == last - 2 * 3600 {
            let forecast = ensemble.forecast().unwrap();
            early = targets.iter().map(|t| forecast.get(*t).unwrap().at(Level::P95)).collect();
        }
    }
    let forecast = ensemble.forecast().unwrap();
    targets
        .iter()
        .zip(early)
        .map(|(target, early)| {
            let truth = (1..=i64::from(target.steps()))
                .map(|k| last + k * i64::from(step))
                .map(|t| diurnal(&mut Rng(1), t, step) + burst(t))
                .fold(0.0, f64::max);
            (target.steps(), forecast.get(*target).unwrap().at(Level::P95) / truth, early / truth)
        })
        .collect()
}

#[test]
fn a_recurring_burst_is_foreseen_after_six_days() {
    for seed in [1, 2, 3, 4] {
        for (step, steps) in [(10, &[3, 6, 12, 30][..]), (60, &[1, 2, 5, 15, 30, 60])] {
            for (steps, now, early) in foreseen(step, steps, seed, 0) {
                assert!(now >= 0.8, "seed {seed}, {step} s × {steps}: q95 foresees {now:.2} of the burst");
                assert!(now <= 1.6, "seed {seed}, {step} s × {steps}: q95 claims {now:.2} of the burst");
                assert!(early <= 0.8, "seed {seed}, {step} s × {steps}: {early:.2} two hours too early");
            }
        }
    }
}

/// The season takes each burst of a day for one of the next, so that most of what it announces never comes. An upper
/// quantile believes it all the same: it loses nine times as much by missing one.
#[test]
fn a_recurring_burst_is_foreseen_among_others_that_never_come_back() {
    for seed in 1..=8 {
        for (steps, now, _) in foreseen(10, &[6, 12], seed, 2) {
            assert!(now >= 0.8, "seed {seed}, 10 s × {steps}: q95 foresees {now:.2} of the burst");
        }
    }
}
