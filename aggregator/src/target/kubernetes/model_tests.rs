//! Objects as the API shows them, in; the world, the refusals and the writes, out. No network.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::Pod;
use kube::api::DynamicObject;
use prescale_core::standing::ScalerKind;
use prescale_core::world::{Mode, PodPhase, WorkloadId, WorkloadState};
use serde_json::{Value, json};

use super::model::{Change, Facts, Model, Name, Source, Write};
use super::objects::{Key, Kind, Meta, PodFacts, ScalerFacts, Spec};

const DEPLOYMENTS: Source = Source::Workloads(Kind::Deployment);
const HPAS: Source = Source::Scalers(ScalerKind::HorizontalPodAutoscaler);
const SCALED_OBJECTS: Source = Source::Scalers(ScalerKind::ScaledObject);

fn from<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).expect("an object as the API shows it")
}

fn name(name: &str) -> Name {
    ("shop".into(), name.into())
}

fn web() -> WorkloadId {
    WorkloadId { namespace: "shop".into(), name: "web".into() }
}

fn web_key() -> Key {
    Key { id: web(), kind: Kind::Deployment }
}

fn deployment(version: u32, generation: i64, replicas: u32, annotations: &Value) -> Deployment {
    from(json!({
        "metadata": {
            "name": "web", "namespace": "shop", "uid": "d-1", "generation": generation,
            "resourceVersion": version.to_string(), "annotations": annotations,
        },
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {},
        },
    }))
}

fn pod(uid: &str, more: Value) -> Value {
    let mut pod = json!({
        "metadata": {
            "name": uid, "namespace": "shop", "uid": uid,
            "labels": {"app": "web", "pod-template-hash": "6c9f"},
            "ownerReferences": [{
                "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-6c9f", "uid": "r-1", "controller": true,
            }],
        },
        "spec": {
            "nodeName": "node-a",
            "containers": [{
                "name": "app",
                "ports": [{"containerPort": 8080}],
                "readinessProbe": {"httpGet": {"path": "/ready", "port": 8080}},
                "livenessProbe": {"tcpSocket": {"port": 8080}},
            }],
        },
        "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]},
    });
    merge(&mut pod, more);
    pod
}

fn merge(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from,
    }
}

fn hpa(version: u32, min: u32, floor: Option<&str>) -> ScalerFacts {
    let annotations = floor.map_or(json!({}), |it| json!({"prescale.dev/floor": it}));
    let hpa: HorizontalPodAutoscaler = from(json!({
        "metadata": {
            "name": "web", "namespace": "shop", "resourceVersion": version.to_string(), "annotations": annotations,
        },
        "spec": {
            "minReplicas": min, "maxReplicas": 10,
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"},
        },
    }));
    ScalerFacts::of_hpa(&hpa).expect("it scales a Deployment")
}

/// A model that has listed all there is: one Deployment with these annotations, no pod.
fn listed(annotations: &Value) -> Model {
    let mut model = Model::new(1000);
    for source in [&DEPLOYMENTS, &Source::Workloads(Kind::StatefulSet), &HPAS, &SCALED_OBJECTS] {
        model.apply(source, Change::Begin);
        model.apply(source, Change::Done);
    }
    show(&mut model, &deployment(1, 1, 3, annotations));
    if !model.namespaces().is_empty() {
        model.apply(&Source::Pods("shop".into()), Change::Begin);
        model.apply(&Source::Pods("shop".into()), Change::Done);
    }
    model
}

fn show(model: &mut Model, deployment: &Deployment) {
    let meta = Meta::of(&deployment.metadata).map(Facts::Meta);
    model.apply(&DEPLOYMENTS, Change::Put(name("web"), meta));
    for (key, writes) in model.unread() {
        model.put_spec(&key, writes, Spec::of_deployment(deployment).expect("it has a spec"));
    }
}

