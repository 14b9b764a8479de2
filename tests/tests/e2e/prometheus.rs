//! A real Prometheus scrapes every agent and aggregator, and every query of the dashboard returns series.

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::Run;
use super::app::{App, Load, Scale, arrivals, steady};
use super::kubectl::{Namespace, kubectl, output, try_kubectl, wait};
use super::prescale::{NAMESPACE, chart, encrypted};

/// Whom it scrapes: pods with this name, on this port.
const JOBS: [(&str, u16); 2] = [("prescale-agent", 9464), ("prescale-aggregator", 8080)];

/// The server, its files, and its end.
struct Prometheus {
    child: Child,
    directory: PathBuf,
    port: u16,
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

impl Prometheus {
    fn start() -> Self {
        let directory = std::env::temp_dir().join(format!("prescale-prometheus-{}", std::process::id()));
        std::fs::create_dir_all(&directory).expect("the temporary directory takes files");
        // As the chart's ServiceMonitor says: pods are called by address, and the certificate is for the Service's name.
        let tls = if encrypted() {
            let path = r"jsonpath={.data.ca\.crt}";
            let authority =
                kubectl(&["get", "configmap", "prescale-ca", "--namespace", NAMESPACE, "-o", path]);
            let file = directory.join("ca.crt");
            std::fs::write(&file, authority).expect("the temporary directory takes files");
            let name = format!("prescale-aggregator.{NAMESPACE}.svc");
            format!(", scheme: https, tls_config: {{ca_file: {}, server_name: {name}}}", file.display())
        } else {
            String::new()
        };
        // Debian's has no kubernetes_sd_configs: we write down which pods there are, again and again.
        let job = |name: &str, tls: &str| {
            let file = directory.join(name).with_extension("json");
            let found = format!("file_sd_configs: [{{files: [{}]}}]", file.display());
            format!("- {{job_name: {name}, honor_labels: true, {found}{tls}}}\n")
        };
        let jobs = [job(JOBS[0].0, ""), job(JOBS[1].0, &tls)].concat();
        let config = format!("global: {{scrape_interval: 1s}}\nscrape_configs:\n{jobs}");
        let file = directory.join("prometheus.yml");
        std::fs::write(&file, config).expect("the temporary directory takes files");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let port = listener.local_addr().expect("it is bound").port();
        drop(listener);
        let mut command = Command::new("prometheus");
        command.arg(format!("--config.file={}", file.display()));
        command.arg(format!("--storage.tsdb.path={}", directory.join("data").display()));
        command.arg(format!("--web.listen-address=127.0.0.1:{port}")).arg("--log.level=warn");
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        Self { child: child.expect("prometheus is installed: `cargo xtask e2e`"), directory, port }
    }

    /// Names it the pods that there are now. Returns how many; the reason while the API server does not say.
    fn find(&self) -> Result<usize, String> {
        let mut all = 0;
        for (name, port) in JOBS {
            let targets = addresses(name, port)?;
            all += targets.len();
            // Moved into place: it reads the file whenever it changes.
            let (aside, file) =
                (self.directory.join("aside"), self.directory.join(name).with_extension("json"));
            std::fs::write(&aside, format!("[{{\"targets\": {targets:?}}}]"))
                .expect("the directory takes files");
            std::fs::rename(&aside, &file).expect("the directory takes files");
        }
        Ok(all)
    }

