//! The application that the tests scale, and the load on it: open loop, to the pods that are ready, as a Service's are.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use prescale_tests::demo::balancer::{Backend, Balancer};
use prescale_tests::demo::load::{Tally, Totals, play};
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

use super::kubectl::{Namespace, Watch, wait};
use super::prescale::image_prefix;

/// A request slower than this is slow.
pub const OBJECTIVE: Duration = Duration::from_millis(200);
/// A client gives up after this.
const PATIENCE: Duration = Duration::from_secs(10);
const PORT: u16 = 8080;

/// A workload called `web` of the tests' server.
#[derive(Clone, Debug)]
pub struct App {
    /// `Deployment` or `StatefulSet`.
    pub kind: &'static str,
    /// Its first replicas.
    pub replicas: u32,
    /// Arguments of the server.
    pub arguments: Vec<String>,
    /// The node that its pods must be on.
    pub node: Option<String>,
    /// Its CPU request: what an HPA's share is a share of.
    pub cpu: &'static str,
    /// Ours, without their prefix.
    pub annotations: Vec<(&'static str, String)>,
    /// Where it serves.
    pub port: u16,
    /// Its readiness probe. No HTTP where nothing is said: every request that is counted is then the test's own.
    pub probe: &'static str,
    /// Further fields of its pods' spec, each `name: value`.
    pub pod: Vec<String>,
    /// Further containers, each a mapping.
    pub beside: Vec<String>,
}

impl Default for App {
    fn default() -> Self {
        Self {
            kind: "Deployment",
            replicas: 1,
            arguments: Vec::new(),
            node: None,
            cpu: "5m",
            annotations: Vec::new(),
            port: PORT,
            probe: "tcpSocket: {port: server}",
            pod: Vec::new(),
            beside: Vec::new(),
        }
    }
}

impl App {
    /// Its manifest.
    pub fn manifest(&self) -> String {
        let annotations: Vec<String> =
            self.annotations.iter().map(|(name, value)| format!("prescale.dev/{name}: {value:?}")).collect();
        let node = self.node.as_ref().map(|name| format!("kubernetes.io/hostname: {name}"));
        let lines = |all: &[String], before: &str| -> String {
            all.iter().map(|it| format!("      {before}{it}\n")).collect()
        };
        // A StatefulSet names the Service that its pods' names are of; there need be none.
        let service = if self.kind == "StatefulSet" { "serviceName: web" } else { "" };
        format!(
            "
apiVersion: apps/v1
kind: {kind}
metadata: {{name: web, annotations: {{{annotations}}}}}
spec:
  {service}
  replicas: {replicas}
  selector: {{matchLabels: {{app: web}}}}
  template:
    metadata: {{labels: {{app: web}}}}
    spec:
{pod}      nodeSelector: {{{node}}}
      terminationGracePeriodSeconds: 10
      containers:
      - name: server
        image: {prefix}server:1
        args: {arguments:?}
        ports: [{{containerPort: {port}, name: server}}]
        resources: {{requests: {{cpu: {cpu}, memory: 8Mi}}}}
        readinessProbe: {{{probe}, periodSeconds: 1}}
{beside}",
            kind = self.kind,
            pod = lines(&self.pod, ""),
            beside = lines(&self.beside, "- "),
            port = self.port,
            probe = self.probe,
            annotations = annotations.join(", "),
            replicas = self.replicas,
            node = node.unwrap_or_default(),
            arguments = self.arguments,
            cpu = self.cpu,
            prefix = image_prefix(),
        )
    }

    /// Makes it in `namespace` and waits until it serves.
    pub fn start(&self, namespace: &Namespace) {
        namespace.apply(&self.manifest());
        namespace.roll_out(&format!("{}/web", self.kind.to_lowercase()));
    }
}

/// The first pod's address, of an app that serves where it says nothing.
pub fn address(namespace: &Namespace) -> SocketAddr {
    address_at(namespace, PORT)
}

/// The first pod's address with this port.
pub fn address_at(namespace: &Namespace, port: u16) -> SocketAddr {
    let ip = namespace.kubectl(&["get", "pods", "-l", "app=web", "-o", "jsonpath={.items[0].status.podIP}"]);
    SocketAddr::new(ip.parse().expect("a ready pod has an address"), port)
}

/// A part of a load: so long, from so many requests/s to so many.
#[derive(Clone, Copy, Debug)]
pub struct Part {
    pub seconds: f64,
    pub from: f64,
    pub to: f64,
}

/// `rate` requests/s for `seconds`.
pub fn steady(rate: f64, seconds: f64) -> Part {
    Part { seconds, from: rate, to: rate }
}

/// When requests arrive, from the load's start: Poisson, by a seed.
pub fn arrivals(parts: &[Part], seed: u64) -> Vec<Duration> {
    // Xorshift: any even numbers do, and the same ones for everybody who is compared.
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut random = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        ((state >> 11) as f64 + 0.5) / (1u64 << 53) as f64
    };
    let (mut all, mut start) = (Vec::new(), 0.0);
    for part in parts {
        let mut at = 0.0;
        loop {
            let rate = part.from + (part.to - part.from) * at / part.seconds;
            if rate <= 0.0 {
                break;
            }
            at += -random().ln() / rate;
            if at >= part.seconds {
                break;
            }
            all.push(Duration::from_secs_f64(start + at));
        }
        start += part.seconds;
    }
    all
}

