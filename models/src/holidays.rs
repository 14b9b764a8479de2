//! Holidays by configuration: names with their dates, checked once.

use std::collections::BTreeSet;
use std::sync::Arc;

use thiserror::Error;

use crate::prophet::{Holiday, MOST_HOLIDAYS};

/// Dates of one holiday: a day of every week for more than a year.
pub const MOST_DATES: usize = 64;

/// Named days, known beforehand; cheap to copy. Those of one name move the load alike.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Holidays {
    each: Arc<[Holiday]>,
}

/// Why names and dates are no holidays.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum NoHolidays {
    /// More names than a fit has room for.
    #[error("{count} holidays; at most {MOST_HOLIDAYS}, of which each may have many dates")]
    TooMany {
        /// How many there are.
        count: usize,
    },
    /// A name without dates, or with too many.
    #[error("holiday {name:?} has {count} dates; 1 to {MOST_DATES} are wanted")]
    Dates {
        /// Whose.
        name: String,
        /// How many there are.
        count: usize,
    },
    /// What is no day of any year.
    #[error("holiday {name:?}: {text:?} is no date like 2026-11-27")]
    NoDate {
        /// Whose.
        name: String,
        /// What was said.
        text: String,
    },
    /// A date that a name has twice.
    #[error("holiday {name:?} has {text} twice")]
    Twice {
        /// Whose.
        name: String,
        /// Which.
        text: String,
    },
}

impl Holidays {
    /// The holidays of these names, each with its dates (`YYYY-MM-DD`, days of UTC), past and to come, in any order.
    ///
    /// # Errors
    /// [`NoHolidays`], a sentence that says what would be right.
    pub fn of<N: Into<String>, D: AsRef<str>>(
        named: impl IntoIterator<Item = (N, Vec<D>)>,
    ) -> Result<Self, NoHolidays> {
        let mut each = Vec::new();
        for (name, dates) in named {
            let name: String = name.into();
            if !(1..=MOST_DATES).contains(&dates.len()) {
                return Err(NoHolidays::Dates { name, count: dates.len() });
            }
            let mut days = BTreeSet::new();
            for text in dates.iter().map(AsRef::as_ref) {
                let said = |name| (name, text.to_owned());
                let Some(day) = day_of(text) else {
                    let (name, text) = said(name);
                    return Err(NoHolidays::NoDate { name, text });
                };
                if !days.insert(day) {
                    let (name, text) = said(name);
                    return Err(NoHolidays::Twice { name, text });
                }
            }
            each.push(Holiday { days: days.into_iter().collect() });
        }
        if each.len() > MOST_HOLIDAYS {
            return Err(NoHolidays::TooMany { count: each.len() });
        }
        Ok(Self { each: each.into() })
    }

    /// Each of them.
    pub fn each(&self) -> &[Holiday] {
        &self.each
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.each.is_empty()
    }

    /// Tells one set of dates from another.
    pub(crate) fn checksum(&self) -> u32 {
        let mut hasher = crc32fast::Hasher::new();
        for holiday in self.each() {
            hasher.update(&(holiday.days.len() as u64).to_le_bytes());
            holiday.days.iter().for_each(|day| hasher.update(&day.to_le_bytes()));
        }
        hasher.finalize()
    }
}

/// Days from the epoch to `YYYY-MM-DD`.
fn day_of(text: &str) -> Option<i64> {
    let digits = |at: std::ops::Range<usize>| -> Option<i64> {
        let part = text.get(at)?;
        if part.bytes().all(|byte| byte.is_ascii_digit()) { part.parse().ok() } else { None }
    };
    let (year, month, day) = (digits(0..4)?, digits(5..7)?, digits(8..10)?);
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let longest = match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 => 28 + i64::from(leap),
        _ => return None,
    };
    let dashes = text.len() == 10 && text.as_bytes()[4] == b'-' && text.as_bytes()[7] == b'-';
    if !dashes || !(1..=longest).contains(&day) {
        return None;
    }
    // Days from civil (Hinnant, "chrono-compatible low-level date algorithms"): years start in March.
    let (y, m) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let (era, yoe) = (y.div_euclid(400), y.rem_euclid(400));
    Some(era * 146_097 + yoe * 365 + yoe / 4 - yoe / 100 + (153 * m + 2) / 5 + day - 1 - 719_468)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_days_of_utc_in_any_order() {
        let fair = vec!["2000-02-29", "1970-01-01", "1969-12-31", "2024-12-31"];
        let holidays = Holidays::of([("fair", fair)]).unwrap();
        assert_eq!(holidays.each(), [Holiday { days: vec![-1, 0, 11_016, 20_088] }]);
        assert!(Holidays::default().is_empty() && !holidays.is_empty());
        let of = |dates: Vec<&'static str>| Holidays::of([("fair", dates)]).unwrap().checksum();
        assert_eq!(of(vec!["2026-11-27", "2026-11-28"]), of(vec!["2026-11-28", "2026-11-27"]));
        assert_ne!(of(vec!["2026-11-27"]), of(vec!["2026-11-28"]));
    }

    #[test]
    fn what_is_wrong_is_said_with_its_mend() {
        let said =
            |name: &str, dates: &[&str]| Holidays::of([(name, dates.to_vec())]).unwrap_err().to_string();
        let wrong = [
            "2026-02-29",
            "2026-13-01",
            "2026-00-01",
            "2026-04-31",
            "2026-1-1",
            "27.11.2026",
            "",
            "2026-11-27T00",
            "+026-11-27",
            "2026/11/27",
            "2026-11-2é",
        ];
        for text in wrong {
            let said = said("sale", &[text]);
            assert!(said.contains("\"sale\"") && said.contains("no date like 2026-11-27"), "{text}: {said}");
        }
        assert!(said("sale", &[]).contains("0 dates"));
        assert!(said("sale", &["2026-11-27"; 65]).contains("65 dates"));
        assert!(said("sale", &["2026-11-27", "2026-11-27"]).contains("2026-11-27 twice"));
        let named = |count: usize| Holidays::of((0..count).map(|i| (i.to_string(), vec!["2026-11-27"])));
        assert!(named(12).is_ok());
        assert!(named(13).unwrap_err().to_string().contains("13 holidays; at most 12"));
    }
}
