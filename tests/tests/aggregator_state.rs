//! What outlives the aggregator, on the real binary: kill -9 and start again, a standby, a broken file, a wrong directory.
#![allow(clippy::unwrap_used)]

use std::process::Command;
use std::time::{Duration, Instant};

use prescale_shell::clock::{Clock, ClockArgs};
use prescale_shell::http::StatusCode;
use prescale_tests::aggregator::{Aggregator, FakeAgent, FakeTarget, until, workload};
use prescale_tests::binaries::binary;
use prescale_tests::scratch::Scratch;
use serde_json::Value;

const WEB: &str = "/api/v1/workloads/shop/web";
/// Rounds of checkpoints, bins and windows pass ten times as fast as in production.
const SPEED: f64 = 10.0;

/// The clock of a test's aggregators and agent, and the flags that set it.
struct Time {
    clock: Clock,
    flags: Vec<String>,
}

impl Time {
    fn start() -> Self {
        let epoch = Clock::real().now().wall.0;
        let args = ClockArgs { clock_speed: SPEED, clock_epoch_ms: epoch, clock_origin_ms: epoch };
        let flag = |name: &str, value: String| [format!("--clock-{name}"), value];
        let flags = [
            flag("speed", SPEED.to_string()),
            flag("epoch-ms", epoch.to_string()),
            flag("origin-ms", epoch.to_string()),
        ];
        Self { clock: args.start(), flags: flags.concat() }
    }

    /// An agent's: a report each second of the clock.
    fn pace(&self) -> (&Clock, Duration) {
        (&self.clock, Duration::from_secs(1))
    }

    fn aggregator(&self, target: &FakeTarget, more: &[&str]) -> Aggregator {
        let flags: Vec<&str> = self.flags.iter().map(String::as_str).chain(more.iter().copied()).collect();
        Aggregator::start(target.address, &flags)
    }
}

/// Waits until nothing is decided any more, since nobody reports, and the store holds what is known then.
async fn saved(aggregator: &Aggregator) {
    round(aggregator).await;
    round(aggregator).await;
}

async fn round(aggregator: &Aggregator) {
    let asked = Clock::real().now().wall.0 as f64 / 1000.0;
    until("a round of checkpoints", async || {
        let page = aggregator.metrics().await?;
        let at = page.value("prescale_aggregator_checkpoint_timestamp_seconds", &[]);
        // A round takes seven or eight ticks; the one that ends next began before the question.
        if at > asked + 9.0 / SPEED { Ok(()) } else { Err(format!("saved at {at}, asked at {asked}")) }
    })
    .await;
}

/// What must be as it was: the decisions and their outcomes, lead times, weights, the bins of the timeline.
fn memory(detail: &Value) -> [Value; 3] {
    let bins = detail["timeline"].as_array().unwrap();
    let measured: Vec<&Value> = bins.iter().filter(|bin| !bin["load_rps"].is_null()).collect();
    assert!(!measured.is_empty(), "{detail}");
    [detail["decisions"].clone(), detail["lead_time"].clone(), serde_json::json!(measured)]
}

