//! The agent without each of its capabilities in turn: it says which one it lacks, and does nothing else.

use serde_json::{Value, json};

use super::Run;
use super::kubectl::{feed, kubectl, try_kubectl, wait};
use super::prescale::{NAMESPACE, nodes};

const ALL: [&str; 3] = ["BPF", "NET_ADMIN", "PERFMON"];

/// A pod as the chart's agents are, in their namespace, gone with its test.
struct Pod(String);

impl Drop for Pod {
    fn drop(&mut self) {
        let _ =
            try_kubectl(&["delete", "pod", &self.0, "--namespace", NAMESPACE, "--grace-period=0", "--force"]);
    }
}

/// Three agents, each of them without one.
pub fn removed_in_turn(run: &Run) {
    let set = kubectl(&["get", "daemonset", "prescale-agent", "--namespace", NAMESPACE, "-o", "json"]);
    let set: Value = serde_json::from_str(&set).expect("kubectl writes JSON");
    let pods = ALL.map(|without| start(&set["spec"]["template"]["spec"], without));
    for (without, pod) in ALL.into_iter().zip(&pods) {
        let wanted = format!("may not load eBPF programs: run as root, or give this process CAP_{without}");
        let log = wait(&format!("an agent without {without} says so"), 60, || {
            let log = try_kubectl(&["logs", &pod.0, "--namespace", NAMESPACE])?;
            if log.contains(&wanted) { Ok(log) } else { Err(log) }
        });
        let line = log.lines().find(|line| line.contains(&wanted)).unwrap_or_default();
        run.say(&format!("without {without}: {line}"));
        assert!(line.trim_end().ends_with(&wanted), "it names more than what it lacks: {line}");
        let ended = wait("its container ends with an error", 30, || {
            let path = "jsonpath={.status.containerStatuses[0].state.terminated.exitCode}";
            let code = try_kubectl(&["get", "pod", &pod.0, "--namespace", NAMESPACE, "-o", path])?;
            if code.is_empty() { Err("it runs".to_owned()) } else { Ok(code) }
        });
        assert_eq!(ended, "1", "the exit code");
    }
}

fn start(template: &Value, without: &str) -> Pod {
    let name = format!("without-{}", without.to_lowercase().replace('_', "-"));
    let mut spec = template.clone();
    let kept: Vec<&str> = ALL.into_iter().filter(|it| *it != without).collect();
    spec["containers"][0]["securityContext"]["capabilities"]["add"] = json!(kept);
    spec["restartPolicy"] = json!("Never");
    spec["nodeName"] = json!(nodes()[0]);
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec});
    let pod_name = Pod(name);
    feed(&["apply", "--namespace", NAMESPACE], &pod.to_string());
    pod_name
}
