//! The number that a network computes with: `f32` in use, `f64` for gradient checks.

use std::fmt::Debug;
use std::ops::{Add, AddAssign, Div, Mul, Neg, Sub};

/// A float whose transcendental functions come from `libm`, so that they are the same on every machine.
pub trait Real:
    Copy
    + Debug
    + Default
    + PartialOrd
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
    + AddAssign
    + Send
    + Sync
    + 'static
{
    /// 0.
    const ZERO: Self;
    /// 1.
    const ONE: Self;

    /// The nearest value to `value`.
    fn of(value: f64) -> Self;
    /// As `f64`, exactly.
    fn to_f64(self) -> f64;
    /// eˣ. (Named so that no float's own method, whose last bits differ between machines, can be meant.)
    fn exp_libm(self) -> Self;
    /// ln(1 + x).
    fn ln_1p_libm(self) -> Self;
    /// Hyperbolic tangent.
    fn tanh_libm(self) -> Self;
    /// Square root, exactly rounded.
    fn sqrt(self) -> Self;

    /// 1 / (1 + e⁻ˣ).
    fn sigmoid(self) -> Self {
        // e⁻ˣ overflows to infinity for a very negative x, and 1/∞ is the right answer then.
        Self::ONE / (Self::ONE + (-self).exp_libm())
    }

    /// ln(1 + eˣ), without overflow.
    fn softplus(self) -> Self {
        let magnitude = if self > Self::ZERO { self } else { -self };
        let positive = if self > Self::ZERO { self } else { Self::ZERO };
        positive + (-magnitude).exp_libm().ln_1p_libm()
    }
}

impl Real for f32 {
    const ZERO: Self = 0.0;
    const ONE: Self = 1.0;

    fn of(value: f64) -> Self {
        value as Self
    }
    fn to_f64(self) -> f64 {
        f64::from(self)
    }
    fn exp_libm(self) -> Self {
        libm::expf(self)
    }
    fn ln_1p_libm(self) -> Self {
        libm::log1pf(self)
    }
    fn tanh_libm(self) -> Self {
        libm::tanhf(self)
    }
    fn sqrt(self) -> Self {
        self.sqrt()
    }
}

impl Real for f64 {
    const ZERO: Self = 0.0;
    const ONE: Self = 1.0;

    fn of(value: f64) -> Self {
        value
    }
    fn to_f64(self) -> f64 {
        self
    }
    fn exp_libm(self) -> Self {
        libm::exp(self)
    }
    fn ln_1p_libm(self) -> Self {
        libm::log1p(self)
    }
    fn tanh_libm(self) -> Self {
        libm::tanh(self)
    }
    fn sqrt(self) -> Self {
        self.sqrt()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sigmoid_and_softplus_hold_at_the_ends() {
        for x in [-1e4_f32, -50.0, 0.0, 50.0, 1e4] {
            assert!((0.0..=1.0).contains(&x.sigmoid()), "{x}");
            assert!(x.softplus().is_finite() && x.softplus() >= x.max(0.0), "{x}");
        }
        assert_eq!(0.0_f64.sigmoid(), 0.5);
        assert_eq!(0.0_f64.softplus(), libm::log(2.0));
    }
}
