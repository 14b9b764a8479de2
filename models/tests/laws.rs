//! Laws that hold for every expert and the ensembles, on any input.

#![allow(clippy::unwrap_used, reason = "a test may panic, in its helpers too")]

mod common;

use common::{Rng, diurnal};
use prescale_models::{Bin, Ensemble, Forecast, Grid, ModelKind, Target};
use proptest::prelude::*;

const TARGETS: [Target; 4] = [
    Target::At { steps: 1 },
    Target::At { steps: 30 },
    Target::MaxOver { steps: 5 },
    Target::MaxOver { steps: 60 },
];

fn everyone(step: u32) -> Vec<(&'static str, Ensemble)> {
    let grid = Grid { step_seconds: step };
    let mut all =
        vec![("node", Ensemble::node(grid, &TARGETS)), ("cluster", Ensemble::cluster(grid, &TARGETS))];
    all.extend(ModelKind::ALL.map(|kind| (kind.name(), Ensemble::single(grid, &TARGETS, kind))));
    all
}

fn assert_sound(name: &str, forecast: &Forecast) {
    for (target, quantiles) in &forecast.points {
        let values = quantiles.values();
        assert!(values.iter().all(|v| v.is_finite() && *v >= 0.0), "{name} {target:?}: {values:?}");
        assert!(values.windows(2).all(|w| w[0] <= w[1]), "{name} {target:?}: {values:?}");
    }
}

#[test]
fn a_changed_future_never_changes_an_earlier_forecast() {
    // Nine days of 300 s bins, so that every expert is awake at the end of the common past.
    let (step, past) = (300, 9 * 288);
    let mut rng = Rng(7);
    let common: Vec<f64> = (0..past).map(|i| diurnal(&mut rng, i * 300, 300)).collect();
    for (name, _) in everyone(step) {
        let run = |future: &dyn Fn(i64) -> Option<f64>| {
            let mut model = everyone(step).into_iter().find(|(n, _)| *n == name).unwrap().1;
            let mut forecasts = Vec::new();
            for index in 0..past + 300 {
                let value = if index < past { Some(common[index as usize]) } else { future(index) };
                model.observe(Bin { index, value, censored: false });
                if index < past {
                    forecasts.push(model.forecast().unwrap().clone());
                }
            }
            (forecasts, model.forecast().unwrap().clone())
        };
        let (one, end_one) = run(&|_| Some(0.0));
        let (other, end_other) = run(&|i| (i % 3 > 0).then_some(1e6 * i as f64));
        assert_eq!(one, other, "{name}");
        assert_ne!(end_one, end_other, "{name}: the futures differ, so must what is forecast after them");
    }
}

#[test]
fn the_same_bins_give_the_same_bytes() {
    let run = || {
        let mut model = Ensemble::cluster(Grid { step_seconds: 60 }, &TARGETS);
        let mut rng = Rng(3);
        for index in 0..3000 {
            model.observe(Bin::new(index, diurnal(&mut rng, index * 60, 60)));
        }
        format!("{:?}", model.forecast())
    };
    assert_eq!(run(), run());
}

#[test]
fn a_forecast_is_there_from_the_first_value() {
    for (name, mut model) in everyone(60) {
        assert!(model.forecast().is_none(), "{name}");
        model.observe(Bin::missing(10));
        assert!(model.forecast().is_none(), "{name}: nothing was measured yet");
        model.observe(Bin::new(11, 50.0));
        assert_sound(name, model.forecast().unwrap());
        let median = model.forecast().unwrap().points[0].1.median();
        assert!((25.0..=100.0).contains(&median), "{name}: {median} after one value of 50");
    }
}

#[test]
fn a_replayed_or_older_bin_changes_nothing() {
    let mut model = Ensemble::cluster(Grid { step_seconds: 60 }, &TARGETS);
    for index in 0..100 {
        model.observe(Bin::new(index, 10.0 + index as f64));
    }
    let before = model.forecast().cloned();
    model.observe(Bin::new(99, 1e9));
    model.observe(Bin::new(3, 0.0));
    assert_eq!(model.forecast().cloned(), before);
}

#[test]
fn a_censored_bin_never_lowers_a_forecast_below_what_a_missing_bin_leaves() {
    for (name, _) in everyone(60) {
        for low in [0.0, 20.0, 90.0] {
            let run = |bin: Bin| {
                let mut model = everyone(60).into_iter().find(|(n, _)| *n == name).unwrap().1;
                let mut rng = Rng(11);
                for index in 0..bin.index {
                    model.observe(Bin::new(index, diurnal(&mut rng, index * 60, 60)));
                }
                model.observe(bin);
                model.forecast().unwrap().clone()
            };
            let index = 2 * 1440 + 600;
            let missing = run(Bin::missing(index));
            let censored = run(Bin { index, value: Some(low), censored: true });
            for ((target, a), (_, b)) in missing.points.iter().zip(&censored.points) {
                for (a, b) in a.values().iter().zip(b.values()) {
                    // A level that was confirmed may round differently.
                    assert!(
                        b >= a * 0.98 - 1e-6,
                        "{name} {target:?}: {b} with a bound of {low}, {a} without"
                    );
                }
            }
        }
    }
}

#[test]
fn a_workloads_state_stays_within_its_budget() {
    // What `core` asks for, on both grids; issue 5's bar, besides the history.
    let max_over = |steps: &[u32]| steps.iter().map(|&steps| Target::MaxOver { steps }).collect::<Vec<_>>();
    let sizing = Ensemble::cluster(Grid { step_seconds: 10 }, &max_over(&[3, 6, 12, 30])).memory_bytes();
    let at = [1, 2, 5, 15, 30, 60].map(|steps| Target::At { steps });
    let both: Vec<Target> = at.into_iter().chain(max_over(&[2, 5, 15, 30, 60])).collect();
    let grid = Grid { step_seconds: 60 };
    let ahead = Ensemble::cluster(grid, &both).memory_bytes();
    let headless = Ensemble::headless(grid, &both).memory_bytes();
    let parts = format!("{sizing} bytes on 10 s, {ahead} on a minute, {headless} of them without the head");
    assert!(sizing + ahead <= 64 * 1024, "{parts}");
    assert!(sizing + ahead >= 8 * 1024, "{parts} can't be all");
}

fn any_bin() -> impl Strategy<Value = (i64, Option<f64>, bool)> {
    let value = prop_oneof![
        4 => 0.0..1e4_f64,
        2 => Just(0.0),
        1 => any::<f64>(),
        1 => Just(f64::MAX),
        1 => Just(f64::NAN),
        1 => 0.0..1e-300_f64,
    ];
    let gap = prop_oneof![20 => Just(1_i64), 2 => 2..200_i64, 1 => 0..=0_i64, 1 => 1..1_000_000_000_i64];
    (gap, proptest::option::weighted(0.9, value), proptest::bool::weighted(0.1))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn quantiles_are_finite_and_monotone_on_any_input(
        bins in proptest::collection::vec(any_bin(), 1..900),
        start in -1_000_000..1_000_000_i64,
    ) {
        // 3600 s bins: a day passes in 24 bins, so that seasons start within the test.
        for (name, mut model) in everyone(3600) {
            let mut index = start;
            for (gap, value, censored) in &bins {
                index += gap;
                model.observe(Bin { index, value: *value, censored: *censored });
                if let Some(forecast) = model.forecast() {
                    assert_sound(name, forecast);
                }
            }
        }
    }
}
