//! A cluster of the tests that is killed while it starts: its processes end by themselves, and `down` removes the rest. Needs
//! root and the cluster's programs (`PRESCALE_CLUSTER_PROGRAMS`, which `cargo xtask e2e` sets).
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use prescale_tests::binaries::binary;
use prescale_tests::cluster::layout::{PREFIX, Place};
use prescale_tests::cluster::processes::{Process, Record};

/// Longest wait for anything; a start takes some 14 s on two idle cores.
const SOON: Duration = Duration::from_secs(120);

fn until<T>(what: &str, mut found: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + SOON;
    loop {
        if let Some(found) = found() {
            return found;
        }
        assert!(Instant::now() < end, "{what}: not within {SOON:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A cluster of this test's own name, removed even when the test fails.
struct Cluster(Place);

impl Cluster {
    fn new(what: &str) -> Self {
        let cluster = Self(Place::new(&format!("{what}{}", std::process::id())).unwrap());
        assert_eq!(cluster.left(), [""; 0], "before anything has begun");
        cluster
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(binary("cluster"));
        command.args(["--name", self.0.name()]).args(words).stdin(Stdio::null());
        command
    }

    /// Begins to start it; the starter and the first process of its only node, once the API server is there too.
    fn begin(&self) -> (Child, Process) {
        let programs = std::env::var_os("PRESCALE_CLUSTER_PROGRAMS")
            .expect("PRESCALE_CLUSTER_PROGRAMS: run `cargo xtask e2e crash`, which builds them");
        let mut up = self.command(&["up", "--programs"]);
        let mut starter = up.arg(programs).stderr(Stdio::piped()).spawn().unwrap();
        let first = until("the node's first process", || {
            assert_eq!(starter.try_wait().unwrap(), None, "the start ended by itself");
            Record::read(&self.0.directory()).ok()?.nodes.first()?.first
        });
        until("the API server's process", || {
            assert_eq!(starter.try_wait().unwrap(), None, "the start ended by itself");
            self.processes().into_iter().find(|line| line.contains("kube-apiserver"))
        });
        // What is looked for below can be found: all but mounts, which are the node's own at all times.
        let left = self.left();
        for kind in ["process", "cgroup", "directory"] {
            assert!(
                left.iter().any(|it| it.starts_with(kind)),
                "no {kind} of a cluster that starts: {left:?}"
            );
        }
        (starter, first)
    }

    fn down(&self) {
        let output = self.command(&["down"]).output().unwrap();
        assert!(output.status.success(), "down: {}", String::from_utf8_lossy(&output.stderr));
    }

    fn name(&self) -> String {
        format!("{PREFIX}{}", self.0.name())
    }

    /// Processes whose arguments or environment name its directory, or that are in its cgroups.
    fn processes(&self) -> Vec<String> {
        let name = self.name();
        let mut found = Vec::new();
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let pid = entry.file_name().to_string_lossy().parse().ok();
            let Some(pid) = pid.filter(|pid| Process::find(*pid).is_some()) else { continue };
            // What has ended since has no words left.
            let read = |file: &str| fs::read(entry.path().join(file)).unwrap_or_default();
            let said = ["cmdline", "environ", "cgroup"]
                .map(|file| String::from_utf8_lossy(&read(file)).into_owned());
            if said.iter().any(|text| text.contains(&name)) {
                found.push(format!("{pid} {}", said[0].replace('\0', " ")));
            }
        }
        found
    }

    /// Everything on this machine that bears its name.
    fn left(&self) -> Vec<String> {
        let name = self.name();
        let mut left: Vec<String> = self.processes().iter().map(|it| format!("process {it}")).collect();
        left.extend(
            named(Path::new("/sys/fs/cgroup"), &name).iter().map(|it| format!("cgroup {}", it.display())),
        );
        left.extend(
            self.0.directory().exists().then(|| format!("directory {}", self.0.directory().display())),
        );
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        left.extend(mounts.lines().filter(|it| it.contains(&name)).map(|it| format!("mount {it}")));
        left
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let _ = self.command(&["down"]).status();
    }
}

/// Directories called `name`, below `root` or below one of the hierarchies that are mounted there.
fn named(root: &Path, name: &str) -> Vec<PathBuf> {
    let below = |at: &Path| -> Vec<PathBuf> {
        let entries = fs::read_dir(at).into_iter().flatten().flatten();
        entries.filter(|it| it.file_type().is_ok_and(|kind| kind.is_dir())).map(|it| it.path()).collect()
    };
    let hierarchies = below(root);
    let all = hierarchies.iter().cloned().chain(hierarchies.iter().flat_map(|it| below(it)));
    all.filter(|path| path.file_name().is_some_and(|it| it == name)).collect()
}

#[test]
#[ignore = "makes namespaces, mounts and cgroups: needs root"]
fn a_start_that_is_killed_leaves_nothing_after_down() {
    let cluster = Cluster::new("killedup");
    let (mut starter, first) = cluster.begin();
    starter.kill().unwrap();
    starter.wait().unwrap();
    until("the node ends with its starter", || (!first.runs()).then_some(()));
    until("every process of it ends", || cluster.processes().is_empty().then_some(()));
    assert!(cluster.0.directory().exists(), "nobody was there to remove its files");
    cluster.down();
    assert_eq!(cluster.left(), [""; 0]);
    // There is nothing to do any more, which is no error.
    cluster.down();
}

#[test]
#[ignore = "makes namespaces, mounts and cgroups: needs root"]
fn a_node_that_is_killed_ends_the_start_and_leaves_nothing() {
    let cluster = Cluster::new("killednode");
    let (starter, first) = cluster.begin();
    first.kill();
    let output = starter.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("node-1"), "{said}");
    cluster.down();
    assert_eq!(cluster.left(), [""; 0]);
}
