//! The demo's last act, in a process of its own: when the demo is gone, however it went, nothing of it stays.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail};
use clap::Args;

use super::cgroup;

/// What is to be removed.
#[derive(Args, Clone, Debug)]
pub struct Belongings {
    /// A control group: its processes are ended, it is removed (repeatable)
    #[arg(long = "cgroup", value_name = "DIR")]
    pub cgroups: Vec<PathBuf>,
    /// The demo's directory of temporary files
    #[arg(long, value_name = "DIR")]
    pub files: PathBuf,
}

/// Waits until standard input ends, which is when the demo drops its end or dies, then removes everything.
///
/// # Errors
/// Something could not be removed; the rest is.
pub fn watch(belongings: &Belongings) -> Result<()> {
    let mut nothing = [0; 64];
    while matches!(std::io::stdin().read(&mut nothing), Ok(1..)) {}
    let mut failures = Vec::new();
    for directory in &belongings.cgroups {
        failures.extend(cgroup::remove(directory).err());
    }
    if let Err(error) = std::fs::remove_dir_all(&belongings.files)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        failures.push(anyhow::Error::from(error).context(format!("removing {}", belongings.files.display())));
    }
    match failures.pop() {
        None => Ok(()),
        Some(failure) => Err(failure),
    }
}

/// The running guard, from the demo's side.
#[derive(Debug)]
pub struct Guard(Child);

impl Guard {
    /// Starts it, out of reach of the terminal's Ctrl-C.
    ///
    /// # Errors
    /// The program can't be started.
    pub fn start(program: &Path, belongings: &Belongings) -> Result<Self> {
        use std::os::unix::process::CommandExt;
        let mut command = Command::new(program);
        for directory in &belongings.cgroups {
            command.arg("--cgroup").arg(directory);
        }
        command.arg("--files").arg(&belongings.files);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).process_group(0);
        command.spawn().map(Self).with_context(|| format!("starting {}", program.display()))
    }

    /// Has everything removed and waits for it.
    ///
    /// # Errors
    /// The guard could not remove everything; it has said what on standard error.
    pub fn finish(mut self) -> Result<()> {
        drop(self.0.stdin.take());
        let status = self.0.wait().context("waiting for the guard")?;
        if !status.success() {
            bail!("not everything of the demo could be removed (the guard says what, above)");
        }
        Ok(())
    }
}
