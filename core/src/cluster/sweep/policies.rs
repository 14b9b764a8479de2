//! A fluid queue before pods that take time to start, and the two policies that steer it.

use prescale_models::Level;

use super::load::{DAY, World, lead_seconds};
use super::{CAPACITY_RPS, Variant};
use crate::capacity::Capacity;
use crate::cluster::trend;
use crate::hpa::{Hpa, HpaInputs, HpaSettings, Metric};
use crate::plan::{Data, Inputs, Load, Memory, Upper, Window, WorkloadPlan, plan};
use crate::time::Mono;
use crate::units::RequestsPerSecond;
use crate::world::{Mode, WorkloadId, WorkloadSettings};

const SLO_SECONDS: f64 = 0.25;
const MOST: u32 = 100;

/// What a day cost.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Score {
    pub(super) requests: f64,
    pub(super) slow: f64,
    pub(super) pod_seconds: f64,
    pub(super) changes: f64,
}

impl Score {
    pub(super) fn mean(scores: impl ExactSizeIterator<Item = Self>) -> Self {
        let n = scores.len() as f64;
        scores.fold(Self::default(), |sum, s| Self {
            requests: sum.requests + s.requests / n,
            slow: sum.slow + s.slow / n,
            pod_seconds: sum.pod_seconds + s.pod_seconds / n,
            changes: sum.changes + s.changes / n,
        })
    }
}

struct Pods {
    spec: u32,
    ready: u32,
    /// When each of the others will be.
    starting: Vec<usize>,
    backlog: f64,
    score: Score,
}

impl Pods {
    fn new(world: &World) -> Self {
        let load = world.counts[..60].iter().sum::<f64>() / 60.0;
        let spec = ((load / (0.65 * CAPACITY_RPS)).ceil() as u32).max(1);
        Self { spec, ready: spec, starting: vec![], backlog: 0.0, score: Score::default() }
    }

    fn served_rps(&self) -> f64 {
        f64::from(self.ready) * CAPACITY_RPS
    }

    fn second(&mut self, t: usize, count: f64) {
        let waiting = self.starting.len();
        self.starting.retain(|at| *at > t);
        self.ready += (waiting - self.starting.len()) as u32;
        self.backlog = (self.backlog + count - self.served_rps()).max(0.0);
        // The last of the second waits for all before it.
        let slow = self.backlog > SLO_SECONDS * self.served_rps();
        self.score.requests += count;
        self.score.slow += if slow { count } else { 0.0 };
        self.score.pod_seconds += f64::from(self.spec);
    }

    fn scale(&mut self, t: usize, start_up: usize, replicas: u32) {
        if replicas == self.spec {
            return;
        }
        self.score.changes += 1.0;
        for _ in self.spec..replicas {
            self.starting.push(t + start_up);
        }
        for _ in replicas..self.spec {
            // The youngest go first, as the ReplicaSet's controller does it.
            if self.starting.pop().is_none() {
                self.ready -= 1;
            }
        }
        self.spec = replicas;
    }
}

fn at(second: usize) -> Mono {
    Mono((1_000_000 + second as u64) * 1_000_000_000)
}

/// A day under the HPA: requests/s per pod as AverageValue, default behaviour, its metric the last 15 s without lag.
pub(super) fn hpa(world: &World, target_rps: f64) -> Score {
    let mut hpa = Hpa::new(HpaSettings::new(1, MOST));
    let mut pods = Pods::new(world);
    for t in 0..DAY {
        pods.second(t, world.counts[t]);
        if t >= 15 && hpa.due(at(t)) {
            let load = world.counts[t - 14..=t].iter().sum::<f64>() / 15.0;
            let metrics = [Metric::average_value(target_rps, Some(load))];
            let (replicas, ready_pods) = (pods.spec, pods.ready);
            let inputs = HpaInputs { replicas, status_replicas: replicas, ready_pods, metrics: &metrics };
            let wanted = hpa.reconcile(at(t), &inputs).replicas;
            pods.scale(t, world.start_up, wanted);
        }
    }
    pods.score
}

