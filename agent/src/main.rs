//! `prescale-agent`: measures this node's watched pods and reports to the aggregator.

use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser as _;
use prescale_agent::args::Args;
use prescale_agent::run::run;
use prescale_shell::signals::Shutdown;

fn main() -> ExitCode {
    let args = Args::parse();
    args.log.start();
    prescale_shell::exit("prescale-agent", start(args))
}

/// One thread: the work is a few milliseconds a second, and every thread would cost memory on every node.
fn start(args: Args) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        // Only name look-ups block: one for the watch list, one for the reports.
        .max_blocking_threads(2)
        .build()
        .context("can't start the runtime")?;
    runtime.block_on(async { run(args, Shutdown::on_signals()?).await })
}
