//! Recursive least squares with forgetting and guards.

use crate::state::state;

/// Errors beyond this many of their own deviations are clipped: one burst must not rewrite every weight
/// (FORECAST.md, lesson 6).
const ERROR_LIMIT: f64 = 5.0;

/// Memory of the errors' deviation, in updates.
const DEVIATION_MEMORY: f64 = 500.0;

/// The covariance's mean diagonal may not exceed this many times its start: without new information forgetting alone
/// would let it, and with it the next step, grow without end (lesson 6).
const COVARIANCE_LIMIT: f64 = 10.0;

/// Regressors at most: what an update works on lies on the stack.
const MOST: usize = 16;

/// Weights that minimise Σ λ^(n−i) (yᵢ − w·xᵢ)² + λⁿ δ |w|².
///
/// Haykin, *Adaptive Filter Theory*, 5th ed., §10.3, table 10.1, with a start of P = I/δ. While no guard strikes the
/// weights are that exact solution.
#[derive(Clone, Debug)]
pub struct Rls {
    weights: Box<[f64]>,
    /// P's upper half, row by row: it is symmetric.
    covariance: Box<[f64]>,
    keep: f64,
    start: f64,
    deviation: f64,
    updates: f64,
}
state!(Rls { weights, covariance, deviation, updates } fixed { keep, start });

impl Rls {
    /// `size` weights, all zero; `keep` is λ, `ridge` δ.
    ///
    /// # Panics
    /// If there are more than 16.
    pub fn new(size: usize, keep: f64, ridge: f64) -> Self {
        assert!(size <= MOST, "at most {MOST} regressors");
        let start = 1.0 / ridge;
        let diagonal = |i: usize| (i..size).map(move |j| if i == j { start } else { 0.0 });
        Self {
            weights: vec![0.0; size].into(),
            covariance: (0..size).flat_map(diagonal).collect(),
            keep,
            start,
            deviation: 0.0,
            updates: 0.0,
        }
    }

    /// w·x.
    pub fn predict(&self, x: &[f64]) -> f64 {
        self.weights.iter().zip(x).map(|(w, x)| w * x).sum()
    }

    /// The weights.
    pub fn weights(&self) -> &[f64] {
        &self.weights
    }

    /// Learns that `x` gave `y`; both finite.
    pub fn update(&mut self, x: &[f64], y: f64) {
        let size = self.weights.len();
        let error = y - self.predict(x);
        let bounded = self.bound(error);
        let mut gain = [0.0; MOST];
        let mut rows = self.covariance.iter();
        for i in 0..size {
            for (j, p) in (i..size).zip(rows.by_ref()) {
                gain[i] += p * x[j];
                if j > i {
                    gain[j] += p * x[i];
                }
            }
        }
        let power = self.keep + gain.iter().zip(x).map(|(gain, x)| gain * x).sum::<f64>();
        for (weight, gain) in self.weights.iter_mut().zip(&gain) {
            *weight += gain / power * bounded;
        }
        // P ← (P − Px (Px)ᵀ / power) / λ.
        let mut trace = 0.0;
        let mut rows = self.covariance.iter_mut();
        for i in 0..size {
            for (j, p) in (i..size).zip(rows.by_ref()) {
                *p = (*p - gain[i] * gain[j] / power) / self.keep;
                if i == j {
                    trace += *p;
                }
            }
        }
        let most = COVARIANCE_LIMIT * self.start * size as f64;
        if trace > most {
            for value in &mut self.covariance {
                *value *= most / trace;
            }
        }
    }

    /// The error, clipped at [`ERROR_LIMIT`] deviations once ten have been seen.
    fn bound(&mut self, error: f64) -> f64 {
        self.updates += 1.0;
        let limit =
            if self.updates > 10.0 { ERROR_LIMIT * libm::sqrt(self.deviation) } else { f64::INFINITY };
        // A series that was predicted exactly so far has no deviation to clip at.
        let bounded = if limit > 0.0 { error.clamp(-limit, limit) } else { error };
        let rate = (1.0 / self.updates).max(1.0 / DEVIATION_MEMORY);
        self.deviation += rate * (bounded * bounded - self.deviation);
        bounded
    }

    /// Bytes on the heap.
    pub fn heap_bytes(&self) -> usize {
        (self.weights.len() + self.covariance.len()) * 8
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Regressors with a little noise, as the reference script makes them.
    fn noise(x: &mut u64) -> f64 {
        *x = (1_103_515_245 * *x + 12_345) % (1 << 31);
        (*x / 65_536 % 2001) as f64 / 1000.0 - 1.0
    }

    #[test]
    fn one_impossible_value_does_not_rewrite_the_weights() {
        let (mut rls, mut seed) = (Rls::new(2, 0.999, 1.0), 1);
        for _ in 0..500 {
            let x = [1.0, noise(&mut seed)];
            rls.update(&x, 3.0 + 2.0 * x[1] + 0.1 * noise(&mut seed));
        }
        let before = rls.weights().to_vec();
        rls.update(&[1.0, 0.5], 1e9);
        for (before, after) in before.iter().zip(rls.weights()) {
            assert!((before - after).abs() < 0.01, "{before} became {after}");
        }
    }

    #[test]
    fn without_news_the_covariance_stays_bounded_and_news_are_still_learned() {
        let mut rls = Rls::new(2, 0.99, 1.0);
        for _ in 0..100_000 {
            rls.update(&[1.0, 0.0], 5.0);
        }
        let trace = rls.covariance[0] + rls.covariance[2];
        assert!(trace <= 20.0 * 1.000_001, "{trace}");
        for _ in 0..1000 {
            rls.update(&[1.0, 1.0], 7.0);
            rls.update(&[1.0, 0.0], 5.0);
        }
        assert!((rls.predict(&[1.0, 1.0]) - 7.0).abs() < 0.05, "{:?}", rls.weights());
    }
}
