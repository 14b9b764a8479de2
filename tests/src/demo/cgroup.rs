//! The demo's own control groups: one per pod and per binary, made below one directory and removed with it.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

/// The first part of the name of every directory that a demo makes; the rest is its process id.
pub const PREFIX: &str = "prescale-demo-";
/// Ended processes leave their group within a few ms; this long means that one hangs in the kernel.
const EMPTYING_LIMIT: Duration = Duration::from_secs(10);

/// Where this machine's control groups are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mounts {
    /// The cgroup2 hierarchy (`/sys/fs/cgroup`, or `/sys/fs/cgroup/unified` beside version 1).
    pub unified: PathBuf,
    /// Version 1's memory controller, where it is mounted.
    pub memory: Option<PathBuf>,
}

impl Mounts {
    /// Reads `/proc/self/mounts`.
    ///
    /// # Errors
    /// There is no cgroup2 mount, or the file can't be read.
    pub fn find() -> Result<Self> {
        let mounts = fs::read_to_string("/proc/self/mounts").context("reading /proc/self/mounts")?;
        Self::parse(&mounts).context(
            "no cgroup2 is mounted here: `mount -t cgroup2 none /sys/fs/cgroup/unified` gives one beside version 1",
        )
    }

    fn parse(mounts: &str) -> Option<Self> {
        let entries =
            || mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>()).filter(|f| f.len() > 3);
        let unified = entries().find(|fields| fields[2] == "cgroup2")?[1].into();
        let memory = entries()
            .find(|fields| fields[2] == "cgroup" && fields[3].split(',').any(|option| option == "memory"))
            .map(|fields| fields[1].into());
        Some(Self { unified, memory })
    }
}

/// The demo's directories.
#[derive(Clone, Debug)]
pub struct Groups {
    /// Holds the pods' directories and those of agent and aggregator.
    pub root: PathBuf,
    // Version 1's memory directory for the agent; on version 2 the agent's own directory has the controller.
    memory: Option<PathBuf>,
}

impl Groups {
    /// Names the directories of this process; [`Self::create`] makes them.
    pub fn new(mounts: &Mounts) -> Self {
        let name = format!("{PREFIX}{}", std::process::id());
        Self {
            root: mounts.unified.join(&name),
            memory: mounts.memory.as_ref().map(|mount| mount.join(&name)),
        }
    }

    /// Every directory whose contents end with the demo.
    pub fn all(&self) -> Vec<PathBuf> {
        std::iter::once(self.root.clone()).chain(self.memory.clone()).collect()
    }

    /// Makes the directories.
    ///
    /// # Errors
    /// Names the directory that can't be made.
    pub fn create(&self) -> Result<()> {
        for directory in self.all() {
            fs::create_dir(&directory)
                .with_context(|| format!("making the cgroup {}", directory.display()))?;
        }
        if self.memory.is_none() {
            let control = self.root.join("cgroup.subtree_control");
            fs::write(&control, "+memory")
                .with_context(|| format!("{}: the memory controller is not to be had", control.display()))?;
        }
        Ok(())
    }

    /// Makes a directory for one process; returns those that it has to enter.
    ///
    /// # Errors
    /// Names the directory that can't be made.
    pub fn add(&self, name: &str) -> Result<Vec<PathBuf>> {
        let directory = self.root.join(name);
        fs::create_dir(&directory).with_context(|| format!("making the cgroup {}", directory.display()))?;
        Ok(vec![directory])
    }

    /// [`Self::add`] with its memory accounted.
    ///
    /// # Errors
    /// Names the directory that can't be made.
    pub fn add_with_memory(&self, name: &str) -> Result<Vec<PathBuf>> {
        let mut directories = self.add(name)?;
        if let Some(memory) = &self.memory {
            let directory = memory.join(name);
            fs::create_dir(&directory)
                .with_context(|| format!("making the cgroup {}", directory.display()))?;
            directories.push(directory);
        }
        Ok(directories)
    }

    /// Memory of the group `name` less its inactive file pages, bytes.
    ///
    /// # Errors
    /// The group was not made by [`Self::add_with_memory`] or is gone.
    pub fn memory_bytes(&self, name: &str) -> Result<u64> {
        let (directory, usage, inactive) = match &self.memory {
            Some(memory) => (memory.join(name), "memory.usage_in_bytes", "total_inactive_file"),
            None => (self.root.join(name), "memory.current", "inactive_file"),
        };
        let inactive = field(&directory.join("memory.stat"), inactive)?;
        let usage: u64 = fs::read_to_string(directory.join(usage))?.trim().parse().context("memory usage")?;
        Ok(usage.saturating_sub(inactive))
    }

