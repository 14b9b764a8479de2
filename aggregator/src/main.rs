//! The aggregator's process: flags, log, runtime.

use std::process::ExitCode;

use anyhow::Context as _;
use clap::{CommandFactory as _, FromArgMatches as _, Subcommand as _};
use prescale_aggregator::errand::{self, Errand};
use prescale_aggregator::flags::Flags;

fn main() -> ExitCode {
    // An errand takes the place of the service and of all its flags.
    let command = Errand::augment_subcommands(Flags::command())
        .subcommand_negates_reqs(true)
        .args_conflicts_with_subcommands(true);
    let matches = command.get_matches();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("can't start");
    let result = runtime.and_then(|runtime| {
        if matches.subcommand().is_some() {
            let errand = Errand::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
            return runtime.block_on(errand::run(errand));
        }
        let flags = Flags::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
        flags.log.start();
        runtime.block_on(prescale_aggregator::run(flags))
    });
    prescale_shell::exit("prescale-aggregator", result)
}
