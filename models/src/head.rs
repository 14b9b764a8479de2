//! The head of an ensemble: the pooled network, what it has gained, and whether it takes part.

use std::sync::Arc;

use crate::admission::{Admission, Verdict};
use crate::drift::Drift;
use crate::expert::Bin;
use crate::forecast::{Grid, Target};
use crate::neural::{CoreKind, Network, Neural};
use crate::state::state;
use crate::track::Gain;

/// A record covers so many bins that about this many pass until the longest target is known: 500 records are then a day
/// and a half of an hour's forecasts, and have some fifteen independent blocks.
const REACH: u32 = 15;

/// One workload's head.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    neural: Neural,
    admission: Admission,
    /// Bins that one record covers.
    stride: i64,
    /// The record that is being filled: which it is, the gains of its forecasts, and how many they are.
    record: i64,
    gains: f64,
    count: u32,
    drift: Drift,
    /// Times that it was demoted while it was admitted.
    demotions: u32,
    /// Whether the newest bin was measured whole.
    measured: bool,
}
state!(Head { neural, admission, record, gains, count, drift, demotions, measured } fixed { stride });

/// Where a head stands.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct HeadState {
    /// What reads the series in its network.
    pub core: CoreKind,
    /// Whether the forecast is the mixture with the head, or the ensemble's alone.
    pub admitted: bool,
    /// Whether it was found to hurt within minutes, and has not made good for that since.
    pub demoted: bool,
    /// How often that ended an admission.
    pub demotions: u32,
    /// Whether its network has warmed up.
    pub awake: bool,
    /// Records of what it would have gained. One holds the forecasts of all targets that were settled within a
    /// fifteenth of the longest target.
    pub settled: u64,
    /// The last verdict, in shares of the ensemble's usual loss; `None` before the first 500 records.
    pub verdict: Option<Verdict>,
}

impl Head {
    pub(crate) fn new(network: Arc<Network<f32>>, grid: Grid, targets: &[Target]) -> Self {
        let steps = targets.iter().map(|t| t.steps()).max().unwrap_or(1);
        let stride = steps.div_ceil(REACH);
        Self {
            neural: Neural::new(network, grid, targets),
            admission: Admission::new(steps.div_ceil(stride) as usize),
            stride: i64::from(stride),
            record: i64::MIN,
            gains: 0.0,
            count: 0,
            drift: Drift::default(),
            demotions: 0,
            measured: false,
        }
    }

    /// Goes on with another network. What it has been admitted by stays: the network was shown to be better on all
    /// workloads together, and to earn it anew takes longer than the day until the next one.
    pub(crate) fn change(&mut self, network: Arc<Network<f32>>) {
        self.neural.change(network);
    }

    /// Takes what one bin's settled forecasts gained.
    pub(crate) fn settle(&mut self, index: i64, gains: impl Iterator<Item = Gain>) {
        let record = index.div_euclid(self.stride);
        if record != self.record && self.count > 0 {
            self.admission.settle(self.gains / f64::from(self.count));
            (self.gains, self.count) = (0.0, 0);
        }
        self.record = record;
        let (mut excess, mut settled) = (0.0, 0);
        for gain in gains {
            self.gains += gain.of_usual;
            excess += gain.excess;
            settled += 1;
        }
        self.count += settled;
        // The first minutes after a change settle the nearest targets alone: each bin speaks for those it has.
        if settled > 0 && self.drift.settle(excess / f64::from(settled)) && self.admission.admitted() {
            self.demotions = self.demotions.saturating_add(1);
        }
    }

    /// Takes the next bin, already [`Bin::sane`], and forecasts anew.
    pub(crate) fn observe(&mut self, bin: Bin) {
        self.neural.observe(bin);
        self.measured = bin.value.is_some() && !bin.censored;
    }

    /// Its quantiles for target number `target`. None while it warms up, and none from a bin that is missing or only a
    /// lower bound: a network promises nothing about what such a bin moves, and must not lower a forecast by it.
    pub(crate) fn quantiles(&self, target: usize) -> Option<[f64; 5]> {
        (self.neural.awake() && self.measured).then(|| self.neural.quantiles()[target])
    }

    /// Whether it takes part in what is issued.
    pub(crate) fn admitted(&self) -> bool {
        self.admission.admitted() && !self.drift.demoted()
    }

    /// What reads the series in its network.
    pub(crate) fn core(&self) -> CoreKind {
        self.neural.core()
    }

    pub(crate) fn state(&self) -> HeadState {
        HeadState {
            core: self.core(),
            admitted: self.admitted(),
            demoted: self.drift.demoted(),
            demotions: self.demotions,
            awake: self.neural.awake(),
            settled: self.admission.settled(),
            verdict: self.admission.verdict(),
        }
    }

    /// Bytes on the heap; the network is shared.
    pub(crate) fn heap_bytes(&self) -> usize {
        self.neural.heap_bytes() + self.admission.heap_bytes()
    }
}
