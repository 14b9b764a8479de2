//! The local scale of a series: how far it usually moves just now.

use crate::expert::Bin;
use crate::forecast::Grid;
use crate::state::state;

/// Bins that the scale looks back on, as in `evaluate.py`'s `local_scale`.
const SPAN: f64 = 60.0;

/// Half the mean movement from bin to bin, half the Poisson deviation of the mean count, 2 % of the mean: what
/// `evaluate.py` scales residuals with, here exponentially weighted.
#[derive(Clone, Debug)]
pub struct LocalScale {
    seconds: f64,
    mean: f64,
    movement: f64,
    last: f64,
    seen: f64,
}
state!(LocalScale { mean, movement, last, seen } fixed { seconds });

impl LocalScale {
    /// Without history.
    pub fn new(grid: Grid) -> Self {
        Self { seconds: f64::from(grid.step_seconds), mean: 0.0, movement: 0.0, last: 0.0, seen: 0.0 }
    }

    /// Takes the next measured bin; others are skipped.
    pub fn observe(&mut self, bin: Bin) {
        let Some(value) = bin.learnable(self.last) else { return };
        self.seen += 1.0;
        let rate = (1.0 / self.seen).max(1.0 / SPAN);
        self.mean += rate * (value - self.mean);
        if self.seen > 1.0 {
            let rate = (1.0 / (self.seen - 1.0)).max(1.0 / SPAN);
            self.movement += rate * ((value - self.last).abs() - self.movement);
        }
        self.last = value;
    }

    /// The scale in the series' own unit; positive.
    pub fn value(&self) -> f64 {
        // A mean of m requests/s over s seconds is a count of m·s, whose Poisson deviation √(m·s) is √(m/s) in
        // requests/s. The quarter of a count keeps an idle series' scale above zero.
        let poisson = (self.mean * self.seconds + 0.25).sqrt() / self.seconds;
        0.5 * self.movement + 0.5 * poisson + 0.02 * self.mean
    }
}
