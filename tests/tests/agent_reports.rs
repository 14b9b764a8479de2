//! The agent's pusher and watcher against real HTTP aggregators that come, go, refuse and name each other.
#![allow(clippy::unwrap_used)]

#[path = "agent_support/aggregator.rs"]
mod aggregator;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use aggregator::{Aggregator, PATIENCE, free_address};
use prescale_agent::push::Fleet;
use prescale_agent::shared::Shared;
use prescale_agent::watch::Watcher;
use prescale_core::node::{Node, NodeSettings, OwnUse};
use prescale_core::wire::{WatchList, WatchedPod};
use prescale_core::world::WorkloadId;
use prescale_shell::client::Access;
use prescale_shell::clock::Clock;
use prescale_shell::token::TokenFile;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

/// A fleet and the brain that makes its reports.
struct Agent {
    shared: Arc<Shared>,
    fleet: Fleet,
}

fn shared() -> Arc<Shared> {
    let clock = Clock::real();
    let settings =
        NodeSettings { node: "node-1".into(), boot_id: "boot".into(), agent_start: clock.now().wall };
    Arc::new(Shared::new(clock, Node::new(settings)))
}

impl Agent {
    fn new(aggregators: &[SocketAddr], token: Option<TokenFile>) -> Self {
        let shared = shared();
        let addresses: Vec<String> = aggregators.iter().map(SocketAddr::to_string).collect();
        let access = Access { token, ..Access::default() };
        let fleet = Fleet::new(&addresses, access, shared.clock, "node-1", Arc::clone(&shared)).unwrap();
        Self { shared, fleet }
    }

    /// Makes and publishes the next report, and follows replicas that replies have named.
    fn report(&mut self) -> u64 {
        while let Ok(named) = self.fleet.replies.try_recv() {
            self.fleet.retarget(&named);
        }
        let report = self.shared.node().finish(self.shared.clock.now(), Vec::new(), OwnUse::default());
        self.fleet.publish(report.sequence, report.encode());
        report.sequence
    }

    /// Publishes until `aggregator` has taken a report.
    async fn report_until(&mut self, aggregator: &Aggregator) {
        let reached = async {
            while aggregator.reports().is_empty() {
                self.report();
                sleep(Duration::from_millis(50)).await;
            }
        };
        timeout(PATIENCE, reached).await.expect("no report came");
    }
}

#[tokio::test]
async fn an_aggregator_that_was_away_gets_the_newest_report_and_no_old_one() {
    let address = free_address();
    let mut agent = Agent::new(&[address], None);
    for _ in 0..200 {
        agent.report();
    }
    let aggregator = Aggregator::start_at(address, None).await;
    aggregator.report("after the absence", |report| report.sequence == 200).await;
    assert_eq!(aggregator.reports().len(), 1, "older reports were kept");
    let next = agent.report();
    aggregator.report("after the return", |report| report.sequence == next).await;
}

#[tokio::test]
async fn one_aggregator_that_is_away_does_not_hold_up_the_other() {
    let (away, here) = (free_address(), Aggregator::start().await);
    let mut agent = Agent::new(&[away, here.address], None);
    for _ in 0..3 {
        let sequence = agent.report();
        here.report("although the other is away", |report| report.sequence == sequence).await;
    }
}

#[tokio::test]
async fn replicas_that_a_reply_names_are_pushed_to_until_all_are_gone() {
    let (service, replica) = (Aggregator::start().await, Aggregator::start().await);
    service.name_replicas(&[replica.address]);
    let mut agent = Agent::new(&[service.address], None);
    agent.report_until(&replica).await;
    // The service's own address gets no more reports: the replicas have them.
    let before = service.reports().len();
    for _ in 0..3 {
        let sequence = agent.report();
        replica.report("by the replica", |report| report.sequence == sequence).await;
    }
    assert_eq!(service.reports().len(), before);
    // The replicas are replaced; the service knows the new ones.
    replica.stop().await;
    let successor = Aggregator::start().await;
    service.name_replicas(&[successor.address]);
    agent.report_until(&successor).await;
}

