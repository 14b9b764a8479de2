//! The installation that all tests share, and what it says: its API, its metrics, its processes.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use prescale_tests::openmetrics::{self, Page};
use serde_json::Value;

use super::forward;
use super::kubectl::{kubectl, output, roll_out, try_kubectl, wait};

/// Where it is installed, and the release's name.
pub const NAMESPACE: &str = "prescale";
const AGENT_PORT: u16 = 9464;
const AGGREGATOR_PORT: u16 = 8080;

/// Whether the cluster is one of our making: its nodes' processes are this machine's, and nothing else runs in it.
pub fn is_ours() -> bool {
    std::env::var_os("PRESCALE_E2E_CLUSTER").is_some()
}

/// What stands before the images' names.
pub fn image_prefix() -> String {
    std::env::var("PRESCALE_E2E_IMAGE_PREFIX").unwrap_or_else(|_| "prescale.dev/".to_owned())
}

/// Calls helm.
pub fn helm(arguments: &[&str]) -> Result<String, String> {
    output(Command::new("helm").args(arguments))
}

/// The chart's directory.
pub fn chart() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/helm/prescale")
}

/// Installs the chart as docs/install.md says; what helm prints.
pub fn install() -> String {
    let chart = chart();
    let chart = chart.to_str().expect("the tree's path is UTF-8");
    let prefix = format!("image.prefix={}", image_prefix());
    let notes = helm(&[
        // One that is there already, on a cluster that was kept, is brought up to date.
        "upgrade",
        "--install",
        NAMESPACE,
        chart,
        "--namespace",
        NAMESPACE,
        "--create-namespace",
        "--set",
        &prefix,
    ]);
    notes.unwrap_or_else(|said| panic!("helm install: {said}"))
}

/// In somebody's cluster: that there is no Prescale yet, which these tests would take for theirs and uninstall.
///
/// # Panics
/// If there is one.
pub fn none_is_there() {
    for namespace in [NAMESPACE, "--all-namespaces"] {
        let found = if namespace == NAMESPACE {
            helm(&["list", "--short", "--namespace", NAMESPACE])
        } else {
            try_kubectl(&[
                "get",
                "daemonsets",
                namespace,
                "-l",
                "app.kubernetes.io/name=prescale-agent",
                "-o",
                "name",
            ])
        };
        let found = found.unwrap_or_else(|said| panic!("the cluster does not answer: {said}"));
        assert!(
            found.is_empty(),
            "a Prescale is installed here ({found}): these tests would change and remove it"
        );
    }
}

/// That pods can be called from here: the load goes to their addresses, as a Service's would.
///
/// # Panics
/// If not, with what to do.
pub fn pods_are_reachable() {
    let path = "jsonpath={.items[0].status.podIP}";
    let selector = "app.kubernetes.io/name=prescale-aggregator";
    let ip = kubectl(&["get", "pods", "--namespace", NAMESPACE, "-l", selector, "-o", path]);
    let address = SocketAddr::new(ip.parse().expect("a ready pod has an address"), AGGREGATOR_PORT);
    if let Err(error) = TcpStream::connect_timeout(&address, Duration::from_secs(5)) {
        panic!("pods can't be called from here ({address}: {error}): run this on one of the cluster's nodes");
    }
}

/// Waits until all of it is ready.
pub fn ready() {
    for what in ["statefulset/prescale-aggregator", "daemonset/prescale-agent"] {
        roll_out(NAMESPACE, what);
    }
}

/// What someone would look at first when a test has failed: the pods, and the last lines of their logs, those of containers
/// that have ended before them too.
pub fn last_words() -> String {
    let say = |arguments: &[&str]| {
        let always = ["--namespace", NAMESPACE, "--request-timeout=10s"];
        try_kubectl(&[arguments, &always].concat()).unwrap_or_else(|said| said)
    };
    let mut words = say(&["get", "pods", "-o", "wide", "--no-headers"]);
    let names = say(&["get", "pods", "-o", "name"]);
    for pod in names.lines().filter(|name| name.starts_with("pod/")) {
        for previous in [true, false] {
            let log = say(&["logs", pod, "--tail=12", "--timestamps", &format!("--previous={previous}")]);
            // Most have no previous one.
            if !(previous && log.contains("not found")) {
                let which = if previous { "ended before" } else { "now" };
                words.push_str(&format!("\n--- {pod}, {which}\n{log}"));
            }
        }
    }
    words
}

/// How the aggregator's containers are called: what its chart's values made of it.
fn flags() -> &'static str {
    static FLAGS: OnceLock<String> = OnceLock::new();
    FLAGS.get_or_init(|| {
        let path = "jsonpath={.spec.template.spec.containers[0].args}";
        kubectl(&["get", "statefulset", "prescale-aggregator", "--namespace", NAMESPACE, "-o", path])
    })
}

/// Whether the aggregator speaks TLS.
pub fn encrypted() -> bool {
    flags().contains("--tls-cert")
}

/// What an aggregator's page and API answer, by a port-forward: the way that NOTES.txt shows.
fn page(pod: &str, path: &str) -> Result<String, String> {
    // The page has a listener of its own where it needs no token.
    let port = if flags().contains("--page-listen") { 8081 } else { AGGREGATOR_PORT };
    forward::get(NAMESPACE, pod, port, path)
}

/// The metrics of a pod, by way of the API server.
fn metrics(pod: &str, scheme: &str, port: u16) -> Result<Page, String> {
    let path = format!("/api/v1/namespaces/{NAMESPACE}/pods/{scheme}{pod}:{port}/proxy/metrics");
    // kubectl's output was trimmed.
    openmetrics::read(&(try_kubectl(&["get", "--raw", &path])? + "\n"))
}

