//! The small LSTM and its head: from residuals to the residual ahead.

use std::sync::{Arc, OnceLock};

use crate::nn::weights::{self, WeightsError};
use crate::nn::{Dense, Lstm, LstmTape, Parameters, Random, Real, Visit, VisitMut, activation};

use super::frame::{CANDIDATES, FEATURES, INPUTS, View};

/// Units of the LSTM and of the head's hidden layer: half the pooled network's, for a third of its inputs.
pub const HIDDEN: usize = 16;

/// An LSTM reads the residuals; a head chooses among the view's simple forecasts of the residual and corrects their mean by
/// at most one local scale. One of the simple forecasts is "none at all": Prophet's curve as it is.
#[derive(Clone, Debug, PartialEq)]
pub struct Network<T> {
    pub(super) core: Lstm<T>,
    first: Dense<T>,
    out: Dense<T>,
}

/// What a forward pass leaves for the backward pass.
#[derive(Clone, Debug)]
pub(super) struct Scratch<T> {
    x: [T; HIDDEN + FEATURES],
    inner: [T; HIDDEN],
    shares: [T; CANDIDATES],
    correction: T,
}

impl<T: Real> Scratch<T> {
    pub(super) fn new() -> Self {
        Self {
            x: [T::ZERO; HIDDEN + FEATURES],
            inner: [T::ZERO; HIDDEN],
            shares: [T::ZERO; CANDIDATES],
            correction: T::ZERO,
        }
    }
}

/// The network that ships with Prescale, trained by `cargo xtask train --core prophet_lstm`; the JSON file beside its
/// weights says on what.
pub fn shipped() -> Arc<Network<f32>> {
    static SHIPPED: OnceLock<Arc<Network<f32>>> = OnceLock::new();
    let network = SHIPPED.get_or_init(|| {
        let network = Network::load(include_bytes!("../../weights/prophet_lstm.safetensors"));
        Arc::new(network.expect("a test reads the shipped weights"))
    });
    Arc::clone(network)
}

impl<T: Real> Network<T> {
    /// Untrained: the mean of the simple forecasts.
    pub fn random(random: &mut Random) -> Self {
        Self {
            core: Lstm::random(INPUTS, HIDDEN, random),
            first: Dense::random(HIDDEN + FEATURES, HIDDEN, random),
            ..Self::zeros()
        }
    }

    /// All zero: an empty gradient.
    pub fn zeros() -> Self {
        Self {
            core: Lstm::zeros(INPUTS, HIDDEN),
            first: Dense::zeros(HIDDEN + FEATURES, HIDDEN),
            out: Dense::zeros(HIDDEN, CANDIDATES + 1),
        }
    }

    pub(super) fn tape() -> LstmTape<T> {
        LstmTape::new(HIDDEN)
    }

    /// The residual of a target, in local scales. Nothing is allocated.
    pub(super) fn residual(&self, output: &[T], view: &View, scratch: &mut Scratch<T>) -> T {
        let (recurrent, features) = scratch.x.split_at_mut(HIDDEN);
        recurrent.copy_from_slice(output);
        for (x, feature) in features.iter_mut().zip(&view.features) {
            *x = real(*feature);
        }
        self.first.forward(&scratch.x, &mut scratch.inner);
        activation::tanh(&mut scratch.inner);
        let mut raw = [T::ZERO; CANDIDATES + 1];
        self.out.forward(&scratch.inner, &mut raw);
        scratch.shares.copy_from_slice(&raw[..CANDIDATES]);
        activation::softmax(&mut scratch.shares);
        scratch.correction = raw[CANDIDATES].tanh_libm();
        let mut residual = scratch.correction;
        for (share, candidate) in scratch.shares.iter().zip(&view.candidates) {
            residual += *share * real(*candidate);
        }
        residual
    }

    /// Adds to `gradient` and `doutput` what `slope` says of the residual that [`Network::residual`] has just answered.
    pub(super) fn backward(
        &self,
        view: &View,
        slope: T,
        scratch: &Scratch<T>,
        gradient: &mut Self,
        doutput: &mut [T],
    ) {
        let mut draw = [T::ZERO; CANDIDATES + 1];
        for (d, candidate) in draw.iter_mut().zip(&view.candidates) {
            *d = slope * real(*candidate);
        }
        activation::softmax_backward(&scratch.shares, &mut draw[..CANDIDATES]);
        draw[CANDIDATES] = slope * (T::ONE - scratch.correction * scratch.correction);
        let mut dinner = [T::ZERO; HIDDEN];
        self.out.backward(&scratch.inner, &draw, &mut gradient.out, Some(&mut dinner));
        activation::tanh_backward(&scratch.inner, &mut dinner);
        let mut dx = [T::ZERO; HIDDEN + FEATURES];
        self.first.backward(&scratch.x, &dinner, &mut gradient.first, Some(&mut dx));
        for (d, dx) in doutput.iter_mut().zip(&dx) {
            *d += *dx;
        }
    }
}

