//! Holds the kernel programs on a cgroup until it is killed: what an agent's sudden end leaves behind, a test can see.

use std::path::PathBuf;

use anyhow::Result;
use clap::Parser;
use prescale_agent::kernel::Kernel;

/// Attaches and waits for ever.
#[derive(Parser)]
struct Arguments {
    /// The object file.
    #[arg(long)]
    object: PathBuf,
    /// The cgroup's directory.
    #[arg(long)]
    directory: PathBuf,
}

#[allow(clippy::print_stdout, reason = "the line is this program's answer")]
fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let mut kernel = Kernel::load(&arguments.object, 4)?;
    kernel.attach(&arguments.directory, &[], &[])?;
    println!("attached");
    loop {
        std::thread::park();
    }
}
