//! The regime classifier: its tree is what linfa-trees fits on the generator's series, and it knows series it never saw.

#![allow(clippy::unwrap_used, reason = "a test may panic, in its helpers too")]

mod common;

use std::fmt::Write;

use common::Rng;
use linfa::prelude::{Fit, Predict};
use linfa_trees::{DecisionTree, SplitQuality, TreeNode};
use ndarray::{Array1, Array2};
use prescale_models::regime::{FEATURE_NAMES, FEATURES, Regime, TREE, classify, decide, features};
use prescale_models::{Bin, Ensemble, Grid, ModelKind, Target};

/// Series per regime that the tree is fitted on, and that it is tested on.
const FITTED: usize = 400;
const HELD_OUT: usize = 200;

/// A count of mean `mean`: exact for small ones, by the normal distribution for large ones.
fn poisson(rng: &mut Rng, mean: f64) -> f64 {
    if mean > 30.0 {
        return (mean + mean.sqrt() * rng.normal()).round().max(0.0);
    }
    let (least, mut product, mut count) = (libm::exp(-mean), rng.uniform(), 0.0);
    while product > least {
        product *= rng.uniform();
        count += 1.0;
    }
    count
}

/// Between `low` and `high`, evenly in the logarithm.
fn between(rng: &mut Rng, low: f64, high: f64) -> f64 {
    low * libm::exp(rng.uniform() * libm::log(high / low))
}

/// Requests/s of an hour or more of bins: an hour of minutes, or one to five hours of five minutes.
fn series(regime: Regime, rng: &mut Rng) -> (Vec<f64>, u32) {
    let (bins, step) = [(60, 60), (12, 300), (48, 300)][(rng.uniform() * 3.0) as usize];
    let level = between(rng, 3.0, 5000.0);
    let noise = 0.15 * rng.uniform();
    let growth = between(rng, 1.6, 5.0).powi(if rng.uniform() < 0.5 { 1 } else { -1 });
    let (often, size, decay) = (0.02 + 0.08 * rng.uniform(), between(rng, 2.0, 20.0), 0.8 * rng.uniform());
    let period = 2 + (rng.uniform() * f64::from(bins / 3 - 1)) as i32;
    let strike = (rng.uniform() * f64::from(period)) as i32;
    let idle = between(rng, 0.01, 0.6);
    // Some timers are all the load there is.
    let base = if rng.uniform() < 0.3 { 0.0 } else { level };
    let mut burst = 0.0;
    let counts = (0..bins).map(|i| {
        let wobble = 1.0 + noise * rng.normal();
        let mean = match regime {
            Regime::Idle => idle,
            Regime::Steady => level * wobble,
            Regime::Trending => level * libm::pow(growth, f64::from(i) / f64::from(bins)) * wobble,
            Regime::Bursty => {
                burst *= decay;
                // A burst at least, or it would be a steady hour.
                if rng.uniform() < often || i == bins / 2 {
                    burst += level * size * (0.5 + rng.uniform());
                }
                level * wobble + burst
            }
            Regime::CronLike => {
                let spike =
                    if i % period == strike { level * size * (0.8 + 0.4 * rng.uniform()) } else { 0.0 };
                base * wobble + spike
            }
        };
        poisson(rng, mean.max(0.0)) / f64::from(step)
    });
    (counts.collect(), step)
}

fn rows(count: usize, seed: u64) -> Vec<([f64; FEATURES], Regime)> {
    let mut rng = Rng(seed);
    let each = |regime| (0..count).map(move |_| regime);
    let all: Vec<Regime> = Regime::ALL.into_iter().flat_map(each).collect();
    all.into_iter()
        .map(|regime| {
            let (values, step) = series(regime, &mut rng);
            (features(&values, step), regime)
        })
        .collect()
}

fn table(rows: &[([f64; FEATURES], Regime)]) -> Array2<f64> {
    Array2::from_shape_fn((rows.len(), FEATURES), |(row, column)| rows[row].0[column])
}

fn fit() -> DecisionTree<f64, usize> {
    let rows = rows(FITTED, 1);
    let labels = Array1::from_iter(rows.iter().map(|(_, regime)| *regime as usize));
    let data = linfa::Dataset::new(table(&rows), labels);
    // Customary sizes; five levels are still read at a glance.
    let settings = DecisionTree::params().split_quality(SplitQuality::Gini).max_depth(Some(5));
    settings.min_weight_leaf(20.0).fit(&data).unwrap()
}

