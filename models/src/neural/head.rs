//! The head: from the recurrent state and one target's view to ascending quantiles.

use ndarray::Array1;

use crate::nn::{Dense, Parameters, Random, Real, Visit, VisitMut, activation, loss};

use super::candidates::CANDIDATES;
use super::frame::{FEATURES, View};

/// Quantiles of a forecast.
const LEVELS: usize = 5;
/// Which of them is the median: the others follow outwards from it.
const MEDIAN: usize = 1;

/// A hidden layer, then one number per candidate (its share, by softmax) and one per quantile.
///
/// The median is the candidates' weighted mean plus a correction; the distances of the other quantiles start at those
/// that the candidates' errors had and are corrected too. Untrained (an output layer of zeros) the head is an online
/// ensemble by recent errors, so training starts from a fair forecast instead of from nothing.
#[derive(Clone, Debug, PartialEq)]
pub struct Head<T> {
    first: Dense<T>,
    out: Dense<T>,
    /// How strongly a candidate's long and recent errors count against it.
    trust: Array1<T>,
}

/// What a forward pass leaves for the backward pass.
#[derive(Clone, Debug)]
pub struct Scratch<T> {
    x: Vec<T>,
    inner: Vec<T>,
    raw: Vec<T>,
    shares: [T; CANDIDATES],
    loose: [T; LEVELS],
    /// Gradients; empty until the first backward pass.
    dx: Vec<T>,
    dinner: Vec<T>,
    draw: Vec<T>,
}

impl<T> Scratch<T> {
    /// Bytes on the heap.
    pub fn heap_bytes(&self) -> usize {
        let gradients = self.dx.len() + self.dinner.len() + self.draw.len();
        (self.x.len() + self.inner.len() + self.raw.len() + gradients) * size_of::<T>()
    }
}

impl<T: Real> Head<T> {
    pub fn zeros(state: usize, width: usize) -> Self {
        Self {
            first: Dense::zeros(state + FEATURES, width),
            out: Dense::zeros(width, CANDIDATES + LEVELS),
            trust: Array1::from_elem(2, T::ZERO),
        }
    }

    /// The hidden layer at random, the output layer at zero; long errors count by their square at first, recent ones
    /// linearly: together the inverse cube of the frame's own base.
    pub fn random(state: usize, width: usize, random: &mut Random) -> Self {
        Self {
            first: Dense::random(state + FEATURES, width, random),
            trust: Array1::from_vec(vec![T::of(2.0), T::ONE]),
            ..Self::zeros(state, width)
        }
    }

    pub fn scratch(&self) -> Scratch<T> {
        let zeros = |n: usize| vec![T::ZERO; n];
        let (inputs, width) = (self.first.inputs(), self.first.outputs());
        Scratch {
            x: zeros(inputs),
            inner: zeros(width),
            raw: zeros(CANDIDATES + LEVELS),
            dx: Vec::new(),
            dinner: Vec::new(),
            draw: Vec::new(),
            shares: [T::ZERO; CANDIDATES],
            loose: [T::ZERO; LEVELS],
        }
    }

    /// Quantiles in scales from the view's base. Nothing is allocated.
    pub fn forward(&self, state: &[T], view: &View, scratch: &mut Scratch<T>) -> [T; LEVELS] {
        let (recurrent, features) = scratch.x.split_at_mut(state.len());
        recurrent.copy_from_slice(state);
        for (x, feature) in features.iter_mut().zip(&view.features) {
            *x = real(*feature);
        }
        self.first.forward(&scratch.x, &mut scratch.inner);
        activation::tanh(&mut scratch.inner);
        self.out.forward(&scratch.inner, &mut scratch.raw);
        for (k, share) in scratch.shares.iter_mut().enumerate() {
            // An error of +∞ is a share of exactly 0.
            *share = if view.errors[0][k].is_finite() {
                scratch.raw[k]
                    - self.trust[0] * real(view.errors[0][k])
                    - self.trust[1] * real(view.errors[1][k])
            } else {
                real(f32::NEG_INFINITY)
            };
        }
        activation::softmax(&mut scratch.shares);
        for (l, loose) in scratch.loose.iter_mut().enumerate() {
            *loose = scratch.raw[CANDIDATES + l] + real(view.spread[l]);
        }
        for (share, candidate) in scratch.shares.iter().zip(&view.candidates) {
            scratch.loose[MEDIAN] += *share * real(*candidate);
        }
        let mut quantiles = scratch.loose;
        loss::spread(MEDIAN, &mut quantiles);
        quantiles
    }

