//! A real Kubernetes for tests: its programs come from `go`, and `tests/src/cluster` runs them.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use clap::Subcommand;

use crate::{go, helm, packages, run};

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
    let programs = programs()?;
    let programs = programs.to_str().context("the cache's path is UTF-8")?;
    call(name, &["up", "--nodes", &nodes.to_string(), "--programs", programs])
}

/// The directory of the programs of every cluster, and the packages that they call.
pub fn programs() -> Result<PathBuf> {
    packages::ensure(PACKAGES, "a Kubernetes node")?;
    go::programs()
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

/// PATH with Helm; next to kubectl, which the runner puts there itself.
pub fn path_with_helm() -> Result<OsString> {
    let helm = helm::program()?;
    let path = std::env::var_os("PATH").unwrap_or_default();
    let paths = helm.parent().map(Path::to_owned).into_iter().chain(std::env::split_paths(&path));
    Ok(std::env::join_paths(paths)?)
}

fn call(name: &str, words: &[&str]) -> Result<()> {
    let mut build = run::cargo(&["build", "--quiet", "--bin", "cluster"]);
    let built = build.args(run::LIKE_THE_TESTS).status().context("starting cargo")?;
    ensure!(built.success(), "building the program that runs clusters ended with {built}");
    let mut command = Command::new(runner());
    command.args(["--name", name]).args(words);
    if words.first() == Some(&"run") {
        command.env("PATH", path_with_helm()?);
    }
    let status = command.status().with_context(|| format!("starting {command:?}"))?;
    // It has said why.
    ensure!(status.success(), "`cluster {}` ended with {status}", words.first().unwrap_or(&""));
    Ok(())
}
