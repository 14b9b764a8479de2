//! What the agent itself costs: CPU time and memory.

use std::fs;
use std::path::{Path, PathBuf};

use crate::cgroup::number_after;

/// Linux shows `/proc/self/stat` times in hundredths of a second on every architecture we run on (USER_HZ).
const NS_PER_TICK: u64 = 10_000_000;

/// The agent's own cost, as of one look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OwnCost {
    /// CPU time used since the start, nanoseconds, to a hundredth of a second.
    pub cpu_ns: u64,
    /// Resident memory, bytes.
    pub resident_bytes: u64,
    /// Memory of the agent's own cgroup, kernel maps included and file pages that nobody uses not, bytes; `None` when
    /// it has no cgroup of its own or none with a memory controller.
    pub cgroup_bytes: Option<u64>,
}

/// Where to look; found once at the start.
#[derive(Debug)]
pub struct OwnFiles {
    memory: Option<MemoryFiles>,
}

#[derive(Debug)]
struct MemoryFiles {
    directory: PathBuf,
    usage: &'static str,
    inactive_file: &'static str,
}

impl OwnFiles {
    /// Looks for the agent's own memory cgroup, version 2 or 1.
    pub fn find() -> Self {
        let cgroups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let memory = cgroups.lines().find_map(|line| {
            let mut parts = line.splitn(3, ':');
            let (_, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
            let path = path.trim_start_matches('/');
            let (mount, usage, inactive_file) = match controllers {
                "" => ("/sys/fs/cgroup", "memory.current", "inactive_file"),
                "memory" => ("/sys/fs/cgroup/memory", "memory.usage_in_bytes", "total_inactive_file"),
                _ => return None,
            };
            let directory = Path::new(mount).join(path);
            let files = MemoryFiles { directory, usage, inactive_file };
            files.is_ours_alone().then_some(files)
        });
        Self { memory }
    }

    /// Looks now.
    pub fn look(&self) -> OwnCost {
        let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        OwnCost {
            cpu_ns: cpu_ticks(&stat).unwrap_or(0).saturating_mul(NS_PER_TICK),
            resident_bytes: resident_bytes(&status).unwrap_or(0),
            cgroup_bytes: self.memory.as_ref().and_then(MemoryFiles::used),
        }
    }
}

impl MemoryFiles {
    /// In a shared cgroup the figure would be somebody else's.
    fn is_ours_alone(&self) -> bool {
        let processes = fs::read_to_string(self.directory.join("cgroup.procs")).unwrap_or_default();
        processes.trim() == std::process::id().to_string() && self.used().is_some()
    }

    fn used(&self) -> Option<u64> {
        let usage: u64 = fs::read_to_string(self.directory.join(self.usage)).ok()?.trim().parse().ok()?;
        let stat = fs::read_to_string(self.directory.join("memory.stat")).ok()?;
        Some(usage.saturating_sub(number_after(&stat, self.inactive_file)?))
    }
}

/// utime + stime: fields 14 and 15, counted after the name, which may hold anything.
fn cpu_ticks(stat: &str) -> Option<u64> {
    let mut fields = stat.rsplit_once(") ")?.1.split(' ').skip(11);
    let (user, system): (u64, u64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    Some(user + system)
}

fn resident_bytes(status: &str) -> Option<u64> {
    let kib: u64 = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?
        .trim()
        .strip_suffix(" kB")?
        .parse()
        .ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_kernels_files() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194304 500 0 0 0 12 30 0 0 20 0 1 0 100 9 9";
        assert_eq!(cpu_ticks(stat), Some(42));
        assert_eq!(resident_bytes("Name:\ta\nVmRSS:\t  4096 kB\n"), Some(4_194_304));
        assert_eq!((cpu_ticks(""), resident_bytes("")), (None, None));
    }

    #[test]
    fn sees_itself() {
        let cost = OwnFiles::find().look();
        assert!(cost.resident_bytes > 100_000, "{cost:?}");
    }
}
