//! A small HTTP/1.1 server: every size and time is bounded, and it stops without cutting replies off.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::http::{Parts, Request, Response, StatusCode, text};
use crate::signals::Shutdown;
use crate::stall::StallLimit;
use crate::tls::{Identity, Met, TlsOnly};

/// What answers requests. A closure `async fn(Request) -> Response` is one.
pub trait Handler: Send + Sync + 'static {
    /// Looks at the head before a body is read; an error is the reply, and the body is never taken in.
    ///
    /// # Errors
    /// The reply for who may not send this.
    // A reply is what the caller sends as it is; boxing it would save nothing on this rare path.
    #[allow(clippy::result_large_err)]
    fn admit(&self, _head: &Parts) -> Result<(), Response> {
        Ok(())
    }

    /// Answers. The future is dropped when the client goes away or the server's time to stop is up.
    fn handle(&self, request: Request) -> impl Future<Output = Response> + Send;
}

impl<F, R> Handler for F
where
    F: Fn(Request) -> R + Send + Sync + 'static,
    R: Future<Output = Response> + Send,
{
    fn handle(&self, request: Request) -> impl Future<Output = Response> + Send {
        self(request)
    }
}

/// Bounds on what clients may take from us.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections at a time; more wait in the kernel's backlog.
    pub connections: usize,
    /// Largest request body, bytes; 413 beyond.
    pub body_bytes: usize,
    /// Longest wait for a request's head, idle keep-alive time included; then the connection is closed.
    pub head: Duration,
    /// Longest wait for a request's body; then 408.
    pub body: Duration,
    /// Longest wait for the peer to take any byte of a reply; then the connection is closed.
    pub stall: Duration,
    /// After the stop: how long replies that are under way may take.
    pub drain: Duration,
}

impl Default for Limits {
    /// For an admin port that probes and Prometheus call. All times are real time: a network does not run faster
    /// because a demo's clock does.
    fn default() -> Self {
        Self {
            // Two Prometheus replicas, two probes and a few people, with room.
            connections: 64,
            // Nothing that an admin port takes has a body.
            body_bytes: 64 * 1024,
            // Longer than Prometheus's default scrape interval of 60 s, so that it keeps its connection.
            head: Duration::from_secs(75),
            body: Duration::from_secs(10),
            stall: Duration::from_secs(10),
            drain: Duration::from_secs(5),
        }
    }
}

/// The largest request head, bytes; a request of ours has under 2 KiB with a projected token.
const HEAD_BYTES: usize = 16 * 1024;

/// So much of a refused body is taken in and forgotten, as a multiple of the largest that is accepted.
const DISCARDED_BODIES: usize = 4;
/// A refused body that pauses for so long is waited for no more: what was announced may never come.
const PAUSE: Duration = Duration::from_millis(100);

/// Binds `address`.
///
/// # Errors
/// One sentence that names the address.
pub async fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("can't listen on {address}"))
}

/// Where clients come in: in plain, or by TLS only.
#[derive(Debug)]
pub struct Door {
    listener: TcpListener,
    identity: Option<Arc<Identity>>,
}

impl Door {
    /// With an identity all clients must speak TLS; one that does not is told so.
    pub fn new(listener: TcpListener, identity: Option<Identity>) -> Self {
        Self { listener, identity: identity.map(Arc::new) }
    }
}

impl From<TcpListener> for Door {
    fn from(listener: TcpListener) -> Self {
        Self::new(listener, None)
    }
}

