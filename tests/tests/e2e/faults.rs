//! What breaks, and what may come of it: nothing shrinks, no client notices, two never write.

use std::time::{Duration, Instant};

use prescale_tests::cluster::layout::Place;
use prescale_tests::cluster::running;
use rustix::process::{Pid, Signal, kill_process};

use super::Run;
use super::app::{App, Load, Scale, arrivals, steady};
use super::floor::{self, HPA};
use super::kubectl::{Namespace, Watch, kubectl, sleep_until, wait};
use super::prescale::{
    self, NAMESPACE, agent_metrics, agent_on, all_measured, counted, leader, nodes, process, workload,
};
use super::state::{Known, Remembered};

/// From the leader's end to the next write.
const TAKE_OVER: f64 = 10.0;
const AWAY: Duration = Duration::from_secs(30);
/// Longer than a Lease lives and a standby waits, shorter than the kubelet's patience with a liveness probe.
const STOPPED: Duration = Duration::from_secs(15);

fn signal(pid: i32, signal: Signal) {
    let pid = Pid::from_raw(pid).expect("a process has a number");
    kill_process(pid, signal).expect("the process was there a moment ago");
}

fn full(rps_per_pod: &str, replicas: u32, node: Option<String>) -> App {
    let annotations = [("mode", "full"), ("max-replicas", "20"), ("rps-per-pod", rps_per_pod)]
        .map(|(name, value)| (name, value.to_owned()));
    App { replicas, node, annotations: annotations.into(), ..App::default() }
}

/// The agent's process killed, then its pod deleted: replicas stay, counting comes back, no client notices.
pub fn agent_killed(run: &Run) {
    let node = nodes().pop().expect("a cluster has a node");
    let namespace = Namespace::new("agent-killed");
    full("100", 2, Some(node.clone())).start(&namespace);
    let scale = Scale::watch(&namespace);
    let load = Load::start(&namespace, arrivals(&[steady(100.0, 300.0)], 5));
    all_measured(&namespace.0);
    let name = "prescale_http_server_requests_finished_total";
    for how in ["kill -9", "pod deleted"] {
        let agent = agent_on(&node);
        let before = Instant::now();
        if how == "kill -9" {
            signal(process(&agent, "prescale-agent"), Signal::KILL);
        } else {
            kubectl(&["delete", "pod", &agent, "--namespace", NAMESPACE, "--wait=true"]);
        }
        // A new agent counts from 0: a second's worth of requests says that it counts.
        wait("counting resumes", 60, || {
            let page = agent_metrics(&agent_on(&node))?;
            let (all, age) = (counted(&page, name, &namespace.0), before.elapsed().as_secs_f64());
            let fresh = all.is_some_and(|it| it > 0.0 && it < 100.0 * age);
            if fresh { Ok(()) } else { Err(format!("{all:?} after {age:.1} s")) }
        });
        run.say(&format!("{how}: counts again {:.1} s later", before.elapsed().as_secs_f64()));
        all_measured(&namespace.0);
    }
    let totals = load.stop();
    let lost = totals.aborted + totals.unsent;
    run.say(&format!("{} requests meanwhile, {lost} lost; replicas {:?}", totals.arrivals, numbers(&scale)));
    assert_eq!(lost, 0, "{totals:?}");
    assert!(numbers(&scale).is_sorted(), "it shrank while it could not see: {:?}", numbers(&scale));
}

fn numbers(scale: &Scale) -> Vec<u32> {
    scale.changes().iter().map(|(_, replicas)| *replicas).collect()
}

