//! Who an agent is, by its ServiceAccount token: TokenReview, remembered for minutes, bound to the agent's node.
//!
//! A token that is stolen from one node can report that node's pods only, and nothing else of the cluster takes it: its
//! audience is ours.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, TokenReviewStatus};
use kube::api::{Api, PostParams};
use kube::{Client, Config};
use prescale_shell::http::base64;

/// The audience of the agents' projected tokens.
pub const AUDIENCE: &str = "prescale";
/// Where the API server says which node a pod's token belongs to (since Kubernetes 1.30).
const NODE: &str = "authentication.kubernetes.io/node-name";
/// Longest memory of a good token: one that is taken back works for no longer.
const GOOD: Duration = Duration::from_secs(300);
/// Memory of a bad one: a caller that tries again and again costs the API server a call in so long.
const BAD: Duration = Duration::from_secs(10);
/// Tokens that are remembered: two for each of 5,000 agents, since they change hands while both are good.
const MOST: usize = 10_000;
/// Longest wait for the API server.
const ANSWER: Duration = Duration::from_secs(3);

/// What a token is worth.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The agent of this node.
    AgentOf(String),
    /// Another replica of the aggregator.
    Peer,
    /// Nobody that may come in, and why.
    Refused(&'static str),
    /// The API server could not be asked.
    Unknown,
}

/// Asks the API server and remembers.
#[derive(Debug)]
pub struct Reviewer {
    api: Api<TokenReview>,
    /// The agents' account, `system:serviceaccount:NAMESPACE:NAME`.
    user: String,
    /// The replicas' own account, likewise.
    peers: Option<String>,
    known: Mutex<BTreeMap<String, (Verdict, Instant)>>,
}

impl std::fmt::Display for Reviewer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "tokens of {} for the audience {AUDIENCE}", self.user)
    }
}

impl Reviewer {
    /// For the ServiceAccounts of the agents and of the replicas, as `NAMESPACE:NAME`.
    ///
    /// # Errors
    /// When there is no cluster to ask.
    pub async fn new(account: &str, peers: Option<&str>) -> anyhow::Result<Self> {
        let config = Config::infer().await.context("--review-tokens-of needs a cluster to ask")?;
        let client = Client::try_from(config).context("can't use the cluster's configuration")?;
        let name = |account: &str| format!("system:serviceaccount:{account}");
        let (user, peers) = (name(account), peers.map(name));
        Ok(Self { api: Api::all(client), user, peers, known: Mutex::default() })
    }

    /// Judges a token.
    pub async fn judge(&self, token: &str) -> Verdict {
        if let Some(verdict) = recall(&self.known(), Instant::now(), token) {
            return verdict;
        }
        let spec = TokenReviewSpec { audiences: Some(vec![AUDIENCE.into()]), token: Some(token.to_owned()) };
        let review = TokenReview { spec, ..TokenReview::default() };
        let params = PostParams::default();
        let status = match tokio::time::timeout(ANSWER, self.api.create(&params, &review)).await {
            Ok(Ok(answer)) => answer.status.unwrap_or_default(),
            Ok(Err(error)) => {
                tracing::error!("can't review an agent's token: {error}");
                return Verdict::Unknown;
            }
            Err(_) => return Verdict::Unknown,
        };
        let verdict = self::verdict(&self.user, self.peers.as_deref(), &status);
        remember(&mut self.known(), Instant::now(), token, verdict.clone(), expires_in(token));
        verdict
    }

