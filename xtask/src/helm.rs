//! Helm, built once from its published module and kept outside of the work tree, by version.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use crate::{go, run};

const MODULE: &str = "helm.sh/helm/v4/cmd/helm";
const VERSION: &str = "v4.3.1";

/// The program; built first where it is not there yet.
///
/// # Errors
/// Go is missing, or can't build it.
pub fn program() -> Result<PathBuf> {
    let cache = run::cache("helm")?;
    let (directory, fresh) = (cache.join(VERSION), cache.join(format!("{VERSION}.new")));
    let program = directory.join("helm");
    if program.is_file() {
        return Ok(program);
    }
    // A second caller waits here for the first, then finds its work.
    let lock = fs::File::create(cache.join("lock"))?;
    lock.lock().context("waiting for another build of Helm")?;
    if !program.is_file() {
        eprintln!("building Helm {VERSION}, about 3 minutes the first time; kept in {}", directory.display());
        let mut go = Command::new("go");
        // Without C: static, and nothing is compiled a second time. Outside of any module: the version is ours.
        go.current_dir(&cache).env("CGO_ENABLED", "0").env("GOBIN", &fresh);
        go.args(["install", "-v", "-trimpath", "-ldflags", "-s -w"]).arg(format!("{MODULE}@{VERSION}"));
        go::watch(&mut go, None).context("building Helm needs Go 1.26 or later")?;
        fs::rename(&fresh, &directory).context("putting Helm into the cache")?;
    }
    Ok(program)
}

/// A call of it that neither reads nor writes the caller's own settings and plugins.
///
/// # Errors
/// As [`program`].
pub fn command(arguments: &[&str]) -> Result<Command> {
    let mut command = Command::new(program()?);
    let home = run::cache("helm")?.join("home");
    for variable in ["HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"] {
        command.env(variable, &home);
    }
    command.current_dir(run::root()).args(arguments);
    Ok(command)
}
