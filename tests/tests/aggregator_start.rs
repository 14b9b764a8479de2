//! How the aggregator starts, on the real binary: history imported before the first plan, and what stops the start.
#![allow(clippy::unwrap_used)]

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader};
use std::process::{Command, Output, Stdio};

use prescale_shell::clock::Clock;
use prescale_tests::aggregator::{Aggregator, FakeTarget, until, workload};
use prescale_tests::binaries::binary;
use prescale_tests::scratch::Scratch;
use rustix::process::{Pid, Signal, kill_process};

fn run(arguments: &[&str]) -> (Option<i32>, String) {
    let Output { status, stderr, .. } =
        Command::new(binary("prescale-aggregator")).args(arguments).output().unwrap();
    (status.code(), String::from_utf8(stderr).unwrap())
}

#[test]
fn what_is_wrong_stops_the_start_with_one_sentence() {
    let scratch = Scratch::new();
    let history = scratch.file(
        "history.csv",
        "namespace,workload,unix_seconds,requests_per_second\nshop,web,0,1\nshop,web,60,many\n",
    );
    let future = scratch.file(
        "future.csv",
        "namespace,workload,unix_seconds,requests_per_second\nshop,web,9999999900,1\nshop,web,9999999960,1\n",
    );
    let none = scratch.file("none.json", r#"["2026-11-27"]"#);
    let bad = scratch.file("bad.json", r#"{"sale": ["2026-11-27", "2026-11-31"]}"#);
    let names: Vec<String> = (0..13).map(|i| format!("\"{i}\": [\"2026-11-27\"]")).collect();
    let many = scratch.file("many.json", format!("{{{}}}", names.join(",")));
    let prophet = ["--target", "local=127.0.0.1:1", "--models", "tuned_smoothing,prophet", "--holidays"];
    let empty = scratch.file("empty", " \n");
    let secret = scratch.file("secret", "secret");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let target = ["--target", "local=127.0.0.1:1"];
    let cases: [(&[&str], i32, &[&str]); 20] = [
        (&[], 2, &["--target"]),
        (&["--target", "cluster=x"], 2, &["cluster=x", "want kubernetes or local=HOST:PORT"]),
        (&["--target", "local=127.0.0.1:1", "--replicas", "3"], 2, &["--replicas"]),
        (
            &[&target[..], &["--models", "tuned_smoothing,profet"]].concat(),
            2,
            &["--models", "\"profet\" is no model", "holt_winters_week, ", ", prophet, ", ", gru"],
        ),
        (&[&target[..], &["--models", "gru"]].concat(), 2, &["tuned_smoothing must be among"]),
        (&[&target[..], &["--listen", "0.0.0.0:0"]].concat(), 1, &["--token-file"]),
        (&[&target[..], &["--token-file", &empty]].concat(), 1, &[&empty, "the token is empty"]),
        (
            &[&target[..], &["--listen", "0.0.0.0:0", "--token-file", &secret]].concat(),
            1,
            &["--tls-cert", "--allow-plain-http"],
        ),
        (
            &[&target[..], &["--listen", "0.0.0.0:0", "--token-file", &secret, "--allow-plain-http"]]
                .concat(),
            1,
            &["--page-listen", "--page-token-file"],
        ),
        (&[&target[..], &["--page-listen", "0.0.0.0:0"]].concat(), 1, &["--page-listen", "loopback"]),
        (&[&target[..], &["--tls-cert", &empty]].concat(), 2, &["--tls-key"]),
        (
            &[&target[..], &["--tls-cert", &empty, "--tls-key", &secret]].concat(),
            1,
            &["--tls-cert", &empty, "holds no certificate"],
        ),
        (&[&target[..], &["--listen", &taken]].concat(), 1, &["can't listen on", &taken]),
        (
            &[&target[..], &["--listen", "127.0.0.1:0", "--history", &history]].concat(),
            1,
            &["--history", &history, "line 3", "`many` is no load"],
        ),
        (
            &[&target[..], &["--listen", "127.0.0.1:0", "--history", &future]].concat(),
            1,
            &["--history", &future, "from now: want the past"],
        ),
        (&[&target[..], &["--holidays", &bad]].concat(), 1, &["--holidays", "prophet_lstm"]),
        (&[&prophet[..], &["/nowhere.json"]].concat(), 1, &["--holidays /nowhere.json", "can't open it"]),
        (&[&prophet[..], &[&none]].concat(), 1, &["--holidays", &none, "want names with their dates"]),
        (&[&prophet[..], &[&bad]].concat(), 1, &[&bad, "\"sale\": \"2026-11-31\" is no date"]),
        (&[&prophet[..], &[&many]].concat(), 1, &[&many, "13 holidays; at most 12"]),
    ];
    for (arguments, code, words) in cases {
        let (status, said) = run(arguments);
        assert_eq!(status, Some(code), "{arguments:?}: {said}");
        for word in words {
            assert!(said.contains(word), "{arguments:?} says nothing of {word}: {said}");
        }
    }
    let (status, _) = run(&["--help"]);
    assert_eq!(status, Some(0));
}

#[tokio::test]
async fn a_history_gives_a_forecast_before_the_first_report() {
    let scratch = Scratch::new();
    let now = Clock::real().now().wall.unix_seconds() / 60 * 60;
    let mut text = "namespace,workload,unix_seconds,requests_per_second\n".to_owned();
    // Two days of a daily wave between 50 and 150.
    for minute in (0..2 * 1440).rev() {
        let at = now - minute * 60;
        let phase = (at % 86_400) as f64 / 86_400.0 * std::f64::consts::TAU;
        writeln!(text, "shop,web,{at},{:.3}", 100.0 + 50.0 * phase.sin()).unwrap();
    }
    let history = scratch.file("history.csv", &text);
    let target = FakeTarget::start(vec![workload("shop", "web", 3)]).await;
    let mut aggregator = Aggregator::start(target.address, &["--history", &history]);
    assert!(
        aggregator.log().contains("imported the history of shop/web: 2880 bins of 60 s"),
        "{}",
        aggregator.log()
    );
    let forecast = until("a forecast", async || {
        let detail = aggregator.json("/api/v1/workloads/shop/web").await?;
        if detail["forecast"].is_null() { Err(detail.to_string()) } else { Ok(detail["forecast"].clone()) }
    })
    .await;
    for point in forecast["at"].as_array().unwrap() {
        let median = point["quantiles"][1].as_f64().unwrap();
        let then = now + point["horizon_seconds"].as_i64().unwrap();
        let expected = 100.0 + 50.0 * ((then % 86_400) as f64 / 86_400.0 * std::f64::consts::TAU).sin();
        assert!((median - expected).abs() < 15.0, "{median} where the wave is at {expected}: {point}");
    }
    // Nothing has been measured: the history alone must not write.
    assert_eq!(target.writes(), []);
}

#[test]
fn sigterm_while_history_is_imported_ends_it_within_a_workload() {
    const WORKLOADS: usize = 50;
    let scratch = Scratch::new();
    let now = Clock::real().now().wall.unix_seconds() / 60 * 60;
    let mut text = "namespace,workload,unix_seconds,requests_per_second\n".to_owned();
    for workload in 0..WORKLOADS {
        for minute in (0..2 * 1440).rev() {
            writeln!(text, "shop,web-{workload},{},100", now - minute * 60).unwrap();
        }
    }
    let history = scratch.file("history.csv", &text);
    let mut aggregator = Command::new(binary("prescale-aggregator"))
        .args(["--target", "local=127.0.0.1:1", "--listen", "127.0.0.1:0", "--history", &history])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut imported = 0;
    for line in BufReader::new(aggregator.stderr.take().unwrap()).lines().map(Result::unwrap) {
        if !line.contains("imported the history of shop/web-") {
            continue;
        }
        if imported == 0 {
            let pid = i32::try_from(aggregator.id()).ok().and_then(Pid::from_raw).unwrap();
            kill_process(pid, Signal::TERM).unwrap();
        }
        imported += 1;
    }
    assert!(aggregator.wait().unwrap().success(), "a stop that was asked for is a success");
    assert!((1..WORKLOADS).contains(&imported), "{imported} of {WORKLOADS} workloads were imported");
}
