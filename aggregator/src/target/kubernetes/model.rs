//! What the API has shown us, as a state machine without clock or network: changes in, the world and the writes out.

use std::collections::{BTreeMap, BTreeSet};

use prescale_core::annotations::Wish;
use prescale_core::standing::{Refusal, Scaler, ScalerKind, Standing, Writes, measured, standing};
use prescale_core::view;
use prescale_core::world::{Mode, Pod, WorkloadId, WorkloadState};

use super::objects::{Key, Kind, Meta, PodFacts, ScalerFacts, ScalerKey, Spec};

/// A list that is watched.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Source {
    Workloads(Kind),
    Scalers(ScalerKind),
    /// The pods of a namespace.
    Pods(String),
}

/// Namespace and name.
pub(super) type Name = (String, String);

/// What an object says to us.
#[derive(Clone, Debug)]
pub(super) enum Facts {
    Meta(Meta),
    Scaler(ScalerFacts),
    Pod(Box<PodFacts>),
}

/// A change of a [`Source`].
#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant, reason = "there is one at a time, and it is moved on at once")]
pub(super) enum Change {
    /// A new list begins; what it does not name is gone.
    Begin,
    /// The object says this; `None`: nothing to us.
    Put(Name, Option<Facts>),
    /// The list is complete.
    Done,
}

#[derive(Debug, Default)]
struct List {
    complete: bool,
    // Of the list under way: what it has not named yet.
    unnamed: BTreeSet<Name>,
}

#[derive(Debug)]
pub(super) struct Model {
    revision: u64,
    lists: BTreeMap<Source, List>,
    metas: BTreeMap<Key, Meta>,
    specs: BTreeMap<Key, Spec>,
    // When anything that a write depends on changed last, in revisions.
    versions: BTreeMap<Key, u64>,
    // Our writes of replicas: an answer that was asked for before one of them is out of date.
    writes: BTreeMap<Key, u64>,
    scalers: BTreeMap<ScalerKey, ScalerFacts>,
    pods: BTreeMap<Name, PodFacts>,
}

/// A workload as it stands.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) key: Key,
    pub(super) uid: String,
    /// `None` until all of it is known, and where it is not taken on.
    pub(super) state: Option<WorkloadState>,
    pub(super) refusals: Vec<Refusal>,
}

impl Row {
    /// What is refused, as people are shown it.
    pub(super) fn refusals(&self) -> impl Iterator<Item = view::Refusal> + '_ {
        self.refusals.iter().map(|refusal| view::Refusal {
            namespace: self.key.id.namespace.clone(),
            name: self.key.id.name.clone(),
            kind: self.key.kind.name(),
            reason: refusal.reason(),
            sentence: refusal.to_string(),
        })
    }
}

/// A write, with the versions that it was decided on.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Write {
    Scale { key: Key, generation: i64, resource_version: String },
    Minimum { scaler: ScalerKey, facts: ScalerFacts },
}

impl Model {
    /// `revision` must be above that of any earlier life: whoever remembers a write's version compares.
    pub(super) fn new(revision: u64) -> Self {
        Self {
            revision,
            lists: BTreeMap::new(),
            metas: BTreeMap::new(),
            specs: BTreeMap::new(),
            versions: BTreeMap::new(),
            writes: BTreeMap::new(),
            scalers: BTreeMap::new(),
            pods: BTreeMap::new(),
        }
    }

    /// Changes whenever anything does.
    pub(super) fn revision(&self) -> u64 {
        self.revision
    }

    pub(super) fn apply(&mut self, source: &Source, change: Change) {
        match change {
            Change::Begin => {
                let unnamed = self.names(source);
                self.lists.entry(source.clone()).or_default().unnamed = unnamed;
            }
            Change::Put(name, facts) => {
                if let Some(list) = self.lists.get_mut(source) {
                    list.unnamed.remove(&name);
                }
                self.put(source, name, facts);
            }
            Change::Done => {
                let list = self.lists.entry(source.clone()).or_default();
                let first = !std::mem::replace(&mut list.complete, true);
                for name in std::mem::take(&mut list.unnamed) {
                    self.put(source, name, None);
                }
                self.revision += u64::from(first);
            }
        }
    }

