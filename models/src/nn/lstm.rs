//! Long short-term memory, step by step and through time.

use ndarray::{Array1, Array2};

use super::parameters::{parameters_of_arrays, values, values_mut};
use super::products::{add, add_outer, add_product, add_transposed};
use super::random::Random;
use super::real::Real;

/// Hochreiter, Schmidhuber: *Long Short-Term Memory*, Neural Computation 9 (1997), with the forget gate of Gers et al.
/// (2000):
///
/// i, f, o = σ(W x + U h + b) each, g = tanh(W_g x + U_g h + b_g), c' = f ∘ c + i ∘ g, h' = o ∘ tanh(c').
///
/// The gates i, f, g, o stand side by side in each array, in this order, PyTorch's. One bias serves both products:
/// PyTorch's second is redundant.
#[derive(Clone, Debug, PartialEq)]
pub struct Lstm<T> {
    /// W: inputs × 4 hidden.
    input: Array2<T>,
    /// U: hidden × 4 hidden.
    hidden: Array2<T>,
    /// b: 4 hidden.
    bias: Array1<T>,
}

parameters_of_arrays!(Lstm: input, hidden, bias);

/// What a forward pass over a sequence keeps for the backward pass; also its states.
#[derive(Clone, Debug)]
pub struct LstmTape<T> {
    hidden: usize,
    /// h and then c: before the first step, after the first, … after the last.
    states: Vec<T>,
    /// i, f, g, o and tanh(c'), step by step.
    gates: Vec<T>,
    scratch: Vec<T>,
}

impl<T: Real> LstmTape<T> {
    /// For networks of `hidden` units.
    pub fn new(hidden: usize) -> Self {
        Self {
            hidden,
            states: vec![T::ZERO; 2 * hidden],
            gates: Vec::new(),
            scratch: vec![T::ZERO; 5 * hidden],
        }
    }

    /// The output h after `step` steps; 0 is the initial one.
    pub fn state(&self, step: usize) -> &[T] {
        &self.states[step * 2 * self.hidden..][..self.hidden]
    }
}

impl<T: Real> Lstm<T> {
    /// All zero: also an empty gradient.
    pub fn zeros(inputs: usize, hidden: usize) -> Self {
        Self {
            input: Array2::from_elem((inputs, 4 * hidden), T::ZERO),
            hidden: Array2::from_elem((hidden, 4 * hidden), T::ZERO),
            bias: Array1::from_elem(4 * hidden, T::ZERO),
        }
    }

    /// Uniform in ±1/√hidden, as PyTorch starts its LSTM; the forget gate's bias at 1.
    ///
    /// Jozefowicz, Zaremba, Sutskever: *An Empirical Exploration of Recurrent Network Architectures*, ICML 2015, on the
    /// forget gate's bias.
    pub fn random(inputs: usize, hidden: usize, random: &mut Random) -> Self {
        let limit = 1.0 / (hidden as f64).sqrt();
        let mut lstm = Self {
            input: random.array((inputs, 4 * hidden), limit),
            hidden: random.array((hidden, 4 * hidden), limit),
            bias: random.array(4 * hidden, limit),
        };
        values_mut(&mut lstm.bias)[hidden..2 * hidden].fill(T::ONE);
        lstm
    }

    /// Width of an input.
    pub fn inputs(&self) -> usize {
        self.input.nrows()
    }

    /// Width of the output h; the state (h and then c) is twice as wide.
    pub fn hidden(&self) -> usize {
        self.hidden.nrows()
    }

    /// Length of the scratch space of [`Lstm::step`].
    pub fn scratch(&self) -> usize {
        4 * self.hidden()
    }

    /// Takes one input and moves `state` (h and then c) on. Nothing is allocated.
    ///
    /// # Panics
    /// If the widths don't fit, or `scratch` is not of [`Lstm::scratch`]'s length.
    pub fn step(&self, x: &[T], state: &mut [T], scratch: &mut [T]) {
        let hidden = self.hidden();
        let (h, c) = state.split_at_mut(hidden);
        self.sums(x, h, scratch);
        for (j, (h, c)) in h.iter_mut().zip(c).enumerate() {
            let [i, f, g, o] = [0, 1, 2, 3].map(|gate| scratch[gate * hidden + j]);
            *c = f.sigmoid() * *c + i.sigmoid() * g.tanh_libm();
            *h = o.sigmoid() * c.tanh_libm();
        }
    }