/// A day under the plan.
pub(super) fn planned(world: &World, variant: &Variant) -> Score {
    follow(world, variant, &mut |_, _| {})
}

/// What chance alone does to a plan in a day, its first half hour left aside.
#[derive(Clone, Debug, Default)]
pub(super) struct Steady {
    pub(super) ups: u32,
    pub(super) mean_pods: f64,
    pub(super) reasons: std::collections::BTreeMap<&'static str, u32>,
}

/// A day of a steady load under the plan.
pub(super) fn steady(world: &World, variant: &Variant) -> Steady {
    const FIRST: usize = 1800;
    let mut out = Steady::default();
    follow(world, variant, &mut |t, plan| {
        if t >= FIRST {
            out.mean_pods += f64::from(plan.replicas_before) / (DAY - FIRST) as f64;
            if plan.replicas > plan.replicas_before {
                out.ups += 1;
                *out.reasons.entry(plan.reason().name()).or_insert(0) += 1;
            }
        }
    });
    out
}

fn follow(world: &World, variant: &Variant, watch: &mut dyn FnMut(usize, &WorkloadPlan)) -> Score {
    let settings = WorkloadSettings {
        mode: Mode::Full,
        min_replicas: 1,
        max_replicas: MOST,
        rps_per_pod: Some(variant.stated_rps),
        slo_seconds: Some(SLO_SECONDS),
        headroom: 0.0,
        paused: false,
    };
    let workload = WorkloadId { namespace: "sweep".into(), name: "sweep".into() };
    let (rules, lead) = (&variant.rules, lead_seconds(world.start_up));
    let mut memory = Memory::default();
    let mut pods = Pods::new(world);
    for t in 0..DAY {
        pods.second(t, world.counts[t]);
        memory.record_replicas(at(t), pods.spec);
        let upper = |seconds: f64| {
            if variant.oracle { future(world, t, seconds) } else { world.upper(seconds, rules.level, t) }
        };
        let planned = plan(&Inputs {
            at: at(t),
            workload: &workload,
            settings: &settings,
            rules,
            memory: &memory,
            replicas: pods.spec,
            resource_version: 0,
            ready_pods: pods.ready,
            load: measured(world, t, &pods, variant),
            data: Data::Fresh,
            capacity: Capacity::stated(&settings),
            scale_out: upper(lead),
            scale_in: upper(lead + rules.look_ahead_seconds),
            lead_time_seconds: lead,
            clock_speed: 1.0,
            gate: None,
        });
        memory.record_need(at(t), planned.need);
        watch(t, &planned);
        pods.scale(t, world.start_up, planned.replicas);
    }
    pods.score
}

fn measured(world: &World, t: usize, pods: &Pods, variant: &Variant) -> Load {
    let last = |n: usize| &world.counts[(t + 1).saturating_sub(n)..=t];
    let window = |n: usize| Window { starts: last(n).iter().sum(), seconds: last(n).len() as f64 };
    let loads: Vec<Option<f64>> = last(120).iter().copied().map(Some).collect();
    let lead = lead_seconds(world.start_up);
    Load {
        windows: [1, 3, 10, 30, 60].map(window).to_vec(),
        // A tenth of a second's requests are in service.
        in_flight: (pods.backlog + 0.1 * world.counts[t].min(pods.served_rps())) as u64,
        dispersion: trend::dispersion(&loads, 1.0),
        // They share the backlog evenly.
        saturated_pods: if pods.backlog > 0.5 * pods.served_rps() { pods.ready } else { 0 },
        burst_rps: trend::expected(&loads, 1.0, lead, variant.rules.burst_sigmas),
    }
}

/// The largest ten-second mean that comes.
fn future(world: &World, t: usize, seconds: f64) -> Option<Upper> {
    let end = (t + 1 + seconds as usize + 10).min(DAY);
    let means =
        world.counts[(t + 1).min(end)..end].chunks(10).map(|c| c.iter().sum::<f64>() / c.len() as f64);
    let load = RequestsPerSecond::new(means.fold(0.0, f64::max)).ok()?;
    Some(Upper { load, level: Level::P95, seconds: seconds as u32, step_seconds: 10 })
}