    /// A namespace that nobody is opted in any more.
    pub(super) fn forget_pods(&mut self, namespace: &str) {
        self.lists.remove(&Source::Pods(namespace.to_owned()));
        self.pods.retain(|(own, _), _| own != namespace);
    }

    fn names(&self, source: &Source) -> BTreeSet<Name> {
        match source {
            Source::Workloads(kind) => {
                let of_kind = self.metas.keys().filter(|key| key.kind == *kind);
                of_kind.map(|key| (key.id.namespace.clone(), key.id.name.clone())).collect()
            }
            Source::Scalers(kind) => {
                let of_kind = self.scalers.keys().filter(|key| key.kind == *kind);
                of_kind.map(|key| (key.namespace.clone(), key.name.clone())).collect()
            }
            Source::Pods(namespace) => {
                self.pods.keys().filter(|(own, _)| own == namespace).cloned().collect()
            }
        }
    }

    fn put(&mut self, source: &Source, name: Name, facts: Option<Facts>) {
        match (source, facts) {
            (Source::Workloads(kind), facts) => {
                let id = WorkloadId { namespace: name.0, name: name.1 };
                let meta = facts.and_then(|it| if let Facts::Meta(meta) = it { Some(meta) } else { None });
                self.put_meta(Key { id, kind: *kind }, meta);
            }
            (Source::Scalers(kind), facts) => {
                let key = ScalerKey { namespace: name.0, kind: *kind, name: name.1 };
                let facts = facts.and_then(|it| if let Facts::Scaler(it) = it { Some(it) } else { None });
                self.put_scaler(key, facts);
            }
            (Source::Pods(_), Some(Facts::Pod(pod))) => {
                if self.pods.get(&name) != Some(&*pod) {
                    self.pods.insert(name, *pod);
                    self.revision += 1;
                }
            }
            (Source::Pods(_), _) => self.revision += u64::from(self.pods.remove(&name).is_some()),
        }
    }

    fn put_meta(&mut self, key: Key, meta: Option<Meta>) {
        let Some(meta) = meta else {
            if self.metas.remove(&key).is_some() {
                self.specs.remove(&key);
                self.touch(&key);
            }
            return;
        };
        if let Some(spec) = self.specs.get_mut(&key) {
            if spec.uid != meta.uid {
                self.specs.remove(&key);
            } else if spec.generation == meta.generation {
                // Only its status has changed: these are still its replicas, at a newer version.
                spec.resource_version.clone_from(&meta.resource_version);
            }
        }
        let same = self.metas.get(&key).is_some_and(|known| {
            (known.generation, &known.said, &known.uid) == (meta.generation, &meta.said, &meta.uid)
        });
        self.metas.insert(key.clone(), meta);
        if !same {
            self.touch(&key);
        }
    }

    /// What a scaler says now, by the watch or by the answer to our own write.
    pub(super) fn put_scaler(&mut self, key: ScalerKey, facts: Option<ScalerFacts>) {
        let before = self.scalers.get(&key).cloned();
        match &facts {
            Some(facts) => self.scalers.insert(key, facts.clone()),
            None => self.scalers.remove(&key),
        };
        let said = |it: &ScalerFacts| ScalerFacts { resource_version: String::new(), ..it.clone() };
        if before.as_ref().map(said) != facts.as_ref().map(said) {
            for target in [before, facts].into_iter().flatten().map(|it| it.target) {
                self.touch(&target);
            }
        }
    }

    fn touch(&mut self, key: &Key) {
        self.revision += 1;
        if self.metas.contains_key(key) {
            self.versions.insert(key.clone(), self.revision);
        } else {
            self.versions.remove(key);
            self.writes.remove(key);
        }
    }

