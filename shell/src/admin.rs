//! `/healthz`, `/readyz` and `/metrics`, alike in both binaries.

use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;

use crate::http::{Method, Request, Response, StatusCode, method_not_allowed, reply, text};

/// Media type of what `prometheus_client` writes.
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Whether there is something to do, or in one sentence what is missing.
pub type Readiness = Result<(), String>;

/// Answers the three paths; `None` for any other. `registry` and `ready` are asked only when needed.
pub fn answer<'a>(
    request: &Request,
    registry: impl FnOnce() -> &'a Registry,
    ready: impl FnOnce() -> Readiness,
) -> Option<Response> {
    let path = request.uri().path();
    if !matches!(path, "/healthz" | "/readyz" | "/metrics") {
        return None;
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return Some(method_not_allowed("GET, HEAD"));
    }
    Some(match path {
        // Whoever answers is alive.
        "/healthz" => text(StatusCode::OK, "ok"),
        "/readyz" => match ready() {
            Ok(()) => text(StatusCode::OK, "ok"),
            Err(missing) => text(StatusCode::SERVICE_UNAVAILABLE, &missing),
        },
        _ => metrics(registry()),
    })
}

/// Renders `registry`.
pub fn metrics(registry: &Registry) -> Response {
    let mut body = String::new();
    match encode(&mut body, registry) {
        Ok(()) => reply(StatusCode::OK, OPENMETRICS, body),
        Err(error) => {
            tracing::error!(%error, "can't render the metrics");
            text(StatusCode::INTERNAL_SERVER_ERROR, "the metrics can't be rendered")
        }
    }
}
