//! What forecasters run with: weights that are fitted on all workloads, and trees of a workload's own.

use std::collections::BTreeMap;
use std::sync::Arc;

use prescale_models::AllWeights;
use prescale_models::trees::Booster;

use crate::world::WorkloadId;

/// The weights that run.
#[derive(Clone, Debug, PartialEq)]
pub struct Fitted {
    /// Those of all workloads.
    pub pooled: AllWeights,
    /// Those that have trees of their own run them in the place of the pooled ones.
    pub own: BTreeMap<WorkloadId, Arc<Booster>>,
}

impl Fitted {
    /// What ships, for all.
    pub fn shipped() -> Self {
        Self { pooled: AllWeights::shipped(), own: BTreeMap::new() }
    }

    /// What this workload's forecasters run with.
    pub fn of(&self, id: &WorkloadId) -> AllWeights {
        let mut weights = self.pooled.clone();
        if let Some(own) = self.own.get(id) {
            weights.set(Arc::clone(own).into());
        }
        weights
    }
}
