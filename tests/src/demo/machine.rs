//! What the demo needs of the machine, and whether the machine kept up with it.

use std::fs;

use anyhow::{Context, Result, bail};
use rustix::process::{Resource, Rlimit, geteuid, getrlimit, setrlimit};

/// Where the eBPF programs load: 5.17 brought `bpf_loop` (KERNEL.md, "Other kernels").
const OLDEST_KERNEL: (u32, u32) = (5, 17);
/// Connections of the load generator plus pipes and log files.
const OPEN_FILES: u64 = 20_000;
/// Above this share of all CPUs over half a second, latency may come from the machine instead of from slots and queues.
pub const BUSY_LIMIT: f64 = 0.8;

/// Checks who and where we are, and raises the limit of open files.
///
/// # Errors
/// One sentence about what is missing.
pub fn prepare() -> Result<()> {
    if !geteuid().is_root() {
        bail!("the demo attaches eBPF programs to control groups of its own: run it as root");
    }
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").context("reading the kernel's version")?;
    check_kernel(release.trim())?;
    allow_open_files()
}

/// Raises this process' limit of open files to [`OPEN_FILES`], where it is lower.
///
/// # Errors
/// One sentence, where the hard limit is lower too.
pub fn allow_open_files() -> Result<()> {
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= OPEN_FILES) {
        return Ok(());
    }
    let wanted = Rlimit { current: Some(OPEN_FILES), maximum: limit.maximum };
    setrlimit(Resource::Nofile, wanted).with_context(|| {
        format!("up to {OPEN_FILES} connections are opened, and `ulimit -Hn` does not allow so many")
    })
}

fn check_kernel(release: &str) -> Result<()> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map_while(|part| part.parse::<u32>().ok());
    let version = numbers.next().zip(numbers.next());
    if version.is_none_or(|version| version < OLDEST_KERNEL) {
        let (major, minor) = OLDEST_KERNEL;
        bail!("Linux {release} is too old: the eBPF programs need {major}.{minor} or later");
    }
    Ok(())
}

/// How busy the machine's CPUs are, everything on it included.
#[derive(Clone, Copy, Debug)]
pub struct Busy {
    idle: u64,
    total: u64,
}

impl Busy {
    /// Starts measuring.
    ///
    /// # Errors
    /// `/proc/stat` can't be read.
    pub fn start() -> Result<Self> {
        let text = fs::read_to_string("/proc/stat").context("reading /proc/stat")?;
        let first = text.lines().next().unwrap_or_default();
        let ticks: Vec<u64> =
            first.split_whitespace().skip(1).filter_map(|field| field.parse().ok()).collect();
        // user nice system idle iowait irq softirq steal; guest time is part of user.
        if ticks.len() < 8 {
            bail!("/proc/stat begins with {first:?}");
        }
        Ok(Self { idle: ticks[3] + ticks[4], total: ticks[..8].iter().sum() })
    }

    /// The share of all CPUs' time that was used since the last call.
    ///
    /// # Errors
    /// `/proc/stat` can't be read.
    pub fn share(&mut self) -> Result<f64> {
        let now = Self::start()?;
        let total = now.total.saturating_sub(self.total);
        let idle = now.idle.saturating_sub(self.idle);
        *self = now;
        Ok(if total == 0 { 0.0 } else { 1.0 - idle as f64 / total as f64 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_are_told_apart() {
        for fine in ["5.17.0", "6.1.0-18-amd64", "6.18.44-fc-v669", "10.0"] {
            assert!(check_kernel(fine).is_ok(), "{fine}");
        }
        for old in ["5.16.20", "4.19.0-26-amd64", "garbage", ""] {
            assert!(check_kernel(old).is_err(), "{old}");
        }
    }
}
