//! The seeded week: six days of history and the morning of the seventh, as a rate, as history and as arrivals.
//!
//! Time here is the demo's compressed clock (Unix seconds); rates are requests per real second.

use std::time::Duration;

use super::random::Random;

const DAY: f64 = 86_400.0;
/// Days before the live one.
const HISTORY_DAYS: f64 = 6.0;
/// Monday 2026-03-09, 00:00 UTC: any Monday would do; a fixed one gives the same seed the same calendar.
const MONDAY: f64 = 1_773_014_400.0;
/// The morning's plateau in requests/s before the seed's level. About a dozen replicas' worth at the peak of a
/// burst, while workers, generator and kernel stay below the share of two cores that [`super::machine`] checks.
const PLATEAU_RPS: f64 = 1_100.0;
/// Load at night and before the ramp, as a share of the plateau: business services fall to a quarter or a third.
const NIGHT_SHARE: f64 = 0.3;
/// Saturday's and Sunday's share of a weekday.
const WEEKEND_SHARE: f64 = 0.7;
/// Deviation of the noise's logarithm, and its correlation time in seconds: wandering of a few percent over
/// minutes, as in the traces of FORECAST.md, beside the Poisson noise of the arrivals themselves.
const NOISE_DEVIATION: f64 = 0.04;
const NOISE_MEMORY: f64 = 300.0;
const NOISE_STEP: f64 = 60.0;
/// A burst multiplies the load by 1.7 to 2.1: a push message or a sale's start, not an attack.
const GAIN: (f64, f64) = (0.7, 1.1);
/// A burst's rise and fall, seconds.
const RISE: f64 = 60.0;
const FALL: f64 = 120.0;

/// A rise, a plateau and a fall on top of the daily course.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Burst {
    /// When the rise begins, Unix seconds.
    pub starts: f64,
    /// What it adds at its height, as a share of the load.
    pub gain: f64,
    plateau: f64,
}

impl Burst {
    fn share_at(&self, at: f64) -> f64 {
        let since = at - self.starts;
        let rising = since / RISE;
        let falling = (RISE + self.plateau + FALL - since) / FALL;
        self.gain * rising.min(falling).clamp(0.0, 1.0)
    }
}

/// A week's load.
#[derive(Clone, Debug)]
pub struct Week {
    seed: u64,
    live_starts: f64,
    window: f64,
    level: f64,
    ramp_centre: f64,
    noise: Vec<f64>,
    recurring: Burst,
    new: Burst,
    // All of the week's bursts by start.
    bursts: Vec<Burst>,
}

impl Week {
    /// The week of `seed` whose live part lasts `window` seconds of the compressed clock.
    pub fn new(seed: u64, window: Duration) -> Self {
        let window = window.as_secs_f64();
        let mut draw = Random::new(seed, "week");
        // The seventh day is a Tuesday to Friday, so that the weekend lies among the six before it.
        let weekday = 1.0 + draw.below(4) as f64;
        let centre_of_day = DAY * 7.0 + weekday * DAY + draw.between(7.5, 8.5) * 3_600.0;
        // On a whole minute, so that history ends on every grid that divides one.
        let live_starts = ((MONDAY + centre_of_day - draw.between(0.35, 0.5) * window) / 60.0).floor() * 60.0;
        let level = draw.between(0.85, 1.15);
        // At most a tenth of the live part, so that two fit into a short run as well.
        let plateau = (window / 10.0).min(300.0);
        let mut burst = |starts: f64| Burst { starts, gain: draw.between(GAIN.0, GAIN.1), plateau };
        let early = burst(0.0);
        let late = burst(0.0);
        let early = Burst { starts: live_starts + draw.between(0.28, 0.40) * window, ..early };
        let late = Burst { starts: live_starts + draw.between(0.62, 0.76) * window, ..late };
        let (recurring, new) = if draw.below(2) == 0 { (early, late) } else { (late, early) };

        let mut bursts = vec![recurring, new];
        for day in 1..=HISTORY_DAYS as i32 {
            let before = f64::from(day) * DAY;
            let gain = recurring.gain * libm::exp(0.1 * draw.normal());
            bursts.push(Burst { starts: recurring.starts - before, gain, ..recurring });
            // One or two a day that never come back.
            for _ in 0..=draw.below(2) {
                let hour = draw.between(6.0, 22.0) * 3_600.0;
                let midnight = ((live_starts - before) / DAY).floor() * DAY;
                let gain = draw.between(GAIN.0, GAIN.1);
                bursts.push(Burst { starts: midnight + hour, gain, ..recurring });
            }
        }
        bursts.sort_by(|a, b| a.starts.total_cmp(&b.starts));
        let ramp_centre = (MONDAY + centre_of_day) % DAY;
        let steps = ((HISTORY_DAYS * DAY + window) / NOISE_STEP) as usize + 2;
        Self {
            seed,
            live_starts,
            window,
            level,
            ramp_centre,
            noise: noise(seed, steps),
            recurring,
            new,
            bursts,
        }
    }

