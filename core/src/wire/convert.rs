//! Checked types to messages and back: everything that is not checked by protobuf is checked here.

use std::collections::BTreeSet;

use prescale_agent_ebpf::histogram::BUCKETS;
use prescale_models::{Forecast, Grid, Quantiles, Target};
use prost::Message;

use super::limits::{at_most, name, quantity};
use super::message;
use super::*;
use crate::counters::{CLASSES, Histogram, REASONS, StatusClass, Unaccounted};

/// Latest instant that a message may carry: the year 9999, in milliseconds.
const MAX_WALL_MS: i64 = 253_402_300_800_000;

fn parse<M: Message + Default>(bytes: &[u8]) -> Result<M, WireError> {
    at_most("bytes of the message", bytes.len(), MAX_BODY_BYTES)?;
    M::decode(bytes).map_err(|e| WireError::Malformed(e.to_string()))
}

fn readable(got: u32) -> Result<u32, WireError> {
    if (READABLE.0..=READABLE.1).contains(&got) {
        Ok(got)
    } else {
        Err(WireError::Version { got, readable: READABLE })
    }
}

fn wall(what: &'static str, ms: i64) -> Result<Wall, WireError> {
    if (-MAX_WALL_MS..=MAX_WALL_MS).contains(&ms) {
        Ok(Wall(ms))
    } else {
        Err(WireError::OutOfRange { what })
    }
}

impl NodeReport {
    /// The bytes to send.
    pub fn encode(&self) -> Vec<u8> {
        message::NodeReport::from(self).encode_to_vec()
    }

    /// Reads and checks a report.
    ///
    /// # Errors
    /// [`WireError`] for anything that is not a report within the limits; never panics.
    pub fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        let m: message::NodeReport = parse(bytes)?;
        let version = readable(m.version)?;
        at_most("pods", m.pods.len(), MAX_PODS)?;
        at_most("workloads", m.workloads.len(), MAX_PODS)?;
        let workloads = m.workloads.into_iter().map(node_workload).collect::<Result<Vec<_>, _>>()?;
        let distinct: BTreeSet<_> = workloads.iter().map(|w| &w.id).collect();
        if distinct.len() != workloads.len() {
            return Err(WireError::Twice { what: "workload" });
        }
        let pods =
            m.pods.into_iter().map(|pod| pod_report(pod, workloads.len())).collect::<Result<Vec<_>, _>>()?;
        // A pod may come twice: with its last counters before a new attach, and with those since.
        let distinct: BTreeSet<_> = pods.iter().map(|p| (&p.uid, p.attach_generation)).collect();
        if distinct.len() != pods.len() {
            return Err(WireError::Twice { what: "pod" });
        }
        let agent = m.agent.unwrap_or_default();
        Ok(Self {
            version,
            node: name("node", m.node, MAX_NAME_BYTES)?,
            boot_id: name("boot id", m.boot_id, MAX_UID_BYTES)?,
            agent_start: wall("agent start", m.agent_start_ms)?,
            sequence: m.sequence,
            sent: wall("sent time", m.sent_ms)?,
            workloads,
            pods,
            agent: AgentHealth {
                attached: agent.attached,
                attach_failures: agent.attach_failures,
                refused_samples: agent.refused_samples,
                cpu_ns: agent.cpu_ns,
                memory_bytes: agent.memory_bytes,
            },
        })
    }
}

impl From<&NodeReport> for message::NodeReport {
    fn from(r: &NodeReport) -> Self {
        Self {
            version: r.version,
            node: r.node.clone(),
            boot_id: r.boot_id.clone(),
            agent_start_ms: r.agent_start.0,
            sequence: r.sequence,
            sent_ms: r.sent.0,
            workloads: r.workloads.iter().map(message::NodeWorkload::from).collect(),
            pods: r.pods.iter().map(message::PodReport::from).collect(),
            agent: Some(message::AgentHealth {
                attached: r.agent.attached,
                attach_failures: r.agent.attach_failures,
                refused_samples: r.agent.refused_samples,
                cpu_ns: r.agent.cpu_ns,
                memory_bytes: r.agent.memory_bytes,
            }),
        }
    }
}

fn node_workload(m: message::NodeWorkload) -> Result<NodeWorkload, WireError> {
    let burst = match m.burst {
        None => None,
        Some(b) => Some(Burst {
            since: wall("burst time", b.since_ms)?,
            rate: quantity("burst rate", b.rate)?,
            baseline: quantity("burst baseline", b.baseline)?,
        }),
    };
    Ok(NodeWorkload {
        id: WorkloadId {
            namespace: name("namespace", m.namespace, MAX_NAME_BYTES)?,
            name: name("workload", m.name, MAX_NAME_BYTES)?,
        },
        forecast: m.forecast.map(local_forecast).transpose()?,
        burst,
    })
}