#[tokio::test]
async fn killed_and_started_again_it_goes_on_from_ten_seconds_earlier_at_most() {
    let scratch = Scratch::new();
    let directory = scratch.name("state");
    let time = Time::start();
    let target = FakeTarget::start(vec![workload("shop", "web", 1)]).await;
    let arguments = ["--state-dir", &directory];
    let mut first = time.aggregator(&target, &arguments);
    let mut agent = FakeAgent::default();
    let raised = first
        .under_load(time.pace(), &mut agent, 45.0, "bins and four replicas", async || {
            let detail = first.json(WEB).await?;
            let bins = detail["timeline"].as_array().map_or(0, Vec::len);
            let replicas = detail["replicas"]["current"].as_u64().unwrap_or(0);
            if bins >= 3 && replicas >= 4 && !detail["forecast"].is_null() {
                Ok(replicas)
            } else {
                Err(detail.to_string())
            }
        })
        .await;
    // Nobody reports any more, so that what is saved stays what is shown.
    saved(&first).await;
    let before = first.json(WEB).await.unwrap();
    first.kill();
    let mut second = time.aggregator(&target, &arguments);
    let after = until("the restored workload", async || {
        let page = second.metrics().await?;
        let whole = [("source", "store"), ("outcome", "whole")];
        if page.value("prescale_aggregator_restores_total", &whole) < 1.0 {
            return Err("not yet".into());
        }
        second.json(WEB).await
    })
    .await;
    let [decisions, leads, bins] = memory(&after);
    let [decisions_before, leads_before, bins_before] = memory(&before);
    assert_eq!((decisions, leads), (decisions_before, leads_before));
    let known = |bins: &Value, at: &Value| bins.as_array().unwrap().iter().any(|bin| bin == at);
    for bin in bins_before.as_array().unwrap() {
        assert!(known(&bins, bin), "{bin} is missing in {bins}");
    }
    assert_eq!(after["weights"], before["weights"], "the experts' weights are what they were");
    // What was needed a moment ago still is.
    second
        .under_load(time.pace(), &mut agent, 5.0, "a plan on fresh data", async || {
            let detail = second.json(WEB).await?;
            if detail["load"]["load_rps"].as_f64().is_some_and(|rps| rps < 20.0) {
                Ok(())
            } else {
                Err(detail.to_string())
            }
        })
        .await;
    let now = second.json(WEB).await.unwrap();
    assert!(now["replicas"]["current"].as_u64().unwrap() >= raised, "{now}");
    assert!(second.log().contains("1 workloads go on from their saved state"), "{}", second.log());
}

#[tokio::test]
async fn a_starting_replica_takes_the_leaders_state_and_strangers_do_not() {
    let scratch = Scratch::new();
    let (directory, token) = (scratch.name("state"), scratch.file("token", "open-sesame"));
    let time = Time::start();
    let target = FakeTarget::start(vec![workload("shop", "web", 1)]).await;
    let leader = time.aggregator(&target, &["--state-dir", &directory]);
    let mut agent = FakeAgent::default();
    leader
        .under_load(time.pace(), &mut agent, 45.0, "a decision", async || {
            let detail = leader.json(WEB).await?;
            if detail["decisions"].as_array().is_some_and(|it| !it.is_empty()) {
                Ok(())
            } else {
                Err(detail.to_string())
            }
        })
        .await;
    saved(&leader).await;
    let before = leader.json(WEB).await.unwrap();
    let url = format!("http://{}", leader.address);
    let mut other = time.aggregator(&target, &["--peer", &url]);
    assert!(other.log().contains("took the state of 1 workloads from the leader"), "{}", other.log());
    let after = until("the leader's decisions", async || {
        let detail = other.json(WEB).await?;
        if detail["decisions"] == before["decisions"] { Ok(detail) } else { Err(detail.to_string()) }
    })
    .await;
    assert_eq!(memory(&after)[1], memory(&before)[1]);
    let page = other.metrics().await.unwrap();
    let whole = [("source", "leader"), ("outcome", "whole")];
    assert_eq!(page.value("prescale_aggregator_restores_total", &whole), 1.0);
    // With a token, state is for those who have it.
    let closed = time.aggregator(&target, &["--token-file", &token]);
    let refused = closed.client.get("/v1/snapshot").await.unwrap();
    assert_eq!(refused.status(), StatusCode::UNAUTHORIZED);
    let posted = other.client.get("/v1/snapshot?store=1&since=5").await.unwrap();
    assert_eq!(posted.status(), StatusCode::OK, "of another store: everything");

    // Whoever follows another replica stops like any other: what is killed at the end of its grace keeps its Lease until then.
    other.terminate();
    let asked = Instant::now();
    assert!(other.ended().await.success(), "{}", other.log());
    assert!(asked.elapsed() < Duration::from_secs(3), "stopped after {:?}", asked.elapsed());
}

