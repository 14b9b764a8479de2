//! Pooled trees as an expert: one model, fitted on the past of all workloads, over one workload's own features.

use std::sync::{Arc, OnceLock};

use crate::expert::{Bin, Expert, ModelKind, VALUE_LIMIT};
use crate::forecast::{Grid, Target};
use crate::neural::training::hash;
use crate::state::state;
use crate::weights::Weights;

use super::booster::{Booster, Growth, Objective, Settings};
use super::examples::{Collector, Examples};
use super::features::{Features, SIZE};

/// How the pooled model is fitted: LightGBM's usual tree of 31 leaves.
pub(super) const POOLED: Settings = Settings {
    objective: Objective::Quantile(0.5),
    growth: Growth::LeafWise { leaves: 31 },
    trees: 150,
    rate: 0.1,
    ridge: 1.0,
    least_gain: 0.0,
    least_weight: 100.0,
};

/// The booster that ships with Prescale.
///
/// Fitted by `cargo xtask train --core trees` on the training parts of the published traces; the JSON file beside it says on
/// what.
pub fn shipped() -> Arc<Booster> {
    static SHIPPED: OnceLock<Arc<Booster>> = OnceLock::new();
    let booster = SHIPPED.get_or_init(|| {
        let booster = Booster::load(include_bytes!("../../weights/trees.safetensors"), SIZE);
        Arc::new(booster.expect("a test reads the shipped booster"))
    });
    Arc::clone(booster)
}

/// Tells this code's regressors and fit from another's, on a series that it makes up: a booster is of no use to other
/// regressors than those that it was fitted on.
pub fn fingerprint() -> u64 {
    let mut examples = Examples::default();
    let mut collector = Collector::new(Grid { step_seconds: 60 }, &[Target::At { steps: 15 }], 2);
    for i in 0..2000_u32 {
        let rate = 5.0 + f64::from(i % 60) / 6.0 + f64::from(i / 1440) + f64::from(i * 7919 % 13);
        collector.observe(Bin::new(i64::from(i) + 100_000, rate), &mut examples);
    }
    let rows = examples.rows.iter().flat_map(|value| value.to_le_bytes());
    let labels = examples.labels.iter().flat_map(|label| label.to_le_bytes());
    hash(&rows.chain(labels).chain(PooledTrees::fit(&examples).save()).collect::<Vec<u8>>())
}

/// The median of each target by boosted trees that were fitted on many workloads.
///
/// A global model in relative units (Januschowski et al.: *Criteria for classifying forecasting methods*, International
/// Journal of Forecasting 36 (2020)): its answer corrects the expert that was nearest lately
/// ([`Features::base`]), in units of how far that one was off.
pub struct PooledTrees {
    model: Arc<Booster>,
    features: Features,
    targets: usize,
}
state!(PooledTrees { features } fixed { model, targets });

impl PooledTrees {
    /// Fits the model that workloads then share.
    ///
    /// # Panics
    /// If there are no examples.
    pub fn fit(examples: &Examples) -> Arc<Booster> {
        Arc::new(Booster::fit(&examples.rows, SIZE, &examples.labels, &POOLED))
    }

    /// One workload's forecaster by this model, without history of its own.
    pub fn new(model: Arc<Booster>, grid: Grid, targets: &[Target]) -> Self {
        Self { model, features: Features::new(grid, targets), targets: targets.len() }
    }
}

/// What a booster makes of a target, by its number.
pub(super) fn answer(booster: &Booster, features: &Features, number: usize) -> f64 {
    let (base, unit) = features.base(number);
    let change = if features.awake() { booster.predict(&features.row(number)) } else { 0.0 };
    (base + unit * change).clamp(0.0, VALUE_LIMIT)
}

impl Expert for PooledTrees {
    fn kind(&self) -> ModelKind {
        ModelKind::Trees
    }

    fn observe(&mut self, bin: Bin) {
        self.features.observe(bin, |_, _, _| {});
    }

    fn awake(&self) -> bool {
        self.features.awake()
    }

    fn set_weights(&mut self, weights: &Weights) {
        if let Weights::Trees(model) = weights {
            self.model = Arc::clone(model);
        }
    }

    fn fitted(&self) -> Option<Weights> {
        Some(Arc::clone(&self.model).into())
    }

    fn predict(&self, targets: &[Target], out: &mut [f64]) {
        debug_assert_eq!(targets.len(), self.targets, "made for other targets");
        for (number, out) in out.iter_mut().enumerate() {
            *out = answer(&self.model, &self.features, number);
        }
    }

    fn grid(&self) -> Grid {
        self.features.grid()
    }

    fn heap_bytes(&self) -> usize {
        self.features.heap_bytes()
    }
}