fn show_pod(model: &mut Model, pod: Value) {
    let pod: Pod = from(pod);
    let facts = PodFacts::of(&pod).map(|it| Facts::Pod(Box::new(it)));
    let uid = pod.metadata.name.clone().expect("it has a name");
    model.apply(&Source::Pods("shop".into()), Change::Put(name(&uid), facts));
}

fn show_hpa(model: &mut Model, facts: ScalerFacts) {
    model.apply(&HPAS, Change::Put(name("web"), Some(Facts::Scaler(facts))));
}

fn only(model: &Model) -> WorkloadState {
    let mut rows = model.rows();
    assert_eq!(rows.len(), 1, "{rows:?}");
    rows.remove(0).state.unwrap_or_else(|| panic!("nothing is known of it: {model:?}"))
}

fn refusals(model: &Model) -> Vec<&'static str> {
    model.rows().iter().flat_map(|row| row.refusals.iter().map(|it| it.reason())).collect()
}

fn full() -> Value {
    json!({"prescale.dev/mode": "full", "prescale.dev/max-replicas": "20"})
}

#[test]
fn what_did_not_opt_in_is_not_there() {
    let model = listed(&json!({"app": "web"}));
    assert!(model.rows().is_empty() && model.complete() && model.unread().is_empty());
}

#[test]
fn what_opts_in_is_there_once_all_of_it_is_known() {
    let mut model = listed(&json!({}));
    let opted_in = deployment(2, 1, 3, &full());
    model.apply(&DEPLOYMENTS, Change::Put(name("web"), Meta::of(&opted_in.metadata).map(Facts::Meta)));
    assert_eq!(model.unread(), [(web_key(), 0)]);
    assert!(!model.complete() && model.rows()[0].state.is_none(), "its spec is not known");
    show(&mut model, &opted_in);
    assert!(!model.complete() && model.rows()[0].state.is_none(), "its pods are not known");
    model.apply(&Source::Pods("shop".into()), Change::Begin);
    model.apply(&Source::Pods("shop".into()), Change::Done);
    assert!(model.complete());
    let state = only(&model);
    assert_eq!((state.id, state.replicas, state.settings.mode), (web(), 3, Mode::Full));

    show(&mut model, &deployment(3, 1, 3, &json!({})));
    assert!(model.rows().is_empty(), "it has opted out");
}

#[test]
fn a_pods_start_is_known_until_a_container_of_it_is_started_anew() {
    let mut model = listed(&full());
    let ready = |at: &str, restarts: i32| {
        json!({
            "metadata": {"creationTimestamp": "2026-01-01T00:00:00Z"},
            "status": {
                "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": at}],
                "containerStatuses":
                    [{"name": "app", "image": "i", "imageID": "i", "ready": true, "restartCount": restarts}],
            },
        })
    };
    show_pod(&mut model, pod("a", ready("2026-01-01T00:00:11Z", 0)));
    show_pod(&mut model, pod("b", ready("2026-01-01T00:10:00Z", 1)));
    show_pod(&mut model, pod("c", ready("2025-12-31T00:00:00Z", 0)));
    show_pod(&mut model, pod("d", json!({})));
    let starts: Vec<_> = only(&model).pods.iter().map(|pod| (pod.uid.clone(), pod.start_seconds)).collect();
    let expected = [("a", Some(11)), ("b", None), ("c", None), ("d", None)];
    assert_eq!(starts, expected.map(|(uid, seconds)| (uid.to_owned(), seconds)));
}

