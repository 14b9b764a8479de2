//! Temporal convolutional network: a stack of dilated causal convolutions, step by step and through time.

use super::activation;
use super::conv::Conv1d;
use super::parameters::{Parameters, Visit, VisitMut};
use super::products::add;
use super::random::Random;
use super::real::Real;

/// Taps of each layer, and how far apart they are: each layer closes the gaps of the next, and all see 81 steps.
const TAPS: usize = 3;
const DILATIONS: [usize; 4] = [1, 3, 9, 27];

/// Bai, Kolter, Koltun: *An Empirical Evaluation of Generic Convolutional and Recurrent Networks for Sequence Modeling*,
/// 2018, with one convolution per block instead of two:
///
/// h₁ = relu(conv₁(x)), hₗ = hₗ₋₁ + relu(convₗ(hₗ₋₁)).
#[derive(Clone, Debug, PartialEq)]
pub struct Tcn<T> {
    layers: Vec<Conv1d<T>>,
}

/// What a forward pass over a sequence keeps for the backward pass, and what the next sequence sees of it.
#[derive(Clone, Debug)]
pub struct TcnTape<T> {
    hidden: usize,
    /// Per layer its inputs: those before the sequence that it still sees, then the sequence's.
    inputs: Vec<Vec<T>>,
    /// Per layer relu(conv), step by step.
    active: Vec<Vec<T>>,
    /// The last layer's output: before the first step, after the first, …
    states: Vec<T>,
    dys: Vec<T>,
    dxs: Vec<T>,
}

impl<T: Real> TcnTape<T> {
    /// The output after `step` steps; 0 is the initial one.
    pub fn state(&self, step: usize) -> &[T] {
        &self.states[step * self.hidden..][..self.hidden]
    }
}

impl<T: Real> Tcn<T> {
    /// All zero: also an empty gradient.
    pub fn zeros(inputs: usize, hidden: usize) -> Self {
        let width = |layer: usize| if layer == 0 { inputs } else { hidden };
        let layer = |(i, dilation): (usize, usize)| Conv1d::zeros(width(i), hidden, TAPS, dilation);
        Self { layers: DILATIONS.into_iter().enumerate().map(layer).collect() }
    }

    /// Layers as [`Conv1d::random`].
    pub fn random(inputs: usize, hidden: usize, random: &mut Random) -> Self {
        let mut layers = Vec::with_capacity(DILATIONS.len());
        for (i, dilation) in DILATIONS.into_iter().enumerate() {
            layers.push(Conv1d::random(if i == 0 { inputs } else { hidden }, hidden, TAPS, dilation, random));
        }
        Self { layers }
    }

    /// Width of the output.
    pub fn hidden(&self) -> usize {
        self.layers[0].outputs()
    }

    /// Length of the state: the output, then per layer the inputs that it still sees; all zero at first.
    pub fn state_len(&self) -> usize {
        self.hidden() + self.layers.iter().map(|l| l.span() * l.inputs()).sum::<usize>()
    }

    /// Length of the scratch space of [`Tcn::step`].
    pub fn scratch(&self) -> usize {
        self.hidden()
    }

    /// Takes one input and moves `state` on; its first part is the output then. Nothing is allocated.
    ///
    /// # Panics
    /// If the lengths don't fit.
    pub fn step(&self, x: &[T], state: &mut [T], scratch: &mut [T]) {
        let (out, mut rest) = state.split_at_mut(self.hidden());
        for (i, layer) in self.layers.iter().enumerate() {
            let (window, after) = rest.split_at_mut(layer.span() * layer.inputs());
            rest = after;
            window.copy_within(layer.inputs().., 0);
            let newest = window.len() - layer.inputs();
            window[newest..].copy_from_slice(if i == 0 { x } else { out });
            layer.forward(layer.span() - 1, window, scratch);
            activation::relu(scratch);
            if i == 0 { out.copy_from_slice(scratch) } else { add(scratch, out) }
        }
    }

    /// An empty tape at the zero state.
    pub fn tape(&self) -> TcnTape<T> {
        let past = |layer: &Conv1d<T>| vec![T::ZERO; (layer.span() - 1) * layer.inputs()];
        TcnTape {
            hidden: self.hidden(),
            inputs: self.layers.iter().map(past).collect(),
            active: vec![Vec::new(); self.layers.len()],
            states: vec![T::ZERO; self.hidden()],
            dys: Vec::new(),
            dxs: Vec::new(),
        }
    }

