//! What Prescale is compared with: the HPA, two-minute linear extrapolation, a fixed number, an oracle.

use std::collections::VecDeque;

use prescale_core::Mono;
use prescale_core::hpa::{Hpa, HpaInputs, HpaSettings, Metric};
use prescale_core::world::PodPhase;

use super::pod::SECOND;
use super::world::World;

/// The rate that rivals read is a mean over so many seconds: the HPA's own period, without a metrics pipeline's lag.
const RATE_SECONDS: usize = 15;
/// Two-minute linear extrapolation looks back so far …
const LINEAR_SECONDS: usize = 120;
/// … and gives pods back only when it wanted no more for as long as the HPA waits.
const DOWN_SECONDS: usize = 300;

/// Arrivals of each second, newest last.
#[derive(Default)]
pub struct Rates {
    counts: VecDeque<u64>,
    seen: u64,
}

impl Rates {
    fn second(&mut self, world: &World) {
        let total = world.tally.arrivals();
        self.counts.push_back(total - self.seen);
        self.seen = total;
        if self.counts.len() > LINEAR_SECONDS {
            self.counts.pop_front();
        }
    }

    fn mean(&self, seconds: usize) -> f64 {
        let n = seconds.min(self.counts.len());
        self.counts.iter().rev().take(n).sum::<u64>() as f64 / (n as f64).max(1.0)
    }

    /// Least squares over all that is kept, extrapolated by `ahead` seconds.
    fn linear(&self, ahead: f64) -> f64 {
        let n = self.counts.len() as f64;
        if n < 2.0 {
            return self.mean(1);
        }
        let (mean_x, mean_y) = ((n - 1.0) / 2.0, self.mean(LINEAR_SECONDS));
        let (mut xy, mut xx) = (0.0, 0.0);
        for (i, count) in self.counts.iter().enumerate() {
            let x = i as f64 - mean_x;
            xy += x * (*count as f64 - mean_y);
            xx += x * x;
        }
        (mean_y + xy / xx * (n - 1.0 - mean_x + ahead)).max(0.0)
    }
}

/// The Kubernetes HPA on requests/s per pod (AverageValue), default behaviour.
pub struct HpaRival {
    hpa: Hpa,
    target: f64,
    rates: Rates,
}

impl HpaRival {
    /// With this target per pod, requests/s.
    pub fn new(target: f64, min: u32, max: u32) -> Self {
        Self { hpa: Hpa::new(HpaSettings::new(min, max)), target, rates: Rates::default() }
    }

    /// One second: reads, and reconciles when its period is over.
    pub fn second(&mut self, world: &mut World, second: u64) {
        world.advance((second + 1) * SECOND);
        self.rates.second(world);
        let now = Mono(world.now());
        if !self.hpa.due(now) {
            return;
        }
        let state = world.state();
        let alive = state.pods.iter().filter(|p| p.phase != PodPhase::Terminating).count() as u32;
        let ready = state.pods.iter().filter(|p| p.phase == PodPhase::Ready).count() as u32;
        let metrics = [Metric::average_value(self.target, Some(self.rates.mean(RATE_SECONDS)))];
        let inputs = HpaInputs {
            replicas: state.replicas,
            status_replicas: alive,
            ready_pods: ready,
            metrics: &metrics,
        };
        let wanted = self.hpa.reconcile(now, &inputs).replicas;
        if wanted != state.replicas {
            world.scale(wanted, state.resource_version);
        }
    }
}

/// Least squares over two minutes, extrapolated by the start-up time; never less than the load of now.
pub struct LinearRival {
    per_pod: f64,
    bounds: (u32, u32),
    ahead: f64,
    rates: Rates,
    wanted: VecDeque<u32>,
}

impl LinearRival {
    /// For pods that carry `per_pod` requests/s and take `ahead` seconds to start.
    pub fn new(per_pod: f64, ahead: f64, min: u32, max: u32) -> Self {
        let (rates, wanted) = (Rates::default(), VecDeque::new());
        Self { per_pod, bounds: (min, max), ahead, rates, wanted }
    }

    /// One second; decides every fifth.
    pub fn second(&mut self, world: &mut World, second: u64) {
        world.advance((second + 1) * SECOND);
        self.rates.second(world);
        let load = self.rates.linear(self.ahead).max(self.rates.mean(RATE_SECONDS));
        let need = pods_for(load, self.per_pod, self.bounds);
        self.wanted.push_back(need);
        if self.wanted.len() > DOWN_SECONDS {
            self.wanted.pop_front();
        }
        let most = self.wanted.iter().copied().max().unwrap_or(need);
        if second.is_multiple_of(5) {
            set(world, if need > world.replicas() { need } else { most.min(world.replicas()) });
        }
    }
}

/// Knows the load to come: enough pods for the highest mean rate until a pod that is started now would serve.
pub struct OracleRival {
    per_pod: f64,
    bounds: (u32, u32),
    ahead: f64,
}

impl OracleRival {
    /// For pods that carry `per_pod` requests/s and take up to `ahead` seconds to start.
    pub fn new(per_pod: f64, ahead: f64, min: u32, max: u32) -> Self {
        Self { per_pod, bounds: (min, max), ahead }
    }

    /// One second; decides every fifth.
    pub fn second(&mut self, world: &mut World, second: u64) {
        world.advance((second + 1) * SECOND);
        if second.is_multiple_of(5) {
            let steps = libm::ceil(self.ahead) as u64 + 5;
            let load = (0..=steps).map(|s| world.load_at((second + s) as f64)).fold(0.0, f64::max);
            set(world, pods_for(load, self.per_pod, self.bounds));
        }
    }
}

fn pods_for(load: f64, per_pod: f64, (min, max): (u32, u32)) -> u32 {
    (libm::ceil(load / per_pod) as u32).clamp(min, max)
}

fn set(world: &mut World, replicas: u32) {
    if replicas != world.replicas() {
        let version = world.state().resource_version;
        world.scale(replicas, version);
    }
}
