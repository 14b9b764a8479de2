//! The first process of a node: in namespaces of its own it prepares mounts and network, starts the node's programs,
//! and reaps. The kernel ends everything in its process namespace with it, so that no crash leaves a process behind.

use std::fs;
use std::io::{ErrorKind, Write};
use std::net::UdpSocket;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{WaitOptions, wait};

use super::layout::{CONTAINERD_SOCKET, Layout, NodeLayout, PAUSE_IMAGE};
use super::settings::{Program, SYSCTLS, late_programs, node_programs};

/// What the starter says on standard input when it has recorded this process and joined the nodes by wires.
pub const GO: &str = "go";
/// What it says when the cluster is up and may outlive it. If it ends without, so does the node.
pub const STAY: &str = "stay";
/// The API server answers 5 s after it was started on two idle cores; other work may hold it up.
const API_LIMIT: Duration = Duration::from_secs(120);
/// Documentation's addresses (RFC 5737, RFC 3849): nobody's, and outside of every network of the nodes.
const OUTSIDE: [(&str, &str); 2] = [("0.0.0.0:0", "203.0.113.1:9"), ("[::]:0", "[2001:db8::1]:9")];

/// Lives the node's life; returns only when something is missing.
///
/// # Errors
/// What could not be prepared or started.
pub fn live(directory: &Path, number: u8) -> Result<()> {
    let layout = Layout::read(directory)?;
    let node = layout.node(number);
    ensure!(
        std::process::id() == 1,
        "not the first process of a namespace: `cargo xtask cluster up` starts this"
    );
    ensure!(said()? == GO, "whoever started this node is gone");
    std::thread::spawn(|| {
        if said().ok().as_deref() != Some(STAY) {
            std::process::exit(1);
        }
    });
    isolated()?;
    mounts(&layout)?;
    network(&layout, &node)?;
    let mut programs = Programs { node: &node, running: Vec::new() };
    for program in node_programs(&layout, &node) {
        if program.name == "kubelet" {
            // One that finds no containerd ends itself.
            import(&mut programs, &layout.programs.join("pause.tar"), PAUSE_IMAGE)?;
        }
        programs.start(&program)?;
    }
    if number == 1 {
        wait_for_api(&mut programs, &layout)?;
        for program in late_programs(&layout) {
            programs.start(&program)?;
        }
    }
    fs::write(node.started(), "")?;
    programs.reap()
}

/// The next line of the starter; empty when it is gone.
fn said() -> Result<String> {
    let mut line = String::new();
    std::io::stdin().read_line(&mut line)?;
    Ok(line.trim_end().to_owned())
}

/// Refuses a network namespace with a way out: the cluster's traffic to private addresses would take it.
fn isolated() -> Result<()> {
    for (from, to) in OUTSIDE {
        // Connecting a datagram socket asks for a route and sends nothing.
        match UdpSocket::bind(from).and_then(|socket| socket.connect(to)) {
            Ok(()) => bail!("this network namespace has a route to {to}: a cluster here could reach outside"),
            Err(error)
                if matches!(error.kind(), ErrorKind::NetworkUnreachable | ErrorKind::AddrNotAvailable) => {}
            Err(error) if from.starts_with('[') && error.kind() == ErrorKind::Unsupported => {}
            Err(error) => return Err(error).context("asking for a route outside"),
        }
    }
    Ok(())
}

/// Everything that the node's programs write outside of the cluster's directory lies in memory of this namespace.
fn mounts(layout: &Layout) -> Result<()> {
    // Volumes of pods must reach the containers' namespaces; out of this one nothing goes (`unshare --propagation`).
    run(&["mount", "--make-rshared", "/"])?;
    for directory in ["/run", "/var/lib", "/var/log"] {
        run(&["mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", directory])?;
    }
    let bind = |from: &Path, to: &str| run(&["mount", "--bind", &from.to_string_lossy(), to]);
    bind(&layout.file("resolv.conf"), "/etc/resolv.conf")?;
    for (name, _) in SYSCTLS {
        bind(&layout.file("sysctl").join(name), &format!("/proc/sys/{name}"))?;
    }
    Ok(())
}