    /// CPU time that the group `name` has used.
    ///
    /// # Errors
    /// The group is gone.
    pub fn cpu_time(&self, name: &str) -> Result<Duration> {
        field(&self.root.join(name).join("cpu.stat"), "usage_usec").map(Duration::from_micros)
    }
}

fn field(file: &Path, name: &str) -> Result<u64> {
    let text = fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
    text.lines()
        .filter_map(|line| line.split_once(' '))
        .find(|(key, _)| *key == name)
        .and_then(|(_, value)| value.trim().parse().ok())
        .with_context(|| format!("no {name} in {}", file.display()))
}

/// Starts `program` in `directories`: a shell enters them and becomes the program, so that not one socket or page of
/// it belongs to another group. Its end is the caller's to await.
pub fn command(directories: &[PathBuf], program: &Path) -> std::process::Command {
    let mut command = std::process::Command::new("/bin/sh");
    command.args(["-c", "while [ \"$1\" != -- ]; do echo $$ > \"$1/cgroup.procs\" || exit 70; shift; done; shift; exec \"$@\"", "demo"]);
    command.args(directories).arg("--").arg(program);
    command
}

/// Ends every process in the group and its children, and removes them all. A group that is gone is fine.
///
/// # Errors
/// Something does not end or can't be removed.
pub fn remove(directory: &Path) -> Result<()> {
    let deadline = Instant::now() + EMPTYING_LIMIT;
    loop {
        let left = end_processes(directory);
        if left == 0 && remove_directories(directory) {
            return Ok(());
        }
        if Instant::now() > deadline {
            bail!(
                "{} still holds {left} processes after {} s",
                directory.display(),
                EMPTYING_LIMIT.as_secs()
            );
        }
        // The kernel empties a group without an event that version 1 and 2 share.
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Removes the group of a process that has ended.
///
/// # Errors
/// A process is still in it.
pub fn remove_empty(directory: &Path) -> Result<()> {
    fs::remove_dir(directory).with_context(|| format!("removing the cgroup {}", directory.display()))
}

fn children(directory: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    entries
        .flatten()
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|e| e.path())
        .collect()
}

fn end_processes(directory: &Path) -> usize {
    let listed = fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
    let pids: Vec<Pid> = listed.lines().filter_map(|line| Pid::from_raw(line.parse().ok()?)).collect();
    for pid in &pids {
        // ESRCH: it ended since it was listed.
        let _ = kill_process(*pid, Signal::KILL);
    }
    pids.len() + children(directory).iter().map(|child| end_processes(child)).sum::<usize>()
}

fn remove_directories(directory: &Path) -> bool {
    // Every child is tried, also after one that stays.
    let stay = children(directory).iter().filter(|child| !remove_directories(child)).count();
    stay == 0
        && match fs::remove_dir(directory) {
            Ok(()) => true,
            Err(error) => error.kind() == std::io::ErrorKind::NotFound,
        }
}

/// Removes what demos left behind that are gone together with their guard (a crash of the machine's session).
///
/// # Errors
/// As [`remove`].
pub fn remove_abandoned(mounts: &Mounts) -> Result<()> {
    for mount in std::iter::once(&mounts.unified).chain(&mounts.memory) {
        abandoned(mount).try_for_each(|directory| remove(&directory))?;
    }
    for files in abandoned(&std::env::temp_dir()) {
        fs::remove_dir_all(&files).with_context(|| format!("removing {}", files.display()))?;
    }
    Ok(())
}

// Directories below `parent` that bear the name of a demo whose process is gone.
fn abandoned(parent: &Path) -> impl Iterator<Item = PathBuf> {
    children(parent).into_iter().filter(|directory| {
        let name = directory.file_name().and_then(OsStr::to_str);
        let owner = name.and_then(|name| name.strip_prefix(PREFIX));
        owner.is_some_and(|pid| !Path::new("/proc").join(pid).exists())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_layouts_are_found() {
        let hybrid = "tmpfs /sys/fs/cgroup tmpfs rw 0 0\n\
            cgroup /sys/fs/cgroup/memory cgroup rw,relatime,memory 0 0\n\
            cgroup2 /sys/fs/cgroup/unified cgroup2 rw,relatime 0 0\n";
        let found = Mounts::parse(hybrid).unwrap();
        assert_eq!(found.unified, Path::new("/sys/fs/cgroup/unified"));
        assert_eq!(found.memory.as_deref(), Some(Path::new("/sys/fs/cgroup/memory")));
        let pure = Mounts::parse("cgroup2 /sys/fs/cgroup cgroup2 rw,nsdelegate 0 0\n").unwrap();
        assert_eq!(pure, Mounts { unified: "/sys/fs/cgroup".into(), memory: None });
        assert_eq!(Mounts::parse("proc /proc proc rw 0 0\n"), None);
    }
}
