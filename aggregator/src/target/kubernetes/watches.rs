//! The watches: metadata of all Deployments and StatefulSets, scalers, and the pods of namespaces that opted in.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind};
use kube::core::PartialObjectMeta;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Resource, ResourceExt as _};
use prescale_core::standing::ScalerKind;
use serde::de::DeserializeOwned;
use tokio::task::JoinHandle;

use super::model::{Change, Facts, Source};
use super::objects::{Key, Kind, Meta, PodFacts, ScalerFacts, Spec};
use super::shared::{CallError, Shared, short};

/// Bound pods that have not ended; the API server leaves out the rest.
const LIVE_PODS: &str = "spec.nodeName!=,status.phase!=Succeeded,status.phase!=Failed";
/// How often it is looked whether KEDA has come or gone.
const DISCOVERY: Duration = Duration::from_secs(60);
/// Specs that are read at the same time.
const READS: usize = 8;
/// After a spec could not be read.
const AGAIN: Duration = Duration::from_secs(1);

/// Starts every watch that does not depend on what is opted in.
pub(super) fn start(shared: &Arc<Shared>) {
    tokio::spawn(workloads::<Deployment>(Arc::clone(shared), Kind::Deployment));
    tokio::spawn(workloads::<StatefulSet>(Arc::clone(shared), Kind::StatefulSet));
    tokio::spawn(hpas(Arc::clone(shared)));
    tokio::spawn(scaled_objects(Arc::clone(shared)));
    tokio::spawn(tend(Arc::clone(shared)));
}

async fn workloads<K>(shared: Arc<Shared>, kind: Kind)
where
    K: Resource<DynamicType = ()> + Clone + Debug + Send + Sync + DeserializeOwned + 'static,
{
    let api: Api<PartialObjectMeta<K>> = Api::all(shared.client.clone());
    let facts = |it: &PartialObjectMeta<K>| Meta::of(&it.metadata).map(Facts::Meta);
    follow(&shared, &Source::Workloads(kind), api, watcher::Config::default(), facts).await;
}

async fn hpas(shared: Arc<Shared>) {
    let api: Api<HorizontalPodAutoscaler> = Api::all(shared.client.clone());
    let facts = |it: &HorizontalPodAutoscaler| ScalerFacts::of_hpa(it).map(Facts::Scaler);
    let source = Source::Scalers(ScalerKind::HorizontalPodAutoscaler);
    follow(&shared, &source, api, watcher::Config::default(), facts).await;
}

/// KEDA's ScaledObjects, while the cluster knows such a thing.
async fn scaled_objects(shared: Arc<Shared>) {
    let kind = ApiResource::from_gvk(&scaled_object());
    let source = Source::Scalers(ScalerKind::ScaledObject);
    loop {
        match shared.call(shared.client.list_api_group_resources("keda.sh/v1alpha1")).await {
            Ok(known) if known.resources.iter().any(|it| it.kind == "ScaledObject") => {
                let api: Api<DynamicObject> = Api::all_with(shared.client.clone(), &kind);
                let facts = |it: &DynamicObject| ScalerFacts::of_scaled_object(it).map(Facts::Scaler);
                follow(&shared, &source, api, watcher::Config::default(), facts).await;
            }
            Err(error) if error.status() != Some(404) => trouble(&shared, &source, error.to_string()),
            _ => shared.change(|model| {
                model.apply(&source, Change::Begin);
                model.apply(&source, Change::Done);
            }),
        }
        tokio::time::sleep(DISCOVERY).await;
    }
}

/// KEDA's kind, without its types.
pub(super) fn scaled_object() -> GroupVersionKind {
    GroupVersionKind::gvk("keda.sh", "v1alpha1", "ScaledObject")
}

async fn pods(shared: Arc<Shared>, namespace: String) {
    let api: Api<Pod> = Api::namespaced(shared.client.clone(), &namespace);
    let facts = |it: &Pod| PodFacts::of(it).map(|it| Facts::Pod(Box::new(it)));
    let config = watcher::Config::default().fields(LIVE_PODS);
    follow(&shared, &Source::Pods(namespace), api, config, facts).await;
}

