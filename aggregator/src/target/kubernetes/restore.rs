//! Gives every raised minimum back at once, before an uninstall. Needs no running aggregator, and stops one first.

use std::fmt::Debug;
use std::time::Duration;

use anyhow::{Context as _, bail};
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use kube::api::{Api, ApiResource, DynamicObject, ListParams, Patch, PatchParams};
use kube::{Resource, ResourceExt};
use prescale_core::standing::{Kept, ScalerKind, keep};
use serde::de::DeserializeOwned;
use serde_json::json;
use tokio::time::Instant;

use super::objects::{ScalerFacts, ScalerKey};
use super::shared::{CallError, Shared, wall};
use super::watches::scaled_object;
use super::writes::minimum;

/// Looks at everything: a scaler's status changes every 15 s, so a conflict is rare twice.
const PASSES: u32 = 5;
const BETWEEN: Duration = Duration::from_secs(1);
/// The chart gives an aggregator 20 s to end; a node that is away may take for ever.
const ENDS: Duration = Duration::from_secs(60);
/// Objects in one answer of the API server.
const PAGE: u32 = 500;

/// Restores the floors of `namespaces`, all where none is named, after the StatefulSet `stop` has ended.
///
/// # Errors
/// No cluster, or each scaler that could not be restored, with the reason.
pub async fn restore_floors(stop: Option<&str>, namespaces: &[String]) -> anyhow::Result<()> {
    let shared = super::connect().await?;
    if let Some(name) = stop {
        end(&shared, name).await.with_context(|| format!("can't stop the StatefulSet {name}"))?;
    }
    let mut restored = 0;
    let mut left = Vec::new();
    for pass in 0..PASSES {
        if pass > 0 {
            tokio::time::sleep(BETWEEN).await;
        }
        left.clear();
        for (scaler, facts) in floors(&shared, namespaces).await? {
            let of = format!("{} {}/{}", scaler.kind, scaler.namespace, scaler.name);
            match restore(&shared, &scaler, &facts).await {
                Ok(what) => {
                    restored += 1;
                    tracing::info!("the floor of the {of} is {what}");
                }
                Err(error) => left.push(format!("the floor of the {of} is not given back: {error}")),
            }
        }
        if left.is_empty() {
            tracing::info!("{restored} raised minimums restored, none left");
            return Ok(());
        }
    }
    bail!("{}", left.join("; "))
}

/// Scales our own StatefulSet to 0 and waits until its pods are gone.
async fn end(shared: &Shared, name: &str) -> anyhow::Result<()> {
    let api: Api<StatefulSet> = Api::namespaced(shared.client.clone(), &shared.namespace);
    let none = Patch::Merge(json!({"spec": {"replicas": 0}}));
    match shared.call(api.patch_scale(name, &PatchParams::default(), &none)).await {
        Err(error) if error.status() == Some(404) => return Ok(()),
        other => other?,
    };
    let deadline = Instant::now() + ENDS;
    loop {
        let now = shared.call(api.get_opt(name)).await?;
        let pods = now.and_then(|it| it.status).map_or(0, |status| status.replicas);
        if pods == 0 {
            return Ok(());
        }
        if Instant::now() >= deadline {
            // Its Lease may hold for seconds more; a floor that it raised now would be found by the next pass.
            tracing::warn!(
                "{pods} pods of the StatefulSet {name} have not ended within {} s",
                ENDS.as_secs()
            );
            return Ok(());
        }
        tokio::time::sleep(BETWEEN).await;
    }
}

/// Every scaler that carries our annotation.
async fn floors(shared: &Shared, namespaces: &[String]) -> anyhow::Result<Vec<(ScalerKey, ScalerFacts)>> {
    let (client, kind) = (&shared.client, ApiResource::from_gvk(&scaled_object()));
    let (hpas, objects): (Vec<Api<HorizontalPodAutoscaler>>, Vec<Api<DynamicObject>>) = if namespaces
        .is_empty()
    {
        (vec![Api::all(client.clone())], vec![Api::all_with(client.clone(), &kind)])
    } else {
        let each = namespaces.iter();
        each.map(|it| (Api::namespaced(client.clone(), it), Api::namespaced_with(client.clone(), it, &kind)))
            .unzip()
    };
    let mut found = Vec::new();
    for api in hpas {
        let all = list(shared, &api).await.context("can't list the HorizontalPodAutoscalers")?;
        found.extend(
            all.iter().filter_map(|it| {
                Some((key(it, ScalerKind::HorizontalPodAutoscaler), ScalerFacts::of_hpa(it)?))
            }),
        );
    }
    for api in objects {
        let all = match list(shared, &api).await {
            // No KEDA here.
            Err(error) if error.status() == Some(404) => break,
            other => other.context("can't list the ScaledObjects")?,
        };
        found.extend(
            all.iter().filter_map(|it| {
                Some((key(it, ScalerKind::ScaledObject), ScalerFacts::of_scaled_object(it)?))
            }),
        );
    }
    found.retain(|(_, facts)| facts.floor.is_some());
    Ok(found)
}

fn key(object: &impl ResourceExt, kind: ScalerKind) -> ScalerKey {
    ScalerKey { namespace: object.namespace().unwrap_or_default(), kind, name: object.name_any() }
}

async fn list<K>(shared: &Shared, api: &Api<K>) -> Result<Vec<K>, CallError>
where
    K: Resource + Clone + Debug + DeserializeOwned,
{
    let mut found = Vec::new();
    let mut params = ListParams::default().limit(PAGE);
    loop {
        let page = shared.call(api.list(&params)).await?;
        found.extend(page.items);
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params = params.continue_token(&token),
            None => return Ok(found),
        }
    }
}

/// Ends one floor by the rules that the aggregator ends it by.
async fn restore(shared: &Shared, scaler: &ScalerKey, facts: &ScalerFacts) -> anyhow::Result<&'static str> {
    let Some(Ok(floor)) = facts.floor else {
        bail!("its annotation can't be read: set its minimum yourself and remove the annotation");
    };
    let (what, minimum_then) = match keep(wall(), facts.min_replicas, floor, None) {
        Kept::Restore => ("given back", floor.before),
        Kept::LetGo => ("let go: somebody has set another minimum since", facts.min_replicas),
        Kept::AsItIs | Kept::Write(_) => unreachable!("nothing needs it any more"),
    };
    minimum(shared, scaler, facts, minimum_then, None).await?;
    Ok(what)
}
