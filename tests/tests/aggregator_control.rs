//! The aggregator's control loop on the real binary: reports in, writes out, and what happens when the target balks.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::time::Duration;

use prescale_core::world::Mode;
use prescale_shell::clock::Clock;
use prescale_shell::http::StatusCode;
use prescale_tests::aggregator::{Aggregator, FakeAgent, FakeTarget, Write, until, workload};

/// An agent reports once a second; here five times, and the report's own pace makes no difference.
const EVERY: Duration = Duration::from_millis(200);

fn of<'a>(writes: &'a [Write], workload: &'a str) -> impl Iterator<Item = &'a Write> {
    writes.iter().filter(move |write| write.workload == workload)
}

#[tokio::test]
async fn load_becomes_replicas_with_reasons_and_only_where_it_may() {
    let mut observed = workload("shop", "seen", 1);
    observed.settings.mode = Mode::Observe;
    let target = FakeTarget::start(vec![workload("shop", "web", 1), observed]).await;
    let aggregator = Aggregator::start(target.address, &[]);
    let mut agent = FakeAgent::default();
    // 45 requests/s at 10 a pod need 5; what the first seconds' counts prove is a little less.
    aggregator
        .under_load((&Clock::real(), EVERY), &mut agent, 45.0, "four replicas", async || {
            let writes = target.writes();
            match of(&writes, "shop/web").last() {
                Some(write) if write.replicas >= 4 && write.status == 200 => Ok(()),
                other => Err(format!("{other:?}; {}", aggregator.json("/api/v1/workloads").await?)),
            }
        })
        .await;
    let writes = target.writes();
    assert_eq!(of(&writes, "shop/seen").count(), 0, "mode observe writes nothing: {writes:?}");
    let versions: Vec<u64> = of(&writes, "shop/web").map(|write| write.resource_version).collect();
    assert_eq!(versions, (1..=versions.len() as u64).collect::<Vec<_>>(), "each on the version before it");

    let detail = aggregator
        .under_load((&Clock::real(), EVERY), &mut agent, 45.0, "the API's account", async || {
            let detail = aggregator.json("/api/v1/workloads/shop/web").await?;
            let measured =
                detail["load"]["load_rps"].as_f64().is_some_and(|load| (40.0..50.0).contains(&load));
            // The first bin of the timeline ends some seconds in.
            let drawn = detail["timeline"].as_array().is_some_and(|bins| !bins.is_empty());
            if measured && drawn && detail["decisions"][0]["outcome"] == "applied" {
                Ok(detail)
            } else {
                Err(detail.to_string())
            }
        })
        .await;
    let limiters = detail["plan"]["limiters"].as_array().unwrap();
    assert_eq!(limiters[0]["from"], 0);
    assert_eq!(limiters.last().unwrap()["to"], detail["plan"]["wanted"]);
    assert!(limiters.windows(2).all(|pair| pair[0]["to"] == pair[1]["from"]), "{limiters:?}");
    let quantile = detail["latency"]["p99_seconds"].as_f64().unwrap();
    assert!((0.015..0.025).contains(&quantile), "each request takes 20 ms: {quantile}");
    // The counts prove the load within seconds, not at once.
    let seen = aggregator
        .under_load((&Clock::real(), EVERY), &mut agent, 45.0, "a plan that is only shown", async || {
            let seen = aggregator.json("/api/v1/workloads/shop/seen").await?;
            if seen["plan"]["wanted"].as_u64().is_some_and(|wanted| wanted >= 4) {
                Ok(seen)
            } else {
                Err(seen.to_string())
            }
        })
        .await;
    assert_eq!(seen["plan"]["gate"]["name"], "observe");
    assert_eq!(seen["replicas"]["current"], 1, "observe writes nothing");
    // The page asks for as much of the past as it shows.
    let trimmed = aggregator.json("/api/v1/workloads/shop/web?timeline_seconds=0").await.unwrap();
    assert!(trimmed["timeline"].as_array().unwrap().len() <= 1);
}

