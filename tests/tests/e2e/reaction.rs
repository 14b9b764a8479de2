//! How fast: from an annotation to the programs on the pod, and from load at the socket to an accepted write.

use std::time::{Duration, Instant};

use super::Run;
use super::app::{App, Load, Scale, arrivals, steady};
use super::kubectl::{Namespace, wait};
use super::prescale::{agent_metrics, agent_on, all_measured, counted, nodes};

const OPTING_LIMIT: f64 = 3.0;
const STEP_LIMIT: f64 = 3.0;
/// Between two steps' beginnings: one's calm is beside another's step.
const APART: Duration = Duration::from_secs(5);

/// From the annotation to the first reading, and from its removal to no more.
pub fn opting_in_and_out(run: &Run) {
    let node = nodes().swap_remove(0);
    let namespace = Namespace::new("opting");
    App { node: Some(node.clone()), ..App::default() }.start(&namespace);
    let agent = agent_on(&node);
    let change = |annotation: &str, wanted: bool| {
        let begin = Instant::now();
        namespace.annotate("web", &[annotation]);
        wait("the agent follows", 20, || {
            let page = agent_metrics(&agent)?;
            let there = counted(&page, "prescale_http_server_requests_started_total", &namespace.0).is_some();
            if there == wanted { Ok(()) } else { Err(format!("measured: {there}")) }
        });
        begin.elapsed().as_secs_f64()
    };
    for _ in 0..run.times(5) {
        let opted_in = change("mode=observe", true);
        let opted_out = change("mode-", false);
        run.say(&format!("in: attached after {opted_in:.2} s; out: detached after {opted_out:.2} s"));
        assert!(opted_in <= OPTING_LIMIT && opted_out <= OPTING_LIMIT, "either within {OPTING_LIMIT} s");
    }
}

/// A step from 30 to 150 requests/s, fifteen seconds after all is measured, where a pod carries 50: from the first request of the step to the write.
pub fn to_a_step(run: &Run) {
    let run = *run;
    let steps: Vec<_> = (1..=run.times(10))
        .map(|time| {
            if time > 1 {
                std::thread::sleep(APART);
            }
            std::thread::spawn(move || one_step(run, time))
        })
        .collect();
    let mut all: Vec<f64> =
        steps.into_iter().map(|step| step.join().expect("it has said what is wrong")).collect();
    all.sort_by(f64::total_cmp);
    let median = all[all.len() / 2];
    run.say(&format!("step to accepted write: median {median:.2} s of {}", all.len()));
    assert!(median <= STEP_LIMIT, "median {median:.2} s, want {STEP_LIMIT} s at most: {all:?}");
}

fn one_step(run: Run, time: usize) -> f64 {
    const CALM: Duration = Duration::from_secs(15);
    let namespace = Namespace::new(&format!("step-{time}"));
    let annotations = [("mode", "full"), ("max-replicas", "4"), ("rps-per-pod", "50")]
        .map(|(name, value)| (name, value.to_owned()));
    App { annotations: annotations.into(), ..App::default() }.start(&namespace);
    let scale = Scale::watch(&namespace);
    let calm = Load::start(&namespace, arrivals(&[steady(30.0, 180.0)], time as u64));
    all_measured(&namespace.0);
    // However long that took, the calm is seen for as long as this.
    std::thread::sleep(CALM);
    assert_eq!(scale.changes().len(), 1, "a write before the step: {:?}", scale.changes());
    let more = Load::start(&namespace, arrivals(&[steady(120.0, 90.0)], 100 + time as u64));
    let (at, replicas) = scale.change_after(more.began, 60);
    let took = at.duration_since(more.began).as_secs_f64();
    calm.stop();
    more.stop();
    run.say(&format!("{time}: 1 to {replicas} replicas {took:.2} s after the step"));
    took
}