    fn known(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, (Verdict, Instant)>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn recall(known: &BTreeMap<String, (Verdict, Instant)>, now: Instant, token: &str) -> Option<Verdict> {
    known.get(token).filter(|(_, until)| now < *until).map(|(verdict, _)| verdict.clone())
}

fn remember(
    known: &mut BTreeMap<String, (Verdict, Instant)>,
    now: Instant,
    token: &str,
    verdict: Verdict,
    expires_in: Option<Duration>,
) {
    known.retain(|_, (_, until)| now < *until);
    // Full of tokens that are good or were tried within seconds: better ask again than forget an agent.
    if known.len() < MOST {
        let good = matches!(verdict, Verdict::AgentOf(_) | Verdict::Peer);
        let lasts = if good { expires_in.unwrap_or(Duration::ZERO).min(GOOD) } else { BAD };
        known.insert(token.to_owned(), (verdict, now + lasts));
    }
}

fn verdict(user: &str, peers: Option<&str>, status: &TokenReviewStatus) -> Verdict {
    if status.authenticated != Some(true) {
        return Verdict::Refused("the API server does not know this token, or it has expired");
    }
    if !status.audiences.iter().flatten().any(|it| it == AUDIENCE) {
        return Verdict::Refused("the token is for another audience");
    }
    let who = status.user.as_ref();
    let name = who.and_then(|it| it.username.as_deref());
    if name.is_some() && name == peers {
        return Verdict::Peer;
    }
    if name != Some(user) {
        return Verdict::Refused("the token belongs to another account than the agents'");
    }
    let extra = who.and_then(|it| it.extra.as_ref()).and_then(|it| it.get(NODE));
    match extra.map(Vec::as_slice) {
        Some([node]) => Verdict::AgentOf(node.clone()),
        _ => Verdict::Refused("the token names no node: it must be a pod's own, on Kubernetes 1.30 or later"),
    }
}

/// How long a token lasts by its own words (`exp`), which the API server has found true; `None` when they can't be read.
fn expires_in(token: &str) -> Option<Duration> {
    let claims: serde_json::Value = serde_json::from_slice(&base64(token.split('.').nth(1)?)?).ok()?;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).ok()?;
    Some(Duration::from_secs(claims.get("exp")?.as_u64()?).saturating_sub(now))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const USER: &str = "system:serviceaccount:prescale:prescale-agent";

    fn status(authenticated: bool, audience: &str, user: &str, node: Option<&str>) -> TokenReviewStatus {
        let extra = node.map_or(json!({}), |node| json!({NODE: [node]}));
        let user = json!({"username": user, "extra": extra});
        serde_json::from_value(json!({"authenticated": authenticated, "audiences": [audience], "user": user}))
            .unwrap()
    }

    #[test]
    fn only_the_agents_own_token_for_us_opens_the_door() {
        assert_eq!(
            verdict(USER, None, &status(true, AUDIENCE, USER, Some("node-a"))),
            Verdict::AgentOf("node-a".into())
        );
        for bad in [
            status(false, AUDIENCE, USER, Some("node-a")),
            status(true, "https://kubernetes.default.svc", USER, Some("node-a")),
            status(true, AUDIENCE, "system:serviceaccount:prescale:default", Some("node-a")),
            status(true, AUDIENCE, USER, None),
            TokenReviewStatus::default(),
        ] {
            assert!(matches!(verdict(USER, None, &bad), Verdict::Refused(_)), "{bad:?}");
        }
        // A replica is no agent, an agent no replica.
        let replicas = "system:serviceaccount:prescale:prescale-aggregator";
        let judged = |user| verdict(USER, Some(replicas), &status(true, AUDIENCE, user, Some("node-a")));
        assert_eq!((judged(replicas), judged(USER)), (Verdict::Peer, Verdict::AgentOf("node-a".into())));
        let other = status(true, "another", replicas, None);
        assert!(matches!(verdict(USER, Some(replicas), &other), Verdict::Refused(_)));
    }

    #[test]
    fn a_good_token_is_remembered_until_it_expires_and_for_five_minutes_at_most() {
        let now = Instant::now();
        let lasts = |verdict: Verdict, expires_in: Option<u64>| {
            let mut known = BTreeMap::new();
            remember(&mut known, now, "t", verdict, expires_in.map(Duration::from_secs));
            (0..1000).find(|it| recall(&known, now + Duration::from_secs(*it), "t").is_none())
        };
        let good = || Verdict::AgentOf("n".into());
        assert_eq!(lasts(good(), Some(3600)), Some(300));
        assert_eq!(lasts(good(), Some(60)), Some(60));
        assert_eq!(lasts(good(), None), Some(0));
        assert_eq!(lasts(Verdict::Refused(""), Some(3600)), Some(10));
    }

    #[test]
    fn the_memory_is_bounded_and_frees_itself() {
        let (mut known, now) = (BTreeMap::new(), Instant::now());
        for number in 0..=MOST {
            remember(&mut known, now, &number.to_string(), Verdict::Refused(""), None);
        }
        assert_eq!(known.len(), MOST);
        remember(&mut known, now + BAD, "later", Verdict::Refused(""), None);
        assert_eq!(known.len(), 1);
    }

    #[test]
    fn a_tokens_end_is_read_from_it() {
        // {"exp":99999999999} between a header and a signature that nobody looks at.
        assert!(expires_in("x.eyJleHAiOjk5OTk5OTk5OTk5fQ.y").is_some_and(|it| it > GOOD));
        assert_eq!(expires_in("x.eyJleHAiOjF9.y"), Some(Duration::ZERO));
        for bad in ["", "a.b", "x.!!.y", "x.e30.y"] {
            assert_eq!(expires_in(bad), None, "{bad}");
        }
    }
}
