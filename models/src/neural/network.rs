//! The whole network: what reads a series, and the head that answers per target.

use crate::nn::weights::{self, WeightsError};
use crate::nn::{Parameters, Random, Real, Visit, VisitMut};

use super::core::{Core, CoreKind};
use super::frame::INPUTS;
use super::head::Head;

/// Sizes of a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NetworkSettings {
    /// What reads the series.
    pub core: CoreKind,
    /// Its units.
    pub hidden: usize,
    /// Units of the head's hidden layer.
    pub head: usize,
}

impl NetworkSettings {
    /// 32 units, as FORECAST.md's measured GRU.
    pub fn of(core: CoreKind) -> Self {
        Self { core, hidden: 32, head: 32 }
    }
}

/// A network, or the gradient of one.
#[derive(Clone, Debug, PartialEq)]
pub struct Network<T> {
    settings: NetworkSettings,
    pub(super) core: Core<T>,
    pub(super) head: Head<T>,
}

impl<T: Real> Network<T> {
    /// An untrained network: its head starts as an online ensemble of the frame's simple forecasts.
    pub fn random(settings: NetworkSettings, random: &mut Random) -> Self {
        Self {
            settings,
            core: Core::random(settings.core, INPUTS, settings.hidden, random),
            head: Head::random(settings.hidden, settings.head, random),
        }
    }

    /// All zero: an empty gradient.
    pub fn zeros(settings: NetworkSettings) -> Self {
        Self {
            settings,
            core: Core::zeros(settings.core, INPUTS, settings.hidden),
            head: Head::zeros(settings.hidden, settings.head),
        }
    }

    /// Its sizes.
    pub fn settings(&self) -> NetworkSettings {
        self.settings
    }
}

impl Network<f32> {
    /// The weights as a safetensors file.
    pub fn save(&self) -> Vec<u8> {
        weights::save(self)
    }

    /// A checksum of all weights: recurrent state that one network made means nothing to another.
    pub fn checksum(&self) -> u32 {
        let mut hasher = crc32fast::Hasher::new();
        self.visit("", &mut |_, _, values| values.iter().for_each(|v| hasher.update(&v.to_le_bytes())));
        hasher.finalize()
    }

    /// Reads a safetensors file.
    ///
    /// # Errors
    /// If the file doesn't hold exactly the tensors of a network of these sizes.
    pub fn load(settings: NetworkSettings, bytes: &[u8]) -> Result<Self, WeightsError> {
        let mut network = Self::zeros(settings);
        weights::load(&mut network, bytes)?;
        Ok(network)
    }
}

impl<T: Real> Parameters<T> for Network<T> {
    fn visit(&self, prefix: &str, visit: &mut Visit<'_, T>) {
        self.core.visit(&format!("{prefix}core."), visit);
        self.head.visit(&format!("{prefix}head."), visit);
    }

    fn visit_mut(&mut self, prefix: &str, visit: &mut VisitMut<'_, T>) {
        self.core.visit_mut(&format!("{prefix}core."), visit);
        self.head.visit_mut(&format!("{prefix}head."), visit);
    }
}

#[cfg(test)]
mod tests {
    use std::array::from_fn;

    use super::super::frame::View;
    use super::super::shipped_as;
    use super::*;
    use crate::nn::reference::noise;

    #[test]
    fn the_shipped_networks_answer_what_numpy_makes_of_their_weights() {
        // By `tests/reference/networks.py`: a hundred bins, then one target's view, a fifth of its candidates not ready.
        for (core, expected) in [
            (CoreKind::Gru, [1.782116, 2.529741, 4.217843, 8.623739, 14.802829]),
            (CoreKind::Lstm, [0.96734, 1.27887, 2.421487, 5.903523, 11.084492]),
            (CoreKind::Cnn, [-0.015454, 0.887048, 2.65537, 6.561832, 10.189843]),
        ] {
            let (network, mut draw) = (shipped_as(core), noise(7));
            let mut draw = || draw() as f32;
            let mut state = vec![0.0; network.core.state_len()];
            let mut scratch = vec![0.0; network.core.scratch()];
            for _ in 0..100 {
                let x: [f32; INPUTS] = from_fn(|_| draw());
                network.core.step(&x, &mut state, &mut scratch);
            }
            let mut view = View::EMPTY;
            view.features = from_fn(|_| 2.0 * draw());
            view.candidates = from_fn(|_| 3.0 * draw());
            view.errors = from_fn(|_| from_fn(|_| draw()));
            view.spread = from_fn(|_| draw());
            for errors in &mut view.errors {
                errors.iter_mut().skip(4).step_by(5).for_each(|error| *error = f32::INFINITY);
            }
            let output = &state[..network.settings().hidden];
            let quantiles = network.head.forward(output, &view, &mut network.head.scratch());
            for (got, expected) in quantiles.into_iter().zip(expected) {
                // f32 against f64, after a hundred steps.
                assert!((f64::from(got) - expected).abs() < 1e-4, "{core:?}: {quantiles:?}, not {expected}");
            }
        }
    }
}
