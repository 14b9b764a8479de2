//! Installing as a user does it, and what the installation says of itself.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::Run;
use super::app::{App, Load, arrivals, steady};
use super::kubectl::{Namespace, feed, kubectl, output, try_kubectl, wait};
use super::prescale::{self, NAMESPACE, helm};

/// `helm install`, the label that its notes ask for, and everything ready.
pub fn as_a_user(run: &Run) {
    if prescale::is_ours() {
        super::kubectl::roll_out("kube-system", "deployment/coredns");
    } else {
        prescale::none_is_there();
    }
    let begin = Instant::now();
    prescale::install();
    let label = "pod-security.kubernetes.io/enforce=privileged";
    kubectl(&["label", "namespace", NAMESPACE, label, "--overwrite"]);
    prescale::ready();
    prescale::pods_are_reachable();
    let leader = prescale::leader();
    run.say(&format!(
        "ready {:.1} s after `helm install`: {} agents, leader {leader}",
        begin.elapsed().as_secs_f64(),
        prescale::agents().len()
    ));
    let nodes = prescale::nodes();
    let reporting = wait("every node reports", 60, || {
        let view = prescale::overview()?;
        let reporting = view["nodes"].as_array().map_or(0, Vec::len);
        if reporting == nodes.len() { Ok(reporting) } else { Err(view.to_string()) }
    });
    run.say(&format!("{reporting} nodes report {:.1} s after it", begin.elapsed().as_secs_f64()));
}

/// Every command of NOTES.txt, in its order, until the first forecast shows.
pub fn the_notes_commands_work(run: &Run) {
    let namespace = Namespace::new("notes");
    App { replicas: 1, ..App::default() }.start(&namespace);
    let load = Load::start(&namespace, arrivals(&[steady(20.0, 240.0)], 1));
    let notes = helm(&["get", "notes", NAMESPACE, "--namespace", NAMESPACE]).expect("there is a release");
    let notes = notes.replace("\\\n", " ");
    let commands: Vec<String> =
        notes.lines().map(str::trim).filter(|line| line.starts_with("kubectl ")).map(in_ours).collect();
    // At least: two roll-outs, observe, port-forward, full.
    assert!(commands.len() >= 5, "NOTES.txt:\n{notes}");
    let page = notes.split("http://localhost:").nth(1).and_then(|rest| rest.split('/').next());
    let page = format!("http://localhost:{}", page.expect("NOTES.txt says where the page is"));
    let config = in_namespace(&namespace);
    let mut forwards = Vec::new();
    let observed = Instant::now();
    for command in &commands {
        let mut shell = Command::new("sh");
        shell.arg("-c").arg(format!("exec {command}")).env("KUBECONFIG", config.path());
        if command.contains("port-forward") {
            forwards.push(Forward(shell.stdout(Stdio::null()).spawn().expect("sh starts")));
            let forecast = first_forecast(&page, &namespace.0);
            run.say(&format!(
                "first forecast {:.1} s after opting in: {forecast}",
                observed.elapsed().as_secs_f64()
            ));
        } else {
            output(&mut shell).unwrap_or_else(|said| panic!("NOTES.txt: `{command}`: {said}"));
        }
    }
    assert!(!forwards.is_empty(), "NOTES.txt opens no way to the page:\n{notes}");
    run.say(&format!("{} commands of NOTES.txt work", commands.len()));
    load.stop();
}

fn in_ours(command: &str) -> String {
    command.replace(" NAME", " web")
}

/// A kubeconfig whose default namespace is the test's, as a user has one.
struct Config(std::path::PathBuf);

impl Config {
    fn path(&self) -> &std::path::Path {
        &self.0
    }
}

