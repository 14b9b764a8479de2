//! A causal convolution over time.

use ndarray::{Array1, Array2};

use super::parameters::{parameters_of_arrays, values, values_mut};
use super::products::{add, add_outer, add_product, add_transposed};
use super::random::Random;
use super::real::Real;

/// `y_t = b + Σ_k W_k x_(t − (K − 1 − k)·dilation)`: the last tap sees the present, none the future; before the
/// sequence's start there are zeros.
///
/// van den Oord et al.: *WaveNet*, 2016 (dilated causal convolutions).
#[derive(Clone, Debug, PartialEq)]
pub struct Conv1d<T> {
    /// (Taps × inputs) × outputs, the oldest tap first.
    weight: Array2<T>,
    /// One per output.
    bias: Array1<T>,
    taps: usize,
    dilation: usize,
}

parameters_of_arrays!(Conv1d: weight, bias);

impl<T: Real> Conv1d<T> {
    /// All zero: also an empty gradient.
    ///
    /// # Panics
    /// Without a tap or with a dilation of 0.
    pub fn zeros(inputs: usize, outputs: usize, taps: usize, dilation: usize) -> Self {
        assert!(taps > 0 && dilation > 0, "a convolution needs a tap and a step");
        Self {
            weight: Array2::from_elem((taps * inputs, outputs), T::ZERO),
            bias: Array1::from_elem(outputs, T::ZERO),
            taps,
            dilation,
        }
    }

    /// Weights uniform in ±√(6/(taps·inputs + outputs)) as in a dense layer over the taps, biases 0.
    pub fn random(inputs: usize, outputs: usize, taps: usize, dilation: usize, random: &mut Random) -> Self {
        let limit = (6.0 / (taps * inputs + outputs) as f64).sqrt();
        let weight = random.array((taps * inputs, outputs), limit);
        Self { weight, ..Self::zeros(inputs, outputs, taps, dilation) }
    }

    /// Width of an input.
    pub fn inputs(&self) -> usize {
        self.weight.nrows() / self.taps
    }

    /// Width of an output.
    pub fn outputs(&self) -> usize {
        self.weight.ncols()
    }

    /// Steps that the layer looks at, the present one included.
    pub fn span(&self) -> usize {
        (self.taps - 1) * self.dilation + 1
    }

    /// Writes the outputs of a sequence, `xs` holding one input after the other. Its first `past` inputs came before: they
    /// have no output, but the others see them. Nothing is allocated.
    ///
    /// # Panics
    /// If the lengths don't fit.
    pub fn forward(&self, past: usize, xs: &[T], ys: &mut [T]) {
        let (inputs, outputs) = (self.inputs(), self.outputs());
        assert_eq!(xs.len() / inputs, past + ys.len() / outputs, "an output for each input");
        for (t, y) in (past..).zip(ys.chunks_exact_mut(outputs)) {
            y.copy_from_slice(values(&self.bias));
            for tap in 0..self.taps {
                if let Some(from) = t.checked_sub((self.taps - 1 - tap) * self.dilation) {
                    add_product(self.tap(tap), &xs[from * inputs..][..inputs], y);
                }
            }
        }
    }

    /// Adds to `gradient` and, where asked for, to `dxs` (one row per input, those before included) what `dys` says along
    /// the sequence `xs`.
    ///
    /// # Panics
    /// If the lengths don't fit.
    pub fn backward(&self, past: usize, xs: &[T], dys: &[T], gradient: &mut Self, mut dxs: Option<&mut [T]>) {
        let (inputs, outputs) = (self.inputs(), self.outputs());
        let rows = inputs * outputs;
        for (t, dy) in (past..).zip(dys.chunks_exact(outputs)) {
            add(dy, values_mut(&mut gradient.bias));
            for tap in 0..self.taps {
                let Some(from) = t.checked_sub((self.taps - 1 - tap) * self.dilation) else { continue };
                let x = from * inputs..(from + 1) * inputs;
                let weights = &mut values_mut(&mut gradient.weight)[tap * rows..][..rows];
                add_outer(&xs[x.clone()], dy, weights);
                if let Some(dxs) = dxs.as_deref_mut() {
                    add_transposed(self.tap(tap), dy, &mut dxs[x]);
                }
            }
        }
    }

    fn tap(&self, tap: usize) -> &[T] {
        let rows = self.inputs() * self.outputs();
        &values(&self.weight)[tap * rows..][..rows]
    }
}

#[cfg(test)]
mod tests {
    use super::super::reference;
    use super::super::testing::{check_gradient, noise};
    use super::*;

    #[test]
    fn the_gradient_is_that_of_central_differences() {
        let mut layer = Conv1d::<f64>::random(2, 3, 3, 2, &mut Random::new(1));
        let (mut xs, dys) = (noise(2 * 9, 2), noise(3 * 9, 3));
        let (mut gradient, mut dxs) = (Conv1d::zeros(2, 3, 3, 2), vec![0.0; xs.len()]);
        layer.backward(0, &xs, &dys, &mut gradient, Some(&mut dxs));
        let loss = |layer: &Conv1d<f64>, xs: &[f64]| {
            let mut ys = vec![0.0; dys.len()];
            layer.forward(0, xs, &mut ys);
            ys.iter().zip(&dys).map(|(y, dy)| y * dy).sum::<f64>()
        };
        check_gradient(&mut layer, &gradient, &mut xs, &dxs, loss);
    }

    #[test]
    fn a_sequence_in_two_parts_is_the_sequence_and_the_future_changes_nothing() {
        let layer = Conv1d::<f64>::random(2, 3, 3, 4, &mut Random::new(1));
        let mut xs = noise(2 * 25, 2);
        let mut ys = vec![0.0; 3 * 25];
        layer.forward(0, &xs, &mut ys);
        let past = layer.span() - 1;
        let mut end = vec![0.0; 3 * (25 - 12)];
        layer.forward(past, &xs[2 * (12 - past)..], &mut end);
        assert_eq!(end, ys[3 * 12..]);
        let before = ys.clone();
        xs[2 * 20..].fill(9.0);
        layer.forward(0, &xs, &mut ys);
        assert_eq!(ys[..3 * 20], before[..3 * 20]);
        assert_ne!(ys[3 * 20..], before[3 * 20..]);
    }

    #[test]
    fn the_outputs_are_those_of_the_reference() {
        let case = reference::case("conv");
        let mut layer = Conv1d::<f64>::zeros(2, 3, 3, 2);
        reference::load(&mut layer, &case);
        let xs = reference::values(&case, "xs");
        let mut ys = vec![0.0; xs.len() / 2 * 3];
        layer.forward(0, &xs, &mut ys);
        reference::assert_near(&ys, &reference::values(&case, "ys"));
    }
}
