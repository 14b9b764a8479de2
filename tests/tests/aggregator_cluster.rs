//! The aggregator in a cluster, on the real binary against an API server that answers as Kubernetes does: what is refused
//! is told by Events and in the API, and Events that nobody takes cost no write of replicas.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use prescale_shell::clock::Clock;
use prescale_shell::http::{JSON, Method, Request, Response, StatusCode, query, reply};
use prescale_tests::aggregator::{Aggregator, FakeAgent, until};
use prescale_tests::api_server::{ApiServer, body, refused, said};
use serde_json::{Value, json};

/// Deployments whose mode is misspelt.
const MISSPELT: usize = 30;

/// A cluster with those, and `web` in full mode with one pod on `node-a`.
#[derive(Default)]
struct Cluster(Mutex<State>);

#[derive(Default)]
struct State {
    lease: Option<Value>,
    replicas: Option<u32>,
    takes_events: bool,
    /// When an Event on each was asked for.
    tries: BTreeMap<String, Vec<Instant>>,
    /// The Events that were taken: of what, and what they say.
    events: Vec<(String, String)>,
}

fn metadata(name: &str) -> Value {
    let annotations = if name == "web" {
        json!({"prescale.dev/mode": "full", "prescale.dev/max-replicas": "20", "prescale.dev/rps-per-pod": "10"})
    } else {
        json!({"prescale.dev/mdoe": "full"})
    };
    json!({"name": name, "namespace": "shop", "uid": format!("uid-{name}"), "generation": 1,
        "resourceVersion": "1", "annotations": annotations})
}

fn list(version: &str, kind: &str, items: &[Value]) -> Response {
    let body =
        json!({"apiVersion": version, "kind": kind, "metadata": {"resourceVersion": "1"}, "items": items});
    said(StatusCode::OK, &body)
}

impl Cluster {
    async fn answer(&self, request: Request) -> Response {
        if query(request.uri(), "watch").is_some() {
            // Nothing changes that nobody of ours has changed.
            tokio::time::sleep(Duration::from_secs(5)).await;
            return reply(StatusCode::OK, JSON, "");
        }
        let path = request.uri().path();
        let mut state = self.0.lock().unwrap();
        const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/default/leases";
        const WEB: &str = "/apis/apps/v1/namespaces/shop/deployments/web";
        match (request.method(), path) {
            (&Method::GET, "/apis/apps/v1/deployments") => {
                let names =
                    (0..MISSPELT).map(|number| format!("misspelt-{number}")).chain(["web".to_owned()]);
                let object = |name: String| json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": metadata(&name)});
                list("meta.k8s.io/v1", "PartialObjectMetadataList", &names.map(object).collect::<Vec<_>>())
            }
            (&Method::GET, "/apis/apps/v1/statefulsets") => {
                list("meta.k8s.io/v1", "PartialObjectMetadataList", &[])
            }
            (&Method::GET, "/apis/autoscaling/v2/horizontalpodautoscalers") => {
                list("autoscaling/v2", "HorizontalPodAutoscalerList", &[])
            }
            (&Method::GET, "/api/v1/namespaces/shop/pods") => list("v1", "PodList", &[pod()]),
            (&Method::GET, WEB) => {
                let spec = json!({"replicas": state.replicas.unwrap_or(1),
                    "selector": {"matchLabels": {"app": "web"}}, "template": {}});
                let object = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata("web"), "spec": spec});
                said(StatusCode::OK, &object)
            }
            (&Method::PATCH, path) if path == format!("{WEB}/scale") => {
                let replicas = body(&request)["spec"]["replicas"].as_u64().unwrap();
                state.replicas = Some(replicas as u32);
                let metadata = json!({"name": "web", "namespace": "shop", "resourceVersion": "2"});
                said(
                    StatusCode::OK,
                    &json!({"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": metadata,
                        "spec": {"replicas": replicas}}),
                )
            }
            (&Method::POST, "/apis/events.k8s.io/v1/namespaces/shop/events") => {
                let event = body(&request);
                let of = event["regarding"]["name"].as_str().unwrap().to_owned();
                state.tries.entry(of.clone()).or_default().push(Instant::now());
                if !state.takes_events {
                    return refused(StatusCode::FORBIDDEN, "Forbidden");
                }
                state.events.push((of, event["note"].as_str().unwrap().to_owned()));
                said(StatusCode::CREATED, &event)
            }
            (&Method::POST | &Method::PUT, path) if path.starts_with(LEASES) => {
                let mut lease = body(&request);
                lease["metadata"]["resourceVersion"] = json!("1");
                state.lease = Some(lease.clone());
                said(StatusCode::OK, &lease)
            }
            (&Method::GET, path) if path.starts_with(LEASES) => match &state.lease {
                Some(lease) => said(StatusCode::OK, lease),
                None => refused(StatusCode::NOT_FOUND, "NotFound"),
            },
            // No KEDA.
            _ => refused(StatusCode::NOT_FOUND, "NotFound"),
        }
    }
}

