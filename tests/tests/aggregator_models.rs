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

/// Each error's field in the API, and its name among the metrics after `prescale_aggregator_model_`.
const ERRORS: [(&str, &str); 8] = [
    ("rmse_rps", "rmse_requests_per_second"),
    ("mse", "mse"),
    ("mae_rps", "mae_requests_per_second"),
    ("mape", "mape_ratio"),
    ("mase", "mase_ratio"),
    ("wql", "wql_ratio"),
    ("q95_coverage", "q95_coverage_ratio"),
    ("provisioning_loss", "provisioning_loss_ratio"),
];

/// `/metrics/models` shows what the API does of every target and model, and nothing else.
async fn assert_errors_of_every_model(aggregator: &Aggregator, scores: &[Value]) {
    let page = aggregator.metrics_at("/metrics/models").await.unwrap();
    let mut known = 0;
    for score in scores {
        let text = |field: &str| score[field].to_string();
        let (horizon, bin) = (text("horizon_seconds"), text("bin_seconds"));
        let combined =
            [("issued", score), ("experts", &score["without_head"]), ("with_head", &score["with_head"])];
        let experts = score["models"].as_array().unwrap().iter();
        let experts = experts.map(|model| (model["name"].as_str().unwrap(), model));
        for (model, errors) in combined.into_iter().chain(experts) {
            for (field, name) in ERRORS {
                let Some(value) = errors[field].as_f64() else { continue };
                known += 1;
                let target = if score["max_over"] == true { "max_over" } else { "at" };
                let labels = [
                    ("namespace", "shop"),
                    ("workload", "web"),
                    ("target", target),
                    ("horizon_seconds", &horizon),
                    ("bin_seconds", &bin),
                    ("model", model),
                ];
                let shown = page.value(&format!("prescale_aggregator_model_{name}"), &labels);
                assert!((shown - value).abs() <= 1e-9 * value, "{name} {labels:?}: {shown} for {value}");
            }
        }
    }
    // The eleven targets of minutes, of three forecasters and the four experts that two days wake.
    assert_eq!((known, page.samples.len()), (11 * (3 + 4) * 8, 11 * (3 + 4) * 8));
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
    // A wave of 100 ± 50 with noise of some 3 requests/s, five minutes ahead.
    let error = |of: &Value, field: &str| of[field].as_f64().unwrap_or_else(|| panic!("no {field}: {of}"));
    for of in [minutes, &minutes["with_head"], &minutes["models"][1]] {
        assert!((error(of, "rmse_rps").powi(2) / error(of, "mse") - 1.0).abs() < 1e-9, "{of}");
        assert!((1.0..10.0).contains(&error(of, "mae_rps")), "{of}");
        assert!((0.01..0.1).contains(&error(of, "mape")) && (0.005..0.1).contains(&error(of, "wql")), "{of}");
        assert!((0.1..2.0).contains(&error(of, "mase")), "{of}");
        assert!((0.01..0.3).contains(&error(of, "provisioning_loss")), "{of}");
    }
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
    assert_errors_of_every_model(&aggregator, scores).await;

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
