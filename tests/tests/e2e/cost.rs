//! What agent and aggregator cost: CPU time and the memory of their cgroups, kernel maps included.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::Run;
use super::app::{App, Load, arrivals, steady};
use super::kubectl::Namespace;
use super::prescale::{agent_on, leader, measured, nodes, process};

const RATE: f64 = 2000.0;
/// The goal for the agent (DESIGN.md, numbers to beat).
const AGENT_BYTES: u64 = 20 << 20;
/// USER_HZ, the same on every Linux that Rust runs on.
const TICKS: f64 = 100.0;

/// 2,000 requests/s to pods of one node: for ten minutes, or half a minute with `--quick`.
pub fn of_two_thousand_requests(run: &Run) {
    let seconds = if run.quick { 30.0 } else { 600.0 };
    let node = nodes().pop().expect("a cluster has a node");
    let namespace = Namespace::new("cost");
    let annotations = vec![("mode", "observe".to_owned())];
    App { replicas: 2, node: Some(node.clone()), annotations, ..App::default() }.start(&namespace);
    measured(&node, &namespace.0);
    let names = [(agent_on(&node), "prescale-agent"), (leader(), "prescale-aggregator")];
    let processes = names.map(|(pod, name)| (name, process(&pod, name)));
    let before = processes.map(|(_, pid)| cpu_seconds(pid));
    let begin = Instant::now();
    let load = Load::start(&namespace, arrivals(&[steady(RATE, seconds)], 8));
    let mut most = [0; 2];
    while begin.elapsed().as_secs_f64() < seconds {
        for (most, (_, pid)) in most.iter_mut().zip(processes) {
            *most = memory(pid).max(*most);
        }
        std::thread::sleep(Duration::from_secs(1));
    }
    let totals = load.finish();
    let took = begin.elapsed().as_secs_f64();
    run.say(&format!("{:.0} requests/s for {took:.0} s", totals.sent as f64 / took));
    for (((name, pid), before), bytes) in processes.into_iter().zip(before).zip(most) {
        let cores = (cpu_seconds(pid) - before) / took;
        let mebibytes = bytes as f64 / f64::from(1 << 20);
        run.say(&format!("{name}: {:.2} % of a core, at most {mebibytes:.1} MiB", cores * 100.0));
    }
    assert!(
        most[0] > 0 && most[0] <= AGENT_BYTES,
        "the agent's memory is to stay within {AGENT_BYTES} bytes"
    );
}

/// CPU time that a process has used.
fn cpu_seconds(pid: i32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("the process runs");
    let fields: Vec<&str> = stat.rsplit_once(')').expect("a name").1.split_whitespace().collect();
    // utime and stime, fields 14 and 15 of the whole line.
    let ticks: f64 = fields[11..13].iter().filter_map(|field| field.parse::<f64>().ok()).sum();
    ticks / TICKS
}

/// Memory of a process' cgroup, of either version.
fn memory(pid: i32) -> u64 {
    let file =
        memory_file(pid).unwrap_or_else(|| panic!("{pid} has ended, or its cgroup has no memory controller"));
    let text = fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    text.trim().parse().expect("a number of bytes")
}

fn memory_file(pid: i32) -> Option<PathBuf> {
    let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    let of = |wanted: fn(&str) -> bool| {
        let mut lines = groups.lines().filter_map(|line| line.split_once(':')?.1.split_once(':'));
        lines
            .find(|(controllers, _)| wanted(controllers))
            .map(|(_, path)| path.trim_start_matches('/').to_owned())
    };
    let first = of(|controllers| controllers.split(',').any(|it| it == "memory"))
        .map(|path| Path::new("/sys/fs/cgroup/memory").join(path).join("memory.usage_in_bytes"));
    let second = of(str::is_empty).map(|path| Path::new("/sys/fs/cgroup").join(path).join("memory.current"));
    first.or(second).filter(|file| file.exists())
}
