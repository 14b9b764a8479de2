//! The program's errands as the chart's Jobs run them: against an API server that answers as Kubernetes does, and
//! against a running aggregator.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::{Arc, Mutex};

use prescale_shell::clock::Clock;
use prescale_shell::http::{Method, Request, Response, StatusCode};
use prescale_tests::aggregator::{Aggregator, FakeAgent, FakeTarget, workload};
use prescale_tests::api_server::{ApiServer, body, refused, said};
use prescale_tests::binaries::binary;
use serde_json::{Value, json};

const HPAS: &str = "/apis/autoscaling/v2/horizontalpodautoscalers";
const AGGREGATOR: &str = "/apis/apps/v1/namespaces/prescale/statefulsets/prescale-aggregator";

/// An API server with HPAs and our StatefulSet, and no KEDA.
#[derive(Default)]
struct Cluster {
    /// By the path of each.
    hpas: Mutex<BTreeMap<String, Value>>,
    /// Paths whose next write conflicts with somebody else's.
    conflicts: Mutex<Vec<String>>,
    writes: Mutex<Vec<String>>,
}

fn hpa(name: &str, minimum: u32, floor: Option<&str>) -> (String, Value) {
    let annotations = floor.map(|floor| json!({"prescale.dev/floor": floor, "team": "shop"}));
    let object = json!({
        "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": name, "namespace": "shop", "resourceVersion": "1", "annotations": annotations},
        "spec": {
            "minReplicas": minimum, "maxReplicas": 20,
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name},
        },
    });
    (format!("/apis/autoscaling/v2/namespaces/shop/horizontalpodautoscalers/{name}"), object)
}

impl Cluster {
    fn answer(&self, request: &Request) -> Response {
        let (method, path) = (request.method(), request.uri().path());
        if method == Method::PATCH {
            self.writes.lock().unwrap().push(path.to_owned());
        }
        let mut hpas = self.hpas.lock().unwrap();
        match (method, path) {
            (&Method::GET, HPAS) => {
                let items: Vec<&Value> = hpas.values().collect();
                said(
                    StatusCode::OK,
                    &json!({"kind": "HorizontalPodAutoscalerList", "apiVersion": "autoscaling/v2",
                    "metadata": {"resourceVersion": "9"}, "items": items}),
                )
            }
            (&Method::GET, AGGREGATOR) => said(
                StatusCode::OK,
                &json!({"kind": "StatefulSet", "apiVersion": "apps/v1",
                "metadata": {"name": "prescale-aggregator", "namespace": "prescale"}, "status": {"replicas": 0}}),
            ),
            (&Method::PATCH, path) if path == format!("{AGGREGATOR}/scale") => {
                assert_eq!(body(request), json!({"spec": {"replicas": 0}}));
                said(
                    StatusCode::OK,
                    &json!({"kind": "Scale", "apiVersion": "autoscaling/v1",
                    "metadata": {"name": "prescale-aggregator", "namespace": "prescale"}, "spec": {"replicas": 0}}),
                )
            }
            (&Method::PATCH, path) => {
                let Some(object) = hpas.get_mut(path) else {
                    return refused(StatusCode::NOT_FOUND, "NotFound");
                };
                let version = object["metadata"]["resourceVersion"].clone();
                let mut conflicts = self.conflicts.lock().unwrap();
                if let Some(at) = conflicts.iter().position(|it| it == path) {
                    conflicts.remove(at);
                    object["metadata"]["resourceVersion"] = json!("2");
                }
                let patch = body(request);
                if patch["metadata"]["resourceVersion"] != object["metadata"]["resourceVersion"] {
                    return refused(StatusCode::CONFLICT, "Conflict");
                }
                merge(object, &patch);
                object["metadata"]["resourceVersion"] = json!(format!("{}0", version.as_str().unwrap()));
                said(StatusCode::OK, object)
            }
            _ => refused(StatusCode::NOT_FOUND, "NotFound"),
        }
    }

    fn minimum_and_annotations(&self, name: &str) -> (Value, Value) {
        let (path, _) = hpa(name, 0, None);
        let hpas = self.hpas.lock().unwrap();
        (hpas[&path]["spec"]["minReplicas"].clone(), hpas[&path]["metadata"]["annotations"].clone())
    }
}

