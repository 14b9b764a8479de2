//! A tracked workload as the API shows it.

use prescale_models::anomaly::Reason;
use prescale_models::{Forecast, LEVELS, Regime, Target};

use super::ClusterSettings;
use super::moments::BINS;
use super::scores::scores;
use super::tracked::{Tracked, count, ready};
use crate::counters::StatusClass;
use crate::merge::{PodLoad, Totals};
use crate::plan::{HoldCause, WorkloadPlan};
use crate::series::{Point, Resolution};
use crate::time::Now;
use crate::units::{Concurrency, RequestsPerSecond};
use crate::view;
use crate::wire::{NotMeasurable, PodState};
use crate::world::{PodPhase, WorkloadId, WorkloadState};

impl Tracked {
    pub(super) fn summary(&self, id: &WorkloadId) -> Option<view::Summary> {
        let state = self.state()?;
        Some(view::Summary {
            namespace: id.namespace.clone(),
            name: id.name.clone(),
            mode: state.settings.mode,
            replicas: self.counts(state),
            load_rps: self.demand.as_ref().and_then(|d| d.rate).map(RequestsPerSecond::get),
            reason: self.plan.as_ref().map(|(_, plan)| plan.reason().name()),
            gate: self.plan.as_ref().and_then(|(_, plan)| plan.gate).map(|gate| gate.name()),
            warning: self.warning(),
        })
    }

    pub(super) fn view(
        &self,
        now: Now,
        id: &WorkloadId,
        totals: &Totals,
        settings: &ClusterSettings,
        past: bool,
    ) -> Option<view::Workload> {
        let state = self.state()?;
        let demand = self.demand.as_ref();
        let mut pods: Vec<view::Pod> = demand.map_or_else(Vec::new, |demand| {
            let name = |uid: &str| state.pods.iter().find(|p| p.uid == uid).map(|p| p.name.clone());
            demand.pods.iter().map(|pod| pod_view(pod, name(&pod.uid))).collect()
        });
        pods.sort_by(|a, b| a.name.cmp(&b.name));
        Some(view::Workload {
            now_unix_ms: now.wall.0,
            namespace: id.namespace.clone(),
            name: id.name.clone(),
            settings: settings_view(state),
            sentence: self.sentence(settings),
            warning: self.warning(),
            replicas: self.counts(state),
            load: self.load_view(),
            regime: self.forecasts.ensembles().iter().find_map(|e| e.regime()).map(Regime::name),
            anomaly: self.forecasts.doubt().map(anomaly_view),
            totals: totals_view(totals, demand.map_or(0, |d| d.in_flight)),
            latency: demand.and_then(|d| d.latency.as_ref()).map(view::LatencyQuantiles::from),
            pods,
            timeline: if past { self.timeline(now) } else { Vec::new() },
            forecast: self.forecast_view(),
            weights: self.weights_view(),
            scores: scores(&self.forecasts),
            heads: self.heads_view(),
            plan: self.plan.as_ref().map(|(at, plan)| plan_view(at.0, plan, settings)),
            decisions: if past { self.log.iter().map(decision_view).collect() } else { Vec::new() },
            hpa: self.shadow.as_ref().map(|shadow| view::Hpa {
                replicas: shadow.replicas(),
                target_rps_per_pod: shadow.target_rps(),
            }),
            lead_time: view::LeadTime {
                planned_seconds: self.lead_time.planned_seconds(),
                median_seconds: self.lead_time.median_seconds(),
                measured_starts: self.lead_time.count(),
            },
        })
    }

    fn counts(&self, state: &WorkloadState) -> view::ReplicaCounts {
        view::ReplicaCounts {
            wanted: self.plan.as_ref().map(|(_, plan)| plan.replicas),
            current: state.replicas,
            ready: ready(state),
            starting: count(state, PodPhase::Starting),
            terminating: count(state, PodPhase::Terminating),
        }
    }

