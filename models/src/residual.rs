//! How far an expert is usually off: a decaying histogram of its scaled residuals, and the quantiles of that.

use crate::forecast::LEVELS;
use crate::state::state;

/// Buckets per sign: from 2^-5 to 2^7 scales, two an octave between 2^-2 and 2^3, where quantiles mostly are, and one an
/// octave beyond (two everywhere scored the same on FORECAST.md's traces). A residual below 1/32 of the usual movement
/// is noise of the noise, one beyond 128 is counted in the outermost bucket.
const SIDE: usize = 17;
const LOWEST_EXPONENT: i64 = -5;
/// One mantissa bit beside the exponent: two linear buckets an octave.
const MANTISSA_BITS: u32 = 1;
/// Half-octaves from the lowest, and those of them that are a bucket each.
const HALVES: i64 = 24;
const FINE: std::ops::Range<usize> = 6..16;

/// What one residual adds to its bucket. Whole numbers of 16 bits keep a histogram at 70 bytes; ten a residual, so that
/// the prior's shares and a few halvings are whole too.
const UNIT: u16 = 10;

/// At so many residuals all buckets are halved: between 2,800 and 5,600 are remembered, which leaves some forty beyond
/// the 99 % level. Of memories of 700, 2,000, 4,000 and 6,000 the last three scored within 0.3 % of each other on
/// FORECAST.md's traces, 700 1 % worse.
const FULL: u16 = 5600 * UNIT;

/// What is believed before the first residual: a normal distribution whose scale is the local scale, with the weight
/// of six residuals. Value and share of each side, in `UNIT`s: evenly spaced quantiles, so that a few residuals move
/// it smoothly.
const PRIOR_SHARES: [(f64, u16); 4] = [(-2.0, 3), (-1.4, 6), (-0.8, 12), (-0.25, 9)];

/// Normal quantiles at [`LEVELS`], until the first residual.
const PRIOR: [f64; 5] = [-1.2816, 0.0, 1.2816, 1.6449, 2.3263];

/// A decaying histogram of signed residuals, in units of the local scale.
#[derive(Clone, Debug)]
pub struct Residuals {
    /// Ascending: −outermost … −innermost, zero, innermost … outermost.
    buckets: [u16; 2 * SIDE + 1],
    /// Their sum.
    total: u16,
    /// At [`LEVELS`].
    quantiles: [f32; 5],
    seen: u16,
}
state!(Residuals { buckets, total, quantiles, seen });

impl Default for Residuals {
    fn default() -> Self {
        Self::new()
    }
}

impl Residuals {
    /// The prior alone.
    pub fn new() -> Self {
        let mut new =
            Self { buckets: [0; 2 * SIDE + 1], total: 0, quantiles: PRIOR.map(|q| q as f32), seen: 0 };
        for (value, share) in PRIOR_SHARES {
            for sign in [1.0, -1.0] {
                new.buckets[bucket(sign * value)] += share;
                new.total += share;
            }
        }
        new
    }

    /// Adds one residual (in scales). Not finite ones can't occur: both sides of the difference are bounded.
    pub fn add(&mut self, residual: f64) {
        debug_assert!(residual.is_finite(), "residual {residual}");
        if self.total > FULL - UNIT {
            for bucket in &mut self.buckets {
                *bucket /= 2;
            }
            self.total = self.buckets.iter().sum();
        }
        self.buckets[bucket(residual)] += UNIT;
        self.total += UNIT;
        self.seen = self.seen.wrapping_add(1);
        // Early on each residual moves the quantiles; later every eighth suffices, which saves most of the work.
        if self.seen < 200 || self.seen.is_multiple_of(8) {
            self.refresh();
        }
    }

    /// The residual's quantile at one of [`LEVELS`], in scales.
    pub fn quantile(&self, level: usize) -> f64 {
        f64::from(self.quantiles[level])
    }

