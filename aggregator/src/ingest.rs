//! What agents send and fetch: who may, what is refused and why, and the long poll for watch lists.

use std::time::Duration;

use prescale_core::wire::{MAX_BODY_BYTES, MAX_NAME_BYTES, NodeReport, READABLE, ReportReply, WireError};
use prescale_shell::http::{
    Method, PROTOBUF, Parts, Request, Response, StatusCode, bearer, header, method_not_allowed, protobuf,
    query, text,
};
use prescale_shell::signals::Shutdown;
use prescale_shell::token::TokenFile;
use tokio::sync::watch;

use crate::control::{Ask, Control, Overloaded, WatchLists};
use crate::metrics::Metrics;
use crate::review::{Reviewer, Verdict};
use crate::state::peers::SNAPSHOT;

/// How long a watch waits for a change (ARCHITECTURE.md, "HTTP"), real time: below the usual 30 or 60 s of proxies.
pub const LONG_POLL: Duration = Duration::from_secs(25);

/// Why a report was not taken in. The names are label values of metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// No token, or not ours.
    Unauthorized,
    /// A good token, but of the agent on another node.
    OtherNode,
    /// Our own token can't be read, or nobody can say whose theirs is: nobody can be let in.
    NoToken,
    /// No stated length.
    NoLength,
    /// Larger than the wire allows.
    TooLarge,
    /// Not announced as protobuf.
    MediaType,
    /// Bytes that are no report.
    Malformed,
    /// Written by a version that this build does not read.
    Version,
    /// A report that breaks a limit of the wire.
    OverLimit,
    /// A report that can't be true.
    Impossible,
    /// The control loop has more to do than it can.
    Overloaded,
}

impl Refusal {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::Unauthorized,
        Self::OtherNode,
        Self::NoToken,
        Self::NoLength,
        Self::TooLarge,
        Self::MediaType,
        Self::Malformed,
        Self::Version,
        Self::OverLimit,
        Self::Impossible,
        Self::Overloaded,
    ];

    /// The value of labels.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unauthorized => "unauthorized",
            Self::OtherNode => "other_node",
            Self::NoToken => "no_token",
            Self::NoLength => "no_length",
            Self::TooLarge => "too_large",
            Self::MediaType => "media_type",
            Self::Malformed => "malformed",
            Self::Version => "version",
            Self::OverLimit => "over_limit",
            Self::Impossible => "impossible",
            Self::Overloaded => "overloaded",
        }
    }

    fn status(self) -> StatusCode {
        match self {
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::OtherNode => StatusCode::FORBIDDEN,
            Self::NoToken | Self::Overloaded => StatusCode::SERVICE_UNAVAILABLE,
            Self::NoLength => StatusCode::LENGTH_REQUIRED,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::MediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::Malformed => StatusCode::BAD_REQUEST,
            Self::Version | Self::OverLimit | Self::Impossible => StatusCode::UNPROCESSABLE_ENTITY,
        }
    }

    /// The reply: the reason's name, then a sentence.
    fn reply(self, sentence: &str) -> Response {
        let mut response = text(self.status(), &format!("{}: {sentence}", self.name()));
        let headers = response.headers_mut();
        match self {
            Self::Unauthorized => {
                headers.insert(header::WWW_AUTHENTICATE, header::HeaderValue::from_static("Bearer"));
            }
            // One report interval: the counters are cumulative, so the next report makes up for this one.
            Self::Overloaded => {
                headers.insert(header::RETRY_AFTER, header::HeaderValue::from_static("1"));
            }
            _ => {}
        }
        response
    }

    fn of(error: &WireError) -> Self {
        match error {
            WireError::Malformed(_) => Self::Malformed,
            WireError::Version { .. } => Self::Version,
            WireError::TooMany { .. }
            | WireError::BadName { .. }
            | WireError::OutOfRange { .. }
            | WireError::Twice { .. } => Self::OverLimit,
        }
    }
}

