//! Which models forecast and how they do, as the real binary says it: `/api/v1/models`, `scores`, `/metrics`, `--models`.
#![allow(clippy::unwrap_used)]

use std::fmt::Write as _;

use prescale_models::{Choice, choice};
use prescale_shell::clock::Clock;
use prescale_tests::aggregator::{Aggregator, FakeTarget, until, workload};
use prescale_tests::scratch::Scratch;
use serde_json::Value;

const MODELS: &str = "/api/v1/models";

/// Two days of minutes of a daily wave, up to now.
fn history() -> String {
    let now = Clock::real().now().wall.unix_seconds() / 60 * 60;
    let mut text = "namespace,workload,unix_seconds,requests_per_second\n".to_owned();
    for minute in (0..2 * 1440).rev() {
        let at = now - minute * 60;
        let phase = (at % 86_400) as f64 / 86_400.0 * std::f64::consts::TAU;
        let noise = (minute * 7919 % 11) as f64;
        writeln!(text, "shop,web,{at},{:.3}", 100.0 + 50.0 * phase.sin() + noise).unwrap();
    }
    text
}

fn on(models: &Value) -> Vec<&str> {
    let all = models["models"].as_array().unwrap().iter();
    all.filter(|it| it["on"] == true).filter_map(|it| it["name"].as_str()).collect()
}

fn of<'a>(models: &'a Value, name: &str) -> &'a Value {
    models["models"].as_array().unwrap().iter().find(|it| it["name"] == name).unwrap()
}

#[tokio::test]
async fn models_and_live_errors_are_shown_for_a_workload_with_history() {
    let scratch = Scratch::new();
    let history = scratch.file("history.csv", history());
    let target = FakeTarget::start(vec![workload("shop", "web", 3)]).await;
    let aggregator = Aggregator::start(target.address, &["--history", &history]);
    let detail = until("the workload", async || aggregator.json("/api/v1/workloads/shop/web").await).await;
    let scores = detail["scores"].as_array().unwrap();
    assert_eq!(scores.len(), 15);
    let ahead = |max_over: bool, seconds: u64, bin: u64| {
        let key = |it: &&Value| {
            it["max_over"] == max_over && it["horizon_seconds"] == seconds && it["bin_seconds"] == bin
        };
        scores.iter().find(key).unwrap()
    };
    let minutes = ahead(true, 300, 60);
    assert!(minutes["settled"].as_u64().unwrap() > 2800, "{minutes}");
    for (ratio, most) in [("loss_ratio", 1.0), ("loss_ratio_with_head", 1.0), ("error_ratio", 1.0)] {
        let ratio = minutes[ratio].as_f64().unwrap();
        assert!((0.05..most).contains(&ratio), "{minutes}");
    }
    let coverage = minutes["q95_coverage"].as_f64().unwrap();
    assert!((0.9..0.99).contains(&coverage), "{minutes}");
    // The grid of 10 s has seen nothing: nothing is known of it, and no number stands for that.
    assert_eq!(
        (&ahead(true, 60, 10)["settled"], &ahead(true, 60, 10)["loss_ratio"]),
        (&0.into(), &Value::Null)
    );

    let models = aggregator.json(MODELS).await.unwrap();
    assert_eq!(
        on(&models),
        ["tuned_smoothing", "holt_winters", "holt_winters_hour", "holt_winters_week", "rls_ar", "gru"]
    );
    assert!(models["models"].as_array().unwrap().len() >= 16, "{models}");
    let daily = of(&models, "holt_winters");
    assert_eq!((&daily["kind"], &daily["awake_after"]), (&"expert".into(), &"a day".into()));
    assert_eq!((&daily["grids"][1]["workloads"], &daily["grids"][1]["awake"]), (&1.into(), &1.into()));
    assert!(daily["grids"][1]["loss_ratio"].as_f64().unwrap() < 1.0, "{daily}");
    let gru = of(&models, "gru");
    assert_eq!((&gru["kind"], gru["weights"].as_str().unwrap().len()), (&"head".into(), 8));
    assert_eq!(of(&models, "lstm")["grids"].to_string(), "[]");
    assert_eq!(detail["heads"][0]["model"], "gru", "{detail}");
    assert_eq!(
        (gru["grids"].as_array().unwrap().len(), of(&models, "prophet")["grids"].to_string()),
        (1, "[]".into())
    );
    let issued = models["issued"][1]["loss_ratio"].as_f64().unwrap();
    assert!(issued < 1.0, "{models}");

    aggregator.metrics().await.unwrap();
    let page = aggregator.client.get("/metrics").await.unwrap();
    let text = String::from_utf8_lossy(page.body());
    let series: Vec<&str> = text
        .lines()
        .filter(|line| {
            let forecasts = ["forecasts_settled", "forecasts_covered", "forecast_loss", "forecast_error"];
            forecasts
                .iter()
                .chain(&["expert_loss", "head_"])
                .any(|name| line.starts_with(&format!("prescale_aggregator_{name}")))
        })
        .collect();
    // What docs/metrics.md promises; those of the grid of 10 s that have no value yet are absent.
    assert!((25..=48).contains(&series.len()), "{} series:\n{}", series.len(), series.join("\n"));
    let covered = ["covered_total", "quantile=\"0.95\"", "horizon_seconds=\"300\"", "bin_seconds=\"60\""];
    assert!(series.iter().any(|it| covered.iter().all(|part| it.contains(part))), "{series:?}");
    assert!(series.iter().any(|it| it.contains("forecaster=\"with_head\"")), "{series:?}");
}

#[tokio::test]
async fn a_workload_that_a_rule_names_has_its_models_alone() {
    let scratch = Scratch::new();
    let history = scratch.file("history.csv", history());
    let target = FakeTarget::start(vec![workload("shop", "web", 3)]).await;
    let rule = "*/w*b=holt_winters,tuned_smoothing";
    let few = ["--history", &history, "--models", "lstm,tuned_smoothing", "--models-for", rule];
    let aggregator = Aggregator::start(target.address, &few);
    let detail = until("the workload", async || aggregator.json("/api/v1/workloads/shop/web").await).await;
    assert!(detail["forecast"]["at"].as_array().is_some_and(|it| !it.is_empty()), "{detail}");
    assert_eq!(detail["heads"], Value::Array(vec![]));
    for weights in detail["weights"].as_array().unwrap() {
        let names: Vec<&Value> = weights["models"].as_array().unwrap().iter().map(|it| &it["name"]).collect();
        assert_eq!(names, ["tuned_smoothing", "holt_winters"], "{weights}");
    }
    // The other workloads' models are on too; the head, which no workload here has, runs nowhere.
    let models = aggregator.json(MODELS).await.unwrap();
    assert_eq!(on(&models), ["tuned_smoothing", "holt_winters", "lstm"]);
    assert_eq!(of(&models, "lstm")["grids"][0]["workloads"], 0, "{models}");
}

#[test]
fn the_chart_offers_these_models_and_none_else() {
    let chart = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/helm/prescale");
    let schema = std::fs::read_to_string(chart.join("values.schema.json")).unwrap();
    let schema: Value = serde_json::from_str(&schema).unwrap();
    assert_eq!(schema["properties"]["models"]["items"]["enum"], serde_json::json!(choice::names()));
    let default: Vec<&str> = Choice::default().names().collect();
    let line = format!("\nmodels: [{}]\n", default.join(", "));
    let values = std::fs::read_to_string(chart.join("values.yaml")).unwrap();
    assert!(values.contains(&line), "values.yaml has no line {line}");
}
