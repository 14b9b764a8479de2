//! How strange a count is to the day before it: what a flood must be to an isolation forest or to an autoencoder.

use crate::expert::Bin;
use crate::forecast::Grid;
use crate::neural::{Level, Profile};
use crate::nn::Random;
use crate::scale::LocalScale;

use super::autoencoder::{Autoencoder, SPAN};
use super::forest::Forest;

/// What the forest sees of a bin.
const FEATURES: usize = 6;

/// Bins that are looked back on: a day of minutes.
const PAST: i64 = 1440;

/// Bins that levels need before a point means something: the last hour's.
const FIRST: usize = 60;

/// Passes of the autoencoder over that day: its step is small (`autoencoder.rs`), and one pass of it is no training.
const PASSES: usize = 5;

/// With fewer known bins nothing is said.
pub(super) const LEAST_PAST: usize = 256;

/// How strange a bin is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scores {
    /// The isolation forest's: ½ is usual, 1 is the limit.
    pub forest: f64,
    /// The autoencoder's error, in usual errors.
    pub autoencoder: f64,
}

/// The running levels that a bin is seen beside.
struct Levels {
    last: f64,
    run: u32,
    peak: f64,
    movement: LocalScale,
    quarter: Level,
    hour: Level,
    minute: Profile,
}

impl Levels {
    fn new(grid: Grid) -> Self {
        Self {
            last: 0.0,
            run: 1,
            peak: 0.0,
            movement: LocalScale::new(Grid { step_seconds: 1 }),
            quarter: Level::new(300.0, grid),
            hour: Level::new(3600.0, grid),
            minute: Profile::new(3600, 0, 0.2, grid),
        }
    }

    /// Distances in local scales, the run of equal counts and the share of the largest.
    fn features(&self, index: i64, count: f64) -> [f32; FEATURES] {
        let scale = self.movement.value();
        let relative = |distance: f64| libm::asinh(distance / scale) as f32;
        let hour = self.hour.value();
        let usual = if self.minute.ready() { self.minute.at(index) } else { hour };
        let run = if count.total_cmp(&self.last).is_eq() { self.run + 1 } else { 1 };
        [
            relative(count - hour),
            relative(count - self.last),
            relative(count - usual),
            relative(self.quarter.value() - hour),
            libm::log1p(f64::from(run)) as f32,
            libm::log((count + 1.0) / (self.peak + 1.0)) as f32,
        ]
    }

    fn add(&mut self, index: i64, count: f64) {
        self.run = if count.total_cmp(&self.last).is_eq() { self.run + 1 } else { 1 };
        self.last = count;
        self.peak = self.peak.max(count);
        self.movement.observe(Bin::new(index, count));
        self.quarter.add(count);
        self.hour.add(count);
        self.minute.add(index, count);
    }
}

/// Grows a forest and trains an autoencoder on the day before bin `index`, whose `past` counts are asked for by index, and
/// scores `count` by both; deterministic, some milliseconds. `None` with too little past.
pub(super) fn score(grid: Grid, index: i64, count: f64, past: impl Fn(i64) -> Option<f64>) -> Option<Scores> {
    let mut random = Random::new(index as u64);
    let (mut levels, mut coder) = (Levels::new(grid), Autoencoder::new(&mut random));
    let (mut points, mut shapes, mut shape, mut known) = (Vec::new(), Vec::new(), [0.0; SPAN], 0);
    let mut enter = |levels: &Levels, index: i64, count: f64| {
        let features = levels.features(index, count);
        shape.copy_within(1.., 0);
        shape[SPAN - 1] = features[0];
        (features, shape)
    };
    for index in index - PAST..index {
        let Some(count) = past(index) else { continue };
        let (features, shape) = enter(&levels, index, count);
        levels.add(index, count);
        known += 1;
        if known > FIRST {
            points.push(features);
            shapes.push(shape);
        }
    }
    if known < LEAST_PAST {
        return None;
    }
    (0..PASSES).for_each(|_| shapes.iter().for_each(|shape| coder.learn(shape)));
    let (features, shape) = enter(&levels, index, count);
    let forest = Forest::grow(&points, &mut random);
    Some(Scores { forest: forest.score(&features), autoencoder: coder.score(&shape) })
}
