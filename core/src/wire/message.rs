//! The protobuf messages and their field numbers. Numbers are never reused; new fields get new ones.
//!
//! Kept apart from the checked types so that nothing unchecked leaves `wire`.

use prost::{Message, Oneof};

#[derive(Clone, PartialEq, Message)]
pub(super) struct NodeReport {
    #[prost(uint32, tag = "1")]
    pub(super) version: u32,
    #[prost(string, tag = "2")]
    pub(super) node: String,
    #[prost(string, tag = "3")]
    pub(super) boot_id: String,
    #[prost(int64, tag = "4")]
    pub(super) agent_start_ms: i64,
    #[prost(uint64, tag = "5")]
    pub(super) sequence: u64,
    #[prost(int64, tag = "6")]
    pub(super) sent_ms: i64,
    #[prost(message, repeated, tag = "7")]
    pub(super) workloads: Vec<NodeWorkload>,
    #[prost(message, repeated, tag = "8")]
    pub(super) pods: Vec<PodReport>,
    #[prost(message, optional, tag = "9")]
    pub(super) agent: Option<AgentHealth>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct NodeWorkload {
    #[prost(string, tag = "1")]
    pub(super) namespace: String,
    #[prost(string, tag = "2")]
    pub(super) name: String,
    #[prost(message, optional, tag = "3")]
    pub(super) forecast: Option<LocalForecast>,
    #[prost(message, optional, tag = "4")]
    pub(super) burst: Option<Burst>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct LocalForecast {
    #[prost(uint32, tag = "1")]
    pub(super) pods: u32,
    #[prost(int64, tag = "2")]
    pub(super) origin: i64,
    #[prost(uint32, tag = "3")]
    pub(super) step_seconds: u32,
    #[prost(message, repeated, tag = "4")]
    pub(super) points: Vec<ForecastPoint>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ForecastPoint {
    #[prost(oneof = "Target", tags = "1, 2")]
    pub(super) target: Option<Target>,
    /// At `prescale_models::LEVELS`, requests/s.
    #[prost(float, repeated, tag = "3")]
    pub(super) values: Vec<f32>,
}

#[derive(Clone, Copy, PartialEq, Eq, Oneof)]
pub(super) enum Target {
    #[prost(uint32, tag = "1")]
    At(u32),
    #[prost(uint32, tag = "2")]
    MaxOver(u32),
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct Burst {
    #[prost(int64, tag = "1")]
    pub(super) since_ms: i64,
    #[prost(double, tag = "2")]
    pub(super) rate: f64,
    #[prost(double, tag = "3")]
    pub(super) baseline: f64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct PodReport {
    #[prost(string, tag = "1")]
    pub(super) uid: String,
    #[prost(uint32, tag = "2")]
    pub(super) workload: u32,
    #[prost(uint32, tag = "3")]
    pub(super) attach_generation: u32,
    /// 0 waiting, 1 measured, 2 and up: not measurable, by reason.
    #[prost(uint32, tag = "4")]
    pub(super) state: u32,
    #[prost(int64, tag = "5")]
    pub(super) read_ms: i64,
    #[prost(message, optional, tag = "6")]
    pub(super) counters: Option<Counters>,
    #[prost(message, optional, tag = "7")]
    pub(super) resources: Option<Resources>,
    /// 0 not censored, else the reason.
    #[prost(uint32, tag = "8")]
    pub(super) censored: u32,
    #[prost(bool, tag = "9")]
    pub(super) last: bool,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Counters {
    #[prost(uint64, tag = "1")]
    pub(super) read_at_ns: u64,
    #[prost(uint64, tag = "2")]
    pub(super) starts: u64,
    /// Per status class; trailing zeros left out.
    #[prost(uint64, repeated, tag = "3")]
    pub(super) finishes: Vec<u64>,
    #[prost(uint64, tag = "4")]
    pub(super) aborts: u64,
    #[prost(uint64, tag = "5")]
    pub(super) in_flight_integral_ns: u64,
    #[prost(uint64, tag = "6")]
    pub(super) bytes_received: u64,
    #[prost(uint64, tag = "7")]
    pub(super) bytes_sent: u64,
    #[prost(uint64, tag = "8")]
    pub(super) connections_opened: u64,
    #[prost(uint64, tag = "9")]
    pub(super) connections_closed: u64,
    #[prost(uint64, tag = "10")]
    pub(super) retransmits: u64,
    /// Per reason; trailing zeros left out.
    #[prost(uint64, repeated, tag = "11")]
    pub(super) unaccounted: Vec<u64>,
    #[prost(message, optional, tag = "12")]
    pub(super) first_byte: Option<Histogram>,
    /// Per status class; trailing empty ones left out.
    #[prost(message, repeated, tag = "13")]
    pub(super) last_byte: Vec<Histogram>,
    #[prost(uint64, tag = "14")]
    pub(super) bytes_unread: u64,
    #[prost(uint64, tag = "15")]
    pub(super) probe_starts: u64,
    #[prost(uint64, tag = "16")]
    pub(super) probe_finishes: u64,
}

/// The buckets that are not 0, ascending: how far each is beyond the one before, and its count.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Histogram {
    #[prost(uint32, repeated, tag = "1")]
    pub(super) steps: Vec<u32>,
    #[prost(uint64, repeated, tag = "2")]
    pub(super) counts: Vec<u64>,
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(super) struct Resources {
    #[prost(uint64, tag = "1")]
    pub(super) cpu_ns: u64,
    #[prost(uint64, tag = "2")]
    pub(super) throttled_ns: u64,
    #[prost(uint64, tag = "3")]
    pub(super) memory_bytes: u64,
    #[prost(message, optional, tag = "4")]
    pub(super) pressure: Option<Pressure>,
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(super) struct Pressure {
    #[prost(uint64, tag = "1")]
    pub(super) cpu_ns: u64,
    #[prost(uint64, tag = "2")]
    pub(super) memory_ns: u64,
    #[prost(uint64, tag = "3")]
    pub(super) io_ns: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(super) struct AgentHealth {
    #[prost(uint32, tag = "1")]
    pub(super) attached: u32,
    #[prost(uint64, tag = "2")]
    pub(super) attach_failures: u64,
    #[prost(uint64, tag = "3")]
    pub(super) refused_samples: u64,
    #[prost(uint64, tag = "4")]
    pub(super) cpu_ns: u64,
    #[prost(uint64, tag = "5")]
    pub(super) memory_bytes: u64,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct ReportReply {
    #[prost(uint32, tag = "1")]
    pub(super) readable_first: u32,
    #[prost(uint32, tag = "2")]
    pub(super) readable_last: u32,
    #[prost(uint64, optional, tag = "3")]
    pub(super) accepted: Option<u64>,
    #[prost(string, repeated, tag = "4")]
    pub(super) push_to: Vec<String>,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct WatchList {
    #[prost(uint32, tag = "1")]
    pub(super) version: u32,
    #[prost(uint64, tag = "2")]
    pub(super) revision: u64,
    #[prost(message, repeated, tag = "3")]
    pub(super) pods: Vec<WatchedPod>,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct WatchedPod {
    #[prost(string, tag = "1")]
    pub(super) uid: String,
    #[prost(string, tag = "2")]
    pub(super) name: String,
    #[prost(string, tag = "3")]
    pub(super) namespace: String,
    #[prost(string, tag = "4")]
    pub(super) workload: String,
    #[prost(uint32, repeated, tag = "5")]
    pub(super) ports: Vec<u32>,
    #[prost(string, repeated, tag = "6")]
    pub(super) probes: Vec<String>,
}