#[test]
fn pods_are_those_that_the_workload_made_bound_and_alive() {
    let mut model = listed(&full());
    show_pod(&mut model, pod("ready", json!({})));
    show_pod(&mut model, pod("starting", json!({"status": {"conditions": null}})));
    show_pod(&mut model, pod("leaving", json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}})));
    show_pod(&mut model, pod("unbound", json!({"spec": {"nodeName": null}})));
    show_pod(&mut model, pod("ended", json!({"status": {"phase": "Failed"}})));
    show_pod(&mut model, pod("host", json!({"spec": {"hostNetwork": true}})));
    let owner = |kind, name| {
        let owner = json!([{"apiVersion": "v1", "kind": kind, "name": name, "uid": "o", "controller": true}]);
        json!({"metadata": {"ownerReferences": owner}})
    };
    show_pod(&mut model, pod("job", owner("Job", "web-6c9f")));
    show_pod(&mut model, pod("canary", owner("ReplicaSet", "web-canary-6c9f")));
    show_pod(&mut model, pod("released", json!({"metadata": {"labels": {"app": "debug"}}})));
    let seen: Vec<_> = only(&model).pods.into_iter().map(|pod| (pod.uid, pod.phase)).collect();
    let expected = [
        ("host", PodPhase::Ready),
        ("leaving", PodPhase::Terminating),
        ("ready", PodPhase::Ready),
        ("starting", PodPhase::Starting),
    ];
    assert_eq!(seen, expected.map(|(uid, phase)| (uid.to_owned(), phase)));
    assert_eq!(only(&model).pods[2].ports, [8080]);
    assert_eq!(only(&model).pods[2].probes, ["GET /ready HTTP/1.1"]);
}

#[test]
fn pods_that_cannot_be_measured_are_told_and_nothing_is_written() {
    let mut model = listed(&full());
    show_pod(&mut model, pod("plain", json!({})));
    let sidecar = json!([{"name": "proxy", "restartPolicy": "Always", "ports": [{"containerPort": 15001}]}]);
    show_pod(&mut model, pod("meshed", json!({"spec": {"initContainers": sidecar}})));
    let state = only(&model);
    assert_eq!((state.settings.mode, state.pods.len()), (Mode::Observe, 0));
    assert_eq!(refusals(&model), ["NotMeasurable"]);
    let mut said = full();
    merge(&mut said, json!({"prescale.dev/port": "8080"}));
    show(&mut model, &deployment(2, 1, 3, &said));
    assert_eq!((refusals(&model).len(), only(&model).pods.len()), (0, 2));
}

#[test]
fn a_list_that_begins_anew_forgets_what_it_does_not_name() {
    let mut model = listed(&full());
    show_pod(&mut model, pod("a", json!({})));
    show_pod(&mut model, pod("b", json!({})));
    let source = Source::Pods("shop".into());
    model.apply(&source, Change::Begin);
    assert_eq!(only(&model).pods.len(), 2, "not before the list is complete");
    show_pod(&mut model, pod("b", json!({})));
    model.apply(&source, Change::Done);
    assert_eq!(only(&model).pods.iter().map(|pod| pod.uid.as_str()).collect::<Vec<_>>(), ["b"]);
}

#[test]
fn a_decision_holds_while_only_the_status_changes() {
    let mut model = listed(&full());
    let decided_on = only(&model).resource_version;
    show(&mut model, &deployment(7, 1, 3, &full()));
    let resource_version = "7".to_owned();
    let write = Write::Scale { key: web_key(), generation: 1, resource_version };
    assert_eq!(model.write(&web(), decided_on), Some(write), "the same spec at a newer version");
    show(&mut model, &deployment(8, 2, 5, &full()));
    assert_eq!(model.write(&web(), decided_on), None, "another spec");
    assert_eq!(only(&model).replicas, 5);
}

#[test]
fn an_answer_from_before_our_own_write_is_not_believed() {
    let mut model = listed(&full());
    let old = deployment(1, 2, 3, &full());
    model.apply(&DEPLOYMENTS, Change::Put(name("web"), Meta::of(&old.metadata).map(Facts::Meta)));
    let asked = model.unread();
    let version = model.wrote_replicas(&web_key(), 6, "9".into());
    assert_eq!((only(&model).replicas, only(&model).resource_version), (6, version));
    for (key, writes) in asked {
        model.put_spec(&key, writes, Spec::of_deployment(&old).expect("it has a spec"));
    }
    assert_eq!(only(&model).replicas, 6, "it would look like somebody else's write");
    assert_eq!(model.unread().len(), 1, "and is read again");
}

