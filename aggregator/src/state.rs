//! What outlives this process: the store of every workload's state and the trained weights, and who may give and take them.

pub mod peers;
pub mod store;

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use prescale_core::world::WorkloadId;
use store::Store;

use crate::training::versions::Versions;

/// The store and the weights, and what the control loop, the peers' door and the follower of the leader tell each other
/// about them.
#[derive(Debug)]
pub struct State {
    /// Every workload's newest state.
    pub store: Store,
    weights: Mutex<Versions>,
    leads: AtomicBool,
    /// It holds state of a leader that this process has not acted from yet.
    fed: AtomicBool,
    /// Workloads whose last checkpoint did not reach the store.
    lost: Mutex<Vec<WorkloadId>>,
}

impl State {
    /// Opens what is in `dir`, or what is in memory and only feeds peers.
    ///
    /// # Errors
    /// One sentence, when the directory can't be used. A store that can't be read is put aside and begun anew, weights that
    /// can't be are left out.
    pub fn open(dir: Option<&Path>) -> anyhow::Result<Self> {
        let (store, weights) = (Store::open(dir)?, Mutex::new(Versions::open(dir)?));
        Ok(Self { store, weights, leads: false.into(), fed: false.into(), lost: Mutex::default() })
    }

    /// The versions of the weights. Held while they are written, so not to be waited for by the loop.
    pub fn weights(&self) -> MutexGuard<'_, Versions> {
        self.weights.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether this replica may write to the target.
    pub fn leads(&self) -> bool {
        self.leads.load(Ordering::Relaxed)
    }

    /// Says whether it leads; true when it has just begun to, and the store holds what another leader left.
    pub fn set_leads(&self, leads: bool) -> bool {
        let led = self.leads.swap(leads, Ordering::Relaxed);
        leads && !led && self.fed.swap(false, Ordering::Relaxed)
    }

    /// The store has been given state of a leader.
    pub fn feed(&self) {
        self.fed.store(true, Ordering::Relaxed);
    }

    /// Whether the store is another's: it must not be overwritten before this replica has taken it on, by leading.
    pub fn follows(&self) -> bool {
        !self.leads() && self.fed.load(Ordering::Relaxed)
    }

    /// These checkpoints did not reach the store.
    pub fn lose(&self, workloads: impl IntoIterator<Item = WorkloadId>) {
        self.lost.lock().unwrap_or_else(PoisonError::into_inner).extend(workloads);
    }

    /// Those that [`State::lose`] was told of since the last call.
    pub fn take_lost(&self) -> Vec<WorkloadId> {
        std::mem::take(&mut self.lost.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
