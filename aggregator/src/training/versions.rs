//! The weights of the heads' networks by version: 0 is what ships, the others are trained here, or at the replica that leads,
//! and kept in the state directory.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, bail, ensure};
use prescale_models::neural::training::hash;
use prescale_models::neural::{CoreKind, Network, NetworkSettings, Networks, code, shipped_as};
use serde::{Deserialize, Serialize};

/// The directory in the state directory.
const DIRECTORY: &str = "weights";
/// Where the leader's versions are written before they take its place, and where what was there goes then.
const NEXT: &str = "weights.next";
const LAST: &str = "weights.last";
/// The file in it that says which versions run: a line for each kind, as in `gru 3`.
const ACTIVE: &str = "active";
/// Versions of a kind that are kept beside what ships, some 40 to 60 KB each: a working week of nights.
const KEPT: usize = 5;
/// Files that are larger are none of ours.
const MOST_BYTES: u64 = 1024 * 1024;

/// What a version was made of, and why it was admitted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Version {
    /// 1 and up, over all kinds.
    pub number: u32,
    /// The kind by its name: `gru`, `lstm` or `cnn`.
    pub model: String,
    /// The version that it was trained from, and goes back to.
    pub parent: u32,
    /// FNV-1a of the weights file.
    pub weights: String,
    /// Fingerprint of the features and the training that the weights belong to.
    pub code: String,
    /// It has seen nothing that was measured later.
    pub trained_until_unix_ms: i64,
    /// When it was admitted.
    pub made_unix_ms: i64,
    /// Workloads that taught it.
    pub workloads: usize,
    /// Records that judged it.
    pub records: usize,
    /// What it gained on its parent, in shares of the parent's loss: mean, and the ends of the 90 % interval.
    pub gain: [f64; 3],
}

/// All versions of all kinds as files, and which one of each runs: what a replica that leads gives the others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Set {
    /// [`Versions::revision`] of the giver.
    pub revision: u64,
    /// By [`CoreKind`].
    active: [u32; 3],
    files: Vec<Files>,
}

/// One version's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Files {
    /// A [`Version`] as JSON, so that a build of other fields refuses the weights and not the whole answer.
    sidecar: Vec<u8>,
    weights: Vec<u8>,
}

/// A kind that runs another network since the leader's versions were taken, and the numbers of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Swapped {
    /// The kind.
    pub core: CoreKind,
    /// Of the one that ran here.
    pub was: u32,
    /// Of the leader's.
    pub now: u32,
}

/// All versions of all kinds, and which one of each runs.
#[derive(Debug)]
pub struct Versions {
    /// The state directory.
    state: Option<PathBuf>,
    /// Oldest first.
    kept: Vec<(Version, Arc<Network<f32>>)>,
    /// By [`CoreKind`].
    active: [u32; 3],
}

impl Versions {
    /// Reads those of a state directory; without one they are in memory only. What can't be read is said and left out, and
    /// the version that ships runs where the active one is among it.
    ///
    /// # Errors
    /// When the directory can't be made or listed.
    pub fn open(state: Option<&Path>) -> anyhow::Result<Self> {
        let Some(state) = state else {
            return Ok(Self { state: None, kept: Vec::new(), active: [0; 3] });
        };
        let directory = state.join(DIRECTORY);
        if !directory.exists() && state.join(NEXT).exists() {
            // The leader's versions were written whole, and the crash came between the two renames.
            fs::rename(state.join(NEXT), &directory)
                .with_context(|| format!("can't make {}", directory.display()))?;
        }
        fs::create_dir_all(&directory).with_context(|| format!("can't make {}", directory.display()))?;
        let mut kept = Vec::new();
        for entry in
            fs::read_dir(&directory).with_context(|| format!("can't read {}", directory.display()))?
        {
            let path = entry?.path();
            if path.extension().is_some_and(|it| it == "json") {
                match read(&path).and_then(|files| files.check()) {
                    Ok(version) => kept.push(version),
                    Err(error) => {
                        tracing::error!("the trained weights {} are left out: {error:#}", path.display());
                    }
                }
            }
        }
        kept.sort_by_key(|(version, _)| version.number);
        let text = fs::read_to_string(directory.join(ACTIVE)).unwrap_or_default();
        let mut it = Self { state: Some(state.to_owned()), kept, active: [0; 3] };
        for (model, number) in text.lines().filter_map(|line| line.split_once(' ')) {
            let core = CoreKind::of(model);
            match core
                .zip(number.parse().ok())
                .filter(|(core, number)| *number == 0 || has(&it.kept, *core, *number))
            {
                Some((core, number)) => it.active[core as usize] = number,
                None => {
                    tracing::error!("the {model} weights that ran last can't be used, so those that ship do");
                }
            }
        }
        Ok(it)
    }

