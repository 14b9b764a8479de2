//! The combiner keeps its bound: JMLR 15 (2014), de Rooij et al., Theorem 8 with the variance bounded by s²/4; and with a
//! prior, forgetting and sleepers what `combiner.rs` derives from it.

#![allow(clippy::unwrap_used, reason = "a test may panic, in its helpers too")]

mod common;

use common::Rng;
use prescale_models::combiner::Combiner;

/// As the ensemble forgets.
const FORGET: f32 = 1.0 / 3000.0;

/// Plays `losses` (rounds of one loss per expert, all awake) without forgetting.
/// Returns regret against the best expert and the bound.
fn play(experts: usize, rounds: usize, mut losses: impl FnMut(usize, &[f64]) -> Vec<f64>) -> (f64, f64) {
    let mut combiner = Combiner::new(&vec![1.0; experts], 1);
    let awake = (1_u32 << experts) - 1;
    let (mut own, mut theirs) = (0.0, vec![0.0; experts]);
    let (mut squares, mut largest) = (0.0, 0.0_f64);
    for round in 0..rounds {
        let weights: Vec<f64> = combiner.weights(0).collect();
        let losses = losses(round, &weights);
        own += combiner.combine(0, losses.iter().copied(), awake).unwrap();
        for (sum, loss) in theirs.iter_mut().zip(&losses) {
            *sum += loss;
        }
        let range =
            losses.iter().copied().fold(f64::MIN, f64::max) - losses.iter().copied().fold(f64::MAX, f64::min);
        squares += range * range;
        largest = largest.max(range);
        combiner.update(0, &losses, awake, 0.0);
    }
    let log = (experts as f64).ln();
    let best = theirs.into_iter().fold(f64::MAX, f64::min);
    (own - best, (squares * log).sqrt() + largest * (4.0 / 3.0 * log + 2.0))
}

#[test]
fn regret_stays_under_the_bound_on_random_alternating_and_adversarial_losses() {
    for experts in [2, 4, 12] {
        let mut rng = Rng(experts as u64);
        let (regret, bound) =
            play(experts, 5000, |_, _| (0..experts).map(|_| rng.uniform() * 37.0).collect());
        assert!(regret <= bound, "random, {experts}: {regret} > {bound}");
        let (regret, bound) =
            play(experts, 5000, |t, _| (0..experts).map(|i| f64::from(u8::from(t % experts == i))).collect());
        assert!(regret <= bound, "alternating, {experts}: {regret} > {bound}");
        // Whoever has the largest weight loses, on a scale that jumps a thousandfold.
        let (regret, bound) = play(experts, 5000, |t, weights| {
            let leader = (0..experts).max_by(|a, b| weights[*a].total_cmp(&weights[*b])).unwrap();
            let size = if t > 2500 { 1000.0 } else { 1.0 };
            (0..experts).map(|i| if i == leader { size } else { 0.0 }).collect()
        });
        assert!(regret <= bound, "adversarial, {experts}: {regret} > {bound}");
        assert!(regret > 0.0, "an adversary that gains nothing tests nothing");
    }
}