    fn sentence(&self, settings: &ClusterSettings) -> String {
        let Some((_, plan)) = &self.plan else { return "No plan yet.".to_owned() };
        let why = plan.steps.last().map_or_else(String::new, |step| plan.sentence(step, &settings.rules));
        match plan.gate {
            Some(gate) if plan.replicas != plan.replicas_before => format!("{why} {}", gate.sentence()),
            _ => why,
        }
    }

    fn warning(&self) -> Option<String> {
        let state = self.state()?;
        if let Some(problem) = state.settings.problem() {
            return Some(format!("The settings contradict themselves: {problem}. Nothing is changed."));
        }
        if let Some(violation) = self.broken {
            return Some(format!(
                "A plan broke the rule {} and was refused. Please report this.",
                violation.name()
            ));
        }
        if let Some(foreign) = self.writes.foreign() {
            return Some(format!(
                "Someone else set the replicas from {} to {}; that is respected until the workload's settings change.",
                foreign.from, foreign.to
            ));
        }
        if let Some(hold) = self.demand.as_ref().and_then(|d| d.hold.as_ref()) {
            return Some(format!("Nothing shrinks: {hold}."));
        }
        let doubt = self.forecasts.doubt().filter(|reason| reason.holds());
        doubt.map(|reason| anomaly_view(reason).sentence.to_owned())
    }

    fn load_view(&self) -> view::Load {
        let Some(demand) = &self.demand else { return view::Load::default() };
        view::Load {
            load_rps: demand.rate.map(RequestsPerSecond::get),
            finish_rps: demand.finish_rate.map(RequestsPerSecond::get),
            error_rps: demand.error_rate.map(RequestsPerSecond::get),
            concurrency: demand.concurrency.map(Concurrency::get),
            in_flight: demand.in_flight,
            censored: demand.censored.is_some(),
            burst: demand.burst.is_some(),
            freshness: demand.freshness,
        }
    }

    /// Six hours: minutes first, then tens of seconds for the last hour.
    fn timeline(&self, now: Now) -> Vec<view::Moment> {
        let fine_from = now.wall.unix_seconds() - 3600;
        let from = now.wall.unix_seconds() - 6 * 3600;
        let slow = self.series.newest(Resolution::Minute, BINS).map(|point| (60, point));
        let slow = slow.filter(|(step, p)| p.index * step >= from && (p.index + 1) * step <= fine_from);
        // The minute that straddles the border is told in tens of seconds.
        let border = fine_from.div_euclid(60) * 60;
        let fast = self.series.newest(Resolution::TenSeconds, BINS + 6).map(|point| (10, point));
        let fast = fast.filter(|(step, p)| p.index * step >= border);
        slow.chain(fast).map(|(step, point)| self.moment(step, &point)).collect()
    }

    fn moment(&self, step: i64, point: &Point) -> view::Moment {
        let ring = if step == 10 { &self.fine } else { &self.coarse };
        let moment = ring.get(point.index);
        view::Moment {
            at_unix_ms: point.index * step * 1000,
            length_seconds: step as u32,
            load_rps: point.load.map(RequestsPerSecond::get),
            concurrency: point.concurrency.map(Concurrency::get),
            censored: point.censored,
            p50_seconds: moment.and_then(|m| m.p50).map(f64::from),
            p99_seconds: moment.and_then(|m| m.p99).map(f64::from),
            wanted: moment.map(|m| m.wanted),
            current: moment.map(|m| m.current),
            ready: moment.map(|m| m.ready),
            hpa: moment.and_then(|m| m.hpa),
        }
    }