    /// The version of a kind that runs, and its network.
    pub fn active(&self, core: CoreKind) -> (u32, Arc<Network<f32>>) {
        match self.find(self.active[core as usize]) {
            Some((version, network)) => (version.number, Arc::clone(network)),
            None => (0, shipped_as(core)),
        }
    }

    /// The networks that run, one of each kind.
    pub fn networks(&self) -> Networks {
        let mut networks = Networks::shipped();
        CoreKind::ALL.into_iter().for_each(|core| networks.set(self.active(core).1));
        networks
    }

    /// Those that were trained here, oldest first.
    pub fn kept(&self) -> impl Iterator<Item = &Version> {
        self.kept.iter().map(|(version, _)| version)
    }

    /// The number of the next one.
    pub fn next_number(&self) -> u32 {
        self.kept.last().map_or(1, |(version, _)| version.number + 1)
    }

    /// Keeps a new version and makes it the active one of its kind. `number`, `model`, `parent`, `weights` and `code` are
    /// filled in here.
    ///
    /// # Errors
    /// What the file system said; nothing has changed then.
    pub fn add(&mut self, network: Arc<Network<f32>>, version: Version) -> anyhow::Result<u32> {
        let number = self.next_number();
        let weights = format!("{:016x}", hash(&network.save()));
        let core = network.settings().core;
        let parent = self.active[core as usize];
        let (model, code) = (core.name().into(), code(core).into());
        let version = Version { number, model, parent, weights, code, ..version };
        let active = self.with(core, number);
        let directory = self.directory();
        if let Some(directory) = &directory {
            Files::of(&version, &network).write(directory, number)?;
            write(&directory.join(ACTIVE), lines(active).as_bytes())?;
        }
        self.kept.push((version, network));
        self.active = active;
        while self.kept().filter(|it| it.model == core.name()).count() > KEPT {
            let oldest = self.kept().position(|it| it.model == core.name()).expect("there are some");
            let (gone, _) = self.kept.remove(oldest);
            for end in ["json", "safetensors"] {
                if let Some(directory) = &directory
                    && let Err(error) = fs::remove_file(directory.join(format!("{}.{end}", gone.number)))
                {
                    tracing::warn!("the weights of version {} are left behind: {error}", gone.number);
                }
            }
        }
        Ok(number)
    }

    /// Goes back to the version that the active one of this kind was trained from, or to what ships where that is no longer kept;
    /// returns its number, `None` where what ships runs already.
    ///
    /// # Errors
    /// What the file system said; nothing has changed then.
    pub fn roll_back(&mut self, core: CoreKind) -> anyhow::Result<Option<u32>> {
        let Some((version, _)) = self.find(self.active[core as usize]) else { return Ok(None) };
        let to = if self.find(version.parent).is_some() { version.parent } else { 0 };
        let active = self.with(core, to);
        if let Some(directory) = self.directory() {
            write(&directory.join(ACTIVE), lines(active).as_bytes())?;
        }
        self.active = active;
        Ok(Some(to))
    }

    /// Tells these versions, and which of them run, from others.
    pub fn revision(&self) -> u64 {
        let mut text = lines(self.active);
        for Version { number, model, parent, weights, code, .. } in self.kept() {
            text += &format!("{number} {model} {parent} {weights} {code}\n");
        }
        hash(text.as_bytes())
    }

    /// All of them, for another replica.
    pub fn set(&self) -> Set {
        let files = self.kept.iter().map(|(version, network)| Files::of(version, network));
        Set { revision: self.revision(), active: self.active, files: files.collect() }
    }

