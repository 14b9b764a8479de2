//! `cargo xtask demo`: Prescale against the HPA on one machine.

use std::process::ExitCode;

use clap::Parser;
use prescale_tests::demo::options::Options;
use prescale_tests::demo::show;

fn main() -> ExitCode {
    let options = Options::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    match runtime.map_err(anyhow::Error::from).and_then(|runtime| runtime.block_on(show(options))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("demo: {error:#}");
            ExitCode::FAILURE
        }
    }
}
