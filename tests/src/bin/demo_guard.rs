//! Removes what is left of a demo when the demo is gone; `demo` starts it.

use clap::Parser;
use prescale_tests::demo::guard::{Belongings, watch};

/// Waits for the end of its standard input, then ends the demo's processes and removes its control groups and files.
/// `demo` starts it.
#[derive(Parser)]
struct Options {
    #[command(flatten)]
    belongings: Belongings,
}

fn main() -> anyhow::Result<()> {
    watch(&Options::parse().belongings)
}
