//! The series that the tests of lessons and of training learn from.

use crate::forecast::{Grid, Target};
use crate::nn::Random;

/// Minutes.
pub(super) const GRID: Grid = Grid { step_seconds: 60 };

/// One of each kind of target.
pub(super) const TARGETS: [Target; 2] = [Target::At { steps: 5 }, Target::MaxOver { steps: 3 }];

/// A timer's spike every quarter-hour over noise: what the last value can't forecast.
pub(super) fn rates(seed: u64, bins: usize) -> Vec<f64> {
    let mut random = Random::new(seed);
    (0..bins).map(|i| random.unit() + if (i as u64 + seed).is_multiple_of(15) { 20.0 } else { 0.0 }).collect()
}
