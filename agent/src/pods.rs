//! Does what the brain says with the pods of this node: finds, attaches, reads, releases them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use prescale_agent_ebpf::layout::PORTS;
use prescale_core::node::{Action, Reading};
use prescale_core::wire::{NotMeasurable, Resources, WatchList};
use prescale_core::{Mono, Now};

use crate::cgroup::{identity, resources};
use crate::finder::Finder;
use crate::kernel::{Kernel, SlotId};
use crate::shared::Shared;

/// EPERM of an attach: the capabilities were there at the load, so it is another program's exclusive attach.
const NOT_PERMITTED: i32 = 1;

/// The pods that are attached, and those still looked for.
pub struct Pods {
    kernel: Kernel,
    finder: Finder,
    shared: Arc<Shared>,
    attached: BTreeMap<String, Attached>,
    /// For each wanted pod without attach: when it was certainly not there yet.
    missing: BTreeMap<String, Mono>,
    /// Last readings of released pods, for the next poll.
    released: Vec<Reading>,
    max_pods: usize,
}

struct Attached {
    slot: SlotId,
    directory: PathBuf,
    identity: u64,
    resources: Resources,
    unreadable: bool,
}

impl Pods {
    /// Attached to none yet.
    pub fn new(kernel: Kernel, root: PathBuf, max_pods: usize, shared: Arc<Shared>) -> Self {
        Self {
            kernel,
            finder: Finder::new(root),
            shared,
            attached: BTreeMap::new(),
            missing: BTreeMap::new(),
            released: Vec::new(),
            max_pods,
        }
    }

    /// Takes a new watch list, and looks for what is new on it at once.
    pub fn watch(&mut self, now: Now, list: WatchList) {
        self.shared.node().watch(now, list);
        self.look(now);
    }

    /// Whether some wanted pod has no attach: then it is worth looking between polls.
    pub fn is_missing_some(&self) -> bool {
        !self.missing.is_empty()
    }

    /// Directories read in search of pods, since the start.
    pub fn directories_read(&self) -> u64 {
        self.finder.directories_read
    }

    /// Finds directories, tells the brain, attaches and releases as it says.
    pub fn look(&mut self, now: Now) {
        let shared = Arc::clone(&self.shared);
        let mut node = shared.node();
        let wanted: BTreeSet<String> = node.wanted().map(str::to_owned).collect();
        let mut directories = Vec::new();
        for (uid, pod) in self.attached.iter().filter(|(uid, _)| wanted.contains(*uid)) {
            // A directory of the same name that was made later is another one: the pod is released, then found anew.
            if identity(&pod.directory) == Some(pod.identity) {
                directories.push((uid.clone(), pod.directory.to_string_lossy().into_owned()));
            }
        }
        let unattached: BTreeSet<String> =
            wanted.into_iter().filter(|uid| !self.attached.contains_key(uid)).collect();
        let found = self.finder.find(now.mono, &unattached);
        self.missing.retain(|uid, _| unattached.contains(uid));
        for uid in unattached {
            match found.get(&uid) {
                Some(directory) => {
                    self.missing.entry(uid.clone()).or_insert(now.mono);
                    directories.push((uid, directory.to_string_lossy().into_owned()));
                }
                None => {
                    self.missing.insert(uid, now.mono);
                }
            }
        }
        for action in node.found(now, &directories) {
            match action {
                Action::Attach { uid, directory, ports, probes } => {
                    match self.attach(&uid, directory.into(), &ports, &probes) {
                        Ok(()) => node.attached(shared.clock.now(), &uid),
                        Err(reason) => node.attach_failed(shared.clock.now(), &uid, reason),
                    }
                }
                Action::Release { uid } => self.release(uid),
            }
        }
    }

    /// Reads every attached pod; the last readings of released ones come first.
    pub fn read(&mut self) -> Vec<Reading> {
        let mut readings = std::mem::take(&mut self.released);
        readings.reserve_exact(self.attached.len());
        for (uid, pod) in &mut self.attached {
            match self.kernel.read(pod.slot) {
                Ok(counters) => {
                    if identity(&pod.directory) == Some(pod.identity) {
                        pod.resources = resources(&pod.directory);
                    }
                    pod.unreadable = false;
                    readings.push(Reading { uid: uid.clone(), counters, resources: pod.resources });
                }
                Err(error) => {
                    self.shared.metrics.read_failed();
                    // Once: it would be once a second.
                    if !std::mem::replace(&mut pod.unreadable, true) {
                        tracing::warn!(uid, "can't read the pod's counters, trying on: {error:#}");
                    }
                }
            }
        }
        readings
    }

    fn attach(
        &mut self,
        uid: &str,
        directory: PathBuf,
        ports: &[u16],
        probes: &[String],
    ) -> Result<(), NotMeasurable> {
        // Asked again for a pod whose attach the brain gave up on: start clean.
        if let Some(pod) = self.attached.remove(uid)
            && let Err(error) = self.kernel.detach(pod.slot)
        {
            tracing::warn!(uid, "can't detach: {error:#}");
        }
        let attached = identity(&directory)
            .ok_or(NotMeasurable::Vanished)
            .and_then(|identity| match self.kernel.attach(&directory, ports, probes) {
                Ok(slot) => Ok(Attached {
                    slot,
                    directory: directory.clone(),
                    identity,
                    resources: Resources::default(),
                    unreadable: false,
                }),
                Err(error) => {
                    let full = self.attached.len() >= self.max_pods;
                    let reason = reason(&error, &directory, full, ports.len() > PORTS);
                    tracing::warn!(uid, ?reason, "can't measure the pod, trying again later: {error:#}");
                    Err(reason)
                }
            })
            .inspect_err(|reason| self.shared.metrics.attach_failed(*reason))?;
        let since = self.missing.remove(uid);
        let lag_seconds = since.map_or(0.0, |since| self.shared.clock.now().mono.seconds_since(since));
        self.shared.metrics.attached(lag_seconds);
        tracing::info!(uid, directory = %directory.display(), ?ports, ?probes, "attached");
        self.attached.insert(uid.to_owned(), attached);
        Ok(())
    }

    fn release(&mut self, uid: String) {
        let Some(pod) = self.attached.remove(&uid) else { return };
        match self.kernel.detach(pod.slot) {
            Ok(counters) => {
                tracing::info!(uid, requests = counters.starts, probes = counters.probe_starts, "released");
                self.released.push(Reading { uid, counters, resources: pod.resources });
            }
            Err(error) => tracing::warn!(uid, "the pod's last counters are lost: {error:#}"),
        }
    }
}

/// Why the kernel refused.
fn reason(error: &anyhow::Error, directory: &Path, full: bool, many_ports: bool) -> NotMeasurable {
    let code = error.chain().find_map(|cause| cause.downcast_ref::<std::io::Error>()?.raw_os_error());
    if !directory.exists() {
        NotMeasurable::Vanished
    } else if many_ports {
        NotMeasurable::Unsupported
    } else if full {
        NotMeasurable::NoSlot
    } else if code == Some(NOT_PERMITTED) {
        NotMeasurable::CgroupTaken
    } else {
        NotMeasurable::KernelRefused
    }
}
