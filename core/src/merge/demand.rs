//! What is asked of a workload, as the planner and the views read it.

use prescale_models::Forecast;
use thiserror::Error;

use crate::counters::{CLASSES, Histogram};
use crate::time::Wall;
use crate::units::{Concurrency, RequestsPerSecond};
use crate::wire::{Censored, NotMeasurable, PodState};
use crate::world::PodPhase;

/// The demand of one workload as of now.
#[derive(Clone, Debug, PartialEq)]
pub struct Demand {
    /// Requests that begin, per second of the kernel's clock, summed over all pods, those that leave included; pods
    /// that are ready and unheard are taken to do what the heard ones do. `None`: nothing is known ([`Self::hold`]).
    pub rate: Option<RequestsPerSecond>,
    /// Responses that end, likewise.
    pub finish_rate: Option<RequestsPerSecond>,
    /// Finishes per second with a 5xx status, likewise.
    pub error_rate: Option<RequestsPerSecond>,
    /// Requests in flight, averaged over the last report's second, likewise.
    pub concurrency: Option<Concurrency>,
    /// Requests in flight at the last reports: the backlog to be drained, where there is one.
    pub in_flight: u64,
    /// Latency over about the last ten seconds; `None` when nothing finished.
    pub latency: Option<Latency>,
    /// The served rate is a lower bound of what is asked, and why.
    pub censored: Option<Censored>,
    /// Share of the ready pods with a report that is fresh; 1 when no pod is ready.
    pub freshness: f64,
    /// Why nobody may scale in on this.
    pub hold: Option<Hold>,
    /// Every pod that is known, by uid.
    pub pods: Vec<PodLoad>,
    /// The nodes' forecasts, merged and scaled to all ready pods.
    pub local_forecast: Option<Forecast>,
    /// A jump that nodes saw and the sum over the nodes confirms.
    pub burst: Option<MergedBurst>,
}

/// Latency quantiles, seconds of the kernel's clock, first byte in to last byte out.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Latency {
    /// Requests that this is about.
    pub count: u64,
    /// Mean.
    pub mean_seconds: f64,
    /// Median.
    pub p50_seconds: f64,
    /// 90 %.
    pub p90_seconds: f64,
    /// 95 %.
    pub p95_seconds: f64,
    /// 99 %.
    pub p99_seconds: f64,
}

impl Latency {
    /// The quantiles of a histogram, `None` when it is empty.
    pub fn of(histogram: &Histogram) -> Option<Self> {
        let [p50_seconds, p90_seconds, p95_seconds, p99_seconds] =
            histogram.quantiles_seconds([0.5, 0.9, 0.95, 0.99])?;
        let (count, mean_seconds) = (histogram.count(), histogram.mean_seconds()?);
        Some(Self { count, mean_seconds, p50_seconds, p90_seconds, p95_seconds, p99_seconds })
    }
}

/// The load of one pod.
#[derive(Clone, Debug, PartialEq)]
pub struct PodLoad {
    /// Which pod.
    pub uid: String,
    /// The node that reported it, or that it is bound to.
    pub node: String,
    /// Where it is in its life; `None`: the target does not know it (any more).
    pub phase: Option<PodPhase>,
    /// Whether it is measured.
    pub state: PodState,
    /// Age of its newest counters, seconds; `None`: never heard of.
    pub age_seconds: Option<f64>,
    /// Requests that began, per second, over its newest report's second; `None`: unknown or stale.
    pub rate: Option<RequestsPerSecond>,
    /// Requests in flight, averaged over that time.
    pub concurrency: Option<Concurrency>,
    /// Requests in flight at its newest report.
    pub in_flight: u64,
    /// Latency over its newest report's second.
    pub latency: Option<Latency>,
    /// Its served rate is a lower bound.
    pub censored: Option<Censored>,
}

