//! The pods' and workloads' series, made from the brain's view whenever somebody asks.

use std::fmt;
use std::sync::Arc;

use prescale_agent_ebpf::histogram::{BUCKETS, lower_bound_ns};
use prescale_core::counters::{Histogram as Latencies, StatusClass, Unaccounted};
use prescale_core::node::{Node, PodView, WorkloadView};
use prescale_core::wire::{NotMeasurable, PodState, Resources};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeCounterValue, MetricEncoder};
use prometheus_client::metrics::MetricType;

use crate::shared::Shared;

/// Exported latency bounds: one an octave from 2^17 ns (0.13 ms) to 2^35 ns (34 s), each a bound of the kernel's
/// buckets, so that no request is put on the wrong side of one.
const BOUND_BITS: std::ops::RangeInclusive<u32> = 17..=35;

/// What is rendered from the brain; a pod that is gone leaves no series behind.
#[derive(Debug)]
pub(super) struct Pods(pub(super) Arc<Shared>);

impl Collector for Pods {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let node = self.0.node();
        let pods: Vec<PodView<'_>> = node.pods().collect();
        requests(&mut encoder, &pods)?;
        resources(&mut encoder, &pods)?;
        states(&mut encoder, &pods)?;
        let workloads: Vec<WorkloadView<'_>> = node.workloads(self.0.clock.now()).collect();
        forecasts(&mut encoder, &workloads)?;
        own_cost(&mut encoder, &self.0, &node)
    }
}

fn requests(encoder: &mut DescriptorEncoder<'_>, pods: &[PodView<'_>]) -> fmt::Result {
    let measured = || pods.iter().filter_map(|pod| Some((pod, pod.counters?)));
    let mut by_class = encoder.encode_descriptor(
        "prescale_http_server_request_duration_seconds",
        "From a request's first byte in to its response's last byte out, queue wait included.",
        None,
        MetricType::Histogram,
    )?;
    for (pod, counters) in measured() {
        for (class, name) in CLASSES {
            if counters.finishes[class as usize] > 0 {
                let labels = [&labels(pod)[..], &[("status_class", name)]].concat();
                latencies(by_class.encode_family(&labels.as_slice())?, &counters.last_byte[class as usize])?;
            }
        }
    }
    let mut first = encoder.encode_descriptor(
        "prescale_http_server_time_to_first_byte_seconds",
        "From a request's first byte in to its response's first byte out.",
        None,
        MetricType::Histogram,
    )?;
    for (pod, counters) in measured() {
        latencies(first.encode_family(&labels(pod).as_slice())?, &counters.first_byte)?;
    }
    let mut count = |name, help, value: fn(&prescale_core::counters::Counters) -> u64| {
        let each = measured().map(|(pod, counters)| (labels(pod).to_vec(), value(counters)));
        counter(encoder, name, help, each)
    };
    count("prescale_http_server_requests_started", "Requests whose first byte arrived", |it| it.starts)?;
    count("prescale_http_server_requests_finished", "Requests whose response's last byte left", |it| {
        it.finished()
    })?;
    count(
        "prescale_http_server_requests_aborted",
        "Requests whose connection ended before the response",
        |it| it.aborts,
    )?;
    count(
        "prescale_http_server_probes_started",
        "Probes of the kubelet, in no other count of requests",
        |it| it.probe_starts,
    )?;
    count("prescale_http_server_probes_finished", "Of those, answered", |it| it.probe_finishes)?;
    count("prescale_http_server_received_bytes", "Payload bytes received", |it| it.bytes_received)?;
    count("prescale_http_server_sent_bytes", "Payload bytes sent", |it| it.bytes_sent)?;
    count("prescale_http_server_connections_opened", "Connections that carried payload", |it| {
        it.connections_opened
    })?;
    count("prescale_http_server_connections_closed", "Of those, closed", |it| it.connections_closed)?;
    count("prescale_http_server_retransmitted_segments", "Segments seen again", |it| it.retransmits)?;
    let each =
        measured().map(|(pod, counters)| (labels(pod).to_vec(), counters.in_flight_integral_ns as f64 / 1e9));
    counter(
        encoder,
        "prescale_http_server_in_flight_seconds",
        "Time that requests have spent in flight; its rate is the mean concurrency, exact",
        each,
    )?;
    let each = measured().map(|(pod, counters)| (labels(pod).to_vec(), counters.in_flight() as f64));
    gauge(encoder, "prescale_http_server_active_requests", "Started, neither finished nor aborted", each)?;
    let each = measured().flat_map(|(pod, counters)| {
        Unaccounted::ALL.into_iter().filter_map(move |reason| {
            let labels = [&labels(pod)[..], &[("reason", reason.name())]].concat();
            let count = counters.unaccounted[reason as usize];
            (count > 0).then_some((labels, count))
        })
    });
    counter(encoder, "prescale_agent_unaccounted", "Traffic that could not be accounted for, by reason", each)
}

