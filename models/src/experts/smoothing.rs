//! Tuned exponential smoothing: eight factors run side by side, each target follows the one that served it best.

use crate::expert::{Bin, Expert, ModelKind};
use crate::forecast::{Grid, Target};
use crate::state::state;
use crate::window::{Outcome, Window};

/// The factors per bin. Those of `evaluate.py`'s `ses_opt`, roughly a factor of two apart, and one slower for 10 s
/// bins, where 0.01 is a mean over half an hour.
const FACTORS: [f64; 8] = [0.01, 0.02, 0.05, 0.1, 0.2, 0.35, 0.6, 1.0];

/// How much of a factor's loss is kept per bin: a memory of some 1,000 bins, as long as the season that a plain
/// level can't follow (16 h of minutes), so that the choice follows the regime and not the hour.
const MEMORY: f64 = 1.0 - 1.0 / 1000.0;

/// Simple exponential smoothing (Hyndman & Athanasopoulos, *Forecasting: Principles and Practice*, 3rd ed., §8.1),
/// its factor chosen per target by the discounted absolute error of the forecasts that became due.
///
/// The first bins count with 1/n until that is below the factor, so that a level is a plain mean at first.
#[derive(Clone, Debug)]
pub struct TunedSmoothing {
    grid: Grid,
    levels: [f64; FACTORS.len()],
    observed: u64,
    /// Levels at the newest origins, a ring by index as long as the window: a row holds where the window has a value.
    past: Box<[[f32; FACTORS.len()]]>,
    window: Window,
    tuned: Box<[Tuning]>,
}
state!(TunedSmoothing { levels, observed, past, window, tuned } fixed { grid });

#[derive(Clone, Debug)]
struct Tuning {
    target: Target,
    losses: [f32; FACTORS.len()],
    best: u8,
}
state!(Tuning { losses, best } fixed { target } sound |t| usize::from(t.best) < FACTORS.len());

impl TunedSmoothing {
    /// Without history.
    pub fn new(grid: Grid, targets: &[Target]) -> Self {
        let rows = targets.iter().map(|t| t.steps() as usize).max().unwrap_or(1) + 1;
        // Until an error is known, a middle factor: a mean over some ten bins.
        let tuned =
            targets.iter().map(|&target| Tuning { target, losses: [0.0; FACTORS.len()], best: 4 }).collect();
        Self {
            grid,
            levels: [0.0; FACTORS.len()],
            observed: 0,
            past: vec![[0.0; FACTORS.len()]; rows].into(),
            window: Window::new(rows),
            tuned,
        }
    }

    fn settle(&mut self, now: i64) {
        let rows = self.past.len() as i64;
        for tuning in &mut self.tuned {
            let steps = i64::from(tuning.target.steps());
            let origin = now - steps;
            if self.window.get(origin) == Outcome::Unknown {
                continue;
            }
            let row = origin.rem_euclid(rows) as usize;
            let outcome = match tuning.target {
                Target::At { .. } => self.window.get(now),
                Target::MaxOver { .. } => self.window.max(origin + 1, now),
            };
            // A lower bound can't say which factor was nearer.
            let Outcome::Known(truth) = outcome else { continue };
            for (loss, level) in tuning.losses.iter_mut().zip(&self.past[row]) {
                *loss = *loss * MEMORY as f32 + (truth - f64::from(*level)).abs() as f32;
            }
            // Ties go to the factor already used, then to the smoother one.
            for i in 0..FACTORS.len() {
                if tuning.losses[i] < tuning.losses[usize::from(tuning.best)] {
                    tuning.best = i as u8;
                }
            }
        }
    }
}

impl Expert for TunedSmoothing {
    fn kind(&self) -> ModelKind {
        ModelKind::TunedSmoothing
    }

    fn observe(&mut self, bin: Bin) {
        self.window.push(bin);
        if bin.value.is_none() {
            return;
        }
        self.settle(bin.index);
        self.observed += 1;
        let first = 1.0 / self.observed as f64;
        for (level, factor) in self.levels.iter_mut().zip(FACTORS) {
            let value = bin.learnable(*level).unwrap_or(*level);
            *level += factor.max(first) * (value - *level);
        }
        let row = bin.index.rem_euclid(self.past.len() as i64) as usize;
        self.past[row] = self.levels.map(|l| l as f32);
    }

    fn awake(&self) -> bool {
        self.observed > 0
    }

    fn predict(&self, targets: &[Target], out: &mut [f64]) {
        debug_assert_eq!(targets.len(), self.tuned.len(), "made for other targets");
        for (tuning, out) in self.tuned.iter().zip(out) {
            *out = self.levels[usize::from(tuning.best)].max(0.0);
        }
    }

    fn grid(&self) -> Grid {
        self.grid
    }

    fn heap_bytes(&self) -> usize {
        std::mem::size_of_val(&*self.past) + std::mem::size_of_val(&*self.tuned) + self.window.heap_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(values: impl Iterator<Item = f64>) -> TunedSmoothing {
        let mut expert = TunedSmoothing::new(Grid { step_seconds: 60 }, &[Target::At { steps: 1 }]);
        for (i, value) in values.enumerate() {
            expert.observe(Bin::new(i as i64, value));
        }
        expert
    }

    #[test]
    fn noise_is_averaged_and_a_walk_is_followed() {
        // Alternation around 10: the mean is best. A staircase: the last value is best.
        let noise = run((0..500).map(|i| if i % 2 == 0 { 5.0 } else { 15.0 }));
        assert!(FACTORS[usize::from(noise.tuned[0].best)] <= 0.02, "{:?}", noise.tuned);
        let walk = run((0..500).map(|i| f64::from(i / 7) * 10.0));
        assert_eq!(FACTORS[usize::from(walk.tuned[0].best)], 1.0, "{:?}", walk.tuned);
    }
}