    /// When the live part begins, Unix seconds.
    pub fn live_starts(&self) -> f64 {
        self.live_starts
    }

    /// The burst that came at this time on each day before.
    pub fn recurring(&self) -> &Burst {
        &self.recurring
    }

    /// The burst that comes for the first time.
    pub fn new_burst(&self) -> &Burst {
        &self.new
    }

    /// Requests per real second at a Unix time of the compressed clock.
    pub fn rate_at(&self, at: f64) -> f64 {
        let of_day = at % DAY;
        // Nine tenths of the ramp take half the live part (4.4 time constants from 10 % to 90 %); evenings fall slower.
        let ramp = logistic((of_day - self.ramp_centre) / (self.window / 8.8).min(1_800.0));
        let evening = logistic((of_day - 20.0 * 3_600.0) / 3_600.0);
        let day = NIGHT_SHARE + (1.0 - NIGHT_SHARE) * ramp * (1.0 - evening);
        let weekday = ((at - MONDAY) / DAY).floor().rem_euclid(7.0);
        let weekly = if weekday >= 5.0 { WEEKEND_SHARE } else { 1.0 };
        let step = ((at - self.live_starts + HISTORY_DAYS * DAY) / NOISE_STEP).max(0.0);
        let index = (step as usize).min(self.noise.len() - 2);
        let between = (step - index as f64).min(1.0);
        let noise = self.noise[index] + (self.noise[index + 1] - self.noise[index]) * between;
        let length = RISE + self.recurring.plateau + FALL;
        let from = self.bursts.partition_point(|burst| burst.starts < at - length);
        let bursts: f64 =
            self.bursts[from..].iter().take_while(|burst| burst.starts <= at).map(|b| b.share_at(at)).sum();
        PLATEAU_RPS * self.level * day * weekly * libm::exp(noise) * (1.0 + bursts)
    }

    /// The six days before, one row per `step` seconds: (start of the bin in Unix seconds, requests/s), with the
    /// Poisson noise that measuring at this `speed` has.
    pub fn history(&self, step: u32, speed: f64) -> Vec<(i64, f64)> {
        let mut draw = Random::new(self.seed, "history");
        let step_seconds = f64::from(step);
        let first = ((self.live_starts - HISTORY_DAYS * DAY) / step_seconds).ceil() as i64;
        let last = (self.live_starts / step_seconds).floor() as i64;
        (first..last)
            .map(|bin| {
                let starts = bin as f64 * step_seconds;
                let real_seconds = step_seconds / speed;
                let expected = self.rate_at(starts + step_seconds / 2.0) * real_seconds;
                (bin * i64::from(step), poisson(&mut draw, expected) / real_seconds)
            })
            .collect()
    }

    /// When requests arrive, after the live start, in real time: a nonhomogeneous Poisson process.
    pub fn arrivals(&self, duration: Duration, speed: f64) -> Vec<Duration> {
        // A millisecond of real time is at most 60 ms of the compressed clock: the rate is constant within it.
        const STEP: f64 = 1e-3;
        let mut draw = Random::new(self.seed, "arrivals");
        let mut arrivals = Vec::new();
        let mut needed = draw.exponential();
        for step in 0..(duration.as_secs_f64() / STEP) as u64 {
            let starts = step as f64 * STEP;
            let rate = self.rate_at(self.live_starts + starts * speed);
            let mut used = 0.0;
            while used + needed <= rate * STEP {
                used += needed;
                arrivals.push(Duration::from_secs_f64(starts + used / rate));
                needed = draw.exponential();
            }
            needed -= rate * STEP - used;
        }
        arrivals
    }
}

fn logistic(x: f64) -> f64 {
    1.0 / (1.0 + libm::exp(-x))
}