    /// The series that a query returns.
    fn query(&self, query: &str) -> Result<Vec<Value>, String> {
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--show-error", "--max-time", "5", "--data-urlencode"]);
        curl.arg(format!("query={query}")).arg(format!("http://127.0.0.1:{}/api/v1/query", self.port));
        let text = output(&mut curl)?;
        let answer: Value = serde_json::from_str(&text).map_err(|error| format!("{error}: {text}"))?;
        answer["data"]["result"].as_array().cloned().ok_or(text)
    }
}

/// Every target up, and every query of the dashboard answered, for a workload of which all happens that the panels show:
/// requests, a decision, a forecast, a plan that a pause holds back. One beside it is only observed and has no capacity
/// stated: that is what the overview counts.
pub fn scrapes_everything(run: &Run) {
    let others = Namespace::new("prometheus-observed");
    App { annotations: vec![("mode", "observe".to_owned())], ..App::default() }.start(&others);
    let namespace = Namespace::new("prometheus");
    let annotations = [("mode", "full"), ("max-replicas", "4"), ("rps-per-pod", "50"), ("slo", "p99<200ms")]
        .map(|(name, value)| (name, value.to_owned()));
    // Its share of the cores outlives the tests beside it that take both: minutes of saturated pods settle no forecast.
    App { cpu: "200m", annotations: annotations.into(), ..App::default() }.start(&namespace);
    let scale = Scale::watch(&namespace);
    let load = Load::start(&namespace, arrivals(&[steady(80.0, 720.0)], 9));
    scale.change_after(load.began, 60);
    namespace.annotate("web", &["paused=true"]);
    let prometheus = Prometheus::start();
    let targets = prometheus.find().expect("the API server answers");
    wait("every target is up", 60, || {
        let up = prometheus.query("up == 1")?;
        if up.len() == targets { Ok(()) } else { Err(format!("{} of {targets}: {up:?}", up.len())) }
    });
    let begin = Instant::now();
    let mut open = queries(&prometheus, &namespace.0);
    let all = open.len();
    assert!(all > 0, "the dashboard has no query");
    let (mut series, mut last) = (0, String::new());
    // The first forecast of minutes comes when a minute is full; that of five minutes is judged by what came five later.
    wait("series for every query", 600, || {
        std::thread::sleep(Duration::from_secs(2));
        // Other tests end pods meanwhile, and the API server for half a minute.
        let unknown = prometheus.find().err();
        let mut empty = Vec::new();
        for query in open.drain(..) {
            match prometheus.query(&query) {
                Ok(found) if !found.is_empty() => {
                    series += found.len();
                    last = format!("{:.0} s after the first scrape: {query}", begin.elapsed().as_secs_f64());
                }
                _ => empty.push(query),
            }
        }
        open = empty;
        if open.is_empty() {
            return Ok(());
        }
        Err(format!("none for {}; the last {last}; {}", open.join("\n"), unknown.unwrap_or_default()))
    });
    load.stop();
    let known = prometheus.query(r#"count({__name__=~"prescale_.+"})"#).expect("it answers");
    run.say(&format!(
        "{targets} targets up, {} series; {all} queries of the dashboard return {series}, the last {last}",
        known[0]["value"][1].as_str().unwrap_or("no")
    ));
}

fn addresses(name: &str, port: u16) -> Result<Vec<String>, String> {
    let selector = format!("app.kubernetes.io/name={name}");
    let path = "jsonpath={.items[*].status.podIP}";
    let get = ["get", "pods", "--namespace", NAMESPACE, "-l", &selector, "--request-timeout=5s", "-o", path];
    Ok(try_kubectl(&get)?.split_whitespace().map(|ip| format!("{ip}:{port}")).collect())
}

/// Every `expr` of the chart's dashboard, its variables filled in as Grafana would for one who looks at `web` in
/// `namespace`. Where it shows a forecast beside what came of it five minutes later, a quarter of a minute must do.
fn queries(prometheus: &Prometheus, namespace: &str) -> Vec<String> {
    let text =
        std::fs::read_to_string(chart().join("dashboards/prescale.json")).expect("the chart has a dashboard");
    let dashboard: Value = serde_json::from_str(&text).expect("a dashboard is JSON");
    let (mut open, mut found) = (vec![&dashboard], Vec::new());
    while let Some(value) = open.pop() {
        match value {
            Value::Array(values) => open.extend(values),
            Value::Object(fields) => {
                found.extend(fields.get("expr").and_then(Value::as_str).map(str::to_owned));
                open.extend(fields.values());
            }
            _ => {}
        }
    }
    found.sort();
    found.dedup();
    let slow_above = first_bound(prometheus, namespace);
    let variables = [
        ("$__rate_interval", "15s"),
        ("$namespace", namespace),
        ("$workload", "web"),
        ("$slow_above", slow_above.as_str()),
        (" offset 5m", " offset 15s"),
    ];
    for query in &mut found {
        for (variable, value) in variables {
            *query = query.replace(variable, value);
        }
        assert!(!query.contains('$'), "a variable that this test does not fill in: {query}");
    }
    found
}

/// The first choice of the dashboard's variable `slow_above`: the smallest bound of the latencies' histogram.
fn first_bound(prometheus: &Prometheus, namespace: &str) -> String {
    let name = "prescale_http_server_request_duration_seconds_bucket";
    let query = format!("{name}{{namespace=\"{namespace}\",workload=\"web\"}}");
    wait("a histogram of latencies", 60, || {
        let found = prometheus.query(&query)?;
        let bounds = found.iter().filter_map(|series| series["metric"]["le"].as_str());
        let value = |bound: &&str| bound.parse::<f64>().unwrap_or(f64::INFINITY);
        let first = bounds.min_by(|a, b| value(a).total_cmp(&value(b)));
        first.map(str::to_owned).ok_or_else(|| "no series of it".to_owned())
    })
}
