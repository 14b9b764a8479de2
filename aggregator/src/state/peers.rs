//! The other replicas: a standby keeps what the leader saves, a starting replica takes it before it begins.
//!
//! `GET /v1/snapshot?store=S&has=M&since=N` answers with what was saved after moment N of store S, for a replica that has
//! all up to M, everything if that is not the store that answers, at most some 8 MiB a page: a number for the form, then a
//! [`Page`] in postcard.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use prescale_shell::client::{Client, Limits, said};
use prescale_shell::http::{Request, Response, StatusCode, query, reply, text};
use serde::{Deserialize, Serialize};

use super::State;
use super::store::Entry;
use crate::metrics::Metrics;

/// The path.
pub const SNAPSHOT: &str = "/v1/snapshot";
/// To be raised when [`Page`] changes: a replica of another form is not followed.
const FORM: u32 = 1;
/// A page ends with the entry that reaches this.
const PAGE_BYTES: usize = 8 * 1024 * 1024;
/// Largest page that is taken: one more entry than [`PAGE_BYTES`], of half a megabyte at most.
const MOST_PAGE_BYTES: usize = 16 * 1024 * 1024;
/// How often a standby asks, real time: what it holds is then two seconds older than what the leader has saved.
const EVERY: Duration = Duration::from_secs(2);
/// Longest that a start waits for a leader's whole state, real time: 10,000 workloads are 2 GB.
const AT_START: Duration = Duration::from_secs(60);

/// Some of a store.
#[derive(Debug, Serialize, Deserialize)]
struct Page {
    /// Which store, so that moments of another are not mistaken for its.
    store: u64,
    /// Whether this replica leads: only a leader's state is followed.
    leads: bool,
    until: u64,
    more: bool,
    entries: Vec<Entry>,
}

/// Answers another replica.
pub async fn answer(state: Arc<State>, request: &Request) -> Response {
    let number = |name| query(request.uri(), name).and_then(|it| it.parse::<u64>().ok());
    let known = number("store") == Some(state.store.instance);
    let moment = |name| number(name).filter(|_| known).unwrap_or(0);
    let (has, since) = (moment("has"), moment("since"));
    let read = tokio::task::spawn_blocking(move || {
        let changes = state.store.after(has, since, PAGE_BYTES)?;
        let (store, leads) = (state.store.instance, state.leads());
        let page = Page { store, leads, until: changes.until, more: changes.more, entries: changes.entries };
        anyhow::Ok(postcard::to_extend(&page, FORM.to_le_bytes().to_vec())?)
    });
    match read.await {
        Ok(Ok(bytes)) => reply(StatusCode::OK, "application/octet-stream", bytes),
        Ok(Err(error)) => {
            tracing::error!("can't give a replica the saved state: {error:#}");
            text(StatusCode::INTERNAL_SERVER_ERROR, "the saved state can't be read")
        }
        Err(_) => text(StatusCode::INTERNAL_SERVER_ERROR, "the saved state can't be read"),
    }
}

fn decode(bytes: &[u8]) -> anyhow::Result<Page> {
    let (form, body) = bytes.split_first_chunk().context("the answer is too short")?;
    let form = u32::from_le_bytes(*form);
    if form != FORM {
        bail!("it gives its state in form {form}, this build reads {FORM}");
    }
    postcard::from_bytes(body).context("the answer makes no sense")
}

/// One other replica, and how far it has been followed.
#[derive(Debug)]
pub struct Peer {
    client: Client,
    store: u64,
    /// All of its pages up to this moment have come.
    has: u64,
    /// The newest page reaches to this one.
    since: u64,
    /// Whether the last question was answered; said once when that changes.
    answers: bool,
}

/// What one question brought.
struct Taken {
    leads: bool,
    entries: usize,
    more: bool,
}

impl Peer {
    /// The replica behind `client`.
    pub fn new(client: Client) -> Self {
        Self { client, store: 0, has: 0, since: 0, answers: true }
    }

    /// Bounds on what a peer may take from us.
    pub fn limits() -> Limits {
        Limits {
            connect: Duration::from_secs(2),
            reply: Duration::from_secs(10),
            reply_bytes: MOST_PAGE_BYTES,
        }
    }