    /// Takes another replica's instead, of every kind: all of them, or none where one is broken or of another build. Which
    /// kinds run another network then.
    ///
    /// # Errors
    /// Why they are refused, or what the file system said; nothing has changed then.
    pub fn take(&mut self, set: &Set) -> anyhow::Result<Vec<Swapped>> {
        let kept = set.check()?;
        if let Some(state) = &self.state {
            set.write(state).context("the leader's weights can't be kept")?;
        }
        let ran = CoreKind::ALL.map(|core| self.active(core));
        (self.kept, self.active) = (kept, set.active);
        let swapped = CoreKind::ALL.into_iter().zip(ran).filter_map(|(core, (was, ran))| {
            let (now, runs) = self.active(core);
            (runs != ran).then_some(Swapped { core, was, now })
        });
        Ok(swapped.collect())
    }

    fn directory(&self) -> Option<PathBuf> {
        self.state.as_ref().map(|state| state.join(DIRECTORY))
    }

    /// The active ones, this one among them.
    fn with(&self, core: CoreKind, number: u32) -> [u32; 3] {
        let mut active = self.active;
        active[core as usize] = number;
        active
    }

    fn find(&self, number: u32) -> Option<&(Version, Arc<Network<f32>>)> {
        self.kept.iter().find(|(version, _)| version.number == number)
    }
}

/// What [`ACTIVE`] says.
fn lines(active: [u32; 3]) -> String {
    let line = |(core, number): (CoreKind, u32)| format!("{} {number}\n", core.name());
    CoreKind::ALL.into_iter().zip(active).map(line).collect()
}

/// Whether this version is kept, and of this kind.
fn has(kept: &[(Version, Arc<Network<f32>>)], core: CoreKind, number: u32) -> bool {
    kept.iter().any(|(version, network)| version.number == number && network.settings().core == core)
}

impl Set {
    /// The versions, oldest first.
    fn check(&self) -> anyhow::Result<Vec<(Version, Arc<Network<f32>>)>> {
        let kept: Vec<_> = self.files.iter().map(Files::check).collect::<anyhow::Result<_>>()?;
        let numbers: Vec<u32> = kept.iter().map(|(version, _)| version.number).collect();
        ensure!(!numbers.contains(&0) && numbers.is_sorted_by(|a, b| a < b), "their numbers are in no order");
        for (core, active) in CoreKind::ALL.into_iter().zip(self.active) {
            let (model, count) = (core.name(), kept.iter().filter(|(it, _)| it.model == core.name()).count());
            ensure!(count <= KEPT, "{count} {model} versions are more than are kept");
            ensure!(active == 0 || has(&kept, core, active), "the {model} version that runs is missing");
        }
        Ok(kept)
    }

    /// Beside the old ones first: a crash leaves all of these or all of those.
    fn write(&self, state: &Path) -> anyhow::Result<()> {
        let [directory, next, last] = [DIRECTORY, NEXT, LAST].map(|name| state.join(name));
        for left in [&next, &last] {
            if left.exists() {
                fs::remove_dir_all(left).with_context(|| format!("can't remove {}", left.display()))?;
            }
        }
        fs::create_dir(&next).with_context(|| format!("can't make {}", next.display()))?;
        for files in &self.files {
            files.write(&next, files.version()?.number)?;
        }
        write(&next.join(ACTIVE), lines(self.active).as_bytes())?;
        let rename = |from: &Path, to: &Path| {
            fs::rename(from, to).with_context(|| format!("can't rename {}", from.display()))
        };
        rename(&directory, &last)?;
        rename(&next, &directory)?;
        fs::remove_dir_all(&last).with_context(|| format!("can't remove {}", last.display()))
    }
}

impl Files {
    fn of(version: &Version, network: &Network<f32>) -> Self {
        let sidecar = serde_json::to_vec_pretty(version).expect("a version is plain data");
        Self { sidecar, weights: network.save() }
    }

    fn version(&self) -> anyhow::Result<Version> {
        serde_json::from_slice(&self.sidecar).context("the JSON makes no sense")
    }

