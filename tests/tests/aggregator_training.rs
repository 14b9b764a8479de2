//! Training on the cluster's own history, by the real binary: refused, begun, judged, swapped in, kept, and gone back from.
#![allow(clippy::unwrap_used)]

use std::fmt::Write as _;

use prescale_shell::clock::Clock;
use prescale_shell::http::{JSON, Method, PROTOBUF, StatusCode};
use prescale_tests::aggregator::{Aggregator, FakeTarget, until, workload};
use prescale_tests::binaries::binary;
use prescale_tests::scratch::Scratch;
use serde_json::Value;

const STATE: &str = "/api/v1/models/training";
const TRAIN: &str = "/api/v1/models/train";
const ROLLBACK: &str = "/api/v1/models/rollback";

async fn post(aggregator: &Aggregator, path: &str) -> (StatusCode, Value) {
    let reply = aggregator.client.send(Method::POST, path, JSON, "").await.unwrap();
    let said = || String::from_utf8_lossy(reply.body()).into_owned().into();
    (reply.status(), serde_json::from_slice(reply.body()).unwrap_or_else(|_| said()))
}

/// Days of history, but for what says otherwise.
const DAYS: i64 = 3;

/// Two workloads whose timer strikes every 23 minutes, which nothing that ships knows, up to now.
fn history(names: [&str; 2]) -> String {
    csv(&names, |n, minute| {
        let spike = if (minute + 5 * n as i64) % 23 == 0 { 40 } else { 0 };
        10 + (minute * 7919).rem_euclid(13) + spike
    })
}

/// The same of two whose spikes come five minutes after a low minute, at no regular time.
fn announced(names: [&str; 2]) -> String {
    csv(&names, |n, minute| {
        let low = |minute| drawn(n, minute, 10) == 0;
        if low(minute - 5) {
            300
        } else if low(minute) {
            100
        } else {
            200 + drawn(n, minute, 13)
        }
    })
}

/// Twice as long of many, but with the last one the low minute, seldom as it is, announces a lower one: trees of all can't tell
/// whose it was. A leaf wants a hundred rows, so that three days of one workload would not do.
fn contradicting(names: &[&str]) -> String {
    csv_of(2 * DAYS, names, |n, minute| {
        let low = |minute| drawn(n, minute, 15) == 0;
        let announced = if n + 1 == names.len() { 20 } else { 1000 };
        if low(minute - 5) {
            announced
        } else if low(minute) {
            100
        } else {
            200 + drawn(n, minute, 13)
        }
    })
}

/// The same number for the same workload and minute, at no regular time.
fn drawn(n: usize, minute: i64, below: i64) -> i64 {
    let mixed = (minute + 7_777 * n as i64).wrapping_mul(0x9e37_79b9_7f4a_7c15_u64 as i64);
    ((mixed as u64) >> 33) as i64 % below
}

fn csv(names: &[&str], rate: impl Fn(usize, i64) -> i64) -> String {
    csv_of(DAYS, names, rate)
}

/// Up to now, which is minute 0.
fn csv_of(days: i64, names: &[&str], rate: impl Fn(usize, i64) -> i64) -> String {
    let now = Clock::real().now().wall.0 / 60_000;
    let mut csv = String::from("namespace,workload,unix_seconds,requests_per_second\n");
    for (n, name) in names.iter().enumerate() {
        for minute in -days * 1440..0 {
            writeln!(csv, "shop,{name},{},{}", (now + minute) * 60, rate(n, minute)).unwrap();
        }
    }
    csv
}

/// Waits until it may train, and says where training stands.
async fn leads(aggregator: &Aggregator) -> serde_json::Value {
    until("it leads", async || {
        let state = aggregator.json(STATE).await?;
        if state["trains"] == true { Ok(state) } else { Err(state.to_string()) }
    })
    .await
}

