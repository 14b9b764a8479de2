//! What the callers saw and what the pods cost.

use prescale_agent_ebpf::histogram::bucket_of;
use prescale_core::counters::Histogram;

use super::pod::{Ended, Nanos, SECOND};

/// A change of `spec.replicas`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScaleEvent {
    /// When.
    pub at: Nanos,
    /// From how many.
    pub before: u32,
    /// To how many.
    pub after: u32,
}

/// Sums over a run.
#[derive(Clone, Debug)]
pub struct Tally {
    objective_ns: Nanos,
    arrivals: u64,
    slow: u64,
    failed: u64,
    latencies: Histogram,
    pod_ns: u128,
    pods: usize,
    since: Nanos,
    /// Every change of `spec.replicas`.
    pub scale_events: Vec<ScaleEvent>,
}

impl Tally {
    /// Nothing yet; a request over `objective_seconds` is slow.
    pub fn new(objective_seconds: f64) -> Self {
        Self {
            objective_ns: (objective_seconds * 1e9) as Nanos,
            arrivals: 0,
            slow: 0,
            failed: 0,
            latencies: Histogram::default(),
            pod_ns: 0,
            pods: 0,
            since: 0,
            scale_events: Vec::new(),
        }
    }

    pub(super) fn arrived(&mut self) {
        self.arrivals += 1;
    }

    pub(super) fn refused(&mut self) {
        self.failed += 1;
        self.slow += 1;
        self.latencies.0[bucket_of(Nanos::MAX)] += 1;
    }

    pub(super) fn ended(&mut self, ended: Ended) {
        if !ended.complete {
            self.refused();
            return;
        }
        self.slow += u64::from(ended.latency > self.objective_ns);
        self.latencies.0[bucket_of(ended.latency)] += 1;
    }

    pub(super) fn pods(&mut self, now: Nanos, pods: usize) {
        self.pod_ns += u128::from(now - self.since) * self.pods as u128;
        (self.pods, self.since) = (pods, now);
    }

    pub(super) fn scaled(&mut self, at: Nanos, before: u32, after: u32) {
        self.scale_events.push(ScaleEvent { at, before, after });
    }

    /// Requests that were asked, tries each counted.
    pub fn arrivals(&self) -> u64 {
        self.arrivals
    }

    /// Requests that found no pod, were given up or cut off.
    pub fn failed(&self) -> u64 {
        self.failed
    }

    /// Requests over the objective or failed.
    pub fn slow(&self) -> u64 {
        self.slow
    }

    /// Share of slow requests.
    pub fn slow_share(&self) -> f64 {
        self.slow as f64 / (self.arrivals as f64).max(1.0)
    }

    /// Latency that 99 % did not exceed, seconds; a failed request counts as the slowest there is.
    pub fn p99_seconds(&self) -> f64 {
        self.latencies.quantile_seconds(0.99).unwrap_or(0.0)
    }

    /// Seconds that pods existed until `now`, summed.
    pub fn pod_seconds(&self, now: Nanos) -> f64 {
        let open = u128::from(now - self.since) * self.pods as u128;
        ((self.pod_ns + open) / u128::from(SECOND / 1000)) as f64 / 1000.0
    }
}