fn pod() -> Value {
    let owner = json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-6c9f", "uid": "r-1", "controller": true});
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": "web-6c9f-1", "namespace": "shop", "uid": "pod-1", "resourceVersion": "1",
            "labels": {"app": "web", "pod-template-hash": "6c9f"}, "ownerReferences": [owner],
        },
        "spec": {"nodeName": "node-a", "containers": [{"name": "app", "ports": [{"containerPort": 8080}]}]},
        "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]},
    })
}

#[tokio::test]
async fn events_that_nobody_takes_are_tried_less_and_less_and_keep_no_write_back() {
    let cluster = Arc::new(Cluster::default());
    let of = Arc::clone(&cluster);
    let server = ApiServer::start(move |request: Request| {
        let cluster = Arc::clone(&of);
        async move { cluster.answer(request).await }
    })
    .await;
    let mut aggregator = Aggregator::in_cluster(&server.kubeconfig, "kubernetes", &[]);
    let mut agent = FakeAgent::default();
    let clock = (&Clock::real(), Duration::from_millis(200));
    // Of 100 requests/s at 10 a pod.
    aggregator
        .under_load(clock, &mut agent, 100.0, "a write of replicas", async || {
            let replicas = cluster.0.lock().unwrap().replicas;
            replicas.filter(|it| *it > 1).map(drop).ok_or(format!("{replicas:?}"))
        })
        .await;
    let tries = until("three tries of each", async || {
        let tries = cluster.0.lock().unwrap().tries.clone();
        let done = (0..MISSPELT)
            .all(|number| tries.get(&format!("misspelt-{number}")).is_some_and(|it| it.len() >= 3));
        if done { Ok(tries) } else { Err(format!("{:?}", tries.values().map(Vec::len).collect::<Vec<_>>())) }
    })
    .await;
    for (name, times) in tries.iter().filter(|(name, _)| name.starts_with("misspelt")) {
        // At least half of two and of four seconds.
        let (first, second) = (times[1] - times[0], times[2] - times[1]);
        assert!(
            first >= Duration::from_secs(1) && second >= Duration::from_secs(2),
            "{name}: {first:?}, {second:?}"
        );
    }
    let log = aggregator.log();
    let words =
        log.lines().filter(|line| line.contains("an Event on shop/misspelt-7 was not written")).count();
    assert_eq!(words, 1, "said once: {log}");

    let list = aggregator.json("/api/v1/workloads").await.unwrap();
    let refusals = list["refusals"].as_array().unwrap();
    assert_eq!(refusals.len(), MISSPELT, "{list}");
    assert!(
        refusals
            .iter()
            .all(|it| it["sentence"].as_str().unwrap().contains("did you mean prescale.dev/mode?"))
    );
    assert_eq!((&refusals[0]["namespace"], &refusals[0]["kind"]), (&json!("shop"), &json!("Deployment")));

    cluster.0.lock().unwrap().takes_events = true;
    until("an Event on each", async || {
        let told =
            cluster.0.lock().unwrap().events.iter().filter(|(of, _)| of.starts_with("misspelt")).count();
        if told >= MISSPELT { Ok(()) } else { Err(format!("{told}")) }
    })
    .await;
    // One more round of what is told, and nothing is told twice.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let events = cluster.0.lock().unwrap().events.clone();
    let told: Vec<_> = events.iter().filter(|(of, _)| of.starts_with("misspelt")).collect();
    assert_eq!(told.len(), MISSPELT, "{told:?}");
    assert!(told.iter().all(|(_, note)| note.starts_with("prescale.dev/mdoe: ")), "{told:?}");
}
