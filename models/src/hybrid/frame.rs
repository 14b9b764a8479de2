//! The residuals of Prophet's curve, as the network reads them.

use crate::expert::{Bin, Expert};
use crate::experts::Prophet;
use crate::forecast::{Grid, Target};
use crate::neural::Level;
use crate::scale::LocalScale;
use crate::state::state;

/// What the LSTM reads per bin.
pub const INPUTS: usize = 8;

/// Forecasts of the residual that the network chooses among: the last one, four levels, none at all.
pub const CANDIDATES: usize = 6;

/// What the head reads per target, beside the LSTM's output.
pub(super) const FEATURES: usize = CANDIDATES - 1 + 3;

/// Memories of the levels, in seconds: those of the pooled network ([`crate::neural`]).
const LEVELS: [f64; CANDIDATES - 2] = [300.0, 1200.0, 3600.0, 21_600.0];

/// What the head knows of one target at one origin; in local scales.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct View {
    pub(super) features: [f32; FEATURES],
    pub(super) candidates: [f32; CANDIDATES],
}

/// Prophet, its residuals and their levels, moved on bin by bin.
#[derive(Clone, Debug)]
pub struct Frame {
    grid: Grid,
    prophet: Prophet,
    movement: LocalScale,
    /// The newest residual, the one before, and the levels.
    last: f64,
    before: f64,
    levels: [Level; LEVELS.len()],
    inputs: [f32; INPUTS],
}
state!(Frame { prophet, movement, last, before, levels } fixed { grid, inputs });

impl Frame {
    /// Without history.
    pub fn new(grid: Grid) -> Self {
        Self::around(Prophet::new(grid))
    }

    /// The residuals that this one leaves, which has no history either.
    pub fn around(prophet: Prophet) -> Self {
        let grid = prophet.grid();
        Self {
            grid,
            prophet,
            movement: LocalScale::new(grid),
            last: 0.0,
            before: 0.0,
            levels: LEVELS.map(|seconds| Level::new(seconds, grid)),
            inputs: [0.0; INPUTS],
        }
    }

    /// Takes the next bin, already [`Bin::sane`]; returns whether there is a residual to read.
    pub fn observe(&mut self, bin: Bin) -> bool {
        let old = self.prophet.curve(bin.index);
        self.prophet.observe(bin);
        self.movement.observe(bin);
        let Some(curve) = self.prophet.curve(bin.index) else { return false };
        if let Some(old) = old {
            // A new fit moves the curve: what was measured stays where it was, so the residuals move against it.
            let shift = old - curve;
            self.last += shift;
            self.before += shift;
            self.levels.iter_mut().for_each(|level| level.shift(shift));
        }
        let known = bin.learnable(curve + self.last).map(|value| value - curve);
        self.before = self.last;
        if let Some(residual) = known {
            self.last = residual;
            self.levels.iter_mut().for_each(|level| level.add(residual));
        }
        self.read(known.is_none());
        true
    }

    /// Prophet's own forecast.
    pub fn prophet(&self) -> &Prophet {
        &self.prophet
    }

    /// The LSTM's inputs at the newest bin.
    pub fn inputs(&self) -> &[f32; INPUTS] {
        &self.inputs
    }

    /// The local scale that a view is relative to, in the series' unit.
    pub fn scale(&self) -> f64 {
        self.movement.value()
    }

    /// What the head reads for a target.
    pub fn view(&self, target: Target) -> View {
        let scale = self.scale();
        let seconds = f64::from(self.grid.step_seconds);
        let steps = f64::from(target.steps());
        let mut view = View { features: [0.0; FEATURES], candidates: [0.0; CANDIDATES] };
        let residuals = std::iter::once(self.last).chain(self.levels.iter().map(Level::value));
        for (k, residual) in residuals.enumerate() {
            view.candidates[k] = (residual / scale) as f32;
            view.features[k] = libm::asinh(residual / scale) as f32;
        }
        view.features[CANDIDATES - 1] = (libm::log(steps * seconds / 600.0) / 2.0) as f32;
        view.features[CANDIDATES] = (libm::log(steps) / 3.0) as f32;
        view.features[CANDIDATES + 1] = f32::from(u8::from(matches!(target, Target::MaxOver { .. })));
        view
    }

    /// Bytes on the heap.
    pub fn heap_bytes(&self) -> usize {
        self.prophet.heap_bytes()
    }

    fn read(&mut self, missing: bool) {
        let scale = self.scale();
        let relative = |residual: f64| libm::asinh(residual / scale) as f32;
        self.inputs[0] = relative(self.last);
        self.inputs[1] = relative(self.last - self.before);
        for (input, level) in self.inputs[2..].iter_mut().zip(&self.levels) {
            *input = relative(level.value());
        }
        self.inputs[6] = f32::from(u8::from(missing));
        self.inputs[7] = (libm::log(f64::from(self.grid.step_seconds) / 60.0) / 2.0) as f32;
    }
}
