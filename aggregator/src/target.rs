//! The seam to what is scaled: where the world comes from and where decisions go.

mod kubernetes;
mod local;

use prescale_core::plan::{Decision, WorkloadPlan};
use prescale_core::world::WorkloadState;
use prescale_shell::client::{Client, Failure};
use thiserror::Error;

pub use kubernetes::restore_floors;
pub use local::World;

/// Workloads that one aggregator takes on (DESIGN.md, "Numbers to beat": 10,000 planned on one core).
pub const MAX_WORKLOADS: usize = 10_000;
/// Pods of all workloads together: 5,000 nodes with 110 pods each, DESIGN.md's largest cluster.
pub const MAX_PODS: usize = 550_000;

/// What is scaled.
#[derive(Debug)]
pub enum Target {
    /// A Kubernetes cluster.
    Kubernetes(kubernetes::Kubernetes),
    /// A supervisor of worker processes on this machine, over HTTP (ARCHITECTURE.md, "HTTP").
    Local(local::Local),
}

/// `--target`, taken apart and checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TargetAddress {
    /// `kubernetes`: the cluster that KUBECONFIG names, or that the aggregator runs in.
    Kubernetes,
    /// `local=HOST:PORT`.
    Local(String),
}

impl std::str::FromStr for TargetAddress {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        if text == "kubernetes" {
            return Ok(Self::Kubernetes);
        }
        match text.split_once('=') {
            Some(("local", address)) if !address.is_empty() => {
                // Only to see whether it is an address.
                Client::new(address, prescale_shell::client::Limits::default())?;
                Ok(Self::Local(address.to_owned()))
            }
            _ => anyhow::bail!("want kubernetes or local=HOST:PORT"),
        }
    }
}

impl std::fmt::Display for TargetAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Kubernetes => f.write_str("kubernetes"),
            Self::Local(address) => write!(f, "local={address}"),
        }
    }
}

/// Why the target gave no world or took no decision.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TargetError {
    /// No answer.
    #[error("no answer: {0}")]
    NoAnswer(String),
    /// It has changed since the decision; read it again.
    #[error("the workload has changed since the decision")]
    Conflict,
    /// Another replica of the aggregator holds the Lease, or may hold it by now.
    #[error("this replica does not hold the Lease")]
    NotLeader,
    /// The workload is gone.
    #[error("no such workload")]
    Gone,
    /// An answer, and it is no.
    #[error("refused with status {status}")]
    Refused {
        /// HTTP status.
        status: u16,
    },
    /// An answer that can't be right.
    #[error("the answer makes no sense: {0}")]
    Nonsense(String),
}

impl From<Failure> for TargetError {
    fn from(failure: Failure) -> Self {
        Self::NoAnswer(failure.to_string())
    }
}

impl TargetError {
    /// Every [`TargetError::name`].
    pub const NAMES: [&str; 6] = ["no_answer", "conflict", "not_leader", "gone", "refused", "nonsense"];

    /// The value of labels.
    pub fn name(&self) -> &'static str {
        match self {
            Self::NoAnswer(_) => "no_answer",
            Self::Conflict => "conflict",
            Self::NotLeader => "not_leader",
            Self::Gone => "gone",
            Self::Refused { .. } => "refused",
            Self::Nonsense(_) => "nonsense",
        }
    }
}

impl Target {
    /// A target at `address`; a cluster is watched from now on.
    ///
    /// # Errors
    /// When the address is none.
    pub async fn new(address: &TargetAddress) -> anyhow::Result<Self> {
        match address {
            TargetAddress::Kubernetes => Ok(Self::Kubernetes(kubernetes::Kubernetes::start().await?)),
            TargetAddress::Local(address) => Ok(Self::Local(local::Local::new(address)?)),
        }
    }

    /// What exists. With `after`, answers as soon as the revision differs from it (a long poll).
    ///
    /// # Errors
    /// [`TargetError`]; nothing is known then, and everything holds.
    pub async fn world(&self, after: Option<u64>) -> Result<World, TargetError> {
        let world = match self {
            Self::Kubernetes(cluster) => cluster.world(after).await?,
            Self::Local(local) => local.world(after).await?,
        };
        check(&world.workloads).map_err(TargetError::Nonsense)?;
        Ok(world)
    }

    /// Carries a decision out, if the workload still is as it was decided on; the new resource version.
    ///
    /// # Errors
    /// [`TargetError::Conflict`] when it has changed since; others as they come.
    pub async fn scale(&self, decision: &Decision) -> Result<u64, TargetError> {
        match self {
            Self::Kubernetes(cluster) => cluster.scale(decision).await,
            Self::Local(local) => local.scale(decision).await,
        }
    }

    /// Whether this replica of the aggregator may write now.
    pub fn leads(&self) -> bool {
        match self {
            Self::Kubernetes(cluster) => cluster.leads(),
            Self::Local(_) => true,
        }
    }

    /// What each workload needs: a raised minimum is kept for as long as that is so.
    pub fn sustain(&self, report: &[WorkloadPlan]) {
        if let Self::Kubernetes(cluster) = self {
            cluster.sustain(report);
        }
    }

    /// Lets others write.
    pub async fn close(&self) {
        if let Self::Kubernetes(cluster) = self {
            cluster.close().await;
        }
    }
}

/// What must hold for the brains to make sense of a world, whoever says it. Settings that contradict themselves are the
/// brain's to judge: they hold one workload, not all.
fn check(workloads: &[WorkloadState]) -> Result<(), String> {
    let pods: usize = workloads.iter().map(|w| w.pods.len()).sum();
    if workloads.len() > MAX_WORKLOADS || pods > MAX_PODS {
        return Err(format!("{} workloads with {pods} pods are more than we take on", workloads.len()));
    }
    let mut ids = std::collections::BTreeSet::new();
    let mut uids = std::collections::BTreeSet::new();
    for workload in workloads {
        let id = &workload.id;
        let who = format!("{}/{}", id.namespace, id.name);
        if id.namespace.is_empty() || id.name.is_empty() {
            return Err(format!("a workload without a name: {who}"));
        }
        if !ids.insert(id) {
            return Err(format!("{who} twice"));
        }
        if let Some(pod) = workload.pods.iter().find(|pod| pod.uid.is_empty() || !uids.insert(&pod.uid)) {
            return Err(format!("{who}: pod uid `{}` is empty or there twice", pod.uid));
        }
    }
    Ok(())
}
