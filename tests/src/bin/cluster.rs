//! `cargo xtask cluster`: a real Kubernetes on this machine, for tests.

use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::{Parser, Subcommand};
use prescale_tests::cluster::layout::Place;
use prescale_tests::cluster::{clean, inside, load, node, running, status, up};

/// A real Kubernetes on this machine, in network namespaces without a way out. Needs root.
#[derive(Parser)]
struct Options {
    /// Which cluster: several can be up side by side.
    #[arg(long, default_value = "dev", global = true)]
    name: String,
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Start it and wait until pods can be made.
    Up {
        /// How many nodes, 1 or 2.
        #[arg(long, default_value_t = 1)]
        nodes: u8,
        /// The directory of the built programs.
        #[arg(long)]
        programs: PathBuf,
    },
    /// End it and remove everything of it, also after a crash.
    Down,
    /// Say what there is of it.
    Status,
    /// Print the path of its kubeconfig, which works in its network namespace: `run`.
    Kubeconfig,
    /// Run a command in its network namespace, with KUBECONFIG and kubectl: `run -- kubectl get pods -A`.
    Run {
        /// The command and its arguments.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
        command: Vec<String>,
    },
    /// Hand docker archives to its nodes.
    Load {
        /// The archives.
        #[arg(required = true)]
        archives: Vec<PathBuf>,
    },
    /// The first process of a node; `up` starts it.
    #[command(hide = true)]
    Node {
        #[arg(long)]
        directory: PathBuf,
        #[arg(long)]
        number: u8,
    },
}

fn main() -> ExitCode {
    match act(Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cluster: {error:#}");
            ExitCode::FAILURE
        }
    }
}

#[allow(clippy::print_stdout, reason = "the path is the command's answer")]
fn act(options: Options) -> Result<()> {
    let place = Place::new(&options.name)?;
    if !rustix::process::geteuid().is_root() {
        bail!("a cluster makes namespaces, mounts and cgroups: run it as root");
    }
    match options.action {
        Action::Up { nodes, programs } => up(&place, programs, nodes).map(drop),
        Action::Down => clean::down(&place),
        Action::Status => status(&place),
        Action::Kubeconfig => {
            println!("{}", running(&place)?.0.kubeconfig().display());
            Ok(())
        }
        Action::Run { command } => {
            let (layout, record) = running(&place)?;
            let mut inside = inside(&layout, &record, &command[0])?;
            Err(inside.args(&command[1..]).exec().into())
        }
        Action::Load { archives } => load(&place, &archives),
        Action::Node { directory, number } => node::live(&directory, number),
    }
}
