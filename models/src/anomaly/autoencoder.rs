//! An autoencoder: how well the newest bins can be told from a few numbers, as the past ones could.

use crate::nn::{Adam, AdamSettings, Dense, Parameters, Random, Visit, VisitMut, activation};

/// Bins that it sees at once, and the numbers that they are squeezed into: an eighth.
pub(super) const SPAN: usize = 16;
const INNER: usize = 8;
const CODE: usize = 2;

/// A step per bin; a tenth of Adam's usual rate keeps one strange hour from becoming the norm.
const LEARNING_RATE: f64 = 1e-3;

/// Bins that the usual error is averaged over: a day of minutes.
const MEMORY: f64 = 1440.0;

/// Hinton, Salakhutdinov: *Reducing the Dimensionality of Data with Neural Networks*, Science 313 (2006); as a measure of
/// strangeness: Sakurada, Yairi: *Anomaly Detection Using Autoencoders with Nonlinear Dimensionality Reduction*, MLSDA 2014.
/// 16 → 8 → 2 → 8 → 16, tanh within, trained online by a step per bin.
#[derive(Clone, Debug)]
pub struct Autoencoder {
    layers: Layers,
    adam: Adam<f32>,
    /// Mean error of what was learned, and how many that were.
    usual: f64,
    seen: f64,
}

#[derive(Clone, Debug, PartialEq)]
struct Layers([Dense<f32>; 4]);

/// Outputs of the layers, the input first.
type Pass = ([f32; SPAN], [f32; INNER], [f32; CODE], [f32; INNER], [f32; SPAN]);

impl Layers {
    fn pass(&self, x: &[f32; SPAN]) -> Pass {
        let [a, b, c, d] = &self.0;
        let mut pass: Pass = (*x, [0.0; INNER], [0.0; CODE], [0.0; INNER], [0.0; SPAN]);
        a.forward(&pass.0, &mut pass.1);
        activation::tanh(&mut pass.1);
        b.forward(&pass.1, &mut pass.2);
        activation::tanh(&mut pass.2);
        c.forward(&pass.2, &mut pass.3);
        activation::tanh(&mut pass.3);
        d.forward(&pass.3, &mut pass.4);
        pass
    }

    fn zeros() -> Self {
        let sizes = [(SPAN, INNER), (INNER, CODE), (CODE, INNER), (INNER, SPAN)];
        Self(sizes.map(|(inputs, outputs)| Dense::zeros(inputs, outputs)))
    }

    /// The gradient of half the squared error.
    fn gradient(&self, pass: &Pass) -> Self {
        let mut gradient = Self::zeros();
        let [_, b, c, d] = &self.0;
        let [da, db, dc, dd] = &mut gradient.0;
        let dy: [f32; SPAN] = std::array::from_fn(|i| pass.4[i] - pass.0[i]);
        let mut d3 = [0.0; INNER];
        d.backward(&pass.3, &dy, dd, Some(&mut d3));
        activation::tanh_backward(&pass.3, &mut d3);
        let mut d2 = [0.0; CODE];
        c.backward(&pass.2, &d3, dc, Some(&mut d2));
        activation::tanh_backward(&pass.2, &mut d2);
        let mut d1 = [0.0; INNER];
        b.backward(&pass.1, &d2, db, Some(&mut d1));
        activation::tanh_backward(&pass.1, &mut d1);
        self.0[0].backward(&pass.0, &d1, da, None);
        gradient
    }
}

impl Parameters<f32> for Layers {
    fn visit(&self, prefix: &str, visit: &mut Visit<'_, f32>) {
        self.0.iter().enumerate().for_each(|(i, layer)| layer.visit(&format!("{prefix}{i}."), visit));
    }

    fn visit_mut(&mut self, prefix: &str, visit: &mut VisitMut<'_, f32>) {
        self.0.iter_mut().enumerate().for_each(|(i, layer)| layer.visit_mut(&format!("{prefix}{i}."), visit));
    }
}

impl Autoencoder {
    /// Untrained.
    pub fn new(random: &mut Random) -> Self {
        let sizes = [(SPAN, INNER), (INNER, CODE), (CODE, INNER), (INNER, SPAN)];
        let layers = Layers(sizes.map(|(inputs, outputs)| Dense::random(inputs, outputs, random)));
        let adam = Adam::new(layers.count(), AdamSettings::default());
        Self { layers, adam, usual: 0.0, seen: 0.0 }
    }

