//! What is written: `/scale`, scalers' minimums, Events. Each write carries the version that it was decided on.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, ApiResource, DynamicObject, Patch, PatchParams, PostParams};
use prescale_core::plan::Decision;
use prescale_core::standing::{FLOOR_ANNOTATION, Floor, Kept, ScalerKind, keep, raise};
use prescale_core::world::Mode;
use serde_json::json;
use tokio::time::Instant;

use super::model::Write;
use super::objects::{Key, Kind, ScalerFacts, ScalerKey};
use super::shared::{CallError, Shared, wall};
use super::watches::{scaled_object, spec};
use crate::target::TargetError;

/// A workload's status changes many times a second while pods come; so often a conflict with nothing but that is tried
/// again.
const TRIES: u32 = 4;
/// How often floors are looked after: a thirtieth of half their life.
pub(super) const FLOORS: Duration = Duration::from_secs(10);
const MANAGER: &str = "prescale";

/// Carries out a decision; the version that it made.
pub(super) async fn scale(shared: &Arc<Shared>, decision: &Decision) -> Result<u64, TargetError> {
    let until = shared.leads_until().ok_or(TargetError::NotLeader)?;
    let write = shared.read(|model| model.write(&decision.workload, decision.resource_version));
    let write = write.ok_or(TargetError::Conflict)?;
    let wrote = async {
        match &write {
            Write::Scale { key, generation, resource_version } => {
                replicas(shared, key, *generation, resource_version.clone(), decision.replicas).await
            }
            Write::Minimum { scaler, facts } => {
                let standing = facts.floor.and_then(Result::ok);
                let floor = raise(wall(), facts.min_replicas, standing, decision.replicas);
                minimum(shared, scaler, facts, Some(floor.set), Some(floor)).await?;
                Ok(shared.read(|model| model.version(&facts.target)))
            }
        }
    };
    // A request that is on its way at the deadline may still arrive: its resource version then decides.
    let result = match tokio::time::timeout_at(until, wrote).await {
        Ok(result) => result,
        Err(_) => return Err(TargetError::NoAnswer("the Lease ended before the answer".into())),
    };
    // The outcome does not wait for its Event.
    let (shared, decision) = (Arc::clone(shared), decision.clone());
    let failure = result.as_ref().err().filter(|error| error.status() != Some(409)).map(ToString::to_string);
    let conflict = result.is_err() && failure.is_none();
    if !conflict {
        tokio::spawn(async move { tell(&shared, &decision, &write, failure).await });
    }
    result.map_err(|error| match error.status() {
        Some(409) => TargetError::Conflict,
        Some(404) => TargetError::Gone,
        Some(status) => TargetError::Refused { status },
        None => TargetError::NoAnswer(error.to_string()),
    })
}

async fn replicas(
    shared: &Shared,
    key: &Key,
    generation: i64,
    mut resource_version: String,
    replicas: u32,
) -> Result<u64, CallError> {
    for attempt in 1.. {
        let patch =
            json!({"metadata": {"resourceVersion": resource_version}, "spec": {"replicas": replicas}});
        let error = match patch_scale(shared, key, &patch).await {
            Ok(version) => return Ok(shared.change(|model| model.wrote_replicas(key, replicas, version))),
            Err(error) => error,
        };
        if error.status() != Some(409) || attempt == TRIES {
            return Err(error);
        }
        // The same generation is the same spec: only the status has changed, and the decision stands.
        match spec(shared, key).await {
            Ok(Some(now)) if now.generation == generation => resource_version = now.resource_version,
            _ => return Err(error),
        }
    }
    unreachable!("the last try returns")
}

