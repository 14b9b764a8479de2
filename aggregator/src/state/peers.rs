//! The other replicas: a standby keeps what the leader saves, a starting replica takes it before it begins.
//!
//! `GET /v1/snapshot?store=S&has=M&since=N&weights=R` answers with what was saved after moment N of store S, for a replica that
//! has all up to M, everything if that is not the store that answers, at most some 8 MiB a page, and with the trained weights
//! where their revision is not R: a number for the form, then a [`Page`] in postcard.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use prescale_shell::client::{Client, Limits, said};
use prescale_shell::http::{Request, Response, StatusCode, query, reply, text};
use serde::{Deserialize, Serialize};

use super::State;
use super::store::{Changes, Entry};
use crate::metrics::Metrics;
use crate::training::Training;
use crate::training::versions::{Set, Swapped};

/// The path.
pub const SNAPSHOT: &str = "/v1/snapshot";
/// To be raised when [`Page`] changes: a replica of another form is not followed.
const FORM: u32 = 4;
/// A page ends with the entry that reaches this.
const PAGE_BYTES: usize = 8 * 1024 * 1024;
/// Largest page that is taken: one more entry than [`PAGE_BYTES`], of half a megabyte at most, and weights of some 1.5.
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
    /// The trained weights, where the replica that asks has others and this one leads.
    weights: Option<Set>,
}