    fn forecast_view(&self) -> Option<view::Forecast> {
        let end = |f: &Forecast| (f.origin + 1) * i64::from(f.grid.step_seconds) * 1000;
        let origin_unix_ms = self.forecasts.current().map(end).max()?;
        let (mut at, mut max_over) = (Vec::new(), Vec::new());
        for forecast in self.forecasts.current() {
            let step = forecast.grid.step_seconds;
            // Horizons count from the common origin: the minute grid's may lie a little before it.
            let late = (origin_unix_ms - end(forecast)) / 1000;
            for (target, quantiles) in &forecast.points {
                let ahead = i64::from(target.steps() * step) - late;
                let Ok(horizon_seconds) = u32::try_from(ahead) else { continue };
                let point =
                    view::ForecastPoint { horizon_seconds, bin_seconds: step, quantiles: quantiles.values() };
                match target {
                    Target::At { .. } => at.push(point),
                    Target::MaxOver { .. } => max_over.push(point),
                }
            }
        }
        for points in [&mut at, &mut max_over] {
            points.sort_by_key(|p: &view::ForecastPoint| (p.horizon_seconds, p.bin_seconds));
        }
        Some(view::Forecast { origin_unix_ms, levels: LEVELS, at, max_over })
    }

    fn heads_view(&self) -> Vec<view::Head> {
        let heads = self.forecasts.ensembles().into_iter().filter_map(|ensemble| {
            let state = ensemble.head()?;
            let bin_seconds = ensemble.grid().step_seconds;
            let shares = ensemble.head_shares().map(|(target, shares)| view::HeadShare {
                horizon_seconds: target.steps() * bin_seconds,
                max_over: matches!(target, Target::MaxOver { .. }),
                weight: shares[prescale_models::Level::P50 as usize],
            });
            Some(view::Head {
                model: state.core.name(),
                bin_seconds,
                admitted: state.admitted,
                demoted: state.demoted,
                demotions: state.demotions,
                settled: state.settled,
                gain: state.verdict.map(|verdict| verdict.mean),
                gain_interval: state.verdict.map(|verdict| [verdict.low, verdict.high]),
                shares: shares.collect(),
            })
        });
        heads.collect()
    }

    fn weights_view(&self) -> Vec<view::Weights> {
        let mut rows: Vec<view::Weights> = Vec::new();
        for ensemble in self.forecasts.ensembles() {
            let step = ensemble.grid().step_seconds;
            for weight in ensemble.weights() {
                let horizon_seconds = weight.target.steps() * step;
                let max_over = matches!(weight.target, Target::MaxOver { .. });
                let same = |r: &view::Weights| {
                    r.horizon_seconds == horizon_seconds && r.bin_seconds == step && r.max_over == max_over
                };
                let row = match rows.iter().position(same) {
                    Some(at) => &mut rows[at],
                    None => {
                        let models = Vec::new();
                        rows.push(view::Weights { horizon_seconds, bin_seconds: step, max_over, models });
                        rows.last_mut().expect("one was just pushed")
                    }
                };
                let name = weight.model.name();
                let at = row.models.iter().position(|m| m.name == name).unwrap_or_else(|| {
                    let level_weights = [0.0; 5];
                    row.models.push(view::ModelWeight {
                        name,
                        awake: weight.awake,
                        weight: 0.0,
                        level_weights,
                    });
                    row.models.len() - 1
                });
                let model = &mut row.models[at];
                model.level_weights[weight.level as usize] = weight.weight;
                model.weight = model.level_weights[prescale_models::Level::P50 as usize];
            }
        }
        rows.sort_by_key(|r| (r.max_over, r.horizon_seconds, r.bin_seconds));
        rows
    }
}

fn anomaly_view(reason: Reason) -> view::Anomaly {
    let sentence = match reason {
        Reason::Fault => HoldCause::MonitoringFault.sentence(),
        Reason::Flood => HoldCause::Flood.sentence(),
        Reason::Synthetic => {
            "The load comes at a rate that a generator keeps. It is served and learned like any other."
        }
    };
    view::Anomaly { reason: reason.name(), holds: reason.holds(), sentence }
}

fn settings_view(state: &WorkloadState) -> view::Settings {
    let settings = &state.settings;
    view::Settings {
        mode: settings.mode,
        min_replicas: settings.min_replicas,
        max_replicas: settings.max_replicas,
        rps_per_pod: settings.rps_per_pod,
        slo_seconds: settings.slo_seconds,
        headroom: settings.headroom,
        paused: settings.paused,
    }
}

