//! The trees as they are fitted anew: to rows of every workload's history, as many of each; and both boosters on the same later
//! bins. A fit has no start to go on from, as a network's training has: what it makes is the history's alone.

use std::sync::Arc;

use crate::expert::Bin;
use crate::forecast::{Grid, Target};
use crate::neural::lesson::{LARGEST_WEIGHT, STRIDE, outcome, usual};
use crate::nn::Random;
use crate::retraining::{BINS_PER_STEP, History, Judge, Learner, RetrainingSettings};
use crate::weights::Weights;

use super::booster::Booster;
use super::examples::Examples;
use super::expert::{POOLED, answer};
use super::features::{Features, SIZE};
use super::fitting::Fitting;

/// Rows of all workloads together at most, as many of each: they and what is fitted to them are some 15 MB.
const ROWS: usize = 40_000;

/// Collects rows and fits a challenger to them.
pub(crate) struct Student {
    grid: Grid,
    targets: Vec<Target>,
    workloads: usize,
    replay: Option<Replay>,
    /// Where rows of the workload under way are still to be taken, by bins of its history, the next one last.
    origins: Vec<usize>,
    examples: Examples,
    fitting: Option<Fitting>,
}

impl Student {
    pub(crate) fn new(settings: RetrainingSettings) -> Self {
        let targets = learned(&settings);
        let RetrainingSettings { grid, workloads, .. } = settings;
        let (replay, origins, examples, fitting) = Default::default();
        Self { grid, targets, workloads, replay, origins, examples, fitting }
    }

    fn collect(&mut self, t: usize) {
        if self.origins.last() != Some(&t) {
            return;
        }
        self.origins.pop();
        let Some(replay) = self.replay.as_ref().filter(|it| it.features.awake()) else { return };
        for (number, target) in self.targets.iter().enumerate() {
            let Some(truth) = replay.outcome(t, *target).filter(|_| self.examples.labels.len() < ROWS) else {
                continue;
            };
            let (base, unit) = replay.features.base(number);
            self.examples.rows.extend(replay.features.row(number));
            self.examples.labels.push((truth - base) / unit);
        }
    }
}

impl Learner for Student {
    fn give(&mut self, History { first, rates }: History, random: &mut Random) {
        // One at random in each of equal parts: evenly over the history, and in step with no timer.
        let (wanted, bins) = (ROWS / (self.targets.len() * self.workloads).max(1), rates.len());
        let parts = wanted.clamp(1, bins);
        let part = |i: usize| i * bins / parts..(i + 1) * bins / parts;
        self.origins = (0..parts).rev().map(|i| part(i).start + random.below(part(i).len())).collect();
        self.replay = Some(Replay::new(self.grid, &self.targets, first, rates));
    }

    fn work(&mut self, given: usize) -> bool {
        if let Some(replay) = &mut self.replay {
            let (from, bins) = (replay.at, BINS_PER_STEP.min(replay.rates.len() - replay.at));
            for t in from..from + bins {
                self.replay.iter_mut().for_each(|replay| replay.observe());
                self.collect(t);
            }
            if bins < BINS_PER_STEP {
                self.replay = None;
            }
            return true;
        }
        if given < self.workloads || self.examples.labels.is_empty() {
            return false;
        }
        let Examples { rows, labels } = &self.examples;
        self.fitting.get_or_insert_with(|| Fitting::new(rows, SIZE, labels, POOLED)).step(rows, labels)
    }

    fn challenger(&self) -> Option<(Weights, usize)> {
        let booster = self.fitting.as_ref()?.so_far();
        Some((Arc::new(booster.clone()).into(), booster.leaves().count()))
    }
}

/// Two boosters over the same bins, by the same features.
pub(crate) struct Duel {
    grid: Grid,
    targets: Vec<Target>,
    boosters: [Arc<Booster>; 2],
    replay: Option<Replay>,
    /// The workload's usual movement, per target, as a count.
    usual: Vec<f64>,
    /// Where the workload under way begins to count, in bins of its history.
    from: usize,
}

