//! The weights of the heads' network by version: 0 is what ships, the others are trained here, or at the replica that leads,
//! and kept in the state directory.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, bail, ensure};
use prescale_models::neural::training::hash;
use prescale_models::neural::{CoreKind, Network, NetworkSettings, code, shipped};
use serde::{Deserialize, Serialize};

/// The directory in the state directory.
const DIRECTORY: &str = "weights";
/// Where the leader's versions are written before they take its place, and where what was there goes then.
const NEXT: &str = "weights.next";
const LAST: &str = "weights.last";
/// The file in it that says which version runs.
const ACTIVE: &str = "active";
/// Versions that are kept beside what ships, some 40 KB each: a working week of nights.
const KEPT: usize = 5;
/// Files that are larger are none of ours.
const MOST_BYTES: u64 = 1024 * 1024;

/// What a version was made of, and why it was admitted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Version {
    /// 1 and up.
    pub number: u32,
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

/// All versions as files, and which one runs: what a replica that leads gives the others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Set {
    /// [`Versions::revision`] of the giver.
    pub revision: u64,
    active: u32,
    files: Vec<Files>,
}

/// One version's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Files {
    /// A [`Version`] as JSON, so that a build of other fields refuses the weights and not the whole answer.
    sidecar: Vec<u8>,
    weights: Vec<u8>,
}

/// All versions, and which one runs.
#[derive(Debug)]
pub struct Versions {
    /// The state directory.
    state: Option<PathBuf>,
    /// Oldest first.
    kept: Vec<(Version, Arc<Network<f32>>)>,
    active: u32,
}

impl Versions {
    /// Reads those of a state directory; without one they are in memory only. What can't be read is said and left out, and
    /// the version that ships runs where the active one is among it.
    ///
    /// # Errors
    /// When the directory can't be made or listed.
    pub fn open(state: Option<&Path>) -> anyhow::Result<Self> {
        let Some(state) = state else { return Ok(Self { state: None, kept: Vec::new(), active: 0 }) };
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
        let active = match fs::read_to_string(directory.join(ACTIVE)) {
            Ok(text) => text.trim().parse().unwrap_or(u32::MAX),
            Err(_) => 0,
        };
        let mut it = Self { state: Some(state.to_owned()), kept, active };
        if it.active != 0 && it.find(it.active).is_none() {
            tracing::error!("the weights that ran last can't be used, so those that ship do");
            it.active = 0;
        }
        Ok(it)
    }

    /// The version that runs, and its network.
    pub fn active(&self) -> (u32, Arc<Network<f32>>) {
        match self.find(self.active) {
            Some((version, network)) => (version.number, Arc::clone(network)),
            None => (0, shipped()),
        }
    }

    /// Those that were trained here, oldest first.
    pub fn kept(&self) -> impl Iterator<Item = &Version> {
        self.kept.iter().map(|(version, _)| version)
    }

    /// The number of the next one.
    pub fn next_number(&self) -> u32 {
        self.kept.last().map_or(1, |(version, _)| version.number + 1)
    }

