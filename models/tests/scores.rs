//! What the ensemble says of its own forecasts, against the same sums made from outside.

#![allow(clippy::unwrap_used, reason = "a test may panic, in its helpers too")]

mod common;

use common::{Rng, diurnal};
use prescale_models::{Bin, Ensemble, Forecast, Grid, LEVELS, Level, ModelKind, Target};

const GRID: Grid = Grid { step_seconds: 60 };
const TARGETS: [Target; 2] = [Target::At { steps: 1 }, Target::MaxOver { steps: 5 }];

const BINS: i64 = 2200;

/// What the means keep of their past with each settled forecast.
const KEEP: f64 = 1.0 - 1.0 / 3000.0;

fn pinball(truth: f64, quantile: f64, level: f64) -> f64 {
    (level * (truth - quantile)).max((level - 1.0) * (truth - quantile))
}

fn mean_pinball(truth: f64, quantiles: [f64; 5]) -> f64 {
    quantiles.iter().zip(LEVELS).map(|(q, level)| pinball(truth, *q, level)).sum::<f64>() / 5.0
}

/// A value every minute, or all but every 50th.
fn series(gaps: bool) -> Vec<Bin> {
    let mut rng = Rng(21);
    let bin = |index: i64| {
        let value = diurnal(&mut rng, index * 60, 60);
        if gaps && index % 50 == 7 { Bin::missing(index) } else { Bin::new(index, value) }
    };
    (0..BINS).map(bin).collect()
}

fn forecasts(model: &mut Ensemble, bins: &[Bin]) -> Vec<Option<Forecast>> {
    bins.iter()
        .map(|bin| {
            model.observe(*bin);
            model.forecast().cloned()
        })
        .collect()
}

/// `[settled, covered at 95 %, loss, last value's loss, error, last value's error]`, the last four over the origins that
/// were measured.
fn from_outside(bins: &[Bin], forecasts: &[Option<Forecast>], target: Target) -> [f64; 6] {
    let (mut settled, mut covered, mut scored) = (0.0, 0.0, 0.0);
    let mut sums = [0.0; 4];
    for origin in 0..bins.len() - target.steps() as usize {
        let Some(forecast) = &forecasts[origin] else { continue };
        let ahead = &bins[origin + 1..=origin + target.steps() as usize];
        let truth = match target {
            Target::At { .. } => ahead.last().unwrap().value,
            Target::MaxOver { .. } => {
                ahead.iter().map(|bin| bin.value).reduce(|a, b| Some(a?.max(b?))).unwrap()
            }
        };
        let Some(truth) = truth else { continue };
        let quantiles = forecast.get(target).unwrap();
        settled += 1.0;
        covered += f64::from(u8::from(truth <= quantiles.at(Level::P95)));
        let Some(last) = bins[origin].value else { continue };
        scored = scored * KEEP + 1.0;
        let of_this = [
            mean_pinball(truth, quantiles.values()),
            mean_pinball(truth, [last; 5]),
            (truth - quantiles.median()).abs(),
            (truth - last).abs(),
        ];
        sums.iter_mut().zip(of_this).for_each(|(sum, one)| *sum = *sum * KEEP + one);
    }
    let [loss, last, error, last_error] = sums.map(|sum| sum / scored);
    [settled, covered, loss, last, error, last_error]
}

#[test]
fn scores_are_the_means_that_one_makes_from_outside() {
    for gaps in [false, true] {
        let bins = series(gaps);
        let mut model = Ensemble::cluster(GRID, &TARGETS);
        let forecasts = forecasts(&mut model, &bins);
        assert_eq!(model.scores().count(), TARGETS.len());
        for score in model.scores() {
            let expected = from_outside(&bins, &forecasts, score.target);
            let said = [
                score.settled as f64,
                score.covered[Level::P95 as usize] as f64,
                score.loss,
                score.loss_of_last_value,
                score.error,
                score.error_of_last_value,
            ];
            for (said, expected) in said.iter().zip(expected) {
                assert!(
                    (said - expected).abs() <= 1e-4 * expected,
                    "gaps {gaps}: {said} {expected} {score:?}"
                );
            }
            assert!(score.loss < 0.8 * score.loss_of_last_value, "it beats the last value: {score:?}");
        }
    }
}

#[test]
fn what_is_issued_is_one_of_the_two_with_the_head_and_without() {
    let bins = series(false);
    let mut model = Ensemble::cluster(GRID, &TARGETS);
    forecasts(&mut model, &bins);
    let admitted = model.head().unwrap().admitted;
    for score in model.scores() {
        let with = score.loss_with_head.unwrap();
        assert!(with > 0.0 && with != score.loss_without_head, "{score:?}");
        if !admitted {
            assert_eq!(score.loss, score.loss_without_head, "the head was never admitted");
        }
    }
    let mut headless = Ensemble::headless(GRID, &TARGETS);
    forecasts(&mut headless, &bins);
    for (score, of_both) in headless.scores().zip(model.scores()) {
        assert_eq!(score.loss_with_head, None);
        assert_eq!(score.loss, of_both.loss_without_head, "the experts are the same");
    }
}

#[test]
fn each_experts_record_counts_while_it_is_awake_and_tells_the_good_from_the_bad() {
    let bins = series(false);
    let mut model = Ensemble::node(GRID, &TARGETS);
    forecasts(&mut model, &bins);
    let of = |kind| model.expert_scores().find(|it| it.model == kind && it.target == TARGETS[0]).unwrap();
    assert_eq!(model.expert_scores().count(), 6 * TARGETS.len());
    // A day and a half: the weekly season has never been awake, the daily one for half a day.
    assert_eq!((of(ModelKind::WeeklyHoltWinters).settled, of(ModelKind::WeeklyHoltWinters).covered), (0, 0));
    let daily = of(ModelKind::HoltWinters).settled;
    assert!((700..800).contains(&daily), "{daily}");
    let smoothing = of(ModelKind::TunedSmoothing);
    assert_eq!(smoothing.settled, BINS as u64 - 1);
    let coverage = smoothing.covered as f64 / smoothing.settled as f64;
    assert!((0.92..0.98).contains(&coverage), "{coverage}");
    let line = of(ModelKind::LinearTwoMinutes);
    assert!(line.loss > 1.1 * smoothing.loss, "a line through noise: {line:?} {smoothing:?}");
}
