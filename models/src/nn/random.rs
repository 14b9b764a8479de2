//! The one source of randomness: xoshiro256++ started by SplitMix64.

use ndarray::{Array, Dimension, ShapeBuilder};

use super::real::Real;
use crate::state::state;

/// Pseudo-random numbers from a seed; the same on every machine. Not for secrets.
///
/// Blackman, Vigna: *Scrambled Linear Pseudorandom Number Generators*, ACM TOMS 47 (2021): xoshiro256++ 1.0, its state
/// filled by SplitMix64 as the authors recommend.
#[derive(Clone, Debug)]
pub struct Random {
    state: [u64; 4],
}
state!(Random { state });

impl Random {
    /// The sequence of this seed.
    pub fn new(seed: u64) -> Self {
        let mut at = seed;
        Self { state: std::array::from_fn(|_| split_mix(&mut at)) }
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        let s = &mut self.state;
        let result = s[0].wrapping_add(s[3]).rotate_left(23).wrapping_add(s[0]);
        let shifted = s[1] << 17;
        s[2] ^= s[0];
        s[3] ^= s[1];
        s[1] ^= s[2];
        s[0] ^= s[3];
        s[2] ^= shifted;
        s[3] = s[3].rotate_left(45);
        result
    }

    /// Uniform in [0, 1), with 53 random bits.
    pub fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Uniform among 0..`bound`, to within `bound`/2⁶⁴.
    ///
    /// # Panics
    /// If `bound` is 0.
    pub fn below(&mut self, bound: usize) -> usize {
        assert!(bound > 0, "nothing to choose from");
        ((u128::from(self.bits()) * bound as u128) >> 64) as usize
    }

    /// An array with entries uniform in ±`limit`, filled in storage order.
    pub fn array<T: Real, D: Dimension, S: ShapeBuilder<Dim = D>>(
        &mut self,
        shape: S,
        limit: f64,
    ) -> Array<T, D> {
        let mut array = Array::from_elem(shape, T::ZERO);
        for value in &mut array {
            *value = T::of(limit * (2.0 * self.unit() - 1.0));
        }
        array
    }
}

fn split_mix(at: &mut u64) -> u64 {
    *at = at.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *at;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sequences_are_the_published_ones() {
        let mut at = 1_234_567;
        let first: [u64; 3] = std::array::from_fn(|_| split_mix(&mut at));
        assert_eq!(first, [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]);
        // The test vector of the crate rand_xoshiro 0.6, made with the authors' C code.
        let mut random = Random { state: [1, 2, 3, 4] };
        let first: [u64; 4] = std::array::from_fn(|_| random.bits());
        assert_eq!(first, [41_943_041, 58_720_359, 3_588_806_011_781_223, 3_591_011_842_654_386]);
    }

    #[test]
    fn draws_stay_in_their_range_and_are_even() {
        let mut random = Random::new(5);
        let mut counts = [0_u32; 10];
        for _ in 0..10_000 {
            counts[random.below(10)] += 1;
            assert!((0.0..1.0).contains(&random.unit()));
        }
        // A binomial count of mean 1000 has a deviation of 30; six of them never happen by chance.
        assert!(counts.iter().all(|c| c.abs_diff(1000) < 180), "{counts:?}");
    }
}