/// Feeds the model with a list for ever; ends only when the API no longer knows the kind.
async fn follow<K>(
    shared: &Shared,
    source: &Source,
    api: Api<K>,
    config: watcher::Config,
    facts: impl Fn(&K) -> Option<Facts>,
) where
    K: Resource + Clone + Debug + Send + DeserializeOwned + 'static,
{
    let mut events = std::pin::pin!(watcher(api, config).default_backoff());
    while let Some(event) = events.next().await {
        let name = |it: &K| (it.namespace().unwrap_or_default(), it.name_any());
        let change = match event {
            Ok(Event::Init) => Change::Begin,
            Ok(Event::InitApply(it) | Event::Apply(it)) => Change::Put(name(&it), facts(&it)),
            Ok(Event::Delete(it)) => Change::Put(name(&it), None),
            Ok(Event::InitDone) => {
                shared.state().trouble.remove(&format!("{source:?}"));
                Change::Done
            }
            Err(error) => {
                let (text, gone) = match &error {
                    watcher::Error::InitialListFailed(cause) | watcher::Error::WatchStartFailed(cause) => {
                        let code = if let kube::Error::Api(status) = cause { status.code } else { 0 };
                        (short(cause), code == 404)
                    }
                    other => (other.to_string(), false),
                };
                if gone {
                    return;
                }
                trouble(shared, source, text);
                continue;
            }
        };
        shared.change(|model| model.apply(source, change));
    }
}

/// A list that can't be read is said once, and again when it changes its reason.
fn trouble(shared: &Shared, source: &Source, text: String) {
    let source = format!("{source:?}");
    let before = shared.state().trouble.insert(source.clone(), text.clone());
    if before.as_ref() != Some(&text) {
        tracing::warn!("can't watch {source}: {text}");
    }
}

/// Keeps what depends on who opted in: the pods of their namespaces, and their specs.
async fn tend(shared: Arc<Shared>) {
    let mut changes = shared.changes();
    let mut watched: BTreeMap<String, JoinHandle<()>> = BTreeMap::new();
    loop {
        changes.borrow_and_update();
        let (namespaces, unread) = shared.read(|model| (model.namespaces(), model.unread()));
        watched.retain(|namespace, task| {
            let wanted = namespaces.contains(namespace);
            if !wanted {
                task.abort();
                shared.change(|model| model.forget_pods(namespace));
            }
            wanted
        });
        for namespace in namespaces {
            watched
                .entry(namespace.clone())
                .or_insert_with(|| tokio::spawn(pods(Arc::clone(&shared), namespace)));
        }
        let reads = unread.into_iter().map(|(key, writes)| {
            let shared = Arc::clone(&shared);
            async move { read(&shared, &key, writes).await }
        });
        let failed = futures_util::stream::iter(reads)
            .buffer_unordered(READS)
            .fold(false, |failed, read| async move { failed || !read })
            .await;
        let wait = async {
            if failed {
                tokio::time::sleep(AGAIN).await;
            } else {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            changed = changes.changed() => if changed.is_err() { return },
            () = wait => {}
        }
    }
}

/// Reads one spec; `false` when it has to be tried again.
async fn read(shared: &Shared, key: &Key, writes: u64) -> bool {
    let spec = spec(shared, key).await;
    match spec {
        Ok(Some(spec)) => shared.change(|model| model.put_spec(key, writes, spec)),
        Ok(None) => {}
        Err(error) => {
            let (namespace, name) = (&key.id.namespace, &key.id.name);
            tracing::warn!("can't read the {} {namespace}/{name}: {error}", key.kind.name());
        }
    }
    // A spec that is still older than the metadata is read again, too.
    shared.read(|model| model.unread().iter().all(|(unread, _)| unread != key))
}

/// A workload's spec as it is now; `None` when it is gone or can't be understood.
pub(super) async fn spec(shared: &Shared, key: &Key) -> Result<Option<Spec>, CallError> {
    let (namespace, name) = (&key.id.namespace, &key.id.name);
    Ok(match key.kind {
        Kind::Deployment => {
            let api: Api<Deployment> = Api::namespaced(shared.client.clone(), namespace);
            shared.call(api.get_opt(name)).await?.as_ref().and_then(Spec::of_deployment)
        }
        Kind::StatefulSet => {
            let api: Api<StatefulSet> = Api::namespaced(shared.client.clone(), namespace);
            shared.call(api.get_opt(name)).await?.as_ref().and_then(Spec::of_stateful_set)
        }
    })
}
