//! Every metric of the aggregator by name: its own work here, the workloads' state in `metrics/workloads.rs`,
//! how their forecasts have done in `metrics/scores.rs` and, of every model, in `metrics/models.rs`.
//!
//! Labels are enums, nodes or workloads, never text from outside: the number of series is bounded by the cluster.

mod models;
mod scores;
mod workloads;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prescale_core::cluster::Accepted;
use prescale_core::plan::Decision;
use prescale_core::world::WorkloadId;
use prescale_shell::clock::Clock;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use crate::control::checkpoints::{OUTCOMES, Source};
use crate::ingest::Refusal;
use crate::target::TargetError;
use crate::training::Outcome;
use models::Models;
pub use workloads::Snapshot;
use workloads::Workloads;

/// The registry and handles to what the aggregator counts itself.
#[derive(Debug)]
pub struct Metrics {
    /// What `/metrics` renders.
    pub registry: Registry,
    /// What `/metrics/models` renders.
    pub models: Registry,
    /// Reports taken in.
    pub reports_accepted: Counter,
    reports_refused: Family<ReasonLabel, Counter>,
    pods_ignored: Family<ReasonLabel, Counter>,
    /// Long polls for watch lists that wait.
    pub watches_waiting: Gauge,
    /// Duration of a tick, real seconds.
    pub tick_seconds: Histogram,
    /// Rules that finished plans broke.
    pub plan_violations: Counter,
    /// 1 while the target answers.
    pub target_up: Gauge,
    /// Whether this replica may write.
    pub leads: Gauge,
    target_errors: Family<ReasonLabel, Counter>,
    writes: Family<OutcomeLabel, Counter>,
    /// Duration of a write to the target, real seconds.
    pub write_seconds: Histogram,
    /// Writes under way.
    pub writes_in_flight: Gauge,
    /// When the store last held the state of every workload, Unix seconds.
    saved: Gauge<f64, AtomicU64>,
    /// What a tick spends on saving its share of the workloads, real seconds.
    pub checkpoint_seconds: Histogram,
    /// Duration of a write to the store, real seconds.
    pub checkpoint_write_seconds: Histogram,
    /// Bytes written to the store.
    pub checkpoint_bytes: Counter,
    /// Shares that did not reach the store.
    pub checkpoints_failed: Counter,
    restores: Family<RestoreLabels, Counter>,
    /// 1 while a training runs.
    pub training_runs: Gauge,
    /// Work of trainings, real seconds.
    pub training_seconds: Counter<f64, AtomicU64>,
    /// Workloads that run trees of their own.
    pub own_trees: Gauge,
    weights_version: Family<ModelLabel, Gauge>,
    trainings: Family<OutcomeLabel, Counter>,
    trained: Gauge<f64, AtomicU64>,
    training_gain: Family<GainLabels, Gauge<f64, AtomicU64>>,
    decisions: Family<DecisionLabels, Counter>,
    counted: Mutex<BTreeMap<WorkloadId, BTreeSet<DecisionLabels>>>,
    workloads: Arc<Workloads>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabel {
    reason: Name,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabel {
    outcome: Name,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, EncodeLabelSet)]
struct DecisionLabels {
    namespace: String,
    workload: String,
    direction: Name,
    reason: Name,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ModelLabel {
    model: Name,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct GainLabels {
    model: Name,
    bound: Name,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RestoreLabels {
    source: Name,
    outcome: Name,
}

fn restore_labels(source: Source, outcome: &'static str) -> RestoreLabels {
    RestoreLabels { source: Name(source.name()), outcome: Name(outcome) }
}

/// A name that the code knows: no text from outside can become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Name(&'static str);

impl EncodeLabelValue for Name {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
        EncodeLabelValue::encode(&self.0, encoder)
    }
}

/// A tick of 10,000 workloads may take its second; ten times that is a fault.
const TICK_BUCKETS: [f64; 10] = [0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0];
/// A write takes a round trip; the client gives up after 10 s.
const WRITE_BUCKETS: [f64; 9] = [0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0];

impl Default for Metrics {
    /// All metrics, registered, every label value of a known set at 0.
    fn default() -> Self {
        let mut it = Self {
            registry: Registry::default(),
            models: Registry::default(),
            reports_accepted: Counter::default(),
            reports_refused: Family::default(),
            pods_ignored: Family::default(),
            watches_waiting: Gauge::default(),
            tick_seconds: Histogram::new(TICK_BUCKETS),
            plan_violations: Counter::default(),
            target_up: Gauge::default(),
            leads: Gauge::default(),
            target_errors: Family::default(),
            writes: Family::default(),
            write_seconds: Histogram::new(WRITE_BUCKETS),
            writes_in_flight: Gauge::default(),
            saved: Gauge::default(),
            checkpoint_seconds: Histogram::new(TICK_BUCKETS),
            checkpoint_write_seconds: Histogram::new(TICK_BUCKETS),
            checkpoint_bytes: Counter::default(),
            checkpoints_failed: Counter::default(),
            restores: Family::default(),
            training_runs: Gauge::default(),
            training_seconds: Counter::default(),
            own_trees: Gauge::default(),
            weights_version: Family::default(),
            trainings: Family::default(),
            trained: Gauge::default(),
            training_gain: Family::default(),
            decisions: Family::default(),
            counted: Mutex::default(),
            workloads: Arc::new(Workloads::default()),
        };
        it.register();
        for refusal in Refusal::ALL {
            it.reports_refused.get_or_create(&ReasonLabel { reason: Name(refusal.name()) }).inc_by(0);
        }
        for reason in [UNKNOWN, IMPOSSIBLE] {
            it.pods_ignored.get_or_create(&ReasonLabel { reason: Name(reason) }).inc_by(0);
        }
        for reason in TargetError::NAMES {
            it.target_errors.get_or_create(&ReasonLabel { reason: Name(reason) }).inc_by(0);
            it.writes.get_or_create(&OutcomeLabel { outcome: Name(reason) }).inc_by(0);
        }
        it.writes.get_or_create(&OutcomeLabel { outcome: Name(APPLIED) }).inc_by(0);
        for outcome in Outcome::ALL {
            it.trainings.get_or_create(&OutcomeLabel { outcome: Name(outcome.name()) }).inc_by(0);
        }
        for source in Source::ALL {
            for outcome in OUTCOMES {
                it.restores.get_or_create(&restore_labels(source, outcome)).inc_by(0);
            }
        }
        it
    }
}

impl Metrics {
    fn register(&mut self) {
        let registry = &mut self.registry;
        registry.register(
            "prescale_aggregator_build",
            "The running build",
            Info::new([("version", env!("CARGO_PKG_VERSION"))]),
        );
        registry.register(
            "prescale_aggregator_reports_accepted",
            "Reports of agents taken in",
            self.reports_accepted.clone(),
        );
        registry.register(
            "prescale_aggregator_reports_refused",
            "Reports of agents refused, by reason",
            self.reports_refused.clone(),
        );
        registry.register(
            "prescale_aggregator_report_pods_ignored",
            "Pods in reports that were taken, whose counters were not, by reason",
            self.pods_ignored.clone(),
        );
        registry.register(
            "prescale_aggregator_watches_waiting",
            "Long polls of agents for their watch list that wait for a change",
            self.watches_waiting.clone(),
        );
        registry.register(
            "prescale_aggregator_tick_duration_seconds",
            "Real time of one tick: demand, forecasts and plans of all workloads",
            self.tick_seconds.clone(),
        );
        registry.register(
            "prescale_aggregator_plan_violations",
            "Rules that finished plans broke; such a plan is refused, and more than 0 is a mistake of ours",
            self.plan_violations.clone(),
        );
        registry.register(
            "prescale_aggregator_leads",
            "1 while this replica may write: it holds the Lease, or the target needs none",
            self.leads.clone(),
        );
        registry.register(
            "prescale_aggregator_target_up",
            "1 while the target answers; while it does not, everything holds",
            self.target_up.clone(),
        );
        registry.register(
            "prescale_aggregator_target_errors",
            "Reads of the target's world that failed, by reason",
            self.target_errors.clone(),
        );
        registry.register(
            "prescale_aggregator_writes",
            "Writes of replicas to the target, by outcome",
            self.writes.clone(),
        );
        registry.register(
            "prescale_aggregator_write_duration_seconds",
            "Real time of one write to the target",
            self.write_seconds.clone(),
        );
        registry.register(
            "prescale_aggregator_writes_in_flight",
            "Writes under way, at most one per workload",
            self.writes_in_flight.clone(),
        );
        registry.register(
            "prescale_aggregator_checkpoint_timestamp_seconds",
            "When the store last held the state of every workload; 0 before the first time",
            self.saved.clone(),
        );
        registry.register(
            "prescale_aggregator_checkpoint_duration_seconds",
            "Real time that a tick spends on encoding the state of its share of the workloads",
            self.checkpoint_seconds.clone(),
        );
        registry.register(
            "prescale_aggregator_checkpoint_write_duration_seconds",
            "Real time of one write of state to the store, in the background",
            self.checkpoint_write_seconds.clone(),
        );
        registry.register(
            "prescale_aggregator_checkpoint_bytes",
            "Bytes of state written to the store",
            self.checkpoint_bytes.clone(),
        );
        registry.register(
            "prescale_aggregator_checkpoint_failures",
            "Writes of state that did not reach the store",
            self.checkpoints_failed.clone(),
        );
        registry.register(
            "prescale_aggregator_restores",
            "Workloads that were given their saved state back, or not, by source and outcome",
            self.restores.clone(),
        );
        registry.register(
            "prescale_aggregator_training_runs",
            "1 while a training runs",
            self.training_runs.clone(),
        );
        registry.register(
            "prescale_aggregator_training_seconds",
            "Real time that trainings have worked, rests not counted",
            self.training_seconds.clone(),
        );
        registry.register(
            "prescale_aggregator_trainings",
            "Trainings that ended, by outcome",
            self.trainings.clone(),
        );
        registry.register(
            "prescale_aggregator_training_timestamp_seconds",
            "When a training ended last; 0 before the first",
            self.trained.clone(),
        );
        registry.register(
            "prescale_aggregator_training_gain_ratio",
            "What a model's last training gained on those that ran, as a share of their loss: mean and interval",
            self.training_gain.clone(),
        );
        registry.register(
            "prescale_aggregator_own_trees",
            "Workloads that run trees of their own",
            self.own_trees.clone(),
        );
        registry.register(
            "prescale_aggregator_weights_version",
            "Version of a head's network that runs; 0 is the one that ships",
            self.weights_version.clone(),
        );
        registry.register(
            "prescale_aggregator_decisions",
            "Decisions to change replicas, by workload, direction and the limiter that had the last word",
            self.decisions.clone(),
        );
        registry.register_collector(Box::new(Arc::clone(&self.workloads)));
        self.models.register_collector(Box::new(Models(Arc::clone(&self.workloads))));
    }

    /// What the next rendering of either shows of the workloads.
    pub fn show(&self, snapshot: Snapshot) {
        self.workloads.show(snapshot);
    }

    /// A report was refused.
    pub fn refused(&self, refusal: Refusal) {
        self.reports_refused.get_or_create(&ReasonLabel { reason: Name(refusal.name()) }).inc();
    }

    /// A report was taken, and what it says of some pods was not.
    pub fn pods_ignored(&self, accepted: &Accepted) {
        for (reason, count) in [(UNKNOWN, accepted.unknown), (IMPOSSIBLE, accepted.impossible)] {
            self.pods_ignored.get_or_create(&ReasonLabel { reason: Name(reason) }).inc_by(count as u64);
        }
    }

    /// The target gave no world.
    pub fn target_failed(&self, error: &TargetError) {
        self.target_up.set(0);
        self.target_errors.get_or_create(&ReasonLabel { reason: Name(error.name()) }).inc();
    }

    /// A write ended.
    pub fn written(&self, result: &Result<u64, TargetError>, took: Duration) {
        let outcome = Name(result.as_ref().map_or_else(TargetError::name, |_| APPLIED));
        self.writes.get_or_create(&OutcomeLabel { outcome }).inc();
        self.write_seconds.observe(took.as_secs_f64());
    }

    /// The store holds the state of every workload.
    pub fn saved_now(&self) {
        self.saved.set(Clock::real().now().wall.0 as f64 / 1000.0);
    }

    /// This version of this network runs.
    pub fn weights_run(&self, model: &'static str, version: u32) {
        self.weights_version.get_or_create(&ModelLabel { model: Name(model) }).set(version.into());
    }

    /// A training of this model ended.
    pub fn trained(&self, model: &'static str, outcome: Outcome, gain: Option<[f64; 3]>) {
        self.trainings.get_or_create(&OutcomeLabel { outcome: Name(outcome.name()) }).inc();
        self.trained.set(Clock::real().now().wall.0 as f64 / 1000.0);
        for (bound, gain) in ["mean", "low", "high"].into_iter().zip(gain.into_iter().flatten()) {
            self.training_gain
                .get_or_create(&GainLabels { model: Name(model), bound: Name(bound) })
                .set(gain);
        }
    }

    /// A workload's state was restored, or not.
    pub fn restored(&self, source: Source, outcome: &'static str) {
        self.restores.get_or_create(&restore_labels(source, outcome)).inc();
    }

    /// Something was decided.
    pub fn decided(&self, decision: &Decision) {
        let labels = DecisionLabels {
            namespace: decision.workload.namespace.clone(),
            workload: decision.workload.name.clone(),
            direction: Name(if decision.replicas > decision.replicas_before { "out" } else { "in" }),
            reason: Name(decision.reason.name()),
        };
        self.decisions.get_or_create(&labels).inc();
        let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        counted.entry(decision.workload.clone()).or_default().insert(labels);
    }

    /// Drops the counters of workloads that are gone, so that names that come and go don't pile up.
    pub fn keep_only(&self, exist: &BTreeSet<&WorkloadId>) {
        let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        counted.retain(|id, labels| {
            let keep = exist.contains(id);
            for gone in labels.iter().filter(|_| !keep) {
                self.decisions.remove(gone);
            }
            keep
        });
    }
}

const APPLIED: &str = "applied";
/// Why what a report says of a pod is not taken.
const UNKNOWN: &str = "unknown";
const IMPOSSIBLE: &str = "impossible";
