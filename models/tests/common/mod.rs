//! Seeded series for the tests.
#![allow(dead_code, reason = "every test file uses some of it")]

/// SplitMix64 (Steele, Lea, Flood 2014).
pub(crate) struct Rng(pub(crate) u64);

impl Rng {
    pub(crate) fn uniform(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Roughly normal: the sum of twelve uniforms.
    pub(crate) fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.uniform()).sum::<f64>() - 6.0
    }
}

/// Requests/s of a seeded service at second `t`: daily wave, weekend dip, noise of the size that counting would give.
pub(crate) fn diurnal(rng: &mut Rng, t: i64, step: u32) -> f64 {
    let day = t.rem_euclid(86_400) as f64 / 86_400.0;
    let weekday = t.div_euclid(86_400).rem_euclid(7);
    let wave = 100.0 - 80.0 * libm::cos(std::f64::consts::TAU * day);
    let mean = if weekday >= 5 { 0.6 * wave } else { wave };
    (mean + (mean / f64::from(step)).sqrt() * rng.normal()).max(0.0)
}
