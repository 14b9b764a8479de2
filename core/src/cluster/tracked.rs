//! Everything that is known of one workload, and one tick of it.

use std::collections::VecDeque;

use prescale_models::AllWeights;
use prescale_models::anomaly::Reason;
use serde::{Deserialize, Serialize};

use super::ClusterSettings;
use super::forecasts::{Chance, Forecasts};
use super::moments::{Moment, Moments};
use super::shadow::Shadow;
use super::starts::Starts;
use super::state::Mark;
use super::trend;
use super::writes::{Outcome, Writes};
use crate::capacity::Capacity;
use crate::check::{Violation, check};
use crate::lead_time::LeadTime;
use crate::merge::{Demand, Hold, Second};
use crate::plan::{
    Data, Decision, Gate, HoldCause, Inputs, Limiter, Load, Memory, Rules, Step, Window, WorkloadPlan, plan,
};
use crate::series::Series;
use crate::time::{Mono, Now, Wall};
use crate::units::RequestsPerSecond;
use crate::world::{PodPhase, WorkloadId, WorkloadSettings, WorkloadState};

/// Lengths over which arrivals are counted, seconds of the caller's clock: the shortest sees a step within seconds,
/// the longest proves a rate of a few requests a second.
const WINDOWS: [usize; 4] = [3, 10, 30, 60];
/// So many seconds are looked at for a rise.
const RECENT: usize = 120;
/// A window that ended longer ago than this says nothing about now, seconds.
const WINDOW_AGE_SECONDS: i64 = 15;
/// A burst may raise the floor to at most so many times the load that is measured: the ramp's own factor.
const MOST_BURST: f64 = 2.0;
/// Decisions that are kept for the page: some 15 KB, and more than a person scrolls through.
pub(super) const LOG: usize = 100;

/// An entry of the decision log.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Logged {
    pub(super) at: Wall,
    pub(super) from: u32,
    pub(super) to: u32,
    pub(super) reason: Limiter,
    pub(super) sentence: String,
    pub(super) outcome: Option<Outcome>,
}

/// One workload.
pub(super) struct Tracked {
    pub(super) state: Option<WorkloadState>,
    missing_since: Option<Mono>,
    pub(super) series: Series,
    pub(super) recent: Recent,
    pub(super) forecasts: Forecasts,
    pub(super) lead_time: LeadTime,
    pub(super) starts: Starts,
    pub(super) memory: Memory,
    pub(super) writes: Writes,
    pub(super) measured_since: Option<Mono>,
    pub(super) demand: Option<Demand>,
    pub(super) plan: Option<(Wall, WorkloadPlan)>,
    pub(super) log: VecDeque<Logged>,
    pub(super) fine: Moments,
    pub(super) coarse: Moments,
    pub(super) broken: Option<Violation>,
    pub(super) shadow: Option<Shadow>,
    /// Entries that the log has ever had.
    pub(super) logged: u64,
    /// The settings that the restored state was made under, until the target says which hold now.
    pub(super) settings_before: Option<WorkloadSettings>,
    pub(super) mark: Option<Mark>,
}

impl Tracked {
    pub(super) fn new(settings: &ClusterSettings, id: &WorkloadId) -> Self {
        Self {
            state: None,
            missing_since: None,
            series: Series::new(),
            recent: Recent::default(),
            forecasts: Forecasts::new(settings.models.of(id), &settings.weights.of(id)),
            lead_time: LeadTime::new(settings.lead_time_prior),
            starts: Starts::default(),
            memory: Memory::default(),
            writes: Writes::default(),
            measured_since: None,
            demand: None,
            plan: None,
            log: VecDeque::new(),
            fine: Moments::default(),
            coarse: Moments::default(),
            broken: None,
            shadow: None,
            logged: 0,
            settings_before: None,
            mark: None,
        }
    }

    pub(super) fn state(&self) -> Option<&WorkloadState> {
        self.state.as_ref()
    }

