//! How forecasts have done: one target's against the last value, and each expert's beside them.

use crate::expert::ModelKind;
use crate::forecast::{LEVELS, Level, Target};
use crate::state::state;

/// How many settled forecasts the means remember, about: as many as the weights remember bins.
const MEMORY: u16 = 3000;

/// What a unit of load above the 90 % quantile costs, in units of spare capacity below it: `evaluate.py`'s.
const SHORTAGE: f64 = 5.0;

/// How one forecaster's quantiles have done for one target, by the definitions of `evaluate.py` and `cargo xtask evaluate`.
///
/// What those sum over a test part is here a mean that remembers about 3,000 settled forecasts: a plain one of the first
/// 3,000, from then on each counts a 3,000th less than the next. Only every so many-th forecast of a long target is
/// settled, so its means look back further. Forecasts from an origin that was not measured are left out, so that there is
/// a last value to compare with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Errors {
    /// Forecasts that the coverage is over: all, up to 6,000; then between the newest 3,000 and 6,000.
    pub settled: u64,
    /// Of them, how many outcomes were at or below the 95 % quantile.
    pub covered: u64,
    /// Mean pinball loss over the levels, in the series' unit.
    pub loss: f64,
    /// Mean squared error of the median.
    pub mse: f64,
    /// Mean absolute error of the median, in the series' unit.
    pub mae: f64,
    /// Mean absolute error as a share of the outcome; `None` while an outcome of 0 is remembered, for it is not defined there.
    pub mape: Option<f64>,
    /// MAE over the mean movement from a bin to the next, the error of the last value one bin ahead: `evaluate.py`'s scale of
    /// traces that are shorter than two days, over what is remembered instead of a training part. Its scale of the others,
    /// yesterday's error, needs a day of bins, which is not kept. `None` where nothing ever moved.
    pub mase: Option<f64>,
    /// Mean over the levels of twice the pinball loss, as a share of the outcomes; `None` where all were 0.
    pub wql: Option<f64>,
    /// Five times what was missing above the 90 % quantile and once what was spare below it, as a share of the outcomes;
    /// `None` where all were 0.
    pub provisioning: Option<f64>,
}

impl Errors {
    /// Root of the mean squared error, in the series' unit.
    pub fn rmse(&self) -> f64 {
        self.mse.sqrt()
    }

    /// Share of the outcomes at or below the 95 % quantile; `None` before the first.
    pub fn coverage95(&self) -> Option<f64> {
        (self.settled > 0).then(|| self.covered as f64 / self.settled as f64)
    }
}

/// How one target's forecasts have done.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Score {
    /// What is forecast.
    pub target: Target,
    /// Forecasts settled against a measured outcome.
    pub settled: u64,
    /// Of them, how many outcomes were at or below the quantile, per level.
    pub covered: [u64; 5],
    /// What was issued.
    pub issued: Errors,
    /// The experts without the head; `None` in an ensemble that has none.
    pub without_head: Option<Errors>,
    /// The experts with the head, admitted or not, and without it where it slept.
    pub with_head: Option<Errors>,
    /// Mean pinball loss of the last value, taken as every quantile.
    pub loss_of_last_value: f64,
    /// Its mean absolute error.
    pub error_of_last_value: f64,
}

/// How one expert's quantiles have done for one target, while it was awake.
///
/// Its points are those of the origin. Its quantiles around them are made when the outcome comes, of the residuals known
/// until then: those of the origin would have to be kept for every expert until they are due.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ExpertScore {
    /// What is forecast.
    pub target: Target,
    /// Whose score it is.
    pub model: ModelKind,
    /// What it has lost.
    pub errors: Errors,
}

/// One forecaster's record for one target: the sums behind its [`Errors`]. 32 bytes: a workload holds a hundred of them.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Record {
    loss: f32,
    squared: f32,
    absolute: f32,
    /// Of the absolute error as a share of the outcome, over the newest outcomes without a 0 among them.
    relative: f32,
    provisioning: f32,
    outcome: f32,
    settled: u16,
    covered: u16,
    /// Outcomes since the last one of 0, as far as they are remembered.
    without_zero: u16,
}
state!(Record { loss, squared, absolute, relative, provisioning, outcome, settled, covered, without_zero }
    sound |record| record.covered <= record.settled && record.settled <= 2 * MEMORY);

