//! What the API, the page and the metrics show: plain data with stable JSON names, made by `Cluster`.
//!
//! Units are in the names; times are `*_unix_ms` of the caller's wall clock, lengths seconds of the caller's clock,
//! latencies seconds of the kernel's clock, rates per second of the kernel's clock. `null` means "not known", never 0.

mod models;
mod scores;

use serde::Serialize;

use crate::merge::Latency;
use crate::world::{Mode, PodPhase};
pub use models::{Model, ModelGrid, Models};
pub use scores::{Errors, ModelScore, Score};

/// `/api/v1/workloads`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct List {
    /// Now.
    pub now_unix_ms: i64,
    /// Seconds of the caller's clock per real second; 1 in production.
    pub clock_speed: f64,
    /// Every workload that the target named, by namespace and name.
    pub workloads: Vec<Summary>,
    /// Every node that ever reported, by name.
    pub nodes: Vec<Node>,
}

/// A node's agent.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Node {
    /// Its name.
    pub node: String,
    /// Since its last report; `null`: all that came was refused.
    pub age_seconds: Option<f64>,
    /// Too long ago to act on.
    pub stale: bool,
}

/// Something that was asked for by annotations and is not done. `/api/v1/workloads` names those of all workloads, also of
/// such as are not taken on; `/api/v1/workloads/{namespace}/{name}` its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Refusal {
    /// Kubernetes namespace.
    pub namespace: String,
    /// The workload's name.
    pub name: String,
    /// `Deployment` or `StatefulSet`.
    pub kind: &'static str,
    /// The reason of its Event.
    pub reason: &'static str,
    /// What is wrong and the mend, for a person: the Event's text.
    pub sentence: String,
}

/// A workload in one row.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Summary {
    /// Kubernetes namespace.
    pub namespace: String,
    /// The Deployment's name.
    pub name: String,
    /// What Prescale may do.
    pub mode: Mode,
    /// Replicas: planned, asked for, serving.
    pub replicas: ReplicaCounts,
    /// Load now, requests/s over all pods.
    pub load_rps: Option<f64>,
    /// The limiter that had the last word.
    pub reason: Option<&'static str>,
    /// Why the plan is not carried out, if so.
    pub gate: Option<&'static str>,
    /// What is wrong, for a person; `null` when nothing is.
    pub warning: Option<String>,
}

/// Replicas of a workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct ReplicaCounts {
    /// What the plan wants; `null` before the first plan.
    pub wanted: Option<u32>,
    /// `spec.replicas`.
    pub current: u32,
    /// Pods that serve.
    pub ready: u32,
    /// Pods that don't serve yet.
    pub starting: u32,
    /// Pods that leave.
    pub terminating: u32,
}

/// `/api/v1/workloads/{namespace}/{name}`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Workload {
    /// Now.
    pub now_unix_ms: i64,
    /// Kubernetes namespace.
    pub namespace: String,
    /// The Deployment's name.
    pub name: String,
    /// Its settings.
    pub settings: Settings,
    /// Why it has the replicas it has, in one sentence.
    pub sentence: String,
    /// What is wrong, for a person; `null` when nothing is.
    pub warning: Option<String>,
    /// Replicas: planned, asked for, serving.
    pub replicas: ReplicaCounts,
    /// The load now.
    pub load: Load,
    /// What kind of load the last hour was: `idle`, `steady`, `trending`, `bursty`, `cron-like`; `null` in its first hour.
    pub regime: Option<&'static str>,
    /// Why the newest minute's load is not what it seems; `null`: it is.
    pub anomaly: Option<Anomaly>,
    /// Everything ever counted since the aggregator's start.
    pub totals: Totals,
    /// Latency over about the last ten seconds; `null` when nothing finished.
    pub latency: Option<LatencyQuantiles>,
    /// Its pods, by name.
    pub pods: Vec<Pod>,
    /// What was, oldest first, up to six hours; one row per [`Moment::length_seconds`].
    pub timeline: Vec<Moment>,
    /// What will be; `null` before the first forecast.
    pub forecast: Option<Forecast>,
    /// Who says so: each expert's share, per target. Empty before the first forecast was scored.
    pub weights: Vec<Weights>,
    /// How the forecasts have done, per target.
    pub scores: Vec<Score>,
    /// Where the network stands that may take part beside the experts, per grid that has one.
    pub heads: Vec<Head>,
    /// The newest plan; `null` before the first.
    pub plan: Option<Plan>,
    /// The last decisions, oldest first.
    pub decisions: Vec<Decision>,
    /// From decision to a new pod's first response.
    pub lead_time: LeadTime,
    /// What the plain HPA would have done on this load; `null` without a stated load per pod.
    pub hpa: Option<Hpa>,
}

/// The plain HPA beside us: default behaviour, the same bounds, no lag in its metric.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Hpa {
    /// The replicas that it would have now.
    pub replicas: u32,
    /// Its target: the stated load per pod less the headroom.
    pub target_rps_per_pod: f64,
}

