//! The server and the client against each other, and against peers that misbehave, over loopback.
#![allow(clippy::unwrap_used)]

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use prescale_shell::client::{self, Client, Failure};
use prescale_shell::http::{
    Method, PROTOBUF, Parts, Request, Response, StatusCode, bearer, protobuf, query, text,
};
use prescale_shell::server::{self, Handler, Limits};
use prescale_shell::signals::{Shutdown, Trigger};
use prescale_shell::token::{Token, TokenFile};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

const SOON: Duration = Duration::from_secs(10);

async fn start(handler: impl Handler, limits: Limits) -> (SocketAddr, Trigger, JoinHandle<()>) {
    let listener = server::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = listener.local_addr().unwrap();
    let (trigger, shutdown) = Shutdown::manual();
    (address, trigger, tokio::spawn(server::serve(listener, handler, limits, shutdown)))
}

fn client(address: SocketAddr) -> Client {
    Client::new(&address.to_string(), client::Limits::default()).unwrap()
}

async fn echo(request: Request) -> Response {
    match request.uri().path() {
        "/echo" => protobuf(request.into_body()),
        "/slow" => {
            tokio::time::sleep(Duration::from_millis(300)).await;
            text(StatusCode::OK, "late")
        }
        "/never" => std::future::pending().await,
        "/large" => text(StatusCode::OK, &"x".repeat(8 * 1024 * 1024)),
        _ => text(StatusCode::OK, &query(request.uri(), "node").unwrap_or_default()),
    }
}

async fn raw(address: SocketAddr, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request).await.unwrap();
    let mut reply = String::new();
    // A reset after the reply is as good an end as any.
    let _ =
        tokio::time::timeout(SOON, stream.read_to_string(&mut reply)).await.expect("the server never closed");
    reply
}

#[tokio::test]
async fn a_client_keeps_its_connection_and_takes_a_new_one_when_that_is_gone() {
    let (address, trigger, stopped) = start(echo, Limits::default()).await;
    let client = client(address);
    for round in 0..3u8 {
        let reply = client.send(Method::POST, "/echo", PROTOBUF, vec![round; 1000]).await.unwrap();
        assert_eq!((reply.status(), reply.body().len()), (StatusCode::OK, 1000));
    }
    assert_eq!(client.get("/?node=a%20b").await.unwrap().body().as_ref(), b"a b\n");
    trigger.fire();
    stopped.await.unwrap();
    assert_eq!(client.get("/").await.unwrap_err(), Failure::Connect);
    let listener = server::bind(address).await.unwrap();
    let (_trigger, shutdown) = Shutdown::manual();
    tokio::spawn(server::serve(listener, echo, Limits::default(), shutdown));
    assert_eq!(client.get("/").await.unwrap().status(), StatusCode::OK);
}

#[tokio::test]
async fn bodies_are_bounded_with_and_without_a_stated_length() {
    let (address, _trigger, _) = start(echo, Limits { body_bytes: 10, ..Limits::default() }).await;
    let client = client(address);
    let reply = client.send(Method::POST, "/echo", PROTOBUF, vec![0; 10]).await.unwrap();
    assert_eq!(reply.status(), StatusCode::OK);
    let reply = client.send(Method::POST, "/echo", PROTOBUF, vec![0; 11]).await.unwrap();
    assert_eq!(reply.status(), StatusCode::PAYLOAD_TOO_LARGE);
    let chunked =
        b"POST /echo HTTP/1.1\r\nhost: a\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n\
        8\r\naaaaaaaa\r\n8\r\naaaaaaaa\r\n0\r\n\r\n";
    assert!(raw(address, chunked).await.starts_with("HTTP/1.1 413"));
}

#[tokio::test]
async fn who_sends_too_much_reads_why_it_was_refused() {
    struct Nobody;
    impl Handler for Nobody {
        fn admit(&self, _head: &Parts) -> Result<(), Response> {
            Err(text(StatusCode::UNAUTHORIZED, "not you"))
        }

        async fn handle(&self, _request: Request) -> Response {
            unreachable!("nobody is admitted")
        }
    }
    // More than the sockets' buffers hold: a client that writes before it reads stands in the middle of it when it is refused.
    const SENT: usize = 24 << 20;
    let mut request =
        format!("POST /echo HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: {SENT}\r\n\r\n")
            .into_bytes();
    request.resize(request.len() + SENT, 0);
    let limits = Limits { body_bytes: 8 << 20, ..Limits::default() };
    let (open, _trigger, _) = start(echo, limits).await;
    let (closed, _trigger, _) = start(Nobody, limits).await;
    assert!(raw(open, &request).await.starts_with("HTTP/1.1 413"));
    assert!(raw(closed, &request).await.starts_with("HTTP/1.1 401"));
}