impl Drop for Config {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

fn in_namespace(namespace: &Namespace) -> Config {
    let whole = kubectl(&["config", "view", "--raw"]);
    let file = Config(std::env::temp_dir().join(format!("prescale-e2e-{}.kubeconfig", std::process::id())));
    fs::write(file.path(), whole).expect("the temporary directory takes files");
    let path = file.path().to_str().expect("its path is UTF-8");
    let set = format!("--namespace={}", namespace.0);
    kubectl(&["--kubeconfig", path, "config", "set-context", "--current", &set]);
    file
}

/// A port-forward, ended with its test.
struct Forward(Child);

impl Drop for Forward {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The first forecast of `namespace`'s `web`, as the port-forward's other end sees it.
fn first_forecast(page: &str, namespace: &str) -> String {
    let url = format!("{page}/api/v1/workloads/{namespace}/web");
    wait("the first forecast", 180, || {
        let mut curl = Command::new("curl");
        let text = output(curl.args(["--silent", "--show-error", "--fail", "--max-time", "5", &url]))?;
        let view: serde_json::Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
        let point = &view["forecast"]["max_over"][0];
        if point.is_null() {
            std::thread::sleep(Duration::from_millis(400));
            return Err(view["sentence"].to_string());
        }
        Ok(format!("at most {:.1} requests/s over {} s", point["quantiles"][4], point["horizon_seconds"]))
    })
}

/// The chart's objects, hooks among them, with everything that can be switched on and is known to this server, are taken by
/// the API server.
pub fn the_server_takes_every_object(run: &Run) {
    let namespace = Namespace::new("dry-run");
    let chart = prescale::chart();
    let chart = chart.to_str().expect("the tree's path is UTF-8");
    let write = format!("rbac.writeNamespaces={{{},default}}", namespace.0);
    let settings = [
        ("with a NetworkPolicy", "networkPolicy.enabled=true"),
        ("with volumes", "persistence.enabled=true,persistence.storageClass=any"),
        ("without TLS", "tls.enabled=false"),
        ("with a word for the page", "aggregator.page.access=token,aggregator.page.tokenSecret=word"),
        ("writing in two namespaces only", write.as_str()),
    ];
    let all = settings.map(|(_, set)| set).join(",");
    let render = |set: &str| {
        let mut arguments = vec!["template", "dry", chart, "--namespace", &namespace.0];
        if !set.is_empty() {
            arguments.extend(["--set", set]);
        }
        helm(&arguments).unwrap_or_else(|said| panic!("helm template: {said}"))
    };
    // A pod needs its account, which a dry run does not make.
    let rendered = render("");
    let accounts: Vec<&str> =
        rendered.split("\n---").filter(|it| it.contains("\nkind: ServiceAccount\n")).collect();
    assert!(accounts.len() > 1, "{rendered}");
    feed(&["apply"], &accounts.join("\n---"));
    for (what, set) in
        [("as it is", "")].into_iter().chain(settings).chain([("with all of that", all.as_str())])
    {
        let rendered = render(set);
        assert!(
            rendered.contains("helm.sh/hook: pre-delete") && rendered.contains("helm.sh/hook: test"),
            "{set}"
        );
        // Each object names its namespace, and not all the same.
        feed(&["apply", "--dry-run=server"], &rendered);
        run.say(&format!("{what}: {} objects", rendered.matches("\nkind: ").count()));
    }
}

/// `helm test`: every aggregator is ready and hears from agents.
pub fn helm_test(run: &Run) {
    let begin = Instant::now();
    let said = helm(&["test", NAMESPACE, "--namespace", NAMESPACE, "--logs"]);
    let said = said.unwrap_or_else(|said| panic!("helm test: {said}"));
    assert!(said.contains("Succeeded"), "{said}");
    run.say(&format!("succeeded after {:.1} s", begin.elapsed().as_secs_f64()));
}

/// Nothing that the installation called was forbidden, in everything that the other tests made it do.
pub fn permissions_suffice(run: &Run) {
    let names =
        kubectl(&["get", "pods", "--namespace", NAMESPACE, "-o", "jsonpath={.items[*].metadata.name}"]);
    let mut lines = 0;
    for pod in names.split_whitespace() {
        for previous in ["--previous=false", "--previous=true"] {
            // A pod that never restarted has no previous log.
            let log = try_kubectl(&["logs", pod, "--namespace", NAMESPACE, previous]).unwrap_or_default();
            // A namespace that goes with its test takes nothing new: said by the same code, and no matter of permissions.
            let forbidden = |line: &&str| {
                (line.contains("orbidden") || line.contains(" 403")) && !line.contains("being terminated")
            };
            let bad: Vec<&str> = log.lines().filter(forbidden).collect();
            assert!(bad.is_empty(), "{pod}: {}", bad.join("\n"));
            lines += log.lines().count();
        }
    }
    run.say(&format!("nothing forbidden in {lines} lines of logs"));
}
