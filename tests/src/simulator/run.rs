//! One run: a policy in a scenario, second by second.

use prescale_core::world::{Mode, WorkloadSettings};

use super::load::{Load, Shape};
use super::pod::SECOND;
use super::prescale::Prescale;
use super::report::{Outcome, Row};
use super::rivals::{HpaRival, LinearRival, OracleRival};
use super::world::{Physics, QUIET_SECONDS, World};
use super::{Fault, FaultKind};

/// Who scales.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Policy {
    /// Prescale, mode `full`.
    Prescale,
    /// The HPA on requests/s per pod, with this target as a share of what a pod can serve at most.
    Hpa(f64),
    /// A fixed number of pods.
    Static(u32),
    /// Two-minute linear extrapolation.
    Linear,
    /// The true load of the time to come.
    Oracle,
}

impl Policy {
    /// Its label.
    pub fn name(self) -> String {
        match self {
            Self::Prescale => "prescale".to_owned(),
            Self::Hpa(share) => format!("hpa-{:.0}", share * 100.0),
            Self::Static(replicas) => format!("static-{replicas}"),
            Self::Linear => "linear".to_owned(),
            Self::Oracle => "oracle".to_owned(),
        }
    }
}

/// What is simulated.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// Draws everything.
    pub seed: u64,
    /// The load's shape.
    pub shape: Shape,
    /// Arrivals per second, mean over the day.
    pub mean_rps: f64,
    /// Seconds into the day at which it starts.
    pub start_seconds: u64,
    /// How long, seconds.
    pub seconds: u64,
    /// How the world behaves.
    pub physics: Physics,
    /// Load that one pod is planned for (`prescale.dev/rps-per-pod`), requests/s.
    pub rps_per_pod: f64,
    /// A request slower than this is slow, seconds.
    pub objective_seconds: f64,
    /// Bounds of the replicas.
    pub bounds: (u32, u32),
    /// What goes wrong, in order of time.
    pub faults: Vec<Fault>,
}

impl Scenario {
    /// A whole day of `seed` in which nothing goes wrong: on average 75 requests/s, pods that serve at most 20 and are
    /// planned for 14.
    pub fn day(seed: u64) -> Self {
        Self {
            seed,
            shape: Shape::Day,
            mean_rps: 75.0,
            start_seconds: 0,
            seconds: 86_400,
            physics: Physics::default(),
            rps_per_pod: 14.0,
            objective_seconds: 0.5,
            bounds: (2, 40),
            faults: Vec::new(),
        }
    }

    /// The hours from `from` to `to` of it, with a fault of `kind` at hour `at`.
    pub fn with_fault(self, from: f64, to: f64, kind: FaultKind, at: f64) -> Self {
        let second = |hours: f64| (hours * 3600.0) as u64;
        Self {
            start_seconds: second(from),
            seconds: second(to - from),
            faults: vec![Fault { kind, at: second(at - from) }],
            ..self
        }
    }

    /// The same with one more fault, of `kind`, at this hour of the day, later than those it has.
    pub fn and_fault(mut self, kind: FaultKind, hour: f64) -> Self {
        self.faults.push(Fault { kind, at: (hour * 3600.0) as u64 - self.start_seconds });
        self
    }

    /// Requests/s that one pod serves at most.
    pub fn capacity_rps(&self) -> f64 {
        self.physics.slots as f64 / self.physics.service_seconds
    }

    fn load(&self) -> Load {
        Load::new(self.seed, self.shape, self.mean_rps)
    }

    fn settings(&self) -> WorkloadSettings {
        WorkloadSettings {
            mode: Mode::Full,
            min_replicas: self.bounds.0,
            max_replicas: self.bounds.1,
            rps_per_pod: Some(self.rps_per_pod),
            slo_seconds: Some(self.objective_seconds),
            headroom: 0.0,
            paused: false,
        }
    }
}

enum Running {
    Prescale(Box<Prescale>),
    Hpa(HpaRival),
    Linear(LinearRival),
    Oracle(OracleRival),
    Static,
}

/// Runs a policy through a scenario.
pub fn run(scenario: &Scenario, policy: Policy) -> Outcome {
    let load = scenario.load();
    let (min, max) = scenario.bounds;
    let start_seconds = scenario.start_seconds as f64;
    let first = match policy {
        Policy::Static(replicas) => replicas,
        _ => (libm::ceil(load.at(start_seconds) / scenario.rps_per_pod) as u32 + 1).clamp(min, max),
    };
    let physics = scenario.physics.clone();
    let start_up = physics.start_up_seconds * 1.1;
    let mut world = World::new(scenario.seed, load, start_seconds, physics, scenario.settings(), first);
    let mut running = match policy {
        Policy::Prescale => {
            let nodes = scenario.physics.nodes;
            Running::Prescale(Box::new(Prescale::new(
                scenario.seed,
                &world,
                &load,
                start_seconds,
                nodes,
                scenario.faults.clone(),
            )))
        }
        Policy::Hpa(share) => Running::Hpa(HpaRival::new(share * scenario.capacity_rps(), min, max)),
        Policy::Linear => Running::Linear(LinearRival::new(scenario.rps_per_pod, start_up, min, max)),
        Policy::Oracle => Running::Oracle(OracleRival::new(scenario.rps_per_pod, start_up, min, max)),
        Policy::Static(_) => Running::Static,
    };
    let mut outcome = Outcome::new(policy.name(), scenario);
    let mut row = Row::default();
    for second in 0..scenario.seconds {
        match &mut running {
            Running::Prescale(p) => p.second(&mut world, second),
            Running::Hpa(p) => p.second(&mut world, second),
            Running::Linear(p) => p.second(&mut world, second),
            Running::Oracle(p) => p.second(&mut world, second),
            Running::Static => world.advance((second + 1) * SECOND),
        }
        if let Running::Prescale(p) = &running {
            outcome.watch(scenario, second, p.holding);
        }
        if (second + 1).is_multiple_of(60) {
            let reason = match &running {
                Running::Prescale(p) => p.reason.map(|r| r.name()),
                _ => None,
            };
            row = row.next(&world, second + 1, reason);
            outcome.rows.push(row.clone());
        }
    }
    if let Running::Prescale(p) = &running {
        outcome.violations = p.violations();
        outcome.refused_reports = p.refused;
        outcome.wire_bytes = p.wire_bytes;
    }
    debug_assert!(scenario.seconds > QUIET_SECONDS);
    outcome.finish(&world);
    outcome
}
