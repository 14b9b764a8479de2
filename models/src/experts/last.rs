//! Last value: what was is what will be.

use crate::expert::{Bin, Expert, ModelKind};
use crate::forecast::{Grid, Target};
use crate::state::state;

/// The last observed value, for every target. The yardstick of `FORECAST.md`.
#[derive(Clone, Debug)]
pub struct LastValue {
    grid: Grid,
    last: Option<f64>,
}
state!(LastValue { last } fixed { grid });

impl LastValue {
    /// Without history.
    pub fn new(grid: Grid) -> Self {
        Self { grid, last: None }
    }
}

impl Expert for LastValue {
    fn kind(&self) -> ModelKind {
        ModelKind::LastValue
    }

    fn observe(&mut self, bin: Bin) {
        if let Some(value) = bin.learnable(self.last.unwrap_or(0.0)) {
            self.last = Some(value);
        }
    }

    fn awake(&self) -> bool {
        self.last.is_some()
    }

    fn predict(&self, _targets: &[Target], out: &mut [f64]) {
        out.fill(self.last.unwrap_or(0.0));
    }

    fn grid(&self) -> Grid {
        self.grid
    }

    fn heap_bytes(&self) -> usize {
        0
    }
}