/// RFC 7386.
fn merge(into: &mut Value, patch: &Value) {
    let Some(patch) = patch.as_object() else {
        *into = patch.clone();
        return;
    };
    if !into.is_object() {
        *into = json!({});
    }
    for (key, value) in patch {
        if value.is_null() {
            into.as_object_mut().unwrap().remove(key);
        } else {
            merge(&mut into[key.as_str()], value);
        }
    }
}

/// Runs `prescale-aggregator restore-floors`; whether it succeeded, and its log.
async fn restore(api: &Arc<Cluster>) -> (bool, String) {
    let cluster = Arc::clone(api);
    let server = ApiServer::start(move |request: Request| {
        let cluster = Arc::clone(&cluster);
        async move { cluster.answer(&request) }
    })
    .await;
    let mut command = Command::new(binary("prescale-aggregator"));
    command.args(["restore-floors", "--stop", "prescale-aggregator"]);
    command.env("KUBECONFIG", &server.kubeconfig).env("POD_NAMESPACE", "prescale");
    let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
    (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[tokio::test]
async fn raised_minimums_are_given_back_and_nothing_else_is_touched() {
    let raised = hpa("raised", 7, Some("before=2 set=7 until=1790000000"));
    let api = Arc::new(Cluster {
        hpas: Mutex::new(BTreeMap::from([
            raised.clone(),
            hpa("unset", 5, Some("before=unset set=5 until=1790000000")),
            hpa("changed", 9, Some("before=1 set=5 until=1790000000")),
            hpa("foreign", 3, None),
        ])),
        conflicts: Mutex::new(vec![raised.0]),
        ..Cluster::default()
    });
    let (restored, log) = restore(&api).await;
    assert!(restored, "{log}");
    assert!(log.contains("3 raised minimums restored, none left"), "{log}");
    let ours_gone = json!({"team": "shop"});
    assert_eq!(api.minimum_and_annotations("raised"), (json!(2), ours_gone.clone()), "{log}");
    assert_eq!(api.minimum_and_annotations("unset"), (Value::Null, ours_gone.clone()), "{log}");
    // Somebody has set 9 since: theirs stays.
    assert_eq!(api.minimum_and_annotations("changed"), (json!(9), ours_gone), "{log}");
    let writes = api.writes.lock().unwrap();
    assert_eq!(writes[0], format!("{AGGREGATOR}/scale"), "what would raise them again stops first");
    assert!(!writes.iter().any(|path| path.ends_with("foreign")), "{writes:?}");
}

#[tokio::test]
async fn a_floor_that_can_not_be_read_fails_the_errand_by_name() {
    let api = Arc::new(Cluster {
        hpas: Mutex::new(BTreeMap::from([
            hpa("raised", 7, Some("before=2 set=7 until=1790000000")),
            hpa("broken", 6, Some("before=two")),
        ])),
        ..Cluster::default()
    });
    let (restored, log) = restore(&api).await;
    assert!(!restored, "{log}");
    assert!(
        log.contains("HorizontalPodAutoscaler shop/broken") && log.contains("set its minimum yourself"),
        "{log}"
    );
    assert_eq!(
        api.minimum_and_annotations("raised").0,
        json!(2),
        "one that can't be read keeps no other back"
    );
    assert_eq!(api.minimum_and_annotations("broken").0, json!(6));
}

#[tokio::test]
async fn a_check_passes_once_an_agent_reports() {
    let target = FakeTarget::start(vec![workload("shop", "web", 1)]).await;
    let aggregator = Aggregator::start(target.address, &[]);
    let mut check = Command::new(binary("prescale-aggregator"));
    check.args(["check", &format!("http://{}", aggregator.address)]);
    let checking = tokio::task::spawn_blocking(move || check.output());
    let mut agent = FakeAgent::default();
    while !checking.is_finished() {
        if let Ok(list) = aggregator.watch_list("node-a", None).await {
            aggregator.report(&agent.report(Clock::real().now().wall, &list, 1.0)).await;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    let output = checking.await.unwrap().unwrap();
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && log.contains("ready, the agents of 1 nodes report"), "{log}");
}
