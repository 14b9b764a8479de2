//! Gated recurrent unit, step by step and through time.

use ndarray::{Array1, Array2};

use super::parameters::{parameters_of_arrays, values, values_mut};
use super::products::{add, add_outer, add_product, add_transposed};
use super::random::Random;
use super::real::Real;

/// Cho et al.: *Learning Phrase Representations using RNN Encoder-Decoder*, EMNLP 2014, in the variant that cuDNN,
/// PyTorch and ONNX (`linear_before_reset = 1`) compute:
///
/// r = σ(W_r x + b_r + U_r h + c_r), z = σ(W_z x + b_z + U_z h + c_z),
/// n = tanh(W_n x + b_n + r ∘ (U_n h + c_n)), h' = (1 − z) ∘ n + z ∘ h.
///
/// The gates r, z, n stand side by side in each array, in this order.
#[derive(Clone, Debug, PartialEq)]
pub struct Gru<T> {
    /// W: inputs × 3 hidden.
    input: Array2<T>,
    /// U: hidden × 3 hidden.
    hidden: Array2<T>,
    /// b: 3 hidden.
    input_bias: Array1<T>,
    /// c: 3 hidden.
    hidden_bias: Array1<T>,
}

parameters_of_arrays!(Gru: input, hidden, input_bias, hidden_bias);

/// What a forward pass over a sequence keeps for the backward pass; also its states.
#[derive(Clone, Debug)]
pub struct GruTape<T> {
    hidden: usize,
    /// States before the first step, after the first, … after the last.
    states: Vec<T>,
    /// r, z, n and U_n h + c_n, step by step.
    gates: Vec<T>,
    scratch: Vec<T>,
}

impl<T: Real> GruTape<T> {
    /// For networks of `hidden` units.
    pub fn new(hidden: usize) -> Self {
        Self { hidden, states: vec![T::ZERO; hidden], gates: Vec::new(), scratch: vec![T::ZERO; 6 * hidden] }
    }

    /// The state after `step` steps; 0 is the initial one.
    pub fn state(&self, step: usize) -> &[T] {
        &self.states[step * self.hidden..][..self.hidden]
    }
}

impl<T: Real> Gru<T> {
    /// All zero: also an empty gradient.
    pub fn zeros(inputs: usize, hidden: usize) -> Self {
        Self {
            input: Array2::from_elem((inputs, 3 * hidden), T::ZERO),
            hidden: Array2::from_elem((hidden, 3 * hidden), T::ZERO),
            input_bias: Array1::from_elem(3 * hidden, T::ZERO),
            hidden_bias: Array1::from_elem(3 * hidden, T::ZERO),
        }
    }

    /// Uniform in ±1/√hidden, as PyTorch starts its GRU.
    pub fn random(inputs: usize, hidden: usize, random: &mut Random) -> Self {
        let limit = 1.0 / (hidden as f64).sqrt();
        Self {
            input: random.array((inputs, 3 * hidden), limit),
            hidden: random.array((hidden, 3 * hidden), limit),
            input_bias: random.array(3 * hidden, limit),
            hidden_bias: random.array(3 * hidden, limit),
        }
    }

    /// Width of an input.
    pub fn inputs(&self) -> usize {
        self.input.nrows()
    }

    /// Width of the state.
    pub fn hidden(&self) -> usize {
        self.hidden.nrows()
    }

    /// Length of the scratch space of [`Gru::step`].
    pub fn scratch(&self) -> usize {
        6 * self.hidden()
    }

    /// Takes one input and moves `state` on. Nothing is allocated.
    ///
    /// # Panics
    /// If the widths don't fit, or `scratch` is not of [`Gru::scratch`]'s length.
    pub fn step(&self, x: &[T], state: &mut [T], scratch: &mut [T]) {
        self.gates(x, state, scratch);
        let hidden = self.hidden();
        let (sums, products) = scratch.split_at(3 * hidden);
        for (j, h) in state.iter_mut().enumerate() {
            let r = (sums[j] + products[j]).sigmoid();
            let z = (sums[hidden + j] + products[hidden + j]).sigmoid();
            let n = (sums[2 * hidden + j] + r * products[2 * hidden + j]).tanh_libm();
            *h = (T::ONE - z) * n + z * *h;
        }
    }

