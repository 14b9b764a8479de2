//! What agent and aggregator say to each other: plain checked types, their limits, encode and decode.
//!
//! The bytes are protobuf (prost, derived; `wire/message.rs` holds the field numbers). A field is never reused; a
//! reader skips what it does not know and takes the default of what is missing, so that a message is readable one
//! [`VERSION`] up and down. Whatever leaves `decode` has passed the limits below; arbitrary bytes give an error.

mod convert;
mod limits;
mod message;
#[cfg(test)]
mod tests;

pub use limits::{
    MAX_BODY_BYTES, MAX_FORECAST_POINTS, MAX_NAME_BYTES, MAX_PODS, MAX_PORTS, MAX_PROBE_BYTES, MAX_PROBES,
    MAX_REPLICAS_TO_PUSH_TO, MAX_UID_BYTES, WireError,
};

use crate::counters::Counters;
use crate::node::LocalForecast;
use crate::time::Wall;
use crate::world::WorkloadId;

/// The version that this build writes. It reads this one and its two neighbours.
pub const VERSION: u32 = 1;

/// The versions that this build reads, first and last.
pub const READABLE: (u32, u32) = (if VERSION > 1 { VERSION - 1 } else { 1 }, VERSION + 1);

/// Everything that a node has to say, once a second, and at once on a burst.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeReport {
    /// The writer's [`VERSION`].
    pub version: u32,
    /// The node's name.
    pub node: String,
    /// The kernel's boot id: `read_at_ns` compares only within one.
    pub boot_id: String,
    /// When the agent started; with the boot id and a pod's attach generation, the key of its counters.
    pub agent_start: Wall,
    /// Grows by one with every report of this agent process; the newest wins.
    pub sequence: u64,
    /// When the report was made, by the node's wall clock.
    pub sent: Wall,
    /// The workloads of [`Self::pods`], with what the node knows of each as a whole.
    pub workloads: Vec<NodeWorkload>,
    /// The watched pods.
    pub pods: Vec<PodReport>,
    /// The agent's own state.
    pub agent: AgentHealth,
}

/// A workload as one node sees it: the sum over the node's measured pods.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeWorkload {
    /// Which workload.
    pub id: WorkloadId,
    /// What the node expects for the next two minutes; `None` while its model sleeps.
    pub forecast: Option<LocalForecast>,
    /// A jump in the rate that chance does not explain.
    pub burst: Option<Burst>,
}

/// A jump in a node's request rate: see `core::node`'s burst rule.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Burst {
    /// When it was seen first.
    pub since: Wall,
    /// The rate that raised the flag, requests/s.
    pub rate: f64,
    /// The rate before, requests/s.
    pub baseline: f64,
}

/// One pod's cumulative counters and state.
#[derive(Clone, Debug, PartialEq)]
pub struct PodReport {
    /// The pod.
    pub uid: String,
    /// Its workload, an index into [`NodeReport::workloads`].
    pub workload: usize,
    /// Grows with each attach of this pod by this agent process; counters start at 0 with each.
    pub attach_generation: u32,
    /// Whether it is measured.
    pub state: PodState,
    /// When `counters` were read, by the node's wall clock.
    pub read: Wall,
    /// What the kernel counted since the attach; `None` before the first read.
    pub counters: Option<Counters>,
    /// What the cgroup says.
    pub resources: Resources,
    /// The served rate is a lower bound of the demand.
    pub censored: Option<Censored>,
    /// The pod's directory is gone: these are its last counters.
    pub last: bool,
}

/// Whether a watched pod is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PodState {
    /// Its cgroup directory has not appeared yet.
    Waiting,
    /// Attached and read.
    Measured,
    /// It can't be measured; the attach is tried again.
    NotMeasurable(NotMeasurable),
}

/// Why a pod can't be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum NotMeasurable {
    /// A program without the multi flag sits on the cgroup or above it (EPERM).
    CgroupTaken,
    /// The agent lacks a capability.
    NoPermission,
    /// All slots of the kernel's maps are in use.
    NoSlot,
    /// The directory vanished during the attach.
    Vanished,
    /// The pod shares the node's network or has more than one server that would count twice.
    Unsupported,
    /// The kernel refused for another reason.
    KernelRefused,
}

/// Why a pod's served rate is a lower bound of what is asked of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Censored {
    /// Requests in flight grew while the finish rate stayed flat below the start rate, and have not fallen since.
    Backlog,
    /// The cgroup was throttled for most of the time.
    Throttled,
}

/// What the pod's cgroup says; cumulative except memory. Zero where the controller is off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Resources {
    /// CPU time used, nanoseconds.
    pub cpu_ns: u64,
    /// Time throttled, nanoseconds.
    pub throttled_ns: u64,
    /// `memory.current`, bytes.
    pub memory_bytes: u64,
    /// Pressure stall totals, where the kernel keeps them.
    pub pressure: Option<Pressure>,
}

/// Cumulative `some` stall times, nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pressure {
    /// Waiting for a CPU.
    pub cpu_ns: u64,
    /// Waiting for memory.
    pub memory_ns: u64,
    /// Waiting for I/O.
    pub io_ns: u64,
}

/// The agent's own state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AgentHealth {
    /// Pods that it is attached to.
    pub attached: u32,
    /// Attach attempts that failed, since its start.
    pub attach_failures: u64,
    /// Samples that it refused (counters going back, absurd jumps), since its start.
    pub refused_samples: u64,
    /// CPU time that the agent itself used, nanoseconds.
    pub cpu_ns: u64,
    /// Memory of the agent's own cgroup, kernel maps included, bytes.
    pub memory_bytes: u64,
}

/// The aggregator's answer to a report.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReportReply {
    /// The versions that the aggregator reads, first and last.
    pub readable: (u32, u32),
    /// Sequence of the report that this answers, if it was accepted.
    pub accepted: Option<u64>,
    /// Addresses of all aggregator replicas; the agent pushes to each. Empty: only to this one.
    pub push_to: Vec<String>,
}

/// The pods that a node shall measure.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WatchList {
    /// The writer's [`VERSION`].
    pub version: u32,
    /// Differs whenever the list does; the agent asks for the next one by it.
    pub revision: u64,
    /// The pods, each once.
    pub pods: Vec<WatchedPod>,
}

/// A pod to measure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchedPod {
    /// The pod.
    pub uid: String,
    /// Its name, for labels.
    pub name: String,
    /// Its workload.
    pub workload: WorkloadId,
    /// Ports to measure; empty means every port.
    pub ports: Vec<u16>,
    /// Request lines of its probes (`GET /healthz HTTP/1.1`), counted apart.
    pub probes: Vec<String>,
}

impl WatchedPod {
    /// Whether the kernel is to measure the same as for `other`.
    pub(crate) fn measured_alike(&self, other: &Self) -> bool {
        self.ports == other.ports && self.probes == other.probes
    }
}
