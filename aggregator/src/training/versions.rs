//! The weights of heads and trees by version: 0 is what ships, the others are trained here, or at the replica that leads, and
//! kept in the state directory. Trees of a workload's own are kept beside them, each a version that runs for that one alone.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, bail, ensure};
use prescale_core::fitted::Fitted;
use prescale_core::world::WorkloadId;
use prescale_models::neural::training::hash;
use prescale_models::trees::Booster;
use prescale_models::{Weights, WeightsKind};
use serde::{Deserialize, Serialize};

/// The directory in the state directory.
const DIRECTORY: &str = "weights";
/// Where the leader's versions are written before they take its place, and where what was there goes then.
const NEXT: &str = "weights.next";
const LAST: &str = "weights.last";
/// The file in it that says which versions run: a line for each kind, as in `gru 3`.
const ACTIVE: &str = "active";
/// Versions of a kind that are kept beside what ships, some 40 to 70 KB each: a working week of nights.
const KEPT: usize = 5;
/// Workloads with trees of their own at most, some 65 KB each: with the other versions they fit a page for the other replicas.
pub const MOST_OWN: usize = 50;
/// Files that are larger are none of ours.
const MOST_BYTES: u64 = 1024 * 1024;

/// What a version was made of, and why it was admitted.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Version {
    /// 1 and up, over all kinds.
    pub number: u32,
    /// The kind by its name: `gru`, `lstm`, `cnn` or `trees`.
    pub model: String,
    /// Whose own they are: they run for this workload alone, in the place of `parent`, while they are kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workload: Option<WorkloadId>,
    /// The version that ran before, which a network was trained from, and which it goes back to.
    pub parent: u32,
    /// FNV-1a of the weights file.
    pub weights: String,
    /// Fingerprint of the features and the fit that the weights belong to.
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

/// Trees of workloads' own, each with a version that names its workload.
pub type Own = Vec<(Version, Arc<Booster>)>;

/// All versions of all kinds as files, and which one of each runs: what a replica that leads gives the others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Set {
    /// [`Versions::revision`] of the giver.
    pub revision: u64,
    /// By [`WeightsKind::index`].
    active: [u32; 4],
    files: Vec<Files>,
}

/// One version's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Files {
    /// A [`Version`] as JSON, so that a build of other fields refuses the weights and not the whole answer.
    sidecar: Vec<u8>,
    weights: Vec<u8>,
}

/// A kind that runs other weights since the leader's versions were taken, and the numbers of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Swapped {
    /// The kind.
    pub kind: WeightsKind,
    /// Of those that ran here.
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
    kept: Vec<(Version, Weights)>,
    /// By [`WeightsKind::index`].
    active: [u32; 4],
}

