//! One target's mixture of the ensemble's quantiles and the head's.

use crate::combiner::Combiner;
use crate::expert::VALUE_LIMIT;
use crate::forecast::LEVELS;
use crate::nn::loss::pinball;
use crate::score::{Record, Usual};
use crate::state::state;
use crate::tracking::Tracker;

/// The two members, the ensemble first.
const BOTH: u32 = 0b11;

/// Ensemble and head, weighted per level as the experts are among themselves: charged with the slope of the pinball
/// loss at the mixture, so that the weights tend to the best mixture and not to the better one. Then quantile tracking
/// of its own.
#[derive(Clone, Debug)]
pub(crate) struct Mixture {
    /// A game per level.
    combiner: Combiner,
    trackers: [Tracker; 5],
    /// Beside the track's forecasts that are not yet due, row by row.
    kept: Box<[Kept]>,
    settled: u32,
    /// How the ensemble's forecasts have done without the head and with it.
    pub(crate) without: Record,
    pub(crate) with: Record,
    /// What is usually lost by what is issued.
    pub(crate) usual: Usual,
}
state!(Mixture { combiner, trackers, kept, settled, without, with, usual });

#[derive(Clone, Copy, Debug)]
struct Kept {
    /// The head's quantiles; NaN where it slept.
    head: [f32; 5],
    /// The mixture's, before they were put in order.
    mixed: [f32; 5],
}
state!(Kept { head, mixed });

impl Mixture {
    /// For `rows` pending forecasts.
    pub(crate) fn new(rows: usize) -> Self {
        Self {
            combiner: Combiner::new(&[1.0, 1.0], LEVELS.len()),
            trackers: [Tracker::default(); 5],
            kept: vec![Kept { head: [f32::NAN; 5], mixed: [0.0; 5] }; rows].into_boxed_slice(),
            settled: 0,
            without: Record::default(),
            with: Record::default(),
            usual: Usual::default(),
        }
    }

    /// Mixes; the result isn't sorted yet. Kept in `row` if it will be settled.
    pub(crate) fn forecast(
        &mut self,
        row: Option<usize>,
        ensemble: [f64; 5],
        head: Option<[f64; 5]>,
        scale: f64,
    ) -> [f64; 5] {
        let mut mixed = ensemble;
        if let Some(head) = head {
            for (l, mixed) in mixed.iter_mut().enumerate() {
                let both = self.combiner.combine(l, [ensemble[l], head[l]].into_iter(), BOTH);
                let tracked = both.unwrap_or(ensemble[l]) + scale * self.trackers[l].correction();
                *mixed = tracked.clamp(0.0, VALUE_LIMIT);
            }
        }
        if let Some(row) = row {
            let head = head.unwrap_or([f64::NAN; 5]);
            self.kept[row] = Kept { head: head.map(|q| q as f32), mixed: mixed.map(|q| q as f32) };
        }
        mixed
    }

    /// The outcome of the forecast in `row`, whose ensemble's quantiles were `ensemble`; `forget` as the experts' combiner.
    /// Returns the pinball loss of the mixture, mean over the levels; `None` where the head slept.
    pub(crate) fn settle(&mut self, truth: f64, row: usize, ensemble: [f32; 5], forget: f32) -> Option<f64> {
        let Kept { head, mixed } = self.kept[row];
        if head[0].is_nan() {
            return None;
        }
        for l in 0..5 {
            let inputs = [f64::from(ensemble[l]), f64::from(head[l])];
            let both = self.combiner.combine(l, inputs.into_iter(), BOTH).unwrap_or(inputs[0]);
            let slope = pinball(LEVELS[l], truth, both).1;
            self.combiner.update(l, &inputs.map(|input| slope * (input - both)), BOTH, forget);
            // As in the ensemble: values are kept as f32, and equality, meant at that precision, teaches nothing.
            if truth as f32 != mixed[l] {
                self.trackers[l].settle(LEVELS[l], (truth as f32) < mixed[l], u64::from(self.settled));
            }
        }
        self.settled = self.settled.saturating_add(1);
        let mut issued = mixed;
        issued.sort_unstable_by(f32::total_cmp);
        let losses = issued.iter().zip(LEVELS).map(|(q, level)| pinball(level, truth, f64::from(*q)).0);
        Some(losses.sum::<f64>() / 5.0)
    }

    /// The truth of the forecast in `row` was at least `bound`: a quantile below it was certainly missed, and nothing
    /// else is certain.
    pub(crate) fn settle_bound(&mut self, bound: f64, row: usize) {
        let Kept { head, mixed } = self.kept[row];
        for (l, tracker) in self.trackers.iter_mut().enumerate() {
            if !head[0].is_nan() && f64::from(mixed[l]) < bound {
                tracker.settle(LEVELS[l], false, u64::from(self.settled));
            }
        }
    }

    /// What was mixed in `row`, in order.
    pub(crate) fn issued(&self, row: usize) -> [f32; 5] {
        let mut issued = self.kept[row].mixed;
        issued.sort_unstable_by(f32::total_cmp);
        issued
    }

    /// The head's share per level.
    pub(crate) fn shares(&self) -> [f64; 5] {
        std::array::from_fn(|l| self.combiner.weights(l).nth(1).unwrap_or(0.0))
    }

    /// Bytes on the heap.
    pub(crate) fn heap_bytes(&self) -> usize {
        self.combiner.heap_bytes() + std::mem::size_of_val(&*self.kept)
    }
}