impl From<&NodeWorkload> for message::NodeWorkload {
    fn from(w: &NodeWorkload) -> Self {
        Self {
            namespace: w.id.namespace.clone(),
            name: w.id.name.clone(),
            forecast: w.forecast.as_ref().map(message::LocalForecast::from),
            burst: w.burst.map(|b| message::Burst {
                since_ms: b.since.0,
                rate: b.rate,
                baseline: b.baseline,
            }),
        }
    }
}

fn local_forecast(m: message::LocalForecast) -> Result<LocalForecast, WireError> {
    at_most("forecast points", m.points.len(), MAX_FORECAST_POINTS)?;
    // A grid's step divides a day.
    if m.step_seconds == 0 || 86_400 % m.step_seconds != 0 {
        return Err(WireError::OutOfRange { what: "forecast step" });
    }
    if m.origin.unsigned_abs() > MAX_WALL_MS.unsigned_abs() || m.pods == 0 || m.pods as usize > MAX_PODS {
        return Err(WireError::OutOfRange { what: "forecast origin or pods" });
    }
    let points = m.points.into_iter().map(forecast_point).collect::<Result<Vec<_>, _>>()?;
    let forecast = Forecast { origin: m.origin, grid: Grid { step_seconds: m.step_seconds }, points };
    Ok(LocalForecast { pods: m.pods, forecast })
}

fn forecast_point(m: message::ForecastPoint) -> Result<(Target, Quantiles), WireError> {
    let out_of_range = WireError::OutOfRange { what: "forecast point" };
    let target = match m.target {
        Some(message::Target::At(steps)) => Target::At { steps },
        Some(message::Target::MaxOver(steps)) => Target::MaxOver { steps },
        None => return Err(out_of_range),
    };
    let values: [f32; 5] = m.values.try_into().map_err(|_| out_of_range.clone())?;
    let quantiles = Quantiles::new(values.map(f64::from)).map_err(|_| out_of_range.clone())?;
    // A day ahead at one-second steps is far beyond what a node forecasts.
    if (1..=86_400).contains(&target.steps()) { Ok((target, quantiles)) } else { Err(out_of_range) }
}

impl From<&LocalForecast> for message::LocalForecast {
    fn from(f: &LocalForecast) -> Self {
        let point = |(target, quantiles): &(Target, Quantiles)| message::ForecastPoint {
            target: Some(match *target {
                Target::At { steps } => message::Target::At(steps),
                Target::MaxOver { steps } => message::Target::MaxOver(steps),
            }),
            values: quantiles.values().iter().map(|v| *v as f32).collect(),
        };
        Self {
            pods: f.pods,
            origin: f.forecast.origin,
            step_seconds: f.forecast.grid.step_seconds,
            points: f.forecast.points.iter().map(point).collect(),
        }
    }
}

fn pod_report(m: message::PodReport, workloads: usize) -> Result<PodReport, WireError> {
    let workload = m.workload as usize;
    if workload >= workloads {
        return Err(WireError::OutOfRange { what: "workload of a pod" });
    }
    let resources = m.resources.unwrap_or_default();
    let pressure =
        |p: message::Pressure| Pressure { cpu_ns: p.cpu_ns, memory_ns: p.memory_ns, io_ns: p.io_ns };
    Ok(PodReport {
        uid: name("pod uid", m.uid, MAX_UID_BYTES)?,
        workload,
        attach_generation: m.attach_generation,
        state: pod_state(m.state),
        read: wall("read time", m.read_ms)?,
        counters: m.counters.map(counters).transpose()?,
        resources: Resources {
            cpu_ns: resources.cpu_ns,
            throttled_ns: resources.throttled_ns,
            memory_bytes: resources.memory_bytes,
            pressure: resources.pressure.map(pressure),
        },
        censored: match m.censored {
            0 => None,
            2 => Some(Censored::Throttled),
            // 1, and what a later version adds: still a lower bound.
            _ => Some(Censored::Backlog),
        },
        last: m.last,
    })
}

const NOT_MEASURABLE: [NotMeasurable; 6] = [
    NotMeasurable::CgroupTaken,
    NotMeasurable::NoPermission,
    NotMeasurable::NoSlot,
    NotMeasurable::Vanished,
    NotMeasurable::Unsupported,
    NotMeasurable::KernelRefused,
];