    /// Workloads whose spec must be read, each with the count of our writes so far.
    pub(super) fn unread(&self) -> Vec<(Key, u64)> {
        let opted_in = self.metas.iter().filter(|(_, meta)| meta.said.wish.is_some());
        let unread = opted_in.filter(|(key, meta)| {
            self.specs.get(*key).is_none_or(|spec| spec.generation < meta.generation || spec.uid != meta.uid)
        });
        unread.map(|(key, _)| (key.clone(), self.writes.get(key).copied().unwrap_or(0))).collect()
    }

    /// The spec that was asked for when there had been so many `writes`.
    pub(super) fn put_spec(&mut self, key: &Key, writes: u64, spec: Spec) {
        if !self.metas.contains_key(key) || self.writes.get(key).copied().unwrap_or(0) != writes {
            return;
        }
        let known = self.specs.insert(key.clone(), spec.clone());
        if known.is_none_or(|known| (known.generation, &known.uid) != (spec.generation, &spec.uid)) {
            self.touch(key);
        }
    }

    /// Our own write of replicas came through; the version that stands for it.
    pub(super) fn wrote_replicas(&mut self, key: &Key, replicas: u32, resource_version: String) -> u64 {
        *self.writes.entry(key.clone()).or_insert(0) += 1;
        if let Some(spec) = self.specs.get_mut(key) {
            (spec.replicas, spec.resource_version) = (replicas, resource_version);
        }
        self.touch(key);
        self.revision
    }

    /// The version that stands for the last write to `key`'s scaler.
    pub(super) fn version(&self, key: &Key) -> u64 {
        self.versions.get(key).copied().unwrap_or(self.revision)
    }

    pub(super) fn uid(&self, key: &Key) -> Option<String> {
        self.metas.get(key).map(|meta| meta.uid.clone())
    }

    /// Namespaces whose pods matter.
    pub(super) fn namespaces(&self) -> BTreeSet<String> {
        let opted_in = self.metas.iter().filter(|(_, meta)| meta.said.wish.is_some());
        opted_in.map(|(key, _)| key.id.namespace.clone()).collect()
    }

    /// Whether all that was opted in when we started is known.
    pub(super) fn complete(&self) -> bool {
        let complete = |source| self.lists.get(&source).is_some_and(|list| list.complete);
        complete(Source::Workloads(Kind::Deployment))
            && complete(Source::Workloads(Kind::StatefulSet))
            && complete(Source::Scalers(ScalerKind::HorizontalPodAutoscaler))
            && complete(Source::Scalers(ScalerKind::ScaledObject))
            && self.namespaces().into_iter().all(|namespace| complete(Source::Pods(namespace)))
            && self.unread().is_empty()
    }

    fn scalers_of<'a>(&'a self, key: &'a Key) -> impl Iterator<Item = (&'a ScalerKey, &'a ScalerFacts)> + 'a {
        self.scalers.iter().filter(move |(_, facts)| facts.target == *key)
    }

    /// What holds for a workload by its annotations and scalers.
    pub(super) fn standing(&self, key: &Key) -> Option<(&Wish, Standing)> {
        let said = &self.metas.get(key)?.said;
        let wish = said.wish.as_ref()?;
        let scaler = |(key, facts): (&ScalerKey, &ScalerFacts)| Scaler {
            kind: key.kind,
            name: key.name.clone(),
            min_replicas: facts.stated_min(key.kind),
            max_replicas: facts.max_replicas,
            floor: facts.floor,
        };
        let scalers: Vec<Scaler> = self.scalers_of(key).map(scaler).collect();
        Some((wish, standing(said, wish, &scalers)))
    }

    /// Every workload that says something to us.
    pub(super) fn rows(&self) -> Vec<Row> {
        let mut pods: BTreeMap<&Key, Vec<(&Name, &PodFacts)>> = BTreeMap::new();
        for (name, pod) in &self.pods {
            if let Some((key, _)) = self.specs.get_key_value(&pod.made_by) {
                pods.entry(key).or_default().push((name, pod));
            }
        }
        let (mut taken, mut rows) = (BTreeSet::new(), Vec::new());
        for (key, meta) in &self.metas {
            let of_pods = pods.remove(key).unwrap_or_default();
            let (state, refusals) = if meta.said.wish.is_some() && !taken.insert(&key.id) {
                (None, vec![Refusal::NameTaken])
            } else {
                self.state(key, meta, &of_pods)
            };
            rows.push(Row { key: key.clone(), uid: meta.uid.clone(), state, refusals });
        }
        rows
    }

