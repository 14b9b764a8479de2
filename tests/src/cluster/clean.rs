//! Makes and removes what a cluster has outside of its processes: cgroups and files. Works from the record alone, so
//! that whoever comes after a crash cleans as well as the cluster's own end.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::layout::{Layout, Place};
use super::processes::Record;
use crate::demo::cgroup;

/// A node's last process ends about a second after its first was killed.
const END_LIMIT: Duration = Duration::from_secs(30);

/// Keeps a second `up` or `down` out while the file lives.
///
/// # Errors
/// Another is at work.
pub fn lock(directory: &Path) -> Result<fs::File> {
    let lock = fs::File::open(directory).with_context(|| format!("opening {}", directory.display()))?;
    ensure!(lock.try_lock().is_ok(), "another `cargo xtask cluster` is at work on {}", directory.display());
    Ok(lock)
}

/// Ends the cluster at `place` and removes everything of it; nothing to do is fine.
///
/// # Errors
/// Something does not end or can't be removed.
pub fn down(place: &Place) -> Result<()> {
    let directory = place.directory();
    if !directory.exists() {
        // Cgroups are all that could be left.
        return all(place, &Record::default());
    }
    let _lock = lock(&directory)?;
    let record = Record::read(&directory)?;
    all(place, &record)
}

/// The same for whoever holds the lock and has read the record.
///
/// # Errors
/// As [`down`].
pub fn all(place: &Place, record: &Record) -> Result<()> {
    empty(place, record)?;
    match fs::remove_dir(place.directory()) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {}", place.directory().display()))
        }
        _ => Ok(()),
    }
}

/// The same, except for the directory itself, which the holder of the lock keeps.
///
/// # Errors
/// As [`down`].
pub fn empty(place: &Place, record: &Record) -> Result<()> {
    let end = Instant::now() + END_LIMIT;
    record.nodes.iter().for_each(super::processes::NodeProcesses::kill);
    while record.any_runs() {
        if Instant::now() > end {
            bail!("a node of {} does not end within {} s: {record:?}", place.name(), END_LIMIT.as_secs());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    for hierarchy in hierarchies()? {
        cgroup::remove(&hierarchy.join(place.cgroup()))?;
    }
    let Ok(entries) = fs::read_dir(place.directory()) else { return Ok(()) };
    for entry in entries.flatten() {
        let path = entry.path();
        let is_directory = entry.file_type().is_ok_and(|kind| kind.is_dir());
        let removed = if is_directory { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        removed.with_context(|| format!("removing {}", path.display()))?;
    }
    Ok(())
}

/// Makes every node's cgroup in every hierarchy, as a kubelet wants to find its root.
///
/// # Errors
/// One can't be made.
pub fn make_cgroups(layout: &Layout) -> Result<()> {
    let place = layout.place();
    for hierarchy in hierarchies()? {
        pass_on(&hierarchy);
        make(&hierarchy, &hierarchy.join(place.cgroup()))?;
        for node in layout.nodes() {
            make(&hierarchy.join(place.cgroup()), &hierarchy.join(node.cgroup(&place)))?;
        }
    }
    Ok(())
}

fn make(parent: &Path, directory: &Path) -> Result<()> {
    fs::create_dir(directory).with_context(|| format!("making the cgroup {}", directory.display()))?;
    // Version 1 starts a group with no CPU and no memory node, and nothing can run in it.
    for file in ["cpuset.cpus", "cpuset.mems"] {
        if let Ok(given) = fs::read(parent.join(file)) {
            // Version 2 has the file and does not need it: what its parent has may be empty.
            let _ = fs::write(directory.join(file), given);
        }
    }
    pass_on(directory);
    Ok(())
}

/// Lets the children of a version 2 group use its controllers. Which of them must be there is the kubelet's to say.
fn pass_on(directory: &Path) {
    let controllers = fs::read_to_string(directory.join("cgroup.controllers")).unwrap_or_default();
    for controller in controllers.split_whitespace() {
        let _ = fs::write(directory.join("cgroup.subtree_control"), format!("+{controller}"));
    }
}

/// Where the cgroup hierarchies of this machine are mounted, of both versions.
fn hierarchies() -> Result<Vec<PathBuf>> {
    let mounts = fs::read_to_string("/proc/self/mounts").context("reading /proc/self/mounts")?;
    let fields = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let cgroups = fields.filter(|fields| matches!(fields.get(2), Some(&"cgroup" | &"cgroup2")));
    Ok(cgroups.map(|fields| PathBuf::from(fields[1])).collect())
}