/// A workload's settings.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Settings {
    /// What Prescale may do.
    pub mode: Mode,
    /// Never fewer.
    pub min_replicas: u32,
    /// Never more.
    pub max_replicas: u32,
    /// Load that one pod carries within the objective, as stated.
    pub rps_per_pod: Option<f64>,
    /// A request slower than this is slow.
    pub slo_seconds: Option<f64>,
    /// Spare capacity beyond the forecast's upper quantile, as a share.
    pub headroom: f64,
    /// Decide but do not act.
    pub paused: bool,
}

/// What the anomaly filter says of the newest minute.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Anomaly {
    /// `flood`, `synthetic` or `fault`.
    pub reason: &'static str,
    /// Whether nothing shrinks for it, and the forecasts of minutes take it for a gap.
    pub holds: bool,
    /// For a person.
    pub sentence: &'static str,
}

/// The load as measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Load {
    /// Requests that begin, per second, over all pods.
    pub load_rps: Option<f64>,
    /// Responses that end, per second.
    pub finish_rps: Option<f64>,
    /// Responses with a 5xx status, per second.
    pub error_rps: Option<f64>,
    /// Requests in flight, averaged over about a second.
    pub concurrency: Option<f64>,
    /// Requests in flight at the newest reports.
    pub in_flight: u64,
    /// The pods are saturated: more is asked than is counted.
    pub censored: bool,
    /// The nodes see a burst.
    pub burst: bool,
    /// Share of the ready pods that were measured lately.
    pub freshness: f64,
}

/// Cumulative counts over all pods, those gone included; never go back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Totals {
    /// Requests begun.
    pub starts: u64,
    /// Responses ended.
    pub finishes: Finishes,
    /// Requests whose connection ended before the response did.
    pub aborts: u64,
    /// Begun and neither ended nor aborted, at the newest reports.
    pub in_flight: u64,
    /// Payload bytes received.
    pub bytes_received: u64,
    /// Payload bytes sent.
    pub bytes_sent: u64,
    /// Connections that carried payload.
    pub connections_opened: u64,
    /// Segments seen again.
    pub retransmits: u64,
    /// Integral over time of the requests in flight.
    pub in_flight_seconds: f64,
}

/// Responses by status class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Finishes {
    /// All classes.
    pub all: u64,
    /// A status that could not be read.
    pub unknown: u64,
    /// 1xx.
    pub informational: u64,
    /// 2xx.
    pub success: u64,
    /// 3xx.
    pub redirection: u64,
    /// 4xx.
    pub client_error: u64,
    /// 5xx.
    pub server_error: u64,
}

/// First byte in to last byte out, as the pods' kernel saw it: queue wait included.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct LatencyQuantiles {
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

impl From<&Latency> for LatencyQuantiles {
    fn from(latency: &Latency) -> Self {
        Self {
            count: latency.count,
            mean_seconds: latency.mean_seconds,
            p50_seconds: latency.p50_seconds,
            p90_seconds: latency.p90_seconds,
            p95_seconds: latency.p95_seconds,
            p99_seconds: latency.p99_seconds,
        }
    }
}

/// One pod.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Pod {
    /// Unique for ever.
    pub uid: String,
    /// Its name.
    pub name: String,
    /// Its node.
    pub node: String,
    /// Where it is in its life; `null`: gone, with its last counters still counted.
    pub phase: Option<PodPhase>,
    /// `waiting`, `measured`, `not_measurable`.
    pub state: &'static str,
    /// Why it is not measured.
    pub state_reason: Option<&'static str>,
    /// Since its newest counters.
    pub age_seconds: Option<f64>,
    /// Requests that begin, per second.
    pub load_rps: Option<f64>,
    /// Requests in flight, averaged.
    pub concurrency: Option<f64>,
    /// Requests in flight at its newest report.
    pub in_flight: u64,
    /// 99th percentile of its latency.
    pub p99_seconds: Option<f64>,
    /// It is saturated.
    pub censored: bool,
}

/// One row of the past.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Moment {
    /// Its start.
    pub at_unix_ms: i64,
    /// Its length.
    pub length_seconds: u32,
    /// Mean load; `null` is a gap.
    pub load_rps: Option<f64>,
    /// Mean requests in flight.
    pub concurrency: Option<f64>,
    /// The load is a lower bound.
    pub censored: bool,
    /// Median latency.
    pub p50_seconds: Option<f64>,
    /// 99th percentile of the latency.
    pub p99_seconds: Option<f64>,
    /// What the plan wanted at its end.
    pub wanted: Option<u32>,
    /// `spec.replicas` at its end.
    pub current: Option<u32>,
    /// Pods that served at its end.
    pub ready: Option<u32>,
    /// What the plain HPA would have had at its end.
    pub hpa: Option<u32>,
}

