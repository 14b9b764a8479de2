//! Tasks that are a program of their own in `tests`: built, then handed the rest of the command line.

use anyhow::{Result, bail};

use crate::{build_ebpf, release, run};

/// Builds and runs a tool of the `tests` package in release mode.
pub fn tool(name: &str, arguments: &[String]) -> Result<()> {
    let mut command =
        run::cargo(&["run", "--quiet", "--release", "-p", "prescale-tests", "--bin", name, "--"]);
    command.args(arguments);
    run::run(&mut command)
}

/// Builds everything that the demo shows, then runs it.
pub fn demo(arguments: &[String]) -> Result<()> {
    let asks_for_help = arguments.iter().any(|argument| argument == "--help" || argument == "-h");
    if !asks_for_help && !run::is_root()? {
        bail!("the demo attaches eBPF programs to cgroups of its own: run it as root");
    }
    let binaries = release::build(&["prescale-agent", "prescale-aggregator", "prescale-tests"])?;
    let mut command = std::process::Command::new(binaries.join("demo"));
    if !asks_for_help {
        command.arg("--object").arg(build_ebpf::build()?);
    }
    command.arg("--bin-dir").arg(&binaries).args(arguments);
    run::run(&mut command)
}