    /// The residual's quantiles at [`LEVELS`], in scales.
    pub fn quantiles(&self) -> [f64; 5] {
        self.quantiles.map(f64::from)
    }

    fn refresh(&mut self) {
        let (mut below, mut level) = (0.0_f32, 0);
        let total = f32::from(self.total);
        for (i, &mass) in self.buckets.iter().enumerate() {
            let mass = f32::from(mass);
            while level < 5 && below + mass >= LEVELS[level] as f32 * total && mass > 0.0 {
                let share = f64::from((LEVELS[level] as f32 * total - below) / mass);
                let (low, high) = edges(i);
                self.quantiles[level] = (low + share.clamp(0.0, 1.0) * (high - low)) as f32;
                level += 1;
            }
            below += mass;
        }
    }
}

fn bucket(residual: f64) -> usize {
    // The exponent and the leading mantissa bit of a float are a logarithm with two linear steps an octave: exact
    // on every machine, and cheaper than a logarithm.
    let bits = residual.abs().to_bits() >> (52 - MANTISSA_BITS);
    let lowest = (1023 + LOWEST_EXPONENT) << MANTISSA_BITS;
    let half = (bits as i64 - lowest).clamp(-1, HALVES - 1);
    let Ok(half) = usize::try_from(half) else { return SIDE };
    let side = if half < FINE.start {
        half / 2
    } else if half < FINE.end {
        half - FINE.start / 2
    } else {
        (half - FINE.end) / 2 + FINE.end - FINE.start / 2
    };
    if residual < 0.0 { SIDE - 1 - side } else { SIDE + 1 + side }
}

fn edges(bucket: usize) -> (f64, f64) {
    let edge = |side: usize| {
        let fine = FINE.start / 2..FINE.end - FINE.start / 2;
        let half = if side < fine.start {
            2 * side
        } else if side < fine.end {
            side + FINE.start / 2
        } else {
            FINE.end + 2 * (side - fine.end)
        };
        let bits = (((1023 + LOWEST_EXPONENT) << MANTISSA_BITS) + half as i64) as u64;
        f64::from_bits(bits << (52 - MANTISSA_BITS))
    };
    match bucket {
        // As good as exact: series that repeat exactly are forecast exactly.
        SIDE => (0.0, 0.0),
        b if b > SIDE => (edge(b - SIDE - 1), edge(b - SIDE)),
        b => (-edge(SIDE - b), -edge(SIDE - 1 - b)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_falls_between_its_buckets_edges() {
        let mut x = 1.0 / 32.0;
        while x < 127.0 {
            for value in [x, -x] {
                let (low, high) = edges(bucket(value));
                assert!(low <= value && value <= high, "{value} not in {low}..{high}");
            }
            x *= 1.01;
        }
        assert_eq!(edges(bucket(1e-3)), (0.0, 0.0));
        assert_eq!(bucket(1e300), 2 * SIDE);
        assert_eq!(bucket(-1e300), 0);
    }

    #[test]
    fn uniform_residuals_give_uniform_quantiles() {
        let mut residuals = Residuals::new();
        for i in 0..20_000_u64 {
            residuals.add((i * 7919 % 1000) as f64 / 100.0 - 5.0);
        }
        for (quantile, level) in residuals.quantiles().iter().zip(LEVELS) {
            let expected = level * 10.0 - 5.0;
            // Within a bucket of half an octave.
            assert!(
                (quantile - expected).abs() <= 0.05 + expected.abs() / 4.0,
                "{level}: {quantile} instead of {expected}"
            );
        }
    }

    #[test]
    fn the_past_is_forgotten() {
        let mut residuals = Residuals::new();
        for _ in 0..20_000 {
            residuals.add(3.0);
        }
        for _ in 0..20_000 {
            residuals.add(-3.0);
        }
        assert!(residuals.quantiles()[4] < 0.0, "{:?}", residuals.quantiles());
    }
}
