//! The aggregator's process: flags, log, runtime.

use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser as _;
use prescale_aggregator::flags::Flags;

fn main() -> ExitCode {
    let flags = Flags::parse();
    flags.log.start();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("can't start");
    prescale_shell::exit(
        "prescale-aggregator",
        runtime.and_then(|it| it.block_on(prescale_aggregator::run(flags))),
    )
}
