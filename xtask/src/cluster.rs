//! A real Kubernetes for tests: builds its programs from Go modules once, keeps them outside of the work tree, and
//! hands over to `tests/src/cluster`, which runs them.

use std::fs;
use std::io::{BufRead, BufReader, IsTerminal};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::Subcommand;

use crate::archive::{File, Image, NOBODY, sha256};
use crate::{helm, packages, run};

/// What the nodes' programs call, and openssl for the certificates.
const PACKAGES: &[&str] = &[
    "conntrack",
    "containerd",
    "containernetworking-plugins",
    "ethtool",
    "iproute2",
    "iptables",
    "openssl",
    "runc",
    "socat",
];
/// The same as `k8s.io/kubernetes` in `tests/cluster/go.mod`; kubectl wants to know its own version.
const KUBERNETES: (&str, &str, &str) = ("1", "36", "3");

/// What to do with a cluster.
#[derive(Subcommand)]
pub enum Action {
    /// Start it and wait until pods can be made; builds its programs first, once (12 minutes on two cores).
    Up {
        /// How many nodes, 1 or 2.
        #[arg(long, default_value_t = 1)]
        nodes: u8,
    },
    /// End it and remove everything of it, also after a crash.
    Down,
    /// Say what there is of it.
    Status,
    /// Print the path of its kubeconfig, which works in its network namespace: `run`.
    Kubeconfig,
    /// Run a command in its network namespace, with KUBECONFIG, kubectl and helm: `run -- kubectl get pods -A`.
    Run {
        /// The command and its arguments.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
        command: Vec<String>,
    },
}

/// Which cluster, and what to do with it.
#[derive(clap::Args)]
pub struct Options {
    /// Which cluster: several can be up side by side.
    #[arg(long, default_value = "dev", global = true)]
    name: String,
    #[command(subcommand)]
    action: Action,
}

/// Does it.
pub fn run(options: &Options) -> Result<()> {
    let name = &options.name;
    match &options.action {
        Action::Up { nodes } => up(name, *nodes),
        Action::Down => down(name),
        Action::Status => call(name, &["status"]),
        Action::Kubeconfig => call(name, &["kubeconfig"]),
        Action::Run { command } => {
            let words: Vec<&str> = command.iter().map(String::as_str).collect();
            call(name, &[["run", "--"].as_slice(), &words].concat())
        }
    }
}

/// Starts the cluster `name`.
pub fn up(name: &str, nodes: u8) -> Result<()> {
    ensure!(run::is_root()?, "a cluster makes namespaces, mounts and cgroups: run it as root");
    packages::ensure(PACKAGES, "a Kubernetes node")?;
    let programs = programs()?;
    let programs = programs.to_str().context("the cache's path is UTF-8")?;
    call(name, &["up", "--nodes", &nodes.to_string(), "--programs", programs])
}

/// Ends the cluster `name`.
pub fn down(name: &str) -> Result<()> {
    call(name, &["down"])
}

/// Hands image archives to its nodes.
pub fn load(name: &str, archives: &[PathBuf]) -> Result<()> {
    let archives: Vec<_> = archives.iter().map(|path| path.to_string_lossy().into_owned()).collect();
    let words: Vec<&str> = archives.iter().map(String::as_str).collect();
    call(name, &[["load"].as_slice(), &words].concat())
}

/// The program that runs clusters.
pub fn runner() -> PathBuf {
    run::target_dir().join("debug/cluster")
}

fn call(name: &str, words: &[&str]) -> Result<()> {
    let build = ["build", "--quiet", "-p", "prescale-tests", "--bin", "cluster"];
    let built = run::cargo(&build).status().context("starting cargo")?;
    ensure!(built.success(), "`cargo {}` ended with {built}", build.join(" "));
    let mut command = Command::new(runner());
    command.args(["--name", name]).args(words);
    if words.first() == Some(&"run") {
        // Next to kubectl, which the runner puts there itself.
        let helm = helm::program()?;
        let path = std::env::var_os("PATH").unwrap_or_default();
        let paths = helm.parent().map(Path::to_owned).into_iter().chain(std::env::split_paths(&path));
        command.env("PATH", std::env::join_paths(paths)?);
    }
    let status = command.status().with_context(|| format!("starting {command:?}"))?;
    // It has said why.
    ensure!(status.success(), "`cluster {}` ended with {status}", words.first().unwrap_or(&""));
    Ok(())
}