/// The agents' door.
#[derive(Debug)]
pub struct Ingest {
    /// The secret, if there is one.
    pub token: Option<TokenFile>,
    /// Who asks the API server about tokens, if it does.
    pub reviewer: Option<Reviewer>,
    /// The control loop.
    pub control: Control,
    /// What each node shall watch; `None` until the target has said what exists.
    pub lists: watch::Receiver<Option<WatchLists>>,
    /// Ends long polls early.
    pub shutdown: Shutdown,
}

/// Paths of the agents' door.
pub const REPORTS: &str = "/v1/reports";
/// Watch lists.
pub const WATCH: &str = "/v1/watch";

impl Ingest {
    /// Judges a request by its head, before its body is taken in.
    ///
    /// # Errors
    /// The refusal, counted.
    #[allow(clippy::result_large_err)]
    pub fn admit(&self, head: &Parts, metrics: &Metrics) -> Result<(), Response> {
        let path = head.uri.path();
        if path != REPORTS && path != WATCH && path != SNAPSHOT {
            return Ok(());
        }
        let refused = |refusal: Refusal, sentence: &str| {
            if path == REPORTS {
                metrics.refused(refusal);
            }
            Err(refusal.reply(sentence))
        };
        if let Some(file) = &self.token {
            match file.read() {
                Err(error) => {
                    tracing::error!("nobody can report: {error:#}");
                    return refused(Refusal::NoToken, "the aggregator can't read its own token");
                }
                Ok(token) if !bearer(&head.headers).is_some_and(|theirs| token.matches(theirs)) => {
                    return refused(Refusal::Unauthorized, "want the token as `authorization: Bearer`");
                }
                Ok(_) => {}
            }
        }
        if path != REPORTS {
            return if head.method == Method::GET { Ok(()) } else { Err(method_not_allowed("GET")) };
        }
        if head.method != Method::POST {
            return Err(method_not_allowed("POST"));
        }
        let value = |name| head.headers.get(name).and_then(|value| value.to_str().ok());
        let Some(length) = value(header::CONTENT_LENGTH).and_then(|length| length.parse::<usize>().ok())
        else {
            return refused(Refusal::NoLength, "state the body's length");
        };
        if length > MAX_BODY_BYTES {
            return refused(Refusal::TooLarge, &format!("{length} bytes; at most {MAX_BODY_BYTES}"));
        }
        let media_type = value(header::CONTENT_TYPE).and_then(|it| it.split(';').next()).unwrap_or("").trim();
        if !media_type.eq_ignore_ascii_case(PROTOBUF) {
            return refused(Refusal::MediaType, &format!("want {PROTOBUF}"));
        }
        Ok(())
    }

    /// Takes a report in.
    pub async fn report(&self, request: &Request, metrics: &Metrics) -> Response {
        let taken = match self.caller(request).await {
            Ok(caller) => self.take(caller.as_deref(), request.body()).await,
            Err(refused) => Err(refused),
        };
        match taken {
            Ok(reply) => {
                metrics.reports_accepted.inc();
                protobuf(reply.encode())
            }
            Err((refusal, sentence)) => {
                metrics.refused(refusal);
                refusal.reply(&sentence)
            }
        }
    }

    /// The node whose agent calls, where the API server says who it is.
    async fn caller(&self, request: &Request) -> Result<Option<String>, (Refusal, String)> {
        let Some(reviewer) = &self.reviewer else { return Ok(None) };
        let Some(token) = bearer(request.headers()) else {
            return Err((Refusal::Unauthorized, "want the token as `authorization: Bearer`".into()));
        };
        match reviewer.judge(token).await {
            Verdict::AgentOf(node) => Ok(Some(node)),
            Verdict::Peer => Err((Refusal::Unauthorized, "this token is a replica's, not an agent's".into())),
            Verdict::Refused(why) => Err((Refusal::Unauthorized, why.into())),
            Verdict::Unknown => Err((Refusal::NoToken, "the API server can't be asked about tokens".into())),
        }
    }

