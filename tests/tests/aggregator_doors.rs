//! The aggregator's doors, on the real binary over real HTTP: what is let in, what is refused and with which words.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use prescale_core::Wall;
use prescale_core::wire::{MAX_BODY_BYTES, NodeReport, ReportReply, VERSION, WatchList};
use prescale_shell::client::{self, Client};
use prescale_shell::http::{JSON, Method, PROTOBUF, Request, StatusCode};
use prescale_shell::token::TokenFile;
use prescale_tests::aggregator::{Aggregator, FakeAgent, FakeTarget, SOON, until, workload};
use prescale_tests::api_server::{ApiServer, body, said};
use prescale_tests::scratch::Scratch;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

fn wall_now() -> Wall {
    prescale_shell::clock::Clock::real().now().wall
}

async fn refused(aggregator: &Aggregator, reason: &str) -> f64 {
    let page = aggregator.metrics().await.unwrap();
    page.value("prescale_aggregator_reports_refused_total", &[("reason", reason)])
}

#[tokio::test]
async fn what_can_be_no_report_is_refused_with_a_reason_and_counted() {
    let target = FakeTarget::start(vec![workload("shop", "web", 1)]).await;
    let aggregator = Aggregator::start(target.address, &[]);
    let list = until("a watch list", async || aggregator.watch_list("node-a", None).await).await;
    let good = FakeAgent::default().report(wall_now(), &list, 5.0);
    let wrong_version = {
        let mut report = good.clone();
        report.version = VERSION + 7;
        report.encode()
    };
    let bad_name = {
        let mut report = good.clone();
        report.node = "a b".into();
        report.encode()
    };
    let far_future = {
        let mut report = good.clone();
        // Microseconds where milliseconds belong: the year 50,000 is refused by the wire, so a mere thousand years.
        report.sent = Wall(report.sent.0 + 1000 * 365 * 86_400_000);
        report.encode()
    };
    let cases: [(&str, &'static str, Vec<u8>, StatusCode); 6] = [
        ("media_type", JSON, good.encode(), StatusCode::UNSUPPORTED_MEDIA_TYPE),
        ("malformed", PROTOBUF, b"\xff\xff\xff\xff garbage".to_vec(), StatusCode::BAD_REQUEST),
        ("version", PROTOBUF, wrong_version, StatusCode::UNPROCESSABLE_ENTITY),
        // Field 2, the node, alone: what says no version has version 0.
        ("version", PROTOBUF, b"\x12\x01a".to_vec(), StatusCode::UNPROCESSABLE_ENTITY),
        ("over_limit", PROTOBUF, bad_name, StatusCode::UNPROCESSABLE_ENTITY),
        ("impossible", PROTOBUF, far_future, StatusCode::UNPROCESSABLE_ENTITY),
    ];
    for (reason, content_type, body, status) in cases {
        let before = refused(&aggregator, reason).await;
        // A new client each time: a server that refuses a body unread closes the connection.
        let client = Client::new(&aggregator.address.to_string(), client::Limits::default()).unwrap();
        let reply = client.send(Method::POST, "/v1/reports", content_type, body).await.unwrap();
        let sentence = String::from_utf8_lossy(reply.body()).into_owned();
        assert_eq!(reply.status(), status, "{reason}: {sentence}");
        assert!(sentence.starts_with(&format!("{reason}: ")), "{reason}: {sentence}");
        assert_eq!(refused(&aggregator, reason).await, before + 1.0, "{reason} is not counted");
    }
    let page = aggregator.metrics().await.unwrap();
    assert_eq!(page.value("prescale_aggregator_report_stale", &[("node", "node-a")]), 1.0);
    let (status, reply) = aggregator.report(&good).await;
    assert_eq!(status, StatusCode::OK, "{}", String::from_utf8_lossy(&reply));
    assert_eq!(ReportReply::decode(&reply).unwrap().accepted, Some(good.sequence));
}

#[tokio::test]
async fn bodies_that_are_too_large_of_no_stated_length_or_slow_are_refused() {
    let target = FakeTarget::start(vec![]).await;
    let aggregator = Aggregator::start(target.address, &[]);
    let answer = async |bytes: &[u8]| {
        let mut stream = TcpStream::connect(aggregator.address).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        let mut reply = [0; 12];
        tokio::time::timeout(SOON, stream.read_exact(&mut reply)).await.expect("no answer").unwrap();
        String::from_utf8_lossy(&reply).into_owned()
    };
    let head = format!("POST /v1/reports HTTP/1.1\r\nhost: a\r\ncontent-type: {PROTOBUF}\r\n");
    let chunked = format!("{head}transfer-encoding: chunked\r\n\r\n5\r\nabcde\r\n");
    // Announces ten bytes and sends three.
    let slow = format!("{head}content-length: 10\r\n\r\nabc");
    // Refused by its head: not a byte of it has to be sent.
    let large = format!("{head}content-length: {}\r\n\r\n", MAX_BODY_BYTES + 1);
    assert_eq!(answer(large.as_bytes()).await, "HTTP/1.1 413");
    let (chunked, slow) = tokio::join!(answer(chunked.as_bytes()), answer(slow.as_bytes()));
    assert_eq!(chunked, "HTTP/1.1 411");
    assert_eq!(slow, "HTTP/1.1 408");
    for reason in ["too_large", "no_length"] {
        assert_eq!(refused(&aggregator, reason).await, 1.0, "{reason}");
    }
}

#[tokio::test]
async fn only_the_token_opens_the_agents_door() {
    let directory = std::env::temp_dir().join(format!("prescale-aggregator-token-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let (right, wrong) = (directory.join("right"), directory.join("wrong"));
    std::fs::write(&right, "open-sesame\n").unwrap();
    std::fs::write(&wrong, "open-barley\n").unwrap();
    let target = FakeTarget::start(vec![workload("shop", "web", 1)]).await;
    let aggregator = Aggregator::start(target.address, &["--token-file", right.to_str().unwrap()]);
    let client = |token: Option<&std::path::PathBuf>| {
        let token = token.map(|path| TokenFile::open(path.clone()).unwrap());
        Client::new(&aggregator.address.to_string(), client::Limits::default()).unwrap().with_token(token)
    };
    let watch = async |client: Client| client.get("/v1/watch?node=node-a").await.unwrap();
    let reply = watch(client(Some(&right))).await;
    let list = WatchList::decode(reply.body()).unwrap();
    let body = FakeAgent::default().report(wall_now(), &list, 5.0).encode();
    let send = async |client: Client| {
        client.send(Method::POST, "/v1/reports", PROTOBUF, body.clone()).await.unwrap().status()
    };
    assert_eq!(send(client(None)).await, StatusCode::UNAUTHORIZED);
    assert_eq!(send(client(Some(&wrong))).await, StatusCode::UNAUTHORIZED);
    assert_eq!(send(client(Some(&right))).await, StatusCode::OK);
    assert_eq!(watch(client(Some(&wrong))).await.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(refused(&aggregator, "unauthorized").await, 2.0);
    // Renewed in place, as the kubelet renews tokens.
    std::fs::write(&right, "new-words\n").unwrap();
    std::fs::write(&wrong, "new-words\n").unwrap();
    assert_eq!(send(client(Some(&wrong))).await, StatusCode::OK);
    std::fs::remove_file(&right).unwrap();
    assert_eq!(send(client(Some(&wrong))).await, StatusCode::SERVICE_UNAVAILABLE);
    std::fs::remove_dir_all(&directory).unwrap();
}

#[tokio::test]
async fn an_agents_token_opens_the_door_for_its_own_node_only() {
    // An API server that knows two tokens: the agent's on node-a, and the replicas' own.
    let server = ApiServer::start(async |request: Request| {
        assert_eq!(request.uri().path(), "/apis/authentication.k8s.io/v1/tokenreviews");
        let mut review = body(&request);
        assert_eq!(review["spec"]["audiences"], json!(["prescale"]));
        let user = |account: &str, extra: Value| {
            json!({"authenticated": true, "audiences": ["prescale"],
                "user": {"username": format!("system:serviceaccount:prescale:{account}"), "extra": extra}})
        };
        review["status"] = match review["spec"]["token"].as_str() {
            Some("agent-of-a") => {
                user("prescale-agent", json!({"authentication.kubernetes.io/node-name": ["node-a"]}))
            }
            Some("replica") => user("prescale-aggregator", json!({})),
            _ => json!({"authenticated": false}),
        };
        said(StatusCode::CREATED, &review)
    })
    .await;
    let target = FakeTarget::start(vec![workload("shop", "web", 1)]).await;
    let accounts = [
        "--review-tokens-of",
        "prescale:prescale-agent",
        "--review-peers-of",
        "prescale:prescale-aggregator",
    ];
    let local = format!("local={}", target.address);
    let aggregator = Aggregator::in_cluster(&server.kubeconfig, &local, &accounts);
    let files = Scratch::new();
    let client = |token: &str| {
        let file = TokenFile::open(files.file(token, token).into()).unwrap();
        Client::new(&aggregator.address.to_string(), client::Limits::default())
            .unwrap()
            .with_token(Some(file))
    };
    let (agent, replica, stranger) = (client("agent-of-a"), client("replica"), client("stranger"));
    let watch = async |client: &Client, node: &str| {
        let reply = client.get(&format!("/v1/watch?node={node}")).await.unwrap();
        (reply.status(), reply.body().clone())
    };
    let (status, list) = watch(&agent, "node-a").await;
    assert_eq!(status, StatusCode::OK, "{}", String::from_utf8_lossy(&list));
    let own = FakeAgent::default().report(wall_now(), &WatchList::decode(&list).unwrap(), 5.0);
    let mut others = own.clone();
    others.node = "node-b".into();
    let send = async |client: &Client, report: &NodeReport| {
        let reply = client.send(Method::POST, "/v1/reports", PROTOBUF, report.encode()).await.unwrap();
        (reply.status(), String::from_utf8_lossy(reply.body()).into_owned())
    };
    assert_eq!(send(&agent, &own).await.0, StatusCode::OK);

    let (status, sentence) = send(&agent, &others).await;
    assert_eq!(status, StatusCode::FORBIDDEN, "{sentence}");
    assert!(sentence.starts_with("other_node: ") && sentence.contains("node-a"), "{sentence}");
    let (status, sentence) = watch(&agent, "node-b").await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert!(sentence.starts_with(b"other_node: "), "{}", String::from_utf8_lossy(&sentence));
    for nobody in [&replica, &stranger, &aggregator.client] {
        assert_eq!(send(nobody, &own).await.0, StatusCode::UNAUTHORIZED);
        assert_eq!(watch(nobody, "node-a").await.0, StatusCode::UNAUTHORIZED);
    }
    assert_eq!(refused(&aggregator, "other_node").await, 1.0);
    assert_eq!(refused(&aggregator, "unauthorized").await, 3.0);
    let page = aggregator.metrics().await.unwrap();
    assert_eq!(page.value("prescale_aggregator_report_stale", &[("node", "node-a")]), 0.0);
    let nodes = aggregator.json("/api/v1/workloads").await.unwrap()["nodes"].clone();
    assert_eq!(nodes.as_array().unwrap().len(), 1, "what was refused is nowhere: {nodes}");
}

#[tokio::test]
async fn a_watch_waits_for_a_change_and_not_longer() {
    let target = FakeTarget::start(vec![workload("shop", "web", 2)]).await;
    let aggregator = Aggregator::start(target.address, &[]);
    let first = until("a watch list", async || aggregator.watch_list("node-a", None).await).await;
    let uids = |list: &WatchList| list.pods.iter().map(|pod| pod.uid.clone()).collect::<Vec<_>>();
    assert_eq!(uids(&first), ["shop-web-0", "shop-web-1"]);
    assert_eq!(aggregator.watch_list("node-b", None).await.unwrap().pods, []);

    let waiting = async {
        let waited = std::time::Instant::now();
        (aggregator.watch_list("node-a", Some(first.revision)).await.unwrap(), waited.elapsed())
    };
    let polls = async || Ok(aggregator.metrics().await?.value("prescale_aggregator_watches_waiting", &[]));
    let change = async {
        // Only once the poll waits does a change prove anything.
        until("a poll that waits", async || match polls().await? {
            1.0 => Ok(()),
            other => Err::<(), String>(format!("{other} wait")),
        })
        .await;
        target.change(|workloads| {
            let mut other = workload("shop", "api", 1);
            other.pods[0].node = "node-b".into();
            workloads.push(other);
        });
        until("the other node's list", async || {
            match aggregator.watch_list("node-b", None).await?.pods.len() {
                1 => Ok(()),
                other => Err(format!("{other} pods")),
            }
        })
        .await;
        assert_eq!(polls().await, Ok::<f64, String>(1.0), "another node's change woke it");
        target.change(|workloads| workloads[0].pods[0].uid = "new".into());
    };
    let ((second, waited), ()) = tokio::join!(waiting, change);
    assert_eq!(uids(&second), ["new", "shop-web-1"]);
    assert_ne!(second.revision, first.revision);
    assert!(waited < Duration::from_secs(20), "woken by its time-out, not by the change: {waited:?}");
    for wrong in ["", "node=", "node=a&revision=x"] {
        let reply = aggregator.client.get(&format!("/v1/watch?{wrong}")).await.unwrap();
        assert_eq!(reply.status(), StatusCode::BAD_REQUEST, "{wrong}");
    }
}

#[tokio::test]
async fn no_watch_list_is_made_up_before_the_target_has_answered() {
    let mut target = FakeTarget::start(vec![workload("shop", "web", 1)]).await;
    target.go_away().await;
    let aggregator = Aggregator::start(target.address, &[]);
    let ready = async || {
        let reply = aggregator.client.get("/readyz").await.unwrap();
        (reply.status(), String::from_utf8_lossy(reply.body()).into_owned())
    };
    let sentence = until("the reason", async || match ready().await {
        (StatusCode::SERVICE_UNAVAILABLE, sentence) if sentence.contains("no connection") => Ok(sentence),
        other => Err(format!("{other:?}")),
    })
    .await;
    assert!(sentence.contains(&target.address.to_string()), "{sentence}");
    let early = aggregator.client.get_within("/v1/watch?node=node-a", Duration::from_millis(300)).await;
    assert!(early.is_err(), "an empty list would make the agent let go of its pods: {early:?}");
    target.come_back().await;
    let list = until("a watch list", async || aggregator.watch_list("node-a", None).await).await;
    assert_eq!(list.pods.len(), 1);
    // A rollout that went on now would leave a leader that hears nobody.
    let (status, sentence) = ready().await;
    assert!(
        status == StatusCode::SERVICE_UNAVAILABLE
            && sentence.contains("from 1 of")
            && sentence.contains("(node-a)"),
        "{status} {sentence}"
    );
    let mut agent = FakeAgent::default();
    aggregator.report(&agent.report(wall_now(), &list, 10.0)).await;
    until("readiness", async || match ready().await {
        (StatusCode::OK, _) => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    assert_eq!(aggregator.client.get("/healthz").await.unwrap().status(), StatusCode::OK);
}

#[tokio::test]
async fn the_page_loads_only_from_here_and_other_paths_are_not_there() {
    let target = FakeTarget::start(vec![]).await;
    let aggregator = Aggregator::start(target.address, &[]);
    let page = aggregator.client.get("/").await.unwrap();
    assert_eq!(page.status(), StatusCode::OK);
    let policy = page.headers()["content-security-policy"].to_str().unwrap();
    assert!(policy.starts_with("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
    let html = String::from_utf8_lossy(page.body()).into_owned();
    for name in ["page.css", "page.js"] {
        assert!(html.contains(name));
        assert_eq!(aggregator.client.get(&format!("/{name}")).await.unwrap().status(), StatusCode::OK);
    }
    for missing in
        ["/nothing", "/api/v1/workloads/a/b", "/api/v1/workloads/a", "/..%2f..%2fetc%2fpasswd", "/%ff"]
    {
        assert_eq!(
            aggregator.client.get(missing).await.unwrap().status(),
            StatusCode::NOT_FOUND,
            "{missing}"
        );
    }
    let put = aggregator.client.send(Method::PUT, "/api/v1/workloads", JSON, "{}").await.unwrap();
    assert_eq!(put.status(), StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(aggregator.json("/api/v1/comparison").await.unwrap(), serde_json::json!({"runs": []}));
}

#[tokio::test]
async fn the_page_has_a_door_of_its_own_and_agents_have_theirs() {
    let target = FakeTarget::start(vec![workload("shop", "web", 1)]).await;
    let mut aggregator = Aggregator::start(target.address, &["--page-listen", "127.0.0.1:0"]);
    let log = aggregator.log();
    let page = log.split("on http://").nth(2).and_then(|rest| rest.split(' ').next()).expect("it says where");
    let page = Client::new(page, client::Limits::default()).unwrap();
    let status = async |client: &Client, path: &str| client.get(path).await.unwrap().status();
    for path in ["/", "/page.js", "/api/v1/workloads", "/api/v1/comparison"] {
        assert_eq!(status(&aggregator.client, path).await, StatusCode::NOT_FOUND, "{path}");
        assert_eq!(status(&page, path).await, StatusCode::OK, "{path}");
    }
    for path in ["/metrics", "/metrics/models", "/healthz"] {
        assert_eq!(status(&aggregator.client, path).await, StatusCode::OK, "{path}");
    }
    until("a watch list", async || aggregator.watch_list("node-a", None).await).await;
    assert_eq!(status(&page, "/v1/watch?node=node-a").await, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_page_with_a_secret_opens_to_a_browser_and_a_program_that_know_it() {
    let file = std::env::temp_dir().join(format!("prescale-page-{}", std::process::id()));
    std::fs::write(&file, "fooba?-\n").unwrap();
    let target = FakeTarget::start(vec![]).await;
    let aggregator = Aggregator::start(target.address, &["--page-token-file", file.to_str().unwrap()]);
    let answer = async |authorization: &str| {
        let mut stream = TcpStream::connect(aggregator.address).await.unwrap();
        let request =
            format!("GET /api/v1/workloads HTTP/1.1\r\nhost: a\r\nconnection: close\r\n{authorization}\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut reply = String::new();
        tokio::time::timeout(SOON, stream.read_to_string(&mut reply)).await.expect("no answer").unwrap();
        reply
    };
    let asked = answer("").await;
    assert!(asked.starts_with("HTTP/1.1 401 "), "{asked}");
    assert!(asked.contains("www-authenticate: Basic realm=\"prescale\""), "a browser asks nobody: {asked}");
    for wrong in ["Bearer other", "Basic bWU6b3RoZXI=", "Basic Zm9vYmE/LQ=="] {
        let reply = answer(&format!("authorization: {wrong}\r\n")).await;
        assert!(reply.starts_with("HTTP/1.1 401 "), "{wrong}: {reply}");
    }
    for right in ["Bearer fooba?-", "Basic bWU6Zm9vYmE/LQ=="] {
        let reply = answer(&format!("authorization: {right}\r\n")).await;
        assert!(reply.starts_with("HTTP/1.1 200 "), "{right}: {reply}");
    }
    // Probes and Prometheus need none.
    for path in ["/metrics", "/metrics/models", "/healthz"] {
        assert_eq!(aggregator.client.get(path).await.unwrap().status(), StatusCode::OK, "{path}");
    }
    std::fs::remove_file(file).unwrap();
}
