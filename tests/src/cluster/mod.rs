//! A real Kubernetes on this machine, for tests: etcd, API server, controllers, kubelet, containerd and runc, in network
//! namespaces without a way out.
//!
//! `layout` says where everything is, `settings` and `certificates` write what the programs read, `node` is the first
//! process of each node, `processes` finds them again after a crash, `clean` removes it all.
//! The programs themselves are built by `cargo xtask cluster`, which calls the `cluster` binary over this module.

mod certificates;
pub mod clean;
mod dns;
mod images;
pub mod layout;
pub mod node;
pub mod processes;
mod settings;
mod wires;

use std::fs;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use certificates::Certificates;
use layout::{Layout, MAX_NODES, Place};
use processes::{NodeProcesses, Process, Record};

pub use images::load;

/// A cluster on two idle cores is up in 14 s. Beside heavy builds it may take several times as long.
const UP_LIMIT: Duration = Duration::from_secs(180);
/// The programs that are links to the one binary.
const LINKS: [&str; 7] = [
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kube-proxy",
    "kubelet",
    "kubectl",
];

/// Starts the cluster of `place` from the programs in `programs` and waits until pods can be made.
///
/// # Errors
/// It is up already, something is missing, or something does not become ready; then nothing is left.
pub fn up(place: &Place, programs: PathBuf, nodes: u8) -> Result<Layout> {
    let begin = Instant::now();
    ensure!((1..=MAX_NODES).contains(&nodes), "1 or {MAX_NODES} nodes, not {nodes}");
    let directory = place.directory();
    fs::create_dir_all(&directory).with_context(|| format!("making {}", directory.display()))?;
    let _lock = clean::lock(&directory)?;
    let before = Record::read(&directory).unwrap_or_default();
    if before.ready && before.all_run() {
        bail!("the cluster {} is up: `cargo xtask cluster down` first", place.name());
    }
    clean::empty(place, &before)?;
    let layout = Layout { name: place.name().to_owned(), nodes, programs };
    match start(&layout) {
        Ok(()) => {
            eprintln!(
                "cluster {}: {nodes} node(s) ready after {:.1} s",
                place.name(),
                begin.elapsed().as_secs_f64()
            );
            Ok(layout)
        }
        Err(error) => {
            tell_logs(&layout);
            let record = Record::read(&directory).unwrap_or_default();
            clean::all(place, &record).context("cleaning up after a failed start")?;
            Err(error)
        }
    }
}

fn start(layout: &Layout) -> Result<()> {
    let directory = layout.place().directory();
    layout.write()?;
    fs::create_dir(layout.file("bin")).context("making the directory of programs")?;
    for name in LINKS {
        std::os::unix::fs::symlink(layout.programs.join("cluster"), layout.program(name))?;
    }
    Certificates::of(layout).make(layout)?;
    settings::write(layout)?;
    clean::make_cgroups(layout)?;
    let mut record = Record::default();
    let mut starting = Vec::new();
    for node in layout.nodes() {
        let log = fs::File::create(node.log("node")).context("making a log file")?;
        let mut child = unshare(&directory, node.number, log)?;
        let outer = Process::find(child.id() as i32).context("the node's process ended at once")?;
        record.nodes.push(NodeProcesses { outer, first: None });
        record.write(&directory)?;
        let said = child.stdin.take().context("the node's input is piped")?;
        starting.push(Starting { child, said, log: node.log("node"), name: node.name() });
    }
    let end = Instant::now() + UP_LIMIT;
    for (index, node) in starting.iter_mut().enumerate() {
        let outer = record.nodes[index].outer;
        let first = node.wait("make its namespaces", end, || outer.first_child())?;
        for kind in ["net", "mnt", "pid"] {
            let ours = fs::read_link(format!("/proc/self/ns/{kind}"))?;
            ensure!(
                fs::read_link(first.namespace(kind))? != ours,
                "{} shares our {kind} namespace",
                node.name
            );
        }
        record.nodes[index].first = Some(first);
        record.write(&directory)?;
    }
    wires::connect(&record)?;
    for node in &mut starting {
        writeln!(node.said, "{}", node::GO).context("the node is gone")?;
    }
    for (node, files) in starting.iter_mut().zip(layout.nodes()) {
        node.wait("start its programs", end, || files.started().exists().then_some(()))?;
    }
    let nodes: Vec<String> = layout.nodes().map(|node| format!("node/{}", node.name())).collect();
    let until = |what: &[&str]| -> Result<()> {
        let limit = format!("--timeout={}s", end.saturating_duration_since(Instant::now()).as_secs().max(1));
        let output = kubectl(layout, &record)?.args(["wait", &limit]).args(what).output()?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.success(), "`kubectl wait {}`: {said}", what.join(" "));
        Ok(())
    };
    let nodes: Vec<&str> = nodes.iter().map(String::as_str).collect();
    until(&[nodes.as_slice(), &["--for=create"]].concat())?;
    until(&[nodes.as_slice(), &["--for=condition=Ready"]].concat())?;
    // Made by the controller manager; no pod can be made before.
    until(&["serviceaccount/default", "--for=create"])?;
    record.ready = true;
    record.write(&directory)?;
    dns::start(layout, &record)?;
    for node in &mut starting {
        writeln!(node.said, "{}", node::STAY).context("the node is gone")?;
    }
    Ok(())
}

