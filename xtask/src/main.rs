//! Every task of the project, each a file of its own: `cargo xtask <task>`.

mod archive;
mod build_ebpf;
mod chart;
mod ci;
mod cluster;
mod cost;
mod e2e;
mod go;
mod helm;
mod images;
mod packages;
mod programs;
mod release;
mod run;
mod suite;

use clap::{Parser, Subcommand};

/// Prescale's tasks. On a fresh Debian 12 with Rust, as root, each installs what it lacks and says so first.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Build the kernel programs: picks a compiler that can, installs one on Debian as root.
    BuildEbpf,
    /// Show Prescale at work on this machine: a real HTTP service, the real agent, aggregator and eBPF program.
    ///
    /// Needs root and cgroup2. Opens a page on loopback; `cargo xtask demo -- --help` lists the options.
    #[command(disable_help_flag = true)]
    Demo(PassedOn),
    /// Run all tests: plain ones, then those that need root and a real kernel.
    Test(suite::Options),
    /// What CI runs: format, lints, tests, the chart, costs, kernel tests, fuzzing, a short demo; minutes per tier at the end.
    Ci,
    /// A real Kubernetes on this machine, for tests: up, down, status, kubeconfig, run.
    Cluster(cluster::Options),
    /// Test Prescale end to end in a cluster of its own, which is started and ended; `N passed, N failed` at the end.
    E2e(e2e::Options),
    /// Check the Helm chart: linted, rendered with every pair of its switches, its alerts and queries tried.
    Chart,
    /// Build the container images as archives in target/images: static binaries, from scratch.
    Images(images::Options),
    /// Write forecasts of traces in `evaluate.py`'s format: `--traces DIR --out FILE.csv`.
    #[command(disable_help_flag = true)]
    Forecast(PassedOn),
    /// Train the pooled network on the training parts of traces: `--traces DIR --out FILE.safetensors`.
    #[command(disable_help_flag = true)]
    Train(PassedOn),
    /// Score every model on traces, as a table and an HTML report: `--traces DIR`.
    #[command(disable_help_flag = true)]
    Evaluate(PassedOn),
    /// Count the instructions of a workload's forecasts (callgrind) and fail above their budgets.
    Cost,
    /// Run the deterministic simulator: a seeded day, faults, policies.
    #[command(disable_help_flag = true)]
    Simulate(PassedOn),
    /// Feed arbitrary bytes to the wire decoder for a while.
    Fuzz {
        /// How long, in seconds.
        #[arg(long, default_value_t = 30)]
        seconds: u32,
    },
}

/// Arguments that the task's own program reads; `--help` included.
#[derive(clap::Args)]
struct PassedOn {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

fn main() -> std::process::ExitCode {
    match run_task(Arguments::parse().task) {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            // Sentences for a person; a backtrace of this program would hide them.
            eprintln!("error: {error:#}");
            std::process::ExitCode::FAILURE
        }
    }
}

fn run_task(task: Task) -> anyhow::Result<()> {
    match task {
        Task::BuildEbpf => build_ebpf::build().map(drop),
        Task::Demo(PassedOn { arguments }) => programs::demo(&arguments),
        Task::Test(options) => suite::run(&options),
        Task::Ci => ci::run(),
        Task::Cluster(options) => cluster::run(&options),
        Task::E2e(options) => e2e::run(&options),
        Task::Chart => chart::run(),
        Task::Images(options) => images::run(&options),
        Task::Forecast(PassedOn { arguments }) => programs::tool("forecast", &arguments),
        Task::Train(PassedOn { arguments }) => programs::tool("train", &arguments),
        Task::Evaluate(PassedOn { arguments }) => programs::tool("evaluate", &arguments),
        Task::Cost => cost::run(),
        Task::Simulate(PassedOn { arguments }) => programs::tool("simulate", &arguments),
        Task::Fuzz { seconds } => suite::fuzz(seconds),
    }
}
