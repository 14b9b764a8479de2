//! Running other programs: says what it runs, fails with what failed.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

/// The workspace's root.
pub fn root() -> PathBuf {
    let xtask = Path::new(env!("CARGO_MANIFEST_DIR"));
    xtask.parent().expect("xtask is a folder of the workspace").to_path_buf()
}

/// The directory that cargo builds into.
pub fn target_dir() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(dir) => root().join(dir),
        None => root().join("target"),
    }
}

/// The user's cache directory for `what`, made if need be: what is dear to build and does not depend on the work tree.
pub fn cache(what: &str) -> Result<PathBuf> {
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).or_else(home);
    let cache = cache.context("neither XDG_CACHE_HOME nor HOME is set")?.join("prescale").join(what);
    std::fs::create_dir_all(&cache).with_context(|| format!("making {}", cache.display()))?;
    Ok(cache)
}

/// `cargo` in the workspace's root.
pub fn cargo(arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root()).args(arguments);
    // What cargo said of this package is nothing to a build, but the build script of `ring` has itself run again when it
    // changes: all above it would be compiled anew whenever a shell, this program and a test call cargo in turn.
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|it| it.starts_with("CARGO_PKG_") || it.starts_with("CARGO_MANIFEST_")) {
            command.env_remove(name);
        }
    }
    command
}

/// Asks cargo for programs of the whole workspace with the features that its tests have. Which packages are asked for, and
/// whether anything of them needs development dependencies, decides the features of what they share: with other words than
/// these, and those of `cargo test --workspace`, tokio, kube and all above them would be compiled once more. The example stands
/// for what needs development dependencies: it is small.
pub const LIKE_THE_TESTS: [&str; 3] = ["--workspace", "--example", "cost"];

/// Whether this process is root.
pub fn is_root() -> Result<bool> {
    let output = Command::new("id").arg("-u").output().context("running `id -u`")?;
    Ok(output.stdout.trim_ascii() == b"0")
}

/// Runs to the end, its output on ours.
///
/// # Errors
/// If it can't be started or ends with anything but success.
pub fn run(command: &mut Command) -> Result<()> {
    let line = line_of(command);
    eprintln!("$ {line}");
    let status = command.status().with_context(|| format!("starting `{line}`"))?;
    if !status.success() {
        bail!("`{line}` ended with {status}");
    }
    Ok(())
}

fn line_of(command: &Command) -> String {
    let mut line = command.get_program().to_string_lossy().into_owned();
    for argument in command.get_args() {
        line.push(' ');
        line.push_str(&argument.to_string_lossy());
    }
    line
}