fn pod_state(number: u32) -> PodState {
    match number {
        0 => PodState::Waiting,
        1 => PodState::Measured,
        n => PodState::NotMeasurable(
            *NOT_MEASURABLE.get(n as usize - 2).unwrap_or(&NotMeasurable::KernelRefused),
        ),
    }
}

fn state_number(state: PodState) -> u32 {
    match state {
        PodState::Waiting => 0,
        PodState::Measured => 1,
        PodState::NotMeasurable(why) => 2 + why as u32,
    }
}

impl From<&PodReport> for message::PodReport {
    fn from(p: &PodReport) -> Self {
        Self {
            uid: p.uid.clone(),
            workload: p.workload as u32,
            attach_generation: p.attach_generation,
            state: state_number(p.state),
            read_ms: p.read.0,
            counters: p.counters.as_ref().map(message::Counters::from),
            resources: Some(message::Resources {
                cpu_ns: p.resources.cpu_ns,
                throttled_ns: p.resources.throttled_ns,
                memory_bytes: p.resources.memory_bytes,
                pressure: p.resources.pressure.map(|p| message::Pressure {
                    cpu_ns: p.cpu_ns,
                    memory_ns: p.memory_ns,
                    io_ns: p.io_ns,
                }),
            }),
            censored: match p.censored {
                None => 0,
                Some(Censored::Backlog) => 1,
                Some(Censored::Throttled) => 2,
            },
            last: p.last,
        }
    }
}

fn counters(m: message::Counters) -> Result<Counters, WireError> {
    // What a later version counts in a class or for a reason that this one does not know still counts.
    let finishes = folded(&m.finishes, StatusClass::Unknown as usize)?;
    let unaccounted: [u64; REASONS] = folded(&m.unaccounted, Unaccounted::Unparsed as usize)?;
    at_most("latency histograms", m.last_byte.len(), 2 * CLASSES)?;
    let mut last_byte: [Histogram; CLASSES] = Default::default();
    for (class, sparse) in m.last_byte.into_iter().enumerate() {
        let class = if class < CLASSES { class } else { StatusClass::Unknown as usize };
        histogram(sparse, &mut last_byte[class])?;
    }
    let mut first_byte = Histogram::default();
    histogram(m.first_byte.unwrap_or_default(), &mut first_byte)?;
    Ok(Counters {
        read_at_ns: m.read_at_ns,
        starts: m.starts,
        finishes,
        aborts: m.aborts,
        probe_starts: m.probe_starts,
        probe_finishes: m.probe_finishes,
        in_flight_integral_ns: m.in_flight_integral_ns,
        bytes_received: m.bytes_received,
        bytes_unread: m.bytes_unread,
        bytes_sent: m.bytes_sent,
        connections_opened: m.connections_opened,
        connections_closed: m.connections_closed,
        retransmits: m.retransmits,
        unaccounted,
        first_byte,
        last_byte,
    })
}

/// `values` as an array; what is beyond its end is added to entry `rest`. The sum never overflows.
fn folded<const N: usize>(values: &[u64], rest: usize) -> Result<[u64; N], WireError> {
    at_most("counters of a kind", values.len(), 4 * N)?;
    let mut out = [0u64; N];
    let mut sum = 0u64;
    for (index, &value) in values.iter().enumerate() {
        let overflow = WireError::OutOfRange { what: "counters" };
        sum = sum.checked_add(value).ok_or(overflow)?;
        out[if index < N { index } else { rest }] += value;
    }
    Ok(out)
}

fn histogram(m: message::Histogram, into: &mut Histogram) -> Result<(), WireError> {
    at_most("buckets", m.counts.len(), BUCKETS)?;
    let out_of_range = WireError::OutOfRange { what: "latency histogram" };
    if m.steps.len() != m.counts.len() {
        return Err(out_of_range);
    }
    let mut bucket = 0usize;
    for (position, (&step, &count)) in m.steps.iter().zip(&m.counts).enumerate() {
        bucket = bucket.saturating_add(step as usize);
        if bucket >= BUCKETS || (position > 0 && step == 0) {
            return Err(out_of_range);
        }
        into.0[bucket] = into.0[bucket].checked_add(count).ok_or(out_of_range.clone())?;
    }
    Ok(())
}

fn sparse(histogram: &Histogram) -> message::Histogram {
    let mut out = message::Histogram::default();
    let mut previous = 0;
    for (bucket, &count) in histogram.0.iter().enumerate().filter(|(_, count)| **count > 0) {
        out.steps.push((bucket - previous) as u32);
        out.counts.push(count);
        previous = bucket;
    }
    out
}