    /// The error of these bins, in usual errors; 1 before anything was learned.
    pub fn score(&self, x: &[f32; SPAN]) -> f64 {
        if self.seen < 1.0 || self.usual <= 0.0 { 1.0 } else { error(&self.layers.pass(x)) / self.usual }
    }

    /// Learns that these bins are usual.
    pub fn learn(&mut self, x: &[f32; SPAN]) {
        let pass = self.layers.pass(x);
        self.seen += 1.0;
        self.usual += (error(&pass) - self.usual) / self.seen.min(MEMORY);
        let gradient = self.layers.gradient(&pass);
        self.adam.step(&mut self.layers, &gradient, LEARNING_RATE);
    }
}

fn error(pass: &Pass) -> f64 {
    pass.0.iter().zip(&pass.4).map(|(x, y)| f64::from((x - y) * (x - y))).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shape_that_was_learned_is_usual_and_another_is_not() {
        let mut random = Random::new(1);
        let mut coder = Autoencoder::new(&mut random);
        let mut wave = |noise: f64| -> [f32; SPAN] {
            let phase = random.unit() * std::f64::consts::TAU;
            std::array::from_fn(|i| {
                (libm::sin(phase + i as f64 / 4.0) + noise * (random.unit() - 0.5)) as f32
            })
        };
        for _ in 0..6000 {
            let x = wave(0.1);
            coder.learn(&x);
        }
        let usual: f64 = (0..100).map(|_| coder.score(&wave(0.1))).sum::<f64>() / 100.0;
        let square = std::array::from_fn(|i| if i % 2 == 0 { 1.5 } else { -1.5 });
        assert!(usual < 1.0, "{usual}: it was still learning when the mean was taken");
        assert!(coder.score(&square) > 10.0 * usual, "{} against {usual}", coder.score(&square));
    }

    #[test]
    fn what_it_learns_and_how_it_scores_is_what_numpy_says() {
        let (mut coder, mut draw) = (Autoencoder::new(&mut Random::new(1)), crate::nn::reference::noise(7));
        coder.layers.visit_mut("", &mut |_, _, values| {
            values.iter_mut().for_each(|value| *value = 0.5 * draw() as f32);
        });
        let wave =
            |phase: f64| -> [f32; SPAN] { std::array::from_fn(|i| libm::sin(phase + i as f64 / 4.0) as f32) };
        for t in 1..=200 {
            coder.learn(&wave(0.7 * f64::from(t)));
        }
        let square = std::array::from_fn(|i| if i % 2 == 0 { 1.5 } else { -1.5 });
        // By `tests/reference/networks.py`; f32 against f64, through 200 steps.
        for (x, expected) in [(wave(0.3), 0.97284), (square, 4.60969), ([0.0; SPAN], 0.07622)] {
            let score = coder.score(&x);
            assert!((score - expected).abs() < 1e-3 * expected, "{score} instead of {expected}");
        }
    }

    #[test]
    fn the_gradient_is_that_of_differences() {
        let mut layers = Autoencoder::new(&mut Random::new(2)).layers;
        let x: [f32; SPAN] = std::array::from_fn(|i| libm::sinf(i as f32 / 5.0));
        let mut analytic = Vec::new();
        layers.gradient(&layers.pass(&x)).flatten(&mut analytic);
        for (at, slope) in analytic.iter().enumerate().step_by(7) {
            let mut moved = |by: f32| {
                let mut seen = 0;
                layers.visit_mut("", &mut |_, _, values| {
                    if (seen..seen + values.len()).contains(&at) {
                        values[at - seen] += by;
                    }
                    seen += values.len();
                });
                0.5 * error(&layers.pass(&x))
            };
            // f32: a step of 10⁻² and a tolerance of a hundredth.
            let (up, down) = (moved(0.01), moved(-0.02));
            moved(0.01);
            let numeric = (up - down) / 0.02;
            assert!(
                (f64::from(*slope) - numeric).abs() < 0.01 * (1.0 + numeric.abs()),
                "{at}: {slope}, {numeric}"
            );
        }
    }
}