    /// Keeps a new version and makes it the active one. `number`, `parent`, `weights` and `code` are filled in here.
    ///
    /// # Errors
    /// What the file system said; nothing has changed then.
    pub fn add(&mut self, network: Arc<Network<f32>>, version: Version) -> anyhow::Result<u32> {
        let number = self.next_number();
        let weights = format!("{:016x}", hash(&network.save()));
        let version = Version { number, parent: self.active, weights, code: code().into(), ..version };
        let directory = self.directory();
        if let Some(directory) = &directory {
            Files::of(&version, &network).write(directory, number)?;
            write(&directory.join(ACTIVE), number.to_string().as_bytes())?;
        }
        self.kept.push((version, network));
        self.active = number;
        while self.kept.len() > KEPT {
            let (gone, _) = self.kept.remove(0);
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

    /// Goes back to the version that the active one was trained from, or to what ships where that is no longer kept;
    /// returns its number, `None` where what ships runs already.
    ///
    /// # Errors
    /// What the file system said; nothing has changed then.
    pub fn roll_back(&mut self) -> anyhow::Result<Option<u32>> {
        let Some((version, _)) = self.find(self.active) else { return Ok(None) };
        let to = if self.find(version.parent).is_some() { version.parent } else { 0 };
        if let Some(directory) = self.directory() {
            write(&directory.join(ACTIVE), to.to_string().as_bytes())?;
        }
        self.active = to;
        Ok(Some(to))
    }

    /// Tells these versions, and which of them runs, from others.
    pub fn revision(&self) -> u64 {
        let mut text = self.active.to_string();
        for Version { number, parent, weights, code, .. } in self.kept() {
            text += &format!(" {number} {parent} {weights} {code}");
        }
        hash(text.as_bytes())
    }

    /// All of them, for another replica.
    pub fn set(&self) -> Set {
        let files = self.kept.iter().map(|(version, network)| Files::of(version, network));
        Set { revision: self.revision(), active: self.active, files: files.collect() }
    }

    /// Takes another replica's instead: all of them, or none where one is broken or of another build. Whether another
    /// network runs then.
    ///
    /// # Errors
    /// Why they are refused, or what the file system said; nothing has changed then.
    pub fn take(&mut self, set: &Set) -> anyhow::Result<bool> {
        let kept = set.check()?;
        if let Some(state) = &self.state {
            set.write(state).context("the leader's weights can't be kept")?;
        }
        let (_, ran) = self.active();
        (self.kept, self.active) = (kept, set.active);
        Ok(self.active().1 != ran)
    }

    fn directory(&self) -> Option<PathBuf> {
        self.state.as_ref().map(|state| state.join(DIRECTORY))
    }

    fn find(&self, number: u32) -> Option<&(Version, Arc<Network<f32>>)> {
        self.kept.iter().find(|(version, _)| version.number == number)
    }
}

impl Set {
    /// The versions, oldest first.
    fn check(&self) -> anyhow::Result<Vec<(Version, Arc<Network<f32>>)>> {
        ensure!(self.files.len() <= KEPT, "{} versions are more than are kept", self.files.len());
        let kept: Vec<_> = self.files.iter().map(Files::check).collect::<anyhow::Result<_>>()?;
        let numbers: Vec<u32> = kept.iter().map(|(version, _)| version.number).collect();
        ensure!(!numbers.contains(&0) && numbers.is_sorted_by(|a, b| a < b), "their numbers are in no order");
        ensure!(self.active == 0 || numbers.contains(&self.active), "the one that runs is missing");
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
        write(&next.join(ACTIVE), self.active.to_string().as_bytes())?;
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
        ensure!(version.code == code(), "they belong to another build, whose features or training differ");
        let network = Network::load(NetworkSettings::of(CoreKind::Gru), &self.weights)?;
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

    fn other(factor: f32) -> Arc<Network<f32>> {
        let mut network = (*shipped()).clone();
        network.visit_mut("", &mut |_, _, values| values.iter_mut().for_each(|it| *it *= factor));
        Arc::new(network)
    }

    fn blank() -> Version {
        Version {
            number: 0,
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
        assert_eq!((versions.active().0, versions.roll_back().unwrap()), (0, None), "what ships runs");
        assert_eq!(versions.add(other(0.9), blank()).unwrap(), 1);
        assert_eq!(versions.add(other(0.8), blank()).unwrap(), 2);
        let mut versions = open();
        assert_eq!(versions.active(), (2, other(0.8)));
        assert_eq!(versions.kept().map(|it| it.parent).collect::<Vec<_>>(), [0, 1]);
        assert_eq!(versions.roll_back().unwrap(), Some(1));
        let mut versions = open();
        assert_eq!(versions.active(), (1, other(0.9)), "also after a restart");
        assert_eq!(versions.add(other(0.7), blank()).unwrap(), 3, "a number is not used twice");
        assert_eq!(versions.roll_back().unwrap(), Some(1), "version 3 came from 1, not from 2");
        assert_eq!(versions.roll_back().unwrap(), Some(0));
        assert_eq!(open().active().1, shipped());
        for n in 0..6 {
            versions.add(other(0.5 + 0.01 * n as f32), blank()).unwrap();
        }
        let numbers: Vec<u32> = open().kept().map(|it| it.number).collect();
        assert_eq!(numbers, [5, 6, 7, 8, 9], "the newest are kept");
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
        assert_eq!((open().active().0, open().kept().count()), (0, 1));
        fs::write(files.join("2.safetensors"), &weights).unwrap();
        assert_eq!(open().active().0, 2);
        let sidecar = fs::read_to_string(files.join("2.json")).unwrap();
        fs::write(files.join("2.json"), sidecar.replace(code(), "0123456789abcdef")).unwrap();
        assert_eq!(open().active().0, 0);
        fs::write(files.join("2.json"), "{").unwrap();
        assert_eq!((open().active().0, open().kept().count()), (0, 1));
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
        assert!(follower.take(&leader.set()).unwrap(), "another network runs");
        assert!(!follower.take(&leader.set()).unwrap(), "it runs already");
        for it in [&follower, &open()] {
            assert_eq!((it.active(), it.revision()), (leader.active(), leader.revision()));
            assert!(it.kept().eq(leader.kept()));
        }
        leader.roll_back().unwrap();
        assert!(follower.take(&leader.set()).unwrap(), "and goes back with it");
        assert_eq!((follower.active().0, open().active().0), (1, 1));

        let sound = leader.set();
        let broken = |change: &dyn Fn(&mut Set)| {
            let mut set = sound.clone();
            change(&mut set);
            let mut it = open();
            let said = it.take(&set).unwrap_err().to_string();
            assert_eq!((it.revision(), open().revision()), (leader.revision(), leader.revision()), "{said}");
            said
        };
        let flip = |set: &mut Set| *set.files[1].weights.last_mut().unwrap() ^= 1;
        assert!(broken(&flip).contains("not those that the JSON speaks of"));
        let foreign = |set: &mut Set| {
            let text = String::from_utf8(set.files[0].sidecar.clone()).unwrap();
            set.files[0].sidecar = text.replace(code(), "0123456789abcdef").into_bytes();
        };
        assert!(broken(&foreign).contains("another build"));
        assert!(broken(&|set| set.files[0].sidecar.truncate(9)).contains("no sense"));
        assert!(broken(&|set| set.files[0].weights = vec![0; MOST_BYTES as usize + 1]).contains("too large"));
        assert!(broken(&|set| set.files.resize(KEPT + 1, sound.files[0].clone())).contains("6 versions"));
        assert!(broken(&|set| set.files.reverse()).contains("no order"));
        assert!(broken(&|set| set.active = 7).contains("missing"));
    }

    #[test]
    fn a_crash_between_the_renames_leaves_the_leaders_versions() {
        let directory = Directory::new("renames");
        let open = || Versions::open(Some(&directory.0)).unwrap();
        open().add(other(0.9), blank()).unwrap();
        fs::rename(directory.0.join(DIRECTORY), directory.0.join(NEXT)).unwrap();
        fs::create_dir(directory.0.join(LAST)).unwrap();
        let mut versions = open();
        assert_eq!(versions.active(), (1, other(0.9)));
        // What was left behind is in nobody's way.
        fs::create_dir(directory.0.join(NEXT)).unwrap();
        assert!(versions.take(&Versions::open(None).unwrap().set()).unwrap());
        assert_eq!((open().active().0, open().kept().count()), (0, 0));
    }
}
