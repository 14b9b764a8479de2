//! Keeps asking an aggregator for this node's watch list, by long poll; keeps the last list while none answers.

use std::sync::Arc;
use std::time::Duration;

use prescale_core::wire::{MAX_BODY_BYTES, WatchList};
use prescale_shell::backoff::Backoff;
use prescale_shell::client::{Access, Client, Limits, said};
use prescale_shell::clock::Clock;
use prescale_shell::http::{StatusCode, percent_encode};
use tokio::sync::mpsc;

use crate::metrics::Outcome;
use crate::shared::Shared;

/// How long the aggregator holds a question without news, of the agent's clock (ARCHITECTURE.md).
const HOLD: Duration = Duration::from_secs(25);
/// Beyond the hold: the (real) time that a reply may take.
const REPLY: Duration = Duration::from_secs(10);
/// First and longest wait after a failure, of the agent's clock. Opting in shall work within seconds of an
/// aggregator's return.
const WAIT: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(5));
/// Shortest (real) time between two questions, should an aggregator not hold them.
const PAUSE: Duration = Duration::from_millis(50);

/// Asks the aggregators in turn, one after the other while they fail.
pub struct Watcher {
    clients: Vec<Client>,
    node: String,
    clock: Clock,
    shared: Arc<Shared>,
}

impl Watcher {
    /// Asks `aggregators`, the first first.
    ///
    /// # Errors
    /// When one of the addresses is none, or `access` does not allow it.
    pub fn new(
        aggregators: &[String],
        access: &Access,
        clock: Clock,
        node: &str,
        shared: Arc<Shared>,
    ) -> anyhow::Result<Self> {
        let limits = Limits { reply_bytes: MAX_BODY_BYTES, ..Limits::default() };
        let clients = aggregators
            .iter()
            .map(|address| Client::with_access(address, limits, access))
            .collect::<anyhow::Result<_>>()?;
        Ok(Self { clients, node: node.to_owned(), clock, shared })
    }

    /// Sends every new list to `lists`, until that is closed.
    pub async fn run(self, lists: mpsc::Sender<WatchList>) {
        let mut backoff = Backoff::new(WAIT.0, WAIT.1, &self.node);
        let mut revision = None;
        let mut asked = 0;
        loop {
            let client = &self.clients[asked % self.clients.len()];
            match self.ask(client, revision).await {
                Ok(news) => {
                    if backoff.failures() > 0 {
                        tracing::info!(address = client.authority(), "the aggregator answers again");
                    }
                    backoff.succeeded();
                    self.shared.watch_answered();
                    if let Some(list) = news.filter(|list| Some(list.revision) != revision) {
                        revision = Some(list.revision);
                        tracing::info!(revision = list.revision, pods = list.pods.len(), "new watch list");
                        if lists.send(list).await.is_err() {
                            return;
                        }
                    }
                    tokio::time::sleep(PAUSE.min(self.clock.real_duration(HOLD))).await;
                }
                Err(said) => {
                    if backoff.failures() == 0 {
                        let address = client.authority();
                        tracing::warn!(address, "no watch list, keeping the last one and trying on: {said}");
                    }
                    self.shared.watch_failed(format!("{}: {said}", client.authority()));
                    self.clock.sleep(backoff.wait()).await;
                    asked += 1;
                    // Another aggregator counts its revisions by itself.
                    if self.clients.len() > 1 {
                        revision = None;
                    }
                }
            }
        }
    }

    /// The list if there is news; what went wrong, for a log line.
    async fn ask(&self, client: &Client, revision: Option<u64>) -> Result<Option<WatchList>, String> {
        let mut path = format!("/v1/watch?node={}", percent_encode(&self.node));
        if let Some(revision) = revision {
            path.push_str(&format!("&revision={revision}"));
        }
        let reply = client.get_within(&path, self.clock.real_duration(HOLD) + REPLY).await;
        self.shared.metrics.watched(Outcome::of(&reply));
        let reply = reply.map_err(|failure| failure.to_string())?;
        match reply.status() {
            StatusCode::OK => WatchList::decode(reply.body()).map(Some).map_err(|error| error.to_string()),
            StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED => Ok(None),
            _ => Err(said(&reply)),
        }
    }
}