    /// Runs over a sequence, `xs` holding one input after the other, after what the tape has seen; the tape then holds this
    /// sequence alone. Returns the number of steps.
    ///
    /// # Panics
    /// If the widths don't fit.
    pub fn forward(&self, xs: &[T], tape: &mut TcnTape<T>) -> usize {
        let hidden = self.hidden();
        let steps = xs.len() / self.layers[0].inputs();
        let last = tape.states.len() - hidden;
        tape.states.copy_within(last.., 0);
        tape.states.resize((steps + 1) * hidden, T::ZERO);
        for (i, layer) in self.layers.iter().enumerate() {
            let past = (layer.span() - 1) * layer.inputs();
            let inputs = &mut tape.inputs[i];
            inputs.drain(..inputs.len() - past);
            inputs.extend_from_slice(if i == 0 { xs } else { &tape.states[hidden..] });
            let active = &mut tape.active[i];
            active.resize(steps * hidden, T::ZERO);
            layer.forward(layer.span() - 1, inputs, active);
            activation::relu(active);
            let out = &mut tape.states[hidden..];
            if i == 0 { out.copy_from_slice(active) } else { add(active, out) }
        }
        steps
    }

    /// Backpropagation through the tape's steps.
    ///
    /// `dstates` holds the loss's gradient by the output after each step; it is overwritten. Adds to `gradient`; nothing
    /// flows to the inputs, nor beyond the sequence's start (truncated backpropagation).
    ///
    /// # Panics
    /// If the lengths don't fit.
    pub fn backward(&self, tape: &mut TcnTape<T>, dstates: &mut [T], gradient: &mut Self) {
        for (i, layer) in self.layers.iter().enumerate().rev() {
            tape.dys.clear();
            tape.dys.extend_from_slice(dstates);
            activation::relu_backward(&tape.active[i], &mut tape.dys);
            let past = layer.span() - 1;
            let (xs, to) = (&tape.inputs[i], &mut gradient.layers[i]);
            if i == 0 {
                layer.backward(past, xs, &tape.dys, to, None);
            } else {
                tape.dxs.clear();
                tape.dxs.resize(xs.len(), T::ZERO);
                layer.backward(past, xs, &tape.dys, to, Some(&mut tape.dxs));
                // The way around the layer carries `dstates` on as it is.
                add(&tape.dxs[past * layer.inputs()..], dstates);
            }
        }
    }
}

impl<T: Real> Parameters<T> for Tcn<T> {
    fn visit(&self, prefix: &str, visit: &mut Visit<'_, T>) {
        for (i, layer) in self.layers.iter().enumerate() {
            layer.visit(&format!("{prefix}{i}."), visit);
        }
    }

    fn visit_mut(&mut self, prefix: &str, visit: &mut VisitMut<'_, T>) {
        for (i, layer) in self.layers.iter_mut().enumerate() {
            layer.visit_mut(&format!("{prefix}{i}."), visit);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{check_gradient, noise};
    use super::*;

    #[test]
    fn the_gradient_is_that_of_central_differences() {
        let (inputs, hidden, steps) = (2, 3, 40);
        let mut tcn = Tcn::<f64>::random(inputs, hidden, &mut Random::new(1));
        // A bias of 0 after inputs of 0 stands on relu's corner, where there is no derivative.
        let mut random = Random::new(4);
        tcn.visit_mut("", &mut |_, _, values| values.iter_mut().for_each(|v| *v += 0.2 * random.unit()));
        let (xs, weights) = (noise(inputs * steps, 2), noise(hidden * steps, 3));
        let loss = |tcn: &Tcn<f64>| {
            let (mut state, mut scratch) = (vec![0.0; tcn.state_len()], vec![0.0; tcn.scratch()]);
            let mut loss = 0.0;
            for (x, weights) in xs.chunks_exact(inputs).zip(weights.chunks_exact(hidden)) {
                tcn.step(x, &mut state, &mut scratch);
                loss += state.iter().zip(weights).map(|(h, w)| h * w).sum::<f64>();
            }
            loss
        };
        let mut tape = tcn.tape();
        assert_eq!(tcn.forward(&xs, &mut tape), steps);
        let mut gradient = Tcn::zeros(inputs, hidden);
        tcn.backward(&mut tape, &mut weights.clone(), &mut gradient);
        // The loss, as a function of one more input that the check can move: it adds it as it is.
        check_gradient(&mut tcn, &gradient, &mut [0.5], &[1.0], |tcn, x| loss(tcn) + x[0]);
    }

    #[test]
    fn a_sequence_in_two_parts_is_the_sequence_and_steps_give_the_same() {
        let tcn = Tcn::<f32>::random(2, 5, &mut Random::new(7));
        let xs: Vec<f32> = noise(2 * 120, 8).iter().map(|x| *x as f32).collect();
        let (mut whole, mut parts) = (tcn.tape(), tcn.tape());
        tcn.forward(&xs, &mut whole);
        tcn.forward(&xs[..2 * 70], &mut parts);
        tcn.forward(&xs[2 * 70..], &mut parts);
        let (mut state, mut scratch) = (vec![0.0; tcn.state_len()], vec![0.0; tcn.scratch()]);
        for (t, x) in xs.chunks_exact(2).enumerate() {
            tcn.step(x, &mut state, &mut scratch);
            assert_eq!(state[..5], *whole.state(t + 1));
        }
        assert_eq!(whole.state(120), parts.state(50));
    }
}