#[tokio::test]
async fn slow_heads_and_slow_bodies_are_cut_off() {
    let limits =
        Limits { head: Duration::from_millis(50), body: Duration::from_millis(50), ..Limits::default() };
    let (address, _trigger, _) = start(echo, limits).await;
    assert!(!raw(address, b"GET / HTTP/1.1\r\nhost").await.contains("200"));
    let part = b"POST /echo HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\nabc";
    assert!(raw(address, part).await.starts_with("HTTP/1.1 408"));
}

#[tokio::test]
async fn connections_beyond_the_limit_wait_their_turn() {
    let (address, _trigger, _) = start(echo, Limits { connections: 1, ..Limits::default() }).await;
    let first = client(address);
    assert_eq!(first.get("/").await.unwrap().status(), StatusCode::OK);
    let second = client(address);
    assert_eq!(second.get_within("/", Duration::from_millis(200)).await.unwrap_err(), Failure::TimedOut);
    drop(first);
    assert_eq!(second.get("/").await.unwrap().status(), StatusCode::OK);
}

#[tokio::test]
async fn a_peer_that_reads_nothing_loses_its_connection() {
    let limits = Limits { connections: 1, stall: Duration::from_millis(100), ..Limits::default() };
    let (address, _trigger, _) = start(echo, limits).await;
    let mut lazy = TcpStream::connect(address).await.unwrap();
    lazy.write_all(b"GET /large HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    // The only slot is free again once the stalled connection is dropped.
    assert_eq!(client(address).get("/").await.unwrap().status(), StatusCode::OK);
}

#[tokio::test]
async fn replies_are_bounded_in_size_and_time() {
    let (address, _trigger, _) = start(echo, Limits::default()).await;
    let client = client(address);
    assert_eq!(client.get("/large").await.unwrap_err(), Failure::TooLarge);
    let hung = client.get_within("/never", Duration::from_millis(50)).await;
    assert_eq!(hung.unwrap_err(), Failure::TimedOut);
    assert_eq!(client.get("/").await.unwrap().status(), StatusCode::OK);
}

#[tokio::test]
async fn a_stop_lets_replies_finish_and_drops_what_hangs() {
    let limits = Limits { drain: Duration::from_secs(2), ..Limits::default() };
    let (arrived, mut arrivals) = tokio::sync::mpsc::unbounded_channel();
    let noting = move |request: Request| {
        arrived.send(()).unwrap();
        echo(request)
    };
    let (address, trigger, stopped) = start(noting, limits).await;
    let client = Arc::new(client(address));
    let ask = |path: &'static str| {
        let client = Arc::clone(&client);
        tokio::spawn(async move { client.get(path).await })
    };
    let (slow, never) = (ask("/slow"), ask("/never"));
    for _ in 0..2 {
        tokio::time::timeout(SOON, arrivals.recv()).await.expect("a request never arrived").unwrap();
    }
    trigger.fire();
    assert_eq!(slow.await.unwrap().unwrap().body().as_ref(), b"late\n");
    assert_eq!(never.await.unwrap().unwrap_err(), Failure::Broken);
    stopped.await.unwrap();
}

struct Guarded {
    token: Token,
    handled: Arc<AtomicUsize>,
}

impl Handler for Guarded {
    fn admit(&self, head: &Parts) -> Result<(), Response> {
        let known = bearer(&head.headers).is_some_and(|token| self.token.matches(token));
        if known { Ok(()) } else { Err(text(StatusCode::UNAUTHORIZED, "who are you?")) }
    }

    async fn handle(&self, _request: Request) -> Response {
        self.handled.fetch_add(1, Ordering::Relaxed);
        text(StatusCode::OK, "ok")
    }
}

#[tokio::test]
async fn who_is_not_admitted_sends_no_body() {
    let handled = Arc::new(AtomicUsize::new(0));
    let guarded = Guarded { token: Token::new("right").unwrap(), handled: Arc::clone(&handled) };
    let (address, _trigger, _) = start(guarded, Limits::default()).await;
    // Announces a body that never comes: the answer must not wait for it.
    let head = b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\n";
    assert!(raw(address, head).await.starts_with("HTTP/1.1 401"));

    let path = std::env::temp_dir().join(format!("prescale-http-token-{}", std::process::id()));
    std::fs::write(&path, "right\n").unwrap();
    let client = client(address).with_token(Some(TokenFile::open(path.clone()).unwrap()));
    assert_eq!(client.get("/").await.unwrap().status(), StatusCode::OK);
    // Renewed in place, as the kubelet does.
    std::fs::write(&path, "wrong\n").unwrap();
    assert_eq!(client.get("/").await.unwrap().status(), StatusCode::UNAUTHORIZED);
    std::fs::remove_file(&path).unwrap();
    assert_eq!(client.get("/").await.unwrap_err(), Failure::Token);
    assert_eq!(handled.load(Ordering::Relaxed), 1);
}
