//! The pinball loss, and quantiles that can't cross.

use super::real::Real;

/// The pinball (quantile) loss of `quantile` at `level` when `truth` came, and its derivative by the quantile.
///
/// Koenker, Bassett: *Regression Quantiles*, Econometrica 46 (1978). Where both are equal, the derivative is taken as 0.
pub fn pinball<T: Real>(level: T, truth: T, quantile: T) -> (T, T) {
    let error = truth - quantile;
    if error > T::ZERO {
        (level * error, -level)
    } else if error < T::ZERO {
        ((level - T::ONE) * error, T::ONE - level)
    } else {
        (T::ZERO, T::ZERO)
    }
}

/// Turns free numbers into ascending quantiles, in place: the one at `median` stays, the others follow at distances
/// softplus(·) from their neighbour.
///
/// # Panics
/// If `median` is out of range.
pub fn spread<T: Real>(median: usize, raw: &mut [T]) {
    for i in median + 1..raw.len() {
        raw[i] = raw[i - 1] + raw[i].softplus();
    }
    for i in (0..median).rev() {
        raw[i] = raw[i + 1] - raw[i].softplus();
    }
}

/// Turns the gradient by the quantiles that [`spread`] made of `raw` into that by `raw`, in place.
///
/// # Panics
/// If `median` is out of range or the lengths differ.
pub fn spread_backward<T: Real>(median: usize, raw: &[T], dq: &mut [T]) {
    assert_eq!(raw.len(), dq.len(), "a gradient for each quantile");
    // A distance moves its own quantile and all beyond it; softplus' derivative is the sigmoid.
    let mut beyond = T::ZERO;
    for i in (median + 1..raw.len()).rev() {
        beyond += dq[i];
        dq[i] = beyond * raw[i].sigmoid();
    }
    let mut below = T::ZERO;
    for i in 0..median {
        below += dq[i];
        dq[i] = -(below * raw[i].sigmoid());
    }
    dq[median] += beyond + below;
}

#[cfg(test)]
mod tests {
    use super::super::testing::{check_input_gradient, noise};
    use super::*;

    #[test]
    fn the_pinball_loss_costs_each_side_its_level() {
        assert_eq!(pinball(0.9, 3.0, 1.0), (1.8, -0.9));
        let (loss, slope) = pinball(0.9, 1.0, 3.0_f64);
        assert!((loss - 0.2).abs() < 1e-12 && (slope - 0.1).abs() < 1e-12);
        assert_eq!(pinball(0.9, 2.0, 2.0), (0.0, 0.0));
    }

    #[test]
    fn quantiles_ascend_and_their_gradient_is_that_of_central_differences() {
        for median in 0..5 {
            let (mut raw, dq) = (noise(5, 3), noise(5, 4));
            let mut quantiles = raw.clone();
            spread(median, &mut quantiles);
            assert!(quantiles.is_sorted(), "{quantiles:?}");
            assert_eq!(quantiles[median], raw[median]);
            let mut draw = dq.clone();
            spread_backward(median, &raw, &mut draw);
            check_input_gradient(&mut raw, &draw, |raw| {
                let mut quantiles = raw.to_vec();
                spread(median, &mut quantiles);
                quantiles.iter().zip(&dq).map(|(q, d)| q * d).sum()
            });
        }
    }
}