    /// Runs over a sequence, `xs` holding one input after the other, from the tape's last state; the tape then holds
    /// this sequence alone. Returns the number of steps.
    ///
    /// # Panics
    /// If the widths don't fit.
    pub fn forward(&self, xs: &[T], tape: &mut GruTape<T>) -> usize {
        let hidden = self.hidden();
        assert_eq!(tape.hidden, hidden, "a tape of another width");
        let steps = xs.len() / self.inputs();
        let last = tape.states.len() - hidden;
        tape.states.copy_within(last.., 0);
        tape.states.resize((steps + 1) * hidden, T::ZERO);
        tape.gates.resize(steps * 4 * hidden, T::ZERO);
        for (t, x) in xs.chunks_exact(self.inputs()).enumerate() {
            let (before, after) = tape.states[t * hidden..].split_at_mut(hidden);
            self.gates(x, before, &mut tape.scratch);
            let (sums, products) = tape.scratch.split_at(3 * hidden);
            let gates = &mut tape.gates[t * 4 * hidden..][..4 * hidden];
            for j in 0..hidden {
                let r = (sums[j] + products[j]).sigmoid();
                let z = (sums[hidden + j] + products[hidden + j]).sigmoid();
                let m = products[2 * hidden + j];
                let n = (sums[2 * hidden + j] + r * m).tanh_libm();
                after[j] = (T::ONE - z) * n + z * before[j];
                (gates[j], gates[hidden + j], gates[2 * hidden + j], gates[3 * hidden + j]) = (r, z, n, m);
            }
        }
        steps
    }

    /// Sets the tape's last state, from which the next [`Gru::forward`] starts.
    pub fn start(&self, state: &[T], tape: &mut GruTape<T>) {
        tape.states.clear();
        tape.states.extend_from_slice(state);
    }

    /// Backpropagation through the tape's steps.
    ///
    /// `dstates` holds the loss's gradient by the state after each step; it is overwritten. Adds to `gradient` and,
    /// where asked for, to `dxs`. Nothing flows beyond the sequence's start (truncated backpropagation).
    ///
    /// # Panics
    /// If the lengths don't fit.
    pub fn backward(
        &self,
        xs: &[T],
        tape: &mut GruTape<T>,
        dstates: &mut [T],
        gradient: &mut Self,
        mut dxs: Option<&mut [T]>,
    ) {
        let (inputs, hidden) = (self.inputs(), self.hidden());
        let steps = xs.len() / inputs;
        assert_eq!(dstates.len(), steps * hidden, "a state's gradient for each step");
        for t in (0..steps).rev() {
            let x = &xs[t * inputs..][..inputs];
            let before = &tape.states[t * hidden..][..hidden];
            let gates = &tape.gates[t * 4 * hidden..][..4 * hidden];
            let (earlier, dh) = dstates[..(t + 1) * hidden].split_at_mut(t * hidden);
            let (by_sums, by_products) = tape.scratch.split_at_mut(3 * hidden);
            for j in 0..hidden {
                let (r, z, n, m) =
                    (gates[j], gates[hidden + j], gates[2 * hidden + j], gates[3 * hidden + j]);
                let dn = dh[j] * (T::ONE - z) * (T::ONE - n * n);
                let dz = dh[j] * (before[j] - n) * z * (T::ONE - z);
                let dr = dn * m * r * (T::ONE - r);
                (by_sums[j], by_sums[hidden + j], by_sums[2 * hidden + j]) = (dr, dz, dn);
                (by_products[j], by_products[hidden + j], by_products[2 * hidden + j]) = (dr, dz, dn * r);
                // What flows straight through to the state before.
                dh[j] = dh[j] * z;
            }
            add_outer(x, by_sums, values_mut(&mut gradient.input));
            add(by_sums, values_mut(&mut gradient.input_bias));
            add_outer(before, by_products, values_mut(&mut gradient.hidden));
            add(by_products, values_mut(&mut gradient.hidden_bias));
            if let Some(dxs) = dxs.as_deref_mut() {
                add_transposed(values(&self.input), by_sums, &mut dxs[t * inputs..][..inputs]);
            }
            if t > 0 {
                let earlier = &mut earlier[(t - 1) * hidden..];
                add(dh, earlier);
                add_transposed(values(&self.hidden), by_products, earlier);
            }
        }
    }

    /// W x + b in the first half of `scratch`, U h + c in the second.
    fn gates(&self, x: &[T], state: &[T], scratch: &mut [T]) {
        let (sums, products) = scratch.split_at_mut(3 * self.hidden());
        sums.copy_from_slice(values(&self.input_bias));
        products.copy_from_slice(values(&self.hidden_bias));
        add_product(values(&self.input), x, sums);
        add_product(values(&self.hidden), state, products);
    }
}
