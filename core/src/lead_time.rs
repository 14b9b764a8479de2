//! How long a new pod takes to serve: from the decision to its first response, as a distribution.

use std::collections::VecDeque;

use crate::units::Seconds;

/// Quantile of the lead time that is planned for. A pod that comes later than planned is missed once in ten starts,
/// and the forecast's own upper quantile covers for it then.
pub const LEVEL: f64 = 0.9;
/// Starts that are remembered: two deployments' worth, so that a slower image shows within a day of scaling.
const KEPT: usize = 64;

/// A workload's measured lead times.
#[derive(Clone, Debug, PartialEq)]
pub struct LeadTime {
    prior: Seconds,
    // Newest last.
    measured: VecDeque<f64>,
}

impl LeadTime {
    /// Nothing measured yet: `prior` stands in.
    pub fn new(prior: Seconds) -> Self {
        Self { prior, measured: VecDeque::new() }
    }

    /// As it was after these starts, seconds each, oldest first.
    pub(crate) fn with(prior: Seconds, measured: Vec<f64>) -> Self {
        let mut it = Self::new(prior);
        measured.into_iter().filter_map(|lead| Seconds::new(lead).ok()).for_each(|lead| it.record(lead));
        it
    }

    /// The starts that it rests on, seconds each, oldest first.
    pub(crate) fn measured(&self) -> impl Iterator<Item = f64> + '_ {
        self.measured.iter().copied()
    }

    /// One start: decision to first response.
    pub fn record(&mut self, lead: Seconds) {
        if self.measured.len() == KEPT {
            self.measured.pop_front();
        }
        self.measured.push_back(lead.get());
    }

    /// How many starts it rests on.
    pub fn count(&self) -> usize {
        self.measured.len()
    }

    /// What is planned for, seconds: the smallest value that covers the next start with probability [`LEVEL`]
    /// whatever the distribution (the ⌈0.9·(n + 1)⌉-th smallest). Fewer than nine starts can't promise that: then
    /// the largest of them and the prior.
    pub fn planned_seconds(&self) -> f64 {
        let mut sorted: Vec<f64> = self.measured.iter().copied().collect();
        sorted.sort_by(f64::total_cmp);
        let rank = (LEVEL * (sorted.len() + 1) as f64).ceil() as usize;
        match sorted.get(rank - 1) {
            Some(value) => *value,
            None => sorted.last().copied().unwrap_or(0.0).max(self.prior.get()),
        }
    }

    /// The middle of what was measured, seconds.
    pub fn median_seconds(&self) -> Option<f64> {
        let mut sorted: Vec<f64> = self.measured.iter().copied().collect();
        sorted.sort_by(f64::total_cmp);
        sorted.get(sorted.len() / 2).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(value: f64) -> Seconds {
        Seconds::new(value).unwrap()
    }

    #[test]
    fn the_prior_stands_until_nine_starts() {
        let mut lead = LeadTime::new(seconds(30.0));
        assert_eq!(lead.planned_seconds(), 30.0);
        for start in 1..=8 {
            lead.record(seconds(f64::from(start)));
            assert_eq!(lead.planned_seconds(), 30.0, "after {start}");
        }
        lead.record(seconds(9.0));
        assert_eq!(lead.planned_seconds(), 9.0);
        assert_eq!(lead.median_seconds(), Some(5.0));
    }

    #[test]
    fn one_slow_start_counts_at_once_and_is_forgotten() {
        let mut lead = LeadTime::new(seconds(30.0));
        lead.record(seconds(80.0));
        assert_eq!(lead.planned_seconds(), 80.0);
        for _ in 0..KEPT {
            lead.record(seconds(4.0));
        }
        assert_eq!((lead.planned_seconds(), lead.count()), (4.0, KEPT));
    }
}