#[tokio::test]
async fn a_broken_file_is_said_and_put_aside_and_nothing_shrinks() {
    let scratch = Scratch::new();
    scratch.file("state.redb", vec![0x5a; 50_000]);
    let directory = scratch.name("");
    let time = Time::start();
    let target = FakeTarget::start(vec![workload("shop", "web", 12)]).await;
    let mut aggregator = time.aggregator(&target, &["--state-dir", &directory]);
    let log = aggregator.log();
    assert!(log.contains("can't be read") && log.contains("starts anew"), "{log}");
    let mut agent = FakeAgent::default();
    aggregator
        .under_load(time.pace(), &mut agent, 5.0, "the warm-up's hold", async || {
            let detail = aggregator.json(WEB).await?;
            let reason = &detail["plan"]["limiters"];
            let holds =
                reason.as_array().is_some_and(|it| it.iter().any(|step| step["name"] == "warming_up"));
            if holds { Ok(()) } else { Err(detail.to_string()) }
        })
        .await;
    assert_eq!(target.writes(), [], "nothing was taken away");
    saved(&aggregator).await;
    assert!(scratch.path().join("state.redb.broken").exists());
}

#[test]
fn a_directory_that_can_not_be_used_stops_the_start() {
    let scratch = Scratch::new();
    let directory = scratch.file("state", "a file");
    let out = Command::new(binary("prescale-aggregator"))
        .args(["--target", "local=127.0.0.1:1", "--state-dir", &directory])
        .output()
        .unwrap();
    let said = String::from_utf8(out.stderr).unwrap();
    assert_eq!(out.status.code(), Some(1), "{said}");
    assert!(said.contains("--state-dir") && said.contains(&directory), "{said}");
}

/// `cargo test --release -p prescale-tests --test aggregator_state -- --ignored --nocapture`; in a debug build it would
/// measure the compiler's settings.
#[cfg(not(debug_assertions))]
#[tokio::test]
#[ignore = "a measurement: a minute of 1,000 workloads"]
#[allow(clippy::print_stdout)]
async fn what_the_state_of_a_thousand_workloads_costs() {
    let scratch = Scratch::new();
    let directory = scratch.name("state");
    let workloads = (0..1000).map(|n| workload("shop", &format!("web-{n}"), 1)).collect();
    // In real time: flags of the clock are left out.
    let time = Time { clock: Clock::real(), flags: Vec::new() };
    let target = FakeTarget::start(workloads).await;
    let mut first = time.aggregator(&target, &["--state-dir", &directory]);
    let mut agent = FakeAgent::default();
    let ends = std::time::Instant::now() + Duration::from_secs(60);
    first
        .under_load(time.pace(), &mut agent, 5.0, "a minute", async || {
            if std::time::Instant::now() > ends { Ok(()) } else { Err("not yet".into()) }
        })
        .await;
    let page = first.metrics().await.unwrap();
    let value = |name: &str| page.value(&format!("prescale_aggregator_{name}"), &[]);
    for name in ["checkpoint_duration_seconds", "checkpoint_write_duration_seconds", "tick_duration_seconds"]
    {
        let (sum, count) = (value(&format!("{name}_sum")), value(&format!("{name}_count")));
        println!("{name}: {count} times {:.1} ms", sum / count * 1000.0);
    }
    println!("bytes written: {:.1} MB", value("checkpoint_bytes_total") / 1e6);
    first.kill();
    let began = std::time::Instant::now();
    let second = time.aggregator(&target, &["--state-dir", &directory]);
    until("all workloads restored", async || {
        let whole = [("source", "store"), ("outcome", "whole")];
        let restored = second.metrics().await?.value("prescale_aggregator_restores_total", &whole);
        if restored >= 1000.0 { Ok(()) } else { Err(format!("{restored}")) }
    })
    .await;
    println!("restored in {:.1} s", began.elapsed().as_secs_f64());
}