async fn patch_scale(shared: &Shared, key: &Key, patch: &serde_json::Value) -> Result<String, CallError> {
    let (params, patch) =
        (PatchParams { field_manager: Some(MANAGER.into()), ..PatchParams::default() }, Patch::Merge(patch));
    let (client, namespace, name) = (shared.client.clone(), &key.id.namespace, &key.id.name);
    let scale = match key.kind {
        Kind::Deployment => {
            let api: Api<Deployment> = Api::namespaced(client, namespace);
            shared.call(api.patch_scale(name, &params, &patch)).await?
        }
        Kind::StatefulSet => {
            let api: Api<StatefulSet> = Api::namespaced(client, namespace);
            shared.call(api.patch_scale(name, &params, &patch)).await?
        }
    };
    Ok(scale.metadata.resource_version.unwrap_or_default())
}

/// Writes a scaler's minimum and our annotation on it; `None` takes either away.
pub(super) async fn minimum(
    shared: &Shared,
    scaler: &ScalerKey,
    facts: &ScalerFacts,
    minimum: Option<u32>,
    floor: Option<Floor>,
) -> Result<(), CallError> {
    let field = match scaler.kind {
        ScalerKind::HorizontalPodAutoscaler => "minReplicas",
        ScalerKind::ScaledObject => "minReplicaCount",
    };
    let patch = Patch::Merge(json!({
        "metadata": {
            "resourceVersion": facts.resource_version,
            "annotations": { FLOOR_ANNOTATION: floor.map(|it| it.to_string()) },
        },
        "spec": { field: minimum },
    }));
    let params = PatchParams { field_manager: Some(MANAGER.into()), ..PatchParams::default() };
    let client = shared.client.clone();
    let now = match scaler.kind {
        ScalerKind::HorizontalPodAutoscaler => {
            let api: Api<HorizontalPodAutoscaler> = Api::namespaced(client, &scaler.namespace);
            ScalerFacts::of_hpa(&shared.call(api.patch(&scaler.name, &params, &patch)).await?)
        }
        ScalerKind::ScaledObject => {
            let kind = ApiResource::from_gvk(&scaled_object());
            let api: Api<DynamicObject> = Api::namespaced_with(client, &scaler.namespace, &kind);
            ScalerFacts::of_scaled_object(&shared.call(api.patch(&scaler.name, &params, &patch)).await?)
        }
    };
    shared.change(|model| model.put_scaler(scaler.clone(), now));
    Ok(())
}

/// Renews, lowers and gives back floors, while we lead.
pub(super) async fn look_after_floors(shared: &Shared) {
    let floors = shared.read(|model| model.floors());
    {
        let mut state = shared.state();
        let standing: Vec<_> = floors.iter().map(|(_, facts, _)| facts.target.id.clone()).collect();
        state.needs.retain(|id, _| standing.contains(id));
        for id in standing {
            state.needs.entry(id).or_insert(None);
        }
    }
    for (scaler, facts, standing) in floors {
        let (Some(Ok(floor)), Some(_)) = (facts.floor, shared.leads_until()) else { continue };
        let id = &facts.target.id;
        let measured = shared.state().needs.get(id).copied().flatten();
        let need = standing.and_then(|it| match it.settings.mode {
            Mode::Floor if !it.settings.paused => Some(measured.unwrap_or(floor.set)),
            // Paused, or something is wrong that a person will mend: what stands stays.
            _ if it.settings.paused || !it.refusals.is_empty() => Some(floor.set),
            _ => None,
        });
        let (what, result) = match keep(wall(), facts.min_replicas, floor, need) {
            Kept::AsItIs => continue,
            Kept::Write(floor) => {
                ("renewed", minimum(shared, &scaler, &facts, Some(floor.set), Some(floor)).await)
            }
            Kept::Restore => ("given back", minimum(shared, &scaler, &facts, floor.before, None).await),
            Kept::LetGo => ("let go", minimum(shared, &scaler, &facts, facts.min_replicas, None).await),
        };
        let of = format!("{} {}/{}", scaler.kind, scaler.namespace, scaler.name);
        match result {
            Ok(()) => {
                shared.state().needs.insert(id.clone(), None);
                tracing::info!("the floor of the {of} is {what}");
            }
            Err(error) => tracing::warn!("the floor of the {of} is not {what}: {error}"),
        }
    }
}

