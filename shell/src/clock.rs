//! The one place where the binaries read a clock; a demo runs it faster than real time.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use prescale_core::{Mono, Now, Wall};

/// A demo packs an hour into a minute and no more: below that, what queues up during a pod's start would no longer
/// exceed a latency objective (issue 3, item 9). A test may go further; nothing needs more than a day in 15 minutes.
const MAX_SPEED: f64 = 100.0;

/// `mono` starts here, not at 0, so that instants from before the start, which saved state holds, have a number too:
/// longer than any window, and still exact to the nanosecond in an `f64`.
const MONO_ORIGIN: Duration = Duration::from_secs(10 * 86_400);

/// Flags of the clock. Only the demo and tests need them; without them the clock is the machine's.
#[derive(clap::Args, Clone, Debug)]
pub struct ClockArgs {
    /// Demo only: how many times faster than real time every window, horizon and period runs
    #[arg(long, value_name = "FACTOR", default_value_t = 1.0, value_parser = speed, help_heading = "Clock (only a demo needs these)")]
    pub clock_speed: f64,
    /// Demo only: the real instant at which the faster clock starts, Unix milliseconds
    #[arg(long, value_name = "MS", default_value_t = 0, help_heading = "Clock (only a demo needs these)")]
    pub clock_epoch_ms: i64,
    /// Demo only: what the faster clock shows at its start, Unix milliseconds
    #[arg(long, value_name = "MS", default_value_t = 0, help_heading = "Clock (only a demo needs these)")]
    pub clock_origin_ms: i64,
}

fn speed(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(speed) if (1.0..=MAX_SPEED).contains(&speed) => Ok(speed),
        _ => Err(format!("want a number from 1 to {MAX_SPEED}")),
    }
}

impl ClockArgs {
    /// Starts the clock; `mono` counts from here.
    pub fn start(&self) -> Clock {
        Clock {
            speed: self.clock_speed,
            epoch_ms: self.clock_epoch_ms,
            origin_ms: self.clock_origin_ms,
            started: Instant::now(),
        }
    }
}

/// `wall = origin + (real − epoch) × speed`; `mono` runs `speed` times as fast as the machine's, from ten days at the
/// start.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    speed: f64,
    epoch_ms: i64,
    origin_ms: i64,
    started: Instant,
}

impl Clock {
    /// The machine's own clock.
    pub fn real() -> Self {
        ClockArgs { clock_speed: 1.0, clock_epoch_ms: 0, clock_origin_ms: 0 }.start()
    }

    /// Both clocks, read together.
    pub fn now(&self) -> Now {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.at(self.started.elapsed(), i64::try_from(unix.as_millis()).unwrap_or(i64::MAX))
    }

    fn at(&self, elapsed: Duration, real_ms: i64) -> Now {
        let mono = MONO_ORIGIN.saturating_add(elapsed.mul_f64(self.speed)).as_nanos();
        let mono = u64::try_from(mono).unwrap_or(u64::MAX);
        let since_ms = real_ms.saturating_sub(self.epoch_ms);
        // Real time must not pass through a float: 1 × the difference is the difference.
        let scaled_ms = if self.speed == 1.0 { since_ms } else { (since_ms as f64 * self.speed) as i64 };
        Now { mono: Mono(mono), wall: Wall(self.origin_ms.saturating_add(scaled_ms)) }
    }

    /// How many times faster than real time it runs.
    pub fn speed(&self) -> f64 {
        self.speed
    }

    /// The real time that `duration` of this clock takes.
    pub fn real_duration(&self, duration: Duration) -> Duration {
        duration.div_f64(self.speed)
    }

    /// Sleeps for `duration` of this clock.
    pub async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(self.real_duration(duration)).await;
    }

    /// Ticks every `period` of this clock, at once first; ticks that were missed are left out, never caught up.
    pub fn interval(&self, period: Duration) -> tokio::time::Interval {
        // tokio refuses a period of zero; a microsecond is shorter than any period that a flag allows.
        let mut interval = tokio::time::interval(self.real_duration(period).max(Duration::from_micros(1)));
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        interval
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_faster_from_its_epoch_on() {
        let args = ClockArgs { clock_speed: 60.0, clock_epoch_ms: 1_000_000, clock_origin_ms: 5_000 };
        let now = args.start().at(Duration::from_millis(1500), 1_002_000);
        assert_eq!(now, Now { mono: Mono(864_090_000_000_000), wall: Wall(5_000 + 120_000) });
    }

    #[test]
    fn without_flags_it_is_the_machines_clock() {
        let real_ms = 1_700_000_000_123;
        let now = Clock::real().at(Duration::from_nanos(7), real_ms);
        assert_eq!(now, Now { mono: Mono(864_000_000_000_007), wall: Wall(real_ms) });
    }

    #[test]
    fn refuses_speeds_that_make_no_sense() {
        for bad in ["0", "-1", "NaN", "inf", "0.5", "101", "fast"] {
            assert!(speed(bad).is_err(), "{bad}");
        }
        assert_eq!(speed("60"), Ok(60.0));
    }

    #[tokio::test(start_paused = true)]
    async fn sleeps_and_intervals_are_in_its_time() {
        let clock = ClockArgs { clock_speed: 50.0, clock_epoch_ms: 0, clock_origin_ms: 0 }.start();
        let before = tokio::time::Instant::now();
        clock.sleep(Duration::from_secs(50)).await;
        assert!(before.elapsed() >= Duration::from_secs(1) && before.elapsed() < Duration::from_millis(1010));
        let mut interval = clock.interval(Duration::from_secs(5));
        interval.tick().await;
        let before = tokio::time::Instant::now();
        interval.tick().await;
        assert_eq!(before.elapsed().as_millis() / 10, 10);
    }
}
