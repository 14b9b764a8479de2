//! The store of state: one redb file in `--state-dir`, or memory without one; two values a workload.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, bail};
use prescale_core::world::WorkloadId;
use redb::backends::InMemoryBackend;
use redb::{
    Builder, Database, DatabaseError, ReadableDatabase as _, ReadableTable as _, StorageError,
    TableDefinition,
};
use serde::{Deserialize, Serialize};

/// By `namespace/name`, which no name of Kubernetes holds a slash in.
const BASES: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("bases");
const TAILS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("tails");
/// The file in the directory.
const FILE: &str = "state.redb";
/// Where a file goes that can't be read; one is kept.
const BROKEN: &str = "state.redb.broken";
/// redb's own default is a gigabyte. Everything is written far more often than read.
const CACHE_BYTES: usize = 16 * 1024 * 1024;

/// One workload's state, as `Cluster::checkpoint` gives it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Whose.
    pub id: WorkloadId,
    /// The slow part; `None`: as it is in the store.
    pub base: Option<Vec<u8>>,
    /// The fast part.
    pub tail: Vec<u8>,
}

impl Entry {
    /// Of both parts.
    pub fn bytes(&self) -> usize {
        self.base.as_ref().map_or(0, Vec::len) + self.tail.len()
    }
}

/// Entries that were written after a moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Oldest first.
    pub entries: Vec<Entry>,
    /// The moment that they reach to.
    pub until: u64,
    /// There are later ones.
    pub more: bool,
}

/// When a workload's parts were written: moments of this store's own count.
#[derive(Clone, Copy, Debug)]
struct Written {
    base: u64,
    tail: u64,
}

/// The open store.
#[derive(Debug)]
pub struct Store {
    db: Database,
    /// Tells this process's count of moments from another's.
    pub instance: u64,
    written: Mutex<(u64, BTreeMap<String, Written>)>,
}

enum Unusable {
    /// The directory or the file can't be used: the person who gave the flag must know.
    Stop(anyhow::Error),
    /// The file's content is no store.
    Broken(String),
}

impl Store {
    /// Opens the store in `dir`, made if need be; in memory without one.
    ///
    /// # Errors
    /// One sentence when the directory can't be written or another process uses it.
    pub fn open(dir: Option<&Path>) -> anyhow::Result<Self> {
        let Some(dir) = dir else {
            let db = Builder::new().create_with_backend(InMemoryBackend::new())?;
            return Self::of(db).context("can't keep state in memory");
        };
        std::fs::create_dir_all(dir).with_context(|| format!("can't make {}", dir.display()))?;
        let path = dir.join(FILE);
        match Self::open_file(&path) {
            Ok(store) => Ok(store),
            Err(Unusable::Stop(error)) => Err(error),
            Err(Unusable::Broken(why)) => {
                let aside = dir.join(BROKEN);
                std::fs::rename(&path, &aside)
                    .with_context(|| format!("can't put the broken {} aside", path.display()))?;
                tracing::error!(
                    "the saved state in {} can't be read ({why}), so every workload starts anew and nothing shrinks \
                     until it has been watched for long enough; the file is kept as {}",
                    path.display(),
                    aside.display()
                );
                match Self::open_file(&path) {
                    Ok(store) => Ok(store),
                    Err(Unusable::Stop(error)) => Err(error),
                    Err(Unusable::Broken(why)) => bail!("can't begin a store in {}: {why}", path.display()),
                }
            }
        }
    }

    fn open_file(path: &Path) -> Result<Self, Unusable> {
        // On bytes that are no store redb may also panic.
        let opened = catch_unwind(|| {
            let mut builder = Builder::new();
            builder.set_cache_size(CACHE_BYTES);
            builder.create(path)
        });
        let db = match opened {
            Ok(Ok(db)) => db,
            Ok(Err(error)) => return Err(unusable(path, error)),
            Err(_) => return Err(Unusable::Broken("it can't be taken apart".into())),
        };
        match catch_unwind(AssertUnwindSafe(|| Self::of(db))) {
            Ok(Ok(store)) => Ok(store),
            Ok(Err(error)) => Err(Unusable::Broken(format!("{error:#}"))),
            Err(_) => Err(Unusable::Broken("it can't be taken apart".into())),
        }
    }