    /// Takes one page into the store, if that replica leads and we don't.
    async fn take(&mut self, state: &Arc<State>, metrics: &Metrics) -> anyhow::Result<Taken> {
        let path = format!("{SNAPSHOT}?store={}&has={}&since={}", self.store, self.has, self.since);
        let answer = self.client.get(&path).await?;
        if answer.status() != StatusCode::OK {
            bail!("it says {}", said(&answer));
        }
        let page = decode(answer.body())?;
        let taken = Taken { leads: page.leads, entries: page.entries.len(), more: page.more };
        if !page.leads || state.leads() {
            return Ok(taken);
        }
        let (into, store, until) = (Arc::clone(state), page.store, page.until);
        tokio::task::spawn_blocking(move || into.store.put(&page.entries)).await??;
        if store != self.store {
            (self.store, self.has) = (store, 0);
        }
        self.since = until;
        if !taken.more {
            self.has = until;
        }
        if taken.entries > 0 {
            state.feed();
        }
        if !taken.more {
            metrics.saved_now();
        }
        Ok(taken)
    }

    fn tell(&mut self, result: &anyhow::Result<Taken>) {
        let peer = self.client.authority();
        match result {
            Ok(_) if !self.answers => tracing::info!("the replica {peer} answers again"),
            Err(error) if self.answers => {
                tracing::warn!(
                    "can't follow the state of the replica {peer}, so a change of leader would act from older \
                     state: {error:#}"
                );
            }
            _ => {}
        }
        self.answers = result.is_ok();
    }
}

/// Whether a URL is that of the pod of this name, as a StatefulSet's Service names it.
pub fn is_of(url: &str, pod: Option<&str>) -> bool {
    let host = url.split_once("://").map_or(url, |(_, rest)| rest);
    let first = host.split(['.', ':', '/']).next();
    pod.is_some() && first == pod
}

/// Before the start: takes the whole state of the replica that leads, if one of them does and answers.
pub async fn take_at_start(peers: &mut [Peer], state: &Arc<State>, metrics: &Metrics) -> bool {
    let began = Instant::now();
    for peer in peers {
        let mut entries = 0;
        loop {
            match peer.take(state, metrics).await {
                Ok(taken) if taken.leads => {
                    entries += taken.entries;
                    if !taken.more {
                        let seconds = began.elapsed().as_secs_f64();
                        let from = peer.client.authority();
                        tracing::info!(
                            "took the state of {entries} workloads from the leader {from} in {seconds:.1} s"
                        );
                        return true;
                    }
                }
                Ok(_) => break,
                Err(error) => {
                    tracing::info!("the replica {} gives no state: {error:#}", peer.client.authority());
                    break;
                }
            }
            if began.elapsed() > AT_START {
                tracing::warn!("the leader's state takes too long; what is missing comes while we run");
                return true;
            }
        }
    }
    false
}

/// Follows whichever replica leads, for ever.
pub async fn follow(mut peers: Vec<Peer>, state: Arc<State>, metrics: Arc<Metrics>) {
    loop {
        for peer in &mut peers {
            while !state.leads() {
                let result = peer.take(&state, &metrics).await;
                peer.tell(&result);
                if !result.is_ok_and(|taken| taken.leads && taken.more) {
                    break;
                }
            }
        }
        tokio::time::sleep(EVERY).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replica_knows_its_own_address() {
        let url = "http://prescale-aggregator-1.prescale-aggregator.prescale.svc:8080";
        assert!(is_of(url, Some("prescale-aggregator-1")));
        assert!(!is_of(url, Some("prescale-aggregator-10")) && !is_of(url, Some("prescale-aggregator")));
        assert!(!is_of(url, None) && !is_of("http://127.0.0.1:8080", None));
    }

    #[test]
    fn an_answer_of_another_form_or_of_nonsense_is_an_error() {
        for (bytes, says) in [
            (&b"ab"[..], "too short"),
            (&[9, 0, 0, 0, 1], "form 9"),
            (&[1, 0, 0, 0, 0xff, 0xff, 0xff], "no sense"),
            (&[1, 0, 0, 0, 1, 1, 1, 0, 0xff, 0xff, 0xff, 0xff, 0x0f], "no sense"),
        ] {
            assert!(decode(bytes).unwrap_err().to_string().contains(says), "{bytes:?}");
        }
    }
}