#[tokio::test]
async fn a_conflict_is_read_again_and_decided_anew() {
    let target = FakeTarget::start(vec![workload("shop", "web", 1)]).await;
    let aggregator = Aggregator::start(target.address, &[]);
    // Long polls don't hear of it: only the refused write can make the aggregator look again.
    until("the first world", async || aggregator.watch_list("node-a", None).await).await;
    target.change_in_silence(|workloads| workloads[0].resource_version = 41);
    let mut agent = FakeAgent::default();
    let writes = aggregator
        .under_load((&Clock::real(), EVERY), &mut agent, 45.0, "a write that is taken", async || {
            let writes = target.writes();
            if writes.iter().any(|write| write.status == 200) {
                Ok(writes)
            } else {
                Err(format!("{writes:?}"))
            }
        })
        .await;
    assert_eq!((writes[0].resource_version, writes[0].status), (1, 409));
    assert_eq!((writes[1].resource_version, writes[1].status), (41, 200), "{writes:?}");
    let page = aggregator.metrics().await.unwrap();
    assert_eq!(page.value("prescale_aggregator_writes_total", &[("outcome", "conflict")]), 1.0);
    let detail = aggregator.json("/api/v1/workloads/shop/web").await.unwrap();
    assert_eq!(detail["decisions"][0]["outcome"], "conflict");
}

#[tokio::test]
async fn no_workload_ever_has_two_writes_under_way() {
    let target = FakeTarget::start(vec![workload("shop", "api", 1), workload("shop", "web", 1)]).await;
    // Slower than the tick: the plan wants more again while a write is under way.
    target.delay(Duration::from_millis(2500));
    let aggregator = Aggregator::start(target.address, &[]);
    let mut agent = FakeAgent::default();
    let mut rps = 20.0;
    until("three writes of each", async || {
        let list = aggregator.watch_list("node-a", None).await?;
        rps += 5.0;
        aggregator.report(&agent.report(Clock::real().now().wall, &list, rps)).await;
        tokio::time::sleep(Duration::from_millis(200)).await;
        let writes = target.writes();
        let done = ["shop/api", "shop/web"].iter().all(|name| of(&writes, name).count() >= 3);
        if done { Ok(()) } else { Err(format!("{writes:?}")) }
    })
    .await;
    assert_eq!(target.most_under_way(), 2, "one of each workload, side by side");
    assert!(target.writes().iter().all(|write| write.status == 200), "{:?}", target.writes());
}

#[tokio::test]
async fn a_target_that_goes_away_holds_everything_and_is_found_again() {
    let mut target = FakeTarget::start(vec![workload("shop", "web", 1)]).await;
    let mut aggregator = Aggregator::start(target.address, &[]);
    until("the first world", async || aggregator.watch_list("node-a", None).await).await;
    target.go_away().await;
    let mut agent = FakeAgent::default();
    let state = aggregator
        .under_load((&Clock::real(), EVERY), &mut agent, 45.0, "the page's words", async || {
            let state = aggregator.json("/api/v1/workloads").await?;
            if state["target"]["up"] == false { Ok(state) } else { Err(state.to_string()) }
        })
        .await;
    assert!(state["target"]["down_seconds"].as_f64().unwrap() >= 0.0);
    assert_eq!(aggregator.metrics().await.unwrap().value("prescale_aggregator_target_up", &[]), 0.0);
    assert!(aggregator.log().contains("the target gives no answer"), "{}", aggregator.log());
    // Agents go on as before.
    assert_eq!(aggregator.watch_list("node-a", None).await.unwrap().pods.len(), 1);
    // Heard after the target had gone: ready all the same.
    until("readiness", async || match aggregator.client.get("/readyz").await.unwrap().status() {
        StatusCode::OK => Ok(()),
        other => Err(other.to_string()),
    })
    .await;
    target.come_back().await;
    aggregator
        .under_load((&Clock::real(), EVERY), &mut agent, 45.0, "a write after its return", async || {
            let writes = target.writes();
            if writes.iter().any(|write| write.status == 200) { Ok(()) } else { Err(format!("{writes:?}")) }
        })
        .await;
    assert_eq!(aggregator.json("/api/v1/workloads").await.unwrap()["target"]["up"], true);
}

