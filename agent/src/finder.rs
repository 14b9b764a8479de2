//! Finds the cgroup directories of pods: `pod<uid>` at any depth, as every kubelet driver spells it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use prescale_core::Mono;

/// A pod's directory lies at most five deep on the machines seen; a kubelet inside a container inside a VM adds a
/// few. Below this nobody looks.
const MAX_DEPTH: usize = 16;
/// Directories that one full search reads: a node with 250 pods and a busy systemd has about 2,000.
const MAX_DIRECTORIES: usize = 20_000;
/// The wait between two full searches for the same pod doubles from the first to the second of these. The kubelet
/// makes a pod's directory before it pulls images, and beside those of other pods, where every search looks; only a
/// node's first pod of a QoS class, or a pod that never comes, is left to full searches.
const FULL_SEARCH: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(10));

/// Searches below one root and remembers where pods live.
#[derive(Debug)]
pub struct Finder {
    root: PathBuf,
    /// Directories that hold or held pods; a search reads these first, and mostly only these.
    homes: BTreeSet<PathBuf>,
    /// What was wanted and not found by the last full search.
    missing: BTreeSet<String>,
    next_full: Mono,
    wait: Duration,
    /// Directories read since the start, for the metrics and the tests.
    pub directories_read: u64,
}

impl Finder {
    /// Below `root`, a cgroup2 mount.
    pub fn new(root: PathBuf) -> Self {
        Self {
            root,
            homes: BTreeSet::new(),
            missing: BTreeSet::new(),
            next_full: Mono(0),
            wait: FULL_SEARCH.0,
            directories_read: 0,
        }
    }

    /// The directories of those of `wanted` that exist. Cheap when they lie beside others found before; searches the
    /// whole tree at once for a uid that is new in `wanted`, and with growing waits for one that stays missing.
    pub fn find(&mut self, at: Mono, wanted: &BTreeSet<String>) -> BTreeMap<String, PathBuf> {
        let mut found = BTreeMap::new();
        if wanted.is_empty() {
            self.missing.clear();
            return found;
        }
        for home in self.homes.clone() {
            if self.read_home(&home, wanted, &mut found).is_err() {
                self.homes.remove(&home);
            }
        }
        let missing: BTreeSet<_> = wanted.iter().filter(|uid| !found.contains_key(*uid)).cloned().collect();
        if missing.is_empty() {
            self.missing.clear();
            return found;
        }
        let new = missing.iter().any(|uid| !self.missing.contains(uid));
        if new {
            self.wait = FULL_SEARCH.0;
        }
        if new || at >= self.next_full {
            self.search(wanted, &mut found);
            self.next_full = Mono(at.0.saturating_add(self.wait.as_nanos() as u64));
            self.wait = (self.wait * 2).min(FULL_SEARCH.1);
        }
        self.missing = missing;
        found
    }

    fn read_home(
        &mut self,
        home: &Path,
        wanted: &BTreeSet<String>,
        found: &mut BTreeMap<String, PathBuf>,
    ) -> std::io::Result<()> {
        self.directories_read += 1;
        for entry in fs::read_dir(home)? {
            let Ok(entry) = entry else { continue };
            if let Some(uid) = pod_uid(&entry.file_name()).filter(|uid| wanted.contains(uid)) {
                found.entry(uid).or_insert_with(|| entry.path());
            }
        }
        Ok(())
    }

    /// Breadth first, so that the outermost of two directories with one uid wins.
    fn search(&mut self, wanted: &BTreeSet<String>, found: &mut BTreeMap<String, PathBuf>) {
        let mut queue = VecDeque::from([(self.root.clone(), 0)]);
        let mut read = 0;
        while let Some((directory, depth)) = queue.pop_front() {
            if read == MAX_DIRECTORIES {
                tracing::warn!(root = %self.root.display(), read, "gave up the search for pods: too many directories");
                break;
            }
            read += 1;
            // A directory that vanished meanwhile is no error.
            let Ok(entries) = fs::read_dir(&directory) else { continue };
            for entry in entries.flatten() {
                if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    continue;
                }
                match pod_uid(&entry.file_name()) {
                    Some(uid) if wanted.contains(&uid) => {
                        self.homes.insert(directory.clone());
                        found.entry(uid).or_insert_with(|| entry.path());
                    }
                    // Somebody else's pod: its neighbours may be ours, its containers are not.
                    Some(uid) if is_uuid(&uid) => {
                        self.homes.insert(directory.clone());
                    }
                    _ if depth < MAX_DEPTH && !is_container(&entry.file_name()) => {
                        queue.push_back((entry.path(), depth + 1));
                    }
                    _ => {}
                }
            }
        }
        self.directories_read += read as u64;
    }
}

/// The pod uid that a directory's name may stand for: `pod<uid>` (cgroupfs driver), or
/// `…-pod<uid>.slice` with `_` for `-` (systemd driver, in whose names `-` separates the levels).
fn pod_uid(name: &OsStr) -> Option<String> {
    let name = name.to_str()?;
    let uid = match name.strip_suffix(".slice") {
        Some(slice) => slice.rsplit('-').next()?.strip_prefix("pod")?.replace('_', "-"),
        None => name.strip_prefix("pod")?.to_owned(),
    };
    (!uid.is_empty()).then_some(uid)
}

fn is_uuid(uid: &str) -> bool {
    let dashes = uid.bytes().enumerate().all(|(at, byte)| (byte == b'-') == matches!(at, 8 | 13 | 18 | 23));
    uid.len() == 36 && dashes && uid.bytes().all(|byte| byte == b'-' || byte.is_ascii_hexdigit())
}

/// A container's scope below a pod or a service never holds pods. A node that is itself a container (kind, k3d) sees
/// its own tree from inside; seen from its host, its scope is `docker-<id>.scope` or `libpod-<id>.scope`, and is read.
fn is_container(name: &OsStr) -> bool {
    name.to_str().is_some_and(|name| {
        name.ends_with(".scope") && (name.starts_with("cri-containerd-") || name.starts_with("crio-"))
    })
}

#[cfg(test)]
#[path = "finder_tests.rs"]
mod tests;
