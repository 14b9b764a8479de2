//! Every path of the aggregator: the agents' door, the JSON API, the page, metrics and probes, and which door has which.

use std::sync::Arc;
use std::time::Duration;

use prescale_core::view;
use prescale_core::world::WorkloadId;
use prescale_shell::admin;
use prescale_shell::http::{
    Method, Parts, Request, Response, StatusCode, header, json, method_not_allowed, not_found, query, secret,
    segments, text,
};
use prescale_shell::server::{Handler, Limits};
use prescale_shell::token::TokenFile;
use serde::Serialize;
use tokio::sync::watch;

use crate::comparison::Comparison;
use crate::control::{Ask, Health, Overloaded};
use crate::ingest::{self, Ingest};
use crate::metrics::Metrics;
use crate::page;
use crate::predict::{self, Predict};
use crate::state::State;
use crate::state::peers;
use crate::training::{self, Training};

/// Errors of every model: a path of its own, for whoever wants so many series.
const MODEL_METRICS: &str = "/metrics/models";

/// One door of the aggregator: all of them ask the same loop.
#[derive(Debug)]
pub struct Door {
    /// What answers.
    pub api: Arc<Api>,
    /// Whether agents come in here.
    pub agents: bool,
    /// Who sees the page and the JSON API here.
    pub page: PageAccess,
}

/// Who sees the page and the JSON API.
#[derive(Debug)]
pub enum PageAccess {
    /// Whoever reaches the door.
    Open,
    /// Who knows the secret.
    Secret(TokenFile),
    /// Nobody: they are at another door.
    Elsewhere,
}

/// Answers everything.
#[derive(Debug)]
pub struct Api {
    /// The agents' door, with the way to the control loop.
    pub ingest: Ingest,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Whether the target answers and the agents are heard.
    pub health: watch::Receiver<Health>,
    /// Where the target is, for people.
    pub target_name: String,
    /// The demo's finished runs.
    pub comparison: Comparison,
    /// Forecasts on request.
    pub predict: Predict,
    /// Training on the cluster's own history.
    pub training: Training,
    /// What other replicas may read.
    pub state: Arc<State>,
}

/// Bounds on what clients may take from us.
pub fn limits() -> Limits {
    Limits {
        // 5,000 agents, each with a report and a long poll under way, and people.
        connections: 10_240,
        body_bytes: prescale_core::wire::MAX_BODY_BYTES,
        // Everything that waits here hears of the stop; a page's last answer may still take a while.
        drain: Duration::from_secs(5),
        ..Limits::default()
    }
}

/// `/api/v1/workloads`: the view, the target's health, and what it refuses.
#[derive(Serialize)]
struct Workloads<'a> {
    #[serde(flatten)]
    list: view::List,
    target: TargetView<'a>,
    refusals: &'a [view::Refusal],
}

/// `/api/v1/workloads/{namespace}/{name}`: the view, and what the target refuses of it.
#[derive(Serialize)]
struct Workload<'a> {
    #[serde(flatten)]
    workload: &'a view::Workload,
    refusals: Vec<&'a view::Refusal>,
}

#[derive(Serialize)]
struct TargetView<'a> {
    name: &'a str,
    up: bool,
    /// Real seconds since it stopped answering; `null` while it answers.
    down_seconds: Option<f64>,
    reason: Option<String>,
}

/// `/api/v1/models`: the view and how the training of what is trained stands.
#[derive(Serialize)]
struct Models {
    #[serde(flatten)]
    models: view::Models,
    training: training::View,
}

impl Handler for Door {
    fn admit(&self, head: &Parts) -> Result<(), Response> {
        match head.uri.path() {
            ingest::REPORTS | ingest::WATCH | peers::SNAPSHOT if self.agents => {
                self.api.ingest.admit(head, &self.api.metrics)
            }
            ingest::REPORTS | ingest::WATCH | peers::SNAPSHOT => Err(not_found()),
            "/metrics" | MODEL_METRICS | "/healthz" | "/readyz" => Ok(()),
            _ => self.page.judge(head),
        }
    }

    async fn handle(&self, request: Request) -> Response {
        self.api.answer(request).await
    }
}

impl PageAccess {
    #[allow(clippy::result_large_err, reason = "as Handler::admit")]
    fn judge(&self, head: &Parts) -> Result<(), Response> {
        let file = match self {
            Self::Open => return Ok(()),
            Self::Elsewhere => {
                let sentence =
                    "the page and the API are on this pod's loopback only: use kubectl port-forward";
                return Err(text(StatusCode::NOT_FOUND, sentence));
            }
            Self::Secret(file) => file,
        };
        match file.read() {
            Ok(ours) if secret(&head.headers).is_some_and(|theirs| ours.matches(&theirs)) => Ok(()),
            Ok(_) => {
                let mut response = text(StatusCode::UNAUTHORIZED, "the page and the API want a secret");
                let ask = header::HeaderValue::from_static("Basic realm=\"prescale\"");
                response.headers_mut().insert(header::WWW_AUTHENTICATE, ask);
                Err(response)
            }
            Err(error) => {
                tracing::error!("nobody can see the page: {error:#}");
                Err(text(StatusCode::SERVICE_UNAVAILABLE, "the aggregator can't read the page's secret"))
            }
        }
    }
}