    /// Runs over a sequence, `xs` holding one input after the other, from the tape's last state; the tape then holds
    /// this sequence alone. Returns the number of steps.
    ///
    /// # Panics
    /// If the widths don't fit.
    pub fn forward(&self, xs: &[T], tape: &mut LstmTape<T>) -> usize {
        let hidden = self.hidden();
        assert_eq!(tape.hidden, hidden, "a tape of another width");
        let steps = xs.len() / self.inputs();
        let last = tape.states.len() - 2 * hidden;
        tape.states.copy_within(last.., 0);
        tape.states.resize((steps + 1) * 2 * hidden, T::ZERO);
        tape.gates.resize(steps * 5 * hidden, T::ZERO);
        for (t, x) in xs.chunks_exact(self.inputs()).enumerate() {
            let (before, after) = tape.states[t * 2 * hidden..].split_at_mut(2 * hidden);
            let sums = &mut tape.scratch[..4 * hidden];
            self.sums(x, &before[..hidden], sums);
            let gates = &mut tape.gates[t * 5 * hidden..][..5 * hidden];
            for j in 0..hidden {
                let [i, f, g, o] = [0, 1, 2, 3].map(|gate| sums[gate * hidden + j]);
                let (i, f, g, o) = (i.sigmoid(), f.sigmoid(), g.tanh_libm(), o.sigmoid());
                let c = f * before[hidden + j] + i * g;
                let squashed = c.tanh_libm();
                (after[j], after[hidden + j]) = (o * squashed, c);
                for (gate, value) in [i, f, g, o, squashed].into_iter().enumerate() {
                    gates[gate * hidden + j] = value;
                }
            }
        }
        steps
    }

    /// Sets the tape's last state (h and then c), from which the next [`Lstm::forward`] starts.
    pub fn start(&self, state: &[T], tape: &mut LstmTape<T>) {
        tape.states.clear();
        tape.states.extend_from_slice(state);
    }

    /// Backpropagation through the tape's steps.
    ///
    /// `dstates` holds the loss's gradient by the output h after each step; it is overwritten. Adds to `gradient` and,
    /// where asked for, to `dxs`. Nothing flows beyond the sequence's start (truncated backpropagation).
    ///
    /// # Panics
    /// If the lengths don't fit.
    pub fn backward(
        &self,
        xs: &[T],
        tape: &mut LstmTape<T>,
        dstates: &mut [T],
        gradient: &mut Self,
        mut dxs: Option<&mut [T]>,
    ) {
        let (inputs, hidden) = (self.inputs(), self.hidden());
        let steps = xs.len() / inputs;
        assert_eq!(dstates.len(), steps * hidden, "a state's gradient for each step");
        let (by_sums, carried) = tape.scratch.split_at_mut(4 * hidden);
        // The gradient by the cell c after the step in question, as far as later steps know.
        carried.fill(T::ZERO);
        for t in (0..steps).rev() {
            let x = &xs[t * inputs..][..inputs];
            let (h, c) = tape.states[t * 2 * hidden..][..2 * hidden].split_at(hidden);
            let gates = &tape.gates[t * 5 * hidden..][..5 * hidden];
            let (earlier, dh) = dstates[..(t + 1) * hidden].split_at_mut(t * hidden);
            for j in 0..hidden {
                let [i, f, g, o, squashed] = [0, 1, 2, 3, 4].map(|gate| gates[gate * hidden + j]);
                let dc = carried[j] + dh[j] * o * (T::ONE - squashed * squashed);
                by_sums[j] = dc * g * i * (T::ONE - i);
                by_sums[hidden + j] = dc * c[j] * f * (T::ONE - f);
                by_sums[2 * hidden + j] = dc * i * (T::ONE - g * g);
                by_sums[3 * hidden + j] = dh[j] * squashed * o * (T::ONE - o);
                carried[j] = dc * f;
            }
            add_outer(x, by_sums, values_mut(&mut gradient.input));
            add_outer(h, by_sums, values_mut(&mut gradient.hidden));
            add(by_sums, values_mut(&mut gradient.bias));
            if let Some(dxs) = dxs.as_deref_mut() {
                add_transposed(values(&self.input), by_sums, &mut dxs[t * inputs..][..inputs]);
            }
            if t > 0 {
                add_transposed(values(&self.hidden), by_sums, &mut earlier[(t - 1) * hidden..]);
            }
        }
    }

    fn sums(&self, x: &[T], h: &[T], sums: &mut [T]) {
        sums.copy_from_slice(values(&self.bias));
        add_product(values(&self.input), x, sums);
        add_product(values(&self.hidden), h, sums);
    }
}
