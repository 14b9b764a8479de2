//! What the agent counts about itself, and the registry; the pods' series are in `metrics/pods.rs`.

mod pods;

use std::sync::Arc;

use prescale_core::wire::{NotMeasurable, PodState};
use prescale_shell::client::{Failure, Reply};
use prescale_shell::http::StatusCode;
use prescale_shell::tls::Distrust;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use self::pods::{Pods, STATES};
use crate::shared::Shared;

/// How a request to an aggregator went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// A success status.
    Ok,
    /// 401 or 403.
    Denied,
    /// Another 4xx.
    Refused,
    /// 5xx, or a status that has no place here.
    ServerError,
    /// No reply.
    NoReply(Failure),
}

impl Outcome {
    /// One of each name.
    const ALL: [Self; 10] = [
        Self::Ok,
        Self::Denied,
        Self::Refused,
        Self::ServerError,
        Self::NoReply(Failure::Connect),
        Self::NoReply(Failure::Tls(Distrust::Handshake)),
        Self::NoReply(Failure::TimedOut),
        Self::NoReply(Failure::Broken),
        Self::NoReply(Failure::TooLarge),
        Self::NoReply(Failure::Token),
    ];

    /// Of a reply, or none.
    pub fn of(reply: &Result<Reply, Failure>) -> Self {
        match reply {
            Ok(reply) if reply.status().is_success() || reply.status() == StatusCode::NOT_MODIFIED => {
                Self::Ok
            }
            Ok(reply) if matches!(reply.status(), StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => {
                Self::Denied
            }
            Ok(reply) if reply.status().is_client_error() => Self::Refused,
            Ok(_) => Self::ServerError,
            Err(failure) => Self::NoReply(*failure),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Denied => "denied",
            Self::Refused => "refused",
            Self::ServerError => "server_error",
            Self::NoReply(Failure::Connect) => "no_connection",
            Self::NoReply(Failure::Tls(_)) => "tls",
            Self::NoReply(Failure::TimedOut) => "timed_out",
            Self::NoReply(Failure::Broken) => "broken",
            Self::NoReply(Failure::TooLarge) => "too_large",
            Self::NoReply(Failure::Token) => "no_token",
        }
    }
}

/// By name: every reason to distrust a certificate is the one outcome `tls`, and must be one series.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabel {
    outcome: &'static str,
}

