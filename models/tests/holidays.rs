//! Holidays that are known beforehand: the next one is expected as those before were, and knowing it changes no other day.

#![allow(clippy::unwrap_used, reason = "a test may panic, in its helpers too")]

use prescale_models::{AllWeights, Bin, Choice, Ensemble, Forecast, Grid, Holidays, ModelKind, Target};

const GRID: Grid = Grid { step_seconds: 600 };
const DAY: i64 = 144;
/// At the end of day 16: noon of day 17 and of day 18.
const TARGETS: [Target; 2] = [Target::At { steps: 73 }, Target::At { steps: 217 }];
const READERS: [ModelKind; 2] = [ModelKind::Prophet, ModelKind::ProphetLstm];

/// The sales: days 2, 8 and 13 of the history, one in each week and none on the weekday of another, and then day 17.
const SEEN: [&str; 3] = ["1970-01-03", "1970-01-09", "1970-01-14"];
const NEXT: &str = "1970-01-18";

fn sales(dates: &[&str]) -> Holidays {
    Holidays::of([("sale", dates.to_vec())]).unwrap()
}

/// A daily wave; twice as much on a day of sale.
fn load(index: i64) -> f64 {
    let wave = 100.0 - 60.0 * libm::cos(std::f64::consts::TAU * (index % DAY) as f64 / DAY as f64);
    if [2, 8, 13].contains(&index.div_euclid(DAY)) { 2.0 * wave } else { wave }
}

fn after_history(mut model: Ensemble) -> Vec<Forecast> {
    (0..17 * DAY)
        .map(|index| {
            model.observe(Bin::new(index, load(index)));
            model.forecast().unwrap().clone()
        })
        .collect()
}

fn noons(forecasts: &[Forecast]) -> [f64; 2] {
    TARGETS.map(|target| forecasts.last().unwrap().get(target).unwrap().median())
}

#[test]
fn the_next_sale_is_expected_where_its_date_is_known_and_not_where_it_is_not() {
    let known = sales(&[&SEEN[..], &[NEXT]].concat());
    for kind in READERS {
        let of = |holidays: &Holidays| {
            noons(&after_history(Ensemble::single_with(GRID, &TARGETS, kind, holidays)))
        };
        let (with, without) = (of(&known), of(&Holidays::default()));
        let name = kind.name();
        assert!((240.0..400.0).contains(&with[0]), "{name}: 320 comes, {with:?} with the dates");
        // The sale four days ago has bent the trend a little.
        assert!((80.0..200.0).contains(&without[0]), "{name}: {without:?} without");
        assert!((130.0..190.0).contains(&with[1]), "{name}: the day after is a usual one, 160: {with:?}");
    }
}

#[test]
fn a_date_to_come_changes_what_is_expected_of_it_and_nothing_else() {
    for kind in READERS {
        let of =
            |dates: &[&str]| after_history(Ensemble::single_with(GRID, &TARGETS[1..], kind, &sales(dates)));
        let (usual, marked) = (of(&SEEN), of(&[&SEEN[..], &[NEXT]].concat()));
        let mut differ = 0;
        for (usual, marked) in usual.iter().zip(&marked) {
            let ahead = (usual.origin + i64::from(TARGETS[1].steps())).div_euclid(DAY);
            let same = usual == marked;
            assert!(same || ahead >= 17, "{}: a forecast of day {ahead} has changed", kind.name());
            differ += usize::from(!same);
        }
        assert!(differ > 100, "{}: {differ} forecasts differ", kind.name());
    }
}

#[test]
fn a_choice_hands_them_to_its_models() {
    let noon = |dates: &[&str]| {
        let models = Choice::of(["tuned_smoothing", "prophet"]).unwrap().with_holidays(sales(dates));
        assert!(models.reads_holidays());
        noons(&after_history(Ensemble::chosen(GRID, &TARGETS, &models, &AllWeights::shipped())))[0]
    };
    let (known, unknown) = (noon(&[&SEEN[..], &[NEXT]].concat()), noon(&SEEN));
    assert!(known > unknown + 10.0, "{known} with the date, {unknown} without");
    assert!(!Choice::default().reads_holidays());
}