/// Answers another replica.
pub async fn answer(state: Arc<State>, request: &Request) -> Response {
    let number = |name| query(request.uri(), name).and_then(|it| it.parse::<u64>().ok());
    let known = number("store") == Some(state.store.instance);
    let moment = |name| number(name).filter(|_| known).unwrap_or(0);
    let (has, since, revision) = (moment("has"), moment("since"), number("weights"));
    let read = tokio::task::spawn_blocking(move || {
        let page = page(&state, has, since, revision)?;
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

fn page(state: &State, has: u64, since: u64, revision: Option<u64>) -> anyhow::Result<Page> {
    let Changes { entries, until, more } = state.store.after(has, since, PAGE_BYTES)?;
    let (store, leads) = (state.store.instance, state.leads());
    // After the entries: no head among them was made with weights that are newer than these.
    let weights = state.weights();
    let weights = (leads && revision != Some(weights.revision())).then(|| weights.set());
    Ok(Page { store, leads, until, more, entries, weights })
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
    /// The revision of its weights that were refused last.
    refused: Option<u64>,
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
        Self { client, store: 0, has: 0, since: 0, refused: None, answers: true }
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
    async fn take(
        &mut self,
        state: &Arc<State>,
        metrics: &Metrics,
        training: Option<&Training>,
    ) -> anyhow::Result<Taken> {
        let Self { store, has, since, .. } = self;
        let weights = self.refused.unwrap_or_else(|| state.weights().revision());
        let path = format!("{SNAPSHOT}?store={store}&has={has}&since={since}&weights={weights}");
        let answer = self.client.get(&path).await?;
        if answer.status() != StatusCode::OK {
            bail!("it says {}", said(&answer));
        }
        let page = decode(answer.body())?;
        self.keep(page, state, metrics, training).await
    }

    /// Keeps a page. The weights come first, and run (`training` has them run, once there is something that does) before
    /// there is state that was made with them: a head whose state is of other weights sleeps for half an hour.
    async fn keep(
        &mut self,
        page: Page,
        state: &Arc<State>,
        metrics: &Metrics,
        training: Option<&Training>,
    ) -> anyhow::Result<Taken> {
        let taken = Taken { leads: page.leads, entries: page.entries.len(), more: page.more };
        if !page.leads || state.leads() {
            return Ok(taken);
        }
        if let Some(set) = page.weights
            && self.keep_weights(set, state).await
            && let Some(training) = training
        {
            training.swap().await;
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

    /// Keeps the leader's weights; whether others of any kind run then. Those that are refused are asked for again only when
    /// the leader has others: the state is followed all the same.
    async fn keep_weights(&mut self, set: Set, state: &Arc<State>) -> bool {
        let (into, revision) = (Arc::clone(state), set.revision);
        let taken = tokio::task::spawn_blocking(move || into.weights().take(&set));
        let peer = self.client.authority();
        self.refused = None;
        match taken.await {
            Ok(Ok((swapped, own))) => {
                for Swapped { kind, was, now } in &swapped {
                    tracing::info!(
                        "the weights of {} are now version {now} of the leader {peer}, after version {was}",
                        kind.name()
                    );
                }
                if own {
                    tracing::info!(
                        "the workloads with trees of their own are now those of the leader {peer}"
                    );
                }
                own || !swapped.is_empty()
            }
            Ok(Err(error)) => {
                tracing::error!(
                    "the trained weights of the leader {peer} are refused, so those that run here go on: {error:#}"
                );
                self.refused = Some(revision);
                false
            }
            Err(_) => {
                self.refused = Some(revision);
                false
            }
        }
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
            match peer.take(state, metrics, None).await {
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
pub async fn follow(mut peers: Vec<Peer>, state: Arc<State>, metrics: Arc<Metrics>, training: Training) {
    loop {
        for peer in &mut peers {
            while !state.leads() {
                let result = peer.take(&state, &metrics, Some(&training)).await;
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
    use prescale_core::world::WorkloadId;
    use prescale_models::WeightsKind;
    use prescale_models::neural::{CoreKind, shipped_as};
    use prescale_models::nn::Parameters as _;

    use super::*;
    use crate::training::versions::Version;

    /// A leader that has trained, with one workload's state.
    fn leader() -> State {
        let leader = State::open(None).unwrap();
        leader.set_leads(true);
        train(&leader, 0.9);
        train_as(CoreKind::Cnn, &leader, 0.9);
        let id = WorkloadId { namespace: "shop".into(), name: "web".into() };
        leader.store.put(&[Entry { id, base: Some(vec![1]), tail: vec![2] }]).unwrap();
        leader
    }

    fn train(state: &State, factor: f32) {
        train_as(CoreKind::Gru, state, factor);
    }

    fn train_as(core: CoreKind, state: &State, factor: f32) {
        let mut network = (*shipped_as(core)).clone();
        network.visit_mut("", &mut |_, _, values| values.iter_mut().for_each(|it| *it *= factor));
        let json = serde_json::json!({ "number": 0, "model": "", "parent": 0, "weights": "", "code": "", "trained_until_unix_ms": 0,
            "made_unix_ms": 0, "workloads": 1, "records": 200, "gain": [0.2, 0.1, 0.3] });
        let version: Version = serde_json::from_value(json).unwrap();
        state.weights().add(Arc::new(network).into(), version).unwrap();
    }

    fn follower() -> (Peer, Arc<State>, Metrics) {
        let client = Client::new("127.0.0.1:1", Peer::limits()).unwrap();
        (Peer::new(client), Arc::new(State::open(None).unwrap()), Metrics::default())
    }

    /// As it comes over the wire.
    fn sent(page: &Page) -> Page {
        decode(&postcard::to_extend(page, FORM.to_le_bytes().to_vec()).unwrap()).unwrap()
    }

    #[tokio::test]
    async fn a_standby_keeps_the_leaders_weights_with_its_state_and_a_leader_takes_nobodys() {
        let leader = leader();
        let (mut peer, state, metrics) = follower();
        let first = page(&leader, 0, 0, Some(state.weights().revision())).unwrap();
        peer.keep(sent(&first), &state, &metrics, None).await.unwrap();
        assert_eq!(state.weights().running(), leader.weights().running());
        assert_eq!(WeightsKind::ALL.map(|kind| state.weights().active(kind).0), [1, 0, 2, 0]);
        assert_eq!(state.store.workloads().len(), 1);
        let known = state.weights().revision();
        assert_eq!(page(&leader, 0, 0, Some(known)).unwrap().weights, None, "only what is news");
        // Once it leads it trains itself, and nobody's weights are taken any more.
        state.set_leads(true);
        train(&state, 0.8);
        let before = state.weights().revision();
        peer.keep(sent(&first), &state, &metrics, None).await.unwrap();
        assert_eq!(state.weights().revision(), before);
        leader.set_leads(false);
        assert_eq!(page(&leader, 0, 0, None).unwrap().weights, None, "a standby's are nobody's to follow");
    }

    #[tokio::test]
    async fn weights_that_are_refused_are_not_asked_for_again_and_the_state_is_followed_all_the_same() {
        let leader = leader();
        let (mut peer, state, metrics) = follower();
        let own = state.weights().revision();
        let mut first = page(&leader, 0, 0, Some(own)).unwrap();
        let text = serde_json::to_string(first.weights.as_ref().unwrap()).unwrap();
        let foreign = text.replacen("\"active\":[1,0,2,0]", "\"active\":[4,0,2,0]", 1);
        assert_ne!(foreign, text);
        first.weights = Some(serde_json::from_str(&foreign).unwrap());
        peer.keep(sent(&first), &state, &metrics, None).await.unwrap();
        assert_eq!((state.weights().revision(), state.store.workloads().len()), (own, 1));
        assert_eq!(page(&leader, 0, 0, peer.refused).unwrap().weights, None);
        train(&leader, 0.7);
        let news = page(&leader, 0, 0, peer.refused).unwrap();
        peer.keep(sent(&news), &state, &metrics, None).await.unwrap();
        assert_eq!(
            (state.weights().active(WeightsKind::Network(CoreKind::Gru)).0, peer.refused),
            (3, None),
            "the leader's next ones are"
        );
    }

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
            (&[4, 0, 0, 0, 0xff, 0xff, 0xff], "no sense"),
            (&[4, 0, 0, 0, 1, 1, 1, 0, 0xff, 0xff, 0xff, 0xff, 0x0f], "no sense"),
        ] {
            assert!(decode(bytes).unwrap_err().to_string().contains(says), "{bytes:?}");
        }
    }
}
