//! A small aggregator inside the test: real HTTP, keeps every report, hands out the watch list it is given.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use prescale_core::wire::{
    MAX_BODY_BYTES, NodeReport, READABLE, ReportReply, VERSION, WatchList, WatchedPod,
};
use prescale_shell::http::{Parts, Request, Response, StatusCode, bearer, not_found, protobuf, query, text};
use prescale_shell::server::{self, Handler, Limits};
use prescale_shell::signals::{Shutdown, Trigger};
use prescale_shell::token::Token;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

/// Longest wait for anything; far beyond what a loaded machine needs.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Listens until it is stopped.
pub struct Aggregator {
    pub address: SocketAddr,
    state: Arc<State>,
    trigger: Trigger,
    serving: JoinHandle<()>,
}

struct State {
    reports: Mutex<Vec<NodeReport>>,
    list: watch::Sender<WatchList>,
    push_to: Mutex<Vec<String>>,
    token: Option<Token>,
}

struct Endpoints(Arc<State>);

/// An address that nobody listens on.
pub fn free_address() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

impl Aggregator {
    #[allow(dead_code, reason = "the end-to-end tests listen where pods can reach")]
    pub async fn start() -> Self {
        Self::start_at(free_address(), None).await
    }

    pub async fn start_at(address: SocketAddr, token: Option<&str>) -> Self {
        let list = WatchList { version: VERSION, revision: 1, pods: Vec::new() };
        let state = Arc::new(State {
            reports: Mutex::default(),
            list: watch::channel(list).0,
            push_to: Mutex::default(),
            token: token.map(|token| Token::new(token).unwrap()),
        });
        let listener = server::bind(address).await.unwrap();
        let (trigger, shutdown) = Shutdown::manual();
        let limits = Limits { body_bytes: MAX_BODY_BYTES, drain: Duration::ZERO, ..Limits::default() };
        let serving = tokio::spawn(server::serve(listener, Endpoints(Arc::clone(&state)), limits, shutdown));
        Self { address, state, trigger, serving }
    }

    /// Goes away at once, connections and all.
    pub async fn stop(self) {
        self.trigger.fire();
        self.serving.await.unwrap();
    }

    /// Pods to measure from now on.
    pub fn watch(&self, pods: Vec<WatchedPod>) {
        self.state.list.send_modify(|list| {
            list.revision += 1;
            list.pods = pods;
        });
    }

    /// Replicas that replies name from now on.
    #[allow(dead_code, reason = "only one of the two test binaries names replicas")]
    pub fn name_replicas(&self, push_to: &[SocketAddr]) {
        *self.state.push_to.lock().unwrap() = push_to.iter().map(SocketAddr::to_string).collect();
    }

    pub fn reports(&self) -> Vec<NodeReport> {
        self.state.reports.lock().unwrap().clone()
    }

    /// Waits for a report that `fits`.
    pub async fn report(&self, what: &str, fits: impl Fn(&NodeReport) -> bool) -> NodeReport {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let reports = self.reports();
            if let Some(report) = reports.iter().rev().find(|report| fits(report)) {
                return report.clone();
            }
            let last = reports.last().map(brief);
            assert!(
                Instant::now() < deadline,
                "no report {what}; {} came, the last: {last:?}",
                reports.len()
            );
            sleep(Duration::from_millis(20)).await;
        }
    }
}

/// What a failed test wants to see of a report.
fn brief(report: &NodeReport) -> String {
    let pods = report.pods.iter().map(|pod| {
        let counters = pod.counters.as_ref();
        let counts = counters.map(|it| (it.starts, it.finishes, it.aborts, it.unaccounted));
        format!(
            "{} {:?} generation {} last {} {counts:?}",
            pod.uid, pod.state, pod.attach_generation, pod.last
        )
    });
    format!("sequence {} {:?}", report.sequence, pods.collect::<Vec<_>>())
}

impl Handler for Endpoints {
    fn admit(&self, head: &Parts) -> Result<(), Response> {
        let Some(token) = &self.0.token else { return Ok(()) };
        let known = bearer(&head.headers).is_some_and(|theirs| token.matches(theirs));
        if known { Ok(()) } else { Err(text(StatusCode::UNAUTHORIZED, "who are you?")) }
    }

    async fn handle(&self, request: Request) -> Response {
        match request.uri().path() {
            "/v1/reports" => {
                let report = NodeReport::decode(request.body()).unwrap();
                let push_to = self.0.push_to.lock().unwrap().clone();
                let reply = ReportReply { readable: READABLE, accepted: Some(report.sequence), push_to };
                self.0.reports.lock().unwrap().push(report);
                protobuf(reply.encode())
            }
            "/v1/watch" => {
                assert!(query(request.uri(), "node").is_some());
                let known = query(request.uri(), "revision").map(|it| it.parse::<u64>().unwrap());
                let mut lists = self.0.list.subscribe();
                let news = lists.wait_for(|list| Some(list.revision) != known);
                let _ = timeout(Duration::from_secs(25), news).await;
                let list = self.0.list.borrow().clone();
                protobuf(list.encode())
            }
            _ => not_found(),
        }
    }
}