impl Duel {
    pub(crate) fn new(boosters: [Arc<Booster>; 2], settings: &RetrainingSettings) -> Self {
        let (grid, targets) = (settings.grid, learned(settings));
        Self { grid, targets, boosters, replay: None, usual: Vec::new(), from: 0 }
    }

    /// The mean over the targets whose outcome is known of how far each booster is off, in the workload's usual movement as a
    /// network's errors are.
    fn compare(&self, replay: &Replay, t: usize) -> Option<[f64; 2]> {
        let (mut losses, mut count) = ([0.0; 2], 0_u32);
        let seconds = f64::from(self.grid.step_seconds);
        for (number, (target, usual)) in self.targets.iter().zip(&self.usual).enumerate() {
            let Some(truth) = replay.outcome(t, *target) else { continue };
            count += 1;
            let unit = (usual / seconds).max(replay.features.scale() / LARGEST_WEIGHT);
            for (loss, booster) in losses.iter_mut().zip(&self.boosters) {
                *loss += (truth - answer(booster, &replay.features, number)).abs() / unit;
            }
        }
        (count > 0).then(|| losses.map(|loss| loss / f64::from(count)))
    }
}

impl Judge for Duel {
    fn give(&mut self, History { first, rates }: History, from: usize) {
        let seconds = f64::from(self.grid.step_seconds);
        self.usual = self.targets.iter().map(|target| usual(&rates[..from], *target, seconds)).collect();
        (self.replay, self.from) = (Some(Replay::new(self.grid, &self.targets, first, rates)), from);
    }

    fn read(&mut self) -> Option<(i64, Option<[f64; 2]>)> {
        let mut replay = self.replay.take().filter(|it| it.at < it.rates.len())?;
        replay.observe();
        let t = replay.at - 1;
        let asked = t >= self.from && t.is_multiple_of(STRIDE) && replay.features.awake();
        let losses = asked.then(|| self.compare(&replay, t)).flatten();
        let index = replay.first + t as i64;
        self.replay = Some(replay);
        Some((index, losses))
    }
}

/// What trees learn to forecast: of a maximum they correct the largest value of a member's own path, by what they know of its
/// last bin. What noise adds is the residual quantiles', and would reward whoever is too high.
fn learned(settings: &RetrainingSettings) -> Vec<Target> {
    settings.targets.iter().copied().filter(|target| matches!(target, Target::At { .. })).collect()
}

/// Goes through a history bin by bin.
struct Replay {
    features: Features,
    first: i64,
    rates: Vec<f64>,
    at: usize,
}

impl Replay {
    fn new(grid: Grid, targets: &[Target], first: i64, rates: Vec<f64>) -> Self {
        Self { features: Features::new(grid, targets), first, rates, at: 0 }
    }

    /// Takes the next bin, which there must be.
    fn observe(&mut self) {
        let bin = Bin::new(self.first + self.at as i64, self.rates[self.at]).sane();
        self.features.observe(bin, |_, _, _| {});
        self.at += 1;
    }