/// The aggregator's replica that holds the Lease.
pub fn leader() -> String {
    wait("a leader", 60, || {
        let path = "jsonpath={.spec.holderIdentity}";
        let lease = ["get", "lease", "prescale-aggregator", "--namespace", NAMESPACE, "-o", path];
        let holder = try_kubectl(&lease)?;
        // <pod>-<process id>.
        let pod = holder.rsplit_once('-').map(|(pod, _)| pod.to_owned());
        pod.filter(|pod| !pod.is_empty()).ok_or(format!("the Lease's holder is {holder:?}"))
    })
}

/// What the leader's API says of a workload; the reason why not.
pub fn workload(namespace: &str, name: &str) -> Result<Value, String> {
    let text = page(&leader(), &format!("/api/v1/workloads/{namespace}/{name}"))?;
    serde_json::from_str(&text).map_err(|error| format!("{error}: {text}"))
}

/// All workloads and nodes, by the leader's API.
pub fn overview() -> Result<Value, String> {
    let text = page(&leader(), "/api/v1/workloads")?;
    serde_json::from_str(&text).map_err(|error| format!("{error}: {text}"))
}

/// The agents' pods, with their nodes.
pub fn agents() -> Vec<(String, String)> {
    let path = r#"jsonpath={range .items[*]}{.metadata.name}{" "}{.spec.nodeName}{"\n"}{end}"#;
    let selector = "app.kubernetes.io/name=prescale-agent";
    let found = kubectl(&["get", "pods", "--namespace", NAMESPACE, "-l", selector, "-o", path]);
    let pair = |line: &str| line.split_once(' ').map(|(pod, node)| (pod.to_owned(), node.to_owned()));
    found.lines().filter_map(pair).collect()
}

/// The agent on `node`.
pub fn agent_on(node: &str) -> String {
    wait("the node's agent", 60, || {
        let agents = agents();
        let found = agents.iter().find(|(_, on)| on == node).map(|(pod, _)| pod.clone());
        found.ok_or(format!("{agents:?}"))
    })
}

/// An agent's metrics.
pub fn agent_metrics(pod: &str) -> Result<Page, String> {
    metrics(pod, "", AGENT_PORT)
}

/// The sum over a namespace's pods of one of the agent's series; `None` when it has none of them.
pub fn counted(page: &Page, name: &str, namespace: &str) -> Option<f64> {
    let fits = |it: &&openmetrics::Sample| {
        it.name == name && it.labels.get("namespace").is_some_and(|is| is == namespace)
    };
    let values: Vec<f64> = page.samples.iter().filter(fits).map(|it| it.value).collect();
    (!values.is_empty()).then(|| values.iter().sum())
}

/// Waits until the agent on `node` measures pods of `namespace`.
pub fn measured(node: &str, namespace: &str) {
    let pod = agent_on(node);
    wait(&format!("{pod} measures {namespace}"), 30, || {
        let page = agent_metrics(&pod)?;
        let all = counted(&page, "prescale_http_server_requests_started_total", namespace);
        all.map(drop).ok_or_else(|| "no series of it".to_owned())
    });
}

/// Waits until the aggregator measures all ready pods of `namespace`'s `web`.
pub fn all_measured(namespace: &str) {
    wait(&format!("all of {namespace}'s pods measured"), 60, || {
        let view = workload(namespace, "web")?;
        let pods = view["pods"].as_array().cloned().unwrap_or_default();
        let measured = pods.iter().filter(|pod| pod["load_rps"].is_number()).count();
        let ready = view["replicas"]["ready"].as_u64().unwrap_or(0) as usize;
        if ready > 0 && measured >= ready { Ok(()) } else { Err(format!("{measured} of {ready}: {pods:?}")) }
    });
}

/// The names of the nodes.
pub fn nodes() -> Vec<String> {
    let names = kubectl(&["get", "nodes", "-o", "jsonpath={.items[*].metadata.name}"]);
    names.split_whitespace().map(str::to_owned).collect()
}

/// A pod's directories in the cgroup hierarchies of this machine, by the mount they are below.
pub fn cgroups(uid: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![PathBuf::from("/sys/fs/cgroup")];
    while let Some(directory) = open.pop() {
        if directory.file_name().is_some_and(|name| name.to_string_lossy().contains(uid)) {
            found.push(directory);
            continue;
        }
        let entries = fs::read_dir(directory).into_iter().flatten().flatten();
        open.extend(entries.filter(|it| it.file_type().is_ok_and(|kind| kind.is_dir())).map(|it| it.path()));
    }
    found
}

/// The process called `name` (as /proc cuts it, 15 bytes) of the pod `pod`: its number on this machine.
pub fn process(pod: &str, name: &str) -> i32 {
    let path = "jsonpath={.metadata.uid}";
    let uid = kubectl(&["get", "pod", pod, "--namespace", NAMESPACE, "-o", path]);
    let mut seen = Vec::new();
    for directory in cgroups(&uid) {
        for container in fs::read_dir(directory).into_iter().flatten().flatten() {
            let pids = fs::read_to_string(container.path().join("cgroup.procs")).unwrap_or_default();
            for pid in pids.lines() {
                let comm = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
                if name.starts_with(comm.trim()) && !comm.trim().is_empty() {
                    return pid.parse().expect("a process has a number");
                }
                seen.push(comm);
            }
        }
    }
    panic!("no {name} in the cgroups of {pod}: {seen:?}");
}