// A first-order autoregression of the rate's logarithm.
fn noise(seed: u64, steps: usize) -> Vec<f64> {
    let mut draw = Random::new(seed, "noise");
    let kept = libm::exp(-NOISE_STEP / NOISE_MEMORY);
    let fresh = NOISE_DEVIATION * (1.0 - kept * kept).sqrt();
    let mut value = NOISE_DEVIATION * draw.normal();
    (0..steps)
        .map(|_| {
            value = kept * value + fresh * draw.normal();
            value
        })
        .collect()
}

fn poisson(draw: &mut Random, mean: f64) -> f64 {
    if mean > 100.0 {
        // The normal approximation is within a percent of the deviation here.
        return (mean + mean.sqrt() * draw.normal()).round().max(0.0);
    }
    let mut count = 0.0;
    let mut used = draw.exponential();
    while used < mean {
        count += 1.0;
        used += draw.exponential();
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUN: Duration = Duration::from_secs(180);
    const SPEED: f64 = 30.0;

    fn week(seed: u64) -> Week {
        Week::new(seed, RUN.mul_f64(SPEED))
    }

    #[test]
    fn same_seed_same_week_other_seed_another() {
        assert_eq!(week(3).arrivals(RUN, SPEED), week(3).arrivals(RUN, SPEED));
        assert_eq!(week(3).history(10, SPEED), week(3).history(10, SPEED));
        assert_ne!(week(3).arrivals(RUN, SPEED).len(), week(4).arrivals(RUN, SPEED).len());
    }

    #[test]
    fn arrivals_follow_the_rate() {
        for seed in 0..5 {
            let week = week(seed);
            let arrivals = week.arrivals(RUN, SPEED);
            for second in 0..RUN.as_secs() {
                let expected: f64 = (0..10)
                    .map(|tenth| {
                        week.rate_at(
                            week.live_starts() + (second as f64 + 0.05 + 0.1 * f64::from(tenth)) * SPEED,
                        ) / 10.0
                    })
                    .sum();
                let seen = arrivals.iter().filter(|at| at.as_secs() == second).count() as f64;
                // Five standard deviations over 900 draws.
                assert!(
                    (seen - expected).abs() < 5.0 * expected.sqrt(),
                    "seed {seed} second {second}: {seen} for {expected}"
                );
            }
        }
    }

    #[test]
    fn history_holds_the_recurring_burst_and_not_the_new_one() {
        let day_before = |week: &Week, burst: &Burst| {
            // Its height against the minute before it, a day earlier.
            let at = burst.starts - DAY;
            week.rate_at(at + RISE + 10.0) / week.rate_at(at - 10.0)
        };
        for seed in 0..20 {
            let week = week(seed);
            assert!(day_before(&week, week.recurring()) > 1.3, "seed {seed}");
            // One of the day's unscheduled bursts may fall here by chance, but not on every day.
            let again = (1..=6).filter(|day| {
                let at = week.new_burst().starts - f64::from(*day) * DAY;
                week.rate_at(at + RISE + 10.0) / week.rate_at(at - 10.0) > 1.3
            });
            assert!(again.count() < 3, "seed {seed}");
        }
    }

    #[test]
    fn the_live_part_is_a_morning_ramp_with_both_bursts() {
        for seed in 0..20 {
            for seconds in [30, 60, 180] {
                let run = Duration::from_secs(seconds);
                let week = Week::new(seed, run.mul_f64(SPEED));
                let at = |share: f64| week.rate_at(week.live_starts() + share * run.as_secs_f64() * SPEED);
                assert!(at(0.999) > 1.8 * at(0.0), "seed {seed}: from {} to {}", at(0.0), at(0.999));
                for burst in [week.recurring(), week.new_burst()] {
                    let share = (burst.starts - week.live_starts()) / (run.as_secs_f64() * SPEED);
                    assert!((0.2..0.8).contains(&share), "seed {seed}: a burst at {share}");
                }
            }
        }
    }

    #[test]
    fn history_is_six_days_on_the_grid_up_to_the_live_start() {
        let week = week(1);
        let history = week.history(10, SPEED);
        assert_eq!(history.len() as f64, HISTORY_DAYS * DAY / 10.0);
        assert!(history.windows(2).all(|pair| pair[1].0 - pair[0].0 == 10));
        assert_eq!(history[history.len() - 1].0 as f64 + 10.0, week.live_starts());
    }
}