    /// Adds to `gradient` and `dstate` what `dq` says of the quantiles that [`Head::forward`] has just answered.
    pub fn backward(
        &self,
        view: &View,
        mut dq: [T; LEVELS],
        scratch: &mut Scratch<T>,
        gradient: &mut Self,
        dstate: &mut [T],
    ) {
        loss::spread_backward(MEDIAN, &scratch.loose, &mut dq);
        scratch.draw.resize(CANDIDATES + LEVELS, T::ZERO);
        let (by_shares, by_levels) = scratch.draw.split_at_mut(CANDIDATES);
        by_levels.copy_from_slice(&dq);
        for (d, candidate) in by_shares.iter_mut().zip(&view.candidates) {
            *d = dq[MEDIAN] * real(*candidate);
        }
        activation::softmax_backward(&scratch.shares, by_shares);
        for (k, d) in by_shares.iter().enumerate() {
            if view.errors[0][k].is_finite() {
                gradient.trust[0] += -(*d * real(view.errors[0][k]));
                gradient.trust[1] += -(*d * real(view.errors[1][k]));
            }
        }
        scratch.dinner.clear();
        scratch.dinner.resize(scratch.inner.len(), T::ZERO);
        self.out.backward(&scratch.inner, &scratch.draw, &mut gradient.out, Some(&mut scratch.dinner));
        activation::tanh_backward(&scratch.inner, &mut scratch.dinner);
        scratch.dx.clear();
        scratch.dx.resize(scratch.x.len(), T::ZERO);
        self.first.backward(&scratch.x, &scratch.dinner, &mut gradient.first, Some(&mut scratch.dx));
        for (d, dx) in dstate.iter_mut().zip(&scratch.dx) {
            *d += *dx;
        }
    }
}

fn real<T: Real>(value: f32) -> T {
    T::of(f64::from(value))
}

impl<T: Real> Parameters<T> for Head<T> {
    fn visit(&self, prefix: &str, visit: &mut Visit<'_, T>) {
        self.first.visit(&format!("{prefix}first."), visit);
        self.out.visit(&format!("{prefix}out."), visit);
        visit(&format!("{prefix}trust"), &[2], self.trust.as_slice().expect("a vector is contiguous"));
    }

    fn visit_mut(&mut self, prefix: &str, visit: &mut VisitMut<'_, T>) {
        self.first.visit_mut(&format!("{prefix}first."), visit);
        self.out.visit_mut(&format!("{prefix}out."), visit);
        visit(&format!("{prefix}trust"), &[2], self.trust.as_slice_mut().expect("a vector is contiguous"));
    }
}

#[cfg(test)]
mod tests {
    use super::super::frame::Frame;
    use super::*;
    use crate::nn::testing::{check_gradient, noise};
    use crate::{Bin, Grid, Target};

    /// A view with some candidates ready and some not, as after a few hours.
    fn view() -> View {
        let grid = Grid { step_seconds: 60 };
        let mut frame = Frame::new(grid, &[Target::At { steps: 5 }]);
        let mut outlook = None;
        for i in 0..300 {
            frame.observe(Bin::new(i, 5.0 + (i % 60) as f64 * 0.3 + (i % 7) as f64));
            outlook = Some(frame.look(0));
        }
        let view = frame.view(0, &outlook.unwrap());
        let ready = view.errors[0].iter().filter(|e| e.is_finite()).count();
        assert!(ready > 5 && ready < CANDIDATES, "{ready} candidates are ready");
        view
    }

    #[test]
    fn the_gradient_is_that_of_central_differences() {
        let view = view();
        let mut head = Head::<f64>::random(4, 6, &mut Random::new(1));
        // An output layer of zeros would hide the layer before it.
        head.out = Dense::random(6, CANDIDATES + LEVELS, &mut Random::new(2));
        let (mut state, weights) = (noise(4, 3), noise(LEVELS, 4));
        let weights: [f64; LEVELS] = weights.try_into().unwrap();
        let loss = |head: &Head<f64>, state: &[f64]| {
            let quantiles = head.forward(state, &view, &mut head.scratch());
            quantiles.iter().zip(&weights).map(|(q, w)| q * w).sum::<f64>()
        };
        let (mut gradient, mut dstate, mut scratch) = (Head::zeros(4, 6), [0.0; 4], head.scratch());
        head.forward(&state, &view, &mut scratch);
        head.backward(&view, weights, &mut scratch, &mut gradient, &mut dstate);
        check_gradient(&mut head, &gradient, &mut state, &dstate, loss);
    }

    #[test]
    fn an_untrained_head_is_the_ensemble_by_errors() {
        let view = view();
        let head = Head::<f32>::random(4, 6, &mut Random::new(1));
        let mut scratch = head.scratch();
        let quantiles = head.forward(&[0.0; 4], &view, &mut scratch);
        assert!(quantiles.is_sorted(), "{quantiles:?}");
        // The base weighs by the long errors alone, the head by recent ones too: they differ, but not by much.
        assert!(quantiles[MEDIAN].abs() < 1.0, "{} scales from the base", quantiles[MEDIAN]);
        let total: f32 = scratch.shares.iter().sum();
        assert!((total - 1.0).abs() < 1e-6);
        for (share, error) in scratch.shares.iter().zip(&view.errors[0]) {
            assert_eq!(*share == 0.0, error.is_infinite(), "only what isn't ready has no share");
        }
    }
}
