//! The end-to-end tests: images, a cluster of their own, the tests inside its network, and nothing left at the end.

use anyhow::{Context, Result, bail};

use crate::images::Which;
use crate::{cluster, go, images, packages, run};

/// A second one: what is measured on one node must be on the other too.
const NODES: u8 = 2;
/// What the tests drive beside kubectl and helm.
const PACKAGES: &[&str] = &["curl", "prometheus"];

/// How thoroughly, and where.
#[derive(clap::Args)]
pub struct Options {
    /// Each test once, and shorter where it takes minutes.
    #[arg(long)]
    quick: bool,
    /// Leave the cluster up, to look at: `cargo xtask cluster --name e2e status`.
    #[arg(long)]
    keep: bool,
    /// The cluster's name; never the developer's own one: it is ended before and after the tests.
    #[arg(long, default_value = "e2e")]
    name: String,
    /// Only the tests whose names contain one of these; `install` is always run.
    tests: Vec<String>,
}

/// Each test once, in a cluster of their own.
///
/// # Errors
/// If one fails, or if what they need can't be built: nothing is passed over.
pub fn quick() -> Result<()> {
    run(&Options { quick: true, keep: false, name: "ci".into(), tests: Vec::new() })
}

/// Runs them all.
pub fn run(options: &Options) -> Result<()> {
    packages::ensure(PACKAGES, "the end-to-end tests")?;
    let server = go::server()?;
    let mut archives = vec![images::build(Which::Agent)?, images::build(Which::Aggregator)?];
    archives.push(server);
    let name = &options.name;
    // A run that was stopped may have left its cluster.
    cluster::down(name)?;
    cluster::up(name, NODES)?;
    let outcome = cluster::load(name, &archives).and_then(|()| test(options));
    if options.keep {
        return outcome;
    }
    let ended = cluster::down(name);
    outcome.and(ended)
}

fn test(options: &Options) -> Result<()> {
    let name = &options.name;
    let mut cargo = run::cargo(&["test", "--quiet", "-p", "prescale-tests", "--test", "e2e", "--"]);
    cargo.args(&options.tests);
    // cargo starts the tests through this: inside the network namespace that pods can be reached from.
    let target = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let variable = format!("CARGO_TARGET_{}_RUNNER", target.to_uppercase().replace('-', "_"));
    cargo.env(variable, format!("{} --name {name} run --", cluster::runner().display()));
    cargo.env("PATH", cluster::path_with_helm()?).env("PRESCALE_E2E_CLUSTER", name);
    if options.quick {
        cargo.env("PRESCALE_E2E_QUICK", "1");
    }
    // They print `N passed, N failed` at the end themselves.
    let status = cargo.status().context("starting cargo")?;
    if !status.success() {
        bail!("the end-to-end tests failed");
    }
    Ok(())
}