    fn check(&self) -> anyhow::Result<(Version, Arc<Network<f32>>)> {
        ensure!(self.weights.len() <= MOST_BYTES as usize, "they are too large");
        let version = self.version()?;
        if format!("{:016x}", hash(&self.weights)) != version.weights {
            bail!("the weights are not those that the JSON speaks of");
        }
        let core = CoreKind::of(&version.model).context("there is no such kind of network")?;
        ensure!(
            version.code == code(core),
            "they belong to another build, whose features or training differ"
        );
        let network = Network::load(NetworkSettings::of(core), &self.weights)?;
        Ok((version, Arc::new(network)))
    }

    fn write(&self, directory: &Path, number: u32) -> anyhow::Result<()> {
        write(&directory.join(format!("{number}.safetensors")), &self.weights)?;
        write(&directory.join(format!("{number}.json")), &self.sidecar)
    }
}

fn read(sidecar: &Path) -> anyhow::Result<Files> {
    let weights = sidecar.with_extension("safetensors");
    for path in [sidecar, &weights] {
        ensure!(fs::metadata(path)?.len() <= MOST_BYTES, "{} is too large", path.display());
    }
    let files = Files { sidecar: fs::read(sidecar)?, weights: fs::read(&weights)? };
    let number = files.version()?.number.to_string();
    ensure!(sidecar.file_stem().is_some_and(|it| *it == *number), "it is another's");
    Ok(files)
}

