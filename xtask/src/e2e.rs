//! The end-to-end tests: images, a cluster of their own, the tests inside its network, and nothing left at the end.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use anyhow::{Context, Result, bail, ensure};

use crate::{cluster, images, run};

/// Never the developer's own cluster: it is ended after the tests.
const CLUSTER: &str = "e2e";
/// Runs of every test without `--quick`: a count that is exact once may be luck.
const RUNS: u32 = 5;

/// How thoroughly.
#[derive(clap::Args)]
pub struct Options {
    /// Every test once.
    #[arg(long)]
    quick: bool,
    /// Leave the cluster up, to look at: `cargo xtask cluster --name e2e status`.
    #[arg(long)]
    keep: bool,
}

/// Runs them all.
pub fn run(options: &Options) -> Result<()> {
    let archives = [images::agent()?, cluster::programs()?.join("server.tar")];
    // A run that was stopped may have left its cluster.
    cluster::down(CLUSTER)?;
    cluster::up(CLUSTER, 1)?;
    let outcome = cluster::load(CLUSTER, &archives).and_then(|()| test(options));
    if options.keep {
        return outcome;
    }
    let ended = cluster::down(CLUSTER);
    outcome.and(ended)
}

fn test(options: &Options) -> Result<()> {
    let mut cargo = run::cargo(&["test", "-p", "prescale-tests", "--test", "e2e", "--"]);
    cargo.args(["--test-threads=1", "--nocapture"]);
    // cargo starts each test binary through this: inside the network namespace that pods can be reached from.
    let target = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let variable = format!("CARGO_TARGET_{}_RUNNER", target.to_uppercase().replace('-', "_"));
    cargo.env(variable, format!("{} --name {CLUSTER} run --", cluster::runner().display()));
    cargo.env("PRESCALE_E2E_RUNS", if options.quick { 1 } else { RUNS }.to_string());
    let mut child = cargo.stdout(Stdio::piped()).spawn().context("starting cargo")?;
    let output = child.stdout.take().context("its output is piped")?;
    let (mut passed, mut failed) = (0, 0);
    for line in BufReader::new(output).lines() {
        let line = line.context("reading the tests' output")?;
        eprintln!("{line}");
        if let Some((more_passed, more_failed)) = counts(&line) {
            passed += more_passed;
            failed += more_failed;
        }
    }
    let status = child.wait().context("waiting for the tests")?;
    say(&format!("{passed} passed, {failed} failed"));
    if !status.success() || failed > 0 {
        bail!("the end-to-end tests failed");
    }
    ensure!(passed > 0, "no end-to-end test was run");
    Ok(())
}

#[allow(clippy::print_stdout, reason = "the line that CI reads")]
fn say(line: &str) {
    println!("{line}");
}

/// Of libtest's closing line: `test result: ok. 1 passed; 0 failed; …`.
fn counts(line: &str) -> Option<(u32, u32)> {
    let parts = line.strip_prefix("test result: ")?.split_once(". ")?.1;
    let number = |what: &str| parts.split("; ").find_map(|part| part.strip_suffix(what)?.trim().parse().ok());
    Some((number("passed")?, number("failed")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_closing_line_is_read() {
        let line = "test result: FAILED. 3 passed; 2 failed; 0 ignored; 0 measured; 1 filtered out; finished in 9.8s";
        assert_eq!(counts(line), Some((3, 2)));
        assert_eq!(counts("test counts ... ok"), None);
    }
}