    fn state(
        &self,
        key: &Key,
        meta: &Meta,
        pods: &[(&Name, &PodFacts)],
    ) -> (Option<WorkloadState>, Vec<Refusal>) {
        let Some((wish, Standing { mut settings, writes, mut refusals })) = self.standing(key) else {
            return (None, meta.said.problems.iter().cloned().map(Refusal::Annotation).collect());
        };
        let listed = self.lists.get(&Source::Pods(key.id.namespace.clone())).is_some_and(|it| it.complete);
        let (Some(spec), true) = (self.specs.get(key), listed) else { return (None, refusals) };
        let mut shown = Vec::new();
        for ((_, name), pod) in pods.iter().filter(|(_, pod)| pod.selected_by(spec)) {
            match measured(&wish.ports, pod.main.as_deref(), &pod.containers) {
                Ok(ports) => shown.push(Pod {
                    uid: pod.uid.clone(),
                    name: name.clone(),
                    node: pod.node.clone(),
                    phase: pod.phase,
                    ports,
                    probes: pod.probes.clone(),
                    start_seconds: pod.start_seconds,
                }),
                Err(why) => {
                    let refusal = Refusal::NotMeasurable(why);
                    if !refusals.contains(&refusal) {
                        refusals.push(refusal);
                    }
                }
            }
        }
        if refusals.iter().any(|it| matches!(it, Refusal::NotMeasurable(_))) {
            // The load of some pods would look like that of all.
            shown.clear();
            settings.mode = Mode::Observe;
        }
        let mut replicas = spec.replicas;
        if writes == Writes::ScalerMinimum && replicas > 0 {
            // A raised minimum is as good as replicas: the scaler follows within its period.
            let minimum = self.scalers_of(key).map(|(scaler, facts)| facts.stated_min(scaler.kind)).max();
            replicas = replicas.max(minimum.unwrap_or(0));
        }
        let state = WorkloadState {
            id: key.id.clone(),
            settings,
            replicas,
            resource_version: self.version(key),
            pods: shown,
        };
        (Some(state), refusals)
    }

    /// The write for a decision that was made on `version` of `id`; `None` when anything has changed since.
    pub(super) fn write(&self, id: &WorkloadId, version: u64) -> Option<Write> {
        let kinds = [Kind::Deployment, Kind::StatefulSet];
        let keys = kinds.map(|kind| Key { id: id.clone(), kind });
        let key =
            keys.into_iter().find(|key| self.metas.get(key).is_some_and(|it| it.said.wish.is_some()))?;
        if self.version(&key) != version {
            return None;
        }
        let (_, standing) = self.standing(&key)?;
        if standing.settings.mode == Mode::Observe {
            return None;
        }
        match standing.writes {
            Writes::Scale => {
                let spec = self.specs.get(&key)?;
                let resource_version = spec.resource_version.clone();
                Some(Write::Scale { generation: spec.generation, key, resource_version })
            }
            Writes::ScalerMinimum => {
                let (scaler, facts) = self.scalers_of(&key).next()?;
                Some(Write::Minimum { scaler: scaler.clone(), facts: facts.clone() })
            }
        }
    }

    /// Scalers that carry a floor of ours, with what holds for their workload.
    pub(super) fn floors(&self) -> Vec<(ScalerKey, ScalerFacts, Option<Standing>)> {
        let ours = self.scalers.iter().filter(|(_, facts)| matches!(facts.floor, Some(Ok(_))));
        let floor = |(key, facts): (&ScalerKey, &ScalerFacts)| {
            (key.clone(), facts.clone(), self.standing(&facts.target).map(|(_, standing)| standing))
        };
        ours.map(floor).collect()
    }
}
