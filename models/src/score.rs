//! How forecasts have done: one target's against the last value, and each expert's beside them.

use crate::expert::ModelKind;
use crate::forecast::Target;
use crate::state::state;

/// How many settled forecasts the means remember, about: as many as the weights remember bins.
const MEMORY: u16 = 3000;

/// How one target's forecasts have done.
///
/// Losses are pinball losses, meaned over the levels; errors are absolute errors of the median. Both are means in the
/// series' unit that remember about 3,000 settled forecasts (of those from measured origins, so that the last value is
/// known), all of the same ones: their ratios compare like with like. Only every so many-th forecast of a long target
/// is settled, so its means look back further.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Score {
    /// What is forecast.
    pub target: Target,
    /// Forecasts settled against a measured outcome.
    pub settled: u64,
    /// Of them, how many outcomes were at or below the quantile, per level.
    pub covered: [u64; 5],
    /// What was issued.
    pub loss: f64,
    /// The experts without the head.
    pub loss_without_head: f64,
    /// The experts with the head, admitted or not, and without it where it slept; `None` in an ensemble without one.
    pub loss_with_head: Option<f64>,
    /// The last value, taken as every quantile.
    pub loss_of_last_value: f64,
    /// The median that was issued.
    pub error: f64,
    /// The last value.
    pub error_of_last_value: f64,
}

/// How one expert's quantiles have done for one target, while it was awake.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ExpertScore {
    /// What is forecast.
    pub target: Target,
    /// Whose score it is.
    pub model: ModelKind,
    /// Forecasts that the coverage is over: all, up to 6,000; then between the newest 3,000 and 6,000.
    pub settled: u64,
    /// Of them, how many outcomes were at or below the 95 % quantile.
    pub covered: u64,
    /// Mean pinball loss over the levels, with the memory of [`Score`]'s, in the series' unit.
    pub loss: f64,
}

/// One settled forecast's losses and errors; in the order of [`Score`]'s.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Errors {
    pub(crate) issued: f32,
    pub(crate) without_head: f32,
    pub(crate) with_head: f32,
    pub(crate) last_value: f32,
    pub(crate) median: f32,
    pub(crate) last_value_point: f32,
}
state!(Errors { issued, without_head, with_head, last_value, median, last_value_point });

/// Their means; each settled forecast counts a 3,000th less than the next.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct MeanErrors {
    pub(crate) of: Errors,
    weight: f32,
}
state!(MeanErrors { of, weight });

impl MeanErrors {
    pub(crate) fn add(&mut self, new: &Errors) {
        self.weight = self.weight * (1.0 - 1.0 / f32::from(MEMORY)) + 1.0;
        let Errors { issued, without_head, with_head, last_value, median, last_value_point } = &mut self.of;
        for (mean, new) in [
            (issued, new.issued),
            (without_head, new.without_head),
            (with_head, new.with_head),
            (last_value, new.last_value),
            (median, new.median),
            (last_value_point, new.last_value_point),
        ] {
            *mean += (new - *mean) / self.weight;
        }
    }
}

/// One expert's record for one target. Eight bytes: a workload holds 67 of them.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Record {
    pub(crate) loss: f32,
    pub(crate) settled: u16,
    pub(crate) covered: u16,
}
state!(Record { loss, settled, covered } sound |record| record.covered <= record.settled);

impl Record {
    pub(crate) fn add(&mut self, loss: f64, covered: bool) {
        if self.settled == 2 * MEMORY {
            (self.settled, self.covered) = (self.settled / 2, self.covered / 2);
        }
        self.settled += 1;
        self.covered += u16::from(covered);
        self.loss += (loss as f32 - self.loss) / f32::from(self.settled.min(MEMORY));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_the_plain_mean_at_first_and_then_forgets() {
        let mut record = Record::default();
        for i in 1..=100 {
            record.add(f64::from(i), i > 5);
        }
        assert!((record.loss - 50.5).abs() < 1e-3, "{record:?}");
        assert_eq!((record.settled, record.covered), (100, 95));
        (0..6000).for_each(|_| record.add(7.0, true));
        (0..3000).for_each(|_| record.add(1000.0, false));
        // 1 − 1/e of the way after as many as it remembers.
        let there = f64::from(record.loss - 7.0) / 993.0;
        assert!((there - 0.632).abs() < 0.01, "{there}");
        let coverage = f64::from(record.covered) / f64::from(record.settled);
        assert!((0.3..0.6).contains(&coverage), "{record:?}");
        assert!(record.settled <= 6000);
        (0..9000).for_each(|_| record.add(0.0, false));
        assert!(f64::from(record.covered) < 0.2 * f64::from(record.settled), "{record:?}");
    }
}
