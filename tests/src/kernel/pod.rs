//! A pod for a test: a cgroup that the test made, with the processes that it started in it.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use prescale_agent::kernel::{Kernel, SlotId};
use prescale_core::counters::Counters;

use super::network::Network;
use crate::binaries::binary;

/// The kernel programs, loaded.
///
/// # Panics
/// With the loader's sentence, when this is not root, has no cgroup2, or has no object.
pub fn load() -> Kernel {
    Kernel::load(&object(), 8).unwrap_or_else(|error| panic!("the kernel tests can't run: {error:#}"))
}

/// The object file that `cargo xtask build-ebpf` made, or the one that `PRESCALE_OBJECT` names.
pub fn object() -> PathBuf {
    if let Some(object) = std::env::var_os("PRESCALE_OBJECT") {
        return object.into();
    }
    // …/target/<profile>/deps/<test> for a test, …/target/<profile>/<name> for a program.
    let program = std::env::current_exe().expect("a running program has a path");
    let depth = if program.parent().is_some_and(|directory| directory.ends_with("deps")) { 3 } else { 2 };
    let target = program.ancestors().nth(depth).expect("programs are built below target/<profile>");
    target.join("bpf/prescale-agent.o")
}

/// A cgroup, and the processes in it. Dropping it ends them and removes it.
pub struct Pod {
    directory: PathBuf,
    children: Vec<Child>,
}

impl Pod {
    /// An empty pod.
    ///
    /// # Panics
    /// When there is no cgroup v2 hierarchy or it can't be written.
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("prescale-kernel-test-{}-{number}", std::process::id());
        let directory = cgroup_root().join(name).join("pod");
        fs::create_dir_all(&directory).expect("a cgroup can be made");
        Self { directory, children: Vec::new() }
    }

    /// Its cgroup directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Starts `command` inside the pod, one cgroup below it as a container engine does, and inside `network`.
    pub fn start(&mut self, network: Option<&Network>, command: &[&str]) -> &mut Child {
        let container = self.directory.join(format!("container{}", self.children.len()));
        fs::create_dir(&container).expect("a cgroup can be made");
        // A shell that moves itself and becomes the command: its sockets are made in the pod from the first.
        let mut shell = Command::new("sh");
        shell.args(["-c", "echo $$ > \"$0\" && exec \"$@\""]).arg(container.join("cgroup.procs"));
        if let Some(network) = network {
            shell.args(["ip", "netns", "exec", network.namespace()]);
        }
        shell.args(command).stdin(Stdio::null()).stdout(Stdio::piped());
        let child = shell.spawn().expect("a shell starts");
        self.children.push(child);
        self.children.last_mut().expect("one was pushed")
    }

    /// Starts the test service; returns its port.
    pub fn serve(&mut self, network: Option<&Network>, host: &str, options: &[&str]) -> u16 {
        let program = binary("kernel_service");
        let listen = format!("{host}:0");
        let mut command = vec![program.to_str().expect("a path in UTF-8"), "--listen", &listen];
        command.extend(options);
        let output = self.start(network, &command).stdout.take().expect("it is piped");
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line).expect("the service speaks");
        line.trim().parse().unwrap_or_else(|_| panic!("the service did not start: {line:?}"))
    }

    /// Ends the pod's processes at once.
    pub fn kill(&mut self) {
        for child in &mut self.children {
            // One that has ended already is as good.
            let _ = child.kill();
            let _ = child.wait();
        }
        // Daemons fork: whatever else is in there goes too.
        let _ = fs::write(self.directory.join("cgroup.kill"), "1");
    }
}

impl Default for Pod {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        self.kill();
        let container = |number: usize| self.directory.join(format!("container{number}"));
        let mut directories: Vec<PathBuf> = (0..self.children.len()).map(container).collect();
        directories.push(self.directory.clone());
        directories.extend(self.directory.parent().map(Path::to_owned));
        for directory in directories {
            // A killed process leaves its cgroup a moment later.
            let end = Instant::now() + Duration::from_secs(5);
            while fs::remove_dir(&directory).is_err() && directory.exists() && Instant::now() < end {
                std::thread::yield_now();
            }
        }
    }
}

fn cgroup_root() -> PathBuf {
    let mounts = fs::read_to_string("/proc/self/mounts").expect("the mounts can be read");
    let fields = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let found = fields.into_iter().find(|fields| fields.get(2) == Some(&"cgroup2"));
    PathBuf::from(found.expect("the kernel tests can't run: no cgroup v2 hierarchy is mounted")[1])
}

/// Reads until `done` holds.
///
/// # Panics
/// After ten seconds, with the last counters.
pub fn read_until(kernel: &mut Kernel, slot: SlotId, done: impl Fn(&Counters) -> bool) -> Counters {
    let end = Instant::now() + Duration::from_secs(10);
    loop {
        let counters = kernel.read(slot).expect("an attached slot can be read");
        if done(&counters) {
            return counters;
        }
        assert!(Instant::now() < end, "not within ten seconds; last: {}", describe(&counters));
        std::thread::yield_now();
    }
}

/// The counters without their histograms, for messages.
pub fn describe(counters: &Counters) -> String {
    format!(
        "starts {} finishes {:?} aborts {} received {} unread {} sent {} opened {} closed {} retransmits {} unaccounted {:?}",
        counters.starts,
        counters.finishes,
        counters.aborts,
        counters.bytes_received,
        counters.bytes_unread,
        counters.bytes_sent,
        counters.connections_opened,
        counters.connections_closed,
        counters.retransmits,
        counters.unaccounted
    )
}
