//! The seam to what is scaled: where the world comes from and where decisions go.

mod local;

use prescale_core::world::{WorkloadId, WorkloadState};
use prescale_shell::client::{Client, Failure};
use thiserror::Error;

pub use local::World;

/// Workloads that one aggregator takes on (DESIGN.md, "Numbers to beat": 10,000 planned on one core).
pub const MAX_WORKLOADS: usize = 10_000;
/// Pods of all workloads together: 5,000 nodes with 110 pods each, DESIGN.md's largest cluster.
pub const MAX_PODS: usize = 550_000;

/// What is scaled. Kubernetes' `/scale` takes its place beside the first.
#[derive(Debug)]
pub enum Target {
    /// A supervisor of worker processes on this machine, over HTTP (ARCHITECTURE.md, "HTTP").
    Local(local::Local),
}

/// `--target`, taken apart and checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TargetAddress {
    /// `local=HOST:PORT`.
    Local(String),
}

impl std::str::FromStr for TargetAddress {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        match text.split_once('=') {
            Some(("local", address)) if !address.is_empty() => {
                // Only to see whether it is an address.
                Client::new(address, prescale_shell::client::Limits::default())?;
                Ok(Self::Local(address.to_owned()))
            }
            _ => anyhow::bail!("want local=HOST:PORT"),
        }
    }
}

impl std::fmt::Display for TargetAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Local(address) => write!(f, "local={address}"),
        }
    }
}

/// Why the target gave no world or took no decision.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TargetError {
    /// No answer.
    #[error("no answer: {0}")]
    NoAnswer(#[from] Failure),
    /// It has changed since the decision; read it again.
    #[error("the workload has changed since the decision")]
    Conflict,
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

impl TargetError {
    /// Every [`TargetError::name`].
    pub const NAMES: [&str; 5] = ["no_answer", "conflict", "gone", "refused", "nonsense"];

    /// The value of labels.
    pub fn name(&self) -> &'static str {
        match self {
            Self::NoAnswer(_) => "no_answer",
            Self::Conflict => "conflict",
            Self::Gone => "gone",
            Self::Refused { .. } => "refused",
            Self::Nonsense(_) => "nonsense",
        }
    }
}

impl Target {
    /// A target at `address`; nothing is sent yet.
    ///
    /// # Errors
    /// When the address is none.
    pub fn new(address: &TargetAddress) -> anyhow::Result<Self> {
        match address {
            TargetAddress::Local(address) => Ok(Self::Local(local::Local::new(address)?)),
        }
    }

    /// What exists. With `after`, answers as soon as the revision differs from it (a long poll).
    ///
    /// # Errors
    /// [`TargetError`]; nothing is known then, and everything holds.
    pub async fn world(&self, after: Option<u64>) -> Result<World, TargetError> {
        let world = match self {
            Self::Local(local) => local.world(after).await?,
        };
        check(&world.workloads).map_err(TargetError::Nonsense)?;
        Ok(world)
    }

    /// Sets the replicas of `id`, if it still is as it was at `resource_version`; the new resource version.
    ///
    /// # Errors
    /// [`TargetError::Conflict`] when it has changed since; others as they come.
    pub async fn scale(
        &self,
        id: &WorkloadId,
        replicas: u32,
        resource_version: u64,
    ) -> Result<u64, TargetError> {
        match self {
            Self::Local(local) => local.scale(id, replicas, resource_version).await,
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
