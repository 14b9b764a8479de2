//! Pushes the newest report to every aggregator; one that is away costs nothing and loses nothing.
//!
//! Reports carry cumulative counters, so only the newest of them matters: a slow or absent aggregator holds no queue,
//! it gets the newest when it is back.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use prescale_core::wire::{MAX_REPLICAS_TO_PUSH_TO, ReportReply};
use prescale_shell::backoff::Backoff;
use prescale_shell::client::{Access, Client, Limits, said};
use prescale_shell::clock::Clock;
use prescale_shell::http::{Method, PROTOBUF};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::metrics::Outcome;
use crate::shared::Shared;

/// First and longest wait after a failure, of the agent's clock: soon enough that a restarted aggregator plans on
/// fresh data within seconds, seldom enough that 5,000 agents don't hinder its start.
const WAIT: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(10));
/// A report is refused or taken within this (real) time, or a newer one is sent instead.
const REPLY: Duration = Duration::from_secs(5);
/// A reply is a few addresses.
const REPLY_BYTES: usize = 64 * 1024;
/// How often each replica that an aggregator named may fail in a row before the configured addresses are asked again.
const FAILURES_BEFORE_FALLBACK: u32 = 3;

/// An encoded report.
#[derive(Clone, Debug)]
struct Outgoing {
    sequence: u64,
    body: Bytes,
}

/// The aggregators that reports go to.
pub struct Fleet {
    configured: Vec<String>,
    access: Access,
    clock: Clock,
    node: String,
    shared: Arc<Shared>,
    newest: watch::Sender<Option<Outgoing>>,
    pushers: BTreeMap<String, Pusher>,
    tasks: JoinSet<()>,
    named: mpsc::Sender<Vec<String>>,
    /// Lists of replicas out of replies, for [`Fleet::retarget`].
    pub replies: mpsc::Receiver<Vec<String>>,
}

/// One aggregator's task; dropping `stop` ends it.
struct Pusher {
    failures: Arc<AtomicU32>,
    _stop: watch::Sender<()>,
}

impl Fleet {
    /// Pushes to `configured` until a reply names replicas.
    ///
    /// # Errors
    /// When one of the addresses is none, or `access` does not allow it.
    pub fn new(
        configured: &[String],
        access: Access,
        clock: Clock,
        node: &str,
        shared: Arc<Shared>,
    ) -> anyhow::Result<Self> {
        // Replies come one at a time from each replica; one that finds no room is told again by the next reply.
        let (named, replies) = mpsc::channel(MAX_REPLICAS_TO_PUSH_TO);
        let mut fleet = Self {
            configured: configured.to_vec(),
            access,
            clock,
            node: node.to_owned(),
            shared,
            newest: watch::channel(None).0,
            pushers: BTreeMap::new(),
            tasks: JoinSet::new(),
            named,
            replies,
        };
        for address in configured {
            fleet.start(address)?;
        }
        Ok(fleet)
    }

    /// Hands the newest report to every aggregator; one that has not been sent yet is replaced.
    pub fn publish(&mut self, sequence: u64, body: Vec<u8>) {
        self.newest.send_replace(Some(Outgoing { sequence, body: body.into() }));
        while self.tasks.try_join_next().is_some() {}
        let lost = |pusher: &Pusher| pusher.failures.load(Ordering::Relaxed) >= FAILURES_BEFORE_FALLBACK;
        let configured = self.configured.iter().any(|address| self.pushers.contains_key(address));
        if !configured && self.pushers.values().all(lost) {
            tracing::warn!(
                "none of the aggregator's replicas answers: asking the configured addresses again"
            );
            self.retarget(&[]);
        }
    }

    /// Pushes to `named` from now on, or to the configured addresses if it is empty.
    pub fn retarget(&mut self, named: &[String]) {
        let targets = if named.is_empty() { self.configured.clone() } else { named.to_vec() };
        self.pushers.retain(|address, _| targets.contains(address));
        for address in &targets {
            if !self.pushers.contains_key(address)
                && let Err(error) = self.start(address)
            {
                tracing::warn!("an aggregator named a replica that can't be pushed to: {error:#}");
            }
        }
    }

