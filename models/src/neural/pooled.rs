//! The neural forecaster with its calibration: what `--model gru` scores.

use std::sync::Arc;

use crate::expert::{Bin, VALUE_LIMIT};
use crate::forecast::{Forecast, Forecaster, Grid, LEVELS, Quantiles, Target};
use crate::scale::LocalScale;
use crate::tracking::Tracker;
use crate::window::{Outcome, Window};

use super::forecaster::Neural;
use super::network::Network;

/// One workload's neural forecast, its quantiles tracked online so that coverage comes true: learned quantiles cover
/// too little (FORECAST.md, lesson 3).
#[derive(Clone, Debug)]
pub struct Pooled {
    neural: Neural,
    window: Window,
    scale: LocalScale,
    tracks: Vec<Track>,
    current: Option<Forecast>,
}

#[derive(Clone, Debug)]
struct Track {
    target: Target,
    trackers: [Tracker; 5],
    /// Forecasts that are not yet due, a ring by origin.
    pending: Vec<(i64, [f32; 5])>,
    settled: u64,
}

impl Pooled {
    /// A forecaster of `targets` with this network.
    pub fn new(network: Arc<Network<f32>>, grid: Grid, targets: &[Target]) -> Self {
        let longest = targets.iter().map(|t| t.steps()).max().unwrap_or(1) as usize;
        let track = |target: &Target| Track {
            target: *target,
            trackers: [Tracker::default(); 5],
            pending: vec![(i64::MIN, [0.0; 5]); target.steps() as usize],
            settled: 0,
        };
        Self {
            neural: Neural::new(network, grid, targets),
            window: Window::new(longest + 1),
            scale: LocalScale::new(grid),
            tracks: targets.iter().map(track).collect(),
            current: None,
        }
    }
}

impl Forecaster for Pooled {
    fn observe(&mut self, bin: Bin) {
        let bin = bin.sane();
        if self.window.newest().is_some_and(|newest| bin.index <= newest) {
            return;
        }
        self.window.push(bin);
        if bin.value.is_some() {
            for track in &mut self.tracks {
                track.settle(bin.index, &self.window);
            }
        }
        self.neural.observe(bin);
        self.scale.observe(bin);
        if bin.value.is_none() && self.current.is_none() {
            return;
        }
        let grid = self.neural.grid();
        let current = self.current.get_or_insert_with(|| Forecast {
            origin: bin.index,
            grid,
            points: self.tracks.iter().map(|t| (t.target, Quantiles::ZERO)).collect(),
        });
        current.origin = bin.index;
        let scale = self.scale.value();
        for ((track, quantiles), point) in
            self.tracks.iter_mut().zip(self.neural.quantiles()).zip(&mut current.points)
        {
            point.1 = track.forecast(bin.index, quantiles, scale);
        }
    }

    fn forecast(&self) -> Option<&Forecast> {
        self.current.as_ref()
    }

    fn memory_bytes(&self) -> usize {
        let pending: usize = self.tracks.iter().map(|t| std::mem::size_of_val(&*t.pending)).sum();
        size_of::<Self>() + self.neural.heap_bytes() + self.window.heap_bytes() + pending
    }
}

impl Track {
    fn forecast(&mut self, origin: i64, quantiles: &[f64; 5], scale: f64) -> Quantiles {
        let mut tracked = [0.0; 5];
        for (l, tracked) in tracked.iter_mut().enumerate() {
            *tracked = (quantiles[l] + scale * self.trackers[l].correction()).clamp(0.0, VALUE_LIMIT);
        }
        let row = origin.rem_euclid(self.pending.len() as i64) as usize;
        self.pending[row] = (origin, tracked.map(|q| q as f32));
        tracked.sort_unstable_by(f64::total_cmp);
        Quantiles::new(tracked).expect("clamped values are finite")
    }

    fn settle(&mut self, now: i64, window: &Window) {
        let origin = now - i64::from(self.target.steps());
        let row = origin.rem_euclid(self.pending.len() as i64) as usize;
        let (kept, quantiles) = self.pending[row];
        if kept != origin {
            return;
        }
        let outcome = match self.target {
            Target::At { .. } => window.get(now),
            Target::MaxOver { .. } => window.max(origin + 1, now),
        };
        for (l, tracker) in self.trackers.iter_mut().enumerate() {
            // As in the ensemble: equality teaches nothing, and of a lower bound only what it certainly missed.
            match outcome {
                Outcome::Known(truth) if truth as f32 != quantiles[l] => {
                    tracker.settle(LEVELS[l], (truth as f32) < quantiles[l], self.settled);
                }
                Outcome::AtLeast(bound) if f64::from(quantiles[l]) < bound => {
                    tracker.settle(LEVELS[l], false, self.settled);
                }
                _ => {}
            }
        }
        self.settled += u64::from(matches!(outcome, Outcome::Known(_)));
    }
}
