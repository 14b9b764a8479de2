//! How a workload's forecasts have done, from what its ensembles settled.

use prescale_models::{Ensemble, Level, Target, Weight};

use super::forecasts::Forecasts;
use crate::view::{ModelScore, Score};

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
        let prescale_models::Score { target, settled, covered, .. } = score;
        let in_last = |loss: f64| ratio(loss, score.loss_of_last_value);
        let of_settled = |count: u64| share(count, settled);
        let records = ensemble.expert_scores().filter(|it| it.target == target);
        let models = records.map(|record| {
            let weight = medians.iter().find(|it| it.target == target && it.model == record.model);
            ModelScore {
                name: record.model.name(),
                awake: weight.is_some_and(|it| it.awake),
                weight: weight.map_or(0.0, |it| it.weight),
                settled: record.settled,
                covered: record.covered,
                loss_ratio: in_last(record.loss).filter(|_| record.settled > 0),
                q95_coverage: share(record.covered, record.settled),
            }
        });
        Score {
            horizon_seconds: target.steps() * bin_seconds,
            bin_seconds,
            max_over: matches!(target, Target::MaxOver { .. }),
            settled,
            covered,
            q95_coverage: of_settled(covered[Level::P95 as usize]),
            band_coverage: of_settled(
                covered[Level::P90 as usize].saturating_sub(covered[Level::P10 as usize]),
            ),
            loss_rps: (settled > 0).then_some(score.loss),
            loss_ratio: in_last(score.loss),
            loss_ratio_without_head: in_last(score.loss_without_head),
            loss_ratio_with_head: score.loss_with_head.and_then(in_last),
            error_ratio: ratio(score.error, score.error_of_last_value),
            models: models.collect(),
        }
    };
    ensemble.scores().map(row).collect()
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
    use crate::view::Score;

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
        assert_eq!(minute.q95_coverage, Some(coverage));
        assert!(minute.band_coverage.is_some_and(|it| it > 0.3 && it < coverage), "{minute:?}");
        assert!(minute.loss_ratio.is_some_and(|it| (0.05..1.0).contains(&it)), "{minute:?}");
        assert!(minute.loss_rps.is_some_and(|it| (1.0..100.0).contains(&it)), "{minute:?}");
        assert_eq!((minute.loss_ratio, minute.loss_ratio_with_head), (minute.loss_ratio_without_head, None));
        // In the first hour only smoothing is awake, and only it has a record.
        for model in &minute.models {
            let smooth = model.name == "tuned_smoothing";
            assert_eq!((model.awake, model.settled > 90), (smooth, smooth), "{model:?}");
            assert_eq!((model.loss_ratio.is_some(), model.q95_coverage.is_some()), (smooth, smooth));
        }
        let weights = view.weights.iter().find(|it| (it.max_over, it.horizon_seconds) == (true, 60)).unwrap();
        for (score, weight) in minute.models.iter().zip(&weights.models) {
            assert_eq!((score.name, score.weight), (weight.name, weight.weight));
        }
        // An hour has not passed: nothing is known, and nothing is made up.
        let hour = of(&view.scores, (false, 3600, 60));
        assert_eq!((hour.settled, hour.loss_rps, hour.loss_ratio, hour.q95_coverage), (0, None, None, None));

        let now = small.now();
        let checkpoint = small.cluster.checkpoint(now, &id()).unwrap();
        small.cluster = Cluster::new(ClusterSettings::default());
        small.cluster.restore(now, &id(), &checkpoint.base.unwrap(), &checkpoint.tail).unwrap();
        small.seconds(1);
        assert_eq!(small.view().scores, view.scores);
    }
}