#[tokio::test]
async fn the_last_report_goes_out_although_the_pusher_backs_off() {
    let address = free_address();
    let mut agent = Agent::new(&[address], None);
    agent.report();
    let failed = async {
        while agent.shared.readiness().unwrap_err().find("no connection").is_none() {
            agent.shared.watch_answered();
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, failed).await.expect("the first report never failed");
    let aggregator = Aggregator::start_at(address, None).await;
    let last = agent.report();
    agent.fleet.finish(PATIENCE).await;
    assert_eq!(aggregator.reports().last().unwrap().sequence, last);
}

#[tokio::test]
async fn a_stop_does_not_wait_for_who_does_not_answer() {
    // Accepts connections in the kernel's backlog, and never answers.
    let deaf = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut agent = Agent::new(&[deaf.local_addr().unwrap()], None);
    agent.report();
    timeout(PATIENCE, agent.fleet.finish(Duration::from_millis(100))).await.expect("the stop hangs");
}

#[tokio::test]
async fn a_renewed_token_opens_the_door() {
    let file: PathBuf = std::env::temp_dir().join(format!("prescale-agent-token-{}", std::process::id()));
    std::fs::write(&file, "old").unwrap();
    let aggregator = Aggregator::start_at(free_address(), Some("new")).await;
    let mut agent = Agent::new(&[aggregator.address], Some(TokenFile::open(file.clone()).unwrap()));
    agent.shared.watch_answered();
    agent.report();
    let denied = async {
        while !agent.shared.readiness().unwrap_err().contains("401 Unauthorized: who are you?") {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, denied).await.expect("the old token was not refused");
    std::fs::write(&file, "new").unwrap();
    agent.report_until(&aggregator).await;
    assert_eq!(agent.shared.readiness(), Ok(()));
    std::fs::remove_file(file).unwrap();
}

fn pod(uid: &str) -> WatchedPod {
    WatchedPod {
        uid: uid.into(),
        name: format!("web-{uid}"),
        workload: WorkloadId { namespace: "demo".into(), name: "web".into() },
        ports: Vec::new(),
        probes: Vec::new(),
    }
}

fn watch(aggregators: &[SocketAddr]) -> mpsc::Receiver<WatchList> {
    let shared = shared();
    let addresses: Vec<String> = aggregators.iter().map(SocketAddr::to_string).collect();
    let watcher = Watcher::new(&addresses, &Access::default(), shared.clock, "node-1", shared).unwrap();
    let (lists, incoming) = mpsc::channel(1);
    tokio::spawn(watcher.run(lists));
    incoming
}

async fn next(lists: &mut mpsc::Receiver<WatchList>) -> Vec<String> {
    let list = timeout(PATIENCE, lists.recv()).await.expect("no watch list came").unwrap();
    list.pods.into_iter().map(|pod| pod.uid).collect()
}

#[tokio::test]
async fn a_changed_watch_list_comes_at_once_and_only_when_it_changed() {
    let aggregator = Aggregator::start().await;
    let mut lists = watch(&[aggregator.address]);
    assert!(next(&mut lists).await.is_empty());
    aggregator.watch(vec![pod("a"), pod("b")]);
    assert_eq!(next(&mut lists).await, ["a", "b"]);
    aggregator.watch(vec![pod("b")]);
    assert_eq!(next(&mut lists).await, ["b"]);
    assert!(timeout(Duration::from_millis(300), lists.recv()).await.is_err(), "the same list came twice");
}

#[tokio::test]
async fn the_watcher_turns_to_the_next_aggregator_and_back() {
    let (first, second) = (Aggregator::start().await, Aggregator::start().await);
    first.watch(vec![pod("a")]);
    second.watch(vec![pod("a"), pod("b")]);
    let mut lists = watch(&[first.address, second.address]);
    assert_eq!(next(&mut lists).await, ["a"]);
    let address = first.address;
    first.stop().await;
    assert_eq!(next(&mut lists).await, ["a", "b"]);
    let first = Aggregator::start_at(address, None).await;
    first.watch(vec![pod("c")]);
    second.stop().await;
    assert_eq!(next(&mut lists).await, ["c"]);
}