impl Network<f32> {
    /// The weights as a safetensors file.
    pub fn save(&self) -> Vec<u8> {
        weights::save(self)
    }

    /// Tells one network's weights from another's.
    pub(crate) fn checksum(&self) -> u32 {
        crc32fast::hash(&self.save())
    }

    /// Reads a safetensors file.
    ///
    /// # Errors
    /// If the file doesn't hold exactly the tensors of this network.
    pub fn load(bytes: &[u8]) -> Result<Self, WeightsError> {
        let mut network = Self::zeros();
        weights::load(&mut network, bytes)?;
        Ok(network)
    }
}

fn real<T: Real>(value: f32) -> T {
    T::of(f64::from(value))
}

impl<T: Real> Parameters<T> for Network<T> {
    fn visit(&self, prefix: &str, visit: &mut Visit<'_, T>) {
        self.core.visit(&format!("{prefix}lstm."), visit);
        self.first.visit(&format!("{prefix}first."), visit);
        self.out.visit(&format!("{prefix}out."), visit);
    }

    fn visit_mut(&mut self, prefix: &str, visit: &mut VisitMut<'_, T>) {
        self.core.visit_mut(&format!("{prefix}lstm."), visit);
        self.first.visit_mut(&format!("{prefix}first."), visit);
        self.out.visit_mut(&format!("{prefix}out."), visit);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::testing::{check_gradient, noise};

    fn view() -> View {
        let some = |n: usize, seed| noise(n, seed).iter().map(|x| 3.0 * *x as f32).collect::<Vec<_>>();
        let mut candidates: [f32; CANDIDATES] = some(CANDIDATES, 5).try_into().unwrap();
        candidates[CANDIDATES - 1] = 0.0;
        View { features: some(FEATURES, 6).try_into().unwrap(), candidates }
    }

    #[test]
    fn the_heads_gradient_is_that_of_central_differences() {
        let mut network = Network::<f64>::random(&mut Random::new(1));
        network.out = Dense::random(HIDDEN, CANDIDATES + 1, &mut Random::new(2));
        // The LSTM has its own check; without parameters its empty gradient is the right one.
        network.core = Lstm::zeros(INPUTS, HIDDEN);
        let (mut output, view) = (noise(HIDDEN, 3), view());
        let mut scratch = Scratch::new();
        let (mut gradient, mut doutput) = (Network::zeros(), [0.0; HIDDEN]);
        network.residual(&output, &view, &mut scratch);
        network.backward(&view, 1.0, &scratch, &mut gradient, &mut doutput);
        let loss =
            |network: &Network<f64>, output: &[f64]| network.residual(output, &view, &mut Scratch::new());
        check_gradient(&mut network, &gradient, &mut output, &doutput, loss);
    }

    #[test]
    fn the_shipped_network_answers_what_numpy_makes_of_its_weights() {
        let (network, mut draw) = (shipped(), crate::nn::reference::noise(7));
        let mut draw = || draw() as f32;
        let (mut state, mut scratch) = ([0.0; 2 * HIDDEN], vec![0.0; network.core.scratch()]);
        for _ in 0..100 {
            let x: [f32; INPUTS] = std::array::from_fn(|_| draw());
            network.core.step(&x, &mut state, &mut scratch);
        }
        let features = std::array::from_fn(|_| 3.0 * draw());
        let view = View { features, candidates: std::array::from_fn(|_| 3.0 * draw()) };
        let got = network.residual(&state[..HIDDEN], &view, &mut Scratch::new());
        // By `tests/reference/networks.py`; f32 against f64.
        assert!((f64::from(got) - -1.675075).abs() < 1e-5, "{got}");
    }

    #[test]
    fn untrained_it_is_the_mean_of_the_simple_forecasts() {
        let (network, view) = (Network::<f64>::random(&mut Random::new(1)), view());
        let mean = view.candidates.iter().map(|c| f64::from(*c)).sum::<f64>() / CANDIDATES as f64;
        let got = network.residual(&noise(HIDDEN, 3), &view, &mut Scratch::new());
        assert!((got - mean).abs() < 1e-9, "{got} instead of {mean}");
    }
}