    pub(super) fn world(&mut self, now: Now, state: &WorkloadState, standby: bool) {
        let mut state = state.clone();
        if self.missing_since.is_some() {
            // What was away has been opted in anew, or made anew: that also tells us otherwise.
            self.writes.settings_changed();
        }
        if let Some(known) = &self.state {
            if known.settings != state.settings {
                self.writes.settings_changed();
            }
            if self.writes.outdated(&state) {
                // An answer from before our own write: its pods may be news, its replicas are not.
                state.replicas = known.replicas;
                state.resource_version = known.resource_version;
            } else if known.replicas != state.replicas && !standby {
                // A standby sees the leader's writes, and may not take them for a stranger's when it leads itself.
                self.writes.changed(state.settings.mode, known.replicas, state.replicas);
            }
        }
        if self.settings_before.take().is_some_and(|before| before != state.settings) {
            self.writes.settings_changed();
        }
        self.starts.pods(now.mono, &state.pods);
        let ready = state.pods.iter().filter(|pod| pod.phase == PodPhase::Ready);
        self.lead_time.saw(ready.filter_map(|pod| pod.start_seconds));
        self.memory.record_replicas(now.mono, state.replicas);
        self.missing_since = None;
        self.state = Some(state);
    }

    /// The target does not name it: for how long, seconds.
    pub(super) fn missing_for(&mut self, now: Now) -> f64 {
        self.state = None;
        now.mono.seconds_since(*self.missing_since.get_or_insert(now.mono))
    }

    pub(super) fn import(&mut self, history: &[(Wall, RequestsPerSecond)], weights: &AllWeights) {
        self.forecasts.replay(history, &self.series, weights);
        self.series.import(history);
    }

    pub(super) fn outcome(&mut self, now: Now, outcome: Outcome) {
        if let Some(replicas) = self.writes.outcome(now.mono, outcome) {
            self.memory.record_replicas(now.mono, replicas);
            if let (Some(state), Outcome::Applied { resource_version }) = (&mut self.state, outcome) {
                state.replicas = replicas;
                state.resource_version = resource_version;
            }
        } else {
            // Nothing was written, so no pod comes of it.
            self.starts.undone();
        }
        if let Some(entry) = self.log.back_mut().filter(|entry| entry.outcome.is_none()) {
            entry.outcome = Some(outcome);
        }
    }

    /// One tick; `None` while the target does not name the workload.
    pub(super) fn tick(
        &mut self,
        now: Now,
        id: &WorkloadId,
        demand: Option<Demand>,
        seconds: &[Second],
        settings: &ClusterSettings,
        standby: bool,
    ) -> Option<(WorkloadPlan, Vec<Violation>)> {
        for second in seconds {
            self.series.push(second);
            self.recent.push(second);
        }
        self.demand = demand;
        if let Some(nodes) = self.demand.as_ref().and_then(|demand| demand.local_forecast.as_ref()) {
            self.forecasts.hear(nodes);
        }
        self.forecasts.follow(&self.series);
        let state = self.state.as_ref()?;
        if let Some(demand) = &self.demand {
            if demand.rate.is_some() && demand.hold.is_none() {
                self.measured_since.get_or_insert(now.mono);
            }
            for pod in demand.pods.iter().filter(|p| p.latency.is_some()) {
                // Its newest report's second saw a response end.
                let age = (pod.age_seconds.unwrap_or(0.0) * 1e9) as u64;
                self.starts.answered(Mono(now.mono.0.saturating_sub(age)), &pod.uid, &mut self.lead_time);
            }
        }

        let lead = self.lead_time.planned_seconds();
        let rules = &settings.rules;
        // Imported history alone moves nothing: it may be another workload's, or long past.
        let measured = self.measured_since.is_some();
        let second = 1.0 / settings.clock_speed;
        let chance = Chance { dispersion: trend::dispersion(self.recent.loads(), second), second };
        let upper = |seconds| self.forecasts.upper(seconds, rules.level, chance).filter(|_| measured);
        let inputs = Inputs {
            at: now.mono,
            workload: id,
            settings: &state.settings,
            rules,
            memory: &self.memory,
            replicas: state.replicas,
            resource_version: state.resource_version,
            ready_pods: ready(state),
            load: self.load(now, settings.clock_speed, lead, rules),
            data: self.data(now, state, rules),
            capacity: Capacity::stated(&state.settings),
            scale_out: upper(lead),
            scale_in: upper(lead + rules.look_ahead_seconds),
            lead_time_seconds: lead,
            clock_speed: settings.clock_speed,
            gate: standby.then_some(Gate::Standby).or_else(|| self.writes.gate(now.mono)),
        };
        let mut planned = plan(&inputs);
        let broken = check(&inputs, &planned);
        self.broken = broken.first().copied();
        if !broken.is_empty() {
            refuse(&mut planned);
        }
        let rate = self.demand.as_ref().and_then(|d| d.rate);
        Shadow::follow(&mut self.shadow, now.mono, &state.settings, state.replicas, rate);
        self.memory.record_need(now.mono, planned.need);
        if let Some(decision) = planned.decision() {
            self.decided(now, &decision, &planned, rules);
        }
        self.remember(now, &planned);
        self.plan = Some((now.wall, planned.clone()));
        Some((planned, broken))
    }