fn resources(encoder: &mut DescriptorEncoder<'_>, pods: &[PodView<'_>]) -> fmt::Result {
    let known = || pods.iter().filter_map(|pod| Some((pod, pod.resources?)));
    let mut seconds = |name, help, value: fn(&Resources) -> u64| {
        let each = known().map(|(pod, it)| (labels(pod).to_vec(), value(&it) as f64 / 1e9));
        counter(encoder, name, help, each)
    };
    seconds("prescale_agent_pod_cpu_seconds", "CPU time that the pod used", |it| it.cpu_ns)?;
    seconds(
        "prescale_agent_pod_cpu_throttled_seconds",
        "Time that the pod's CPU limit held it back",
        |it| it.throttled_ns,
    )?;
    let each = known().filter(|(_, it)| it.memory_bytes > 0);
    let each = each.map(|(pod, it)| (labels(pod).to_vec(), it.memory_bytes as f64));
    gauge(encoder, "prescale_agent_pod_memory_bytes", "Memory of the pod's cgroup", each)?;
    let each = known().filter_map(|(pod, it)| Some((pod, it.pressure?))).flat_map(|(pod, it)| {
        [("cpu", it.cpu_ns), ("memory", it.memory_ns), ("io", it.io_ns)]
            .map(|(resource, ns)| ([&labels(pod)[..], &[("resource", resource)]].concat(), ns as f64 / 1e9))
    });
    counter(
        encoder,
        "prescale_agent_pod_pressure_seconds",
        "Time that something in the pod waited, by resource",
        each,
    )
}

fn states(encoder: &mut DescriptorEncoder<'_>, pods: &[PodView<'_>]) -> fmt::Result {
    let each = STATES.iter().map(|&(state, name)| {
        let count = pods.iter().filter(|pod| pod.state == state).count();
        (vec![("state", name)], count as f64)
    });
    gauge(encoder, "prescale_agent_pods", "Watched pods, by whether they are measured or why not", each)?;
    let each = pods.iter().filter_map(|pod| match pod.state {
        PodState::NotMeasurable(reason) => {
            Some(([&labels(pod)[..], &[("reason", super::not_measurable(reason))]].concat(), 1.0))
        }
        PodState::Waiting | PodState::Measured => None,
    });
    gauge(
        encoder,
        "prescale_agent_pod_not_measurable",
        "1 for a pod that can't be measured, with the reason",
        each,
    )?;
    let each = pods.iter().filter(|pod| pod.counters.is_some());
    let each = each.map(|pod| (labels(pod).to_vec(), f64::from(u8::from(pod.censored.is_some()))));
    gauge(encoder, "prescale_agent_pod_saturated", "1 while a pod serves less than is asked of it", each)
}

fn forecasts(encoder: &mut DescriptorEncoder<'_>, workloads: &[WorkloadView<'_>]) -> fmt::Result {
    fn labels<'a>(it: &WorkloadView<'a>) -> Labels<'a> {
        workload_labels(&it.id.namespace, &it.id.name).to_vec()
    }
    let each = workloads.iter().map(|it| (labels(it), it.rate));
    gauge(encoder, "prescale_agent_requests_per_second", "Requests per second at this node's pods", each)?;
    let each = workloads.iter().map(|it| (labels(it), f64::from(u8::from(it.burst.is_some()))));
    gauge(encoder, "prescale_agent_burst", "1 while the rate jumps as chance would not", each)?;
    let each = workloads.iter().filter_map(|it| {
        let (_, quantiles) = it.forecast.as_ref()?.forecast.points.last().map(|point| (point.0, point.1))?;
        Some((labels(it), quantiles.median()))
    });
    gauge(
        encoder,
        "prescale_agent_forecast_requests_per_second",
        "Median of this node's own forecast at its longest horizon",
        each,
    )
}

