//! A small HTTP/1.1 client of one server: TLS, keep-alive, time-outs, a token, size-limited replies.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::client::conn::http1;
use hyper::{Method, Uri, header};
use hyper_util::rt::TokioIo;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use crate::stall::StallLimit;
use crate::tls::{Authority, Distrust, Trust};
use crate::token::TokenFile;

/// Why there was no reply. The names are label values of metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Error)]
pub enum Failure {
    /// The name did not resolve or nobody accepted.
    #[error("no connection")]
    Connect,
    /// Somebody accepted whom we don't believe.
    #[error(transparent)]
    Tls(Distrust),
    /// No whole reply in time.
    #[error("no reply in time")]
    TimedOut,
    /// The connection ended or spoke no HTTP.
    #[error("the connection broke")]
    Broken,
    /// The reply was larger than the limit.
    #[error("the reply was too large")]
    TooLarge,
    /// The token file can't be read.
    #[error("no token")]
    Token,
}

/// A whole reply.
pub type Reply = hyper::Response<Bytes>;

/// What a refusal says, for a log line: status and the start of its first line.
pub fn said(reply: &Reply) -> String {
    // Long enough for a sentence, short enough for a log.
    let most = 200;
    let text = String::from_utf8_lossy(reply.body());
    let line: String = text.lines().next().unwrap_or("").chars().take(most).collect();
    if line.is_empty() { reply.status().to_string() } else { format!("{}: {line}", reply.status()) }
}

/// Bounds on what the server may take from us. All times are real time.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Longest wait for somebody to accept: a server that has moved is found when its name is looked up for the next request.
    pub connect: Duration,
    /// Longest wait from a request's start to its reply's end, connection included.
    pub reply: Duration,
    /// Largest reply, bytes.
    pub reply_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            // One lost SYN is sent again after 1 s; after a second one the caller begins anew.
            connect: Duration::from_millis(1500),
            reply: Duration::from_secs(10),
            reply_bytes: 1024 * 1024,
        }
    }
}

/// A connection is kept for each request that may be under way at the same time; callers have a long poll and a
/// report, so four is plenty.
const IDLE_CONNECTIONS: usize = 4;

/// Longest wait for a handshake: of one that is busy with those of 5,000 agents, which come back together.
const HANDSHAKE: Duration = Duration::from_secs(4);

/// How a client proves itself, and whom it believes.
#[derive(Clone, Debug, Default)]
pub struct Access {
    /// Sent as `authorization: Bearer` with every request.
    pub token: Option<TokenFile>,
    /// Which servers may see it.
    pub trust: Trust,
}

/// A client of one server; share it by reference or `Arc`.
#[derive(Debug)]
pub struct Client {
    address: Address,
    /// Of an https address.
    authority: Option<Arc<Authority>>,
    token: Option<TokenFile>,
    limits: Limits,
    idle: Mutex<Vec<http1::SendRequest<Full<Bytes>>>>,
}

/// `http://host:port/prefix`, taken apart.
#[derive(Debug)]
struct Address {
    https: bool,
    host: String,
    /// `host:port`, to connect to and for the host header.
    authority: String,
    /// Stands before every path; no slash at the end.
    prefix: String,
}

impl Address {
    fn parse(server: &str) -> anyhow::Result<Self> {
        let wrong = || format!("`{server}`: want http://host:port or https://host:port");
        let with_scheme = if server.contains("://") { server.to_owned() } else { format!("http://{server}") };
        let uri: Uri = with_scheme.parse().with_context(|| format!("`{server}` is no address"))?;
        let https = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => bail!(wrong()),
        };
        let Some(authority) = uri.authority().filter(|it| !it.as_str().contains('@')) else { bail!(wrong()) };
        let (host, port) = (authority.host(), authority.port_u16());
        if host.is_empty() || port.is_none() && authority.as_str() != host || uri.query().is_some() {
            bail!(wrong());
        }
        Ok(Self {
            https,
            host: host.to_owned(),
            authority: format!("{host}:{}", port.unwrap_or(if https { 443 } else { 80 })),
            prefix: uri.path().trim_end_matches('/').to_owned(),
        })
    }
}

impl Client {
    /// `server` is `http://host:port`, with a path prefix or not, or just `host:port`: plain, and without a token.
    ///
    /// # Errors
    /// One sentence that names what is wrong with it.
    pub fn new(server: &str, limits: Limits) -> anyhow::Result<Self> {
        let address = Address::parse(server)?;
        if address.https {
            bail!("`{server}`: want http://host:port");
        }
        Ok(Self { address, authority: None, token: None, limits, idle: Mutex::default() })
    }

    /// A client that proves itself to a server that it believes, by `https://`, or by `http://` where that is allowed.
    ///
    /// # Errors
    /// One sentence that names what is wrong with the address or which flag it lacks.
    pub fn with_access(server: &str, limits: Limits, access: &Access) -> anyhow::Result<Self> {
        let address = Address::parse(server)?;
        let authority =
            access.trust.judge(address.https, &address.host).with_context(|| format!("`{server}`"))?;
        Ok(Self { address, authority, token: access.token.clone(), limits, idle: Mutex::default() })
    }

