//! The optimiser: Adam with decoupled weight decay and a limit on the gradient's norm.

use super::parameters::Parameters;
use super::products::dot;
use super::real::Real;

/// How [`Adam`] steps. The defaults of the moments are those of its paper.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamSettings {
    /// Memory of the gradient's mean.
    pub beta_mean: f64,
    /// Memory of its square's mean.
    pub beta_square: f64,
    /// Keeps the step finite where the gradient is 0.
    pub epsilon: f64,
    /// Share of each parameter that decays per step, times the learning rate.
    pub weight_decay: f64,
    /// A gradient of a larger Euclidean norm is scaled down to it.
    pub largest_norm: f64,
}

impl Default for AdamSettings {
    fn default() -> Self {
        Self { beta_mean: 0.9, beta_square: 0.999, epsilon: 1e-8, weight_decay: 0.0, largest_norm: 1.0 }
    }
}

/// Kingma, Ba: *Adam: A Method for Stochastic Optimization*, ICLR 2015, algorithm 1; weight decay as in Loshchilov,
/// Hutter: *Decoupled Weight Decay Regularization*, ICLR 2019; clipping as in Pascanu, Mikolov, Bengio: *On the difficulty
/// of training recurrent neural networks*, ICML 2013.
#[derive(Clone, Debug)]
pub struct Adam<T> {
    settings: AdamSettings,
    mean: Vec<T>,
    square: Vec<T>,
    gradient: Vec<T>,
    /// βᵗ of both moments, as products: exact on every machine.
    powers: (f64, f64),
}

impl<T: Real> Adam<T> {
    /// For a network of `count` parameters.
    pub fn new(count: usize, settings: AdamSettings) -> Self {
        Self {
            settings,
            mean: vec![T::ZERO; count],
            square: vec![T::ZERO; count],
            gradient: Vec::with_capacity(count),
            powers: (1.0, 1.0),
        }
    }

    /// Moves `network` against `gradient` at this learning rate; returns the gradient's norm before clipping.
    ///
    /// A gradient that is not finite moves nothing: one bad batch must not destroy a network.
    ///
    /// # Panics
    /// If network, gradient and optimiser are not of the same size.
    pub fn step<P: Parameters<T>>(&mut self, network: &mut P, gradient: &P, learning_rate: f64) -> f64 {
        gradient.flatten(&mut self.gradient);
        assert_eq!(self.gradient.len(), self.mean.len(), "an optimiser of another network");
        let norm = dot(&self.gradient, &self.gradient).to_f64().sqrt();
        if !norm.is_finite() {
            return norm;
        }
        let AdamSettings { beta_mean, beta_square, epsilon, weight_decay, largest_norm } = self.settings;
        let shrink = T::of(if norm > largest_norm { largest_norm / norm } else { 1.0 });
        self.powers = (self.powers.0 * beta_mean, self.powers.1 * beta_square);
        let (new_mean, new_square) = (T::of(1.0 - beta_mean), T::of(1.0 - beta_square));
        let (beta_mean, beta_square, epsilon) = (T::of(beta_mean), T::of(beta_square), T::of(epsilon));
        let rate = T::of(learning_rate / (1.0 - self.powers.0));
        let unbias = T::of(1.0 / (1.0 - self.powers.1));
        let keep = T::of(1.0 - learning_rate * weight_decay);
        let mut at = 0;
        network.visit_mut("", &mut |_, _, values| {
            let range = at..at + values.len();
            let moments = self.mean[range.clone()].iter_mut().zip(&mut self.square[range.clone()]);
            for ((value, g), (mean, square)) in values.iter_mut().zip(&self.gradient[range]).zip(moments) {
                let g = *g * shrink;
                *mean = beta_mean * *mean + new_mean * g;
                *square = beta_square * *square + new_square * g * g;
                *value = *value * keep - rate * *mean / ((*square * unbias).sqrt() + epsilon);
            }
            at += values.len();
        });
        norm
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Dense, Random, reference};
    use super::*;

    #[test]
    fn the_steps_are_those_of_the_reference() {
        let case = reference::case("adam");
        let mut network = Dense::<f64>::zeros(2, 3);
        reference::load(&mut network, &case);
        let settings = AdamSettings { weight_decay: 0.01, largest_norm: 1.5, ..AdamSettings::default() };
        let mut adam = Adam::new(network.count(), settings);
        let gradients = reference::values(&case, "gradients");
        let after = reference::values(&case, "after");
        for (g, expected) in gradients.chunks_exact(9).zip(after.chunks_exact(9)) {
            let mut gradient = Dense::<f64>::zeros(2, 3);
            let mut values = g.iter();
            gradient.visit_mut("", &mut |_, _, to| to.fill_with(|| *values.next().expect("nine values")));
            adam.step(&mut network, &gradient, 0.01);
            let mut flat = Vec::new();
            network.flatten(&mut flat);
            reference::assert_near(&flat, expected);
        }
    }

    #[test]
    fn a_gradient_that_is_not_finite_moves_nothing() {
        let mut network = Dense::<f32>::random(2, 2, &mut Random::new(1));
        let before = network.clone();
        let mut gradient = Dense::zeros(2, 2);
        gradient.fill(f32::NAN);
        let mut adam = Adam::new(network.count(), AdamSettings::default());
        assert!(adam.step(&mut network, &gradient, 0.1).is_nan());
        assert_eq!(network, before);
    }
}
