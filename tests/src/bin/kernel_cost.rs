//! What the kernel programs cost per request, by the kernel's own count of their run time (`bpf_stats`), less what an
//! empty pair of programs costs in the same count. Nothing is gated on it: it measures, and prints.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use aya::Ebpf;
use aya::programs::cgroup_skb::CgroupSkbAttachType;
use aya::programs::{CgroupAttachMode, CgroupSkb};
use clap::Parser;
use prescale_agent::kernel::Kernel;
use prescale_tests::kernel::client::{h2load, until_listening};
use prescale_tests::kernel::network::Network;
use prescale_tests::kernel::pod::{Pod, describe, object};

/// Needs root, nginx, h2load, and a machine that does little else.
#[derive(Parser)]
struct Arguments {
    /// Requests per round.
    #[arg(long, default_value_t = 100_000)]
    requests: u64,
    /// Rounds; the medians are printed.
    #[arg(long, default_value_t = 9)]
    rounds: usize,
    /// Over a veth pair instead of loopback.
    #[arg(long)]
    veth: bool,
    /// Connections; each is in keep-alive and sends one request at a time.
    #[arg(long, default_value_t = 4)]
    connections: u32,
}

const SWITCH: &str = "/proc/sys/kernel/bpf_stats_enabled";

#[allow(clippy::print_stdout, reason = "the figures are this program's answer")]
fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let before = fs::read_to_string(SWITCH).context("reading whether run times are counted")?;
    fs::write(SWITCH, "1").context("switching the count of run times on: root is needed")?;
    let result = measure(&arguments);
    fs::write(SWITCH, before)?;
    let rounds = result?;
    for (name, pick) in [("requests", 0), ("an empty pair", 1)] {
        let mut values: Vec<f64> =
            rounds.iter().map(|round| if pick == 0 { round.ours } else { round.empty }).collect();
        values.sort_by(f64::total_cmp);
        println!(
            "{name}: median {:.0} ns, minimum {:.0} ns per request",
            values[values.len() / 2],
            values[0]
        );
    }
    let mut net: Vec<f64> = rounds.iter().map(|round| round.ours - round.empty).collect();
    net.sort_by(f64::total_cmp);
    let runs = rounds.iter().map(|round| round.runs).sum::<f64>() / rounds.len() as f64;
    println!(
        "net: median {:.0} ns, minimum {:.0} ns per request; {runs:.2} program runs per request",
        net[net.len() / 2],
        net[0]
    );
    Ok(())
}

struct Round {
    ours: f64,
    empty: f64,
    runs: f64,
}

fn measure(arguments: &Arguments) -> Result<Vec<Round>> {
    let network = arguments.veth.then(Network::new);
    let host = network.as_ref().map_or_else(|| "127.0.0.1".to_owned(), |network| network.inside(false));
    let mut pod = Pod::new();
    let directory = std::env::temp_dir().join(format!("prescale-cost-{}", std::process::id()));
    fs::create_dir_all(&directory)?;
    let port = until_listening::free_port();
    let file = directory.join("nginx.conf");
    fs::write(&file, configuration(&directory, &host, port))?;
    pod.start(network.as_ref(), &["nginx", "-c", file.to_str().context("a path in UTF-8")?]);
    until_listening::wait(&host, port);
    let url = format!("http://{host}:{port}/");
    let options = [format!("-c{}", arguments.connections), "-m1".to_owned()];
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    let mut rounds = Vec::new();
    // Interleaved, so that what else the machine does falls on both alike.
    for _ in 0..arguments.rounds {
        let mut kernel = Kernel::load(&object(), 4)?;
        let slot = kernel.attach(pod.directory(), &[port], &[])?;
        h2load(&url, arguments.requests, &options);
        let counters = kernel.read(slot)?;
        let (ours, runs) = run_time()?;
        drop(kernel);
        ensure!(counters.finished() == arguments.requests, "miscounted: {}", describe(&counters));
        let requests = arguments.requests as f64;
        let empty = empty_pair(pod.directory())?;
        h2load(&url, arguments.requests, &options);
        let (nothing, _) = run_time()?;
        drop(empty);
        rounds.push(Round { ours: ours / requests, empty: nothing / requests, runs: runs / requests });
    }
    drop(pod);
    fs::remove_dir_all(&directory)?;
    Ok(rounds)
}

/// Two programs that do nothing, attached where ours would be.
fn empty_pair(cgroup: &Path) -> Result<Ebpf> {
    let mut ebpf = Ebpf::load_file(object())?;
    let cgroup = fs::File::open(cgroup)?;
    for (name, direction) in
        [("empty_in", CgroupSkbAttachType::Ingress), ("empty_out", CgroupSkbAttachType::Egress)]
    {
        let program: &mut CgroupSkb =
            ebpf.program_mut(name).context("the object has the empty pair")?.try_into()?;
        program.load()?;
        program.attach(&cgroup, direction, CgroupAttachMode::Single)?;
    }
    Ok(ebpf)
}

/// Run time in nanoseconds and number of runs of the programs that this process holds.
fn run_time() -> Result<(f64, f64)> {
    let (mut time, mut runs, mut seen) = (0.0, 0.0, BTreeSet::new());
    for entry in fs::read_dir("/proc/self/fdinfo")? {
        // The directory's own descriptor is gone by the time it is read.
        let Ok(text) = fs::read_to_string(entry?.path()) else { continue };
        let field = |name: &str| {
            text.lines()
                .find_map(|line| line.strip_prefix(name))
                .and_then(|value| value.trim().parse::<u64>().ok())
        };
        let (Some(id), Some(its_time), Some(its_runs)) =
            (field("prog_id:"), field("run_time_ns:"), field("run_cnt:"))
        else {
            continue;
        };
        if seen.insert(id) {
            time += its_time as f64;
            runs += its_runs as f64;
        }
    }
    ensure!(runs > 0.0, "the kernel has counted no run of a program");
    Ok((time, runs))
}

fn configuration(directory: &Path, host: &str, port: u16) -> String {
    format!(
        "daemon off; master_process off; pid {0}/pid; error_log stderr crit;\n\
         events {{ worker_connections 1024; }}\n\
         http {{ access_log off; client_body_temp_path {0}; proxy_temp_path {0}; fastcgi_temp_path {0};\n\
         uwsgi_temp_path {0}; scgi_temp_path {0}; keepalive_requests 1000000000;\n\
         server {{ listen {host}:{port}; location / {{ return 200 'hello'; }} }} }}\n",
        directory.display()
    )
}