    /// Sends the newest report once more to who has not got it, for at most `limit` of real time.
    pub async fn finish(self, limit: Duration) {
        let Self { newest, pushers, mut tasks, .. } = self;
        // Without a sender the tasks send what they have not sent, once, and end.
        drop(newest);
        let finished = async { while tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(limit, finished).await.is_err() {
            tracing::warn!("the last report did not reach every aggregator");
        }
        drop(pushers);
    }

    fn start(&mut self, address: &str) -> anyhow::Result<()> {
        let limits = Limits { reply: REPLY, reply_bytes: REPLY_BYTES, ..Limits::default() };
        let client = Client::with_access(address, limits, &self.access)?;
        let failures = Arc::new(AtomicU32::new(0));
        let (stop, stopped) = watch::channel(());
        let task = Task {
            client,
            clock: self.clock,
            backoff: Backoff::new(WAIT.0, WAIT.1, &format!("{}>{address}", self.node)),
            newest: self.newest.subscribe(),
            stopped,
            named: self.named.clone(),
            failures: Arc::clone(&failures),
            unreadable: false,
            shared: Arc::clone(&self.shared),
        };
        self.tasks.spawn(task.run());
        self.pushers.insert(address.to_owned(), Pusher { failures, _stop: stop });
        Ok(())
    }
}

struct Task {
    client: Client,
    clock: Clock,
    backoff: Backoff,
    newest: watch::Receiver<Option<Outgoing>>,
    stopped: watch::Receiver<()>,
    named: mpsc::Sender<Vec<String>>,
    failures: Arc<AtomicU32>,
    unreadable: bool,
    shared: Arc<Shared>,
}

impl Task {
    async fn run(mut self) {
        // A task that starts late sends what there is at once.
        self.newest.mark_changed();
        let mut delivered = 0;
        loop {
            tokio::select! {
                _ = self.stopped.changed() => return,
                changed = self.newest.changed() => if changed.is_err() { return },
            }
            let Some(report) = self.newest.borrow_and_update().clone() else { continue };
            if self.send(&report).await {
                self.shared.metrics.superseded(report.sequence.saturating_sub(delivered + 1));
                delivered = report.sequence;
                continue;
            }
            // Nothing is lost: until there is a newer one, which says all of it, this one is tried again.
            self.newest.mark_changed();
            let wait = self.backoff.wait();
            tokio::select! {
                () = self.clock.sleep(wait) => {}
                _ = self.stopped.changed() => return,
                () = closed(self.newest.clone()) => {
                    // The agent stops: one last try, without waiting.
                    let last = self.newest.borrow_and_update().clone();
                    if let Some(report) = last {
                        self.send(&report).await;
                    }
                    return;
                }
            }
        }
    }

    /// Whether the aggregator took it.
    async fn send(&mut self, report: &Outgoing) -> bool {
        let body = report.body.clone();
        let bytes = body.len();
        let reply = self.client.send(Method::POST, "/v1/reports", PROTOBUF, body).await;
        let outcome = Outcome::of(&reply);
        self.shared.metrics.pushed(outcome, bytes);
        let address = self.client.authority();
        if outcome == Outcome::Ok {
            let failures = self.failures.swap(0, Ordering::Relaxed);
            if failures > 0 {
                tracing::info!(address, failures, "the aggregator takes reports again");
            }
            self.backoff.succeeded();
            self.shared.report_accepted();
            if let Ok(reply) = reply {
                self.heed(reply.body());
            }
            return true;
        }
        let said = reply.map_or_else(|failure| failure.to_string(), |reply| said(&reply));
        // Once: it would be once for each try.
        if self.failures.fetch_add(1, Ordering::Relaxed) == 0 {
            tracing::warn!(address, "a report was not taken, trying on: {said}");
        }
        self.shared.report_failed(format!("{address}: {said}"));
        false
    }

    fn heed(&mut self, body: &[u8]) {
        match ReportReply::decode(body) {
            Ok(reply) if !reply.push_to.is_empty() => {
                let _ = self.named.try_send(reply.push_to);
            }
            Ok(_) => {}
            // Once: it would be once a second.
            Err(error) if !std::mem::replace(&mut self.unreadable, true) => {
                tracing::warn!(address = self.client.authority(), %error, "the aggregator's replies can't be read");
            }
            Err(_) => {}
        }
    }
}

/// Waits until the sender is gone.
async fn closed(mut newest: watch::Receiver<Option<Outgoing>>) {
    loop {
        newest.mark_unchanged();
        if newest.changed().await.is_err() {
            return;
        }
    }
}