fn own_cost(encoder: &mut DescriptorEncoder<'_>, shared: &Shared, node: &Node) -> fmt::Result {
    let (own, health) = (shared.own(), node.health());
    counter(
        encoder,
        "prescale_agent_refused_samples",
        "Pairs of readings that gave no sample: a counter went back, an impossible jump",
        [(vec![], health.refused_samples)],
    )?;
    let cpu_seconds = own.cpu_ns as f64 / 1e9;
    counter(
        encoder,
        "prescale_agent_cpu_seconds",
        "CPU time that the agent itself used",
        [(vec![], cpu_seconds)],
    )?;
    let resident = own.resident_bytes as f64;
    gauge(
        encoder,
        "prescale_agent_resident_memory_bytes",
        "The agent's resident memory",
        [(vec![], resident)],
    )?;
    gauge(
        encoder,
        "prescale_agent_cgroup_memory_bytes",
        "Memory of the agent's own cgroup, kernel maps included, less unused file pages",
        own.cgroup_bytes.map(|bytes| (vec![], bytes as f64)),
    )?;
    let version = vec![("version", env!("CARGO_PKG_VERSION"))];
    gauge(encoder, "prescale_agent_build_info", "Always 1; the label names the version", [(version, 1.0)])
}

type Labels<'a> = Vec<(&'static str, &'a str)>;
/// Exemplars would have them; we have none.
type NoLabels = [(&'static str, &'static str); 0];

fn counter<'a, V: EncodeCounterValue>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    each: impl IntoIterator<Item = (Labels<'a>, V)>,
) -> fmt::Result {
    let mut family = encoder.encode_descriptor(name, &format!("{help}."), None, MetricType::Counter)?;
    for (labels, value) in each {
        if labels.is_empty() {
            family.encode_counter::<NoLabels, V, f64>(&value, None)?;
        } else {
            family.encode_family(&labels.as_slice())?.encode_counter::<NoLabels, V, f64>(&value, None)?;
        }
    }
    Ok(())
}

fn gauge<'a>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    each: impl IntoIterator<Item = (Labels<'a>, f64)>,
) -> fmt::Result {
    let mut family = encoder.encode_descriptor(name, &format!("{help}."), None, MetricType::Gauge)?;
    for (labels, value) in each {
        if labels.is_empty() {
            family.encode_gauge(&value)?;
        } else {
            family.encode_family(&labels.as_slice())?.encode_gauge(&value)?;
        }
    }
    Ok(())
}

/// One bucket an octave; the sum takes each request at its bucket's middle and is at most 6 % off
/// (`prescale_http_server_in_flight_seconds` is exact).
fn latencies(mut encoder: MetricEncoder<'_>, latencies: &Latencies) -> fmt::Result {
    let mut buckets = [(0.0, 0u64); 20];
    let mut bucket = 0;
    for (out, bits) in buckets.iter_mut().zip(BOUND_BITS) {
        let end_ns = 1u64 << bits;
        out.0 = end_ns as f64 / 1e9;
        while bucket < BUCKETS && lower_bound_ns(bucket + 1) <= end_ns {
            out.1 += latencies.0[bucket];
            bucket += 1;
        }
    }
    buckets[19] = (f64::INFINITY, latencies.0[bucket..].iter().sum());
    let count = latencies.count();
    let sum = latencies.mean_seconds().unwrap_or(0.0) * count as f64;
    encoder.encode_histogram::<NoLabels>(sum, count, &buckets, None)
}

fn labels<'a>(pod: &PodView<'a>) -> [(&'static str, &'a str); 3] {
    let [namespace, workload] = workload_labels(&pod.pod.workload.namespace, &pod.pod.workload.name);
    [namespace, workload, ("pod", &pod.pod.name)]
}

fn workload_labels<'a>(namespace: &'a str, name: &'a str) -> [(&'static str, &'a str); 2] {
    [("namespace", namespace), ("workload", name)]
}

const CLASSES: [(StatusClass, &str); 6] = [
    (StatusClass::Unknown, "unknown"),
    (StatusClass::Informational, "1xx"),
    (StatusClass::Success, "2xx"),
    (StatusClass::Redirection, "3xx"),
    (StatusClass::ClientError, "4xx"),
    (StatusClass::ServerError, "5xx"),
];

pub(super) const STATES: [(PodState, &str); 8] = [
    (PodState::Waiting, "waiting"),
    (PodState::Measured, "measured"),
    (PodState::NotMeasurable(NotMeasurable::CgroupTaken), "cgroup_taken"),
    (PodState::NotMeasurable(NotMeasurable::NoPermission), "no_permission"),
    (PodState::NotMeasurable(NotMeasurable::NoSlot), "no_slot"),
    (PodState::NotMeasurable(NotMeasurable::Vanished), "vanished"),
    (PodState::NotMeasurable(NotMeasurable::Unsupported), "unsupported"),
    (PodState::NotMeasurable(NotMeasurable::KernelRefused), "kernel_refused"),
];
