//! When the nightly training begins, and how much of a core it may take.

use std::str::FromStr;
use std::time::Duration;

/// The time of day, in UTC, at which a training begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrainAt {
    /// Only when it is asked for.
    Off,
    /// Every day, so many minutes after midnight.
    Minute(u16),
}

const DAY_MS: i64 = 86_400_000;

impl TrainAt {
    /// The next instant after `now`, both Unix milliseconds.
    pub fn next(self, now_unix_ms: i64) -> Option<i64> {
        let Self::Minute(minute) = self else { return None };
        let today = now_unix_ms.div_euclid(DAY_MS) * DAY_MS + i64::from(minute) * 60_000;
        Some(if today > now_unix_ms { today } else { today + DAY_MS })
    }
}

impl FromStr for TrainAt {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const WANTED: &str = "want a time of day in UTC, such as 02:00, or off";
        if text == "off" {
            return Ok(Self::Off);
        }
        let digits = |part: &str| part.len() == 2 && part.bytes().all(|it| it.is_ascii_digit());
        let (hour, minute) = text.split_once(':').filter(|(a, b)| digits(a) && digits(b)).ok_or(WANTED)?;
        match (hour.parse::<u16>(), minute.parse::<u16>()) {
            (Ok(hour @ 0..24), Ok(minute @ 0..60)) => Ok(Self::Minute(hour * 60 + minute)),
            _ => Err(WANTED),
        }
    }
}

/// A share of one core, above 0 and at most 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Share(f64);

impl Share {
    /// How long to rest after so much work. Work is timed by the clock on the wall, so that the share is an upper bound
    /// where others take the core meanwhile.
    pub fn rest(self, worked: Duration) -> Duration {
        worked.mul_f64((1.0 - self.0) / self.0)
    }

    /// The number.
    pub fn get(self) -> f64 {
        self.0
    }
}

impl FromStr for Share {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.parse::<f64>() {
            // Below a hundredth a night is not long enough for anything.
            Ok(share) if (0.01..=1.0).contains(&share) => Ok(Self(share)),
            _ => Err("want a share of one core, from 0.01 to 1"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_night_is_the_first_instant_after_now() {
        let at: TrainAt = "02:30".parse().unwrap();
        let (day, minute) = (20_000 * DAY_MS, 60_000);
        assert_eq!(at.next(day), Some(day + 150 * minute));
        assert_eq!(at.next(day + 150 * minute - 1), Some(day + 150 * minute));
        assert_eq!(at.next(day + 150 * minute), Some(day + DAY_MS + 150 * minute));
        assert_eq!("off".parse::<TrainAt>().unwrap().next(day), None);
        assert_eq!("00:00".parse(), Ok(TrainAt::Minute(0)));
        for wrong in ["", "2", "2:00", "24:00", "02:60", "+2:00", "02:00:00", "Off"] {
            assert!(wrong.parse::<TrainAt>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_fifth_of_a_core_rests_four_times_as_long_as_it_works() {
        let share: Share = "0.2".parse().unwrap();
        assert_eq!(share.rest(Duration::from_millis(10)), Duration::from_millis(40));
        assert_eq!("1".parse::<Share>().unwrap().rest(Duration::from_secs(1)), Duration::ZERO);
        for wrong in ["0", "-1", "1.1", "NaN", "inf", "a"] {
            assert!(wrong.parse::<Share>().is_err(), "{wrong}");
        }
    }
}
