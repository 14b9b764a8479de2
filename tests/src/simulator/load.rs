//! What is asked of the workload: a function of the seed and of time, so that yesterday and tomorrow can be asked, too.

use super::random::{Random, noise};

const DAY_SECONDS: f64 = 86_400.0;

/// The shapes of load that can be simulated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Nights and days, a burst at the same time each day, one burst that was never seen before, slow noise.
    Day,
    /// The same rate all day: what moves is chance alone.
    Steady,
}

/// A load: mean arrivals per second at any time; arrivals themselves are Poisson.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    seed: u64,
    shape: Shape,
    /// Arrivals per second, mean over a day.
    mean: f64,
    /// Seconds into the day: of the recurring burst, of the new one (on day 0 only).
    recurring: f64,
    new: f64,
    /// By how much the bursts multiply the load.
    recurring_factor: f64,
    new_factor: f64,
}

/// Length of a burst, seconds, its ramps of [`RAMP_SECONDS`] included: long beside a pod's start-up, short beside a day.
const BURST_SECONDS: f64 = 600.0;
/// A burst's rise and fall: faster than a pod starts, so that it has to be foreseen or paid for.
const RAMP_SECONDS: f64 = 15.0;
/// Slow noise: so large, relative, drawn every so many seconds and interpolated.
const NOISE: f64 = 0.08;
const NOISE_SECONDS: f64 = 120.0;

impl Load {
    /// The load that `seed` draws, `mean` arrivals per second.
    pub fn new(seed: u64, shape: Shape, mean: f64) -> Self {
        let mut random = Random::new(seed, 0x10AD);
        Self {
            seed,
            shape,
            mean,
            // The recurring burst in the morning, the new one in the afternoon: neither hides the other.
            recurring: 3600.0 * (8.0 + 2.0 * random.unit()),
            new: 3600.0 * (13.0 + 3.0 * random.unit()),
            recurring_factor: 1.6 + 0.6 * random.unit(),
            new_factor: 1.6 + 0.6 * random.unit(),
        }
    }

    /// Arrivals per second at `seconds` after the start of day 0; negative: on the days before.
    pub fn at(&self, seconds: f64) -> f64 {
        if self.shape == Shape::Steady {
            return self.mean;
        }
        let day = libm::floor(seconds / DAY_SECONDS);
        let into = seconds - day * DAY_SECONDS;
        // Lowest at 3 in the morning, highest at 15 h; a second harmonic makes the morning steeper than the evening.
        let phase = std::f64::consts::TAU * (into / DAY_SECONDS - 15.0 / 24.0);
        let daily = 1.0 + 0.7 * libm::cos(phase) + 0.12 * libm::cos(2.0 * phase + 0.8);
        // The recurring burst keeps its time to about a minute.
        let shift = 60.0 * noise(self.seed ^ 0xB0, day as i64);
        let mut factor = 1.0 + (self.recurring_factor - 1.0) * burst(into - self.recurring - shift);
        if day == 0.0 {
            factor *= 1.0 + (self.new_factor - 1.0) * burst(into - self.new);
        }
        let place = seconds / NOISE_SECONDS;
        let step = libm::floor(place);
        let (a, b) = (noise(self.seed, step as i64), noise(self.seed, step as i64 + 1));
        let slow = 1.0 + NOISE * (a + (b - a) * (place - step));
        self.mean * daily * factor * slow
    }

    /// When the new burst begins, seconds into day 0.
    pub fn new_burst_seconds(&self) -> f64 {
        self.new
    }

    /// When the load of day 0 is highest, bursts left aside, seconds.
    pub fn peak_seconds(&self) -> f64 {
        15.0 * 3600.0
    }
}

/// 0 outside a burst, 1 inside, linear on its ramps; `into` is seconds since its start.
fn burst(into: f64) -> f64 {
    (into / RAMP_SECONDS).min((BURST_SECONDS - into) / RAMP_SECONDS).clamp(0.0, 1.0)
}