#[tokio::test]
async fn better_weights_run_are_kept_and_can_be_gone_back_from() {
    let scratch = Scratch::new();
    let target = FakeTarget::start(vec![workload("shop", "web", 1), workload("shop", "cart", 1)]).await;
    let (history, state) = (scratch.file("history.csv", history(["web", "cart"])), scratch.name("state"));
    let flags = ["--history", &history, "--state-dir", &state, "--train-cpu-share", "1"];
    let mut aggregator = Aggregator::start(target.address, &flags);
    leads(&aggregator).await;
    let (status, begun) = post(&aggregator, TRAIN).await;
    assert_eq!(status, StatusCode::ACCEPTED, "{begun}");
    assert_eq!(post(&aggregator, TRAIN).await.0, StatusCode::CONFLICT, "one at a time");
    let ended = until("the training's end", async || {
        let state = aggregator.json(STATE).await?;
        if state["models"][0]["last"]["run"] == begun["run"] && state["running"].is_null() {
            Ok(state)
        } else {
            Err(state.to_string())
        }
    })
    .await;
    let gru = &ended["models"][0];
    assert_eq!((&gru["model"], &gru["version"]), (&"gru".into(), &1.into()), "{ended}");
    assert_eq!(gru["last"]["outcome"], "admitted", "{ended}");
    assert_eq!(
        aggregator.json("/api/v1/models").await.unwrap()["training"],
        ended,
        "the models say the same"
    );
    let gain: Vec<f64> = serde_json::from_value(gru["last"]["gain"].clone()).unwrap();
    assert!(0.0 < gain[1] && gain[1] < gain[0] && gain[0] < gain[2], "{gain:?}");
    let page = aggregator.metrics().await.unwrap();
    let value =
        |name: &str, labels: &[(&str, &str)]| page.value(&format!("prescale_aggregator_{name}"), labels);
    assert_eq!(value("weights_version", &[("model", "gru")]), 1.0);
    assert_eq!(value("trainings_total", &[("outcome", "admitted")]), 1.0);
    // JSON and OpenMetrics round the last digit differently.
    assert!(
        (value("training_gain_ratio", &[("model", "gru"), ("bound", "low")]) - gain[1]).abs() < 1e-9,
        "{gain:?}"
    );
    assert!(value("training_seconds_total", &[]) > 0.0);
    let log = aggregator.log();
    assert!(log.contains("the weights of gru are now version 1"), "{log}");

    // The version outlives the process, and the way back does too.
    aggregator.kill();
    let without_history = ["--state-dir", &state];
    let mut aggregator = Aggregator::start(target.address, &without_history);
    let shown = leads(&aggregator).await;
    let version = &shown["versions"][0];
    assert_eq!((&shown["models"][0]["version"], &version["parent"]), (&1.into(), &0.into()), "{shown}");
    assert_eq!(version["model"], "gru", "{shown}");
    let (status, back) = post(&aggregator, ROLLBACK).await;
    assert_eq!((status, &back["version"], &back["was"]), (StatusCode::OK, &0.into(), &1.into()), "{back}");
    assert_eq!(post(&aggregator, ROLLBACK).await.0, StatusCode::CONFLICT, "what ships has no parent");
    aggregator.kill();
    let aggregator = Aggregator::start(target.address, &without_history);
    assert_eq!(aggregator.json(STATE).await.unwrap()["models"][0]["version"], 0);
}

#[tokio::test]
async fn trees_are_fitted_anew_and_run_are_kept_and_can_be_gone_back_from_as_networks_are() {
    let scratch = Scratch::new();
    let target = FakeTarget::start(vec![workload("shop", "web", 1), workload("shop", "cart", 1)]).await;
    let (history, state) = (scratch.file("history.csv", announced(["web", "cart"])), scratch.name("state"));
    let flags = ["--state-dir", &state, "--models", "tuned_smoothing,trees", "--train-cpu-share", "1"];
    let with_history = [&flags[..], &["--history", &history]].concat();
    let mut aggregator = Aggregator::start(target.address, &with_history);
    // The version, and the checksum of what forecasts.
    let trees = async |aggregator: &Aggregator| {
        let models = aggregator.json("/api/v1/models").await.unwrap();
        let trees = models["models"].as_array().unwrap().iter().find(|it| it["name"] == "trees").cloned();
        (models["training"]["models"][0]["version"].clone(), trees.unwrap()["weights"].clone())
    };
    leads(&aggregator).await;
    let (version, shipped) = trees(&aggregator).await;
    assert_eq!(version, 0);
    assert_eq!(post(&aggregator, TRAIN).await.0, StatusCode::ACCEPTED);
    let ended = until("the training's end", async || {
        let state = aggregator.json(STATE).await?;
        if state["models"][0]["last"].is_null() { Err(state.to_string()) } else { Ok(state) }
    })
    .await;
    let model = &ended["models"][0];
    assert_eq!(
        (&model["model"], &model["last"]["outcome"]),
        (&"trees".into(), &"admitted".into()),
        "{ended}"
    );
    let (version, fitted) = trees(&aggregator).await;
    assert_eq!(version, 1);
    assert_ne!(fitted, shipped, "other trees forecast");
    let page = aggregator.metrics().await.unwrap();
    assert_eq!(page.value("prescale_aggregator_weights_version", &[("model", "trees")]), 1.0);
    let log = aggregator.log();
    assert!(log.contains("the weights of trees are now version 1"), "{log}");

    aggregator.kill();
    let aggregator = Aggregator::start(target.address, &flags);
    let shown = leads(&aggregator).await;
    assert_eq!(
        (&shown["versions"][0]["model"], &shown["versions"][0]["parent"]),
        (&"trees".into(), &0.into())
    );
    assert_eq!(trees(&aggregator).await, (1.into(), fitted), "also after a restart");
    let (status, back) = post(&aggregator, &format!("{ROLLBACK}?model=trees")).await;
    assert_eq!((status, &back["version"], &back["was"]), (StatusCode::OK, &0.into(), &1.into()), "{back}");
    assert_eq!(trees(&aggregator).await, (0.into(), shipped));
}