/// The directory of the built program `cluster` and images (`pause.tar`, `server.tar`), named by everything
/// that they are made from.
pub fn programs() -> Result<PathBuf> {
    let source = run::root().join("tests/cluster");
    let go = Command::new("go").arg("version").output();
    let go = go.context("starting go: building Kubernetes needs Go 1.26 or later")?;
    let mut whole = go.stdout;
    for file in ["go.mod", "go.sum", "main.go", "pause/main.go", "server/main.go"] {
        whole.extend(fs::read(source.join(file)).with_context(|| format!("reading tests/cluster/{file}"))?);
    }
    whole.extend(link_flags().into_bytes());
    let directory = run::cache("cluster")?.join(&sha256(&whole)?[..16]);
    if directory.is_dir() {
        return Ok(directory);
    }
    let parent = directory.parent().context("the cache has a parent")?;
    fs::create_dir_all(parent).with_context(|| format!("making {}", parent.display()))?;
    // A second caller waits here for the first, then finds its work.
    let lock = fs::File::create(parent.join("lock"))?;
    lock.lock().context("waiting for another build of the cluster's programs")?;
    if !directory.is_dir() {
        let fresh = directory.with_extension("new");
        if fresh.exists() {
            fs::remove_dir_all(&fresh)?;
        }
        fs::create_dir(&fresh)?;
        build(&source, &fresh)?;
        fs::rename(&fresh, &directory).context("putting the programs into the cache")?;
    }
    Ok(directory)
}

fn link_flags() -> String {
    let (major, minor, patch) = KUBERNETES;
    let mut flags = "-s -w".to_owned();
    for package in ["k8s.io/component-base/version", "k8s.io/client-go/pkg/version"] {
        flags += &format!(" -X {package}.gitVersion=v{major}.{minor}.{patch}");
        flags += &format!(" -X {package}.gitMajor={major} -X {package}.gitMinor={minor}");
    }
    flags
}

fn build(source: &Path, into: &Path) -> Result<()> {
    eprintln!("building Kubernetes for tests, about 12 minutes the first time; kept in {}", into.display());
    let listed = go(source, &["list", "-deps", "."]).output().context("starting go")?;
    ensure!(listed.status.success(), "go list: {}", String::from_utf8_lossy(&listed.stderr));
    let most = listed.stdout.iter().filter(|&&byte| byte == b'\n').count();
    let mut command = go(source, &["build", "-v", "-trimpath", "-ldflags", &link_flags(), "-o"]);
    watch(command.arg(into).args([".", "./pause", "./server"]), most)?;
    for (name, to) in [("pause", "/pause"), ("server", "/server")] {
        let files = vec![File { from: into.join(name), to, executable: true, capabilities: &[] }];
        let name = &format!("prescale.dev/{name}:1");
        let image = Image { name, files, user: NOBODY, entrypoint: &[to], labels: &[] };
        image.write(&into.join(to.trim_start_matches('/')).with_extension("tar"))?;
    }
    Ok(())
}

/// Go without C: everything static, and nothing compiled a second time.
fn go(directory: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new("go");
    command.current_dir(directory).env("CGO_ENABLED", "0").args(arguments);
    command
}

/// Runs `go build -v` and says how far it is: it names each package as it compiles it.
fn watch(command: &mut Command, most: usize) -> Result<()> {
    let terminal = std::io::stderr().is_terminal();
    let period = Duration::from_secs(if terminal { 1 } else { 30 });
    let (begin, mut told) = (Instant::now(), Instant::now());
    let mut child = command.stderr(Stdio::piped()).spawn().context("starting go build")?;
    let lines = BufReader::new(child.stderr.take().context("its output is piped")?).lines();
    let (mut compiled, mut other) = (0, Vec::new());
    for line in lines {
        let line = line.context("reading what go build says")?;
        // A package's path, or an error; of a "# package" line the errors follow.
        if line.contains([' ', ':', '#']) {
            other.push(line);
            continue;
        }
        compiled += 1;
        if told.elapsed() >= period {
            told = Instant::now();
            let (before, after) = if terminal { ("\r", "") } else { ("", "\n") };
            let minutes = begin.elapsed().as_secs_f64() / 60.0;
            eprint!("{before}compiled {compiled} packages of at most {most}, {minutes:.1} minutes {after}");
        }
    }
    let status = child.wait().context("waiting for go build")?;
    eprintln!();
    if !status.success() {
        bail!("go build ended with {status}\n{}", other.join("\n"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_that_kubectl_is_told_is_the_one_that_is_built() {
        let modules = fs::read_to_string(run::root().join("tests/cluster/go.mod")).unwrap();
        let (major, minor, patch) = KUBERNETES;
        assert!(modules.contains(&format!("k8s.io/kubernetes v{major}.{minor}.{patch}\n")));
    }
}