/// Leaders that end at once, and that stop and go on: the next write comes within ten seconds, from the next
/// leader, and never again from the last; and it goes on from what the last one knew ten seconds before its end. A floor that
/// stands meanwhile keeps its original, and the last leader gives it back.
pub fn leader_killed(run: &Run) {
    // A standby that has just begun has heard nothing of the past: what it knows of it, it has from the leader.
    let leader = prescale::leader();
    for pod in ["prescale-aggregator-0", "prescale-aggregator-1"].into_iter().filter(|pod| *pod != leader) {
        kubectl(&["delete", "pod", pod, "--namespace", NAMESPACE, "--wait=true"]);
    }
    prescale::ready();
    let floored = floor::workload("leader-floor", &floor::hpa(2, 6));
    // Three pods' worth, for longer than all of this takes.
    let load = Load::start(&floored, arrivals(&[steady(120.0, 1800.0)], 9));
    HPA.raised(run, &floored, 60);
    let remembered = Remembered::take();
    remembered.known();
    // The second is the hardest: two are alive that both have held the Lease.
    let ways = ["kill -9", "stopped, then continued"];
    for (index, how) in ways.into_iter().take(run.times(ways.len())).enumerate() {
        // What the next one knows is asked where nothing could be saved any more; for that the minute must suit.
        let remembered = (how == "kill -9").then_some(&remembered);
        leader_gone(run, how, &format!("leader-{index}"), remembered);
        HPA.stands(&floored);
    }
    load.stop();
    floored.annotate("web", &["mode-"]);
    HPA.given_back(run, &floored, "opting out, by another leader than raised it");
}

fn leader_gone(run: &Run, how: &str, name: &str, remembered: Option<&Remembered>) {
    const CALM: f64 = 15.0;
    const RISE: f64 = 20.0;
    let namespace = Namespace::new(name);
    full("50", 1, None).start(&namespace);
    let scale = Scale::watch(&namespace);
    let lease =
        Watch::start(&["lease", "prescale-aggregator", "--namespace", NAMESPACE], "{.spec.holderIdentity}");
    if let Some(remembered) = remembered {
        remembered.minute(CALM + RISE);
    }
    // The leader writes at the first rise: what it wrote must be no stranger's to the next. The second begins when it is gone,
    // the third when a stopped one has gone on: then both would write, if both might. Each rise is to more than twice
    // the load: a burst is planned for up to that, so a smaller one may find its pods there already.
    let first = Load::start(&namespace, arrivals(&[steady(20.0, CALM), steady(60.0, 120.0)], 6));
    let rise = |rate: f64, seed: u64| Load::start(&namespace, arrivals(&[steady(rate, 90.0)], seed));
    all_measured(&namespace.0);
    let leader = prescale::leader();
    let pid = process(&leader, "prescale-aggregator");
    scale.change_after(first.began, 60);
    sleep_until(first.began + Duration::from_secs_f64(CALM + RISE));
    let names = remembered.map_or(vec![], |remembered| vec![namespace.0.as_str(), remembered.namespace()]);
    let before: Vec<Known> = names.iter().map(|name| Known::of(name).expect("the leader answers")).collect();
    let gone = Instant::now();
    if how == "kill -9" {
        signal(pid, Signal::KILL);
    } else {
        signal(pid, Signal::STOP);
        std::thread::spawn(move || {
            std::thread::sleep(STOPPED);
            signal(pid, Signal::CONT);
        });
    }
    let second = rise(140.0, 7);
    let (next, replicas) = scale.change_after(gone, 60);
    let took = next.duration_since(gone).as_secs_f64();
    for (name, before) in names.into_iter().zip(&before) {
        run.say(&format!("{how}: of {name} the next leader knows {}", before.goes_on(name)));
    }
    sleep_until(gone + Duration::from_secs_f64(RISE));
    let third = rise(300.0, 8);
    let (again, more) = scale.change_after(third.began, 60);
    let later = again.duration_since(third.began).as_secs_f64();
    for load in [first, second, third] {
        load.stop();
    }
    let holders = holders(&lease);
    let writers = writers(&namespace);
    run.say(&format!(
        "{how}: {replicas} replicas {took:.2} s later, then {more} {later:.2} s after the next rise; Lease {holders:?}"
    ));
    assert!(took < TAKE_OVER, "writes must resume within {TAKE_OVER} s");
    assert!(writers.len() > 1, "only {writers:?} wrote");
    // Whoever wrote held the Lease, in this order: one that has lost it and writes all the same stands out.
    let mut turns = holders.iter();
    let held = writers.iter().all(|writer| turns.any(|holder| holder == writer));
    assert!(held, "{writers:?} wrote, Lease {holders:?}");
    prescale::ready();
}

/// Who held the Lease, in order.
fn holders(lease: &Watch) -> Vec<String> {
    let mut holders: Vec<String> = lease.lines().into_iter().map(|(_, line)| line).collect();
    holders.dedup();
    holders
}

