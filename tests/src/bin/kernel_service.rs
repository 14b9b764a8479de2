//! The kernel tests' service as a process, so that it can live in a cgroup and a network namespace of its own.

use std::net::TcpListener;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Parser;
use prescale_tests::kernel::service::{Manner, serve};

/// Serves until it is killed.
#[derive(Parser)]
struct Arguments {
    /// Where to listen; the port that was taken is the first line of the output.
    #[arg(long)]
    listen: String,
    /// One thread for all connections.
    #[arg(long)]
    single: bool,
    /// How long a request occupies its thread, microseconds.
    #[arg(long, default_value_t = 0)]
    work_us: u64,
}

#[allow(clippy::print_stdout, reason = "the port is this program's answer")]
fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let listener = TcpListener::bind(&arguments.listen).with_context(|| arguments.listen.clone())?;
    println!("{}", listener.local_addr()?.port());
    serve(&listener, Manner { single: arguments.single, work: Duration::from_micros(arguments.work_us) })
}