/// A load that runs beside its test.
pub struct Load {
    /// When its schedule began.
    pub began: Instant,
    tally: Arc<Tally>,
    playing: JoinHandle<()>,
    _pods: Watch,
}

impl Load {
    /// Sends what `arrivals` says to the ready pods of `namespace`'s `web`.
    pub fn start(namespace: &Namespace, arrivals: Vec<Duration>) -> Self {
        Self::start_at(namespace, arrivals, PATIENCE, Instant::now)
    }

    /// The same of clients who give up after `patience`; the schedule begins when `begin` says, asked once a pod is ready.
    pub fn start_at(
        namespace: &Namespace,
        arrivals: Vec<Duration>,
        patience: Duration,
        begin: impl FnOnce() -> Instant,
    ) -> Self {
        let balancer = Arc::new(Balancer::default());
        let pods = follow(namespace, &balancer);
        wait("a ready pod to send requests to", 60, || {
            balancer.pick().map(drop).ok_or_else(|| namespace.0.clone())
        });
        let (began, tally) = (begin(), Arc::new(Tally::default()));
        let of = Arc::clone(&tally);
        let playing = runtime().spawn(async move { play(&arrivals, began, patience, &balancer, &of).await });
        Self { began, tally, playing, _pods: pods }
    }

    /// What has become of it so far.
    pub fn totals(&self) -> Totals {
        self.tally.totals(OBJECTIVE)
    }

    /// Waits for its end.
    pub fn finish(self) -> Totals {
        wait("the load's end", 900, || {
            let sent = || format!("{} sent", self.tally.sent());
            if self.playing.is_finished() { Ok(()) } else { Err(sent()) }
        });
        self.totals()
    }

    /// Ends it now.
    pub fn stop(self) -> Totals {
        self.playing.abort();
        self.totals()
    }
}

fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.worker_threads(2).enable_all().build().expect("threads can be started")
    })
}

/// Tells `balancer` of pods as they become ready, and as they leave.
fn follow(namespace: &Namespace, balancer: &Arc<Balancer>) -> Watch {
    let (balancer, known) = (Arc::clone(balancer), Mutex::new(HashMap::<String, Arc<Backend>>::new()));
    let path = r#"{.metadata.uid} {.status.podIP} {.status.conditions[?(@.type=="Ready")].status} {.metadata.deletionTimestamp}"#;
    Watch::tell(&["pods", "--namespace", &namespace.0, "-l", "app=web"], path, move |line| {
        let mut words = line.split(' ');
        let mut next = || words.next().unwrap_or_default();
        let (uid, ip, ready, leaving) = (next(), next(), next() == "True", !next().is_empty());
        let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
        if ready && !leaving {
            known.entry(uid.to_owned()).or_insert_with(|| {
                balancer.join(SocketAddr::new(ip.parse().expect("a ready pod has an address"), PORT))
            });
        } else if let Some(backend) = known.remove(uid) {
            let balancer = Arc::clone(&balancer);
            runtime().spawn(async move { balancer.leave(&backend).await });
        }
    })
}

/// The workload `web` as the API server shows it: replicas, and since when.
#[derive(Debug)]
pub struct Scale(Watch);

impl Scale {
    /// Watches the Deployment from now on.
    pub fn watch(namespace: &Namespace) -> Self {
        Self::watch_kind(namespace, "deployment")
    }

    /// Watches what is of this kind from now on.
    pub fn watch_kind(namespace: &Namespace, kind: &str) -> Self {
        let arguments = [kind, "web", "--namespace", &namespace.0];
        let watch = Self(Watch::start(&arguments, "{.spec.replicas}"));
        wait("a first look at web", 30, || watch.changes().first().map(drop).ok_or(String::new()));
        watch
    }

    /// Replicas as they were first seen, then each change.
    pub fn changes(&self) -> Vec<(Instant, u32)> {
        let mut changes: Vec<(Instant, u32)> = Vec::new();
        for (at, line) in self.0.lines() {
            let replicas = line.trim().parse().unwrap_or_else(|_| panic!("replicas: {line:?}"));
            if changes.last().is_none_or(|(_, last)| *last != replicas) {
                changes.push((at, replicas));
            }
        }
        changes
    }

    /// The first change after `since`, waited for.
    ///
    /// # Panics
    /// If there is none within `seconds`.
    pub fn change_after(&self, since: Instant, seconds: u64) -> (Instant, u32) {
        wait("a change of replicas", seconds, || {
            let changes = self.changes();
            changes.iter().skip(1).find(|(at, _)| *at > since).copied().ok_or(format!("{changes:?}"))
        })
    }

    /// Pod-seconds asked for between the two.
    pub fn pod_seconds(&self, from: Instant, to: Instant) -> f64 {
        let changes = self.changes();
        let ends = changes.iter().skip(1).map(|(at, _)| *at).chain([to]);
        let spans = changes.iter().zip(ends);
        spans
            .map(|((at, replicas), end)| {
                let (start, end) = ((*at).max(from), end.min(to));
                end.saturating_duration_since(start).as_secs_f64() * f64::from(*replicas)
            })
            .sum()
    }
}