impl Api {
    async fn answer(&self, request: Request) -> Response {
        let path = request.uri().path();
        match path {
            ingest::REPORTS => return self.ingest.report(&request, &self.metrics).await,
            peers::SNAPSHOT => {
                return match self.ingest.peer(&request).await {
                    Ok(()) => peers::answer(Arc::clone(&self.state), &request).await,
                    Err(refused) => refused,
                };
            }
            ingest::WATCH => return self.ingest.watch(&request, &self.metrics).await,
            predict::PATH => return self.predict.answer(&request).await,
            training::TRAIN => return self.training.train(&request),
            training::ROLLBACK => return self.training.roll_back(&request).await,
            "/metrics" | MODEL_METRICS => self.scrape().await,
            _ => {}
        }
        if let Some(response) = admin::answer(&request, || &self.metrics.registry, || self.ready()) {
            return response;
        }
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return method_not_allowed("GET, HEAD");
        }
        if path == MODEL_METRICS {
            return admin::metrics(&self.metrics.models);
        }
        if let Some(response) = page::file(path) {
            return response;
        }
        let Some(segments) = segments(request.uri()) else { return not_found() };
        let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
        match segments.as_slice() {
            ["api", "v1", "workloads"] => self.list().await,
            ["api", "v1", "workloads", namespace, name] => {
                let id = WorkloadId { namespace: (*namespace).to_owned(), name: (*name).to_owned() };
                self.workload(id, &request).await
            }
            ["api", "v1", "models"] => self.models().await,
            ["api", "v1", "comparison"] => self.comparison.answer(),
            ["api", "v1", "models", "training"] => self.training.show(),
            _ => not_found(),
        }
    }

    /// Ready once the target has said what exists and the agents are heard, so that a rollout replaces a leader only beside
    /// one that can go on at once. A target that goes away later takes nothing from that: agents must go on reporting, and a
    /// Service would send them to an aggregator that is ready.
    fn ready(&self) -> admin::Readiness {
        let health = self.health.borrow();
        if health.seen {
            return health.unheard.clone().map_or(Ok(()), Err);
        }
        let name = &self.target_name;
        Err(match &health.down {
            Some((_, reason)) => format!("the target {name} has not answered yet: {reason}"),
            None => format!("the target {name} has not answered yet"),
        })
    }

    /// Fills in what both paths of metrics show of workloads; an overloaded loop leaves what was there.
    async fn scrape(&self) {
        if let Ok(snapshot) = self.ingest.control.ask(Ask::Scrape).await {
            self.metrics.show(*snapshot);
        }
    }

    async fn list(&self) -> Response {
        let Ok(list) = self.ingest.control.ask(Ask::List).await else { return overloaded() };
        let health = self.health.borrow().clone();
        let target = TargetView {
            name: &self.target_name,
            up: health.seen && health.down.is_none(),
            down_seconds: health.down.as_ref().map(|(since, _)| since.elapsed().as_secs_f64()),
            reason: health.down.map(|(_, reason)| reason),
        };
        serialized(&Workloads { list, target, refusals: &health.refusals })
    }

    async fn models(&self) -> Response {
        match self.ingest.control.ask(Ask::Models).await {
            Ok(models) => serialized(&Models { models: *models, training: self.training.view() }),
            Err(Overloaded) => overloaded(),
        }
    }

    async fn workload(&self, id: WorkloadId, request: &Request) -> Response {
        let window = match query(request.uri(), "timeline_seconds").map(|it| it.parse::<u32>()) {
            None => None,
            Some(Ok(seconds)) => Some(seconds),
            Some(Err(_)) => return text(StatusCode::BAD_REQUEST, "timeline_seconds is no whole number"),
        };
        match self.ingest.control.ask(|reply| Ask::Workload(id, reply)).await {
            Err(Overloaded) => overloaded(),
            Ok(None) => text(StatusCode::NOT_FOUND, "no such workload"),
            Ok(Some(mut workload)) => {
                if let Some(seconds) = window {
                    let first = workload.now_unix_ms - i64::from(seconds) * 1000;
                    workload.timeline.retain(|moment| moment.at_unix_ms >= first);
                }
                let all = Arc::clone(&self.health.borrow().refusals);
                let own =
                    |it: &&view::Refusal| it.namespace == workload.namespace && it.name == workload.name;
                serialized(&Workload { workload: &workload, refusals: all.iter().filter(own).collect() })
            }
        }
    }
}

fn overloaded() -> Response {
    text(StatusCode::SERVICE_UNAVAILABLE, "the aggregator has more to do than it can; ask again")
}

fn serialized(value: &impl Serialize) -> Response {
    json(serde_json::to_vec(value).expect("views have string keys and finite or null numbers"))
}
