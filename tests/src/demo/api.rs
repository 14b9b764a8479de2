//! The local target's HTTP API: what exists, by long poll, and writes to `/scale` (ARCHITECTURE.md, "HTTP").

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use prescale_core::world::WorkloadState;
use prescale_shell::http::{Method, Request, Response, StatusCode, json, not_found, query, segments, text};
use prescale_shell::server::{Limits, bind, serve};
use prescale_shell::signals::Shutdown;
use serde::{Deserialize, Serialize};

use super::supervisor::{Conflict, Supervisor};

/// A long poll is answered after this even if nothing has changed.
const LONG_POLL: Duration = Duration::from_secs(25);

#[derive(Serialize)]
struct World {
    revision: u64,
    workloads: Vec<WorkloadState>,
}

#[derive(Deserialize)]
struct Scale {
    replicas: u32,
    resource_version: u64,
}

/// Serves `supervisor` on a free port of 127.0.0.1 until `shutdown`; returns the address.
///
/// # Errors
/// No port can be bound.
pub async fn start(supervisor: Arc<Supervisor>, shutdown: Shutdown) -> Result<SocketAddr> {
    let listener = bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await?;
    let address = listener.local_addr()?;
    let handler = move |request: Request| {
        let supervisor = Arc::clone(&supervisor);
        async move { answer(&request, &supervisor).await }
    };
    // A long poll under way at the end has nobody left to read its answer.
    let limits = Limits { drain: Duration::ZERO, ..Limits::default() };
    tokio::spawn(serve(listener, handler, limits, shutdown));
    Ok(address)
}

async fn answer(request: &Request, supervisor: &Arc<Supervisor>) -> Response {
    let segments = segments(request.uri()).unwrap_or_default();
    let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
    match (request.method(), segments.as_slice()) {
        (&Method::GET, ["v1", "workloads"]) => {
            let known = query(request.uri(), "revision").and_then(|revision| revision.parse::<u64>().ok());
            let mut revisions = supervisor.revisions();
            let news = revisions.wait_for(|&revision| Some(revision) != known);
            // A time-out is an answer too: what exists has not changed.
            let _ = tokio::time::timeout(LONG_POLL, news).await;
            let (revision, workload) = supervisor.workload();
            serialized(&World { revision, workloads: vec![workload] })
        }
        (&Method::PUT, ["v1", "workloads", namespace, name, "scale"]) => {
            let (_, workload) = supervisor.workload();
            if (*namespace, *name) != (&workload.id.namespace, &workload.id.name) {
                return text(StatusCode::NOT_FOUND, "no such workload");
            }
            let Ok(scale) = serde_json::from_slice::<Scale>(request.body()) else {
                return text(StatusCode::BAD_REQUEST, "want {\"replicas\":…,\"resource_version\":…}");
            };
            let bounds = workload.settings.min_replicas..=workload.settings.max_replicas;
            if !bounds.contains(&scale.replicas) {
                return text(
                    StatusCode::UNPROCESSABLE_ENTITY,
                    &format!("replicas must be within {bounds:?}"),
                );
            }
            match supervisor.scale(scale.replicas, Some(scale.resource_version)) {
                Ok(version) => serialized(&serde_json::json!({ "resource_version": version })),
                Err(Conflict) => text(StatusCode::CONFLICT, "the resource version has changed since"),
            }
        }
        _ => not_found(),
    }
}

fn serialized(value: &impl Serialize) -> Response {
    json(serde_json::to_vec(value).expect("these types have no map keys but strings and no failing parts"))
}
