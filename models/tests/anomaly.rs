//! Labelled anomalies in a seeded service's load, and what the filter says of them and of the load itself.

mod common;

use std::collections::BTreeMap;

use common::{Rng, diurnal};
use prescale_models::anomaly::{Acting, Filter, Learning, Reason, Verdict};
use prescale_models::{Bin, Grid};

const GRID: Grid = Grid { step_seconds: 60 };
const DAY: i64 = 1440;

/// Counts per minute are those of requests/s × 60; a whole number, as counters give.
fn usual(rng: &mut Rng, index: i64) -> f64 {
    (diurnal(rng, index * 60, 60) * 60.0).round() / 60.0
}

/// A filter and what it has been shown.
struct Judge {
    filter: Filter,
    past: BTreeMap<i64, f64>,
}

impl Judge {
    fn judge(&mut self, bin: Bin) -> Verdict {
        let verdict = self.filter.judge(bin, |index| self.past.get(&index).copied());
        self.past.extend(bin.sane().value.map(|value| (bin.index, value)));
        verdict
    }
}

/// A filter that has seen three days, and its load's generator.
fn seasoned() -> (Judge, Rng) {
    let mut filter = Judge { filter: Filter::new(GRID), past: BTreeMap::new() };
    let mut rng = Rng(9);
    for index in 0..3 * DAY {
        filter.judge(Bin::new(index, usual(&mut rng, index)));
    }
    (filter, rng)
}

#[test]
fn a_flood_of_twenty_times_is_neither_learned_nor_acted_on_and_what_follows_is_usual() {
    let (mut filter, mut rng) = seasoned();
    for index in 3 * DAY..3 * DAY + 60 {
        let flooded = (10..30).contains(&(index - 3 * DAY));
        let verdict =
            filter.judge(Bin::new(index, usual(&mut rng, index) * if flooded { 20.0 } else { 1.0 }));
        let expected = if flooded {
            (Learning::Skip(Reason::Flood), Acting::Hold(Reason::Flood))
        } else {
            (Learning::Take, Acting::Follow)
        };
        assert_eq!((verdict.learning, verdict.acting), expected, "minute {}: {verdict:?}", index - 3 * DAY);
    }
}

#[test]
fn a_load_that_stays_twenty_times_as_high_is_followed_within_an_hour() {
    let (mut filter, mut rng) = seasoned();
    let held = (3 * DAY..4 * DAY)
        .filter(|index| {
            let verdict = filter.judge(Bin::new(*index, 20.0 * usual(&mut rng, *index)));
            verdict.acting != Acting::Follow
        })
        .count();
    assert_eq!(held, 60);
}

#[test]
fn a_counter_that_stands_still_is_a_fault() {
    let (mut filter, mut rng) = seasoned();
    let stuck = usual(&mut rng, 3 * DAY);
    let mut first = None;
    for i in 0..30 {
        let verdict = filter.judge(Bin::new(3 * DAY + i, stuck));
        if verdict.learning == Learning::Skip(Reason::Fault) {
            assert_eq!(verdict.acting, Acting::Hold(Reason::Fault));
            first.get_or_insert(i);
        } else {
            assert_eq!(first, None, "found, then lost at {i}");
        }
    }
    assert!(first.is_some_and(|first| first <= 6), "found after {first:?} equal minutes");
    // So is a load that was never 0 and is now; and it ends with the first moving count.
    let silent =
        (30..40).filter(|i| filter.judge(Bin::new(3 * DAY + i, 0.0)).acting != Acting::Follow).count();
    assert!(silent >= 8, "{silent} of ten silent minutes");
    assert_eq!(filter.judge(Bin::new(3 * DAY + 40, stuck)).acting, Acting::Follow);
}

#[test]
fn a_square_wave_and_a_constant_rate_are_followed_but_not_learned() {
    for square in [true, false] {
        let (mut filter, mut rng) = seasoned();
        let mut skipped = 0;
        for i in 0..120 {
            let level = if square && i / 6 % 2 == 0 { 20.0 } else { 150.0 };
            let value = level + rng.uniform() / 60.0;
            let verdict = filter.judge(Bin::new(3 * DAY + i, value));
            assert_eq!(verdict.acting, Acting::Follow, "minute {i}: pods must serve it");
            if verdict.learning == Learning::Skip(Reason::Synthetic) {
                skipped += 1;
            }
        }
        assert!(skipped >= 60, "square {square}: {skipped} of the 72 minutes after a whole window");
    }
}

#[test]
fn impossible_values_gaps_and_old_bins_are_faults() {
    let (mut filter, mut rng) = seasoned();
    let index = 3 * DAY;
    for value in [Some(-5.0), Some(f64::NAN), Some(f64::INFINITY), None] {
        let verdict = filter.judge(Bin { index, value, censored: false });
        assert_eq!(verdict.learning, Learning::Skip(Reason::Fault), "{value:?}");
        assert_eq!(verdict.acting, Acting::Hold(Reason::Fault), "{value:?}");
    }
    let value = usual(&mut rng, index + 500);
    assert_eq!(filter.judge(Bin::new(index + 500, value)).learning, Learning::Take, "a gap has ended");
    assert_eq!(filter.judge(Bin::new(index, value)).learning, Learning::Skip(Reason::Fault), "an old bin");
}

#[test]
fn the_usual_load_is_usual_and_gives_the_same_verdicts_again() {
    let run = || {
        let (mut filter, mut rng) = seasoned();
        let judge = |index| filter.judge(Bin::new(index, usual(&mut rng, index)));
        (3 * DAY..10 * DAY).map(judge).collect::<Vec<_>>()
    };
    let verdicts = run();
    let false_alarms = verdicts.iter().filter(|v| v.learning != Learning::Take).count();
    assert_eq!(false_alarms, 0, "of {} bins", verdicts.len());
    assert_eq!(verdicts, run());
}

#[test]
fn a_filter_goes_on_from_its_saved_state_and_is_small() {
    assert!(size_of::<Filter>() <= 72, "{} bytes", size_of::<Filter>());
    let (mut judge, mut rng) = seasoned();
    let mut twin =
        Judge { filter: Filter::new(GRID).restored(&judge.filter.save()).unwrap(), past: judge.past.clone() };
    for index in 3 * DAY..3 * DAY + 90 {
        let flood = if (10..30).contains(&(index - 3 * DAY)) { 20.0 } else { 1.0 };
        let bin = Bin::new(index, flood * usual(&mut rng, index));
        assert_eq!(judge.judge(bin), twin.judge(bin), "minute {}", index - 3 * DAY);
    }
    assert_eq!(judge.filter, twin.filter);
    assert!(Filter::new(GRID).restored(&judge.filter.save()[1..]).is_err());
}

#[test]
fn steps_of_a_stored_value_are_no_counter_that_stands_still() {
    // 60,000 requests a minute in steps of 0.084 %, as a history stores them: neighbours are often equal.
    let (mut judge, mut rng) = (Judge { filter: Filter::new(GRID), past: BTreeMap::new() }, Rng(5));
    let mut faults = 0;
    for index in 0..4 * DAY {
        let rate = 1000.0
            + (0..12).map(|_| rng.uniform()).sum::<f64>().mul_add(1000.0_f64.sqrt() / 60.0_f64.sqrt(), -6.0);
        let stored = libm::exp((libm::log(rate) / 8.4e-4).round() * 8.4e-4);
        faults += usize::from(judge.judge(Bin::new(index, stored)).acting != Acting::Follow);
    }
    assert_eq!(faults, 0);
}