impl Versions {
    /// Reads those of a state directory; without one they are in memory only. What can't be read is said and left out, and
    /// the version that ships runs where the active one is among it.
    ///
    /// # Errors
    /// When the directory can't be made or listed.
    pub fn open(state: Option<&Path>) -> anyhow::Result<Self> {
        let Some(state) = state else {
            return Ok(Self { state: None, kept: Vec::new(), active: [0; 4] });
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
        let mut it = Self { state: Some(state.to_owned()), kept, active: [0; 4] };
        for (model, number) in text.lines().filter_map(|line| line.split_once(' ')) {
            let kind = WeightsKind::of(model);
            match kind
                .zip(number.parse().ok())
                .filter(|(kind, number)| *number == 0 || has(&it.kept, *kind, *number))
            {
                Some((kind, number)) => it.active[kind.index()] = number,
                None => {
                    tracing::error!("the {model} weights that ran last can't be used, so those that ship do");
                }
            }
        }
        Ok(it)
    }

    /// The version of a kind that runs, and its weights.
    pub fn active(&self, kind: WeightsKind) -> (u32, Weights) {
        match self.find(self.active[kind.index()]) {
            Some((version, weights)) => (version.number, weights.clone()),
            None => (0, kind.shipped()),
        }
    }

    /// The weights that run.
    pub fn running(&self) -> Fitted {
        let mut all = Fitted::shipped();
        WeightsKind::ALL.into_iter().for_each(|kind| all.pooled.set(self.active(kind).1));
        all.own = self.own().filter_map(|(id, weights)| Some((id.clone(), booster(weights)?))).collect();
        all
    }

    /// Workloads with trees of their own, and those.
    fn own(&self) -> impl Iterator<Item = (&WorkloadId, &Weights)> {
        self.kept.iter().filter_map(|(version, weights)| Some((version.workload.as_ref()?, weights)))
    }

    /// Those that were trained here, oldest first.
    pub fn kept(&self) -> impl Iterator<Item = &Version> {
        self.kept.iter().map(|(version, _)| version)
    }

    /// The number of the next one.
    pub fn next_number(&self) -> u32 {
        next(&self.kept)
    }

    /// Keeps a new version and makes it the active one of its kind. `number`, `model`, `parent`, `weights` and `code` are
    /// filled in here.
    ///
    /// # Errors
    /// What the file system said; nothing has changed then.
    pub fn add(&mut self, weights: Weights, version: Version) -> anyhow::Result<u32> {
        let (number, kind) = (self.next_number(), weights.kind());
        let version = self.filled_in(number, &weights, version);
        let mut kept = self.kept.clone();
        kept.push((version, weights));
        if kept.iter().filter(|(it, _)| it.is_pooled(kind)).count() > KEPT {
            let oldest = kept.iter().position(|(it, _)| it.is_pooled(kind)).expect("there are some");
            kept.remove(oldest);
        }
        self.replace(kept, self.with(kind, number))?;
        Ok(number)
    }

    /// Keeps trees of workloads' own, each of which its version names, in the place of all that there were. The same is filled in.
    ///
    /// # Errors
    /// What the file system said; nothing has changed then.
    pub fn set_own(&mut self, own: Own) -> anyhow::Result<()> {
        let mut kept = self.without_own();
        if own.is_empty() && kept.len() == self.kept.len() {
            return Ok(());
        }
        for (version, booster) in own {
            let (number, weights) = (next(&kept), Weights::from(booster));
            kept.push((self.filled_in(number, &weights, version), weights));
        }
        self.replace(kept, self.active)
    }

    /// Goes back to the version that the active one of this kind was trained from, or to what ships where that is no longer kept,
    /// and from all trees of workloads' own, which were better than what ran then; returns its number, `None` where what ships
    /// runs already.
    ///
    /// # Errors
    /// What the file system said; nothing has changed then.
    pub fn roll_back(&mut self, kind: WeightsKind) -> anyhow::Result<Option<u32>> {
        let kept = if kind == WeightsKind::Trees { self.without_own() } else { self.kept.clone() };
        let active = self.find(self.active[kind.index()]);
        if active.is_none() && kept.len() == self.kept.len() {
            return Ok(None);
        }
        let parent = active.map(|(version, _)| version.parent);
        let to = parent.filter(|parent| self.find(*parent).is_some()).unwrap_or(0);
        self.replace(kept, self.with(kind, to))?;
        Ok(Some(to))
    }

    /// Has other versions in the place of these, once they are written.
    fn replace(&mut self, kept: Vec<(Version, Weights)>, active: [u32; 4]) -> anyhow::Result<()> {
        let it = Self { state: self.state.clone(), kept, active };
        if let Some(state) = &it.state {
            it.set().write(state)?;
        }
        *self = it;
        Ok(())
    }

    fn without_own(&self) -> Vec<(Version, Weights)> {
        self.kept.iter().filter(|(version, _)| version.workload.is_none()).cloned().collect()
    }

    /// What a version says of its weights.
    fn filled_in(&self, number: u32, weights: &Weights, version: Version) -> Version {
        let kind = weights.kind();
        let (model, code) = (kind.name().into(), kind.code().into());
        let hash = format!("{:016x}", hash(&weights.save()));
        Version { number, model, parent: self.active[kind.index()], weights: hash, code, ..version }
    }

    /// Tells these versions, and which of them run, from others.
    pub fn revision(&self) -> u64 {
        let mut text = lines(self.active);
        for Version { number, model, workload, parent, weights, code, .. } in self.kept() {
            text += &format!("{number} {model} {workload:?} {parent} {weights} {code}\n");
        }
        hash(text.as_bytes())
    }

    /// All of them, for another replica.
    pub fn set(&self) -> Set {
        let files = self.kept.iter().map(|(version, weights)| Files::of(version, weights));
        Set { revision: self.revision(), active: self.active, files: files.collect() }
    }

    /// Takes another replica's instead, of every kind: all of them, or none where one is broken or of another build. Which
    /// kinds run others then, and whether other trees run that are workloads' own.
    ///
    /// # Errors
    /// Why they are refused, or what the file system said; nothing has changed then.
    pub fn take(&mut self, set: &Set) -> anyhow::Result<(Vec<Swapped>, bool)> {
        let kept = set.check()?;
        if let Some(state) = &self.state {
            set.write(state).context("the leader's weights can't be kept")?;
        }
        let ran = WeightsKind::ALL.map(|kind| self.active(kind));
        let own = self.running().own;
        (self.kept, self.active) = (kept, set.active);
        let swapped = WeightsKind::ALL.into_iter().zip(ran).filter_map(|(kind, (was, ran))| {
            let (now, runs) = self.active(kind);
            (runs != ran).then_some(Swapped { kind, was, now })
        });
        Ok((swapped.collect(), self.running().own != own))
    }

    /// The active ones, this one among them.
    fn with(&self, kind: WeightsKind, number: u32) -> [u32; 4] {
        let mut active = self.active;
        active[kind.index()] = number;
        active
    }

    fn find(&self, number: u32) -> Option<&(Version, Weights)> {
        self.kept.iter().find(|(version, _)| version.number == number)
    }
}

/// What [`ACTIVE`] says.
fn lines(active: [u32; 4]) -> String {
    let line = |(kind, number): (WeightsKind, u32)| format!("{} {number}\n", kind.name());
    WeightsKind::ALL.into_iter().zip(active).map(line).collect()
}

/// Whether this version is kept, and of this kind.
fn has(kept: &[(Version, Weights)], kind: WeightsKind, number: u32) -> bool {
    kept.iter().any(|(version, _)| version.number == number && version.is_pooled(kind))
}

/// The number after all of these.
fn next(kept: &[(Version, Weights)]) -> u32 {
    kept.last().map_or(1, |(version, _)| version.number + 1)
}

fn booster(weights: &Weights) -> Option<Arc<Booster>> {
    if let Weights::Trees(booster) = weights { Some(Arc::clone(booster)) } else { None }
}

impl Version {
    /// Whether it is all workloads', and of this kind.
    fn is_pooled(&self, kind: WeightsKind) -> bool {
        self.workload.is_none() && self.model == kind.name()
    }
}

impl Set {
    /// The versions, oldest first.
    fn check(&self) -> anyhow::Result<Vec<(Version, Weights)>> {
        let kept: Vec<_> = self.files.iter().map(Files::check).collect::<anyhow::Result<_>>()?;
        let numbers: Vec<u32> = kept.iter().map(|(version, _)| version.number).collect();
        ensure!(!numbers.contains(&0) && numbers.is_sorted_by(|a, b| a < b), "their numbers are in no order");
        for (kind, active) in WeightsKind::ALL.into_iter().zip(self.active) {
            let (model, count) = (kind.name(), kept.iter().filter(|(it, _)| it.is_pooled(kind)).count());
            ensure!(count <= KEPT, "{count} {model} versions are more than are kept");
            ensure!(active == 0 || has(&kept, kind, active), "the {model} version that runs is missing");
        }
        let own: Vec<&WorkloadId> =
            kept.iter().filter_map(|(version, _)| version.workload.as_ref()).collect();
        let distinct: BTreeSet<&WorkloadId> = own.iter().copied().collect();
        ensure!(
            own.len() <= MOST_OWN,
            "{} workloads with trees of their own are more than are kept",
            own.len()
        );
        ensure!(distinct.len() == own.len(), "a workload has trees of its own twice");
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
    fn of(version: &Version, weights: &Weights) -> Self {
        let sidecar = serde_json::to_vec_pretty(version).expect("a version is plain data");
        Self { sidecar, weights: weights.save() }
    }

    fn version(&self) -> anyhow::Result<Version> {
        serde_json::from_slice(&self.sidecar).context("the JSON makes no sense")
    }

    fn check(&self) -> anyhow::Result<(Version, Weights)> {
        ensure!(self.weights.len() <= MOST_BYTES as usize, "they are too large");
        let version = self.version()?;
        if format!("{:016x}", hash(&self.weights)) != version.weights {
            bail!("the weights are not those that the JSON speaks of");
        }
        let kind = WeightsKind::of(&version.model).context("there is no such kind of weights")?;
        ensure!(
            version.code == kind.code(),
            "they belong to another build, whose features or training differ"
        );
        let of_all = version.workload.is_none() || kind == WeightsKind::Trees;
        ensure!(of_all, "a workload has trees of its own, and no {}", kind.name());
        let weights = kind.load(&self.weights)?;
        Ok((version, weights))
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
    use std::sync::Arc;

    use prescale_models::neural::{CoreKind, shipped_as};
    use prescale_models::nn::Parameters as _;
    use prescale_models::trees::{Booster, FEATURES, Growth, Objective, Settings};

    use super::*;

    const GRU: WeightsKind = WeightsKind::Network(CoreKind::Gru);
    const LSTM: WeightsKind = WeightsKind::Network(CoreKind::Lstm);
    const CNN: WeightsKind = WeightsKind::Network(CoreKind::Cnn);
    const TREES: WeightsKind = WeightsKind::Trees;

    fn other(factor: f32) -> Weights {
        other_as(GRU, factor)
    }

    fn other_as(kind: WeightsKind, factor: f32) -> Weights {
        match kind {
            WeightsKind::Network(core) => {
                let mut network = (*shipped_as(core)).clone();
                network.visit_mut("", &mut |_, _, values| values.iter_mut().for_each(|it| *it *= factor));
                Arc::new(network).into()
            }
            WeightsKind::Trees => {
                let (objective, growth) = (Objective::Squared, Growth::DepthWise { depth: 1 });
                let settings = Settings {
                    objective,
                    growth,
                    trees: 1,
                    rate: 1.0,
                    ridge: 0.0,
                    least_gain: 0.0,
                    least_weight: 0.0,
                };
                Arc::new(Booster::fit(&[0.0; FEATURES], FEATURES, &[f64::from(factor)], &settings)).into()
            }
        }
    }

    fn blank() -> Version {
        Version {
            trained_until_unix_ms: 5,
            made_unix_ms: 6,
            workloads: 7,
            records: 200,
            gain: [0.2, 0.1, 0.3],
            ..Version::default()
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
        assert_eq!(open().active(GRU).1, GRU.shipped());
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
        assert_eq!(versions.add(other_as(CNN, 0.9), blank()).unwrap(), 2, "numbers are over all kinds");
        assert_eq!(versions.add(other_as(TREES, 0.9), blank()).unwrap(), 3);
        let running = |versions: &Versions| WeightsKind::ALL.map(|kind| versions.active(kind).0);
        let mut versions = open();
        assert_eq!(running(&versions), [1, 0, 2, 3]);
        for kind in [CNN, TREES] {
            assert_eq!(versions.running().pooled.of(kind), other_as(kind, 0.9));
        }
        assert_eq!(versions.running().pooled.of(LSTM), LSTM.shipped());
        assert_eq!(
            versions.kept().map(|it| (it.model.as_str(), it.parent)).collect::<Vec<_>>(),
            [("gru", 0), ("cnn", 0), ("trees", 0)]
        );
        for n in 0..KEPT {
            versions.add(other(0.5 + 0.01 * n as f32), blank()).unwrap();
        }
        assert!(versions.kept().any(|it| it.number == 2), "the gru's nights do not push the cnn's out");
        assert_eq!(versions.roll_back(CNN).unwrap(), Some(0));
        assert_eq!(versions.roll_back(LSTM).unwrap(), None);
        assert_eq!(versions.add(other_as(TREES, 0.8), blank()).unwrap(), 9);
        assert_eq!((versions.roll_back(TREES).unwrap(), running(&open())), (Some(3), [8, 0, 0, 3]));
        assert_eq!((versions.roll_back(TREES).unwrap(), versions.roll_back(TREES).unwrap()), (Some(0), None));
        // A file that names another kind's version runs what ships.
        fs::write(directory.0.join(DIRECTORY).join(ACTIVE), "lstm 8\ngru 7\ntrees 9\n").unwrap();
        assert_eq!(running(&open()), [7, 0, 0, 9]);
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
        fs::write(files.join("2.json"), sidecar.replace(GRU.code(), "0123456789abcdef")).unwrap();
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
        let gru = |was, now| Swapped { kind: GRU, was, now };
        assert_eq!(follower.take(&leader.set()).unwrap().0, [gru(1, 2)], "other weights run");
        assert_eq!(follower.take(&leader.set()).unwrap().0, [], "it runs already");
        for it in [&follower, &open()] {
            assert_eq!((it.running(), it.revision()), (leader.running(), leader.revision()));
            assert!(it.kept().eq(leader.kept()));
        }
        leader.add(other_as(CNN, 0.9), blank()).unwrap();
        leader.add(other_as(TREES, 0.9), blank()).unwrap();
        leader.roll_back(GRU).unwrap();
        let all = [gru(2, 1), Swapped { kind: CNN, was: 0, now: 3 }, Swapped { kind: TREES, was: 0, now: 4 }];
        assert_eq!(
            follower.take(&leader.set()).unwrap().0,
            all,
            "each kind goes on, or back, with the leader's"
        );
        for it in [&follower, &open()] {
            let running = [GRU, CNN, TREES].map(|kind| it.active(kind).0);
            assert_eq!((it.running(), running), (leader.running(), [1, 3, 4]));
        }
        for (kind, was) in [(CNN, 3), (TREES, 4)] {
            let revision = leader.revision();
            leader.roll_back(kind).unwrap();
            assert_ne!(leader.revision(), revision, "what runs of any kind is told apart");
            assert_eq!(follower.take(&leader.set()).unwrap().0, [Swapped { kind, was, now: 0 }]);
        }

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
        for (file, kind) in [(0, GRU), (2, CNN), (3, TREES)] {
            assert!(broken(&|set| says(set, file, kind.code(), foreign)).contains("another build"));
        }
        assert!(broken(&|set| says(set, 0, "\"gru\"", "\"transformer\"")).contains("no such kind"));
        let relabelled = |set: &mut Set| {
            says(set, 2, "\"cnn\"", "\"lstm\"");
            says(set, 2, CNN.code(), LSTM.code());
        };
        broken(&relabelled);
        let trees_as_a_network = |set: &mut Set| {
            says(set, 3, "\"trees\"", "\"gru\"");
            says(set, 3, TREES.code(), GRU.code());
        };
        broken(&trees_as_a_network);
        assert!(broken(&|set| set.files[0].sidecar.truncate(9)).contains("no sense"));
        assert!(broken(&|set| set.files[0].weights = vec![0; MOST_BYTES as usize + 1]).contains("too large"));
        assert!(broken(&|set| set.files.reverse()).contains("no order"));
        assert!(broken(&|set| set.active[0] = 7).contains("the gru version that runs is missing"));
        assert!(broken(&|set| set.active[2] = 1).contains("the cnn version that runs is missing"));
        // As many of each kind as are kept, and no more.
        for n in 0..KEPT {
            leader.add(other(0.5 + 0.01 * n as f32), blank()).unwrap();
            leader.add(other_as(CNN, 0.5 + 0.01 * n as f32), blank()).unwrap();
            leader.add(other_as(TREES, 0.5 + 0.01 * n as f32), blank()).unwrap();
        }
        follower.take(&leader.set()).unwrap();
        assert_eq!(open().kept().count(), 3 * KEPT);
        let full = leader.set();
        let one_more = |set: &mut Set| {
            set.clone_from(&full);
            set.files.push(full.files[0].clone());
            says(set, 3 * KEPT, "\"number\": 5,", "\"number\": 99,");
        };
        assert!(broken(&one_more).contains("6 gru versions"));
    }

    fn named(name: &str) -> WorkloadId {
        WorkloadId { namespace: "shop".into(), name: name.into() }
    }

    fn own(name: &str, factor: f32) -> (Version, Arc<Booster>) {
        let version = Version { workload: Some(named(name)), ..blank() };
        (version, booster(&other_as(TREES, factor)).unwrap())
    }

    #[test]
    fn trees_of_workloads_own_run_beside_those_of_all_until_others_come_or_these_go_back() {
        let directory = Directory::new("own");
        let open = || Versions::open(Some(&directory.0)).unwrap();
        let mut versions = open();
        versions.add(other_as(TREES, 0.9), blank()).unwrap();
        versions.set_own(vec![own("web", 0.1), own("cart", 0.2)]).unwrap();
        for it in [&versions, &open()] {
            let running = it.running();
            assert_eq!((it.active(TREES).0, running.own.len()), (1, 2));
            assert_eq!(running.of(&named("web")).of(TREES), other_as(TREES, 0.1));
            assert_eq!(running.of(&named("other")).of(TREES), other_as(TREES, 0.9));
            assert!(
                it.kept().filter(|version| version.workload.is_some()).all(|version| version.parent == 1)
            );
        }
        // Those of all come and go, as many as ever are kept, and a workload's own go on.
        for n in 0..KEPT {
            versions.add(other_as(TREES, 0.5 + 0.01 * n as f32), blank()).unwrap();
        }
        assert_eq!((open().kept().count(), open().running().own.len()), (KEPT + 2, 2));
        // The next night's take the place of all.
        versions.set_own(vec![own("cart", 0.3)]).unwrap();
        assert_eq!(open().running().own.into_keys().collect::<Vec<_>>(), [named("cart")]);

        let mut follower = Versions::open(None).unwrap();
        assert!(follower.take(&versions.set()).unwrap().1, "another replica runs them too");
        assert!(!follower.take(&versions.set()).unwrap().1, "it runs them already");
        assert_eq!(follower.running(), versions.running());
        let broken = |change: &dyn Fn(&mut Own)| {
            let mut giver = Versions::open(None).unwrap();
            let mut all = vec![own("web", 0.1), own("cart", 0.2)];
            change(&mut all);
            giver.set_own(all).unwrap();
            follower.set().check().unwrap();
            giver.set().check().unwrap_err().to_string()
        };
        assert!(broken(&|all| all[1].0.workload = Some(named("web"))).contains("twice"));
        let many = |all: &mut Vec<_>| all.extend((0..MOST_OWN).map(|n| own(&format!("w{n}"), 0.1)));
        assert!(broken(&many).contains("52 workloads with trees of their own"));

        let was = versions.active(TREES).0;
        let to = versions.roll_back(TREES).unwrap().unwrap();
        assert!(to < was && open().running().own.is_empty(), "they were better than what no longer runs");
        assert_eq!(open().active(TREES), versions.active(TREES));
        assert!(follower.take(&versions.set()).unwrap().1);
        // Over what ships, the way back is from them alone.
        let mut shipped = Versions::open(None).unwrap();
        shipped.set_own(vec![own("web", 0.1)]).unwrap();
        assert_eq!(shipped.roll_back(TREES).unwrap(), Some(0));
        assert_eq!(shipped.roll_back(TREES).unwrap(), None);
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
        assert_eq!(versions.take(&Versions::open(None).unwrap().set()).unwrap().0.len(), 1);
        assert_eq!((open().active(GRU).0, open().kept().count()), (0, 0));
    }
}