    fn outcome(&self, t: usize, target: Target) -> Option<f64> {
        outcome(&self.rates, t, target, 1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::super::expert::shipped;
    use super::*;
    use crate::retraining::JUDGED_BINS;
    use crate::retraining::testing::{BINS, GRID, run, run_with, shuffled};

    /// Noise, and five minutes after each tenth bin or so, which is low, a high one: no clock knows when, and a line through low,
    /// usual and high bins is not what follows them.
    fn announced(seed: u64) -> Vec<f64> {
        let mut random = Random::new(seed);
        let mut rates: Vec<f64> = (0..BINS).map(|_| 20.0 + random.unit()).collect();
        for t in 0..BINS - 5 {
            if random.below(10) == 0 {
                (rates[t], rates[t + 5]) = (10.0, 30.0);
            }
        }
        rates
    }

    fn noise(seed: u64) -> Vec<f64> {
        let mut random = Random::new(seed);
        (0..BINS).map(|_| 1.0 + random.unit()).collect()
    }

    #[test]
    fn what_no_shipped_tree_knows_admits_those_that_saw_it_and_the_same_history_gives_the_same_bytes() {
        let histories: Vec<Vec<f64>> = (0..4).map(announced).collect();
        let (challenge, steps) = run(shipped(), &histories);
        let challenge = challenge.unwrap();
        assert!(challenge.admitted && challenge.verdict.unwrap().mean > 0.2, "{:?}", challenge.verdict);
        assert_eq!((challenge.taught, challenge.judged, challenge.updates), (4, 4, POOLED.trees));
        assert!(challenge.records >= 190, "{}", challenge.records);
        // A step is 60 bins, a regressor's cut points or a split: reading twice, some to begin and end trees and change over.
        let splits = 30;
        let most = 2 * 4 * (BINS / BINS_PER_STEP + 2) + SIZE + POOLED.trees * (splits + 2) + 10;
        assert!(steps <= most, "{steps} steps, at most {most}");
        let again = run(challenge.weights.clone(), &histories).0.unwrap();
        assert_eq!(again.weights, challenge.weights);
        assert!(!again.admitted, "what runs already is no better than itself");
    }

    #[test]
    fn what_comes_after_the_split_teaches_nothing() {
        let histories = [announced(1)];
        let mut changed = histories.clone();
        changed[0][BINS - JUDGED_BINS..].iter_mut().for_each(|rate| *rate = 500.0 - *rate);
        let (one, other) = (run(shipped(), &histories).0.unwrap(), run(shipped(), &changed).0.unwrap());
        assert_eq!(one.weights, other.weights);
        assert_ne!(one.verdict, other.verdict, "the later bins judge, or this test would not");
    }

    #[test]
    fn trees_that_learned_from_noise_or_from_bins_in_no_order_are_refused() {
        let champion = run(shipped(), &[announced(1), announced(2)]).0.unwrap().weights;
        let mut random = Random::new(5);
        let histories = [1, 2].map(|seed| shuffled(announced(seed), &mut random));
        let challenge = run(champion, &histories).0.unwrap();
        assert!(!challenge.admitted && challenge.verdict.unwrap().mean < 0.0, "{:?}", challenge.verdict);
        // Of noise there is nothing to learn that other noise has not taught.
        let champion = run(shipped(), &[noise(1), noise(2)]).0.unwrap().weights;
        let challenge = run(champion, &[noise(3), noise(4)]).0.unwrap();
        assert!(!challenge.admitted, "{:?}", challenge.verdict);
    }

    #[test]
    fn who_has_no_day_before_the_split_teaches_nothing_and_gaps_are_no_lessons() {
        let short = announced(1).split_off(BINS - JUDGED_BINS - 100);
        let (outcome, _) = run_with(shipped(), 2, |workload| (workload == 0).then(|| short.clone()));
        assert_eq!(outcome, None);
        let mut gaps = announced(1);
        gaps[BINS - JUDGED_BINS..].fill(f64::NAN);
        let challenge = run(shipped(), &[gaps]).0.unwrap();
        assert_eq!((challenge.admitted, challenge.verdict, challenge.judged), (false, None, 0));
    }

    #[test]
    fn rows_are_evenly_of_all_workloads_and_bounded_whatever_their_number() {
        for (workloads, each) in [(1, 2 * BINS), (100, 2 * (ROWS / 200)), (2 * ROWS, 2)] {
            let targets =
                vec![Target::At { steps: 5 }, Target::MaxOver { steps: 15 }, Target::At { steps: 1 }];
            let settings = RetrainingSettings { grid: GRID, targets, workloads, end: 0, seed: 1 };
            let mut student = Student::new(settings);
            let mut random = Random::new(1);
            for turn in 1..=6 {
                student.give(History { first: 0, rates: noise(turn as u64) }, &mut random);
                while student.work(0) {}
                let (taught, most) = (student.examples.labels.len(), ROWS.min(turn * each));
                // But for origins in the first hour, and those whose outcome is not known.
                assert!(taught <= most && taught * 10 >= most * 9, "{workloads}: {taught} of {most}");
            }
            assert_eq!(student.examples.rows.len(), student.examples.labels.len() * SIZE);
        }
    }
}
