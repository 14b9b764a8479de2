//! Two-minute linear: least squares over the last two minutes, extrapolated. The rival every model must beat.

use crate::expert::{Bin, Expert, ModelKind, VALUE_LIMIT};
use crate::forecast::{Grid, Target};
use crate::state::state;

/// Seconds that the line is fitted over; the name of the rule says it.
const SPAN_SECONDS: u32 = 120;

/// Least squares over the bins of the last two minutes (at least the last two bins).
///
/// With fewer than two of them measured it stays at the last value.
#[derive(Clone, Debug)]
pub struct LinearTwoMinutes {
    grid: Grid,
    /// Newest bins, (index, value); oldest overwritten.
    points: Vec<(i64, f64)>,
    next: usize,
    length: usize,
    newest: i64,
    /// Intercept at the newest index and slope per bin.
    line: Option<(f64, f64)>,
}
state!(LinearTwoMinutes { points, next, length, newest, line } fixed { grid }
    sound |l| l.next < l.points.len() && l.length <= l.points.len());

impl LinearTwoMinutes {
    /// Without history.
    pub fn new(grid: Grid) -> Self {
        // Both ends of the two minutes are bins: 60 s bins give three points.
        let capacity = (SPAN_SECONDS / grid.step_seconds) as usize + 1;
        Self { grid, points: vec![(0, 0.0); capacity.max(2)], next: 0, length: 0, newest: 0, line: None }
    }

    fn fit(&self) -> Option<(f64, f64)> {
        let oldest = self.newest - self.points.len() as i64 + 1;
        let recent = self.points[..self.length].iter().filter(|(index, _)| *index >= oldest);
        let (mut n, mut sx, mut sy) = (0.0, 0.0, 0.0);
        for (index, value) in recent.clone() {
            n += 1.0;
            sx += (index - self.newest) as f64;
            sy += value;
        }
        if n < 1.0 {
            return None;
        }
        let (mx, my) = (sx / n, sy / n);
        let (mut sxx, mut sxy) = (0.0, 0.0);
        for (index, value) in recent {
            let dx = (index - self.newest) as f64 - mx;
            sxx += dx * dx;
            sxy += dx * (value - my);
        }
        let slope = if sxx > 0.0 { sxy / sxx } else { 0.0 };
        Some((my - slope * mx, slope))
    }
}

impl Expert for LinearTwoMinutes {
    fn kind(&self) -> ModelKind {
        ModelKind::LinearTwoMinutes
    }

    fn observe(&mut self, bin: Bin) {
        let ahead = (bin.index - self.newest) as f64;
        let predicted = self.line.map_or(0.0, |(intercept, slope)| (intercept + slope * ahead).max(0.0));
        if let Some(value) = bin.learnable(predicted.min(VALUE_LIMIT)) {
            self.points[self.next] = (bin.index, value);
            self.next = (self.next + 1) % self.points.len();
            self.length = (self.length + 1).min(self.points.len());
            self.newest = bin.index;
            self.line = self.fit();
        }
    }

    fn awake(&self) -> bool {
        self.line.is_some()
    }

    fn predict(&self, targets: &[Target], out: &mut [f64]) {
        let (intercept, slope) = self.line.unwrap_or((0.0, 0.0));
        for (target, out) in targets.iter().zip(out) {
            // A line's largest value is at one of its ends.
            let steps = match target {
                Target::MaxOver { .. } if slope < 0.0 => 1,
                _ => target.steps(),
            };
            *out = (intercept + slope * f64::from(steps)).clamp(0.0, VALUE_LIMIT);
        }
    }

    fn grid(&self) -> Grid {
        self.grid
    }

    fn heap_bytes(&self) -> usize {
        std::mem::size_of_val(&*self.points)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_continued_and_its_maximum_is_at_an_end() {
        let mut linear = LinearTwoMinutes::new(Grid { step_seconds: 10 });
        for i in 0..40_i64 {
            linear.observe(Bin::new(i, 100.0 + 2.0 * i as f64));
        }
        let mut out = [0.0; 2];
        linear.predict(&[Target::At { steps: 6 }, Target::MaxOver { steps: 6 }], &mut out);
        assert!((out[0] - (100.0 + 2.0 * 45.0)).abs() < 1e-9, "{out:?}");
        assert_eq!(out[0], out[1]);
        for i in 40..80_i64 {
            linear.observe(Bin::new(i, 1000.0 - 3.0 * i as f64));
        }
        linear.predict(&[Target::At { steps: 6 }, Target::MaxOver { steps: 6 }], &mut out);
        assert!((out[0] - (1000.0 - 3.0 * 85.0)).abs() < 1e-9, "{out:?}");
        assert!((out[1] - (1000.0 - 3.0 * 80.0)).abs() < 1e-9, "{out:?}");
    }

    #[test]
    fn what_is_older_than_two_minutes_is_not_in_the_line() {
        let mut linear = LinearTwoMinutes::new(Grid { step_seconds: 60 });
        for i in 0..3_i64 {
            linear.observe(Bin::new(i, 10.0 * i as f64));
        }
        linear.observe(Bin::new(100, 7.0));
        let mut out = [0.0];
        linear.predict(&[Target::At { steps: 30 }], &mut out);
        assert_eq!(out[0], 7.0);
    }
}