/// Under another name first, so that a crash leaves the old file or the new one.
fn write(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let aside = path.with_extension("new");
    let put = || {
        fs::write(&aside, bytes)?;
        fs::File::open(&aside)?.sync_all()?;
        fs::rename(&aside, path)
    };
    put().with_context(|| format!("can't write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use prescale_models::nn::Parameters as _;

    use super::*;

    const GRU: CoreKind = CoreKind::Gru;

    fn other(factor: f32) -> Arc<Network<f32>> {
        other_as(GRU, factor)
    }

    fn other_as(core: CoreKind, factor: f32) -> Arc<Network<f32>> {
        let mut network = (*shipped_as(core)).clone();
        network.visit_mut("", &mut |_, _, values| values.iter_mut().for_each(|it| *it *= factor));
        Arc::new(network)
    }

    fn blank() -> Version {
        Version {
            number: 0,
            model: String::new(),
            parent: 0,
            weights: String::new(),
            code: String::new(),
            trained_until_unix_ms: 5,
            made_unix_ms: 6,
            workloads: 7,
            records: 200,
            gain: [0.2, 0.1, 0.3],
        }
    }

    struct Directory(PathBuf);

    impl Directory {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("prescale-weights-{name}-{}", std::process::id()));
            let _ = fs::remove_dir_all(&path);
            Self(path)
        }
    }

    impl Drop for Directory {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn versions_outlive_the_process_and_go_back_to_what_they_came_from() {
        let directory = Directory::new("versions");
        let open = || Versions::open(Some(&directory.0)).unwrap();
        let mut versions = open();
        assert_eq!((versions.active(GRU).0, versions.roll_back(GRU).unwrap()), (0, None), "what ships runs");
        assert_eq!(versions.add(other(0.9), blank()).unwrap(), 1);
        assert_eq!(versions.add(other(0.8), blank()).unwrap(), 2);
        let mut versions = open();
        assert_eq!(versions.active(GRU), (2, other(0.8)));
        assert_eq!(versions.kept().map(|it| it.parent).collect::<Vec<_>>(), [0, 1]);
        assert_eq!(versions.roll_back(GRU).unwrap(), Some(1));
        let mut versions = open();
        assert_eq!(versions.active(GRU), (1, other(0.9)), "also after a restart");
        assert_eq!(versions.add(other(0.7), blank()).unwrap(), 3, "a number is not used twice");
        assert_eq!(versions.roll_back(GRU).unwrap(), Some(1), "version 3 came from 1, not from 2");
        assert_eq!(versions.roll_back(GRU).unwrap(), Some(0));
        assert_eq!(open().active(GRU).1, shipped_as(GRU));
        for n in 0..6 {
            versions.add(other(0.5 + 0.01 * n as f32), blank()).unwrap();
        }
        let numbers: Vec<u32> = open().kept().map(|it| it.number).collect();
        assert_eq!(numbers, [5, 6, 7, 8, 9], "the newest are kept");
    }

    #[test]
    fn each_kind_has_its_own_versions_and_way_back() {
        let directory = Directory::new("kinds");
        let open = || Versions::open(Some(&directory.0)).unwrap();
        let mut versions = open();
        assert_eq!(versions.add(other(0.9), blank()).unwrap(), 1);
        assert_eq!(
            versions.add(other_as(CoreKind::Cnn, 0.9), blank()).unwrap(),
            2,
            "numbers are over all kinds"
        );
        let running = |versions: &Versions| CoreKind::ALL.map(|core| versions.active(core).0);
        let mut versions = open();
        assert_eq!(running(&versions), [1, 0, 2]);
        assert_eq!(versions.networks().of(CoreKind::Cnn), &other_as(CoreKind::Cnn, 0.9));
        assert_eq!(versions.networks().of(CoreKind::Lstm), &shipped_as(CoreKind::Lstm));
        assert_eq!(
            versions.kept().map(|it| (it.model.as_str(), it.parent)).collect::<Vec<_>>(),
            [("gru", 0), ("cnn", 0)]
        );
        for n in 0..KEPT {
            versions.add(other(0.5 + 0.01 * n as f32), blank()).unwrap();
        }
        assert!(versions.kept().any(|it| it.number == 2), "the gru's nights do not push the cnn's out");
        assert_eq!(versions.roll_back(CoreKind::Cnn).unwrap(), Some(0));
        assert_eq!(versions.roll_back(CoreKind::Lstm).unwrap(), None);
        assert_eq!(running(&open()), [7, 0, 0]);
        // A file that names another kind's version runs what ships.
        fs::write(directory.0.join(DIRECTORY).join(ACTIVE), "lstm 7\ngru 6\n").unwrap();
        assert_eq!(running(&open()), [6, 0, 0]);
    }

    #[test]
    fn weights_that_are_broken_or_of_another_build_do_not_run() {
        let directory = Directory::new("broken");
        let open = || Versions::open(Some(&directory.0)).unwrap();
        open().add(other(0.9), blank()).unwrap();
        open().add(other(0.8), blank()).unwrap();
        let files = directory.0.join(DIRECTORY);
        let weights = fs::read(files.join("2.safetensors")).unwrap();
        let mut broken = weights.clone();
        let last = broken.len() - 1;
        broken[last] ^= 1;
        fs::write(files.join("2.safetensors"), &broken).unwrap();
        assert_eq!((open().active(GRU).0, open().kept().count()), (0, 1));
        fs::write(files.join("2.safetensors"), &weights).unwrap();
        assert_eq!(open().active(GRU).0, 2);
        let sidecar = fs::read_to_string(files.join("2.json")).unwrap();
        fs::write(files.join("2.json"), sidecar.replace(code(GRU), "0123456789abcdef")).unwrap();
        assert_eq!(open().active(GRU).0, 0);
        fs::write(files.join("2.json"), "{").unwrap();
        assert_eq!((open().active(GRU).0, open().kept().count()), (0, 1));
    }

    #[test]
    fn the_leaders_versions_take_the_place_of_our_own_whole_or_not_at_all() {
        let (leaders, directory) = (Directory::new("leader"), Directory::new("follower"));
        let mut leader = Versions::open(Some(&leaders.0)).unwrap();
        leader.add(other(0.9), blank()).unwrap();
        leader.add(other(0.8), blank()).unwrap();
        let open = || Versions::open(Some(&directory.0)).unwrap();
        let mut follower = open();
        follower.add(other(0.7), blank()).unwrap();
        assert_ne!(follower.revision(), leader.revision());
        let (gru, cnn) = (|was, now| Swapped { core: GRU, was, now }, CoreKind::Cnn);
        assert_eq!(follower.take(&leader.set()).unwrap(), [gru(1, 2)], "another network runs");
        assert_eq!(follower.take(&leader.set()).unwrap(), [], "it runs already");
        for it in [&follower, &open()] {
            assert_eq!((it.networks(), it.revision()), (leader.networks(), leader.revision()));
            assert!(it.kept().eq(leader.kept()));
        }
        leader.add(other_as(cnn, 0.9), blank()).unwrap();
        leader.roll_back(GRU).unwrap();
        let both = [gru(2, 1), Swapped { core: cnn, was: 0, now: 3 }];
        assert_eq!(
            follower.take(&leader.set()).unwrap(),
            both,
            "each kind goes on, or back, with the leader's"
        );
        for it in [&follower, &open()] {
            assert_eq!((it.networks(), it.active(GRU).0, it.active(cnn).0), (leader.networks(), 1, 3));
        }
        let revision = leader.revision();
        leader.roll_back(cnn).unwrap();
        assert_ne!(leader.revision(), revision, "what runs of any kind is told apart");
        assert_eq!(follower.take(&leader.set()).unwrap(), [Swapped { core: cnn, was: 3, now: 0 }]);

        let sound = leader.set();
        let broken = |change: &dyn Fn(&mut Set)| {
            let mut set = sound.clone();
            change(&mut set);
            let mut it = open();
            let own = it.revision();
            let said = it.take(&set).unwrap_err().to_string();
            assert_eq!((it.revision(), open().revision()), (own, own), "{said}");
            said
        };
        let flip = |set: &mut Set| *set.files[1].weights.last_mut().unwrap() ^= 1;
        assert!(broken(&flip).contains("not those that the JSON speaks of"));
        let says = |set: &mut Set, file: usize, old: &str, new: &str| {
            let text = String::from_utf8(set.files[file].sidecar.clone()).unwrap();
            assert!(text.contains(old), "{text}");
            set.files[file].sidecar = text.replace(old, new).into_bytes();
        };
        let foreign = "0123456789abcdef";
        for (file, core) in [(0, GRU), (2, cnn)] {
            assert!(broken(&|set| says(set, file, code(core), foreign)).contains("another build"));
        }
        assert!(broken(&|set| says(set, 0, "\"gru\"", "\"transformer\"")).contains("no such kind"));
        let relabelled = |set: &mut Set| {
            says(set, 2, "\"cnn\"", "\"lstm\"");
            says(set, 2, code(cnn), code(CoreKind::Lstm));
        };
        broken(&relabelled);
        assert!(broken(&|set| set.files[0].sidecar.truncate(9)).contains("no sense"));
        assert!(broken(&|set| set.files[0].weights = vec![0; MOST_BYTES as usize + 1]).contains("too large"));
        assert!(broken(&|set| set.files.reverse()).contains("no order"));
        assert!(broken(&|set| set.active[0] = 7).contains("the gru version that runs is missing"));
        assert!(broken(&|set| set.active[2] = 1).contains("the cnn version that runs is missing"));
        // As many of each kind as are kept, and no more.
        for n in 0..KEPT {
            leader.add(other(0.5 + 0.01 * n as f32), blank()).unwrap();
            leader.add(other_as(cnn, 0.5 + 0.01 * n as f32), blank()).unwrap();
        }
        follower.take(&leader.set()).unwrap();
        assert_eq!(open().kept().count(), 2 * KEPT);
        let full = leader.set();
        let one_more = |set: &mut Set| {
            set.clone_from(&full);
            set.files.push(full.files[0].clone());
            says(set, 2 * KEPT, "\"number\": 4,", "\"number\": 99,");
        };
        assert!(broken(&one_more).contains("6 gru versions"));
    }

    #[test]
    fn a_crash_between_the_renames_leaves_the_leaders_versions() {
        let directory = Directory::new("renames");
        let open = || Versions::open(Some(&directory.0)).unwrap();
        open().add(other(0.9), blank()).unwrap();
        fs::rename(directory.0.join(DIRECTORY), directory.0.join(NEXT)).unwrap();
        fs::create_dir(directory.0.join(LAST)).unwrap();
        let mut versions = open();
        assert_eq!(versions.active(GRU), (1, other(0.9)));
        // What was left behind is in nobody's way.
        fs::create_dir(directory.0.join(NEXT)).unwrap();
        assert_eq!(versions.take(&Versions::open(None).unwrap().set()).unwrap().len(), 1);
        assert_eq!((open().active(GRU).0, open().kept().count()), (0, 0));
    }
}
