//! Pooled trees as an expert: one model, fitted on the past of all workloads, over one workload's own features.

use std::sync::Arc;

use crate::expert::{Bin, Expert, ModelKind, VALUE_LIMIT};
use crate::forecast::{Grid, Target};
use crate::state::state;

use super::booster::{Booster, Growth, Objective, Settings};
use super::examples::Examples;
use super::features::{Features, SIZE};

/// History before it is believed, as for the examples that it was fitted on.
const LEAST_HISTORY_SECONDS: i64 = 3600;

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

    /// One workload's forecaster, without history of its own.
    pub fn new(model: Arc<Booster>, grid: Grid, targets: &[Target]) -> Self {
        Self { model, features: Features::new(grid, targets), targets: targets.len() }
    }
}

impl Expert for PooledTrees {
    fn kind(&self) -> ModelKind {
        ModelKind::Trees
    }

    fn observe(&mut self, bin: Bin) {
        self.features.observe(bin, |_, _, _| {});
    }

    fn awake(&self) -> bool {
        self.features.history_seconds() >= LEAST_HISTORY_SECONDS
    }

    fn predict(&self, targets: &[Target], out: &mut [f64]) {
        debug_assert_eq!(targets.len(), self.targets, "made for other targets");
        for (number, out) in out.iter_mut().enumerate() {
            let (base, unit) = self.features.base(number);
            let change = if self.awake() { self.model.predict(&self.features.row(number)) } else { 0.0 };
            *out = (base + unit * change).clamp(0.0, VALUE_LIMIT);
        }
    }

    fn grid(&self) -> Grid {
        self.features.grid()
    }

    fn heap_bytes(&self) -> usize {
        self.features.heap_bytes()
    }
}
