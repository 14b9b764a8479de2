//! One workload as this node sees it: the sum of its measured pods, the local forecast, the burst flag.

use prescale_models::ensemble::Ensemble;
use prescale_models::{Bin, Grid, Target};

use super::LocalForecast;
use super::burst::Detector;
use crate::sample::Sample;
use crate::time::{Mono, Now};
use crate::wire::{Burst, NodeWorkload};
use crate::world::WorkloadId;

/// The node's own grid: the shortest horizon it forecasts.
const GRID: Grid = Grid { step_seconds: 5 };
/// 5 s to 2 min ahead, and the largest value on the way, which is what pods are sized for.
const TARGETS: [Target; 8] = [
    Target::At { steps: 1 },
    Target::At { steps: 2 },
    Target::At { steps: 3 },
    Target::At { steps: 6 },
    Target::At { steps: 12 },
    Target::At { steps: 24 },
    Target::MaxOver { steps: 12 },
    Target::MaxOver { steps: 24 },
];
/// When pods join or leave, the node's sum jumps though the demand does not. The model is shown no bin for so long
/// (connections move over within seconds), seconds,
const BLIND_SECONDS: f64 = 15.0;
/// and gives no forecast for so long: time to see as many bins of the new level as two-minute smoothing weighs most.
const ASLEEP_SECONDS: f64 = 60.0;

/// A workload's state on this node.
pub(super) struct LocalWorkload {
    ensemble: Ensemble,
    detector: Detector,
    /// The measured pods of the last poll, sorted; a change is a membership change.
    members: Vec<String>,
    changed: Option<Mono>,
    /// The open bin: its index, the sum of the polls' rates, how many.
    open: Option<(i64, f64, u32)>,
    /// Sum over the pods at the last poll, requests/s.
    rate: f64,
}

/// What an agent forecasts each of its workloads with.
pub fn local_ensemble() -> Ensemble {
    Ensemble::node(GRID, &TARGETS)
}

impl LocalWorkload {
    pub(super) fn new() -> Self {
        Self {
            ensemble: local_ensemble(),
            detector: Detector::default(),
            members: Vec::new(),
            changed: None,
            open: None,
            rate: 0.0,
        }
    }

    /// Takes one poll's samples of all the workload's measured pods, by uid. True when a burst flag rises.
    pub(super) fn observe(&mut self, now: Now, samples: &[(&str, &Sample)]) -> bool {
        let same = self.members.iter().map(String::as_str).eq(samples.iter().map(|(uid, _)| *uid));
        if !same {
            self.members = samples.iter().map(|(uid, _)| (*uid).to_owned()).collect();
            self.changed = Some(now.mono);
            self.detector.reset();
        }
        self.rate = samples.iter().map(|(_, s)| s.rate.get()).sum();
        self.bin(now, !samples.is_empty());
        if samples.is_empty() {
            return false;
        }
        let count = samples.iter().map(|(_, s)| s.starts).sum();
        let seconds = samples.iter().map(|(_, s)| s.seconds).sum::<f64>() / samples.len() as f64;
        self.detector.observe(now, count, seconds)
    }

    fn bin(&mut self, now: Now, measured: bool) {
        let index = GRID.index_at(now.wall.unix_seconds());
        if let Some((open, sum, polls)) = self.open
            && open < index
        {
            let value = (polls > 0).then(|| sum / f64::from(polls));
            self.ensemble.observe(Bin { index: open, value, censored: false });
            self.open = None;
        }
        let counts = measured && !self.since_change(now, BLIND_SECONDS);
        let (_, sum, polls) = self.open.get_or_insert((index, 0.0, 0));
        if counts {
            *sum += self.rate;
            *polls += 1;
        }
    }

    fn since_change(&self, now: Now, seconds: f64) -> bool {
        self.changed.is_some_and(|at| now.mono.seconds_since(at) < seconds)
    }

    /// The forecast, while the model is awake.
    pub(super) fn forecast(&self, now: Now) -> Option<LocalForecast> {
        if self.members.is_empty() || self.since_change(now, ASLEEP_SECONDS) {
            return None;
        }
        let forecast = self.ensemble.forecast()?;
        Some(LocalForecast { pods: self.members.len() as u32, forecast: forecast.clone() })
    }

    /// Requests/s at the last poll, all measured pods.
    pub(super) fn rate(&self) -> f64 {
        self.rate
    }

    /// The burst flag, while it is up.
    pub(super) fn burst(&self) -> Option<Burst> {
        self.detector.flag()
    }

    /// What the report says of it.
    pub(super) fn report(&self, now: Now, id: &WorkloadId) -> NodeWorkload {
        NodeWorkload { id: id.clone(), forecast: self.forecast(now), burst: self.detector.flag() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_s_models_fit_into_its_budget() {
        let mut ensemble = local_ensemble();
        for index in 0..20_000 {
            ensemble.observe(Bin { index, value: Some(50.0), censored: false });
        }
        let bytes = ensemble.memory_bytes();
        println!("{bytes} bytes a workload");
        // 110 workloads on one node: a third of the agent's 20 MiB.
        assert!(110 * bytes <= 20 * (1 << 20) / 3, "{bytes}");
    }
}