#[tokio::test]
async fn a_stop_answers_what_waits_and_finishes_its_write() {
    let target = FakeTarget::start(vec![workload("shop", "web", 1)]).await;
    target.delay(Duration::from_millis(1500));
    let mut aggregator = Aggregator::start(target.address, &[]);
    let mut agent = FakeAgent::default();
    aggregator
        .under_load((&Clock::real(), EVERY), &mut agent, 45.0, "a write under way", async || {
            let in_flight = aggregator.metrics().await?.value("prescale_aggregator_writes_in_flight", &[]);
            if in_flight == 1.0 { Ok(()) } else { Err(format!("{in_flight} under way")) }
        })
        .await;
    let list = aggregator.watch_list("node-a", None).await.unwrap();
    let waiting = aggregator.watch_list("node-a", Some(list.revision));
    let stop = async {
        until("a poll that waits", async || {
            let page = aggregator.metrics().await?;
            let waiting = page.value("prescale_aggregator_watches_waiting", &[]);
            if waiting == 1.0 { Ok(()) } else { Err(format!("{waiting} wait")) }
        })
        .await;
        aggregator.terminate();
    };
    let (answered, ()) = tokio::join!(waiting, stop);
    assert_eq!(answered.unwrap().revision, list.revision, "the poll got its answer");
    assert!(aggregator.ended().await.success(), "{}", aggregator.log());
    let writes = target.writes();
    assert!(writes.iter().all(|write| write.status == 200) && !writes.is_empty(), "{writes:?}");
    assert_eq!(target.under_way(), 0, "it left before its write was answered");
    until("its last words", async || {
        let log = aggregator.log();
        if log.contains("stopped") { Ok(()) } else { Err(log) }
    })
    .await;
}

#[tokio::test]
async fn metrics_are_clean_and_bounded_by_the_cluster() {
    let target = FakeTarget::start(vec![workload("shop", "api", 1), workload("shop", "web", 1)]).await;
    let aggregator = Aggregator::start(target.address, &[]);
    let mut agent = FakeAgent::default();
    aggregator
        .under_load((&Clock::real(), EVERY), &mut agent, 45.0, "a forecast", async || {
            let page = aggregator.metrics().await?;
            let has = |name: &str| page.samples.iter().any(|sample| sample.name == name);
            let names =
                ["prescale_aggregator_forecast_requests_per_second", "prescale_aggregator_decisions_total"];
            if names.iter().all(|name| has(name)) { Ok(()) } else { Err(format!("{:?}", page.families)) }
        })
        .await;
    let page = aggregator.metrics().await.unwrap();
    let web = [("namespace", "shop"), ("workload", "web")];
    let load = page.value("prescale_aggregator_load_requests_per_second", &web);
    assert!((40.0..50.0).contains(&load), "{load}");
    assert!(page.value("prescale_aggregator_report_age_seconds", &[("node", "node-a")]) < 30.0);
    assert!(page.value("prescale_aggregator_reports_accepted_total", &[]) > 0.0);
    let allowed: BTreeSet<&str> = [
        "namespace",
        "workload",
        "node",
        "reason",
        "outcome",
        "source",
        "direction",
        "state",
        "bound",
        "quantile",
        "target",
        "horizon_seconds",
        "bin_seconds",
        "model",
        "version",
        "le",
        "law",
    ]
    .into();
    for sample in &page.samples {
        for (label, value) in &sample.labels {
            assert!(allowed.contains(label.as_str()), "{sample:?}");
            assert!(!value.contains("shop-web-0"), "a label names a pod: {sample:?}");
        }
    }
    for (family, kind) in &page.families {
        assert!(family.starts_with("prescale_aggregator_"), "{family}");
        assert_ne!((kind.as_str(), family.ends_with("_total")), ("gauge", true), "{family}");
    }
    // A workload that goes takes its series along.
    target.change(|workloads| drop(workloads.remove(1)));
    until("the series to go", async || {
        let page = aggregator.metrics().await?;
        let left = page.samples.iter().find(|s| s.labels.get("workload").is_some_and(|name| name == "web"));
        left.map_or(Ok(()), |sample| Err(format!("{sample:?}")))
    })
    .await;
}