#[tokio::test]
async fn the_dearest_workloads_run_trees_of_their_own_where_those_are_better() {
    let scratch = Scratch::new();
    // The last has more pods than those before it, and one has not been seen for long enough to learn from.
    let pods = [("web", 1), ("api", 1), ("search", 1), ("cart", 3), ("new", 9)];
    let target = FakeTarget::start(pods.map(|(name, pods)| workload("shop", name, pods)).into()).await;
    let known = pods.map(|(name, _)| name);
    let history = scratch.file("history.csv", contradicting(&known[..4]));
    let state = scratch.name("state");
    let flags = ["--state-dir", &state, "--models", "tuned_smoothing,trees", "--own-trees", "2"];
    let with_history = [&flags[..], &["--history", &history, "--train-cpu-share", "1"]].concat();
    let mut aggregator = Aggregator::start(target.address, &with_history);
    leads(&aggregator).await;
    assert_eq!(post(&aggregator, TRAIN).await.0, StatusCode::ACCEPTED);
    let trained = until("the training's end", async || {
        let state = aggregator.json(STATE).await?;
        let done = !state["models"][0]["last"].is_null() && state["running"].is_null();
        if done { Ok(state) } else { Err(state.to_string()) }
    })
    .await;
    let own = |state: &Value| -> Vec<Value> {
        let versions = state["versions"].as_array().unwrap().iter();
        versions.filter(|it| !it["workload"].is_null()).map(|it| it["workload"]["name"].clone()).collect()
    };
    assert_eq!(own(&trained), ["cart"], "{trained}");
    let log = aggregator.log();
    assert!(log.contains("shop/cart has trees of its own"), "{log}");
    assert!(log.contains("1 of 2 workloads have trees of their own now"), "{log}");
    let value = async |aggregator: &Aggregator| {
        aggregator.metrics().await.unwrap().value("prescale_aggregator_own_trees", &[])
    };
    assert_eq!(value(&aggregator).await, 1.0);

    aggregator.kill();
    let mut aggregator = Aggregator::start(target.address, &flags);
    assert_eq!((own(&leads(&aggregator).await), value(&aggregator).await), (vec!["cart".into()], 1.0));
    // Who no longer asks for them no longer runs them.
    aggregator.kill();
    let aggregator = Aggregator::start(target.address, &flags[..4]);
    assert_eq!((own(&leads(&aggregator).await), value(&aggregator).await), (vec![], 0.0));
    let refused = std::process::Command::new(binary("prescale-aggregator"))
        .args(["--target", "local=127.0.0.1:1", "--own-trees", "2"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains("--own-trees"), "{said}");
}

#[tokio::test]
async fn another_replica_goes_on_with_the_leaders_weights_and_with_heads_that_are_awake() {
    let scratch = Scratch::new();
    let target = FakeTarget::start(vec![workload("shop", "web", 1), workload("shop", "cart", 1)]).await;
    let (history, state) = (scratch.file("history.csv", history(["web", "cart"])), scratch.name("state"));
    let flags = ["--history", &history, "--state-dir", &state, "--train-cpu-share", "1"];
    let mut trainer = Aggregator::start(target.address, &flags);
    leads(&trainer).await;
    assert_eq!(post(&trainer, TRAIN).await.0, StatusCode::ACCEPTED);
    until("version 1", async || {
        let state = trainer.json(STATE).await?;
        if state["models"][0]["version"] == 1 { Ok(()) } else { Err(state.to_string()) }
    })
    .await;
    trainer.kill();
    // Its heads have slept since. Begun anew with the version and the history, but without the state, they are awake.
    std::fs::remove_file(scratch.path().join("state/state.redb")).unwrap();
    let mut leader = Aggregator::start(target.address, &flags);
    let gru = async |aggregator: &Aggregator| {
        let models = aggregator.json("/api/v1/models").await?;
        let gru = models["models"].as_array().unwrap().iter().find(|it| it["name"] == "gru").cloned();
        gru.ok_or_else(|| models.to_string())
    };
    let awake = async |aggregator: &Aggregator| {
        let grids = gru(aggregator).await?["grids"].clone();
        if grids[0]["awake"] == 2 { Ok(()) } else { Err(grids.to_string()) }
    };
    until("the leader's heads", async || awake(&leader).await).await;
    let asked = Clock::real().now().wall.0 as f64 / 1000.0;
    until("a whole round of checkpoints", async || {
        let page = leader.metrics().await?;
        let at = page.value("prescale_aggregator_checkpoint_timestamp_seconds", &[]);
        if at > asked + 9.0 { Ok(()) } else { Err(format!("saved at {at}, asked at {asked}")) }
    })
    .await;
    let before = gru(&leader).await.unwrap()["weights"].clone();
    let (own, url) = (scratch.name("other"), format!("http://{}", leader.address));
    let mut other = Aggregator::start(target.address, &["--state-dir", &own, "--peer", &url]);
    leader.kill();
    until("the other leads", async || {
        let state = other.json(STATE).await?;
        let version = &state["models"][0]["version"];
        if state["trains"] == true && *version == 1 { Ok(()) } else { Err(state.to_string()) }
    })
    .await;
    until("its heads, at once", async || awake(&other).await).await;
    assert_eq!(gru(&other).await.unwrap()["weights"], before);
    let page = other.metrics().await.unwrap();
    assert_eq!(page.value("prescale_aggregator_weights_version", &[("model", "gru")]), 1.0);
    assert!(other.log().contains("the weights of gru are now version 1 of the leader"), "{}", other.log());
    // They are its own from now on.
    other.kill();
    let again = Aggregator::start(target.address, &["--state-dir", &own]);
    assert_eq!(gru(&again).await.unwrap()["weights"], before);
}

#[tokio::test]
async fn without_history_nothing_changes_whichever_models_run_and_foreign_pages_can_not_ask() {
    let target = FakeTarget::start(vec![workload("shop", "web", 1)]).await;
    let rule = "*/b*=tuned_smoothing,cnn,trees";
    let aggregator = Aggregator::start(target.address, &["--train-at", "03:00", "--models-for", rule]);
    let state = until("it leads", async || {
        let state = aggregator.json(STATE).await?;
        if state["trains"] == true && !state["next_unix_ms"].is_null() {
            Ok(state)
        } else {
            Err(state.to_string())
        }
    })
    .await;
    assert_eq!(state["next_unix_ms"].as_i64().unwrap() % 86_400_000, 3 * 3_600_000);
    for path in [TRAIN, ROLLBACK] {
        let reply = aggregator.client.send(Method::POST, path, PROTOBUF, "").await.unwrap();
        assert_eq!(reply.status(), StatusCode::UNSUPPORTED_MEDIA_TYPE);
        assert_eq!(aggregator.client.get(path).await.unwrap().status(), StatusCode::METHOD_NOT_ALLOWED);
    }
    assert_eq!(post(&aggregator, TRAIN).await.0, StatusCode::ACCEPTED);
    // What some choice runs with is trained, the others are not.
    let ended = until("the trainings' end", async || {
        let state = aggregator.json(STATE).await?;
        let models = state["models"].as_array().cloned().unwrap_or_default();
        if models.iter().all(|it| it["last"]["outcome"] == "too_little") && state["running"].is_null() {
            Ok(models)
        } else {
            Err(state.to_string())
        }
    })
    .await;
    let models: Vec<_> = ended.iter().map(|it| (it["model"].as_str(), it["version"].as_i64())).collect();
    assert_eq!(models, ["gru", "cnn", "trees"].map(|name| (Some(name), Some(0))));
    let page = aggregator.metrics().await.unwrap();
    let trainings = page.value("prescale_aggregator_trainings_total", &[("outcome", "too_little")]);
    assert_eq!(trainings, 3.0);
    for (query, status, sentence) in [
        ("", StatusCode::BAD_REQUEST, "which of gru, cnn, trees?"),
        ("?model=lstm", StatusCode::BAD_REQUEST, "\"lstm\" is not trained here; one of gru, cnn, trees"),
        ("?model=cnn", StatusCode::CONFLICT, "the weights that ship run already"),
    ] {
        let (got, said) = post(&aggregator, &format!("{ROLLBACK}{query}")).await;
        assert!(
            got == status && said.to_string().contains(&sentence.replace('"', "\\\"")),
            "{query}: {got} {said}"
        );
    }
}