fn label(outcome: Outcome) -> OutcomeLabel {
    OutcomeLabel { outcome: outcome.name() }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabel {
    reason: &'static str,
}

/// What the agent counts about itself.
#[derive(Debug)]
pub struct Metrics {
    reports: Family<OutcomeLabel, Counter>,
    report_bytes: Counter,
    superseded: Counter,
    watches: Family<OutcomeLabel, Counter>,
    attaches: Counter,
    attach_failures: Family<ReasonLabel, Counter>,
    attach_lag: Histogram,
    polls: Histogram,
    read_failures: Counter,
    searched: Counter,
}

impl Default for Metrics {
    /// Every label value of a known set at 0: what has not happened yet is no missing series.
    fn default() -> Self {
        let it = Self {
            reports: Family::default(),
            report_bytes: Counter::default(),
            superseded: Counter::default(),
            watches: Family::default(),
            attaches: Counter::default(),
            attach_failures: Family::default(),
            // From one poll of a directory's neighbours to one of the longest back-offs.
            attach_lag: Histogram::new([0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0]),
            // From an idle node to the point where polls overlap.
            polls: Histogram::new([0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0]),
            read_failures: Counter::default(),
            searched: Counter::default(),
        };
        for outcome in Outcome::ALL {
            it.reports.get_or_create(&label(outcome)).inc_by(0);
            it.watches.get_or_create(&label(outcome)).inc_by(0);
        }
        for (state, reason) in STATES {
            if matches!(state, PodState::NotMeasurable(_)) {
                it.attach_failures.get_or_create(&ReasonLabel { reason }).inc_by(0);
            }
        }
        it
    }
}

impl Metrics {
    /// A report of `bytes` bytes was sent.
    pub(crate) fn pushed(&self, outcome: Outcome, bytes: usize) {
        self.reports.get_or_create(&label(outcome)).inc();
        self.report_bytes.inc_by(bytes as u64);
    }

    /// `reports` were replaced by a newer one before an aggregator took them.
    pub(crate) fn superseded(&self, reports: u64) {
        self.superseded.inc_by(reports);
    }

    /// A question for the watch list was answered, or not.
    pub(crate) fn watched(&self, outcome: Outcome) {
        self.watches.get_or_create(&label(outcome)).inc();
    }

    /// Attached, at most `lag_seconds` after the pod could have been.
    pub(crate) fn attached(&self, lag_seconds: f64) {
        self.attaches.inc();
        self.attach_lag.observe(lag_seconds);
    }

    /// An attach failed.
    pub(crate) fn attach_failed(&self, reason: NotMeasurable) {
        self.attach_failures.get_or_create(&ReasonLabel { reason: not_measurable(reason) }).inc();
    }

    /// A poll took `seconds` of real time.
    pub(crate) fn polled(&self, seconds: f64, directories_read: u64) {
        self.polls.observe(seconds);
        self.searched.inc_by(directories_read.saturating_sub(self.searched.get()));
    }

    /// The kernel refused to give a pod's counters.
    pub(crate) fn read_failed(&self) {
        self.read_failures.inc();
    }
}

/// A registry that renders `shared`.
pub fn registry(shared: &Arc<Shared>) -> Registry {
    let mut registry = Registry::default();
    let own = &shared.metrics;
    registry.register(
        "prescale_agent_reports",
        "Reports sent to an aggregator, by how that went",
        own.reports.clone(),
    );
    registry.register("prescale_agent_report_bytes", "Bytes of the reports sent", own.report_bytes.clone());
    registry.register(
        "prescale_agent_reports_superseded",
        "Reports that a newer one replaced before an aggregator took them; nothing is lost by it",
        own.superseded.clone(),
    );
    registry.register(
        "prescale_agent_watch_polls",
        "Questions for the watch list, by how they went",
        own.watches.clone(),
    );
    registry.register("prescale_agent_attaches", "Pods attached to", own.attaches.clone());
    registry.register(
        "prescale_agent_attach_failures",
        "Attaches that failed, by reason; each is tried again",
        own.attach_failures.clone(),
    );
    registry.register(
        "prescale_agent_attach_lag_seconds",
        "From when a pod was wanted and last seen without directory to its attach",
        own.attach_lag.clone(),
    );
    registry.register(
        "prescale_agent_poll_duration_seconds",
        "Time that one poll of all pods took",
        own.polls.clone(),
    );
    registry.register(
        "prescale_agent_read_failures",
        "Readings of a pod's counters that the kernel refused",
        own.read_failures.clone(),
    );
    registry.register(
        "prescale_agent_searched_directories",
        "Directories read in search of pods",
        own.searched.clone(),
    );
    registry.register_collector(Box::new(Pods(Arc::clone(shared))));
    registry
}

/// The reason's label value.
pub(crate) fn not_measurable(reason: NotMeasurable) -> &'static str {
    let found = STATES.iter().find(|(state, _)| *state == PodState::NotMeasurable(reason));
    found.map_or("unknown", |(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_outcome_is_a_series_from_the_start_and_one_only() {
        let metrics = Metrics::default();
        metrics.pushed(Outcome::NoReply(Failure::Tls(Distrust::Handshake)), 1);
        metrics.pushed(Outcome::NoReply(Failure::Tls(Distrust::Expired)), 1);
        let mut registry = Registry::default();
        registry.register("reports", "R", metrics.reports.clone());
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        let value = |outcome: &str| {
            let start = format!("reports_total{{outcome=\"{outcome}\"}} ");
            let found: Vec<_> = text.lines().filter_map(|line| line.strip_prefix(start.as_str())).collect();
            assert_eq!(found.len(), 1, "{outcome}: {text}");
            found[0].to_owned()
        };
        assert_eq!(value("tls"), "2");
        assert_eq!(value("no_token"), "0");
        assert_eq!(text.matches("reports_total{").count(), Outcome::ALL.len(), "{text}");
    }
}