/// This program again, as the first process of new namespaces.
fn unshare(directory: &Path, node: u8, log: fs::File) -> Result<Child> {
    let mut command = Command::new("unshare");
    command.args(["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]);
    command.args(["--propagation", "private", "--"]).arg(std::env::current_exe()?).arg("node");
    command.arg("--directory").arg(directory).arg("--number").arg(node.to_string());
    command.stdin(Stdio::piped()).stdout(log.try_clone()?).stderr(log);
    // Out of reach of the terminal's Ctrl-C: the node ends when this process does, not before its record is written.
    command.process_group(0).spawn().context("starting unshare (package util-linux)")
}

struct Starting {
    child: Child,
    said: ChildStdin,
    log: PathBuf,
    name: String,
}

impl Starting {
    fn wait<T>(&mut self, what: &str, end: Instant, mut done: impl FnMut() -> Option<T>) -> Result<T> {
        loop {
            if let Some(done) = done() {
                return Ok(done);
            }
            let ended = self.child.try_wait()?;
            if ended.is_some() || Instant::now() > end {
                let log = fs::read_to_string(&self.log).unwrap_or_default();
                let how = ended.map_or("took too long".to_owned(), |status| format!("ended with {status}"));
                bail!("{} was to {what} and {how}: {}", self.name, log.trim());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// The end of every log, on standard error.
fn tell_logs(layout: &Layout) {
    const LINES: usize = 8;
    for node in layout.nodes() {
        let logs = fs::read_dir(node.file("logs")).into_iter().flatten().flatten();
        for file in logs.map(|entry| entry.path()) {
            let text = fs::read_to_string(&file).unwrap_or_default();
            let lines: Vec<&str> = text.lines().collect();
            if !lines.is_empty() {
                eprintln!("--- {}", file.display());
            }
            for line in &lines[lines.len().saturating_sub(LINES)..] {
                eprintln!("{line}");
            }
        }
    }
}

/// The cluster that is up at `place`.
///
/// # Errors
/// None is.
pub fn running(place: &Place) -> Result<(Layout, Record)> {
    let directory = place.directory();
    let record = Record::read(&directory)?;
    ensure!(
        record.ready && record.all_run(),
        "the cluster {} is not up: `cargo xtask cluster up`",
        place.name()
    );
    Ok((Layout::read(&directory)?, record))
}

/// A command in the first node's network namespace, with the cluster's kubeconfig and kubectl.
///
/// # Errors
/// The node's process is not known.
pub fn inside(layout: &Layout, record: &Record, program: &str) -> Result<Command> {
    let first = record.nodes.first().and_then(|node| node.first).context("the cluster has no node")?;
    let mut command = Command::new("nsenter");
    command.arg(format!("--net={}", first.namespace("net").display())).arg("--").arg(program);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let paths = [layout.file("bin"), layout.programs.clone()].into_iter().chain(std::env::split_paths(&path));
    command.env("PATH", std::env::join_paths(paths)?);
    command.env("KUBECONFIG", layout.kubeconfig()).env("KUBECACHEDIR", layout.file("kubectl-cache"));
    Ok(command)
}

fn kubectl(layout: &Layout, record: &Record) -> Result<Command> {
    inside(layout, record, "kubectl")
}

/// Says on standard output what there is of the cluster.
///
/// # Errors
/// It is not up, or does not answer.
#[allow(clippy::print_stdout, reason = "the answer of the command")]
pub fn status(place: &Place) -> Result<()> {
    let (layout, record) = running(place)?;
    println!("cluster {} in {}", place.name(), place.directory().display());
    for (node, processes) in layout.nodes().zip(&record.nodes) {
        let pid = processes.first.map(|first| first.pid()).unwrap_or_default();
        println!("{}: process {pid}, address {}, pods {}", node.name(), node.address(), node.pods());
        if let Ok(ended) = fs::read_to_string(node.ended()) {
            print!("{ended}");
        }
    }
    let status = kubectl(&layout, &record)?.args(["get", "nodes,pods", "-A", "-o", "wide"]).status()?;
    ensure!(status.success(), "the API server does not answer");
    Ok(())
}
