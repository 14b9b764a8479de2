//! The real agent on real cgroups, a real server and a real kernel: what reaches the aggregator is what was sent.
//!
//! Needs root, cgroup2, nginx and the object of `cargo xtask build-ebpf`.
#![allow(clippy::unwrap_used)]

#[path = "agent_support/aggregator.rs"]
mod aggregator;
#[path = "agent_support/world.rs"]
mod world;

use std::time::{Duration, Instant};

use aggregator::{Aggregator, free_address};
use prescale_core::counters::{Counters, StatusClass, Unaccounted};
use prescale_core::wire::{NodeReport, NotMeasurable, PodReport, PodState};
use world::{Agent, Connection, Load, Node, Pod};

fn of<'a>(report: &'a NodeReport, pod: &str) -> Option<&'a PodReport> {
    report.pods.iter().find(|it| it.uid == pod)
}

/// The last word on a pod that is gone; the same uid may be waited for again beside it.
fn last_of<'a>(report: &'a NodeReport, pod: &str) -> Option<&'a PodReport> {
    report.pods.iter().find(|it| it.uid == pod && it.last)
}

fn counters<'a>(report: &'a NodeReport, pod: &str) -> Option<&'a Counters> {
    of(report, pod)?.counters.as_ref()
}

fn is_measured(report: &NodeReport, pod: &str) -> bool {
    of(report, pod).is_some_and(|it| it.state == PodState::Measured && it.counters.is_some())
}

/// An aggregator and an agent that measures `pod`.
async fn measuring(node: &Node, pod: &Pod) -> (Aggregator, Agent) {
    let aggregator = Aggregator::start().await;
    aggregator.watch(vec![pod.watched()]);
    let agent = Agent::start(node, aggregator.address);
    aggregator.report("of the attached pod", |report| is_measured(report, &pod.uid)).await;
    (aggregator, agent)
}