/// The forecast, both grids together, nearest first.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Forecast {
    /// End of the newest measurement that it rests on.
    pub origin_unix_ms: i64,
    /// The probabilities of every `quantiles` array.
    pub levels: [f64; 5],
    /// Load at a time.
    pub at: Vec<ForecastPoint>,
    /// The largest load until a time: what pods are sized for.
    pub max_over: Vec<ForecastPoint>,
}

/// Quantiles for one target.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct ForecastPoint {
    /// From the origin.
    pub horizon_seconds: u32,
    /// Length of the means that it is about.
    pub bin_seconds: u32,
    /// requests/s at `levels`.
    pub quantiles: [f64; 5],
}

/// The experts' shares for one target.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Weights {
    /// From the origin.
    pub horizon_seconds: u32,
    /// Length of the means that it is about.
    pub bin_seconds: u32,
    /// The largest load until then, not the load then.
    pub max_over: bool,
    /// The experts.
    pub models: Vec<ModelWeight>,
}

/// One expert's share for one target.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct ModelWeight {
    /// Which model.
    pub name: &'static str,
    /// Whether its history suffices.
    pub awake: bool,
    /// Its share of the median.
    pub weight: f64,
    /// Its share of each quantile, in the order of [`Forecast::levels`].
    pub level_weights: [f64; 5],
}

/// The pooled network beside one grid's experts.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Head {
    /// Its name among the models: `gru`, `lstm` or `cnn`.
    pub model: &'static str,
    /// Length of the grid's bins.
    pub bin_seconds: u32,
    /// Whether the forecast is the mixture with it; otherwise it is the experts' alone.
    pub admitted: bool,
    /// Whether it was found to hurt within minutes, and has not made good for that since: it is not admitted meanwhile.
    pub demoted: bool,
    /// How often that ended an admission.
    pub demotions: u32,
    /// Records of what it would have gained; judged from 500 on.
    pub settled: u64,
    /// Mean gain over the last 500, as a share of the experts' usual pinball loss; `null` before the first verdict.
    pub gain: Option<f64>,
    /// The gain's 90 % block-bootstrap interval.
    pub gain_interval: Option<[f64; 2]>,
    /// Its share of the mixture's median, per target.
    pub shares: Vec<HeadShare>,
}

/// The network's share for one target.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct HeadShare {
    /// From the origin.
    pub horizon_seconds: u32,
    /// The largest load until then, not the load then.
    pub max_over: bool,
    /// Its share of the median; the experts have the rest.
    pub weight: f64,
}

/// A workload's plan with its reasons.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Plan {
    /// When it was made.
    pub at_unix_ms: i64,
    /// Replicas to have.
    pub wanted: u32,
    /// The limiter that had the last word.
    pub reason: &'static str,
    /// Why it is not carried out, if so.
    pub gate: Option<Gate>,
    /// Upper quantile of the largest load until new pods serve, requests/s.
    pub planned_for_rps: Option<f64>,
    /// That quantile's level.
    pub quantile: Option<f64>,
    /// How far it reaches.
    pub horizon_seconds: Option<u32>,
    /// The same over the time that a scale-in looks ahead.
    pub kept_for_rps: Option<f64>,
    /// How far that reaches.
    pub kept_for_seconds: Option<u32>,
    /// From decision to a new pod's first response, as planned for.
    pub lead_time_seconds: f64,
    /// Load that one pod carries; `null`: unknown.
    pub capacity_rps_per_pod: Option<f64>,
    /// How that is known.
    pub capacity_source: Option<&'static str>,
    /// The rate that the last seconds' counts prove, requests/s.
    pub measured_at_least_rps: f64,
    /// Requests that wait beyond the objective.
    pub backlog: f64,
    /// Each limiter that had a say, in order.
    pub limiters: Vec<Limiter>,
}

/// Why a plan is not carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Gate {
    /// Its label.
    pub name: &'static str,
    /// For a person.
    pub sentence: &'static str,
}

/// One limiter's say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Limiter {
    /// Its label.
    pub name: &'static str,
    /// Replicas before it.
    pub from: u32,
    /// Replicas after it.
    pub to: u32,
    /// For a person, with this plan's numbers.
    pub sentence: String,
}

/// One decision of the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Decision {
    /// When.
    pub at_unix_ms: i64,
    /// Replicas before.
    pub from: u32,
    /// Replicas after.
    pub to: u32,
    /// The limiter that had the last word.
    pub reason: &'static str,
    /// For a person, with that plan's numbers.
    pub sentence: String,
    /// `applied`, `conflict`, `failed`; `null` while it is under way.
    pub outcome: Option<&'static str>,
}

/// The measured lead time.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct LeadTime {
    /// What is planned for.
    pub planned_seconds: f64,
    /// The middle of what was measured.
    pub median_seconds: Option<f64>,
    /// Starts that were measured; with fewer than nine the prior, or the pods' own starts, still count.
    pub measured_starts: usize,
}
