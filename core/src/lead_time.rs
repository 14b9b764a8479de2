//! How long a new pod takes to serve: from the decision to its first response, as a distribution.

use std::collections::VecDeque;

use crate::units::Seconds;

/// Quantile of the lead time that is planned for. A pod that comes later than planned is missed once in ten starts,
/// and the forecast's own upper quantile covers for it then.
pub const LEVEL: f64 = 0.9;
/// Starts that are remembered: two deployments' worth, so that a slower image shows within a day of scaling.
const KEPT: usize = 64;

/// From a pod's making to its readiness is not all of a lead time: a decision takes up to a second until pods are made, a
/// ready pod up to a second until its first response is reported.
const AROUND_A_START_SECONDS: f64 = 2.0;

/// A workload's measured lead times.
#[derive(Clone, Debug, PartialEq)]
pub struct LeadTime {
    prior: Seconds,
    // Middle of how long the pods that are there took to be ready.
    seen: Option<f64>,
    // Newest last.
    measured: VecDeque<f64>,
}

impl LeadTime {
    /// Nothing measured yet: `prior` stands in.
    pub fn new(prior: Seconds) -> Self {
        Self { prior, seen: None, measured: VecDeque::new() }
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

    /// How long the pods that serve took from their making to their readiness, seconds, as far as that is known. Their
    /// middle stands in for the prior where it is less: a pod that lost its readiness for a while seems to have started
    /// late, never early.
    pub(crate) fn saw(&mut self, starts: impl Iterator<Item = u32>) {
        let mut sorted: Vec<u32> = starts.collect();
        sorted.sort_unstable();
        self.seen = sorted.get(sorted.len() / 2).map(|middle| f64::from(*middle));
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
    /// the largest of them and the prior, or what the pods' own starts say where that is less.
    pub fn planned_seconds(&self) -> f64 {
        let mut sorted: Vec<f64> = self.measured.iter().copied().collect();
        sorted.sort_by(f64::total_cmp);
        let rank = (LEVEL * (sorted.len() + 1) as f64).ceil() as usize;
        match sorted.get(rank - 1) {
            Some(value) => *value,
            None => {
                let seen = self.seen.map_or(f64::INFINITY, |seconds| seconds + AROUND_A_START_SECONDS);
                sorted.last().copied().unwrap_or(0.0).max(self.prior.get().min(seen))
            }
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
    fn the_pods_own_starts_stand_in_for_a_longer_prior() {
        let mut lead = LeadTime::new(seconds(30.0));
        lead.saw([11, 86_400, 10].into_iter());
        assert_eq!(lead.planned_seconds(), 13.0);
        lead.record(seconds(17.0));
        assert_eq!(lead.planned_seconds(), 17.0, "what was measured counts more");
        lead.saw([86_400].into_iter());
        assert_eq!(lead.planned_seconds(), 30.0);
        lead.saw(std::iter::empty());
        assert_eq!(lead.planned_seconds(), 30.0);
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
