//! The sample application, as its README says: applied, put under load, scaled, removed.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::Run;
use super::kubectl::{Watch, feed, kubectl, output, roll_out, wait};
use super::prescale::image_prefix;

/// What `deploy/sample` makes, and the README's port of each part.
const NAMESPACE: &str = "prescale-sample";
const PORT: u16 = 8080;

/// Its manifests; removed when dropped.
struct Sample(String);

impl Sample {
    fn apply() -> Self {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/sample");
        let directory = directory.to_str().expect("the tree's path is UTF-8");
        let manifest = kubectl(&["kustomize", directory])
            .replace("prescale.dev/sample", &format!("{}sample", image_prefix()));
        feed(&["apply"], &manifest);
        Self(manifest)
    }
}

impl Drop for Sample {
    fn drop(&mut self) {
        feed(&["delete", "--wait=false"], &self.0);
    }
}

/// From 10 to 36 requests/s in half a minute, at 30 a pod: the API grows, and the users' requests are answered. 50 fill a pod;
/// with 45 some failed, rightly, on a machine whose cores were busy with something else.
pub fn grows_under_its_load(run: &Run) {
    let _sample = Sample::apply();
    for part in ["api", "frontend", "load"] {
        roll_out(NAMESPACE, &format!("deployment/{part}"));
    }
    let watch = Watch::start(&["deployment", "api", "--namespace", NAMESPACE], "{.spec.replicas}");
    wait("a first look at the API", 30, || watch.lines().first().map(drop).ok_or(String::new()));
    let begin = Instant::now();
    let started = call("POST", "/start?rate=10&to=36&over=30s&for=5m");
    assert_eq!(started["running"], true, "{started}");
    let (at, replicas) = wait("a change of the API's replicas", 60, || {
        let grown =
            |(at, line): (Instant, String)| Some((at, line.trim().parse::<u32>().ok().filter(|it| *it > 1)?));
        watch.lines().into_iter().find_map(grown).ok_or_else(|| call("GET", "/status").to_string())
    });
    run.say(&format!(
        "the API grows from 1 to {replicas} pods {:.1} s after the load began",
        (at - begin).as_secs_f64()
    ));
    // The new pod serves ten seconds after its start.
    std::thread::sleep(Duration::from_secs(15));
    let status = call("POST", "/stop");
    run.say(&format!(
        "{} requests sent, {} failed, {} left; the users' p99 {} s",
        status["sent"], status["failed"], status["not_sent_too_many_in_flight"], status["p99_seconds"]
    ));
    assert!(status["sent"].as_u64().is_some_and(|sent| sent > 300), "{status}");
    assert_eq!((&status["failed"], &status["running"]), (&0.into(), &false.into()), "{status}");
}

/// What the load generator's control answers.
fn call(method: &str, path: &str) -> Value {
    let ip = kubectl(&[
        "get",
        "pods",
        "--namespace",
        NAMESPACE,
        "-l",
        "app=load",
        "-o",
        "jsonpath={.items[0].status.podIP}",
    ]);
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--show-error", "--fail-with-body", "--max-time", "5", "-X", method]);
    let text =
        output(curl.arg(format!("http://{ip}:{PORT}{path}"))).unwrap_or_else(|said| panic!("{path}: {said}"));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{path}: {error}: {text}"))
}
