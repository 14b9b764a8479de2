//! A fully connected layer.

use ndarray::{Array1, Array2};

use super::parameters::{parameters_of_arrays, values, values_mut};
use super::products::{add, add_outer, add_product, add_transposed};
use super::random::Random;
use super::real::Real;

/// `y = xᵀ W + b`.
#[derive(Clone, Debug, PartialEq)]
pub struct Dense<T> {
    /// Inputs × outputs.
    weight: Array2<T>,
    /// One per output.
    bias: Array1<T>,
}

parameters_of_arrays!(Dense: weight, bias);

impl<T: Real> Dense<T> {
    /// All zero: also an empty gradient.
    pub fn zeros(inputs: usize, outputs: usize) -> Self {
        Self {
            weight: Array2::from_elem((inputs, outputs), T::ZERO),
            bias: Array1::from_elem(outputs, T::ZERO),
        }
    }

    /// Weights uniform in ±√(6/(inputs + outputs)), biases 0.
    ///
    /// Glorot, Bengio: *Understanding the difficulty of training deep feedforward neural networks*, AISTATS 2010, eq. 16.
    pub fn random(inputs: usize, outputs: usize, random: &mut Random) -> Self {
        let limit = (6.0 / (inputs + outputs) as f64).sqrt();
        Self { weight: random.array((inputs, outputs), limit), bias: Array1::from_elem(outputs, T::ZERO) }
    }

    /// Width of `x`.
    pub fn inputs(&self) -> usize {
        self.weight.nrows()
    }

    /// Width of `y`.
    pub fn outputs(&self) -> usize {
        self.weight.ncols()
    }

    /// The biases, for a start that isn't zero.
    pub fn bias_mut(&mut self) -> &mut [T] {
        values_mut(&mut self.bias)
    }

    /// Writes `y`.
    ///
    /// # Panics
    /// If the widths don't fit.
    pub fn forward(&self, x: &[T], y: &mut [T]) {
        y.copy_from_slice(values(&self.bias));
        add_product(values(&self.weight), x, y);
    }

    /// Adds to `gradient` and, where asked for, to `dx` what `dy` says at `x`.
    ///
    /// # Panics
    /// If the widths don't fit.
    pub fn backward(&self, x: &[T], dy: &[T], gradient: &mut Self, dx: Option<&mut [T]>) {
        add_outer(x, dy, values_mut(&mut gradient.weight));
        add(dy, values_mut(&mut gradient.bias));
        if let Some(dx) = dx {
            add_transposed(values(&self.weight), dy, dx);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{check_gradient, noise};
    use super::*;

    #[test]
    fn the_gradient_is_that_of_central_differences() {
        let mut layer = Dense::<f64>::random(5, 3, &mut Random::new(1));
        let (mut x, dy) = (noise(5, 2), noise(3, 3));
        let mut gradient = Dense::zeros(5, 3);
        let mut dx = vec![0.0; 5];
        layer.backward(&x, &dy, &mut gradient, Some(&mut dx));
        let loss = |layer: &Dense<f64>, x: &[f64]| {
            let mut y = [0.0; 3];
            layer.forward(x, &mut y);
            y.iter().zip(&dy).map(|(y, dy)| y * dy).sum::<f64>()
        };
        check_gradient(&mut layer, &gradient, &mut x, &dx, loss);
    }
}
