//! The aggregator as a process, a target for it to scale, and agents that report: what its tests are made of.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use prescale_core::Wall;
use prescale_core::counters::{Counters, StatusClass};
use prescale_core::wire::{
    AgentHealth, NodeReport, NodeWorkload, PodReport, PodState, Resources, VERSION, WatchList,
};
use prescale_core::world::{Mode, Pod, PodPhase, WorkloadId, WorkloadSettings, WorkloadState};
use prescale_shell::client::{self, Client};
use prescale_shell::clock::Clock;
use prescale_shell::http::{Method, Request, Response, StatusCode, json, query, segments, text};
use prescale_shell::server;
use prescale_shell::signals::{Shutdown, Trigger};
use rustix::process::{Pid, Signal, kill_process};
use tokio::sync::watch;

use crate::binaries::binary;
use crate::openmetrics;

/// Longest wait for anything; tests share two cores.
pub const SOON: Duration = Duration::from_secs(60);

/// Waits until `found` gives something.
///
/// # Panics
/// After [`SOON`], with what `found` said last.
pub async fn until<T>(what: &str, mut found: impl AsyncFnMut() -> Result<T, String>) -> T {
    let deadline = Instant::now() + SOON;
    loop {
        match found().await {
            Ok(it) => return it,
            Err(last) => assert!(Instant::now() < deadline, "{what}: not within {SOON:?}; last: {last}"),
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A running `prescale-aggregator`, killed when dropped.
#[derive(Debug)]
pub struct Aggregator {
    child: Child,
    /// Where it listens.
    pub address: SocketAddr,
    /// Its HTTP client, in plain.
    pub client: Client,
    lines: Receiver<String>,
    log: Vec<String>,
}

impl Aggregator {
    /// Starts it on a free port.
    ///
    /// # Panics
    /// When it does not say where it listens; its log is in the message.
    pub fn start(target: SocketAddr, arguments: &[&str]) -> Self {
        Self::launch(Command::new(binary("prescale-aggregator")), &format!("local={target}"), arguments)
    }

    /// The same, in the cluster of `kubeconfig`; `target` as `--target` takes it.
    ///
    /// # Panics
    /// As [`Aggregator::start`].
    pub fn in_cluster(kubeconfig: &Path, target: &str, arguments: &[&str]) -> Self {
        let mut command = Command::new(binary("prescale-aggregator"));
        command.env("KUBECONFIG", kubeconfig);
        Self::launch(command, target, arguments)
    }

    fn launch(mut command: Command, target: &str, arguments: &[&str]) -> Self {
        command.args(["--listen", "127.0.0.1:0", "--target", target]).args(arguments);
        let mut child =
            command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().expect("the aggregator starts");
        let lines = lines_of(child.stderr.take().expect("it is piped"));
        let mut log = Vec::new();
        let address: SocketAddr = loop {
            let Ok(line) = lines.recv_timeout(SOON) else {
                let _ = child.kill();
                panic!("the aggregator did not say where it listens:\n{}", log.join("\n"));
            };
            log.push(line.clone());
            if let Some((_, rest)) = line.split_once("listening on http") {
                let rest = rest.trim_start_matches('s').trim_start_matches("://");
                break rest.split_whitespace().next().unwrap_or("").parse().expect("an address follows");
            }
        };
        let client = Client::new(&address.to_string(), client::Limits::default()).expect("an address");
        Self { child, address, client, lines, log }
    }

    /// Everything that it has logged so far.
    pub fn log(&mut self) -> String {
        self.log.extend(self.lines.try_iter());
        self.log.join("\n")
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends SIGTERM.
    pub fn terminate(&self) {
        let pid = i32::try_from(self.pid()).ok().and_then(Pid::from_raw).expect("a process id");
        kill_process(pid, Signal::TERM).expect("the aggregator runs");
    }

    /// Kills it as a machine that dies does: no last word.
    pub fn kill(&mut self) {
        self.child.kill().expect("the aggregator runs");
        self.child.wait().expect("it was started here");
    }

    /// Waits for its end.
    pub async fn ended(&mut self) -> ExitStatus {
        until("the aggregator's end", async || match self.child.try_wait() {
            Ok(Some(status)) => Ok(status),
            other => Err(format!("{other:?}")),
        })
        .await
    }

    /// GET of JSON.
    ///
    /// # Errors
    /// What came instead.
    pub async fn json(&self, path: &str) -> Result<serde_json::Value, String> {
        let reply = self.client.get(path).await.map_err(|error| format!("{path}: {error}"))?;
        let body = String::from_utf8_lossy(reply.body()).into_owned();
        if reply.status() != StatusCode::OK {
            return Err(format!("{path}: {} {body}", reply.status()));
        }
        serde_json::from_str(&body).map_err(|error| format!("{path}: {error} in {body}"))
    }

    /// The watch list of a node, by long poll when `revision` is known.
    ///
    /// # Errors
    /// What came instead.
    pub async fn watch_list(&self, node: &str, revision: Option<u64>) -> Result<WatchList, String> {
        let known = revision.map(|it| format!("&revision={it}")).unwrap_or_default();
        let path = format!("/v1/watch?node={node}{known}");
        let reply = self.client.get_within(&path, SOON).await.map_err(|error| error.to_string())?;
        if reply.status() != StatusCode::OK {
            return Err(format!("{} {}", reply.status(), String::from_utf8_lossy(reply.body())));
        }
        WatchList::decode(reply.body()).map_err(|error| error.to_string())
    }

    /// What `/metrics` says.
    ///
    /// # Errors
    /// What came instead, or which rule of the format it breaks.
    pub async fn metrics(&self) -> Result<openmetrics::Page, String> {
        self.metrics_at("/metrics").await
    }

    /// What this path of metrics says.
    ///
    /// # Errors
    /// What came instead, or which rule of the format it breaks.
    pub async fn metrics_at(&self, path: &str) -> Result<openmetrics::Page, String> {
        let reply = self.client.get(path).await.map_err(|error| error.to_string())?;
        openmetrics::read(std::str::from_utf8(reply.body()).map_err(|error| error.to_string())?)
    }

    /// Sends a report; status and reply.
    pub async fn report(&self, report: &NodeReport) -> (StatusCode, Vec<u8>) {
        let sent =
            self.client.send(Method::POST, "/v1/reports", prescale_shell::http::PROTOBUF, report.encode());
        let reply = sent.await.expect("the aggregator answers");
        (reply.status(), reply.body().to_vec())
    }

    /// Sends `agent`'s reports of `rps` requests/s for every workload, one each `every` of `clock`, until `found` gives
    /// something.
    ///
    /// # Panics
    /// After [`SOON`], with what `found` said last or how a report was refused.
    pub async fn under_load<T>(
        &self,
        (clock, every): (&Clock, Duration),
        agent: &mut FakeAgent,
        rps: f64,
        what: &str,
        mut found: impl AsyncFnMut() -> Result<T, String>,
    ) -> T {
        until(what, async || {
            let list = self.watch_list("node-a", None).await?;
            let (status, reply) = self.report(&agent.report(clock.now().wall, &list, rps)).await;
            if status != StatusCode::OK {
                return Err(format!("{status} {}", String::from_utf8_lossy(&reply)));
            }
            clock.sleep(every).await;
            found().await
        })
        .await
    }
}

impl Drop for Aggregator {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("the aggregator's log:\n{}", self.log());
        }
    }
}

fn lines_of(stream: impl std::io::Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    receiver
}

/// A supervisor of workers that don't exist: says what it is told to say, and keeps what was asked of it.
#[derive(Debug)]
pub struct FakeTarget {
    /// Where it listens.
    pub address: SocketAddr,
    shared: Arc<Shared>,
    stop: Option<(Trigger, tokio::task::JoinHandle<()>)>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    revision: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct State {
    workloads: Vec<WorkloadState>,
    writes: Vec<Write>,
    under_way: usize,
    most_under_way: usize,
    refuse: Option<StatusCode>,
    delay: Duration,
}

/// A write that the target was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// `namespace/name`.
    pub workload: String,
    /// Replicas to set.
    pub replicas: u32,
    /// The resource version that it was decided on.
    pub resource_version: u64,
    /// What the target answered.
    pub status: u16,
}

impl FakeTarget {
    /// Starts it with these workloads.
    pub async fn start(workloads: Vec<WorkloadState>) -> Self {
        let shared = Arc::new(Shared {
            state: Mutex::new(State { workloads, ..State::default() }),
            revision: watch::Sender::new(1),
        });
        let mut it = Self { address: ([127, 0, 0, 1], 0).into(), shared, stop: None };
        it.come_back().await;
        it
    }

    /// Listens (again), on the same port once it has one.
    pub async fn come_back(&mut self) {
        let address = self.address;
        let listener =
            until("the target's port", async || server::bind(address).await.map_err(|e| e.to_string())).await;
        self.address = listener.local_addr().expect("it is bound");
        let (trigger, shutdown) = Shutdown::manual();
        let shared = Arc::clone(&self.shared);
        let handler = move |request: Request| {
            let shared = Arc::clone(&shared);
            async move { shared.answer(&request).await }
        };
        let limits = server::Limits { drain: Duration::ZERO, ..server::Limits::default() };
        self.stop = Some((trigger, tokio::spawn(server::serve(listener, handler, limits, shutdown))));
    }

    /// Stops listening and cuts connections.
    pub async fn go_away(&mut self) {
        if let Some((trigger, stopped)) = self.stop.take() {
            trigger.fire();
            stopped.await.expect("the server ends");
        }
    }

    /// Changes what exists; long polls answer.
    pub fn change(&self, change: impl FnOnce(&mut Vec<WorkloadState>)) {
        change(&mut self.shared.lock().workloads);
        self.shared.revision.send_modify(|revision| *revision += 1);
    }

    /// Changes what exists without telling anyone: long polls go on waiting.
    pub fn change_in_silence(&self, change: impl FnOnce(&mut Vec<WorkloadState>)) {
        change(&mut self.shared.lock().workloads);
    }

    /// Answers writes with this status from now on, `None`: as usual.
    pub fn refuse(&self, status: Option<StatusCode>) {
        self.shared.lock().refuse = status;
    }

    /// Lets writes take this long.
    pub fn delay(&self, delay: Duration) {
        self.shared.lock().delay = delay;
    }

    /// The writes so far.
    pub fn writes(&self) -> Vec<Write> {
        self.shared.lock().writes.clone()
    }

    /// Writes that it has not answered yet.
    pub fn under_way(&self) -> usize {
        self.shared.lock().under_way
    }

    /// The most writes that were under way at a time.
    pub fn most_under_way(&self) -> usize {
        self.shared.lock().most_under_way
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn answer(&self, request: &Request) -> Response {
        let segments = segments(request.uri()).unwrap_or_default();
        let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
        match (request.method(), segments.as_slice()) {
            (&Method::GET, ["v1", "workloads"]) => {
                let known = query(request.uri(), "revision").and_then(|it| it.parse::<u64>().ok());
                let mut revisions = self.revision.subscribe();
                let news = revisions.wait_for(|revision| Some(*revision) != known);
                let _ = tokio::time::timeout(Duration::from_secs(25), news).await;
                let state = self.lock();
                let revision = *self.revision.borrow();
                json(serde_json::json!({"revision": revision, "workloads": state.workloads}).to_string())
            }
            (&Method::PUT, ["v1", "workloads", namespace, name, "scale"]) => {
                let body: serde_json::Value = serde_json::from_slice(request.body()).expect("JSON");
                let delay = {
                    let mut state = self.lock();
                    state.under_way += 1;
                    state.most_under_way = state.most_under_way.max(state.under_way);
                    state.delay
                };
                tokio::time::sleep(delay).await;
                self.scale(namespace, name, &body)
            }
            _ => text(StatusCode::NOT_FOUND, "no such path"),
        }
    }

    fn scale(&self, namespace: &str, name: &str, body: &serde_json::Value) -> Response {
        let number = |field: &str| body[field].as_u64().expect("a number");
        let (replicas, version) = (number("replicas") as u32, number("resource_version"));
        let mut state = self.lock();
        state.under_way -= 1;
        let refuse = state.refuse;
        let found = state.workloads.iter_mut().find(|w| w.id.namespace == namespace && w.id.name == name);
        let status = match (refuse, found) {
            (Some(status), _) => status,
            (None, None) => StatusCode::NOT_FOUND,
            (None, Some(workload)) if workload.resource_version != version => StatusCode::CONFLICT,
            (None, Some(workload)) => {
                workload.replicas = replicas;
                workload.resource_version += 1;
                workload.pods = pods(&workload.id, replicas);
                StatusCode::OK
            }
        };
        state.writes.push(Write {
            workload: format!("{namespace}/{name}"),
            replicas,
            resource_version: version,
            status: status.as_u16(),
        });
        drop(state);
        if status != StatusCode::OK {
            return text(status, "no");
        }
        self.revision.send_modify(|revision| *revision += 1);
        json(serde_json::json!({"resource_version": version + 1}).to_string())
    }
}

/// A workload's name.
pub fn id(namespace: &str, name: &str) -> WorkloadId {
    WorkloadId { namespace: namespace.into(), name: name.into() }
}

/// A workload in mode full: 1 to 20 replicas, 10 requests/s a pod, 100 ms.
pub fn workload(namespace: &str, name: &str, replicas: u32) -> WorkloadState {
    let id = id(namespace, name);
    WorkloadState {
        settings: WorkloadSettings {
            mode: Mode::Full,
            min_replicas: 1,
            max_replicas: 20,
            rps_per_pod: Some(10.0),
            slo_seconds: Some(0.1),
            headroom: 0.0,
            paused: false,
        },
        replicas,
        resource_version: 1,
        pods: pods(&id, replicas),
        id,
    }
}

fn pods(id: &WorkloadId, replicas: u32) -> Vec<Pod> {
    (0..replicas)
        .map(|n| Pod {
            uid: format!("{}-{}-{n}", id.namespace, id.name),
            name: format!("{}-{n}", id.name),
            node: "node-a".into(),
            phase: PodPhase::Ready,
            ports: vec![8080],
            probes: Vec::new(),
            start_seconds: None,
        })
        .collect()
}

/// An agent on `node-a` that measures what the test says is asked of each workload, evenly over its pods.
#[derive(Debug)]
pub struct FakeAgent {
    started: Instant,
    last: Duration,
    sequence: u64,
    requests: BTreeMap<String, f64>,
}

impl Default for FakeAgent {
    fn default() -> Self {
        Self { started: Instant::now(), last: Duration::ZERO, sequence: 0, requests: BTreeMap::new() }
    }
}

/// What each request of a [`FakeAgent`] takes.
const LATENCY_NS: u64 = 20_000_000;

impl FakeAgent {
    /// The next report: each workload of `list` has got `rps` requests a second since the last report.
    pub fn report(&mut self, sent: Wall, list: &WatchList, rps: f64) -> NodeReport {
        self.sequence += 1;
        let elapsed = self.started.elapsed();
        let seconds = (elapsed - self.last).as_secs_f64();
        self.last = elapsed;
        let mut workloads: Vec<WorkloadId> = list.pods.iter().map(|pod| pod.workload.clone()).collect();
        workloads.dedup();
        let mut pods = Vec::new();
        for pod in &list.pods {
            let siblings = list.pods.iter().filter(|other| other.workload == pod.workload).count();
            let requests = self.requests.entry(pod.uid.clone()).or_default();
            *requests += rps * seconds / siblings as f64;
            pods.push(PodReport {
                uid: pod.uid.clone(),
                workload: workloads
                    .iter()
                    .position(|id| *id == pod.workload)
                    .expect("it was collected above"),
                attach_generation: 1,
                state: PodState::Measured,
                read: sent,
                counters: Some(counters(1_000_000_000 + elapsed.as_nanos() as u64, *requests as u64)),
                resources: Resources::default(),
                censored: None,
                last: false,
            });
        }
        NodeReport {
            version: VERSION,
            node: "node-a".into(),
            boot_id: "5ca1ab1e-0000-4000-8000-000000000001".into(),
            agent_start: Wall(1),
            sequence: self.sequence,
            sent,
            pods,
            workloads: workloads
                .into_iter()
                .map(|id| NodeWorkload { id, forecast: None, burst: None })
                .collect(),
            agent: AgentHealth::default(),
        }
    }
}

fn counters(read_at_ns: u64, finished: u64) -> Counters {
    let mut counters = Counters {
        read_at_ns,
        starts: finished,
        in_flight_integral_ns: finished * LATENCY_NS,
        ..Counters::default()
    };
    let bucket = prescale_agent_ebpf::histogram::bucket_of(LATENCY_NS);
    counters.finishes[StatusClass::Success as usize] = finished;
    counters.first_byte.0[bucket] = finished;
    counters.last_byte[StatusClass::Success as usize].0[bucket] = finished;
    counters
}
