//! Prescale in a real cluster, as its pods see it: run by `cargo xtask e2e`, inside the cluster's network.
#![allow(clippy::unwrap_used)]

#[path = "agent_support/aggregator.rs"]
mod aggregator;

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use aggregator::Aggregator;
use prescale_core::counters::{Counters, StatusClass};
use prescale_core::wire::{NodeReport, WatchedPod};
use prescale_core::world::WorkloadId;
use prescale_tests::kernel::client::load;

const REQUESTS: u64 = 50_000;
const CONNECTIONS: usize = 8;
/// CAP_NET_ADMIN, CAP_PERFMON and CAP_BPF, as /proc/<pid>/status shows them.
const CAPABILITIES: &str = "000000c000001000";

/// A namespace with its pods, gone when dropped.
struct Namespace(String);

impl Namespace {
    fn new(name: String) -> Self {
        kubectl(&["create", "namespace", &name]);
        // The agent's hostPath and capabilities are more than `baseline` allows.
        kubectl(&["label", "namespace", &name, "pod-security.kubernetes.io/enforce=privileged"]);
        Self(name)
    }

    fn apply(&self, manifest: &str) {
        let mut command = Command::new("kubectl");
        command
            .args(["apply", "--namespace", &self.0, "-f", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null());
        let mut child = command.spawn().expect("kubectl is on the path: `cargo xtask e2e`");
        let mut input = child.stdin.take().unwrap();
        std::io::Write::write_all(&mut input, manifest.as_bytes()).unwrap();
        drop(input);
        assert!(child.wait().unwrap().success(), "kubectl does not apply:\n{manifest}");
    }

    fn roll_out(&self, what: &str) {
        let told = kubectl_says(&["rollout", "status", what, "--timeout=60s", "--namespace", &self.0]);
        if let Err(said) = told {
            let pods = kubectl_says(&["describe", "pods", "--namespace", &self.0]);
            let logs = kubectl_says(&["logs", what, "--namespace", &self.0]);
            panic!("{what} does not come up: {said}\n{pods:?}\n{logs:?}");
        }
    }

    /// What `path` says of the only pod with the label `app`.
    fn pod(&self, app: &str, path: &str) -> String {
        let (label, path) = (format!("app={app}"), format!("jsonpath={{.items[0].{path}}}"));
        kubectl(&["get", "pods", "--namespace", &self.0, "-l", &label, "-o", &path])
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = kubectl_says(&["delete", "namespace", &self.0, "--wait=false"]);
    }
}

fn kubectl(arguments: &[&str]) -> String {
    kubectl_says(arguments).unwrap_or_else(|said| panic!("kubectl {}: {said}", arguments.join(" ")))
}

fn kubectl_says(arguments: &[&str]) -> Result<String, String> {
    let output =
        Command::new("kubectl").args(arguments).output().expect("kubectl is on the path: `cargo xtask e2e`");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

const SERVER: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - name: server
        image: prescale.dev/server:1
        ports: [{containerPort: 8080}]
        # No HTTP: every request that the agent counts is the test's own.
        readinessProbe: {tcpSocket: {port: 8080}, periodSeconds: 1}
";

/// The agent as the chart will run it: three capabilities, nobody's uid, nothing of the host but its cgroups.
fn agent(aggregator: SocketAddr) -> String {
    format!(
        "
apiVersion: apps/v1
kind: DaemonSet
metadata: {{name: agent}}
spec:
  selector: {{matchLabels: {{app: agent}}}}
  template:
    metadata: {{labels: {{app: agent}}}}
    spec:
      automountServiceAccountToken: false
      containers:
      - name: agent
        image: prescale.dev/prescale-agent:{version}
        args: ['--node=$(NODE)', '--aggregator=http://{aggregator}', --allow-plain-http]
        env: [{{name: NODE, valueFrom: {{fieldRef: {{fieldPath: spec.nodeName}}}}}}]
        readinessProbe: {{httpGet: {{path: /readyz, port: 9464}}, periodSeconds: 1}}
        securityContext:
          runAsUser: 65534
          runAsGroup: 65534
          runAsNonRoot: true
          allowPrivilegeEscalation: false
          readOnlyRootFilesystem: true
          capabilities: {{drop: [ALL], add: [BPF, NET_ADMIN, PERFMON]}}
          seccompProfile: {{type: RuntimeDefault}}
        volumeMounts: [{{name: cgroup, mountPath: /sys/fs/cgroup, readOnly: true, recursiveReadOnly: IfPossible}}]
      volumes: [{{name: cgroup, hostPath: {{path: /sys/fs/cgroup, type: Directory}}}}]
",
        version = env!("CARGO_PKG_VERSION")
    )
}

/// The counters of the pod `uid` in `report`.
fn counters<'a>(report: &'a NodeReport, uid: &str) -> Option<&'a Counters> {
    report.pods.iter().find(|pod| pod.uid == uid)?.counters.as_ref()
}