fn network(layout: &Layout, node: &NodeLayout) -> Result<()> {
    run(&["ip", "link", "set", "lo", "up"])?;
    run(&["ip", "addr", "add", &format!("{}/24", node.address()), "dev", "eth0"])?;
    run(&["ip", "link", "set", "eth0", "up"])?;
    if layout.nodes == 1 {
        run(&["ip", "link", "set", "wire", "up"])?;
    }
    // Programs look for the node's address by the default route; it ends at the other end of the wire.
    run(&["ip", "route", "add", "default", "dev", "eth0"])?;
    for other in layout.nodes().filter(|other| other.number != node.number) {
        run(&["ip", "route", "add", &other.pods(), "via", &other.address().to_string()])?;
    }
    fs::write("/proc/sys/net/ipv4/ip_forward", "1").context("letting the node forward its pods' packets")?;
    // Packets between pods on one bridge pass the Services' rules too; a module of its own on most kernels.
    let bridged = Path::new("/proc/sys/net/bridge/bridge-nf-call-iptables");
    if bridged.exists() {
        fs::write(bridged, "1").with_context(|| format!("writing {}", bridged.display()))?;
    }
    Ok(())
}

fn run(words: &[&str]) -> Result<()> {
    let line = words.join(" ");
    let output =
        Command::new(words[0]).args(&words[1..]).output().with_context(|| format!("starting `{line}`"))?;
    ensure!(output.status.success(), "`{line}`: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}

/// Containerd needs about a second before it takes images.
fn import(programs: &mut Programs<'_>, archive: &Path, image: &str) -> Result<()> {
    programs.wait_until(&format!("importing {image}"), || {
        let socket = Path::new(CONTAINERD_SOCKET);
        if !socket.exists() {
            return Ok(Err("containerd has made no socket yet".into()));
        }
        let output = Command::new("ctr").args(["-n", "k8s.io", "images", "import"]).arg(archive).output()?;
        Ok(if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into()) })
    })
}

fn wait_for_api(programs: &mut Programs<'_>, layout: &Layout) -> Result<()> {
    programs.wait_until("waiting for the API server", || {
        let mut kubectl = Command::new(layout.program("kubectl"));
        kubectl.arg("--kubeconfig").arg(layout.kubeconfig()).args(["get", "--raw", "/readyz"]);
        let output = kubectl.env("KUBECACHEDIR", layout.file("kubectl-cache")).output()?;
        Ok(if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into()) })
    })
}

struct Programs<'a> {
    node: &'a NodeLayout,
    running: Vec<(&'static str, Child)>,
}

impl Programs<'_> {
    fn start(&mut self, program: &Program) -> Result<()> {
        let log = fs::File::create(self.node.log(program.name)).context("making a log file")?;
        let mut command = Command::new(&program.path);
        command.args(&program.arguments).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let child = command.spawn().with_context(|| format!("starting {}", program.path.display()))?;
        self.running.push((program.name, child));
        Ok(())
    }

    /// Tries until it is done; fails when a program has ended meanwhile.
    fn wait_until(
        &mut self,
        what: &str,
        mut tried: impl FnMut() -> Result<Result<(), String>>,
    ) -> Result<()> {
        let end = Instant::now() + API_LIMIT;
        loop {
            let Err(said) = tried().with_context(|| what.to_owned())? else { return Ok(()) };
            for (name, child) in &mut self.running {
                if let Some(status) = child.try_wait()? {
                    bail!("{what}: {name} ended with {status}");
                }
            }
            ensure!(Instant::now() < end, "{what}: not within {} s: {}", API_LIMIT.as_secs(), said.trim());
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// For ever: takes in whatever ends in this process namespace, and says so when it is one of the node's programs.
    fn reap(mut self) -> Result<()> {
        loop {
            // At least the programs are there to be waited for, unless all have ended.
            let Some((pid, status)) = wait(WaitOptions::empty()).context("every program has ended")? else {
                continue;
            };
            let ended = self.running.iter().position(|(_, it)| it.id() == pid.as_raw_nonzero().get() as u32);
            if let Some(index) = ended {
                let (name, _) = self.running.swap_remove(index);
                let mut file = fs::OpenOptions::new().create(true).append(true).open(self.node.ended())?;
                writeln!(file, "{name} ended with {status:?}")?;
            }
        }
    }
}
