//! A series in, quantiles out, by the real binary over real HTTP.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use prescale_models::{Bin, Ensemble, Grid, Target};
use prescale_shell::client::{self, Client, said};
use prescale_shell::http::{JSON, Method, PROTOBUF, StatusCode};
use prescale_tests::aggregator::{Aggregator, FakeTarget, until};
use serde_json::{Value, json};

const PREDICT: &str = "/api/v1/predict";
/// Longest that a stop may take.
const SOON: Duration = Duration::from_secs(10);

/// A day's shape with a gap in it, whole numbers so that no digit is lost on the way.
fn load(minute: i64) -> Option<f64> {
    let day = (minute % 1440 - 720).abs() / 8;
    (minute % 1000 != 17).then_some((100 + day + minute * 37 % 11) as f64)
}

async fn ask(client: &Client, body: &Value) -> (StatusCode, Value) {
    let reply = client.send(Method::POST, PREDICT, JSON, body.to_string()).await.unwrap();
    (reply.status(), serde_json::from_slice(reply.body()).unwrap_or_else(|_| said(&reply).into()))
}

#[tokio::test]
async fn a_series_is_forecast_as_the_ensemble_itself_forecasts_it() {
    let target = FakeTarget::start(vec![]).await;
    let aggregator = Aggregator::start(target.address, &[]);
    let minutes = 0..2000;
    let values: Vec<Option<f64>> = minutes.clone().map(load).collect();
    let targets = json!([{"at": 5}, {"max_over": 2}]);
    let body = json!({"step_seconds": 60, "start_unix_seconds": 0, "values": values, "targets": targets});
    let (status, predicted) = ask(&aggregator.client, &body).await;
    assert_eq!(status, StatusCode::OK, "{predicted}");

    let grid = Grid { step_seconds: 60 };
    let mut ours = Ensemble::cluster(grid, &[Target::At { steps: 5 }, Target::MaxOver { steps: 2 }]);
    minutes.for_each(|index| ours.observe(Bin { index, value: load(index), censored: false }));
    assert_eq!(predicted["model"], "cluster");
    assert_eq!(predicted["origin_unix_seconds"], 2000 * 60);
    assert_eq!(predicted["levels"], json!([0.1, 0.5, 0.9, 0.95, 0.99]));
    let rows = predicted["targets"].as_array().unwrap();
    assert_eq!((&rows[0]["at"], &rows[1]["max_over"]), (&json!(5), &json!(2)));
    assert_eq!(rows[0]["horizon_seconds"], 300);
    for (row, (target, quantiles)) in rows.iter().zip(&ours.forecast().unwrap().points) {
        for (theirs, ours) in row["quantiles"].as_array().unwrap().iter().zip(quantiles.values()) {
            let theirs = theirs.as_f64().unwrap();
            assert!((theirs - ours).abs() <= 1e-9 * ours, "{target:?}: {theirs} instead of {ours}");
        }
        let experts = row["experts"].as_array().unwrap();
        let awake: Vec<&str> =
            experts.iter().filter(|it| it["awake"] == true).filter_map(|it| it["model"].as_str()).collect();
        // A day and a half wakes the daily season, not the weekly one.
        assert!(awake.contains(&"holt_winters") && !awake.contains(&"holt_winters_week"), "{awake:?}");
        let shares: f64 = experts.iter().map(|it| it["level_weights"][3].as_f64().unwrap()).sum();
        assert!((shares - 1.0).abs() < 1e-6, "{experts:?}");
    }
    assert_eq!(predicted["head"]["admitted"], ours.head().unwrap().admitted);

    assert_eq!(predicted["head"]["model"], "gru");

    let alone =
        json!({"step_seconds": 60, "start_unix_seconds": 0, "values": [3, 7, null], "model": "last_value"});
    let (status, predicted) = ask(&aggregator.client, &alone).await;
    assert_eq!(status, StatusCode::OK, "{predicted}");
    assert_eq!(predicted["origin_unix_seconds"], 180, "the gap counts");
    assert_eq!(predicted["targets"].as_array().unwrap().len(), 11);
    // About the last value: what it was off by before moves the median a little.
    let median = predicted["targets"][0]["quantiles"][1].as_f64().unwrap();
    assert!((5.0..9.0).contains(&median), "{median}");
    assert_eq!(predicted["head"], Value::Null);
}