fn totals_view(totals: &Totals, in_flight: u64) -> view::Totals {
    let class = |class: StatusClass| totals.finishes[class as usize];
    view::Totals {
        starts: totals.starts,
        finishes: view::Finishes {
            all: totals.finishes.iter().sum(),
            unknown: class(StatusClass::Unknown),
            informational: class(StatusClass::Informational),
            success: class(StatusClass::Success),
            redirection: class(StatusClass::Redirection),
            client_error: class(StatusClass::ClientError),
            server_error: class(StatusClass::ServerError),
        },
        aborts: totals.aborts,
        in_flight,
        bytes_received: totals.bytes_received,
        bytes_sent: totals.bytes_sent,
        connections_opened: totals.connections_opened,
        retransmits: totals.retransmits,
        in_flight_seconds: totals.in_flight_integral_ns as f64 / 1e9,
    }
}

fn pod_view(pod: &PodLoad, name: Option<String>) -> view::Pod {
    let (state, state_reason) = match pod.state {
        PodState::Waiting => ("waiting", None),
        PodState::Measured => ("measured", None),
        PodState::NotMeasurable(reason) => ("not_measurable", Some(reason_name(reason))),
    };
    view::Pod {
        uid: pod.uid.clone(),
        name: name.unwrap_or_else(|| pod.uid.clone()),
        node: pod.node.clone(),
        phase: pod.phase,
        state,
        state_reason,
        age_seconds: pod.age_seconds,
        load_rps: pod.rate.map(RequestsPerSecond::get),
        concurrency: pod.concurrency.map(Concurrency::get),
        in_flight: pod.in_flight,
        p99_seconds: pod.latency.map(|l| l.p99_seconds),
        censored: pod.censored.is_some(),
    }
}

fn reason_name(reason: NotMeasurable) -> &'static str {
    match reason {
        NotMeasurable::CgroupTaken => "cgroup_taken",
        NotMeasurable::NoPermission => "no_permission",
        NotMeasurable::NoSlot => "no_slot",
        NotMeasurable::Vanished => "vanished",
        NotMeasurable::Unsupported => "unsupported",
        NotMeasurable::KernelRefused => "kernel_refused",
    }
}

fn plan_view(at_unix_ms: i64, plan: &WorkloadPlan, settings: &ClusterSettings) -> view::Plan {
    let basis = &plan.basis;
    let limiters = plan.steps.iter().map(|step| view::Limiter {
        name: step.limiter.name(),
        from: step.before,
        to: step.after,
        sentence: plan.sentence(step, &settings.rules),
    });
    view::Plan {
        at_unix_ms,
        wanted: plan.replicas,
        reason: plan.reason().name(),
        gate: plan.gate.map(|gate| view::Gate { name: gate.name(), sentence: gate.sentence() }),
        planned_for_rps: basis.scale_out.map(|u| u.load.get()),
        quantile: basis.scale_out.map(|u| u.level.probability()),
        horizon_seconds: basis.scale_out.map(|u| u.seconds),
        kept_for_rps: basis.scale_in.map(|u| u.load.get()),
        kept_for_seconds: basis.scale_in.map(|u| u.seconds),
        lead_time_seconds: basis.lead_time_seconds,
        capacity_rps_per_pod: basis.capacity.map(|c| c.rps_per_pod.get()),
        capacity_source: basis.capacity.map(|c| c.source.name()),
        measured_at_least_rps: basis.measured_rps,
        backlog: basis.backlog,
        limiters: limiters.collect(),
    }
}

fn decision_view(entry: &super::tracked::Logged) -> view::Decision {
    view::Decision {
        at_unix_ms: entry.at.0,
        from: entry.from,
        to: entry.to,
        reason: entry.reason.name(),
        sentence: entry.sentence.clone(),
        outcome: entry.outcome.map(super::Outcome::name),
    }
}