/// Why nothing may shrink: data are missing, stale or impossible.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum Hold {
    /// No report of any ready pod yet.
    #[error("no report yet")]
    NoReports,
    /// Too few of the ready pods reported lately.
    #[error("{fresh} of {ready} ready pods reported within {within_seconds} s")]
    Stale {
        /// Ready pods with a fresh report.
        fresh: usize,
        /// Ready pods.
        ready: usize,
        /// What counts as fresh.
        within_seconds: f64,
    },
    /// A ready pod can't be measured.
    #[error("pod {uid} is not measurable: {reason:?}")]
    NotMeasurable {
        /// Which.
        uid: String,
        /// Why.
        reason: NotMeasurable,
    },
    /// Much of what the pods receive is on connections whose requests can't be read.
    #[error(
        "{:.0} % of the bytes that the pods receive are TLS, HTTP/2, WebSocket or no HTTP, so their load is not known; \
         name the plain HTTP port if there is one",
        .share * 100.0
    )]
    Unread {
        /// Of the bytes received.
        share: f64,
    },
    /// A node's clock is impossibly far from ours; its reports are not used.
    #[error("clock of node {node} is off by {off_seconds} s{}", .unit.map_or("", |u| u.hint()))]
    Clock {
        /// Which.
        node: String,
        /// How far, seconds; positive: ahead of us.
        off_seconds: i64,
        /// The unit that its timestamps seem to be in.
        unit: Option<WrongUnit>,
    },
    /// A pod's counters fell or jumped beyond what a pod can do.
    #[error("counters of pod {uid} are impossible")]
    Counters {
        /// Which.
        uid: String,
    },
    /// A node's pods report far more or less than their siblings elsewhere; they are not used.
    #[error("pods of node {node} report {ratio:.1} times the load of their siblings")]
    FarFromSiblings {
        /// Which.
        node: String,
        /// How far.
        ratio: f64,
    },
}

/// A unit that timestamps were written in instead of milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WrongUnit {
    /// Seconds.
    Seconds,
    /// Microseconds.
    Microseconds,
    /// Nanoseconds.
    Nanoseconds,
}

impl WrongUnit {
    /// For messages.
    pub fn hint(self) -> &'static str {
        match self {
            Self::Seconds => " (seconds where milliseconds belong?)",
            Self::Microseconds => " (microseconds where milliseconds belong?)",
            Self::Nanoseconds => " (nanoseconds where milliseconds belong?)",
        }
    }
}

/// Nodes that saw a jump, summed over all nodes of the workload.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MergedBurst {
    /// When the first of them saw it, by its clock.
    pub since: Wall,
    /// Rate now, requests/s, all pods.
    pub rate: f64,
    /// Rate before, requests/s, all pods.
    pub baseline: f64,
}

/// One closed second of a workload.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Second {
    /// Unix seconds of its start.
    pub unix_seconds: i64,
    /// Mean load; `None` is a gap: too few pods were heard.
    pub load: Option<RequestsPerSecond>,
    /// Mean requests in flight; a gap where `load` is one.
    pub concurrency: Option<Concurrency>,
    /// The load is a lower bound.
    pub censored: bool,
}

/// Cumulative totals of a workload: never go back, across pod death and agent restart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Requests begun.
    pub starts: u64,
    /// Responses ended, per [`crate::counters::StatusClass`].
    pub finishes: [u64; CLASSES],
    /// Requests whose connection ended first.
    pub aborts: u64,
    /// Integral of requests in flight, nanoseconds.
    pub in_flight_integral_ns: u64,
    /// Payload bytes received.
    pub bytes_received: u64,
    /// Payload bytes sent.
    pub bytes_sent: u64,
    /// Connections that carried payload.
    pub connections_opened: u64,
    /// Segments seen again.
    pub retransmits: u64,
    /// First byte in to last byte out, all classes.
    pub last_byte: Histogram,
}

/// Why a report was refused as a whole.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum Refused {
    /// Its timestamps are impossible.
    #[error("{0}")]
    Clock(Hold),
    /// More nodes than one aggregator takes.
    #[error("more than {limit} nodes")]
    TooManyNodes {
        /// The limit.
        limit: usize,
    },
}
