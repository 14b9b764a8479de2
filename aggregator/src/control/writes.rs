//! Writes under way: at most one for each workload, a bounded number in all.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use prescale_core::plan::Decision;
use prescale_core::world::WorkloadId;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::target::{Target, TargetError};

/// Writes at the same time; the others wait their turn. At a round trip of 10 ms that is 1,600 a second, more than an
/// API server's share for one client.
const AT_A_TIME: usize = 16;

/// What became of a decision.
#[derive(Debug)]
pub(super) struct Written {
    pub(super) decision: Decision,
    /// The new resource version.
    pub(super) result: Result<u64, TargetError>,
    /// Real time from the decision on, waiting included.
    pub(super) took: Duration,
}

/// The writes that are under way.
#[derive(Debug)]
pub(super) struct Writes {
    target: Arc<Target>,
    turns: Arc<Semaphore>,
    under_way: BTreeSet<WorkloadId>,
    tasks: JoinSet<Written>,
}

impl Writes {
    pub(super) fn new(target: Arc<Target>) -> Self {
        Self {
            target,
            turns: Arc::new(Semaphore::new(AT_A_TIME)),
            under_way: BTreeSet::new(),
            tasks: JoinSet::new(),
        }
    }

    /// Starts a write.
    ///
    /// # Panics
    /// If one of the same workload is under way: two could overtake each other.
    pub(super) fn start(&mut self, decision: Decision) {
        let first = self.under_way.insert(decision.workload.clone());
        assert!(
            first,
            "a second write in flight for {:?}: the plan's write_pending gate failed",
            decision.workload
        );
        let (target, turns, began) = (Arc::clone(&self.target), Arc::clone(&self.turns), Instant::now());
        self.tasks.spawn(async move {
            let _turn = turns.acquire_owned().await.expect("the semaphore is never closed");
            let result = target.scale(&decision).await;
            Written { decision, result, took: began.elapsed() }
        });
    }

    /// The next write that ends; waits for ever while none is under way.
    pub(super) async fn next(&mut self) -> Written {
        match self.tasks.join_next().await {
            Some(written) => {
                let written = written.expect("a write neither panics nor is aborted");
                self.under_way.remove(&written.decision.workload);
                written
            }
            None => std::future::pending().await,
        }
    }

    pub(super) fn under_way(&self) -> usize {
        self.under_way.len()
    }
}