    fn decided(&mut self, now: Now, decision: &Decision, planned: &WorkloadPlan, rules: &Rules) {
        self.writes.decided(decision);
        if decision.replicas > decision.replicas_before {
            self.starts.raised(now.mono, decision.replicas - decision.replicas_before);
        } else {
            self.starts.lowered();
        }
        if self.log.len() == LOG {
            self.log.pop_front();
        }
        self.logged += 1;
        let sentence = planned.steps.last().map_or_else(String::new, |step| planned.sentence(step, rules));
        self.log.push_back(Logged {
            at: now.wall,
            from: decision.replicas_before,
            to: decision.replicas,
            reason: decision.reason,
            sentence,
            outcome: None,
        });
    }

    fn load(&self, now: Now, clock_speed: f64, lead_seconds: f64, rules: &Rules) -> Load {
        let Some(demand) = &self.demand else { return Load::default() };
        let mut windows = Vec::new();
        // A second of the caller's clock, in the kernel's.
        let second = 1.0 / clock_speed;
        let recent = self.recent.loads();
        if let Some(rate) = demand.rate.filter(|_| second >= trend::SHORTEST_SECONDS) {
            // The newest of the closed seconds may or may not be the one that this rate is of.
            let held_up = trend::held_up(recent, 0).max(trend::held_up(recent, 1));
            windows.push(Window { starts: ((rate.get() - held_up) * second).max(0.0), seconds: second });
        }
        let fresh =
            self.recent.newest.is_some_and(|newest| now.wall.unix_seconds() - newest <= WINDOW_AGE_SECONDS);
        for length in WINDOWS.into_iter().filter(|length| fresh && *length <= recent.len()) {
            let loads = recent[recent.len() - length..].iter().flatten();
            let seconds = loads.clone().count() as f64 * second;
            if seconds >= trend::SHORTEST_SECONDS {
                let held_up = trend::held_up(recent, length);
                windows.push(Window { starts: ((loads.sum::<f64>() - held_up) * second).max(0.0), seconds });
            }
        }
        let rise = trend::expected(recent, second, lead_seconds, rules.burst_sigmas).filter(|_| fresh);
        let nodes = burst(demand, lead_seconds);
        let saturated = demand.pods.iter().filter(|pod| pod.rate.is_some() && pod.censored.is_some()).count();
        Load {
            windows,
            dispersion: trend::dispersion(recent, second),
            in_flight: demand.in_flight,
            saturated_pods: saturated as u32,
            burst_rps: [rise, nodes].into_iter().flatten().reduce(|a, b| if a >= b { a } else { b }),
        }
    }

    fn data(&self, now: Now, state: &WorkloadState, rules: &Rules) -> Data {
        if state.settings.problem().is_some() {
            return Data::Hold(HoldCause::SettingsInvalid);
        }
        let Some(demand) = &self.demand else { return Data::Hold(HoldCause::Missing) };
        match &demand.hold {
            Some(Hold::NoReports) => Data::Hold(HoldCause::Missing),
            Some(Hold::Stale { .. }) => Data::Hold(HoldCause::Stale),
            Some(Hold::NotMeasurable { .. }) => Data::Hold(HoldCause::Partial),
            Some(Hold::Unread { .. }) => Data::Hold(HoldCause::Unread),
            Some(Hold::Clock { .. } | Hold::Counters { .. } | Hold::FarFromSiblings { .. }) => {
                Data::Hold(HoldCause::Impossible)
            }
            None if demand.rate.is_none() => Data::Hold(HoldCause::Missing),
            None => {
                let warm = |since: Mono| now.mono.seconds_since(since) >= rules.warm_up_seconds;
                if !self.measured_since.is_some_and(warm) {
                    return Data::Hold(HoldCause::WarmingUp);
                }
                match self.forecasts.doubt() {
                    Some(Reason::Fault) => Data::Hold(HoldCause::MonitoringFault),
                    Some(Reason::Flood) => Data::Hold(HoldCause::Flood),
                    // Pods must serve what a generator sends, and may go when it has ended.
                    Some(Reason::Synthetic) | None => Data::Fresh,
                }
            }
        }
    }