fn without_trailing_zeros(values: &[u64]) -> Vec<u64> {
    let length = values.iter().rposition(|v| *v != 0).map_or(0, |last| last + 1);
    values[..length].to_vec()
}

impl From<&Counters> for message::Counters {
    fn from(c: &Counters) -> Self {
        let mut last_byte: Vec<_> = c.last_byte.iter().map(sparse).collect();
        while last_byte.last().is_some_and(|h| h.counts.is_empty()) {
            last_byte.pop();
        }
        Self {
            read_at_ns: c.read_at_ns,
            starts: c.starts,
            finishes: without_trailing_zeros(&c.finishes),
            aborts: c.aborts,
            probe_starts: c.probe_starts,
            probe_finishes: c.probe_finishes,
            in_flight_integral_ns: c.in_flight_integral_ns,
            bytes_received: c.bytes_received,
            bytes_unread: c.bytes_unread,
            bytes_sent: c.bytes_sent,
            connections_opened: c.connections_opened,
            connections_closed: c.connections_closed,
            retransmits: c.retransmits,
            unaccounted: without_trailing_zeros(&c.unaccounted),
            first_byte: Some(sparse(&c.first_byte)),
            last_byte,
        }
    }
}

impl ReportReply {
    /// The bytes to send.
    pub fn encode(&self) -> Vec<u8> {
        message::ReportReply {
            readable_first: self.readable.0,
            readable_last: self.readable.1,
            accepted: self.accepted,
            push_to: self.push_to.clone(),
        }
        .encode_to_vec()
    }

    /// Reads and checks a reply.
    ///
    /// # Errors
    /// [`WireError`] for anything that is not a reply within the limits; never panics.
    pub fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        let m: message::ReportReply = parse(bytes)?;
        at_most("replicas to push to", m.push_to.len(), MAX_REPLICAS_TO_PUSH_TO)?;
        let address = |text: String| name("address", text, MAX_NAME_BYTES);
        Ok(Self {
            readable: (m.readable_first, m.readable_last),
            accepted: m.accepted,
            push_to: m.push_to.into_iter().map(address).collect::<Result<_, _>>()?,
        })
    }
}

impl WatchList {
    /// The bytes to send.
    pub fn encode(&self) -> Vec<u8> {
        let pod = |p: &WatchedPod| message::WatchedPod {
            uid: p.uid.clone(),
            name: p.name.clone(),
            namespace: p.workload.namespace.clone(),
            workload: p.workload.name.clone(),
            ports: p.ports.iter().map(|port| u32::from(*port)).collect(),
            probes: p.probes.clone(),
        };
        message::WatchList {
            version: self.version,
            revision: self.revision,
            pods: self.pods.iter().map(pod).collect(),
        }
        .encode_to_vec()
    }

    /// Reads and checks a watch list.
    ///
    /// # Errors
    /// [`WireError`] for anything that is not a watch list within the limits; never panics.
    pub fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        let m: message::WatchList = parse(bytes)?;
        let version = readable(m.version)?;
        at_most("pods", m.pods.len(), MAX_PODS)?;
        let pods = m.pods.into_iter().map(watched_pod).collect::<Result<Vec<_>, _>>()?;
        let distinct: BTreeSet<_> = pods.iter().map(|p| &p.uid).collect();
        if distinct.len() != pods.len() {
            return Err(WireError::Twice { what: "pod" });
        }
        Ok(Self { version, revision: m.revision, pods })
    }
}

fn watched_pod(m: message::WatchedPod) -> Result<WatchedPod, WireError> {
    at_most("ports", m.ports.len(), MAX_PORTS)?;
    at_most("probes", m.probes.len(), MAX_PROBES)?;
    for probe in &m.probes {
        at_most("bytes of a probe", probe.len(), MAX_PROBE_BYTES)?;
    }
    let port = |p: u32| u16::try_from(p).map_err(|_| WireError::OutOfRange { what: "port" });
    Ok(WatchedPod {
        uid: name("pod uid", m.uid, MAX_UID_BYTES)?,
        name: name("pod name", m.name, MAX_NAME_BYTES)?,
        workload: WorkloadId {
            namespace: name("namespace", m.namespace, MAX_NAME_BYTES)?,
            name: name("workload", m.workload, MAX_NAME_BYTES)?,
        },
        ports: m.ports.into_iter().map(port).collect::<Result<_, _>>()?,
        probes: m.probes,
    })
}