/// As the ensemble plays: a prior that is leant once, forgetting, experts that sleep. Holds the regret against each expert over
/// the rounds that it was awake in, the past discounted, to what the combiner's documentation states, round by round; returns
/// the largest regret over its bound.
fn play_as_the_ensemble(keep: f64, adversary: bool, seed: u64) -> f64 {
    const EXPERTS: usize = 5;
    const ROUNDS: usize = 4000;
    let prior = [4.0, 4.0, 1.0, 1.0, 1.0];
    let leaning = [1.0, 1.0, 1.41, 1.0, 0.79];
    let shares = |prior: [f64; EXPERTS]| prior.map(|p| p / prior.iter().sum::<f64>());
    let leant = shares(std::array::from_fn(|k| prior[k] * leaning[k]));
    let mut combiner = Combiner::new(&prior, 1);
    let mut rng = Rng(seed);
    let (mut regrets, mut squares, mut largest) = ([0.0; EXPERTS], 0.0, 0.0_f64);
    let (mut priors, mut jump) = (shares(prior), 0.0);
    let (mut most, log) = (0.0_f64, (EXPERTS as f64).ln());
    for round in 0..ROUNDS {
        if round == ROUNDS / 4 {
            combiner.lean(leaning.into_iter());
            jump = leant.iter().zip(priors).map(|(after, before)| (after / before).ln()).fold(0.0, f64::max);
            priors = leant;
        }
        // The first is always awake; the last wakes up late, the third now and then.
        let mut awake = 0b01011_u32;
        awake |= u32::from(round > ROUNDS / 3) << 4 | u32::from(rng.uniform() < 0.5) << 2;
        let weights: Vec<f64> = combiner.weights(0).collect();
        let is_awake = |k: &usize| awake >> k & 1 == 1;
        let leader =
            (0..EXPERTS).filter(is_awake).max_by(|a, b| weights[*a].total_cmp(&weights[*b])).unwrap();
        let size = if round / 500 % 2 == 0 { 1.0 } else { 30.0 };
        let mut losses: [f64; EXPERTS] = std::array::from_fn(|k| {
            if adversary {
                f64::from(u8::from(k == leader)) * size
            } else {
                size * rng.uniform() * (1.0 - 0.1 * k as f64)
            }
        });
        let range = |fold: fn(f64, f64) -> f64, start| {
            (0..EXPERTS).filter(is_awake).map(|k| losses[k]).fold(start, fold)
        };
        let range = range(f64::max, f64::MIN) - range(f64::min, f64::MAX);
        let own = combiner.combine(0, losses.iter().copied(), awake).unwrap();
        squares = squares * keep * keep + range * range;
        largest = largest.max(range);
        let bound = (squares * log).sqrt() + largest * (4.0 / 3.0 * log + 2.0);
        for k in 0..EXPERTS {
            regrets[k] *= keep;
            if is_awake(&k) {
                regrets[k] += own - losses[k];
            } else {
                // What a sleeper would have lost is nobody's business.
                losses[k] = f64::NAN;
            }
            let stated = 0.5 * (1.0 + (jump - priors[k].ln()) / log) * bound;
            assert!(regrets[k] <= stated, "round {round}, expert {k}: {} > {stated}", regrets[k]);
            most = most.max(regrets[k] / stated);
        }
        combiner.update(0, &losses, awake, (1.0 - keep) as f32);
    }
    most
}

#[test]
fn regret_stays_under_the_stated_bound_with_a_prior_forgetting_and_sleepers() {
    for (keep, adversary) in
        [(1.0, true), (1.0, false), (1.0 - 1.0 / 3000.0, true), (1.0 - 1.0 / 300.0, false)]
    {
        for seed in 0..5 {
            let most = play_as_the_ensemble(keep, adversary, seed);
            assert!(!adversary || most > 0.05, "an adversary that gains nothing tests nothing: {most}");
        }
    }
}

#[test]
fn a_sleeper_that_wakes_up_better_takes_over_within_days_of_minutes() {
    let mut combiner = Combiner::new(&[0.5, 0.5], 1);
    let second = |combiner: &Combiner| combiner.weights(0).nth(1).unwrap();
    for _ in 0..1440 {
        combiner.update(0, &[1.0, f64::NAN], 0b01, FORGET);
    }
    assert!((second(&combiner) - 0.5).abs() < 1e-6, "asleep: nothing lost, nothing won");
    let mut minutes = 0;
    while second(&combiner) < 0.9 {
        combiner.update(0, &[1.0, 0.5], 0b11, FORGET);
        minutes += 1;
        assert!(minutes < 100, "{combiner:?}");
    }
}

#[test]
fn a_former_leader_that_fails_is_left() {
    let mut combiner = Combiner::new(&[0.5, 0.5], 1);
    let second = |combiner: &Combiner| combiner.weights(0).nth(1).unwrap();
    for _ in 0..20_000 {
        combiner.update(0, &[0.1, 0.2], 0b11, FORGET);
    }
    let mut minutes = 0;
    while second(&combiner) < 0.9 {
        combiner.update(0, &[0.4, 0.2], 0b11, FORGET);
        minutes += 1;
        assert!(minutes < 3000, "{combiner:?}");
    }
}