    fn remember(&mut self, now: Now, planned: &WorkloadPlan) {
        let latency = self.demand.as_ref().and_then(|d| d.latency);
        for (ring, step) in [(&mut self.fine, 10), (&mut self.coarse, 60)] {
            ring.record(Moment {
                index: now.wall.unix_seconds().div_euclid(step),
                p50: latency.map(|l| l.p50_seconds as f32),
                p99: latency.map(|l| l.p99_seconds as f32),
                wanted: planned.replicas,
                current: planned.replicas_before,
                ready: planned.basis.ready_pods,
                hpa: self.shadow.as_ref().map(Shadow::replicas),
            });
        }
    }
}

/// The last seconds' loads, requests/s, oldest first; `None` is a gap. The series has them too, but each look at it
/// would decode them all again.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Recent {
    newest: Option<i64>,
    // At most twice RECENT: the oldest go in one sweep, so that the rest stays one slice.
    loads: Vec<Option<f64>>,
}

impl Recent {
    /// The same without what is no longer looked at.
    pub(super) fn newest_only(&self) -> Self {
        Self { newest: self.newest, loads: self.loads().to_vec() }
    }

    pub(super) fn push(&mut self, second: &Second) {
        let skipped = match self.newest {
            Some(newest) if second.unix_seconds <= newest => return,
            Some(newest) => second.unix_seconds.saturating_sub(newest + 1).min(RECENT as i64),
            None => 0,
        };
        self.newest = Some(second.unix_seconds);
        for _ in 0..skipped {
            self.add(None);
        }
        self.add(second.load.map(RequestsPerSecond::get));
    }

    fn add(&mut self, load: Option<f64>) {
        if self.loads.len() == 2 * RECENT {
            self.loads.drain(..RECENT);
        }
        self.loads.push(load);
    }

    fn loads(&self) -> &[Option<f64>] {
        &self.loads[self.loads.len().saturating_sub(RECENT)..]
    }
}

/// What the nodes expect within the lead time while a burst is on: the upper end of their merged short forecast, but no
/// less than the rate that raised the flag, and bounded by what is measured. Of a load that came from nothing no
/// forecast knows more than its rate.
fn burst(demand: &Demand, lead_seconds: f64) -> Option<RequestsPerSecond> {
    let burst = demand.burst?;
    let known = !trend::from_nothing(burst.baseline, burst.rate);
    let expected = demand.local_forecast.as_ref().filter(|_| known).and_then(|forecast| {
        let step = f64::from(forecast.grid.step_seconds);
        let reaching = forecast.points.iter().filter(|(t, _)| f64::from(t.steps()) * step >= lead_seconds);
        let point = reaching.min_by_key(|(t, _)| t.steps()).or_else(|| forecast.points.last())?;
        Some(point.1.at(prescale_models::Level::P90))
    });
    let measured = demand.rate.map_or(burst.rate, RequestsPerSecond::get).max(burst.rate);
    let bounded = expected.unwrap_or(0.0).max(burst.rate).min(measured * MOST_BURST);
    RequestsPerSecond::new(bounded).ok()
}

pub(super) fn ready(state: &WorkloadState) -> u32 {
    count(state, PodPhase::Ready)
}

pub(super) fn count(state: &WorkloadState, phase: PodPhase) -> u32 {
    u32::try_from(state.pods.iter().filter(|pod| pod.phase == phase).count()).unwrap_or(u32::MAX)
}

/// A plan that broke a rule: everything stays, and it says so.
fn refuse(planned: &mut WorkloadPlan) {
    let current = planned.replicas_before;
    planned.replicas = current;
    planned.need = planned.need.max(current);
    planned.steps = vec![Step { limiter: Limiter::Hold(HoldCause::CheckFailed), before: 0, after: current }];
}
