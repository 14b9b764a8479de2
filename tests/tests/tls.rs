//! The way between agents and aggregator under TLS, on real sockets: whom a client believes, renewal, and what each says.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use prescale_agent::push::Fleet;
use prescale_agent::shared::Shared;
use prescale_agent::watch::Watcher;
use prescale_core::node::{Node, NodeSettings, OwnUse};
use prescale_shell::client::{Access, Client, Failure, Limits, said};
use prescale_shell::clock::Clock;
use prescale_shell::http::{Request, Response, StatusCode, text};
use prescale_shell::server::{self, Door};
use prescale_shell::signals::{Shutdown, Trigger};
use prescale_shell::tls::{Distrust, Identity, TrustArgs};
use prescale_shell::token::TokenFile;
use prescale_tests::aggregator::{Aggregator, FakeTarget, until, workload};
use prescale_tests::certificates::{Authority, When};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

const HERE: &str = "DNS:localhost,IP:127.0.0.1";

fn authority() -> Authority {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let name = format!("prescale-tls-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    Authority::new(std::env::temp_dir().join(name)).unwrap()
}

/// A server that answers "here"; it ends with the trigger.
async fn serve(identity: Option<(PathBuf, PathBuf)>) -> (SocketAddr, Trigger) {
    let identity = identity.map(|(certificate, key)| Identity::open(certificate, key).unwrap());
    let listener = server::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = listener.local_addr().unwrap();
    let (trigger, shutdown) = Shutdown::manual();
    let here = async |_: Request| -> Response { text(StatusCode::OK, "here") };
    let handler = move |request| here(request);
    let door = Door::new(listener, identity);
    tokio::spawn(server::serve(door, handler, server::Limits::default(), shutdown));
    (address, trigger)
}

fn access(tls_ca: PathBuf) -> Access {
    let args = TrustArgs { tls_ca: Some(tls_ca), allow_plain_http: false };
    Access { token: None, trust: args.open(&["https://here".into()]).unwrap() }
}

/// A new client, with no connection yet.
fn client(address: SocketAddr, tls_ca: PathBuf) -> Client {
    Client::with_access(&format!("https://{address}"), Limits::default(), &access(tls_ca)).unwrap()
}

async fn get(client: &Client) -> Result<String, Failure> {
    client.get("/").await.map(|reply| String::from_utf8_lossy(reply.body()).trim().to_owned())
}

#[tokio::test]
async fn a_client_believes_its_own_authority_and_nobody_else() {
    // Both are called alike: what tells them apart is the key.
    let (ours, other) = (authority(), authority());
    let sign = |by: &Authority, name, names, when| Some(by.sign(name, names, when).unwrap());
    let good = serve(sign(&ours, "good", HERE, When::Now)).await;
    assert_eq!(get(&client(good.0, ours.certificate())).await.as_deref(), Ok("here"));
    let by_name = format!("https://localhost:{}", good.0.port());
    let by_name = Client::with_access(&by_name, Limits::default(), &access(ours.certificate())).unwrap();
    assert_eq!(get(&by_name).await.as_deref(), Ok("here"));
    for (identity, distrust) in [
        (sign(&other, "other", HERE, When::Now), Distrust::UnknownAuthority),
        (sign(&ours, "past", HERE, When::Past), Distrust::Expired),
        (sign(&ours, "future", HERE, When::Future), Distrust::NotYetValid),
        (sign(&ours, "elsewhere", "DNS:elsewhere,IP:127.0.0.2", When::Now), Distrust::OtherName),
        (None, Distrust::NoTls),
    ] {
        let server = serve(identity).await;
        let answer = get(&client(server.0, ours.certificate())).await;
        assert_eq!(answer, Err(Failure::Tls(distrust)));
    }
    let lost = client(good.0, ours.certificate());
    fs::rename(ours.certificate(), ours.directory().join("moved")).unwrap();
    assert_eq!(get(&lost).await, Err(Failure::Tls(Distrust::Authority)));
}

#[tokio::test]
async fn a_renewed_certificate_is_shown_to_new_connections_and_cuts_no_old_one() {
    let (old, new) = (authority(), authority());
    let files = old.sign("server", HERE, When::Now).unwrap();
    let (address, _trigger) = serve(Some(files.clone())).await;
    let kept = client(address, old.certificate());
    assert_eq!(get(&kept).await.as_deref(), Ok("here"));

    // Half a renewal: the key does not belong to the certificate, so the old pair stays.
    let renewed = new.sign("server", HERE, When::Now).unwrap();
    fs::copy(&renewed.1, &files.1).unwrap();
    let looked = tokio::time::Instant::now();
    while looked.elapsed() < std::time::Duration::from_millis(1200) {
        assert_eq!(get(&client(address, old.certificate())).await.as_deref(), Ok("here"));
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    fs::copy(&renewed.0, &files.0).unwrap();
    until("the renewed certificate", async || {
        get(&client(address, new.certificate())).await.map_err(|failure| failure.to_string())
    })
    .await;
    let late = get(&client(address, old.certificate())).await;
    assert_eq!(late, Err(Failure::Tls(Distrust::UnknownAuthority)));
    // It could not be made anew, so it is still the one from before the renewal.
    assert_eq!(get(&kept).await.as_deref(), Ok("here"));
}

#[tokio::test]
async fn who_speaks_no_tls_is_told_so_and_holds_nobody_up() {
    let ours = authority();
    let (address, _trigger) = serve(Some(ours.sign("server", HERE, When::Now).unwrap())).await;
    let plain = Client::new(&address.to_string(), Limits::default()).unwrap();
    let reply = plain.get("/").await.unwrap();
    assert_eq!(said(&reply), "400 Bad Request: this port speaks TLS: use https://");
    // One that begins a handshake and falls silent, one that only looks, one that talks nonsense.
    let mut silent = TcpStream::connect(address).await.unwrap();
    silent.write_all(&[0x16]).await.unwrap();
    drop(TcpStream::connect(address).await.unwrap());
    let mut nonsense = TcpStream::connect(address).await.unwrap();
    nonsense.write_all(&[0x16, 9, 9, 9, 9, 9, 9]).await.unwrap();
    let mut end = Vec::new();
    // An alert or nothing, and then the end; a reset is an end too.
    let _ = nonsense.read_to_end(&mut end).await;
    assert_eq!(get(&client(address, ours.certificate())).await.as_deref(), Ok("here"));
}

fn shared() -> Arc<Shared> {
    let clock = Clock::real();
    let settings =
        NodeSettings { node: "node-a".into(), boot_id: "boot".into(), agent_start: clock.now().wall };
    Arc::new(Shared::new(clock, Node::new(settings)))
}

#[tokio::test]
async fn an_agent_reports_over_tls_and_mends_itself_when_its_authority_is_put_right() {
    let (ours, other) = (authority(), authority());
    let (certificate, key) = ours.sign("server", HERE, When::Now).unwrap();
    let token = ours.directory().join("token");
    fs::write(&token, "secret").unwrap();
    let path = |path: &PathBuf| path.to_str().unwrap().to_owned();
    let target = FakeTarget::start(vec![workload("shop", "web", 1)]).await;
    let flags = ["--tls-cert", &path(&certificate), "--tls-key", &path(&key), "--token-file", &path(&token)];
    let aggregator = Aggregator::start(target.address, &flags);
    let server = [format!("https://{}", aggregator.address)];

    // The agent begins with another authority, as after a wrong copy.
    let believed = ours.directory().join("believed.crt");
    fs::copy(other.certificate(), &believed).unwrap();
    let access = Access { token: Some(TokenFile::open(token).unwrap()), ..access(believed.clone()) };
    let shared = shared();
    let watcher = Watcher::new(&server, &access, shared.clock, "node-a", Arc::clone(&shared)).unwrap();
    let (lists, mut list) = mpsc::channel(1);
    let watching = tokio::spawn(watcher.run(lists));
    let sentence = "the server's certificate is not signed by the authority in --tls-ca";
    until("the agent's sentence", async || match shared.readiness() {
        Err(said) if said.contains(sentence) => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;

    fs::copy(ours.certificate(), &believed).unwrap();
    assert_eq!(list.recv().await.unwrap().pods.len(), 1);
    let mut fleet = Fleet::new(&server, access, shared.clock, "node-a", Arc::clone(&shared)).unwrap();
    let report = shared.node().finish(shared.clock.now(), Vec::new(), OwnUse::default());
    fleet.publish(report.sequence, report.encode());
    until("a report taken", async || shared.readiness()).await;
    watching.abort();

    // An agent that was left on http:// after TLS came is told what to change.
    let shared = self::shared();
    let plain = [format!("http://{}", aggregator.address)];
    let watcher =
        Watcher::new(&plain, &Access::default(), shared.clock, "node-a", Arc::clone(&shared)).unwrap();
    let watching = tokio::spawn(watcher.run(mpsc::channel(1).0));
    until("the plain agent's sentence", async || match shared.readiness() {
        Err(said) if said.contains("this port speaks TLS: use https://") => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    watching.abort();
}