/// Serves `door` until `shutdown`; then takes no new connection, lets replies finish for `limits.drain` and drops what
/// is left.
pub async fn serve(door: impl Into<Door>, handler: impl Handler, limits: Limits, shutdown: Shutdown) {
    let Door { listener, identity } = door.into();
    let handler = Arc::new(handler);
    let slots = Arc::new(Semaphore::new(limits.connections));
    let mut connections = JoinSet::new();
    let mut refused = 0u64;
    loop {
        let accepted = tokio::select! {
            () = shutdown.requested() => break,
            accepted = accept(&listener, &slots) => accepted,
            // Reaps ended connections, so that the set does not grow.
            Some(_) = connections.join_next(), if !connections.is_empty() => continue,
        };
        match accepted {
            Ok((stream, slot)) => {
                refused = 0;
                let (identity, handler) = (identity.clone(), Arc::clone(&handler));
                let connection = connection(stream, identity, handler, limits, shutdown.clone());
                connections.spawn(async move {
                    connection.await;
                    drop(slot);
                });
            }
            Err(error) => {
                // Out of file descriptors, mostly: accepting again at once would spin.
                refused += 1;
                if refused.is_power_of_two() {
                    tracing::warn!(%error, refused, "can't accept a connection");
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
    drop(listener);
    let drained = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(limits.drain, drained).await.is_err() {
        tracing::debug!(left = connections.len(), "connections cut off at the end of the drain time");
    }
}

async fn accept(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
) -> std::io::Result<(TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let slot = Arc::clone(slots).acquire_owned().await.map_err(std::io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    // Replies are written whole: waiting for more to send only adds delay.
    let _ = stream.set_nodelay(true);
    Ok((stream, slot))
}

async fn connection(
    stream: TcpStream,
    identity: Option<Arc<Identity>>,
    handler: Arc<impl Handler>,
    limits: Limits,
    shutdown: Shutdown,
) {
    // Below TLS: what stalls is the network.
    let stream = StallLimit::new(stream, limits.stall);
    let Some(identity) = identity else { return http(stream, handler, limits, shutdown).await };
    let met = tokio::select! {
        met = identity.meet(stream) => met,
        () = shutdown.requested() => return,
    };
    match met {
        Met::Tls(stream) => http(stream, handler, limits, shutdown).await,
        Met::Plain(stream) => http(stream, Arc::new(TlsOnly), limits, shutdown).await,
        Met::Nobody => {}
    }
}

async fn http(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    handler: Arc<impl Handler>,
    limits: Limits,
    shutdown: Shutdown,
) {
    let stream = TokioIo::new(stream);
    let service = service_fn(|request| answer(request, &*handler, &limits));
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(limits.head).max_buf_size(HEAD_BYTES);
    let mut connection = pin!(builder.serve_connection(stream, service));
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = shutdown.requested() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        tracing::debug!(%error, "connection ended");
    }
}

async fn answer(
    request: hyper::Request<Incoming>,
    handler: &impl Handler,
    limits: &Limits,
) -> Result<Response, Infallible> {
    let (head, mut body) = request.into_parts();
    if let Err(response) = handler.admit(&head) {
        // Who asks first whether to go on has sent nothing yet, and taking it in would tell them to.
        if !head.headers.contains_key(hyper::header::EXPECT) {
            discard(&mut body, limits).await;
        }
        return Ok(response);
    }
    let whole = Limited::new(&mut body, limits.body_bytes).collect();
    let whole = tokio::time::timeout(limits.body, whole).await;
    if matches!(&whole, Ok(Err(error)) if error.is::<LengthLimitError>()) {
        discard(&mut body, limits).await;
    }
    Ok(match whole {
        Ok(Ok(body)) => handler.handle(Request::from_parts(head, body.to_bytes())).await,
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            let most = limits.body_bytes;
            text(StatusCode::PAYLOAD_TOO_LARGE, &format!("the body is larger than {most} bytes"))
        }
        Ok(Err(error)) => text(StatusCode::BAD_REQUEST, &format!("the body can't be read: {error}")),
        Err(_) => text(StatusCode::REQUEST_TIMEOUT, "the body did not arrive in time"),
    })
}

/// Takes in what remains of a refused body and forgets it, within bounds: while bytes of it lie unread, closing the
/// connection resets it, and the client may lose the reply that says why (RFC 9112, section 9.6).
async fn discard(body: &mut Incoming, limits: &Limits) {
    let most = limits.body_bytes.saturating_mul(DISCARDED_BODIES);
    let mut taken = 0;
    let rest = async {
        while let Ok(Some(Ok(frame))) = tokio::time::timeout(PAUSE, body.frame()).await {
            taken += frame.data_ref().map_or(0, bytes::Bytes::len);
            if taken > most {
                break;
            }
        }
    };
    let _ = tokio::time::timeout(limits.body, rest).await;
}
