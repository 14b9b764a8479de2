//! The history's laws: bounded memory, bounded error, bins written once.

use proptest::prelude::*;

use super::*;

const T0: i64 = 1_700_000_040;

fn second(unix_seconds: i64, load: Option<f64>) -> Second {
    Second {
        unix_seconds,
        load: load.map(|v| RequestsPerSecond::new(v).unwrap()),
        concurrency: load.map(|v| Concurrency::new(v / 10.0).unwrap()),
        censored: false,
    }
}

fn loads(series: &Series, resolution: Resolution) -> Vec<Option<f64>> {
    series.points(resolution).map(|p| p.load.map(|v| (v.get() * 10.0).round() / 10.0)).collect()
}

#[test]
fn full_rings_fit_into_a_hundred_kilobytes() {
    let mut series = Series::new();
    for minute in 0..16 * 1440 {
        for s in 0..30 {
            series.push(&second(T0 + minute * 60 + s, Some(100.0)));
        }
    }
    for s in 0..6 * 3600 {
        series.push(&second(T0 + 16 * 86_400 + s, Some(100.0)));
    }
    for resolution in Resolution::ALL {
        assert_eq!(series.points(resolution).count(), resolution.bins(), "{resolution:?}");
    }
    println!("{} bytes", series.memory_bytes());
    assert!(series.memory_bytes() <= 100_000, "{}", series.memory_bytes());
    let mut young = Series::new();
    young.push(&second(T0, Some(1.0)));
    assert!(young.memory_bytes() <= 100_000);
}

#[test]
fn gaps_are_explicit_and_half_a_bin_suffices() {
    let mut series = Series::new();
    for s in (0..10).chain(15..20).chain(27..30).chain([40]) {
        series.push(&second(T0 + s, Some(50.0)));
    }
    assert_eq!(
        loads(&series, Resolution::TenSeconds),
        [Some(50.0), Some(50.0), None],
        "whole, half, three of ten; the fourth had no second at all and is a gap once the next is closed"
    );
    series.push(&second(T0 + 50, Some(50.0)));
    assert_eq!(loads(&series, Resolution::TenSeconds), [Some(50.0), Some(50.0), None, None, None]);
    assert_eq!(series.points(Resolution::Second).count(), 51);
    assert_eq!(series.points(Resolution::Second).filter(|p| p.load.is_none()).count(), 51 - 20);
}

#[test]
fn late_seconds_fill_gaps_and_change_nothing_known() {
    let mut series = Series::new();
    for s in [0, 1, 3] {
        series.push(&second(T0 + s, Some(10.0)));
    }
    series.push(&second(T0 + 2, Some(20.0)));
    series.push(&second(T0 + 1, Some(99.0)));
    series.push(&second(T0 - 4000, Some(99.0)));
    assert_eq!(loads(&series, Resolution::Second), [Some(10.0), Some(10.0), Some(20.0), Some(10.0)]);
}

#[test]
fn imported_history_fills_gaps_only_and_holds_five_minutes() {
    let mut series = Series::new();
    for s in 0..120 {
        series.push(&second(T0 + 3600 + s, Some(7.0)));
    }
    let step = |i: i64| (Wall((T0 + i * 300) * 1000), RequestsPerSecond::new(i as f64 + 1.0).unwrap());
    series.import(&(0..12).map(step).collect::<Vec<_>>());
    let minutes = loads(&series, Resolution::Minute);
    assert_eq!(minutes.len(), 61);
    assert_eq!(&minutes[..6], [Some(1.0), Some(1.0), Some(1.0), Some(1.0), Some(1.0), Some(2.0)]);
    assert_eq!(minutes[60], Some(7.0));
    assert_eq!(minutes[56], None, "the last point stands for its own bin only");
    let before = loads(&series, Resolution::Minute);
    series.import(&[(Wall((T0 + 3600) * 1000), RequestsPerSecond::new(1e6).unwrap())]);
    assert_eq!(loads(&series, Resolution::Minute), before);
    assert!(series.after(Resolution::Minute, T0 / 60 + 58).count() == 2);
}

proptest! {
    #[test]
    fn a_value_survives_within_the_documented_error(exponent in -3.0f64..9.0, censored: bool) {
        let load = libm::pow(10.0, exponent);
        let mut series = Series::new();
        series.push(&Second { censored, ..second(T0, Some(load)) });
        let point = series.points(Resolution::Second).next().unwrap();
        prop_assert_eq!(point.censored, censored);
        let off = (point.load.unwrap().get() / load - 1.0).abs();
        prop_assert!(off <= 0.000_43, "{} off", off);
        if load / 10.0 >= 1e-3 {
            let off = (point.concurrency.unwrap().get() / (load / 10.0) - 1.0).abs();
            prop_assert!(off <= 0.000_22, "{} off", off);
        }
    }

    /// A bin that was read once never changes, whatever comes later in whatever order.
    #[test]
    fn what_was_read_once_stays(
        pushes in prop::collection::vec((-700i64..1400, prop::option::of(0.0f64..1000.0)), 1..200)
    ) {
        let mut series = Series::new();
        let mut known: std::collections::BTreeMap<(usize, i64), Point> = Default::default();
        for (offset, load) in pushes {
            series.push(&second(T0 + offset, load));
            for resolution in Resolution::ALL {
                for point in series.points(resolution).filter(|p| p.load.is_some()) {
                    let before = known.entry((resolution as usize, point.index)).or_insert(point);
                    prop_assert_eq!(*before, point);
                }
            }
        }
    }
}
