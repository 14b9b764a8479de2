//! Seeded random numbers: SplitMix64, the same on every machine.

/// A stream of random numbers. The same seed and label give the same numbers everywhere.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// A stream of its own for each purpose, so that a change in one leaves the others as they were.
    pub fn new(seed: u64, label: &str) -> Self {
        // FNV-1a over the label keeps the streams of one seed apart.
        let label = label.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        let mut stream = Self(seed ^ label);
        stream.bits();
        stream
    }

    /// 64 random bits (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, 2014).
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in [0, 1).
    pub fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Uniform in [low, high).
    pub fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.unit()
    }

    /// A whole number in [0, below); `below` is at least 1.
    pub fn below(&mut self, below: u64) -> u64 {
        // The bias of the multiply-shift is below/2^64: nothing at the sizes used here.
        ((u128::from(self.bits()) * u128::from(below)) >> 64) as u64
    }

    /// Exponential with mean 1.
    pub fn exponential(&mut self) -> f64 {
        -libm::log(1.0 - self.unit())
    }

    /// Normal with mean 0 and deviation 1 (Box-Muller, the cosine half).
    pub fn normal(&mut self) -> f64 {
        let radius = (2.0 * self.exponential()).sqrt();
        radius * libm::cos(std::f64::consts::TAU * self.unit())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn same_seed_same_numbers_other_label_others() {
        let numbers = |label| {
            let mut random = Random::new(7, label);
            (0..8).map(|_| random.bits()).collect::<Vec<_>>()
        };
        assert_eq!(numbers("arrivals"), numbers("arrivals"));
        assert_ne!(numbers("arrivals"), numbers("noise"));
    }

    #[test]
    fn moments_are_those_of_the_distributions() {
        let mut random = Random::new(1, "moments");
        let count = 100_000;
        let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
        let normals: Vec<f64> = (0..count).map(|_| random.normal()).collect();
        let squares: Vec<f64> = normals.iter().map(|x| x * x).collect();
        let exponentials: Vec<f64> = (0..count).map(|_| random.exponential()).collect();
        // Five standard errors of each mean.
        assert!(mean(&normals).abs() < 0.016, "{}", mean(&normals));
        assert!((mean(&squares) - 1.0).abs() < 0.023, "{}", mean(&squares));
        assert!((mean(&exponentials) - 1.0).abs() < 0.016, "{}", mean(&exponentials));
        let largest = (0..count).map(|_| random.below(10)).max();
        assert_eq!(largest, Some(9));
    }
}
