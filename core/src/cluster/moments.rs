//! What the page shows of the past and the series does not hold: latency and replicas, in two small rings.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

/// Bins per ring: an hour of 10 s, six hours of minutes.
pub(super) const BINS: usize = 360;

/// One bin.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Moment {
    /// Unix seconds divided by the ring's step.
    pub(super) index: i64,
    /// Seconds, the last ones seen in the bin.
    pub(super) p50: Option<f32>,
    /// Seconds, the largest seen in the bin.
    pub(super) p99: Option<f32>,
    pub(super) wanted: u32,
    pub(super) current: u32,
    pub(super) ready: u32,
    pub(super) hpa: Option<u32>,
}

/// A ring of bins; the newest is still open.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Moments {
    bins: VecDeque<Moment>,
}

impl Moments {
    pub(super) fn record(&mut self, moment: Moment) {
        match self.bins.back_mut() {
            Some(open) if open.index == moment.index => {
                let p99 = [open.p99, moment.p99].into_iter().flatten().reduce(f32::max);
                *open = Moment { p50: moment.p50.or(open.p50), p99, ..moment };
            }
            // The wall clock jumped back: what was seen then stands.
            Some(open) if open.index > moment.index => {}
            _ => {
                if self.bins.len() == BINS {
                    self.bins.pop_front();
                }
                self.bins.push_back(moment);
            }
        }
    }

    pub(super) fn newest(&self) -> Option<i64> {
        self.bins.back().map(|moment| moment.index)
    }

    /// The bins from `index` on, which may still have been open; all without it.
    pub(super) fn since(&self, index: Option<i64>) -> Vec<Moment> {
        let from = index.map_or(0, |index| self.bins.partition_point(|m| m.index < index));
        self.bins.iter().skip(from).copied().collect()
    }

    /// These bins, and then those of [`Moments::since`].
    pub(super) fn followed_by(mut self, newer: Vec<Moment>) -> Self {
        if let Some(first) = newer.first() {
            self.bins.retain(|moment| moment.index < first.index);
        }
        self.bins.extend(newer);
        self.bins.drain(..self.bins.len().saturating_sub(BINS));
        self
    }

    pub(super) fn get(&self, index: i64) -> Option<&Moment> {
        let at = self.bins.partition_point(|m| m.index < index);
        self.bins.get(at).filter(|m| m.index == index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bin_keeps_its_worst_latency_and_its_last_replicas() {
        let mut moments = Moments::default();
        let moment =
            |index, p99, current| Moment { index, p50: None, p99, wanted: 1, current, ready: 1, hpa: None };
        moments.record(moment(1, Some(0.5), 1));
        moments.record(moment(1, None, 2));
        moments.record(moment(0, Some(9.0), 9));
        moments.record(moment(3, Some(0.1), 3));
        assert_eq!(moments.get(1), Some(&moment(1, Some(0.5), 2)));
        assert_eq!((moments.get(0), moments.get(2)), (None, None));
        for index in 4..1000 {
            moments.record(moment(index, None, 4));
        }
        assert_eq!((moments.bins.len(), moments.get(3)), (BINS, None));
    }
}