/// `requests` requests over `connections` connections, one after the other.
fn send(pod: &Pod, requests: u64, connections: usize) {
    let mut connections: Vec<_> = (0..connections).map(|_| Connection::open(pod.address)).collect();
    for request in 0..requests {
        let count = connections.len() as u64;
        assert_eq!(connections[(request % count) as usize].get("/"), Ok(200));
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root and cgroup2"]
async fn every_request_reaches_the_report_and_the_metrics() {
    let node = Node::new();
    let pod = node.pod();
    let (aggregator, agent) = measuring(&node, &pod).await;
    send(&pod, 3000, 7);
    let mut connection = Connection::open(pod.address);
    for _ in 0..50 {
        assert_eq!(connection.get("/missing"), Ok(404));
    }
    let all = |report: &NodeReport| counters(report, &pod.uid).is_some_and(|it| it.finished() >= 3050);
    let report = aggregator.report("of all requests", all).await;
    let it = counters(&report, &pod.uid).unwrap();
    assert_eq!((it.starts, it.aborts, it.in_flight()), (3050, 0, 0));
    assert_eq!(it.finishes[StatusClass::Success as usize], 3000);
    assert_eq!(it.finishes[StatusClass::ClientError as usize], 50);
    assert_eq!(it.unaccounted.iter().sum::<u64>(), 0, "{:?}", it.unaccounted);
    assert_eq!(it.first_byte.count(), 3050);
    let (found, missing) = ("GET / HTTP/1.1\r\nhost: a\r\n\r\n".len(), "/missing".len() - "/".len());
    assert_eq!(it.bytes_received, (3050 * found + 50 * missing) as u64);
    assert!(it.in_flight_integral_ns > 0 && it.bytes_sent > 3050 * 100);
    assert!(of(&report, &pod.uid).unwrap().resources.cpu_ns > 0);
    assert_eq!((report.agent.attached, report.agent.attach_failures), (1, 0));
    assert!(report.agent.cpu_ns > 0 && report.agent.memory_bytes > 0);

    let (status, metrics) = agent.get("/metrics");
    assert_eq!(status, 200);
    let name = pod.watched().name;
    let labels = format!("namespace=\"demo\",workload=\"web\",pod=\"{name}\"");
    for line in [
        format!("prescale_http_server_requests_started_total{{{labels}}} 3050"),
        format!("prescale_http_server_request_duration_seconds_count{{{labels},status_class=\"2xx\"}} 3000"),
        format!("prescale_http_server_request_duration_seconds_count{{{labels},status_class=\"4xx\"}} 50"),
        format!("prescale_http_server_time_to_first_byte_seconds_bucket{{le=\"+Inf\",{labels}}} 3050"),
        "prescale_agent_pods{state=\"measured\"} 1.0".to_owned(),
        "prescale_agent_attaches_total 1".to_owned(),
        "prescale_agent_refused_samples_total 0".to_owned(),
    ] {
        assert!(metrics.lines().any(|it| it == line), "no line `{line}` in\n{metrics}");
    }
    assert!(metrics.ends_with("# EOF\n"));
    assert_eq!(agent.get("/readyz"), (200, "ok\n".to_owned()));
    assert_eq!(agent.get("/healthz").0, 200);
    assert_eq!(agent.get("/other").0, 404);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root and cgroup2"]
async fn kill_9_under_load_harms_no_client_and_a_restart_counts_at_once() {
    let node = Node::new();
    let pod = node.pod();
    let (aggregator, agent) = measuring(&node, &pod).await;
    let load = Load::start(pod.address, 4);
    load.wait_for(1000);
    let objects = agent.kernel_objects();
    agent.kill();
    objects.wait_until_gone();
    load.wait_for(1000);

    let before = load.answered();
    let started = aggregator.reports().last().unwrap().agent_start;
    let agent = Agent::start(&node, aggregator.address);
    let fresh = |report: &NodeReport| report.agent_start > started && is_measured(report, &pod.uid);
    aggregator.report("of the restarted agent", fresh).await;
    let attached = load.answered();
    load.wait_for(2000);
    // `stop` fails if any client saw an error, from the first agent's start to the second one's work.
    let (answered, mut connections) = load.stop();

    // The connections are older than the attach; from now on every request on them counts exactly.
    let seen = aggregator.reports().last().unwrap().sequence;
    let all = |report: &NodeReport| {
        fresh(report)
            && report.sequence > seen
            && counters(report, &pod.uid).is_some_and(|it| it.in_flight() == 0)
    };
    let quiet = wait_for_rest(&aggregator, all).await;
    let counted = counters(&quiet, &pod.uid).unwrap().clone();
    // Four requests were under way at most when the second agent attached, and when the load was looked at.
    assert!(counted.starts + 4 >= answered - attached, "{} of {}", counted.starts, answered - attached);
    assert!(counted.starts <= answered - before + 4, "{} of {}", counted.starts, answered - before);
    for request in 0..1000 {
        assert_eq!(connections[request % 4].get("/"), Ok(200));
    }
    let goal = counted.starts + 1000;
    let done =
        |report: &NodeReport| counters(report, &pod.uid).is_some_and(|it| it.finished() + it.aborts >= goal);
    let report = aggregator.report("of the last thousand", done).await;
    let it = counters(&report, &pod.uid).unwrap();
    assert_eq!((it.starts, it.finished()), (goal, counted.finished() + 1000), "{:?}", it.unaccounted);
    assert!(it.unaccounted[Unaccounted::MidStream as usize] <= 4, "{:?}", it.unaccounted);
    drop(agent);
}

/// A report that `fits` and says the same as the one before it: nothing is under way any more.
async fn wait_for_rest(aggregator: &Aggregator, fits: impl Fn(&NodeReport) -> bool) -> NodeReport {
    let mut last = aggregator.report("that fits", &fits).await;
    loop {
        let next = aggregator.report("that is newer", |it| fits(it) && it.sequence > last.sequence).await;
        let starts = |report: &NodeReport| {
            report.pods.iter().map(|pod| pod.counters.as_ref().map(|it| it.starts)).collect::<Vec<_>>()
        };
        if starts(&next) == starts(&last) {
            return next;
        }
        last = next;
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root and cgroup2"]
async fn an_absent_aggregator_loses_nothing() {
    let node = Node::new();
    let pod = node.pod();
    let (aggregator, agent) = measuring(&node, &pod).await;
    let address = aggregator.address;
    aggregator.stop().await;
    send(&pod, 500, 3);
    // Reports fail meanwhile, and the agent says so without becoming unready.
    world::wait("a report to fail", || {
        let metrics = agent.get("/metrics").1;
        let failed = "prescale_agent_reports_total{outcome=\"no_connection\"} ";
        let count = metrics.lines().find_map(|line| line.strip_prefix(failed));
        count.is_some_and(|count| count != "0").then_some(())
    });
    assert_eq!(agent.get("/readyz").0, 200);
    send(&pod, 500, 3);
    let aggregator = Aggregator::start_at(address, None).await;
    aggregator.watch(vec![pod.watched()]);
    let all = |report: &NodeReport| counters(report, &pod.uid).is_some_and(|it| it.finished() >= 1000);
    let report = aggregator.report("of both halves", all).await;
    let it = counters(&report, &pod.uid).unwrap();
    assert_eq!((it.starts, it.finished(), it.aborts), (1000, 1000, 0));
    assert_eq!(of(&report, &pod.uid).unwrap().attach_generation, 1, "it was attached again");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root and cgroup2"]
async fn pods_come_and_vanish() {
    let node = Node::new();
    let first = node.pod();
    let (aggregator, agent) = measuring(&node, &first).await;
    // A pod that is watched before its directory is there is attached as soon as it is.
    let mut coming = first.watched();
    coming.uid = "0f5c0d1a-6f0e-4a59-9f6e-000000000001".into();
    coming.name = "web-coming".into();
    coming.ports.clear();
    aggregator.watch(vec![first.watched(), coming.clone()]);
    let waits = |report: &NodeReport| of(report, &coming.uid).is_some_and(|it| it.state == PodState::Waiting);
    aggregator.report("of a waiting pod", waits).await;
    let second = node.pod();
    assert_eq!(second.uid, coming.uid);
    let made = Instant::now();
    aggregator.report("of the new pod", |report| is_measured(report, &second.uid)).await;
    assert!(made.elapsed() < Duration::from_secs(3), "attached after {:?}", made.elapsed());

    send(&second, 200, 2);
    let uid = second.uid.clone();
    second.vanish();
    let last = |report: &NodeReport| last_of(report, &uid).is_some();
    let report = aggregator.report("with the vanished pod's last counters", last).await;
    let last = last_of(&report, &uid).unwrap();
    let it = last.counters.as_ref().unwrap();
    assert_eq!((it.starts, it.finished()), (200, 200));
    assert!(last.resources.cpu_ns > 0, "its CPU time was lost with its directory");
    // The first pod is measured on.
    send(&first, 100, 1);
    let on = |report: &NodeReport| counters(report, &first.uid).is_some_and(|it| it.finished() >= 100);
    aggregator.report("of the pod that stayed", on).await;

    // Opting out takes the programs off.
    let objects = agent.kernel_objects();
    aggregator.watch(vec![]);
    aggregator.report("with the released pod's last counters", |it| last_of(it, &first.uid).is_some()).await;
    world::wait("the links to go", || objects.left().0.is_empty().then_some(()));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root and cgroup2"]
async fn a_pod_that_finds_no_slot_says_so_and_is_measured_once_one_is_free() {
    let node = Node::new();
    let (first, second) = (node.pod(), node.pod());
    let aggregator = Aggregator::start().await;
    aggregator.watch(vec![first.watched()]);
    let agent = Agent::start_with(&node, aggregator.address, &["--max-pods", "1", "--poll-seconds", "0.2"]);
    aggregator.report("of the first pod", |report| is_measured(report, &first.uid)).await;
    aggregator.watch(vec![first.watched(), second.watched()]);
    let full = PodState::NotMeasurable(NotMeasurable::NoSlot);
    let refused = |report: &NodeReport| of(report, &second.uid).is_some_and(|it| it.state == full);
    let report = aggregator.report("of the pod without a slot", refused).await;
    assert!(is_measured(&report, &first.uid) && report.agent.attach_failures > 0);
    let line = format!(
        "prescale_agent_pod_not_measurable{{namespace=\"demo\",workload=\"web\",pod=\"{}\",reason=\"no_slot\"}} 1.0",
        second.watched().name
    );
    let metrics = agent.get("/metrics").1;
    assert!(metrics.lines().any(|it| it == line), "no line `{line}` in\n{metrics}");
    aggregator.watch(vec![second.watched()]);
    aggregator.report("of the second pod", |report| is_measured(report, &second.uid)).await;
    send(&second, 10, 1);
    let all = |report: &NodeReport| counters(report, &second.uid).is_some_and(|it| it.finished() == 10);
    aggregator.report("of the second pod's requests", all).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root and cgroup2"]
async fn sigterm_reports_once_more_and_leaves_nothing_attached() {
    let node = Node::new();
    let pod = node.pod();
    let (aggregator, agent) = measuring(&node, &pod).await;
    let objects = agent.kernel_objects();
    send(&pod, 321, 3);
    let stopping = Instant::now();
    let status = agent.terminate();
    assert!(status.success(), "{status}");
    assert!(stopping.elapsed() < Duration::from_secs(5), "stopped after {:?}", stopping.elapsed());
    objects.wait_until_gone();
    let reports = aggregator.reports();
    assert_eq!(counters(reports.last().unwrap(), &pod.uid).unwrap().finished(), 321);
    assert!(!of(reports.last().unwrap(), &pod.uid).unwrap().last, "the pod is not gone, only the agent is");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root and cgroup2"]
async fn without_an_aggregator_it_stops_as_cleanly() {
    let node = Node::new();
    let agent = Agent::start(&node, free_address());
    let said = world::wait("the agent to serve", || {
        std::net::TcpStream::connect(agent.listen).is_ok().then(|| agent.get("/readyz"))
    });
    assert_eq!(said.0, 503);
    assert!(said.1.contains("no aggregator has given a watch list yet"), "{said:?}");
    let stopping = Instant::now();
    assert!(agent.terminate().success());
    assert!(stopping.elapsed() < Duration::from_secs(5), "stopped after {:?}", stopping.elapsed());
}

/// DESIGN.md's bar: the agent's own memory cgroup, kernel maps included, with as many pods as Kubernetes supports.
const MEMORY_BAR_BYTES: u64 = 20 << 20;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root and cgroup2"]
async fn with_110_pods_it_stays_below_20_mib() {
    let node = Node::new();
    let busy = node.pod();
    let mut pods = node.idle_pods(109);
    pods.push(busy.watched());
    let aggregator = Aggregator::start().await;
    aggregator.watch(pods);
    let agent = Agent::start_with(&node, aggregator.address, &[]);
    let all = |report: &NodeReport| report.pods.iter().filter(|it| it.counters.is_some()).count() == 110;
    let first = aggregator.report("of 110 measured pods", all).await;
    send(&busy, 2000, 5);
    // Prometheus asks, and a while of reports goes by: whatever is kept per report or per scrape shows.
    for _ in 0..5 {
        assert_eq!(agent.get("/metrics").0, 200);
    }
    let later = |report: &NodeReport| report.sequence >= first.sequence + 15;
    let last = aggregator.report("15 reports later", later).await;
    let metric = |name: &str| {
        let metrics = agent.get("/metrics").1;
        metrics.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<f64>().ok())
    };
    let own = metric("prescale_agent_cgroup_memory_bytes").expect("the agent has a memory cgroup of its own");
    let resident = metric("prescale_agent_resident_memory_bytes").unwrap();
    let seconds = (last.sent.0 - first.sent.0) as f64 / 1000.0;
    let cpu_share = (last.agent.cpu_ns - first.agent.cpu_ns) as f64 / 1e9 / seconds;
    println!("110 pods: cgroup {own} bytes, resident {resident} bytes, {cpu_share:.4} of a core");
    assert!(own <= MEMORY_BAR_BYTES as f64 && last.agent.memory_bytes <= MEMORY_BAR_BYTES, "{own} bytes");
    // An unoptimised build on a busy machine takes 0.013 of a core; a loop that spins takes all of it.
    assert!(cpu_share < 0.1, "{cpu_share} of a core");
}
