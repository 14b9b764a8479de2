//! Every request to a real pod is counted, once, on every node.

use std::time::Instant;

use prescale_tests::kernel::client::load;

use super::Run;
use super::app::{App, address};
use super::kubectl::{Namespace, wait};
use super::prescale::{agent_metrics, agent_on, counted, measured, nodes};

const REQUESTS: u64 = 50_000;
const CONNECTIONS: usize = 8;

/// 50,000 requests to a pod on each node, counted by that node's agent.
pub fn on_every_node(run: &Run) {
    nodes().iter().for_each(|node| on_one_node(run, node));
}

fn on_one_node(run: &Run, node: &str) {
    let namespace = Namespace::new(&format!("counts-{node}"));
    let annotations = vec![("mode", "observe".to_owned())];
    App { node: Some(node.to_owned()), annotations, ..App::default() }.start(&namespace);
    measured(node, &namespace.0);
    let begin = Instant::now();
    let client = load(address(&namespace), CONNECTIONS, REQUESTS, &["/"], true);
    let took = begin.elapsed().as_secs_f64();
    assert_eq!(client.classes[2], REQUESTS, "{client:?}");
    let agent = agent_on(node);
    let of = |name: &str| counted(&agent_metrics(&agent)?, name, &namespace.0).ok_or("no series".to_owned());
    let finished = wait("every request counted", 30, || {
        let finished = of("prescale_http_server_requests_finished_total")?;
        if finished >= REQUESTS as f64 { Ok(finished) } else { Err(format!("{finished} finished")) }
    });
    let started = of("prescale_http_server_requests_started_total").expect("it was there");
    let aborted = of("prescale_http_server_requests_aborted_total").expect("it was there");
    run.say(&format!(
        "{node}: {REQUESTS} sent in {took:.2} s, {started} started, {finished} finished, {aborted} aborted"
    ));
    assert_eq!((started, finished, aborted), (REQUESTS as f64, REQUESTS as f64, 0.0));
}