/// Tells what is refused, as it is due, while we lead and nothing more urgent wants our share of the API server.
pub(super) async fn tell_refusals(shared: &Shared) {
    let rows = shared.read(|model| model.rows());
    shared.state().telling.keep(|key| rows.iter().any(|row| row.key == *key));
    for row in rows {
        let due = shared.state().telling.due(Instant::now(), &row.key, &row.refusals);
        for refusal in due {
            if !shared.pace.spare(Instant::now()) {
                return;
            }
            let (reason, note) = (refusal.reason(), refusal.to_string());
            let written = event(shared, &row.key, &row.uid, "Warning", reason, note).await;
            let mut state = shared.state();
            match written {
                Ok(()) => state.telling.told(Instant::now(), &row.key, refusal),
                Err(error) => {
                    if state.telling.failed(Instant::now(), &row.key) {
                        let id = &row.key.id;
                        tracing::warn!(
                            "an Event on {}/{} was not written, which is tried again less and less: {error}",
                            id.namespace,
                            id.name
                        );
                    }
                    // What forbids one forbids the workload's others.
                    break;
                }
            }
        }
    }
}

/// An Event for a write: each that came through, and a failure once until it fails otherwise.
async fn tell(shared: &Shared, decision: &Decision, write: &Write, failure: Option<String>) {
    let key = match write {
        Write::Scale { key, .. } => key,
        Write::Minimum { facts, .. } => &facts.target,
    };
    let Some(uid) = shared.read(|model| model.uid(key)) else { return };
    let (from, to, why) = (decision.replicas_before, decision.replicas, decision.reason.sentence());
    match failure {
        None => {
            shared.state().failures.remove(&key.id);
            let (reason, what) = match write {
                Write::Scale { .. } => ("Scaled", format!("Scaled from {from} to {to}")),
                Write::Minimum { scaler, .. } => (
                    "FloorRaised",
                    format!(
                        "Raised the minimum of the {} {} to {to}, from {from} replicas",
                        scaler.kind, scaler.name
                    ),
                ),
            };
            unless_lost(key, event(shared, key, &uid, "Normal", reason, format!("{what}: {why}")).await);
        }
        Some(error) => {
            let note = format!("Could not scale to {to}: {error}");
            let before = shared.state().failures.insert(key.id.clone(), error.clone());
            if before != Some(error) {
                unless_lost(key, event(shared, key, &uid, "Warning", "ScaleFailed", note).await);
            }
        }
    }
}

/// An Event on a write that is not taken is not worth a second call.
fn unless_lost(key: &Key, written: Result<(), CallError>) {
    if let Err(error) = written {
        tracing::warn!("an Event on {}/{} was not written: {error}", key.id.namespace, key.id.name);
    }
}

/// Writes an Event.
async fn event(
    shared: &Shared,
    key: &Key,
    uid: &str,
    kind: &str,
    reason: &str,
    mut note: String,
) -> Result<(), CallError> {
    // The API takes 1 KiB.
    while note.len() > 1000 {
        note.pop();
    }
    let Key { id, kind: workload } = key;
    let event = Event {
        metadata: ObjectMeta {
            generate_name: Some(format!("{}-", id.name.chars().take(60).collect::<String>())),
            namespace: Some(id.namespace.clone()),
            ..ObjectMeta::default()
        },
        event_time: Some(MicroTime(Timestamp::now())),
        action: Some("Scale".into()),
        reason: Some(reason.into()),
        note: Some(note),
        type_: Some(kind.into()),
        regarding: Some(ObjectReference {
            api_version: Some("apps/v1".into()),
            kind: Some(workload.name().into()),
            namespace: Some(id.namespace.clone()),
            name: Some(id.name.clone()),
            uid: Some(uid.into()),
            ..ObjectReference::default()
        }),
        reporting_controller: Some("prescale.dev/aggregator".into()),
        reporting_instance: Some(shared.name.clone()),
        ..Event::default()
    };
    let api: Api<Event> = Api::namespaced(shared.client.clone(), &id.namespace);
    shared.call(api.create(&PostParams::default(), &event)).await.map(drop)
}