    fn of(db: Database) -> anyhow::Result<Self> {
        let transaction = db.begin_write()?;
        transaction.open_table(BASES)?;
        let mut written = BTreeMap::new();
        for entry in transaction.open_table(TAILS)?.iter()? {
            written.insert(entry?.0.value().to_owned(), Written { base: 1, tail: 1 });
        }
        transaction.commit()?;
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        // Truncation keeps the part that differs.
        let instance = since_epoch.as_nanos() as u64;
        Ok(Self { db, instance, written: Mutex::new((1, written)) })
    }

    /// Whose state it holds.
    pub fn workloads(&self) -> Vec<WorkloadId> {
        self.written().1.keys().filter_map(|key| id_of(key)).collect()
    }

    /// Writes entries, all or none, and waits until they would outlive a loss of power.
    ///
    /// # Errors
    /// What the file system said.
    pub fn put(&self, entries: &[Entry]) -> anyhow::Result<()> {
        let transaction = self.db.begin_write()?;
        {
            let (mut bases, mut tails) = (transaction.open_table(BASES)?, transaction.open_table(TAILS)?);
            for entry in entries {
                let key = key(&entry.id);
                if let Some(base) = &entry.base {
                    bases.insert(key.as_str(), base.as_slice())?;
                }
                tails.insert(key.as_str(), entry.tail.as_slice())?;
            }
        }
        transaction.commit()?;
        let mut written = self.written();
        for entry in entries {
            written.0 += 1;
            let now = written.0;
            let known = written.1.entry(key(&entry.id)).or_insert(Written { base: now, tail: now });
            known.tail = now;
            if entry.base.is_some() {
                known.base = now;
            }
        }
        Ok(())
    }

    /// Forgets workloads that are not in `known`; how many that were.
    ///
    /// # Errors
    /// What the file system said.
    pub fn keep_only(&self, known: &std::collections::BTreeSet<WorkloadId>) -> anyhow::Result<usize> {
        let gone: Vec<WorkloadId> = self.workloads().into_iter().filter(|id| !known.contains(id)).collect();
        if gone.is_empty() {
            return Ok(0);
        }
        let transaction = self.db.begin_write()?;
        {
            let (mut bases, mut tails) = (transaction.open_table(BASES)?, transaction.open_table(TAILS)?);
            for id in &gone {
                bases.remove(key(id).as_str())?;
                tails.remove(key(id).as_str())?;
            }
        }
        transaction.commit()?;
        let mut written = self.written();
        for id in &gone {
            written.1.remove(&key(id));
        }
        Ok(gone.len())
    }

    /// Both parts of a workload's state; `None` if it has none.
    ///
    /// # Errors
    /// What the file system said, or that the file is broken.
    pub fn get(&self, id: &WorkloadId) -> anyhow::Result<Option<(Vec<u8>, Vec<u8>)>> {
        let read = || -> anyhow::Result<_> {
            let transaction = self.db.begin_read()?;
            let part = |table: TableDefinition<'_, &str, &[u8]>| -> anyhow::Result<Option<Vec<u8>>> {
                Ok(transaction.open_table(table)?.get(key(id).as_str())?.map(|value| value.value().to_vec()))
            };
            Ok(part(BASES)?.zip(part(TAILS)?))
        };
        catch_unwind(AssertUnwindSafe(read)).unwrap_or_else(|_| bail!("the store is broken"))
    }

    /// What was written after `since`, oldest first, until `most_bytes` are reached, for a follower that has all that was
    /// written up to `has`: what lies between the two came in earlier pages, but a workload that was written again since
    /// the first of them is not among those, and its base may be older than they are.
    ///
    /// # Errors
    /// As [`Store::get`].
    pub fn after(&self, has: u64, since: u64, most_bytes: usize) -> anyhow::Result<Changes> {
        let mut newer: Vec<(Written, WorkloadId)> = {
            let written = self.written();
            let newer = written.1.iter().filter(|(_, written)| written.tail > since);
            newer.filter_map(|(key, written)| Some((*written, id_of(key)?))).collect()
        };
        newer.sort_by_key(|(written, _)| written.tail);
        let (mut changes, mut bytes) = (Changes { until: since, ..Changes::default() }, 0);
        for (written, id) in newer {
            if bytes > most_bytes {
                changes.more = true;
                break;
            }
            changes.until = written.tail;
            let Some((base, tail)) = self.get(&id)? else { continue };
            let entry = Entry { id, base: (written.base > has).then_some(base), tail };
            bytes += entry.bytes();
            changes.entries.push(entry);
        }
        Ok(changes)
    }

    fn written(&self) -> std::sync::MutexGuard<'_, (u64, BTreeMap<String, Written>)> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn unusable(path: &Path, error: DatabaseError) -> Unusable {
    let path = path.display();
    match error {
        DatabaseError::DatabaseAlreadyOpen | DatabaseError::LockProtocolMismatch => {
            Unusable::Stop(anyhow::anyhow!("another process uses {path}"))
        }
        DatabaseError::Storage(StorageError::Io(error))
            if matches!(
                error.kind(),
                ErrorKind::PermissionDenied
                    | ErrorKind::ReadOnlyFilesystem
                    | ErrorKind::StorageFull
                    | ErrorKind::NotFound
                    | ErrorKind::IsADirectory
            ) =>
        {
            Unusable::Stop(anyhow::anyhow!("can't write {path}: {error}"))
        }
        error => Unusable::Broken(error.to_string()),
    }
}

