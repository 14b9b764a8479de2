//! The mean of the last quarter of an hour.

use crate::expert::{Bin, Expert, ModelKind};
use crate::forecast::{Grid, Target};
use crate::state::state;

/// How far the mean looks back; FORECAST.md's `mean15m`.
const SPAN_SECONDS: u32 = 900;

/// The plain mean of the bins measured in the last 15 minutes (at least the last bin), for every target.
#[derive(Clone, Debug)]
pub struct QuarterMean {
    grid: Grid,
    /// The bins of the span, a ring by index; NaN where none was measured.
    values: Vec<f32>,
    newest: i64,
    mean: Option<f64>,
}
state!(QuarterMean { values, newest, mean } fixed { grid });

impl QuarterMean {
    /// Without history.
    pub fn new(grid: Grid) -> Self {
        let bins = (SPAN_SECONDS / grid.step_seconds).max(1) as usize;
        Self { grid, values: vec![f32::NAN; bins], newest: 0, mean: None }
    }

    fn plain_mean(&self) -> Option<f64> {
        let (mut sum, mut count) = (0.0, 0.0);
        for value in self.values.iter().filter(|v| !v.is_nan()) {
            sum += f64::from(*value);
            count += 1.0;
        }
        (count > 0.0).then(|| sum / count)
    }
}

impl Expert for QuarterMean {
    fn kind(&self) -> ModelKind {
        ModelKind::QuarterMean
    }

    fn observe(&mut self, bin: Bin) {
        let bins = self.values.len() as i64;
        // What fell out of the span is forgotten first: a lower bound is compared with the mean of the others.
        for index in (self.newest + 1).max(bin.index.saturating_sub(bins - 1))..=bin.index {
            self.values[index.rem_euclid(bins) as usize] = f32::NAN;
        }
        self.newest = bin.index;
        let expected = self.plain_mean().or(self.mean);
        if let Some(value) = bin.learnable(expected.unwrap_or(0.0)) {
            self.values[bin.index.rem_euclid(bins) as usize] = value as f32;
        }
        // A gap longer than the span leaves the mean that was.
        self.mean = self.plain_mean().or(self.mean);
    }

    fn awake(&self) -> bool {
        self.mean.is_some()
    }

    fn predict(&self, _targets: &[Target], out: &mut [f64]) {
        out.fill(self.mean.unwrap_or(0.0));
    }

    fn grid(&self) -> Grid {
        self.grid
    }

    fn heap_bytes(&self) -> usize {
        std::mem::size_of_val(&*self.values)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_bins_do_not_count_and_a_long_gap_keeps_the_mean() {
        let mut mean = QuarterMean::new(Grid { step_seconds: 300 });
        let mut out = [0.0];
        for (index, value, expected) in
            [(0, 9.0, 9.0), (1, 3.0, 6.0), (2, 0.0, 4.0), (3, 6.0, 3.0), (5, 2.0, 4.0), (500, 1.0, 1.0)]
        {
            mean.observe(Bin::new(index, value));
            mean.predict(&[Target::At { steps: 1 }], &mut out);
            assert_eq!(out[0], expected, "after bin {index}");
        }
        mean.observe(Bin::missing(900));
        mean.predict(&[Target::At { steps: 1 }], &mut out);
        assert_eq!(out[0], 1.0);
    }
}
