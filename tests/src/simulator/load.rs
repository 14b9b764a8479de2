//! What is asked of the workload: a function of the seed and of time, so that yesterday and tomorrow can be asked, too.

use super::random::{Random, noise};

const DAY_SECONDS: f64 = 86_400.0;

/// The shapes of load that can be simulated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Shape {
    /// Nights and days, a burst at the same time each day, one burst that was never seen before, slow noise.
    Day,
    /// Nights and days and slow noise, no bursts.
    Diurnal,
    /// The same mean all day and slow noise, with six bursts at times that nothing foretells.
    Bursts,
    /// The same mean, but doubled for half an hour from 11:15 on: a jump that no history knows.
    Step,
    /// The same mean, but from 11:15 on it climbs to four times that within ten minutes, stays for ten, and
    /// falls within ten; no history knows it.
    Ramp,
    /// The same rate all day: what moves is chance alone.
    #[value(name = "noise")]
    Steady,
}

impl Shape {
    /// All of them.
    pub const ALL: [Self; 6] = [Self::Day, Self::Diurnal, Self::Bursts, Self::Step, Self::Ramp, Self::Steady];

    /// Its label.
    pub fn name(self) -> &'static str {
        match self {
            Self::Day => "day",
            Self::Diurnal => "diurnal",
            Self::Bursts => "bursts",
            Self::Step => "step",
            Self::Ramp => "ramp",
            Self::Steady => "noise",
        }
    }
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
/// When a step or a ramp begins, seconds into day 0: long after 10 o'clock,
/// so that a run from 10 on has warmed up by then.
pub const CHANGE_SECONDS: f64 = 11.25 * 3600.0;
/// A step lasts so long, a ramp's climb, stay and fall each a third of it, seconds.
const CHANGE_LASTS: f64 = 1800.0;
/// Bursts a day that come at times of their own.
const RANDOM_BURSTS: i64 = 6;
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
        let changed = seconds - CHANGE_SECONDS;
        match self.shape {
            Shape::Steady => self.mean,
            Shape::Step => self.mean * if (0.0..CHANGE_LASTS).contains(&changed) { 2.0 } else { 1.0 },
            Shape::Ramp => {
                let third = CHANGE_LASTS / 3.0;
                self.mean * (1.0 + 3.0 * (changed / third).min(3.0 - changed / third).clamp(0.0, 1.0))
            }
            Shape::Bursts => self.mean * self.random_bursts(seconds) * self.slow(seconds),
            Shape::Diurnal => self.mean * daily(seconds) * self.slow(seconds),
            Shape::Day => self.mean * daily(seconds) * self.day_bursts(seconds) * self.slow(seconds),
        }
    }

    /// The recurring burst and, on day 0, the new one, as a factor.
    fn day_bursts(&self, seconds: f64) -> f64 {
        let day = libm::floor(seconds / DAY_SECONDS);
        let into = seconds - day * DAY_SECONDS;
        // The recurring burst keeps its time to about a minute.
        let shift = 60.0 * noise(self.seed ^ 0xB0, day as i64);
        let mut factor = 1.0 + (self.recurring_factor - 1.0) * burst(into - self.recurring - shift);
        if day == 0.0 {
            factor *= 1.0 + (self.new_factor - 1.0) * burst(into - self.new);
        }
        factor
    }

    /// Bursts of +40 to +140 %, one at a random time in each sixth of every day, as a factor.
    fn random_bursts(&self, seconds: f64) -> f64 {
        let length = DAY_SECONDS / RANDOM_BURSTS as f64;
        let slot = libm::floor(seconds / length);
        let unit = |salt: u64| (1.0 + noise(self.seed ^ salt, slot as i64)) / 2.0;
        let begins = slot * length + unit(0xB1) * (length - BURST_SECONDS);
        1.0 + (0.4 + unit(0xB2)) * burst(seconds - begins)
    }

    /// Slow noise, as a factor.
    fn slow(&self, seconds: f64) -> f64 {
        let place = seconds / NOISE_SECONDS;
        let step = libm::floor(place);
        let (a, b) = (noise(self.seed, step as i64), noise(self.seed, step as i64 + 1));
        1.0 + NOISE * (a + (b - a) * (place - step))
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

/// A day's shape: lowest at 3 in the morning, highest at 15 h; a second harmonic makes the morning steeper than the
/// evening.
fn daily(seconds: f64) -> f64 {
    let into = seconds - libm::floor(seconds / DAY_SECONDS) * DAY_SECONDS;
    let phase = std::f64::consts::TAU * (into / DAY_SECONDS - 15.0 / 24.0);
    1.0 + 0.7 * libm::cos(phase) + 0.12 * libm::cos(2.0 * phase + 0.8)
}

/// 0 outside a burst, 1 inside, linear on its ramps; `into` is seconds since its start.
fn burst(into: f64) -> f64 {
    (into / RAMP_SECONDS).min((BURST_SECONDS - into) / RAMP_SECONDS).clamp(0.0, 1.0)
}
