//! What else there is to opt in beside a Deployment of one container: each is measured exactly or told why not, as
//! docs/annotations.md says.

use prescale_tests::kernel::client::load;

use super::Run;
use super::app::{App, Load, Scale, address, address_at, arrivals, steady};
use super::floor::{self, Scaler};
use super::kubectl::{Namespace, feed, kubectl, try_kubectl, wait};
use super::prescale::{
    self, agent_metrics, agent_on, all_measured, counted, image_prefix, measured, nodes, workload,
};

const REQUESTS: u64 = 2_000;
const CONNECTIONS: usize = 4;
const STARTED: &str = "prescale_http_server_requests_started_total";
const PROBES: &str = "prescale_http_server_probes_started_total";
/// Of a second container, and of a pod in its node's network, where other ports may be taken.
const OTHER_PORT: u16 = 18080;

type Kind = (&'static str, fn(&Run));

/// All of them at the same time: each waits for most of its own.
pub fn of_workloads(run: &Run) {
    let all: [Kind; 6] = [
        ("a StatefulSet", stateful_set),
        ("hostNetwork", host_network),
        ("two containers", two_containers),
        ("a native sidecar", native_sidecar),
        ("HTTP probes", http_probes),
        ("a ScaledObject", scaled_object),
    ];
    let failed: Vec<&str> = std::thread::scope(|scope| {
        let threads = all.map(|(name, test)| (name, scope.spawn(move || test(run))));
        threads.into_iter().filter_map(|(name, thread)| thread.join().is_err().then_some(name)).collect()
    });
    assert!(failed.is_empty(), "failed: {}", failed.join(", "));
}

fn annotations(all: &[(&'static str, &str)]) -> Vec<(&'static str, String)> {
    all.iter().map(|(name, value)| (*name, (*value).to_owned())).collect()
}

/// A StatefulSet in full mode gets its replicas as a Deployment does.
fn stateful_set(run: &Run) {
    let namespace = Namespace::new("kinds-stateful");
    let annotations = annotations(&[("mode", "full"), ("max-replicas", "4"), ("rps-per-pod", "50")]);
    App { kind: "StatefulSet", annotations, ..App::default() }.start(&namespace);
    let scale = Scale::watch_kind(&namespace, "statefulset");
    let load = Load::start(&namespace, arrivals(&[steady(130.0, 120.0)], 11));
    let (at, replicas) = scale.change_after(load.began, 60);
    let took = at.duration_since(load.began).as_secs_f64();
    run.say(&format!("a StatefulSet: 1 to {replicas} replicas {took:.1} s after the load began"));
    namespace.event("web", "Scaled", &["from 1 to"], 20);
    let totals = load.stop();
    assert_eq!(totals.aborted, 0, "{totals:?}");
}

/// A pod in its node's network: every request to it is counted, and nothing else of the node.
fn host_network(run: &Run) {
    let node = nodes().pop().expect("a cluster has a node");
    let namespace = Namespace::new("kinds-host");
    App {
        node: Some(node.clone()),
        annotations: annotations(&[("mode", "observe")]),
        arguments: vec![format!("--listen=:{OTHER_PORT}")],
        port: OTHER_PORT,
        pod: vec!["hostNetwork: true".to_owned()],
        ..App::default()
    }
    .start(&namespace);
    measured(&node, &namespace.0);
    let counted = sent_and_counted(&node, &namespace, OTHER_PORT);
    run.say(&format!("hostNetwork: {REQUESTS} sent, {counted} counted"));
}

/// Sends [`REQUESTS`] to the only pod and waits until its agent has counted them; never more.
fn sent_and_counted(node: &str, namespace: &Namespace, port: u16) -> f64 {
    let agent = agent_on(node);
    let started = || counted(&agent_metrics(&agent)?, STARTED, &namespace.0).ok_or("no series".to_owned());
    assert_eq!(started(), Ok(0.0), "what came before is no request to it");
    let client = load(address_at(namespace, port), CONNECTIONS, REQUESTS, &["/"], true);
    assert_eq!(client.classes[2], REQUESTS, "{client:?}");
    let more = wait("every request counted", 30, || {
        let more = started()?;
        if more >= REQUESTS as f64 { Ok(more) } else { Err(format!("{more}")) }
    });
    assert_eq!(more, REQUESTS as f64, "counted of {REQUESTS}");
    more
}

/// A second server in the pod: told, not guessed, and measured once somebody says which.
fn two_containers(run: &Run) {
    let beside = format!(
        "{{name: beside, image: {}server:1, args: ['--listen=:{OTHER_PORT}'], ports: [{{containerPort: {OTHER_PORT}}}]}}",
        image_prefix()
    );
    let app = App { beside: vec![beside], ..App::default() };
    told_until_a_port_is_named(run, "two containers", "kinds-two", app, "server, beside");
}

/// The same for an init container that is always restarted, which runs beside the application.
fn native_sidecar(run: &Run) {
    let sidecar = format!(
        "initContainers: [{{name: proxy, image: {}server:1, restartPolicy: Always, args: ['--listen=:{OTHER_PORT}'], \
         ports: [{{containerPort: {OTHER_PORT}}}]}}]",
        image_prefix()
    );
    let app = App { pod: vec![sidecar], ..App::default() };
    told_until_a_port_is_named(run, "a native sidecar", "kinds-sidecar", app, "server, proxy");
}

fn told_until_a_port_is_named(run: &Run, what: &str, name: &str, app: App, containers: &str) {
    let node = nodes().swap_remove(0);
    let namespace = Namespace::new(name);
    // It would act if it could, and one pod is enough: what is counted is that pod's.
    let full = annotations(&[("mode", "full"), ("max-replicas", "1"), ("rps-per-pod", "50")]);
    App { node: Some(node.clone()), annotations: full, ..app }.start(&namespace);
    let words = [format!("several containers ({containers})"), "prescale.dev/port".to_owned()];
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let told = namespace.event("web", "NotMeasurable", &words, 20);
    run.say(&format!("{what}: {told}"));
    let view = workload(&namespace.0, "web").expect("the leader answers");
    assert_eq!(
        (&view["settings"]["mode"], &view["refusals"][0]["reason"]),
        (&"observe".into(), &"NotMeasurable".into())
    );

    namespace.annotate("web", &["port=server"]);
    all_measured(&namespace.0);
    // What the other one serves is nobody's load.
    let other = load(address_at(&namespace, OTHER_PORT), 1, 100, &["/"], true);
    assert_eq!(other.classes[2], 100, "{other:?}");
    let counted = sent_and_counted(&node, &namespace, 8080);
    run.say(&format!("{what}, its port named: {REQUESTS} sent, {counted} counted"));
    let view = workload(&namespace.0, "web").expect("the leader answers");
    assert_eq!(view["refusals"], serde_json::json!([]), "mended");
}

/// A real kubelet asks by HTTP: told apart from the requests, which are counted exactly.
fn http_probes(run: &Run) {
    let node = nodes().swap_remove(0);
    let namespace = Namespace::new("kinds-probes");
    App {
        node: Some(node.clone()),
        annotations: annotations(&[("mode", "observe")]),
        probe: "httpGet: {path: /are-you-ready, port: server}",
        ..App::default()
    }
    .start(&namespace);
    measured(&node, &namespace.0);
    let agent = agent_on(&node);
    let probes = || counted(&agent_metrics(&agent)?, PROBES, &namespace.0).ok_or("no series".to_owned());
    let seen = wait("the kubelet's probes", 30, || {
        let seen = probes()?;
        if seen > 0.0 { Ok(seen) } else { Err("none yet".to_owned()) }
    });
    let client = load(address(&namespace), CONNECTIONS, REQUESTS, &["/"], true);
    assert_eq!(client.classes[2], REQUESTS, "{client:?}");
    // Three more of them, so that what is counted as a request would show.
    wait("more probes", 30, || {
        let now = probes()?;
        if now >= seen + 3.0 { Ok(()) } else { Err(format!("{now} after {seen}")) }
    });
    let page = agent_metrics(&agent).expect("the agent answers");
    let (started, probes) = (counted(&page, STARTED, &namespace.0), counted(&page, PROBES, &namespace.0));
    run.say(&format!("{REQUESTS} requests and {probes:?} HTTP probes: {started:?} requests counted"));
    assert_eq!(started, Some(REQUESTS as f64));
}

/// KEDA's kind without KEDA: all that a floor needs of it is its minimum.
const SCALED_OBJECTS: &str = "
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: scaledobjects.keda.sh}
spec:
  group: keda.sh
  scope: Namespaced
  names: {kind: ScaledObject, plural: scaledobjects, singular: scaledobject, listKind: ScaledObjectList}
  versions:
  - name: v1alpha1
    served: true
    storage: true
    schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}
";
const SCALED_OBJECT: Scaler =
    Scaler { object: "scaledobject/web", name: "ScaledObject web", minimum: ".spec.minReplicaCount" };

/// Makes the kind in a cluster of ours, long before its test: the aggregator looks for it once a minute.
pub fn know_scaled_objects() {
    if prescale::is_ours() {
        feed(&["apply"], SCALED_OBJECTS);
    }
}

/// The minimum of a ScaledObject is raised by floor mode, and given back.
fn scaled_object(run: &Run) {
    if !prescale::is_ours() {
        run.say("a ScaledObject: left out, for it would bring KEDA's kind into a cluster of somebody's");
        return;
    }
    know_scaled_objects();
    wait("the kind", 30, || try_kubectl(&["get", "scaledobjects", "--all-namespaces", "-o", "name"]));
    let manifest = "
apiVersion: keda.sh/v1alpha1
kind: ScaledObject
metadata: {name: web}
spec: {scaleTargetRef: {name: web}, minReplicaCount: 2, maxReplicaCount: 6, triggers: []}
";
    let namespace = floor::workload("kinds-keda", manifest);
    let load = Load::start(&namespace, arrivals(&[steady(180.0, 240.0)], 12));
    SCALED_OBJECT.raised(run, &namespace, 120);
    load.stop();
    namespace.annotate("web", &["mode-"]);
    SCALED_OBJECT.given_back(run, &namespace, "opting out");
    // Without it again, as most clusters are; the uninstall meets none.
    drop(namespace);
    kubectl(&["delete", "customresourcedefinition", "scaledobjects.keda.sh"]);
}