fn key(id: &WorkloadId) -> String {
    format!("{}/{}", id.namespace, id.name)
}

fn id_of(key: &str) -> Option<WorkloadId> {
    let (namespace, name) = key.split_once('/')?;
    Some(WorkloadId { namespace: namespace.to_owned(), name: name.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &str, base: Option<u8>, tail: u8) -> Entry {
        let id = WorkloadId { namespace: "shop".into(), name: name.into() };
        Entry { id, base: base.map(|byte| vec![byte; 100]), tail: vec![tail; 10] }
    }

    #[test]
    fn a_follower_is_given_what_changed_and_the_base_only_when_that_did() {
        let store = Store::open(None).unwrap();
        store.put(&[entry("a", Some(1), 1), entry("b", Some(2), 2)]).unwrap();
        let all = store.after(0, 0, 1_000_000).unwrap();
        assert_eq!(all.entries, [entry("a", Some(1), 1), entry("b", Some(2), 2)]);
        store.put(&[entry("a", None, 3)]).unwrap();
        let news = store.after(all.until, all.until, 1_000_000).unwrap();
        assert_eq!((&news.entries[..], news.more), (&[entry("a", None, 3)][..], false));
        assert_eq!(store.after(news.until, news.until, 1_000_000).unwrap().entries, []);
        // A page ends after the entry that fills it, and the next one goes on.
        let page = store.after(0, 0, 50).unwrap();
        assert_eq!((page.entries.len(), page.more), (1, true));
        assert_eq!(store.after(0, page.until, 50).unwrap().entries, [entry("a", Some(1), 3)]);
        store.keep_only(&[entry("a", None, 0).id].into()).unwrap();
        assert_eq!(store.workloads(), [entry("a", None, 0).id]);
    }

    #[test]
    fn a_file_outlives_its_process_and_a_broken_one_is_put_aside() {
        let dir = std::env::temp_dir().join(format!("prescale-store-{}", std::process::id()));
        let file = dir.join(FILE);
        let store = Store::open(Some(&dir)).unwrap();
        store.put(&[entry("a", Some(1), 1)]).unwrap();
        assert!(Store::open(Some(&dir)).unwrap_err().to_string().contains("another process"));
        drop(store);
        let id = entry("a", None, 0).id;
        assert_eq!(Store::open(Some(&dir)).unwrap().get(&id).unwrap(), Some((vec![1; 100], vec![1; 10])));
        for junk in [vec![], b"no store at all".to_vec(), vec![0xa5; 100_000]] {
            std::fs::write(&file, &junk).unwrap();
            let store = Store::open(Some(&dir)).unwrap();
            assert_eq!(store.workloads(), [], "{} bytes of junk", junk.len());
            drop(store);
            std::fs::remove_file(&file).unwrap();
        }
        assert_eq!(std::fs::read(dir.join(BROKEN)).unwrap(), vec![0xa5; 100_000], "the last one is kept");
        std::fs::remove_dir_all(&dir).unwrap();
        std::fs::write(&dir, "a file").unwrap();
        assert!(Store::open(Some(&dir)).unwrap_err().to_string().contains("can't make"));
        std::fs::remove_file(&dir).unwrap();
    }
}
