//! How a workload's forecasts have done, from what its ensembles settled.

use prescale_models::{Ensemble, Level, Target, Weight};

use super::forecasts::Forecasts;
use crate::view::{Errors, ModelScore, Score};

/// Every target of both grids, nearest first.
pub(super) fn scores(forecasts: &Forecasts) -> Vec<Score> {
    let mut rows: Vec<Score> = forecasts.ensembles().into_iter().flat_map(of_ensemble).collect();
    rows.sort_by_key(Score::key);
    rows
}

/// Every target of one.
pub(super) fn of_ensemble(ensemble: &Ensemble) -> Vec<Score> {
    let bin_seconds = ensemble.grid().step_seconds;
    let medians: Vec<Weight> = ensemble.weights().filter(|it| it.level == Level::P50).collect();
    let row = |score: prescale_models::Score| {
        let prescale_models::Score { target, settled, covered, issued, without_head, with_head, .. } = score;
        let in_last = |errors: prescale_models::Errors| ratio(errors.loss, score.loss_of_last_value);
        let records = ensemble.expert_scores().filter(|it| it.target == target);
        let models = records.map(|record| {
            let weight = medians.iter().find(|it| it.target == target && it.model == record.model);
            ModelScore {
                name: record.model.name(),
                awake: weight.is_some_and(|it| it.awake),
                weight: weight.map_or(0.0, |it| it.weight),
                settled: record.errors.settled,
                covered: record.errors.covered,
                loss_ratio: in_last(record.errors).filter(|_| record.errors.settled > 0),
                errors: errors(record.errors),
            }
        });
        Score {
            horizon_seconds: target.steps() * bin_seconds,
            bin_seconds,
            max_over: matches!(target, Target::MaxOver { .. }),
            settled,
            covered,
            band_coverage: share(
                covered[Level::P90 as usize].saturating_sub(covered[Level::P10 as usize]),
                settled,
            ),
            loss_rps: (issued.settled > 0).then_some(issued.loss),
            loss_ratio: in_last(issued),
            loss_ratio_without_head: in_last(without_head.unwrap_or(issued)),
            loss_ratio_with_head: with_head.and_then(in_last),
            error_ratio: ratio(issued.mae, score.error_of_last_value),
            errors: errors(issued),
            without_head: without_head.map(errors),
            with_head: with_head.map(errors),
            models: models.collect(),
        }
    };
    ensemble.scores().map(row).collect()
}

fn errors(of: prescale_models::Errors) -> Errors {
    let known = |error: f64| (of.settled > 0).then_some(error);
    Errors {
        rmse_rps: known(of.rmse()),
        mse: known(of.mse),
        mae_rps: known(of.mae),
        mape: of.mape,
        mase: of.mase.and_then(known),
        wql: of.wql,
        q95_coverage: of.coverage95(),
        provisioning_loss: of.provisioning,
    }
}

/// `None` where the last value was never wrong: an idle workload, or nothing settled.
fn ratio(loss: f64, of_last_value: f64) -> Option<f64> {
    (of_last_value > 0.0).then(|| loss / of_last_value)
}

fn share(count: u64, of: u64) -> Option<f64> {
    (of > 0).then(|| count as f64 / of as f64)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Small, id};
    use super::super::{Cluster, ClusterSettings};
    use crate::view::{Errors, Score};

    fn of(scores: &[Score], key: (bool, u32, u32)) -> &Score {
        scores.iter().find(|it| it.key() == key).expect("the target exists")
    }

    #[test]
    fn every_target_says_how_it_has_done_and_still_does_after_a_restart() {
        let mut small = Small::new(20, 150.0);
        // A load that swings every minute: the last value is wrong half the time.
        for minute in 0..20 {
            small.rps = if minute % 2 == 0 { 100.0 } else { 300.0 };
            small.seconds(60);
        }
        let view = small.view();
        assert_eq!(view.scores.len(), 4 + 6 + 5);
        let minute = of(&view.scores, (true, 60, 10));
        assert!(minute.settled > 90 && minute.covered[4] <= minute.settled, "{minute:?}");
        let coverage = minute.covered[3] as f64 / minute.settled as f64;
        assert_eq!(minute.errors.q95_coverage, Some(coverage));
        assert!(minute.band_coverage.is_some_and(|it| it > 0.3 && it < coverage), "{minute:?}");
        assert!(minute.loss_ratio.is_some_and(|it| (0.05..1.0).contains(&it)), "{minute:?}");
        assert!(minute.loss_rps.is_some_and(|it| (1.0..100.0).contains(&it)), "{minute:?}");
        assert_eq!((minute.loss_ratio, minute.loss_ratio_with_head), (minute.loss_ratio_without_head, None));
        // In the first hour only smoothing is awake, and only it has a record.
        for model in &minute.models {
            let smooth = model.name == "tuned_smoothing";
            assert_eq!((model.awake, model.settled > 90), (smooth, smooth), "{model:?}");
            assert_eq!((model.loss_ratio.is_some(), model.errors != Errors::default()), (smooth, smooth));
        }
        // What is issued is what smoothing says, tracked; a swing of 200 every minute is wrong by 100 at the median.
        let errors = minute.errors;
        assert!(errors.mae_rps.is_some_and(|it| (10.0..150.0).contains(&it)), "{errors:?}");
        assert!(
            errors.rmse_rps >= errors.mae_rps && errors.mse.map(f64::sqrt) == errors.rmse_rps,
            "{errors:?}"
        );
        assert!([errors.mape, errors.mase, errors.wql, errors.provisioning_loss].iter().all(Option::is_some));
        assert_eq!((minute.without_head, minute.with_head), (None, None), "no network on this grid");
        let weights = view.weights.iter().find(|it| (it.max_over, it.horizon_seconds) == (true, 60)).unwrap();
        for (score, weight) in minute.models.iter().zip(&weights.models) {
            assert_eq!((score.name, score.weight), (weight.name, weight.weight));
        }
        // An hour has not passed: nothing is known, and nothing is made up.
        let hour = of(&view.scores, (false, 3600, 60));
        assert_eq!((hour.settled, hour.loss_rps, hour.loss_ratio), (0, None, None));
        assert_eq!((hour.errors, hour.with_head), (Errors::default(), Some(Errors::default())));

        let now = small.now();
        let checkpoint = small.cluster.checkpoint(now, &id()).unwrap();
        small.cluster = Cluster::new(ClusterSettings::default());
        small.cluster.restore(now, &id(), &checkpoint.base.unwrap(), &checkpoint.tail).unwrap();
        small.seconds(1);
        assert_eq!(small.view().scores, view.scores);
    }
}