impl Record {
    /// Takes a settled forecast.
    pub(crate) fn add(&mut self, truth: f64, quantiles: &[f64; 5]) {
        if self.settled == 2 * MEMORY {
            (self.settled, self.covered) = (self.settled / 2, self.covered / 2);
        }
        self.settled += 1;
        // Values are kept as `f32`: at that precision what is forecast exactly is covered.
        self.covered += u16::from(truth as f32 <= quantiles[Level::P95 as usize] as f32);
        let share = 1.0 / f32::from(self.remembered());
        let error = (truth - quantiles[Level::P50 as usize]).abs();
        let shortage = truth - quantiles[Level::P90 as usize];
        for (mean, new) in [
            (&mut self.loss, loss(truth, quantiles)),
            (&mut self.squared, error * error),
            (&mut self.absolute, error),
            (&mut self.provisioning, if shortage > 0.0 { SHORTAGE * shortage } else { -shortage }),
            (&mut self.outcome, truth),
        ] {
            *mean += (new as f32 - *mean) * share;
        }
        if truth == 0.0 {
            (self.relative, self.without_zero) = (0.0, 0);
        } else {
            self.without_zero = (self.without_zero + 1).min(MEMORY);
            // Next to an outcome of almost 0 the share has no bound.
            let new = (error / truth).min(f64::from(f32::MAX)) as f32;
            self.relative += (new - self.relative) / f32::from(self.without_zero);
        }
    }

    fn remembered(&self) -> u16 {
        self.settled.min(MEMORY)
    }

    /// What it says, where the series moves by so much from a bin to the next.
    pub(crate) fn errors(&self, movement: Movement) -> Errors {
        let of = |whole: f32| move |part: f32| (whole > 0.0).then(|| f64::from(part) / f64::from(whole));
        let (of_outcome, of_movement) = (of(self.outcome), of(movement.mean));
        Errors {
            settled: self.settled.into(),
            covered: self.covered.into(),
            loss: self.loss.into(),
            mse: self.squared.into(),
            mae: self.absolute.into(),
            mape: (self.settled > 0 && self.without_zero >= self.remembered())
                .then_some(self.relative.into()),
            mase: of_movement(self.absolute),
            wql: of_outcome(2.0 * self.loss),
            provisioning: of_outcome(self.provisioning),
        }
    }
}

/// What the last value would have lost where a [`Record`] was kept.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct LastValue {
    pub(crate) loss: f32,
    pub(crate) absolute: f32,
}
state!(LastValue { loss, absolute });

impl LastValue {
    /// Takes the forecast that `beside` has just taken.
    pub(crate) fn add(&mut self, truth: f64, last: f64, beside: &Record) {
        let share = 1.0 / f32::from(beside.remembered());
        self.loss += (loss(truth, &[last; 5]) as f32 - self.loss) * share;
        self.absolute += ((truth - last).abs() as f32 - self.absolute) * share;
    }
}

/// What is usually lost: a mean in which each settled forecast counts a 3,000th less than the next from the first on, so that
/// in a new workload's days it follows sooner than a [`Record`]. The head is judged by shares of it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usual {
    mean: f32,
    weight: f32,
}
state!(Usual { mean, weight });

impl Usual {
    pub(crate) fn add(&mut self, loss: f64) {
        self.weight = self.weight * (1.0 - 1.0 / f32::from(MEMORY)) + 1.0;
        self.mean += (loss as f32 - self.mean) / self.weight;
    }

    /// 0 before the first, and where nothing was ever lost.
    pub(crate) fn loss(&self) -> f64 {
        self.mean.into()
    }
}

/// How far a series moves from one bin to the next, on average over the last 3,000, about: the scale of MASE.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Movement {
    mean: f32,
    seen: u16,
}
state!(Movement { mean, seen });