/// Who wrote a namespace's Events `Scaled`: each once for as long as nobody else did.
fn writers(namespace: &Namespace) -> Vec<String> {
    let path =
        r#"jsonpath={range .items[?(@.reason=="Scaled")]}{.eventTime} {.reportingInstance}{"\n"}{end}"#;
    let mut lines: Vec<String> =
        namespace.kubectl(&["get", "events", "-o", path]).lines().map(str::to_owned).collect();
    lines.sort();
    let mut writers: Vec<String> =
        lines.iter().filter_map(|line| line.split_once(' ')).map(|(_, who)| who.to_owned()).collect();
    writers.dedup();
    writers
}

/// The API server stands still for 30 s: nothing is written, every request is counted all the same, and then it goes on.
pub fn api_server_away(run: &Run) {
    const BEFORE: f64 = 10.0;
    let namespace = Namespace::new("api-away");
    full("50", 3, None).start(&namespace);
    let scale = Scale::watch(&namespace);
    let counting = BEFORE + AWAY.as_secs_f64() + 10.0;
    let parts = [steady(80.0, counting), steady(220.0, 60.0)];
    let load = Load::start(&namespace, arrivals(&parts, 7));
    all_measured(&namespace.0);
    let before = starts(&namespace).expect("it is measured");
    let led = leader();
    let generation = namespace.field("deployment/web", ".metadata.generation");
    let sent = load.totals().sent;
    let api = api_server();
    let stopped = Instant::now();
    signal(api, Signal::STOP);
    // Whatever happens here, it goes on: nothing else would ever end it.
    std::thread::sleep(AWAY);
    signal(api, Signal::CONT);
    let after = wait("the API server answers", 30, || {
        namespace_field(&namespace, ".metadata.generation").filter(|it| !it.is_empty()).ok_or(String::new())
    });
    assert_eq!(after, generation, "written meanwhile");
    // Whoever takes the Lease first leads on. Another one goes on from state of ten seconds ago, and agents report on.
    let uncounted = |led_on: bool| if led_on { 40 } else { 40 + 10 * 220 };
    let more = wait("the requests meanwhile counted", 30, || {
        let counted = starts(&namespace)?.saturating_sub(before);
        let since = load.totals().sent - sent;
        if counted >= since.saturating_sub(uncounted(leader() == led)) {
            Ok((counted, since))
        } else {
            Err(format!("{counted} of {since}"))
        }
    });
    run.say(&format!(
        "stopped for {:.1} s: replicas as they were, {} of {} requests counted",
        stopped.elapsed().as_secs_f64(),
        more.0,
        more.1
    ));
    let step = load.began + Duration::from_secs_f64(counting);
    // The watch may have broken; a new one begins with what is there.
    drop(scale);
    let scale = Scale::watch(&namespace);
    let (at, replicas) = scale.change_after(step, 60);
    let totals = load.stop();
    run.say(&format!(
        "then 3 to {replicas} replicas {:.2} s after a step",
        at.duration_since(step).as_secs_f64()
    ));
    assert!(replicas > 3 && totals.aborted + totals.unsent == 0, "{totals:?}");
}

fn namespace_field(namespace: &Namespace, path: &str) -> Option<String> {
    let path = format!("jsonpath={{{path}}}");
    let get = ["get", "deployment/web", "--namespace", &namespace.0, "--request-timeout=5s", "-o", &path];
    super::kubectl::try_kubectl(&get).ok()
}

/// Requests that the aggregator has counted.
fn starts(namespace: &Namespace) -> Result<u64, String> {
    let view = workload(&namespace.0, "web")?;
    view["totals"]["starts"].as_u64().ok_or_else(|| view["totals"].to_string())
}

/// The API server of our own cluster, found from the cluster's record; never another one.
fn api_server() -> i32 {
    let name = std::env::var("PRESCALE_E2E_CLUSTER").expect("`cargo xtask e2e` says which cluster");
    let (_, record) = running(&Place::new(&name).expect("a name")).expect("the cluster is up");
    let first = record.nodes[0].first.expect("a running node has a process").pid();
    let children = std::fs::read_to_string(format!("/proc/{first}/task/{first}/children")).expect("it runs");
    let mut pids = children.split_whitespace().filter_map(|pid| pid.parse::<i32>().ok());
    let is_it = |pid: &i32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.split(|byte| *byte == 0).next().is_some_and(|name| name.ends_with(b"/kube-apiserver"))
    };
    pids.find(is_it).expect("the first node's process has started the API server")
}
