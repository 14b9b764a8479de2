//! What the ensemble says of its own forecasts, against the same sums made from outside.

#![allow(clippy::unwrap_used, reason = "a test may panic, in its helpers too")]

mod common;

use common::{Rng, diurnal};
use prescale_models::residual::Residuals;
use prescale_models::scale::LocalScale;
use prescale_models::{
    Bin, Ensemble, Errors, Forecast, Grid, Holidays, LEVELS, Level, ModelKind, Target, experts,
};

const GRID: Grid = Grid { step_seconds: 60 };
const TARGETS: [Target; 2] = [Target::At { steps: 1 }, Target::MaxOver { steps: 5 }];

/// Fewer than the means remember: they are plain ones.
const BINS: i64 = 2200;

fn pinball(truth: f64, quantile: f64, level: f64) -> f64 {
    (level * (truth - quantile)).max((level - 1.0) * (truth - quantile))
}

fn mean_pinball(truth: f64, quantiles: [f64; 5]) -> f64 {
    quantiles.iter().zip(LEVELS).map(|(q, level)| pinball(truth, *q, level)).sum::<f64>() / 5.0
}

/// A value every minute, or all but every 50th; idle or not for the first hour of each day.
fn series(gaps: bool, idle: bool) -> Vec<Bin> {
    let mut rng = Rng(21);
    let bin = |index: i64| {
        let value = diurnal(&mut rng, index * 60, 60);
        if gaps && index % 50 == 7 {
            return Bin::missing(index);
        }
        Bin::new(index, if idle && index % 1440 < 60 { 0.0 } else { value })
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

/// What came of `target` from `origin`, where all of it was measured.
fn truth(bins: &[Bin], origin: usize, target: Target) -> Option<f64> {
    let ahead = bins.get(origin + 1..=origin + target.steps() as usize)?;
    match target {
        Target::At { .. } => ahead.last()?.value,
        Target::MaxOver { .. } => ahead.iter().map(|bin| bin.value).reduce(|a, b| Some(a?.max(b?)))?,
    }
}

/// The mean movement between neighbours that were both measured.
fn movement(bins: &[Bin]) -> f64 {
    let moves: Vec<f64> =
        bins.windows(2).filter_map(|pair| Some((pair[1].value? - pair[0].value?).abs())).collect();
    moves.iter().sum::<f64>() / moves.len() as f64
}

/// The errors of pairs of an outcome and its quantiles, by the words of `evaluate.py`.
fn errors(pairs: &[(f64, [f64; 5])], movement: f64) -> Errors {
    let count = pairs.len() as f64;
    let sum = |of: &dyn Fn(f64, &[f64; 5]) -> f64| pairs.iter().map(|(y, q)| of(*y, q)).sum::<f64>();
    let total = sum(&|y, _| y);
    let mae = sum(&|y, q| (y - q[1]).abs()) / count;
    Errors {
        settled: pairs.len() as u64,
        covered: pairs.iter().filter(|(y, q)| *y <= q[3]).count() as u64,
        loss: sum(&|y, q| mean_pinball(y, *q)) / count,
        mse: sum(&|y, q| (y - q[1]).powi(2)) / count,
        mae,
        mape: pairs
            .iter()
            .all(|(y, _)| *y != 0.0)
            .then(|| sum(&|y, q| (y - q[1]).abs() / y) / count)
            .filter(|_| count > 0.0),
        mase: Some(mae / movement),
        wql: (total > 0.0).then(|| 2.0 * sum(&|y, q| mean_pinball(y, *q)) / total),
        provisioning: (total > 0.0)
            .then(|| sum(&|y, q| 5.0 * (y - q[2]).max(0.0) + (q[2] - y).max(0.0)) / total),
    }
}

fn assert_equal(said: &Errors, expected: &Errors, of: &str) {
    let near = |a: f64, b: f64| (a - b).abs() <= 1e-4 * b.abs() + 1e-9;
    let both = |a: Option<f64>, b: Option<f64>| match (a, b) {
        (Some(a), Some(b)) => near(a, b),
        (a, b) => a == b,
    };
    assert!(
        said.settled == expected.settled
            && said.covered == expected.covered
            && near(said.loss, expected.loss)
            && near(said.mse, expected.mse)
            && near(said.rmse(), expected.mse.sqrt())
            && near(said.mae, expected.mae)
            && both(said.mape, expected.mape)
            && both(said.mase, expected.mase)
            && both(said.wql, expected.wql)
            && both(said.provisioning, expected.provisioning),
        "{of}:\n{said:?}\n{expected:?}"
    );
}

#[test]
fn what_was_issued_has_the_errors_that_one_computes_from_outside() {
    for (gaps, idle) in [(false, false), (true, false), (false, true)] {
        let bins = series(gaps, idle);
        let mut model = Ensemble::cluster(GRID, &TARGETS);
        let forecasts = forecasts(&mut model, &bins);
        assert_eq!(model.scores().count(), TARGETS.len());
        for score in model.scores() {
            let (mut pairs, mut last, mut settled) = (Vec::new(), Vec::new(), Vec::new());
            for (origin, forecast) in forecasts.iter().enumerate() {
                let (Some(forecast), Some(truth)) = (forecast, truth(&bins, origin, score.target)) else {
                    continue;
                };
                let quantiles = forecast.get(score.target).unwrap().values();
                settled.push((truth, quantiles));
                // What the last value would have lost is known only where there was one.
                if let Some(value) = bins[origin].value {
                    pairs.push((truth, quantiles));
                    last.push((truth, [value; 5]));
                }
            }
            let movement = movement(&bins);
            assert_equal(&score.issued, &errors(&pairs, movement), &format!("gaps {gaps}, idle {idle}"));
            assert_eq!(score.settled, settled.len() as u64);
            assert_eq!(score.covered[Level::P95 as usize], errors(&settled, movement).covered);
            let last = errors(&last, movement);
            assert!((score.loss_of_last_value - last.loss).abs() < 1e-4 * last.loss, "{score:?} {last:?}");
            assert!((score.error_of_last_value - last.mae).abs() < 1e-4 * last.mae, "{score:?} {last:?}");
            assert!(score.issued.loss < 0.8 * last.loss, "it beats the last value: {score:?}");
            assert_eq!(score.issued.mape.is_some(), !idle, "{score:?}");
        }
    }
}

/// An expert beside its residuals: the same quantiles as in the ensemble, and what came of them.
#[test]
fn each_model_has_the_errors_that_one_computes_from_outside_while_it_is_awake() {
    let bins = series(true, false);
    let mut model = Ensemble::cluster(GRID, &TARGETS);
    forecasts(&mut model, &bins);
    let movement = movement(&bins);
    let mut compared = 0;
    for target in TARGETS {
        for score in model.expert_scores().filter(|it| it.target == target) {
            let mut expert = experts::build(score.model, GRID, &TARGETS, &Holidays::default());
            let (mut scale, mut residuals) = (LocalScale::new(GRID), Residuals::new());
            let mut origins: Vec<Option<(f64, f64)>> = Vec::new();
            let mut pairs = Vec::new();
            for (now, bin) in bins.iter().enumerate() {
                // Settled with what is known of its residuals when the outcome comes.
                let due = now.checked_sub(target.steps() as usize);
                if let Some((origin, Some((point, scale)))) = due.map(|it| (it, origins[it]))
                    && let Some(truth) = truth(&bins, origin, target)
                {
                    let quantiles = residuals.quantiles().map(|r| (point + scale * r).max(0.0));
                    if bins[origin].value.is_some() {
                        pairs.push((truth, quantiles));
                    }
                    residuals.add((truth - point) / scale);
                }
                expert.observe(*bin);
                scale.observe(*bin);
                let awake = expert.awake() && (now >= 60 || score.model == ModelKind::TunedSmoothing);
                let mut points = [0.0; 2];
                expert.predict(&TARGETS, &mut points);
                let point = points[usize::from(target == TARGETS[1])];
                let kept = |value: f64| f64::from(value as f32);
                origins.push(awake.then(|| (kept(point), kept(scale.value()))));
            }
            if pairs.is_empty() {
                assert_eq!((score.errors.settled, score.model), (0, ModelKind::WeeklyHoltWinters));
                continue;
            }
            assert_equal(&score.errors, &errors(&pairs, movement), &format!("{:?}", score.model));
            compared += 1;
        }
    }
    assert_eq!(compared, 2 * 4, "all but the weekly season, which a day and a half does not wake");
}

#[test]
fn what_is_issued_is_one_of_the_two_with_the_head_and_without() {
    let bins = series(false, false);
    let mut model = Ensemble::cluster(GRID, &TARGETS);
    forecasts(&mut model, &bins);
    let admitted = model.head().unwrap().admitted;
    for score in model.scores() {
        let (with, without) = (score.with_head.unwrap(), score.without_head.unwrap());
        assert_eq!((with.settled, without.settled), (score.issued.settled, score.issued.settled));
        assert!(with.loss > 0.0 && with.loss != without.loss, "{score:?}");
        if !admitted {
            assert_eq!(score.issued, without, "the head was never admitted");
        }
    }
    let mut headless = Ensemble::headless(GRID, &TARGETS);
    forecasts(&mut headless, &bins);
    for (score, of_both) in headless.scores().zip(model.scores()) {
        assert_eq!((score.with_head, score.without_head), (None, None));
        assert_eq!(Some(score.issued), of_both.without_head, "the experts are the same");
    }
}

#[test]
fn records_tell_the_good_from_the_bad() {
    let bins = series(false, false);
    let mut model = Ensemble::node(GRID, &TARGETS);
    forecasts(&mut model, &bins);
    let of = |kind| {
        let of = model.expert_scores().find(|it| it.model == kind && it.target == TARGETS[0]);
        of.unwrap().errors
    };
    assert_eq!(model.expert_scores().count(), 6 * TARGETS.len());
    // A day and a half: the daily season has been awake for half a day.
    let daily = of(ModelKind::HoltWinters).settled;
    assert!((700..800).contains(&daily), "{daily}");
    let smoothing = of(ModelKind::TunedSmoothing);
    assert_eq!(smoothing.settled, BINS as u64 - 1);
    assert!(smoothing.coverage95().is_some_and(|it| (0.92..0.98).contains(&it)), "{smoothing:?}");
    let line = of(ModelKind::LinearTwoMinutes);
    assert!(line.loss > 1.1 * smoothing.loss, "a line through noise: {line:?} {smoothing:?}");
}