    /// Sends `authorization: Bearer` with every request.
    #[must_use]
    pub fn with_token(self, token: Option<TokenFile>) -> Self {
        Self { token, ..self }
    }

    /// `host:port`.
    pub fn authority(&self) -> &str {
        &self.address.authority
    }

    /// GET within the usual time.
    ///
    /// # Errors
    /// [`Failure`]; a status of 400 or more is a reply, not a failure.
    pub async fn get(&self, path: &str) -> Result<Reply, Failure> {
        self.get_within(path, self.limits.reply).await
    }

    /// GET that may take up to `reply`: a long poll.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn get_within(&self, path: &str, reply: Duration) -> Result<Reply, Failure> {
        self.request(Method::GET, path, None, Bytes::new(), reply).await
    }

    /// POST or PUT of `body`.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn send(
        &self,
        method: Method,
        path: &str,
        content_type: &'static str,
        body: impl Into<Bytes>,
    ) -> Result<Reply, Failure> {
        self.request(method, path, Some(content_type), body.into(), self.limits.reply).await
    }

    async fn request(
        &self,
        method: Method,
        path: &str,
        content_type: Option<&'static str>,
        body: Bytes,
        reply: Duration,
    ) -> Result<Reply, Failure> {
        let mut request = hyper::Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.address.prefix))
            .header(header::HOST, &self.address.authority);
        if let Some(content_type) = content_type {
            request = request.header(header::CONTENT_TYPE, content_type);
        }
        if let Some(file) = &self.token {
            let token = file.read().map_err(|error| {
                tracing::debug!("{error:#}");
                Failure::Token
            })?;
            request = request.header(header::AUTHORIZATION, format!("Bearer {}", token.expose()));
        }
        let request = request.body(Full::new(body)).map_err(|_| Failure::Broken)?;
        tokio::time::timeout(reply, self.exchange(request)).await.unwrap_or(Err(Failure::TimedOut))
    }

    async fn exchange(&self, mut request: hyper::Request<Full<Bytes>>) -> Result<Reply, Failure> {
        loop {
            let kept = self.take_idle().await;
            let reused = kept.is_some();
            let mut sender = match kept {
                Some(sender) => sender,
                None => self.connect().await?,
            };
            match sender.try_send_request(request).await {
                Ok(response) => {
                    let (head, body) = response.into_parts();
                    let body =
                        Limited::new(body, self.limits.reply_bytes).collect().await.map_err(|error| {
                            if error.is::<LengthLimitError>() { Failure::TooLarge } else { Failure::Broken }
                        })?;
                    self.keep(sender);
                    return Ok(hyper::Response::from_parts(head, body.to_bytes()));
                }
                // The server closed the idle connection before the request left: a new one will do. At most
                // IDLE_CONNECTIONS rounds, then the connection is new.
                Err(mut error) => match error.take_message() {
                    Some(unsent) if reused => request = unsent,
                    _ => return Err(Failure::Broken),
                },
            }
        }
    }

    async fn take_idle(&self) -> Option<http1::SendRequest<Full<Bytes>>> {
        loop {
            let mut sender = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop()?;
            if sender.ready().await.is_ok() {
                return Some(sender);
            }
        }
    }

    fn keep(&self, sender: http1::SendRequest<Full<Bytes>>) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if !sender.is_closed() && idle.len() < IDLE_CONNECTIONS {
            idle.push(sender);
        }
    }

    async fn connect(&self) -> Result<http1::SendRequest<Full<Bytes>>, Failure> {
        let connecting = TcpStream::connect(&self.address.authority);
        let stream = tokio::time::timeout(self.limits.connect, connecting)
            .await
            .map_err(|_| Failure::Connect)?
            .map_err(|error| {
                tracing::debug!(server = self.address.authority, %error, "can't connect");
                Failure::Connect
            })?;
        let _ = stream.set_nodelay(true);
        // Below TLS: what stalls is the network.
        let stream = StallLimit::new(stream, self.limits.reply);
        let Some(authority) = &self.authority else { return speak(stream).await };
        let shaking = authority.connect(&self.address.host, stream);
        let stream = tokio::time::timeout(HANDSHAKE, shaking)
            .await
            .map_err(|_| Failure::Tls(Distrust::Handshake))?
            .map_err(Failure::Tls)?;
        speak(stream).await
    }
}

async fn speak(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
) -> Result<http1::SendRequest<Full<Bytes>>, Failure> {
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|_| Failure::Broken)?;
    // Ends when the sender is dropped or the server closes.
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "connection ended");
        }
    });
    Ok(sender)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_addresses_in_the_usual_forms() {
        let authority = |server: &str| Client::new(server, Limits::default()).map(|it| it.address.authority);
        assert_eq!(authority("127.0.0.1:8080").unwrap(), "127.0.0.1:8080");
        assert_eq!(authority("http://[::1]:8080/").unwrap(), "[::1]:8080");
        assert_eq!(authority("http://aggregator.prescale.svc").unwrap(), "aggregator.prescale.svc:80");
        for bad in ["", "https://a:1", "http://", "http://a:b", "http://u@a:1", "http://a:1/?q", "a b"] {
            assert!(authority(bad).is_err(), "{bad}");
        }
    }
}
