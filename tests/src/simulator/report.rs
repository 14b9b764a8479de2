//! What came out of a run: numbers, rows by the minute, a picture of characters.

use serde::Serialize;

use super::run::Scenario;
use super::tally::ScaleEvent;
use super::world::World;

/// One minute of a run.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Row {
    /// Minutes since the run's start, at this minute's end.
    pub minute: u64,
    /// Arrivals per second, the minute's mean.
    pub load_rps: f64,
    /// `spec.replicas` at its end.
    pub replicas: u32,
    /// Pods that serve at its end.
    pub ready: usize,
    /// Slow or failed requests.
    pub slow: u64,
    /// The limiter that had the last word.
    pub reason: Option<&'static str>,
    #[serde(skip)]
    arrivals_so_far: u64,
    #[serde(skip)]
    slow_so_far: u64,
}

impl Row {
    /// The minute after this one.
    pub fn next(&self, world: &World, second: u64, reason: Option<&'static str>) -> Self {
        let (arrivals, slow) = (world.tally.arrivals(), world.tally.slow());
        Self {
            minute: second / 60,
            load_rps: (arrivals - self.arrivals_so_far) as f64 / 60.0,
            replicas: world.replicas(),
            ready: world.ready(),
            slow: slow - self.slow_so_far,
            reason,
            arrivals_so_far: arrivals,
            slow_so_far: slow,
        }
    }
}

/// The outcome of one run.
#[derive(Clone, Debug, Serialize)]
pub struct Outcome {
    /// Who scaled.
    pub policy: String,
    /// What drew it.
    pub seed: u64,
    /// What went wrong first.
    pub fault: Option<&'static str>,
    /// Requests that were asked.
    pub requests: u64,
    /// Share of them over the objective or failed.
    pub slow_share: f64,
    /// Requests that found no pod, were given up or cut off.
    pub failed: u64,
    /// Latency that 99 % did not exceed, seconds.
    pub p99_seconds: f64,
    /// Seconds that pods existed, summed.
    pub pod_seconds: f64,
    /// Changes of `spec.replicas`.
    pub scale_events: usize,
    /// Those upwards.
    pub scale_ups: usize,
    /// Plans that broke a rule of the checker.
    pub violations: u64,
    /// Reports that the aggregator refused.
    pub refused_reports: u64,
    /// Bytes between agents and aggregator.
    pub wire_bytes: u64,
    /// From the first fault's end until a plan held nothing back any more, seconds.
    pub recovered_after_seconds: Option<u64>,
    /// By the minute.
    #[serde(skip)]
    pub rows: Vec<Row>,
    /// Every change.
    #[serde(skip)]
    pub events: Vec<ScaleEvent>,
}

impl Outcome {
    pub(super) fn new(policy: String, scenario: &Scenario) -> Self {
        Self {
            policy,
            seed: scenario.seed,
            fault: scenario.faults.first().map(|f| f.kind.name()),
            requests: 0,
            slow_share: 0.0,
            failed: 0,
            p99_seconds: 0.0,
            pod_seconds: 0.0,
            scale_events: 0,
            scale_ups: 0,
            violations: 0,
            refused_reports: 0,
            wire_bytes: 0,
            recovered_after_seconds: None,
            rows: Vec::new(),
            events: Vec::new(),
        }
    }

    /// Notes when the plan stops holding after a fault.
    pub(super) fn watch(&mut self, scenario: &Scenario, second: u64, holding: bool) {
        if let Some(fault) = scenario.faults.first()
            && second > fault.over()
            && !holding
            && self.recovered_after_seconds.is_none()
        {
            self.recovered_after_seconds = Some(second - fault.over());
        }
    }

    pub(super) fn finish(&mut self, world: &World) {
        let tally = &world.tally;
        self.requests = tally.arrivals();
        self.slow_share = tally.slow_share();
        self.failed = tally.failed();
        self.p99_seconds = tally.p99_seconds();
        self.pod_seconds = tally.pod_seconds(world.now());
        self.events.clone_from(&tally.scale_events);
        self.scale_events = self.events.len();
        self.scale_ups = self.events.iter().filter(|e| e.after > e.before).count();
    }

    /// The rows as CSV, with a head.
    pub fn csv(&self) -> String {
        let mut out = String::from("policy,minute,load_rps,replicas,ready,slow,reason\n");
        for r in &self.rows {
            let reason = r.reason.unwrap_or("");
            let row = format!(
                "{},{},{:.3},{},{},{},{reason}\n",
                self.policy, r.minute, r.load_rps, r.replicas, r.ready, r.slow
            );
            out.push_str(&row);
        }
        out
    }

    /// Load and serving pods over time, `width` characters wide: one line each, eight levels, from 0 to the largest,
    /// and a line that marks where requests were slow.
    pub fn picture(&self, width: usize) -> String {
        let columns: Vec<&[Row]> = self.rows.chunks(self.rows.len().div_ceil(width.max(1)).max(1)).collect();
        let mean = |of: fn(&Row) -> f64| -> Vec<f64> {
            columns.iter().map(|c| c.iter().map(of).sum::<f64>() / c.len() as f64).collect()
        };
        let line = |name: &str, values: &[f64]| {
            let most = values.iter().copied().fold(0.0, f64::max);
            let bars: String = values.iter().map(|v| BARS[level(*v, most)]).collect();
            format!("{name:>9} {bars} at most {most:.0}\n")
        };
        let slow: String = columns
            .iter()
            .map(|c| {
                let (slow, load): (u64, f64) =
                    c.iter().fold((0, 0.0), |(s, l), r| (s + r.slow, l + r.load_rps * 60.0));
                match slow as f64 / load.max(1.0) {
                    share if share >= 0.05 => '#',
                    share if share >= 0.01 => '+',
                    _ => '.',
                }
            })
            .collect();
        let load = line("load rps", &mean(|r| r.load_rps));
        let pods = line("pods", &mean(|r| r.ready as f64));
        format!("{}\n{load}{pods}{:>9} {slow} + over 1 %, # over 5 %\n", self.policy, "slow")
    }
}

const BARS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

fn level(value: f64, most: f64) -> usize {
    ((value / most.max(1e-9) * 8.0).round() as usize).min(8)
}
