//! A load that changes so that what was good becomes bad: the head and the experts lose their say within minutes.

mod common;

use common::Rng;
use prescale_models::{Bin, Ensemble, Grid, Level, ModelKind, Target};

const GRID: Grid = Grid { step_seconds: 60 };
const DAY: i64 = 1440;

/// What `core` asks of a grid of minutes.
fn targets() -> Vec<Target> {
    let steps = [1, 2, 5, 15, 30, 60];
    let max_over = steps[1..].iter().map(|&steps| Target::MaxOver { steps });
    max_over.chain(steps.iter().map(|&steps| Target::At { steps })).collect()
}

/// Bursts that die out within the half-hour for two days, which the head knows better than the experts; then the load stands
/// at a height for twenty minutes, and at another for the next twenty. After two hours the bursts are back.
fn bursts_then_steps(seed: u64, bins: i64) -> Vec<Bin> {
    let (mut rng, mut level) = (Rng(seed), 5.0);
    let mut next = |i| {
        if rng.uniform() < 0.003 {
            level += 200.0 * rng.uniform();
        }
        level += 0.1 * (5.0 - level);
        let burst = level * (0.7 + 0.6 * rng.uniform());
        match i - 2 * DAY {
            ..0 | 120.. => burst,
            since if since / 20 % 2 == 0 => 100.0,
            _ => 5.0,
        }
    };
    (0..bins).map(|i| Bin::new(i, next(i))).collect()
}

#[test]
fn a_head_that_begins_to_hurt_is_out_within_minutes_and_comes_back() {
    let mut delays = Vec::new();
    for seed in 1..=3 {
        let bins = bursts_then_steps(seed, 2 * DAY + 600);
        let (mut with, mut without) =
            (Ensemble::cluster(GRID, &targets()), Ensemble::headless(GRID, &targets()));
        let (mut demoted, mut back) = (None, None);
        for (i, bin) in (1 - 2 * DAY..).zip(&bins) {
            with.observe(*bin);
            without.observe(*bin);
            let Some(head) = with.head() else { panic!("a grid of minutes has a head") };
            if i == 0 {
                assert!(head.admitted && head.demotions == 0, "seed {seed}: {head:?}");
            }
            if head.demotions == 1 && demoted.is_none() {
                demoted = Some(i);
            }
            if head.demoted {
                assert!(!head.admitted);
                assert_eq!(with.forecast(), without.forecast(), "seed {seed}: bin {i}");
            } else if demoted.is_some() && back.is_none() {
                assert!(head.admitted, "its 500 records still speak for it");
                back = Some(i);
            }
        }
        assert!(back > demoted, "seed {seed}: demoted after {demoted:?} bins, back after {back:?}");
        delays.push(demoted);
    }
    let soon = |delay: &Option<i64>| delay.is_some_and(|minutes| (1..=15).contains(&minutes));
    assert!(delays.iter().all(soon), "minutes until the demotion: {delays:?}");
}

#[test]
fn a_demoted_head_is_still_demoted_after_a_restart() {
    let bins = bursts_then_steps(1, 2 * DAY + 18);
    let mut model = Ensemble::cluster(GRID, &targets());
    bins.iter().for_each(|bin| model.observe(*bin));
    assert!(model.head().is_some_and(|head| head.demoted && head.demotions == 1), "{:?}", model.head());
    let restored = Ensemble::cluster(GRID, &targets()).restored(&model.save());
    assert_eq!(restored.ok().and_then(|it| it.head()), model.head());
}

/// An expert that followed the day has most of the weight; the load then stands at a level that no day had. For the bins
/// that are settled in time (1 and 5 ahead) its weight is gone within ten minutes.
#[test]
fn an_expert_that_turns_bad_loses_its_weight_within_minutes() {
    let near = [1, 5].map(|steps| Target::At { steps });
    let mut model = Ensemble::headless(GRID, &near);
    let mut rng = Rng(1);
    let mut load = |i: i64| {
        let wave = |period: f64| libm::sin(i as f64 / period * std::f64::consts::TAU);
        let known = 100.0 + 80.0 * wave(1440.0) + 20.0 * wave(60.0);
        (0.9 + 0.2 * rng.uniform()) * if i < 4 * DAY { known } else { 300.0 }
    };
    let weights = |model: &Ensemble, target| -> Vec<(ModelKind, f64)> {
        let of = model.weights().filter(move |w| w.target == target && w.level == Level::P50);
        of.map(|w| (w.model, w.weight)).collect()
    };
    (0..4 * DAY).for_each(|i| model.observe(Bin::new(i, load(i))));
    let leaders = near.map(|target| {
        let leader = weights(&model, target).into_iter().max_by(|a, b| a.1.total_cmp(&b.1));
        leader.unwrap_or_else(|| panic!("{target:?} has experts"))
    });
    assert!(leaders.iter().all(|(_, weight)| *weight > 0.4), "{leaders:?}");
    (4 * DAY..4 * DAY + 10).for_each(|i| model.observe(Bin::new(i, load(i))));
    for (target, (leader, before)) in near.into_iter().zip(leaders) {
        let now = weights(&model, target).into_iter().find(|(kind, _)| *kind == leader).map(|(_, w)| w);
        assert!(now.is_some_and(|now| now < 0.1), "{target:?}: {leader:?} {before} → {now:?}");
    }
}
