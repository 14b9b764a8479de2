//! What both binaries need around the pure crates: clock, HTTP, TLS, logs, signals, back-off, admin endpoints.
//!
//! Nothing here decides anything about pods or workloads; that is `core`'s part.

pub mod admin;
pub mod backoff;
pub mod client;
pub mod clock;
pub mod http;
pub mod log;
pub mod server;
pub mod signals;
mod stall;
pub mod tls;
pub mod token;

use std::process::ExitCode;

/// Ends a binary's `main`: an error becomes one line on standard error, its causes joined by `: `, and exit code 1.
pub fn exit(program: &str, result: anyhow::Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{program}: {error:#}");
            ExitCode::FAILURE
        }
    }
}
