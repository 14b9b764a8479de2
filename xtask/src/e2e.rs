//! The end-to-end tests: images, a cluster of their own, the tests inside its network, and nothing left at the end.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

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
    /// Not a cluster of our making but the one of this kubeconfig, with kubectl and from where its pods can be called: one
    /// of its nodes. Installs Prescale, makes namespaces called prescale-e2e-…, and removes both.
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// What stands before the images' names in that cluster: where you have pushed prescale-agent, prescale-aggregator
    /// and server, or `prescale.dev/` where you have loaded the archives.
    #[arg(long, default_value = "prescale.dev/", requires = "kubeconfig")]
    image_prefix: String,
    /// Only the tests whose names contain one of these; `install` is always run.
    tests: Vec<String>,
}

impl Options {
    /// Whether the test `name` is run: as the tests themselves choose.
    fn wants(&self, name: &str) -> bool {
        self.tests.is_empty() || self.tests.iter().any(|word| name.contains(word.as_str()))
    }
}

/// Each test once, in a cluster of their own.
///
/// # Errors
/// If one fails, or if what they need can't be built: nothing is passed over.
pub fn quick() -> Result<()> {
    run(&Options {
        quick: true,
        keep: false,
        name: "ci".into(),
        kubeconfig: None,
        image_prefix: String::new(),
        tests: Vec::new(),
    })
}

/// Runs them all.
pub fn run(options: &Options) -> Result<()> {
    if let Some(file) = &options.kubeconfig {
        ensure!(file.is_file(), "--kubeconfig {}: there is no such file", file.display());
    }
    packages::ensure(PACKAGES, "the end-to-end tests")?;
    let servers = go::servers()?;
    let mut archives = vec![servers.join("server.tar")];
    for which in [Which::Agent, Which::Aggregator, Which::Sample] {
        archives.push(images::build(which)?);
    }
    if let Some(kubeconfig) = &options.kubeconfig {
        return elsewhere(options, kubeconfig, &archives);
    }
    if options.wants("ramp") {
        archives.extend([servers.join("external.tar"), go::metrics_server()?]);
    }
    let name = &options.name;
    // A run that was stopped may have left its cluster.
    cluster::down(name)?;
    if options.tests.is_empty() || options.wants("crash") {
        crash()?;
    }
    cluster::up(name, NODES)?;
    let outcome = cluster::load(name, &archives).and_then(|()| test(options));
    if options.keep {
        return outcome;
    }
    let ended = cluster::down(name);
    outcome.and(ended)
}

/// Clusters that are killed while they start leave nothing behind; before the tests, for they would disturb each other.
fn crash() -> Result<()> {
    let mut cargo = run::cargo(&["test", "--quiet", "--workspace", "--test", "cluster_crash", "--"]);
    cargo.args(["--ignored", "--test-threads=1"]).env("PRESCALE_CLUSTER_PROGRAMS", cluster::programs()?);
    run::run(&mut cargo)
}

/// In a cluster of somebody's, whose nodes have the images.
fn elsewhere(options: &Options, kubeconfig: &Path, archives: &[PathBuf]) -> Result<()> {
    let kubeconfig =
        kubeconfig.canonicalize().with_context(|| format!("--kubeconfig {}", kubeconfig.display()))?;
    let found = Command::new("kubectl").args(["version", "--client"]).output();
    ensure!(found.is_ok_and(|it| it.status.success()), "--kubeconfig needs kubectl on the path");
    eprintln!("the cluster's nodes must have these images, as {}NAME:", options.image_prefix);
    for archive in archives {
        eprintln!("  {}", archive.display());
    }
    let mut cargo = tests(options)?;
    cargo.env("KUBECONFIG", kubeconfig).env("PRESCALE_E2E_IMAGE_PREFIX", &options.image_prefix);
    finish(cargo)
}

fn test(options: &Options) -> Result<()> {
    let name = &options.name;
    let mut cargo = tests(options)?;
    // cargo starts the tests through this: inside the network namespace that pods can be reached from.
    let target = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let variable = format!("CARGO_TARGET_{}_RUNNER", target.to_uppercase().replace('-', "_"));
    cargo.env(variable, format!("{} --name {name} run --", cluster::runner().display()));
    cargo.env("PRESCALE_E2E_CLUSTER", name);
    finish(cargo)
}

fn tests(options: &Options) -> Result<Command> {
    let mut cargo = run::cargo(&["test", "--quiet", "--workspace", "--test", "e2e", "--"]);
    cargo.args(&options.tests).env("PATH", cluster::path_with_helm()?);
    if options.quick {
        cargo.env("PRESCALE_E2E_QUICK", "1");
    }
    Ok(cargo)
}

fn finish(mut cargo: Command) -> Result<()> {
    // They print `N passed, N failed` at the end themselves.
    let status = cargo.status().context("starting cargo")?;
    if !status.success() {
        bail!("the end-to-end tests failed");
    }
    Ok(())
}