fn print(node: &TreeNode<f64, usize>, depth: usize, text: &mut String) {
    let indent = "  ".repeat(depth);
    if let Some(class) = node.prediction().filter(|_| node.is_leaf()) {
        writeln!(text, "{indent}{}", Regime::ALL[class].name()).unwrap();
        return;
    }
    let (feature, threshold, _) = node.split();
    writeln!(text, "{indent}{} < {threshold}", FEATURE_NAMES[feature]).unwrap();
    for child in node.children() {
        print(child.as_ref().unwrap(), depth + 1, text);
    }
}

#[test]
fn the_shipped_tree_is_what_linfa_fits() {
    let tree = fit();
    let mut text = String::new();
    print(tree.root_node(), 0, &mut text);
    assert!(text == TREE, "models/weights/regime.txt should be:\n{text}");
    let card = include_str!("../../docs/models/regime.md");
    assert!(card.contains(TREE), "the model card prints another tree");
    let held_out = rows(HELD_OUT, 2);
    let predicted = tree.predict(&table(&held_out));
    for ((features, _), class) in held_out.iter().zip(predicted) {
        assert_eq!(decide(features) as usize, class, "{features:?}");
    }
}

#[test]
fn it_knows_series_that_it_never_saw() {
    let held_out = rows(HELD_OUT, 2);
    let mut all = 0;
    for regime in Regime::ALL {
        let own = || held_out.iter().filter(|(_, r)| *r == regime);
        let right = own().filter(|(features, r)| decide(features) == *r).count();
        assert!(right * 100 >= HELD_OUT * 80, "{regime:?}: {right} of {HELD_OUT}");
        all += right;
    }
    assert!(all * 100 >= held_out.len() * 90, "{all} of {} at all", held_out.len());
}

#[test]
fn size_does_not_matter_and_nothing_measured_is_idle() {
    let mut rng = Rng(3);
    for regime in [Regime::Steady, Regime::Trending, Regime::Bursty, Regime::CronLike] {
        let (values, step) = series(regime, &mut rng);
        let larger: Vec<f64> = values.iter().map(|v| v * 1000.0).collect();
        assert_eq!(classify(&values, step), classify(&larger, step), "{regime:?}");
    }
    assert_eq!(classify(&[], 60), Regime::Idle);
    assert_eq!(classify(&[0.0; 60], 60), Regime::Idle);
    assert_eq!(classify(&[1e15; 60], 60), Regime::Steady);
}

#[test]
fn an_ensemble_names_the_last_hours_regime_anew_every_hour() {
    let mut ensemble = Ensemble::headless(Grid { step_seconds: 60 }, &[Target::At { steps: 5 }]);
    let timer = |i: i64| if i % 10 == 0 { 50.0 } else { 5.0 };
    let mut rng = Rng(4);
    for i in 7..300 {
        ensemble.observe(Bin::new(i, if i < 130 { 20.0 + rng.normal() } else { timer(i) }));
        let expected = match i {
            ..67 => None,
            // At 180 the timer has struck for 50 minutes beside ten steady ones.
            67..180 => Some(Regime::Steady),
            _ => Some(Regime::CronLike),
        };
        assert_eq!(ensemble.regime(), expected, "minute {i}");
    }
    (300..=360).for_each(|index| ensemble.observe(Bin { index, value: None, censored: false }));
    assert_eq!(ensemble.regime(), None, "nothing was measured");
    let mut fine = Ensemble::headless(Grid { step_seconds: 10 }, &[Target::At { steps: 5 }]);
    (0..500).for_each(|i| fine.observe(Bin::new(i, 20.0)));
    assert_eq!(fine.regime(), None, "a grid of seconds");
}

#[test]
fn the_first_hours_regime_moves_the_weights_to_start_from() {
    let timer = |i: i64, _: &mut Rng| if i % 10 == 0 { 50.0 } else { 5.0 };
    let steady = |_: i64, rng: &mut Rng| 20.0 + rng.normal();
    let share = |load: &dyn Fn(i64, &mut Rng) -> f64| {
        let mut ensemble = Ensemble::headless(Grid { step_seconds: 60 }, &[Target::At { steps: 5 }]);
        let mut rng = Rng(4);
        (0..61).for_each(|i| ensemble.observe(Bin::new(i, load(i, &mut rng))));
        let weight = |model| ensemble.weights().find(|it| it.model == model).map_or(f64::NAN, |it| it.weight);
        weight(ModelKind::HourlyHoltWinters) / weight(ModelKind::TunedSmoothing)
    };
    // A quarter of smoothing's, times what the regime says: nothing has been settled but smoothing's own forecasts.
    assert!((share(&timer) - 0.25 * 1.41).abs() < 1e-4, "cron-like: {}", share(&timer));
    assert!((share(&steady) - 0.25 * 0.79).abs() < 1e-4, "steady: {}", share(&steady));
}
