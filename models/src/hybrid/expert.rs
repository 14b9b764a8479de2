//! The hybrid as an expert.

use std::sync::Arc;

use crate::expert::{Bin, Expert, ModelKind, VALUE_LIMIT};
use crate::experts::Prophet;
use crate::forecast::{Grid, Target};
use crate::state::{Loader, Saver, State, Unreadable};

use super::frame::Frame;
use super::network::{HIDDEN, Network, Scratch, shipped};

/// Prophet's curve plus what an LSTM expects of its residual. Awake with Prophet.
#[derive(Clone, Debug)]
pub struct ProphetLstm {
    grid: Grid,
    network: Arc<Network<f32>>,
    frame: Frame,
    state: [f32; 2 * HIDDEN],
    scratch: Vec<f32>,
    /// The network's checksum.
    weights: u32,
}

impl State for ProphetLstm {
    fn save(&self, out: &mut Saver) {
        let Self { grid: _, network: _, frame, state, scratch: _, weights } = self;
        // What one network carries is nothing to another.
        out.note(&weights.to_string());
        frame.save(out);
        state.save(out);
    }

    fn load(&mut self, from: &mut Loader<'_>) -> Result<(), Unreadable> {
        self.frame.load(from)?;
        self.state.load(from)
    }
}

impl ProphetLstm {
    /// With the shipped network, without history.
    pub fn new(grid: Grid) -> Self {
        Self::around(Prophet::new(grid))
    }

    /// With the curve of this one, which has no history either and may know holidays.
    pub fn around(prophet: Prophet) -> Self {
        let (grid, network) = (prophet.grid(), shipped());
        let scratch = vec![0.0; network.core.scratch()];
        let weights = network.checksum();
        Self { grid, network, frame: Frame::around(prophet), state: [0.0; 2 * HIDDEN], scratch, weights }
    }
}

impl Expert for ProphetLstm {
    fn kind(&self) -> ModelKind {
        ModelKind::ProphetLstm
    }

    fn observe(&mut self, bin: Bin) {
        if self.frame.observe(bin) {
            self.network.core.step(self.frame.inputs(), &mut self.state, &mut self.scratch);
        } else {
            self.state = [0.0; 2 * HIDDEN];
        }
    }

    fn awake(&self) -> bool {
        self.frame.prophet().awake()
    }

    fn predict(&self, targets: &[Target], out: &mut [f64]) {
        self.frame.prophet().predict(targets, out);
        if !self.awake() {
            return;
        }
        let (scale, mut scratch) = (self.frame.scale(), Scratch::new());
        for (target, out) in targets.iter().zip(out) {
            let view = self.frame.view(*target);
            let residual = self.network.residual(&self.state[..HIDDEN], &view, &mut scratch);
            let sum = *out + scale * f64::from(residual);
            // A bin of unheard-of size may overflow the f32 inside; the curve is always finite.
            *out = if sum.is_finite() { sum.clamp(0.0, VALUE_LIMIT) } else { *out };
        }
    }

    fn grid(&self) -> Grid {
        self.grid
    }

    fn heap_bytes(&self) -> usize {
        self.frame.heap_bytes() + self.scratch.len() * 4
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_follows_a_new_level_that_the_curve_does_not_know() {
        let grid = Grid { step_seconds: 300 };
        let (mut hybrid, mut prophet) = (ProphetLstm::new(grid), Prophet::new(grid));
        let targets = [Target::At { steps: 3 }];
        for index in 0..4 * 288 + 12 {
            let wave = 100.0 - 50.0 * libm::cos(std::f64::consts::TAU * (index % 288) as f64 / 288.0);
            // Twice the load for the last hour.
            let bin = Bin::new(index, if index >= 4 * 288 { 2.0 * wave } else { wave });
            hybrid.observe(bin);
            prophet.observe(bin);
            assert_eq!(hybrid.awake(), prophet.awake());
        }
        let (mut own, mut curve) = ([0.0], [0.0]);
        hybrid.predict(&targets, &mut own);
        prophet.predict(&targets, &mut curve);
        let truth = 2.0 * (100.0 - 50.0 * libm::cos(std::f64::consts::TAU * 14.0 / 288.0));
        assert!((own[0] - truth).abs() < 0.3 * (curve[0] - truth).abs(), "{own:?}, {curve:?} for {truth}");
    }
}
