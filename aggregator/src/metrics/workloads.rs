//! The workloads' state as metrics, read from `core::view` at each scrape: one table, one line per metric.

use std::fmt::Error;
use std::sync::{Arc, Mutex, PoisonError};

use prescale_core::view;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::metrics::MetricType;

use super::scores;

/// What the last scrape asked for.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// Every node that reported.
    pub nodes: Vec<view::Node>,
    /// Every workload.
    pub workloads: Vec<view::Workload>,
}

/// Renders the snapshot.
#[derive(Debug, Default)]
pub(super) struct Workloads(Mutex<Arc<Snapshot>>);

pub(super) type Labels<'a> = Vec<(&'static str, std::borrow::Cow<'a, str>)>;
/// Of exemplars, which these counters don't have.
type NoLabels = Vec<(String, String)>;
type One = fn(&view::Workload) -> Option<f64>;
/// Adds each further label set with its value.
pub(super) type Many = for<'a> fn(&'a view::Workload, &mut dyn FnMut(Labels<'a>, f64));
/// The same of counters.
pub(super) type ManyCounts = for<'a> fn(&'a view::Workload, &mut dyn FnMut(Labels<'a>, u64));

/// Gauges with the labels namespace and workload; left out while the value is not known.
const GAUGES: &[(&str, &str, One)] = &[
    ("prescale_aggregator_load_requests_per_second", "Load now, summed over pods", |w| w.load.load_rps),
    (
        "prescale_aggregator_load_is_lower_bound",
        "1 while the pods are saturated: more is asked than is counted",
        |w| Some(flag(w.load.censored)),
    ),
    ("prescale_aggregator_burst", "1 while the nodes see a burst", |w| Some(flag(w.load.burst))),
    ("prescale_aggregator_concurrency_requests", "Requests in flight, averaged over about a second", |w| {
        w.load.concurrency
    }),
    ("prescale_aggregator_measured_pods_ratio", "Share of the ready pods that were measured lately", |w| {
        Some(w.load.freshness)
    }),
    (
        "prescale_aggregator_planned_requests_per_second",
        "Load that is planned for: the upper quantile of the largest load until new pods serve",
        |w| w.plan.as_ref()?.planned_for_rps,
    ),
    (
        "prescale_aggregator_pod_capacity_requests_per_second",
        "Load that one pod carries within the objective",
        |w| w.plan.as_ref()?.capacity_rps_per_pod,
    ),
    (
        "prescale_aggregator_hpa_replicas",
        "Replicas that a plain HPA at the same stated load per pod would have now",
        |w| Some(f64::from(w.hpa.as_ref()?.replicas)),
    ),
    ("prescale_aggregator_backlog_requests", "Requests that wait beyond the objective", |w| {
        Some(w.plan.as_ref()?.backlog)
    }),
    (
        "prescale_aggregator_lead_time_seconds",
        "From decision to a new pod's first response, as planned for",
        |w| Some(w.lead_time.planned_seconds),
    ),
    ("prescale_aggregator_lead_time_starts", "Pod starts that the lead time was measured on", |w| {
        Some(w.lead_time.measured_starts as f64)
    }),
    ("prescale_aggregator_objective_seconds", "A request slower than this is slow", |w| {
        w.settings.slo_seconds
    }),
    ("prescale_aggregator_warning", "1 while something is wrong; the API's `warning` says what", |w| {
        Some(flag(w.warning.is_some()))
    }),
];

/// Gauges with further labels.
const FAMILIES: &[(&str, &str, Many)] = &[
    (
        "prescale_aggregator_replicas",
        "Replicas by state: wanted, current, ready, starting, terminating",
        |w, add| {
            let counts = &w.replicas;
            let states = [
                ("wanted", counts.wanted),
                ("current", Some(counts.current)),
                ("ready", Some(counts.ready)),
                ("starting", Some(counts.starting)),
                ("terminating", Some(counts.terminating)),
            ];
            for (state, count) in states {
                if let Some(count) = count {
                    add(vec![("state", state.into())], f64::from(count));
                }
            }
        },
    ),
    ("prescale_aggregator_replicas_bound", "Fewest and most replicas, as set", |w, add| {
        add(vec![("bound", "min".into())], f64::from(w.settings.min_replicas));
        add(vec![("bound", "max".into())], f64::from(w.settings.max_replicas));
    }),
    (
        "prescale_aggregator_limiter",
        "1 for the limiter that had the last word in the newest plan",
        |w, add| {
            if let Some(plan) = &w.plan {
                add(vec![("reason", plan.reason.into())], 1.0);
            }
        },
    ),
    (
        "prescale_aggregator_anomaly",
        "1 for the reason why the newest minute's load is not what it seems, if there is one",
        |w, add| {
            if let Some(anomaly) = &w.anomaly {
                add(vec![("reason", anomaly.reason.into())], 1.0);
            }
        },
    ),
    (
        "prescale_aggregator_gate",
        "1 for the reason why the newest plan is not carried out, if there is one",
        |w, add| {
            if let Some(gate) = w.plan.as_ref().and_then(|plan| plan.gate.as_ref()) {
                add(vec![("reason", gate.name.into())], 1.0);
            }
        },
    ),
    (
        "prescale_aggregator_latency_seconds",
        "Latency over about the last ten seconds, by quantile",
        |w, add| {
            if let Some(latency) = &w.latency {
                let quantiles = [
                    ("0.5", latency.p50_seconds),
                    ("0.9", latency.p90_seconds),
                    ("0.95", latency.p95_seconds),
                    ("0.99", latency.p99_seconds),
                ];
                for (quantile, seconds) in quantiles {
                    add(vec![("quantile", quantile.into())], seconds);
                }
            }
        },
    ),
    (
        "prescale_aggregator_forecast_requests_per_second",
        "Forecast load by horizon and quantile; target `at` is the load then, `max_over` the largest until then",
        |w, add| {
            let Some(forecast) = &w.forecast else { return };
            for (target, points) in [("at", &forecast.at), ("max_over", &forecast.max_over)] {
                for point in points {
                    for (level, load) in forecast.levels.iter().zip(point.quantiles) {
                        // A minute's forecast is up to a minute old; a label that counted down with it would make a
                        // new series every ten seconds.
                        let horizon = point.horizon_seconds.div_ceil(point.bin_seconds) * point.bin_seconds;
                        let labels = vec![
                            ("target", target.into()),
                            ("horizon_seconds", horizon.to_string().into()),
                            ("bin_seconds", point.bin_seconds.to_string().into()),
                            ("quantile", level.to_string().into()),
                        ];
                        add(labels, load);
                    }
                }
            }
        },
    ),
    (
        "prescale_aggregator_expert_weight_ratio",
        "Share of each expert in the forecast's median, by horizon",
        |w, add| {
            for weights in &w.weights {
                for model in weights.models.iter().filter(|model| model.awake) {
                    let labels = vec![
                        ("target", if weights.max_over { "max_over" } else { "at" }.into()),
                        ("horizon_seconds", weights.horizon_seconds.to_string().into()),
                        ("bin_seconds", weights.bin_seconds.to_string().into()),
                        ("model", model.name.into()),
                    ];
                    add(labels, model.weight);
                }
            }
        },
    ),
];

type Count = fn(&view::Totals) -> u64;

/// Counters over all pods of a workload since the aggregator's start, those gone included.
const COUNTERS: &[(&str, &str, Count)] = &[
    ("prescale_aggregator_requests_started", "Requests begun, as the nodes' kernels counted them", |t| {
        t.starts
    }),
    ("prescale_aggregator_requests_finished", "Responses ended", |t| t.finishes.all),
    ("prescale_aggregator_requests_failed", "Responses with a 5xx status", |t| t.finishes.server_error),
    (
        "prescale_aggregator_requests_aborted",
        "Requests whose connection ended before the response did",
        |t| t.aborts,
    ),
];

type OfNode = fn(&view::Node) -> Option<f64>;

const NODES: &[(&str, &str, OfNode)] = &[
    ("prescale_aggregator_report_age_seconds", "Since the node's newest report", |n| n.age_seconds),
    ("prescale_aggregator_report_stale", "1 while the node's newest report is too old to act on", |n| {
        Some(flag(n.stale))
    }),
];

pub(super) fn flag(on: bool) -> f64 {
    f64::from(u8::from(on))
}

pub(super) fn names(workload: &view::Workload) -> Labels<'_> {
    vec![("namespace", workload.namespace.as_str().into()), ("workload", workload.name.as_str().into())]
}

impl Workloads {
    pub(super) fn show(&self, snapshot: Snapshot) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(snapshot);
    }

    pub(super) fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Collector for Workloads {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        let snapshot = self.snapshot();
        for (name, help, value) in GAUGES {
            let mut metric = encoder.encode_descriptor(name, &format!("{help}."), None, MetricType::Gauge)?;
            for workload in &snapshot.workloads {
                if let Some(value) = value(workload) {
                    metric.encode_family(&names(workload))?.encode_gauge(&value)?;
                }
            }
        }
        for (name, help, values) in FAMILIES.iter().chain(scores::FAMILIES) {
            let mut metric = encoder.encode_descriptor(name, &format!("{help}."), None, MetricType::Gauge)?;
            for workload in &snapshot.workloads {
                let mut result = Ok(());
                values(workload, &mut |further, value| {
                    let mut labels = names(workload);
                    labels.extend(further);
                    let written =
                        metric.encode_family(&labels).and_then(|mut family| family.encode_gauge(&value));
                    result = result.and(written);
                });
                result?;
            }
        }
        for (name, help, count) in COUNTERS {
            let mut metric =
                encoder.encode_descriptor(name, &format!("{help}."), None, MetricType::Counter)?;
            for workload in &snapshot.workloads {
                let value = count(&workload.totals);
                metric.encode_family(&names(workload))?.encode_counter::<NoLabels, _, f64>(&value, None)?;
            }
        }
        for (name, help, counts) in scores::COUNTERS {
            let mut metric =
                encoder.encode_descriptor(name, &format!("{help}."), None, MetricType::Counter)?;
            for workload in &snapshot.workloads {
                let mut result = Ok(());
                counts(workload, &mut |further, count| {
                    let mut labels = names(workload);
                    labels.extend(further);
                    let written = metric
                        .encode_family(&labels)
                        .and_then(|mut family| family.encode_counter::<NoLabels, _, f64>(&count, None));
                    result = result.and(written);
                });
                result?;
            }
        }
        for (name, help, value) in NODES {
            let mut metric = encoder.encode_descriptor(name, &format!("{help}."), None, MetricType::Gauge)?;
            // A node whose reports were all refused has no newest one: it is stale, at no age.
            for node in &snapshot.nodes {
                if let Some(value) = value(node) {
                    metric.encode_family(&vec![("node", node.node.as_str())])?.encode_gauge(&value)?;
                }
            }
        }
        Ok(())
    }
}
