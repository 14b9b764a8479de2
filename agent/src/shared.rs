//! What the loop, its tasks and the admin endpoints share.

use std::sync::{Mutex, MutexGuard, PoisonError};

use prescale_core::node::Node;
use prescale_shell::admin::Readiness;
use prescale_shell::clock::Clock;

use crate::metrics::Metrics;
use crate::own::OwnCost;

/// One per agent. All of it is touched from one thread; the locks only satisfy the compiler.
pub struct Shared {
    /// The agent's clock.
    pub clock: Clock,
    /// What the agent counts about itself.
    pub metrics: Metrics,
    node: Mutex<Node>,
    own: Mutex<OwnCost>,
    status: Mutex<Status>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("status", &self.status).finish_non_exhaustive()
    }
}

/// How it stands with the aggregators; the texts say what failed last.
#[derive(Debug, Default)]
struct Status {
    watching: bool,
    watch_failure: Option<String>,
    reporting: bool,
    report_failure: Option<String>,
}

impl Shared {
    /// At the start: nothing is known of any aggregator.
    pub fn new(clock: Clock, node: Node) -> Self {
        Self {
            clock,
            metrics: Metrics::default(),
            node: Mutex::new(node),
            own: Mutex::default(),
            status: Mutex::default(),
        }
    }

    /// The brain.
    pub fn node(&self) -> MutexGuard<'_, Node> {
        lock(&self.node)
    }

    /// The agent's own cost, as of the last poll.
    pub fn own(&self) -> OwnCost {
        *lock(&self.own)
    }

    /// Notes the agent's own cost.
    pub fn set_own(&self, own: OwnCost) {
        *lock(&self.own) = own;
    }

    /// An aggregator answered the question for the watch list.
    pub fn watch_answered(&self) {
        let mut status = lock(&self.status);
        status.watching = true;
        status.watch_failure = None;
    }

    /// None did; `said` names it and says why.
    pub fn watch_failed(&self, said: String) {
        lock(&self.status).watch_failure = Some(said);
    }

    /// An aggregator took a report.
    pub fn report_accepted(&self) {
        let mut status = lock(&self.status);
        status.reporting = true;
        status.report_failure = None;
    }

    /// One did not; `said` names it and says why.
    pub fn report_failed(&self, said: String) {
        lock(&self.status).report_failure = Some(said);
    }

    /// Ready once an aggregator has given a watch list and taken a report. One that goes away later does not make the
    /// agent unready: it measures on, and a restart would only lose what it has.
    pub fn readiness(&self) -> Readiness {
        let status = lock(&self.status);
        let because =
            |failure: &Option<String>| failure.as_ref().map_or(String::new(), |said| format!(" ({said})"));
        if !status.watching {
            Err(format!("no aggregator has given a watch list yet{}", because(&status.watch_failure)))
        } else if !status.reporting {
            Err(format!("no aggregator has taken a report yet{}", because(&status.report_failure)))
        } else {
            Ok(())
        }
    }
}

/// A panic elsewhere has ended the process already; whoever still runs takes the value as it is.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