    /// Whether the caller may read this replica's state.
    ///
    /// # Errors
    /// The refusal.
    pub async fn peer(&self, request: &Request) -> Result<(), Response> {
        let Some(reviewer) = &self.reviewer else { return Ok(()) };
        let refused = match bearer(request.headers()) {
            None => (Refusal::Unauthorized, "want the token as `authorization: Bearer`"),
            Some(token) => match reviewer.judge(token).await {
                Verdict::Peer => return Ok(()),
                Verdict::AgentOf(_) => {
                    (Refusal::Unauthorized, "only replicas of the aggregator may read its state")
                }
                Verdict::Refused(why) => (Refusal::Unauthorized, why),
                Verdict::Unknown => (Refusal::NoToken, "the API server can't be asked about tokens"),
            },
        };
        Err(refused.0.reply(refused.1))
    }

    async fn take(&self, caller: Option<&str>, body: &[u8]) -> Result<ReportReply, (Refusal, String)> {
        let report = NodeReport::decode(body).map_err(|error| (Refusal::of(&error), error.to_string()))?;
        if let Some(own) = caller.filter(|own| *own != report.node) {
            return Err((Refusal::OtherNode, format!("this token is of the agent on {own}")));
        }
        let sequence = report.sequence;
        let verdict = self.control.ask(|reply| Ask::Report(Box::new(report), reply)).await;
        match verdict {
            Ok(Ok(_)) => {
                Ok(ReportReply { readable: READABLE, accepted: Some(sequence), push_to: Vec::new() })
            }
            Ok(Err(refused)) => Err((Refusal::Impossible, refused.to_string())),
            Err(Overloaded) => Err((Refusal::Overloaded, Overloaded.to_string())),
        }
    }

    /// Answers with the node's watch list when its revision differs from the agent's, or after [`LONG_POLL`].
    pub async fn watch(&self, request: &Request, metrics: &Metrics) -> Response {
        let node = query(request.uri(), "node").unwrap_or_default();
        if node.is_empty() || node.len() > MAX_NAME_BYTES {
            return text(StatusCode::BAD_REQUEST, "want ?node=NAME");
        }
        match self.caller(request).await {
            Ok(Some(own)) if own != node => {
                return Refusal::OtherNode.reply(&format!("this token is of the agent on {own}"));
            }
            Ok(_) => {}
            Err((refusal, sentence)) => return refusal.reply(&sentence),
        }
        let known = match query(request.uri(), "revision").map(|it| it.parse::<u64>()) {
            None => None,
            Some(Ok(revision)) => Some(revision),
            Some(Err(_)) => return text(StatusCode::BAD_REQUEST, "revision is no number"),
        };
        metrics.watches_waiting.inc();
        // Dropped with this future when the agent goes away.
        let _leaving = Leaving(metrics);
        let mut lists = self.lists.clone();
        let news = async {
            loop {
                let unchanged = |all: &WatchLists| known == Some(all.of(&node).revision);
                if lists.borrow_and_update().as_ref().is_some_and(|all| !unchanged(all)) {
                    return;
                }
                if lists.changed().await.is_err() {
                    return;
                }
            }
        };
        tokio::select! {
            () = news => {}
            () = tokio::time::sleep(LONG_POLL) => {}
            () = self.shutdown.requested() => {}
        }
        match self.lists.borrow().as_ref().map(|all| all.of(&node)) {
            Some(list) => protobuf(list.encode()),
            // An empty list would make agents let go of pods that they measure well.
            None => text(StatusCode::SERVICE_UNAVAILABLE, "the target has not said yet which pods exist"),
        }
    }
}

struct Leaving<'a>(&'a Metrics);

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        self.0.watches_waiting.dec();
    }
}