impl Movement {
    /// Takes two neighbours.
    pub(crate) fn add(&mut self, before: f64, now: f64) {
        self.seen = (self.seen + 1).min(MEMORY);
        self.mean += ((now - before).abs() as f32 - self.mean) / f32::from(self.seen);
    }
}

/// The mean pinball loss over the levels.
pub(crate) fn loss(truth: f64, quantiles: &[f64; 5]) -> f64 {
    quantiles.iter().zip(LEVELS).map(|(q, level)| pinball(truth, *q, level)).sum::<f64>() / 5.0
}

pub(crate) fn pinball(truth: f64, quantile: f64, level: f64) -> f64 {
    let error = truth - quantile;
    if error >= 0.0 { level * error } else { (level - 1.0) * error }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes an outcome `error` above the median, at the 95 % quantile or not.
    fn add(record: &mut Record, error: f64, covered: bool) {
        let q95 = if covered { 2000.0 } else { 0.0 };
        record.add(1000.0, &[0.0, 1000.0 - error, 1000.0, q95, 2000.0]);
    }

    #[test]
    fn a_record_is_the_plain_mean_at_first_and_then_forgets() {
        let mut record = Record::default();
        for i in 1..=100 {
            add(&mut record, f64::from(i), i > 5);
        }
        assert!((record.absolute - 50.5).abs() < 1e-3, "{record:?}");
        assert_eq!((record.settled, record.covered), (100, 95));
        (0..6000).for_each(|_| add(&mut record, 7.0, true));
        (0..3000).for_each(|_| add(&mut record, 1000.0, false));
        // 1 − 1/e of the way after as many as it remembers.
        let there = f64::from(record.absolute - 7.0) / 993.0;
        assert!((there - 0.632).abs() < 0.01, "{there}");
        let coverage = f64::from(record.covered) / f64::from(record.settled);
        assert!((0.3..0.6).contains(&coverage), "{record:?}");
        assert!(record.settled <= 6000);
        (0..9000).for_each(|_| add(&mut record, 0.0, false));
        assert!(f64::from(record.covered) < 0.2 * f64::from(record.settled), "{record:?}");
    }

    #[test]
    fn the_usual_loss_forgets_from_the_first_on() {
        let mut usual = Usual::default();
        assert_eq!(usual.loss(), 0.0);
        let (mut sum, mut weight) = (0.0, 0.0);
        for i in 0..3000 {
            let loss = if i < 1500 { 1.0 } else { 3.0 };
            usual.add(loss);
            (sum, weight) = (sum * (1.0 - 1.0 / 3000.0) + loss, weight * (1.0 - 1.0 / 3000.0) + 1.0);
        }
        let expected = sum / weight;
        assert!(expected > 2.2, "the plain mean is 2: {expected}");
        assert!((usual.loss() - expected).abs() < 1e-4, "{usual:?} for {expected}");
    }

    #[test]
    fn a_share_of_nothing_is_not_known_until_the_nothing_is_forgotten() {
        let movement = Movement { mean: 2.0, seen: 1 };
        let errors = |record: &Record| record.errors(movement);
        let mut record = Record::default();
        let none = errors(&record);
        assert_eq!((none.mape, none.wql, none.provisioning, none.coverage95()), (None, None, None, None));
        record.add(0.0, &[0.0; 5]);
        assert_eq!(
            (errors(&record).mape, errors(&record).wql, errors(&record).mase),
            (None, None, Some(0.0))
        );
        (0..2999).for_each(|_| record.add(4.0, &[3.0; 5]));
        assert_eq!(errors(&record).mape, None, "a 0 is among the last 3,000");
        record.add(4.0, &[3.0; 5]);
        assert_eq!(errors(&record).mape, Some(0.25));
        // An outcome of almost nothing makes the share as large as a number may be, and no larger.
        record.add(1e-30, &[1e15; 5]);
        assert!(errors(&record).mape.is_some_and(f64::is_finite), "{record:?}");
        assert_eq!(record.errors(Movement::default()).mase, None, "nothing ever moved");
    }
}
