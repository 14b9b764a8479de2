//! Arbitrary inputs for the property tests of plan and checker.

use prescale_models::Level;
use proptest::prelude::*;

use super::{Data, Gate, HoldCause, Inputs, Load, Memory, Rules, Upper, Window};
use crate::capacity::Capacity;
use crate::time::Mono;
use crate::units::RequestsPerSecond;
use crate::world::{Mode, WorkloadId, WorkloadSettings};

/// [`Inputs`] that own their parts.
#[derive(Clone, Debug)]
pub(crate) struct Owned {
    pub(crate) at: Mono,
    pub(crate) workload: WorkloadId,
    pub(crate) settings: WorkloadSettings,
    pub(crate) rules: Rules,
    pub(crate) memory: Memory,
    pub(crate) replicas: u32,
    pub(crate) ready_pods: u32,
    pub(crate) load: Load,
    pub(crate) data: Data,
    pub(crate) scale_out: Option<f64>,
    pub(crate) scale_in_more: Option<f64>,
    pub(crate) lead_time_seconds: f64,
    pub(crate) clock_speed: f64,
    pub(crate) gate: Option<Gate>,
}

pub(crate) fn at(seconds: u64) -> Mono {
    Mono((10_000 + seconds) * 1_000_000_000)
}

pub(crate) fn rps(value: f64) -> RequestsPerSecond {
    RequestsPerSecond::new(value).expect("a finite number")
}

impl Owned {
    /// A quiet workload: 4 of 4 pods ready, 100 requests/s at 50 a pod, forecast 140, nothing remembered.
    pub(crate) fn quiet() -> Self {
        let mut memory = Memory::default();
        memory.record_replicas(at(0), 4);
        Self {
            at: at(1000),
            workload: WorkloadId { namespace: "shop".into(), name: "web".into() },
            settings: WorkloadSettings {
                mode: Mode::Full,
                min_replicas: 1,
                max_replicas: 40,
                rps_per_pod: Some(50.0),
                slo_seconds: Some(0.2),
                headroom: 0.0,
                paused: false,
            },
            rules: Rules::default(),
            memory,
            replicas: 4,
            ready_pods: 4,
            load: Load { windows: vec![Window { starts: 1000.0, seconds: 10.0 }], ..Load::default() },
            data: Data::Fresh,
            scale_out: Some(140.0),
            scale_in_more: Some(0.0),
            lead_time_seconds: 30.0,
            clock_speed: 1.0,
            gate: None,
        }
    }

    pub(crate) fn inputs(&self) -> Inputs<'_> {
        let upper =
            |value: f64, seconds| Upper { load: rps(value), level: Level::P95, seconds, step_seconds: 10 };
        Inputs {
            at: self.at,
            workload: &self.workload,
            settings: &self.settings,
            rules: &self.rules,
            memory: &self.memory,
            replicas: self.replicas,
            resource_version: 7,
            ready_pods: self.ready_pods,
            load: self.load.clone(),
            data: self.data,
            capacity: Capacity::stated(&self.settings),
            scale_out: self.scale_out.map(|v| upper(v, 60)),
            scale_in: self.scale_in_more.map(|v| upper(self.scale_out.unwrap_or(0.0) + v, 300)),
            lead_time_seconds: self.lead_time_seconds,
            clock_speed: self.clock_speed,
            gate: self.gate,
        }
    }
}

fn settings() -> impl Strategy<Value = WorkloadSettings> {
    let mode = prop_oneof![Just(Mode::Observe), Just(Mode::Floor), Just(Mode::Full), Just(Mode::Full)];
    let rps_per_pod = prop::option::weighted(0.9, 0.5..200.0);
    let slo_seconds = prop::option::of(0.01..2.0);
    (mode, 0..10u32, 1..60u32, rps_per_pod, slo_seconds, 0.0..1.0, prop::bool::weighted(0.1)).prop_map(
        |(mode, min_replicas, more, rps_per_pod, slo_seconds, headroom, paused)| WorkloadSettings {
            mode,
            min_replicas,
            max_replicas: min_replicas + more,
            rps_per_pod,
            slo_seconds,
            headroom,
            paused,
        },
    )
}

fn load() -> impl Strategy<Value = Load> {
    let window = (0.0..20_000.0, 0.0..60.0).prop_map(|(starts, seconds)| Window { starts, seconds });
    let burst = prop::option::weighted(0.2, (0.0..5000.0).prop_map(rps));
    let dispersion = prop_oneof![Just(1.0), 0.0..20.0];
    let saturated = prop_oneof![4 => Just(0), 1 => 1..40u32];
    (prop::collection::vec(window, 0..4), 0..2000u64, dispersion, saturated, burst).prop_map(
        |(windows, in_flight, dispersion, saturated_pods, burst_rps)| Load {
            windows,
            in_flight,
            dispersion,
            saturated_pods,
            burst_rps,
        },
    )
}

fn memory() -> impl Strategy<Value = Memory> {
    let entries = prop::collection::vec((0..200u64, 0..80u32, 0..80u32), 0..12);
    entries.prop_map(|mut entries| {
        entries.sort_unstable();
        let mut memory = Memory::default();
        for (t, need, replicas) in entries {
            memory.record_need(at(t), need);
            memory.record_replicas(at(t), replicas);
        }
        memory
    })
}

fn data() -> impl Strategy<Value = Data> {
    prop_oneof![3 => Just(Data::Fresh), 1 => held()]
}

/// Any cause to hold that the cluster passes in.
pub(crate) fn held() -> impl Strategy<Value = Data> {
    let causes = [
        HoldCause::SettingsInvalid,
        HoldCause::Missing,
        HoldCause::Stale,
        HoldCause::Partial,
        HoldCause::Unread,
        HoldCause::Impossible,
        HoldCause::WarmingUp,
        HoldCause::MonitoringFault,
        HoldCause::Flood,
    ];
    prop::sample::select(causes.to_vec()).prop_map(Data::Hold)
}

/// Any inputs at all, kind and unkind.
pub(crate) fn any() -> impl Strategy<Value = Owned> {
    let forecast = || prop::option::weighted(0.9, 0.0..4000.0);
    let gate = prop::option::weighted(0.1, Just(Gate::ForeignWrite));
    (
        (settings(), memory(), load(), data(), gate),
        (0..80u32, 0..80u32, forecast(), forecast(), 1.0..900.0, 1.0..60.0),
    )
        .prop_map(
            |((settings, mut memory, load, data, gate), (replicas, ready, out, more, lead, speed))| {
                // The cluster records what it sees before it plans.
                memory.record_replicas(at(205), replicas);
                Owned {
                    at: at(210),
                    settings,
                    memory,
                    load,
                    data,
                    gate,
                    replicas,
                    ready_pods: ready.min(replicas),
                    scale_out: out,
                    scale_in_more: more,
                    lead_time_seconds: lead,
                    clock_speed: speed,
                    ..Owned::quiet()
                }
            },
        )
}
