//! The target of a cluster: watches what opted in, writes `/scale` and scalers' minimums while it holds the Lease.
//!
//! `objects` reads the API's objects, `model` puts them together (both without network), `watches` feeds it, `writes`
//! carries decisions out at `pace` (`telling` says which refusals are due), `candidate` holds the Lease by the rules of `lease`; `restore` undoes floors at the end.

mod candidate;
mod lease;
mod model;
#[cfg(test)]
mod model_tests;
mod objects;
mod pace;
mod restore;
mod shared;
mod telling;
mod watches;
mod writes;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use kube::{Client, Config};
use prescale_core::plan::{Decision, WorkloadPlan};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::{TargetError, World};
pub use restore::restore_floors;
use shared::Shared;

/// A world waits for a change for so long, as the local target's does.
const LONG_POLL: Duration = Duration::from_secs(25);
/// Changes come in groups (the pods of a rollout): one world for those of so short a time.
const TOGETHER: Duration = Duration::from_millis(20);
/// A person who annotates waits for the answer in `kubectl describe`; a second is soon enough.
const CHORES: Duration = Duration::from_secs(1);
/// The API may be silent for so long before its last word counts for nothing: a Lease's life, and a restart's.
const SILENT: Duration = Duration::from_secs(10);

/// Refusals that are shown. So many have one cause (a template, a policy), which the first of them name.
const MAX_REFUSALS: usize = 1000;

/// The cluster.
pub struct Kubernetes {
    shared: Arc<Shared>,
    // Stopped before the Lease is given back, or it would be taken again.
    candidate: JoinHandle<()>,
}

impl std::fmt::Debug for Kubernetes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Kubernetes({})", self.shared.name)
    }
}

/// A way to the cluster of KUBECONFIG, of `~/.kube/config`, or the one that this runs in.
///
/// # Errors
/// When there is no configuration or it can't be used.
async fn connect() -> anyhow::Result<Shared> {
    let config = Config::infer().await.context(
        "found no cluster: neither KUBECONFIG nor ~/.kube/config names one, and this is no pod with a token",
    )?;
    let namespace = std::env::var("POD_NAMESPACE").unwrap_or_else(|_| config.default_namespace.clone());
    let host = std::env::var("POD_NAME").or_else(|_| std::env::var("HOSTNAME"));
    // A StatefulSet's pod comes back by the same name, and in every container we are process 1: while the one before may
    // still run (a node that is cut off, a pod deleted by force), its Lease must not look like ours.
    let started = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let name = format!("{}-{}", host.unwrap_or_else(|_| "aggregator".into()), started.as_nanos());
    let client = Client::try_from(config).context("can't use the cluster's configuration")?;
    Ok(Shared::new(client, name, namespace))
}

impl Kubernetes {
    /// Starts to watch the cluster.
    ///
    /// # Errors
    /// As [`connect`].
    pub(super) async fn start() -> anyhow::Result<Self> {
        let shared = Arc::new(connect().await?);
        watches::start(&shared);
        let candidate = tokio::spawn(candidate::run(Arc::clone(&shared)));
        tokio::spawn(chores(Arc::clone(&shared)));
        Ok(Self { shared, candidate })
    }

    pub(super) async fn world(&self, after: Option<u64>) -> Result<World, TargetError> {
        let mut changes = self.shared.changes();
        let end = Instant::now() + LONG_POLL;
        loop {
            changes.borrow_and_update();
            if let Some(error) = self.down() {
                return Err(TargetError::NoAnswer(error));
            }
            let (revision, complete) = self.shared.read(|model| (model.revision(), model.complete()));
            let known = complete || after.is_some();
            if known && (after != Some(revision) || Instant::now() >= end) {
                return Ok(self.now());
            }
            if Instant::now() >= end {
                let trouble = self.shared.state().trouble.clone();
                return Err(TargetError::NoAnswer(format!("still reading what exists; {trouble:?}")));
            }
            // A second at most: the API's silence is no change.
            let look = (Instant::now() + Duration::from_secs(1)).min(end);
            if matches!(tokio::time::timeout_at(look, changes.changed()).await, Ok(Ok(()))) {
                tokio::time::sleep(TOGETHER).await;
            }
        }
    }

    fn now(&self) -> World {
        let (revision, rows) = self.shared.read(|model| (model.revision(), model.rows()));
        let refusals = rows.iter().flat_map(model::Row::refusals).take(MAX_REFUSALS).collect();
        World { revision, workloads: rows.into_iter().filter_map(|row| row.state).collect(), refusals }
    }

    fn down(&self) -> Option<String> {
        let state = self.shared.state();
        let (since, reason) = state.down.as_ref()?;
        (since.elapsed() > SILENT).then(|| format!("the API server is silent: {reason}"))
    }

    pub(super) fn leads(&self) -> bool {
        self.shared.leads_until().is_some()
    }

    pub(super) async fn scale(&self, decision: &Decision) -> Result<u64, TargetError> {
        writes::scale(&self.shared, decision).await
    }

    pub(super) fn sustain(&self, report: &[WorkloadPlan]) {
        let mut state = self.shared.state();
        if state.needs.is_empty() {
            return;
        }
        for planned in report {
            if let Some(need) = state.needs.get_mut(&planned.workload) {
                *need = (*need).max(Some(planned.need));
            }
        }
    }

    pub(super) async fn close(&self) {
        self.candidate.abort();
        candidate::give_back(&self.shared).await;
    }
}

/// What a leader does beside writing decisions.
async fn chores(shared: Arc<Shared>) {
    let mut floors = Instant::now();
    loop {
        if shared.leads_until().is_some() {
            writes::tell_refusals(&shared).await;
            if Instant::now() >= floors {
                writes::look_after_floors(&shared).await;
                floors = Instant::now() + writes::FLOORS;
            }
        }
        tokio::time::sleep(CHORES).await;
    }
}
