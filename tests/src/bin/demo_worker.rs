//! One replica of the demo's service; `demo` starts it.

use clap::Parser;
use prescale_tests::demo::worker::{Behaviour, serve};

/// One replica of the demo's HTTP service. `demo` starts it; by hand: `demo_worker --start-up-ms 0 --slots 8
/// --hold-ms 40`, then `curl` the port that it prints. It ends with its standard input.
#[derive(Parser)]
struct Options {
    #[command(flatten)]
    behaviour: Behaviour,
}

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    // One thread: a replica takes at most one of the machine's cores, as a small pod would.
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(serve(options.behaviour))
}