#[test]
fn floor_goes_to_the_scaler_and_full_beside_one_is_refused() {
    let mut model = listed(&full());
    show_hpa(&mut model, hpa(5, 2, None));
    assert_eq!((only(&model).settings.mode, refusals(&model)), (Mode::Observe, vec!["OtherScaler"]));
    assert_eq!(model.write(&web(), only(&model).resource_version), None);

    show(&mut model, &deployment(2, 1, 3, &json!({"prescale.dev/mode": "floor"})));
    let state = only(&model);
    assert_eq!((state.settings.mode, state.settings.max_replicas, state.replicas), (Mode::Floor, 10, 3));
    let Some(Write::Minimum { facts, .. }) = model.write(&web(), state.resource_version) else {
        panic!("the minimum is written: {:?}", model.write(&web(), state.resource_version));
    };
    assert_eq!(facts, hpa(5, 2, None));

    show_hpa(&mut model, hpa(6, 7, Some("before=2 set=7 until=1790000000")));
    let raised = only(&model);
    assert_eq!(
        (raised.replicas, raised.settings.min_replicas),
        (7, 2),
        "the floor counts, and does not hold itself"
    );
    assert_eq!(model.write(&web(), state.resource_version), None, "the scaler has changed since");
    assert_eq!(model.floors().len(), 1);
    show(&mut model, &deployment(3, 1, 3, &json!({})));
    let floors = model.floors();
    assert!(floors[0].2.is_none(), "whoever opts out gets their minimum back: {floors:?}");
}

#[test]
fn a_scaled_object_counts_and_the_hpa_that_it_made_does_not() {
    let made: HorizontalPodAutoscaler = from(json!({
        "metadata": {
            "name": "keda-hpa-web", "namespace": "shop", "resourceVersion": "1",
            "ownerReferences": [{"apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject", "name": "web", "uid": "s"}],
        },
        "spec": {"maxReplicas": 10, "scaleTargetRef": {"kind": "Deployment", "name": "web"}},
    }));
    assert_eq!(ScalerFacts::of_hpa(&made), None);
    let object: DynamicObject = from(json!({
        "apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject",
        "metadata": {"name": "web", "namespace": "shop", "resourceVersion": "1"},
        "spec": {"scaleTargetRef": {"name": "web"}, "minReplicaCount": 0},
    }));
    let facts = ScalerFacts::of_scaled_object(&object).expect("a Deployment, where it names no kind");
    assert_eq!((facts.min_replicas, facts.max_replicas, &facts.target), (Some(0), 100, &web_key()));
}

#[test]
fn of_two_of_one_name_the_deployment_is_taken() {
    let mut model = listed(&full());
    let twin = Meta::of(&deployment(1, 1, 3, &full()).metadata).map(Facts::Meta);
    model.apply(&Source::Workloads(Kind::StatefulSet), Change::Put(name("web"), twin));
    assert_eq!(refusals(&model), ["NameTaken"]);
    assert_eq!(model.rows().iter().filter(|row| row.state.is_some()).count(), 1);
}

#[test]
fn the_revision_changes_with_what_is_seen_and_only_then() {
    let mut model = listed(&full());
    show_pod(&mut model, pod("a", json!({})));
    let revision = model.revision();
    show_pod(&mut model, pod("a", json!({"metadata": {"resourceVersion": "99"}})));
    show(&mut model, &deployment(9, 1, 3, &full()));
    assert_eq!(model.revision(), revision);
    show_pod(&mut model, pod("a", json!({"status": {"conditions": null}})));
    assert!(model.revision() > revision);
}
