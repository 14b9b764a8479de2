//! What is asked of it over HTTP: how it stands, a training at once, the way back.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use prescale_core::world::WorkloadId;
use prescale_models::WeightsKind;
use prescale_shell::http::{
    JSON, Method, Request, Response, StatusCode, header, json, method_not_allowed, query, text,
};
use serde::Serialize;

use super::versions::Version;
use super::{Finished, Refused, Training};

/// Where the state of it is.
pub const PATH: &str = "/api/v1/models/training";
/// Where one is begun.
pub const TRAIN: &str = "/api/v1/models/train";
/// The way back.
pub const ROLLBACK: &str = "/api/v1/models/rollback";

/// How it stands, for `GET` of it and of the models.
#[derive(Debug, Serialize)]
pub struct View {
    models: Vec<ModelView>,
    trains: bool,
    next_unix_ms: Option<i64>,
    cpu_share: f64,
    running: Option<RunningView>,
    versions: Vec<Version>,
}

/// A kind that some choice runs with.
#[derive(Debug, Serialize)]
struct ModelView {
    model: &'static str,
    /// The version that runs.
    version: u32,
    last: Option<Finished>,
}

#[derive(Debug, Serialize)]
struct RunningView {
    run: i64,
    model: &'static str,
    workload: Option<WorkloadId>,
    progress: f64,
}

impl Training {
    /// Answers `GET` of the state.
    pub fn show(&self) -> Response {
        serialized(&self.view())
    }

    /// How it stands.
    pub fn view(&self) -> View {
        let (status, weights) = (self.status(), self.0.state.weights());
        let running = status.running.as_ref().map(|it| RunningView {
            run: it.run,
            model: it.kind.name(),
            workload: it.workload.clone(),
            progress: f64::from(it.progress.load(Ordering::Relaxed)) / 1000.0,
        });
        let model = |kind: &WeightsKind| ModelView {
            model: kind.name(),
            version: weights.active(*kind).0,
            last: status.last.get(kind).cloned(),
        };
        View {
            models: self.0.settings.kinds.iter().map(model).collect(),
            trains: self.0.state.leads(),
            next_unix_ms: status.next,
            cpu_share: self.0.settings.share.get(),
            running,
            versions: weights.kept().cloned().collect(),
        }
    }

    /// Answers `POST` of a training: 202 with the run's number.
    pub fn train(&self, request: &Request) -> Response {
        if let Some(refused) = refused(request) {
            return refused;
        }
        match self.begin() {
            Ok(run) => {
                let mut response = serialized(&serde_json::json!({ "run": run }));
                *response.status_mut() = StatusCode::ACCEPTED;
                response
            }
            Err(Refused::Runs) => text(StatusCode::CONFLICT, "a training runs already"),
            Err(Refused::NotLeading) => text(StatusCode::CONFLICT, NOT_LEADING),
            Err(Refused::Nothing) => text(StatusCode::CONFLICT, NOTHING),
        }
    }

    /// Answers `POST` of a rollback: 200 with the version that runs now.
    pub async fn roll_back(&self, request: &Request) -> Response {
        if let Some(refused) = refused(request) {
            return refused;
        }
        if !self.0.state.leads() {
            return text(StatusCode::CONFLICT, NOT_LEADING);
        }
        let kind = match self.meant(query(request.uri(), "model").as_deref()) {
            Ok(kind) => kind,
            Err(sentence) => return text(StatusCode::BAD_REQUEST, &sentence),
        };
        let state = Arc::clone(&self.0.state);
        let rolled = tokio::task::spawn_blocking(move || {
            let mut weights = state.weights();
            let was = weights.active(kind).0;
            weights.roll_back(kind).map(|to| (was, to))
        });
        match rolled.await {
            Ok(Ok((was, Some(to)))) => {
                self.swap().await;
                let model = kind.name();
                tracing::warn!("asked to: the weights of {model} go back from version {was} to version {to}");
                serialized(&serde_json::json!({ "model": model, "version": to, "was": was }))
            }
            Ok(Ok((_, None))) => text(StatusCode::CONFLICT, "the weights that ship run already"),
            Ok(Err(error)) => {
                tracing::error!("the weights of {} stay as they are: {error:#}", kind.name());
                text(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "the state directory can't be written; the log says why",
                )
            }
            Err(_) => text(StatusCode::INTERNAL_SERVER_ERROR, "the rollback failed; the log says how"),
        }
    }

    /// Whose way back is asked for: the kind that is named, or the only one.
    fn meant(&self, named: Option<&str>) -> Result<WeightsKind, String> {
        let kinds = &self.0.settings.kinds;
        let names: Vec<&str> = kinds.iter().map(|kind| kind.name()).collect();
        match (named, kinds.as_slice()) {
            (None, [only]) => Ok(*only),
            (_, []) => Err(NOTHING.into()),
            (None, _) => Err(format!("which of {}? say ?model=NAME", names.join(", "))),
            (Some(named), _) => {
                let kind = WeightsKind::of(named).filter(|kind| kinds.contains(kind));
                kind.ok_or_else(|| {
                    format!("model: {named:?} is not trained here; one of {}", names.join(", "))
                })
            }
        }
    }
}

const NOT_LEADING: &str = "this replica does not lead: ask the one that does";

/// Where there is nothing to train.
const NOTHING: &str = "nothing is trained here: --models and --models-for name none of gru, lstm, cnn, trees";

/// Why a request changes nothing. The content type keeps a foreign page in a person's browser from asking: it needs a leave
/// that we don't give.
fn refused(request: &Request) -> Option<Response> {
    if *request.method() != Method::POST {
        return Some(method_not_allowed("POST"));
    }
    let media_type = request.headers().get(header::CONTENT_TYPE).and_then(|it| it.to_str().ok());
    let is_json = media_type.and_then(|it| it.split(';').next()).is_some_and(|it| it.trim() == JSON);
    (!is_json).then(|| text(StatusCode::UNSUPPORTED_MEDIA_TYPE, "content-type: application/json is wanted"))
}

fn serialized(value: &impl Serialize) -> Response {
    json(serde_json::to_vec(value).expect("views have string keys and finite or null numbers"))
}