/// Directories below `root` called `pod<uid>`.
fn pod_cgroup(root: &Path, uid: &str) -> Option<PathBuf> {
    let mut open = vec![root.to_owned()];
    while let Some(directory) = open.pop() {
        if directory.file_name().is_some_and(|name| name.to_string_lossy().contains(uid)) {
            return Some(directory);
        }
        let entries = fs::read_dir(directory).into_iter().flatten().flatten();
        open.extend(entries.filter(|it| it.file_type().is_ok_and(|kind| kind.is_dir())).map(|it| it.path()));
    }
    None
}

/// The lines of /proc/<pid>/status of the agent's process, which its image gives no shell to ask for.
fn agent_status(uid: &str) -> String {
    let root = prescale_agent::cgroup::root(None).unwrap();
    let pod = pod_cgroup(&root, uid).expect("the agent's pod has a cgroup");
    for container in fs::read_dir(pod).unwrap().flatten() {
        let pids = fs::read_to_string(container.path().join("cgroup.procs")).unwrap_or_default();
        for pid in pids.lines() {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            if status.starts_with("Name:\tprescale-agent\n") {
                return status;
            }
        }
    }
    panic!("no agent's process in its pod's cgroup");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_request_to_a_pod_is_counted() {
    let runs: u32 = std::env::var("PRESCALE_E2E_RUNS").map_or(1, |runs| runs.parse().unwrap());
    let node = kubectl(&["get", "nodes", "-o", "jsonpath={.items[0].status.addresses[0].address}"]);
    let node: IpAddr = node.parse().expect("a node has an address");
    for run in 1..=runs {
        count(node, run).await;
    }
}

async fn count(node: IpAddr, run: u32) {
    let port = aggregator::free_address().port();
    let aggregator = Aggregator::start_at(SocketAddr::new(node, port), None).await;
    let namespace = Namespace::new(format!("count-{run}"));
    namespace.apply(SERVER);
    namespace.apply(&agent(aggregator.address));
    namespace.roll_out("deployment/web");
    namespace.roll_out("daemonset/agent");

    let status = agent_status(&namespace.pod("agent", "metadata.uid"));
    for line in [
        "Uid:\t65534\t65534\t65534\t65534".to_owned(),
        format!("CapPrm:\t{CAPABILITIES}"),
        format!("CapEff:\t{CAPABILITIES}"),
        format!("CapBnd:\t{CAPABILITIES}"),
        "Seccomp:\t2".to_owned(),
        "NoNewPrivs:\t1".to_owned(),
    ] {
        assert!(status.lines().any(|it| it == line), "the agent's process lacks {line:?}:\n{status}");
    }

    let (uid, name) = (namespace.pod("web", "metadata.uid"), namespace.pod("web", "metadata.name"));
    let address = SocketAddr::new(namespace.pod("web", "status.podIP").parse().unwrap(), 8080);
    let opted_in = Instant::now();
    aggregator.watch(vec![WatchedPod {
        uid: uid.clone(),
        name,
        workload: WorkloadId { namespace: namespace.0.clone(), name: "web".into() },
        ports: vec![8080],
        probes: Vec::new(),
    }]);
    aggregator.report("with the pod's counters", |report| counters(report, &uid).is_some()).await;
    let attached = opted_in.elapsed();

    let begin = Instant::now();
    let client = tokio::task::spawn_blocking(move || load(address, CONNECTIONS, REQUESTS, &["/"], true))
        .await
        .unwrap();
    let took = begin.elapsed();
    assert_eq!(client.classes[2], REQUESTS, "{client:?}");
    let finished = |report: &NodeReport| {
        let finishes = counters(report, &uid)?.finishes;
        Some(finishes.iter().sum::<u64>())
    };
    let last = aggregator
        .report("that counts them all", |report| finished(report).is_some_and(|all| all >= REQUESTS))
        .await;
    let counted = counters(&last, &uid).unwrap();
    println!(
        "run {run}: sent {REQUESTS} in {:.2} s, counted {:?}, attached {:.2} s after opting in",
        took.as_secs_f64(),
        counted.finishes,
        attached.as_secs_f64()
    );
    assert_eq!(counted.starts, REQUESTS);
    assert_eq!(counted.finishes[StatusClass::Success as usize], REQUESTS);
    assert_eq!(counted.finishes.iter().sum::<u64>(), REQUESTS, "{:?}", counted.finishes);
    assert_eq!(counted.aborts, 0);
    assert!(attached < Duration::from_secs(3), "opting in took {attached:?}");
    aggregator.stop().await;
}
