//! The node's brain: which pods to measure, their samples, the local forecast, the burst flag, the report.

use prescale_models::Forecast;

use crate::counters::Counters;
use crate::time::Wall;
use crate::wire::Resources;

/// What a node expects of one workload: the sum over the node's measured pods.
#[derive(Clone, Debug, PartialEq)]
pub struct LocalForecast {
    /// Pods that the forecast is about.
    pub pods: u32,
    /// Requests/s on the node's own grid.
    pub forecast: Forecast,
}

/// Who the node is, and how it works.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeSettings {
    /// The node's name.
    pub node: String,
    /// The kernel's boot id.
    pub boot_id: String,
    /// When this agent process started.
    pub agent_start: Wall,
}

/// What the shell read of one pod, this poll.
#[derive(Clone, Debug, PartialEq)]
pub struct Reading {
    /// The pod.
    pub uid: String,
    /// What its kernel maps say.
    pub counters: Counters,
    /// What its cgroup says.
    pub resources: Resources,
}

/// What the shell is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Attach to the directory, then call `attached` or `attach_failed`.
    Attach {
        /// The pod.
        uid: String,
        /// Its cgroup directory, as `found` was told.
        directory: String,
        /// Ports to measure; empty means every port.
        ports: Vec<u16>,
    },
    /// Read the pod's counters once more into the next `tick`, then free its links and its slot.
    Release {
        /// The pod.
        uid: String,
    },
}