#[tokio::test]
async fn what_can_not_be_forecast_is_refused_with_the_field_and_the_mend() {
    let target = FakeTarget::start(vec![]).await;
    let mut aggregator = Aggregator::start(target.address, &["--page-listen", "127.0.0.1:0"]);
    let log = aggregator.log();
    let page = log.split("on http://").nth(2).and_then(|rest| rest.split(' ').next()).expect("it says where");
    let page = || Client::new(page, client::Limits::default()).unwrap();
    let good = json!({"step_seconds": 60, "start_unix_seconds": 0, "values": [1, 2]});
    assert_eq!(ask(&page(), &good).await.0, StatusCode::OK);
    assert_eq!(ask(&aggregator.client, &good).await.0, StatusCode::NOT_FOUND, "at the agents' door");

    let mut bad = good.clone();
    bad["values"][1] = json!(-2);
    let (status, sentence) = ask(&page(), &bad).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(sentence.as_str().unwrap().contains("values[1]: -2; from 0 to 1e15, or null"), "{sentence}");
    // Written out as long as doubles are, as many as are taken go through; only the 14 days judge them.
    let long = |count: usize| {
        let values = vec!["1.2345678901234567e-100"; count].join(",");
        format!(r#"{{"step_seconds":60,"start_unix_seconds":0,"values":[{values}],"model":"last_value"}}"#)
    };
    let send = async |media_type, body: String| {
        page().send(Method::POST, PREDICT, media_type, body).await.unwrap().status()
    };
    assert_eq!(send(JSON, long(20_160)).await, StatusCode::OK);
    assert_eq!(send(JSON, long(20_161)).await, StatusCode::BAD_REQUEST);
    assert_eq!(send(JSON, long(40_000)).await, StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(send(PROTOBUF, good.to_string()).await, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    assert_eq!(page().get(PREDICT).await.unwrap().status(), StatusCode::METHOD_NOT_ALLOWED);
}

#[tokio::test]
async fn one_forecast_is_computed_at_a_time_and_none_that_nobody_waits_for() {
    let target = FakeTarget::start(vec![]).await;
    let mut aggregator = Aggregator::start(target.address, &[]);
    let values: Vec<Option<f64>> = (0..20_160).map(load).collect();
    let long = json!({"step_seconds": 60, "start_unix_seconds": 0, "values": values});
    let short = json!({"step_seconds": 60, "start_unix_seconds": 0, "values": [1]});
    let client = || Client::new(&aggregator.address.to_string(), client::Limits::default()).unwrap();
    let start = |client: Client| {
        let body = long.to_string();
        tokio::spawn(async move {
            // It may meet one of our short ones: then again.
            while let Ok(reply) = client.send(Method::POST, PREDICT, JSON, body.clone()).await {
                if reply.status() != StatusCode::SERVICE_UNAVAILABLE {
                    return;
                }
            }
        })
    };
    let busy = async || {
        until("a refusal", async || {
            let reply = client().send(Method::POST, PREDICT, JSON, short.to_string()).await.unwrap();
            match reply.status() {
                StatusCode::SERVICE_UNAVAILABLE => Ok(reply.headers()["retry-after"].clone()),
                other => Err(other.to_string()),
            }
        })
        .await
    };
    let first = start(client());
    assert_eq!(busy().await, "5");
    // The control loop answers meanwhile.
    assert!(aggregator.json("/api/v1/workloads").await.is_ok());
    assert!(!first.is_finished(), "too short to prove anything");
    first.abort();
    let gone = std::time::Instant::now();
    until("a turn", async || match ask(&client(), &short).await {
        (StatusCode::OK, _) => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    assert!(gone.elapsed() < Duration::from_secs(10), "it was computed to its end: {:?}", gone.elapsed());

    let second = start(client());
    busy().await;
    aggregator.terminate();
    assert!(tokio::time::timeout(SOON, aggregator.ended()).await.expect("it hangs").success());
    drop(second);
}
