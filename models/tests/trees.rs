//! The boosted trees against XGBoost, LightGBM and, for quantiles, a brute-force search in exact fractions; the pooled ones
//! that ship.
//!
//! The expected values were made by `models/tests/reference/trees.py`, which says with which versions.

use prescale_models::neural::training::hash;
use prescale_models::trees::{
    Booster, Collector, Examples, FEATURES, Growth, Objective, PooledTrees, Settings, fingerprint,
};
use prescale_models::{AllWeights, Bin, Choice, Ensemble, Grid, Target, WeightsKind};

/// As `data` in the script: rows of three, labels.
fn data(n: usize) -> (Vec<f32>, Vec<f64>) {
    let mut x = 12_345_u64;
    let mut draw = |bound: u64| {
        x = (1_103_515_245 * x + 12_345) % (1 << 31);
        (x / 65_536 % bound) as f64
    };
    let (mut rows, mut labels) = (Vec::new(), Vec::new());
    for _ in 0..n {
        let (a, b, c) = (draw(20), draw(16), draw(10));
        rows.extend([a as f32, b as f32, c as f32]);
        let step = if c > 6.0 && a < 9.0 { 20.0 } else { 0.0 };
        labels.push(3.0 * a + (b - 8.0) * (b - 8.0) + step + draw(1000) / 37.0);
    }
    (rows, labels)
}

/// Predictions for the first six rows.
fn fitted(settings: &Settings) -> [f64; 6] {
    let (rows, labels) = data(400);
    let booster = Booster::fit(&rows, 3, &labels, settings);
    std::array::from_fn(|i| booster.predict(&rows[3 * i..3 * i + 3]))
}

fn assert_near(got: [f64; 6], expected: [f64; 6]) {
    // XGBoost adds up in f32.
    let near = got.iter().zip(expected).all(|(got, expected)| (got - expected).abs() < 2e-3);
    assert!(near, "{got:?} instead of {expected:?}");
}

const PLAIN: Settings = Settings {
    objective: Objective::Squared,
    growth: Growth::DepthWise { depth: 3 },
    trees: 12,
    rate: 0.3,
    ridge: 0.0,
    least_gain: 0.0,
    least_weight: 7.0,
};

#[test]
fn depth_wise_growth_with_second_order_gains_is_xgboost() {
    let got = fitted(&Settings { ridge: 2.0, ..PLAIN });
    assert_near(got, [64.8515, 58.8496, 52.6721, 100.6484, 64.2301, 53.5762]);
}

#[test]
fn leaf_wise_growth_is_lightgbm() {
    let got = fitted(&Settings { growth: Growth::LeafWise { leaves: 9 }, rate: 0.2, ridge: 0.5, ..PLAIN });
    assert_near(got, [65.6686, 61.7784, 49.9579, 96.805, 65.2769, 53.9599]);
}

#[test]
fn quantile_trees_are_those_of_an_exhaustive_search() {
    for (level, expected) in [
        (0.1, [40.8062, 38.0843, 41.3914, 50.3431, 50.3431, 39.5699]),
        (0.5, [52.116, 66.58, 52.2873, 89.2394, 58.3319, 58.3319]),
        (0.9, [80.6925, 80.6925, 80.6925, 105.6397, 80.6925, 80.6925]),
    ] {
        let settings = Settings { objective: Objective::Quantile(level), trees: 4, ..PLAIN };
        assert_near(fitted(&settings), expected);
    }
}

#[test]
fn the_shipped_booster_was_fitted_by_this_code() {
    let sidecar: serde_json::Value = serde_json::from_str(include_str!("../weights/trees.json")).unwrap();
    let bytes = include_bytes!("../weights/trees.safetensors");
    assert!(bytes.len() < 300_000, "{} bytes", bytes.len());
    assert_eq!(sidecar["weights"], format!("{:016x}", hash(bytes)), "the JSON file's");
    // Where this fails, regressors or fit have changed since: `cargo xtask train --core trees`, and new figures in the card.
    assert_eq!(sidecar["code"], format!("{:016x}", fingerprint()));
    assert_eq!(sidecar["code"], WeightsKind::Trees.code());
    // They saw what the networks saw: the test that holds these to the training parts holds for both.
    let gru: serde_json::Value = serde_json::from_str(include_str!("../weights/gru.json")).unwrap();
    let until = |it: &serde_json::Value| {
        let saw = it["saw"].as_array().unwrap().iter();
        saw.map(|it| (it["trace"].to_string(), it["until"].to_string())).collect::<Vec<_>>()
    };
    assert_eq!(until(&sidecar), until(&gru));
}

#[test]
fn an_example_is_every_so_many_th_origin_with_the_outcome_that_followed() {
    let targets = [Target::At { steps: 1 }, Target::At { steps: 30 }];
    let mut collector = Collector::new(Grid { step_seconds: 300 }, &targets, 2);
    let mut examples = Examples::default();
    for index in 0..4 * 288_i64 {
        collector.observe(Bin::new(index, 50.0 + (index * 7919 % 101) as f64), &mut examples);
    }
    assert_eq!(examples.labels.len(), examples.rows.len() / FEATURES);
    // Two targets of every second origin, but for the first hour and what is not due at the end.
    assert!((1100..=2 * 576).contains(&examples.labels.len()), "{}", examples.labels.len());
}

#[test]
fn other_weights_correct_from_the_next_bin_on_and_what_was_learned_of_the_series_stays() {
    let grid = Grid { step_seconds: 60 };
    let targets = [Target::At { steps: 5 }, Target::MaxOver { steps: 15 }];
    let bin = |i: i64| Bin::new(i, 50.0 + (i * 7919 % 101) as f64);
    let (mut examples, mut collector) = (Examples::default(), Collector::new(grid, &targets[..1], 1));
    (0..600).for_each(|i| collector.observe(Bin::new(i, 90.0 + (i % 17) as f64), &mut examples));
    let other = PooledTrees::fit(&examples);
    let choice = Choice::of(["tuned_smoothing", "trees"]).unwrap();
    let with = |weights: &AllWeights| Ensemble::chosen(grid, &targets, &choice, weights);
    let (mut model, mut unchanged) = (with(&AllWeights::shipped()), with(&AllWeights::shipped()));
    for i in 0..600 {
        model.observe(bin(i));
        unchanged.observe(bin(i));
    }
    let mut weights = AllWeights::shipped();
    weights.set(other.clone().into());
    // What was saved before the change is taken by who starts with the new weights, and comes to the same.
    let mut restored = with(&weights).restored(&model.save()).unwrap();
    model.set_weights(&other.into());
    for i in 600..660 {
        [&mut model, &mut unchanged, &mut restored].into_iter().for_each(|it| it.observe(bin(i)));
        assert_eq!(model.forecast(), restored.forecast(), "bin {i}");
        assert_ne!(model.forecast(), unchanged.forecast(), "bin {i}");
    }
}
