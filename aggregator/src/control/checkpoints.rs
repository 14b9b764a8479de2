//! Saves the workloads' state every few seconds and gives it back at a start and at a change of leader, a share of
//! them each tick, so that no tick waits for it.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant};

use prescale_core::Now;
use prescale_core::cluster::{Cluster, Restored, Unreadable};
use prescale_core::world::WorkloadId;

use crate::metrics::Metrics;
use crate::state::State;
use crate::state::store::Entry;

/// Ticks in which each workload is saved once: with the write and a standby's two seconds that stays below ten.
const ROUND_TICKS: usize = 7;
/// Batches that wait for the disk; a slower disk makes rounds longer, never ticks.
const QUEUE: usize = 2;
/// Longest part of a tick that restoring takes, real time: 1,000 workloads are back within seconds, and reports do not
/// wait for longer than that.
const RESTORING: Duration = Duration::from_millis(400);

/// Where restored state came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Our own store.
    Store,
    /// The leader's, through its snapshot.
    Leader,
}

impl Source {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Store, Self::Leader];

    /// The value of labels.
    pub fn name(self) -> &'static str {
        match self {
            Self::Store => "store",
            Self::Leader => "leader",
        }
    }
}

/// The values of the outcome label of restores.
pub const OUTCOMES: [&str; 4] = ["whole", "retrained", "other_format", "broken"];

fn outcome(result: &Result<Restored, Unreadable>) -> &'static str {
    match result {
        Ok(Restored::Whole) => "whole",
        Ok(Restored::Retrained) => "retrained",
        Err(Unreadable::Format { .. }) => "other_format",
        Err(Unreadable::Broken | Unreadable::Parts) => "broken",
    }
}

struct Batch {
    entries: Vec<Entry>,
    /// The last of a round: the workloads that exist.
    known: Option<BTreeSet<WorkloadId>>,
}

/// The loop's side.
#[derive(Debug)]
pub(super) struct Checkpoints {
    state: Arc<State>,
    metrics: Arc<Metrics>,
    writer: Option<(SyncSender<Batch>, std::thread::JoinHandle<()>)>,
    restoring: VecDeque<WorkloadId>,
    source: Source,
    restored: usize,
    round: VecDeque<WorkloadId>,
    share: usize,
    ticks: usize,
}

impl Checkpoints {
    /// Starts the writer; what the store holds is restored from the first tick on.
    pub(super) fn new(
        state: Arc<State>,
        metrics: Arc<Metrics>,
        source: Source,
        cluster: &mut Cluster,
    ) -> anyhow::Result<Self> {
        let (batches, written) = sync_channel(QUEUE);
        let (to, counts) = (Arc::clone(&state), Arc::clone(&metrics));
        let writer = std::thread::Builder::new()
            .name("checkpoints".into())
            .spawn(move || write(&written, &to, &counts))?;
        let mut it = Self {
            state,
            metrics,
            writer: Some((batches, writer)),
            restoring: VecDeque::new(),
            source,
            restored: 0,
            round: VecDeque::new(),
            share: 1,
            ticks: 0,
        };
        it.restore_all(cluster, source);
        Ok(it)
    }

    fn restore_all(&mut self, cluster: &mut Cluster, source: Source) {
        self.restoring = self.state.store.workloads().into();
        (self.source, self.restored) = (source, 0);
        cluster.await_state(self.restoring.iter().cloned());
    }

    /// Before a tick decides anything: restores a share of what waits for it.
    pub(super) fn before(&mut self, cluster: &mut Cluster, now: Now, leads: bool) {
        if self.state.set_leads(leads) {
            tracing::info!("this replica leads now, and goes on from the state that the last leader saved");
            self.restore_all(cluster, Source::Leader);
        }
        let began = Instant::now();
        while began.elapsed() < RESTORING {
            let Some(id) = self.restoring.pop_front() else { return };
            self.restore(cluster, now, &id);
            if self.restoring.is_empty() {
                tracing::info!("{} workloads go on from their saved state", self.restored);
            }
        }
    }

    fn restore(&mut self, cluster: &mut Cluster, now: Now, id: &WorkloadId) {
        let name = format!("{}/{}", id.namespace, id.name);
        let (base, tail) = match self.state.store.get(id) {
            Ok(Some(parts)) => parts,
            Ok(None) => return cluster.without_state(id),
            Err(error) => {
                tracing::error!("the saved state of {name} can't be read, it starts anew: {error:#}");
                self.metrics.restored(self.source, "broken");
                return cluster.without_state(id);
            }
        };
        let result = cluster.restore(now, id, &base, &tail);
        self.metrics.restored(self.source, outcome(&result));
        match result {
            Ok(Restored::Whole) => self.restored += 1,
            Ok(Restored::Retrained) => {
                self.restored += 1;
                tracing::info!(
                    "the forecasters of {name} are of another build; they learned anew from its history"
                );
            }
            Err(error) => tracing::warn!(
                "{name} starts anew and does not shrink until it has been watched for long enough: {error}"
            ),
        }
    }

    /// After a tick: saves a share of the workloads.
    pub(super) fn after(&mut self, cluster: &mut Cluster, now: Now) {
        if !self.restoring.is_empty() || self.state.follows() {
            return;
        }
        for id in self.state.take_lost() {
            cluster.checkpoint_lost(&id);
        }
        self.ticks += 1;
        if self.round.is_empty() && self.ticks >= ROUND_TICKS {
            self.round = cluster.workloads().cloned().collect();
            self.share = self.round.len().div_ceil(ROUND_TICKS).max(1);
            self.ticks = 0;
        }
        if !self.round.is_empty() {
            self.save(cluster, now, self.share);
        }
    }

    fn save(&mut self, cluster: &mut Cluster, now: Now, most: usize) {
        let Some((batches, _)) = &self.writer else { return };
        let began = Instant::now();
        let share: Vec<WorkloadId> = self.round.drain(..most.min(self.round.len())).collect();
        let entries = share.iter().filter_map(|id| {
            let checkpoint = cluster.checkpoint(now, id)?;
            Some(Entry { id: id.clone(), base: checkpoint.base, tail: checkpoint.tail })
        });
        let entries: Vec<Entry> = entries.collect();
        let known = self.round.is_empty().then(|| cluster.workloads().cloned().collect());
        self.metrics.checkpoint_seconds.observe(began.elapsed().as_secs_f64());
        if let Err(TrySendError::Full(lost)) = batches.try_send(Batch { entries, known }) {
            self.state.lose(lost.entries.iter().map(|entry| entry.id.clone()));
            self.metrics.checkpoints_failed.inc();
            tracing::warn!(
                "the disk is too slow for the state of {} workloads; it stays older",
                lost.entries.len()
            );
        }
    }

    /// Saves everything a last time and waits for the disk.
    pub(super) async fn close(mut self, cluster: &mut Cluster, now: Now) {
        if self.restoring.is_empty() && !self.state.follows() {
            self.round = cluster.workloads().cloned().collect();
            let Some((batches, writer)) = self.writer.take() else { return };
            let entries = self.round.iter().filter_map(|id| {
                let checkpoint = cluster.checkpoint(now, id)?;
                Some(Entry { id: id.clone(), base: checkpoint.base, tail: checkpoint.tail })
            });
            let batch = Batch { entries: entries.collect(), known: None };
            let waited = tokio::task::spawn_blocking(move || {
                let sent = batches.send(batch);
                drop(batches);
                sent.is_ok() && writer.join().is_ok()
            });
            if !waited.await.unwrap_or(false) {
                tracing::error!("the state at the stop was not saved; what was saved before it stands");
            }
        }
    }
}

/// The writer's thread: ends when the loop does.
fn write(batches: &Receiver<Batch>, state: &State, metrics: &Metrics) {
    let mut works = true;
    while let Ok(Batch { entries, known }) = batches.recv() {
        let began = Instant::now();
        let result = state.store.put(&entries).and_then(|()| match &known {
            Some(known) => state.store.keep_only(known).map(drop),
            None => Ok(()),
        });
        metrics.checkpoint_write_seconds.observe(began.elapsed().as_secs_f64());
        match &result {
            Ok(()) => {
                let bytes: usize = entries.iter().map(Entry::bytes).sum();
                metrics.checkpoint_bytes.inc_by(bytes as u64);
                if known.is_some() {
                    metrics.saved_now();
                }
                if !works {
                    tracing::info!("state is saved again");
                }
            }
            Err(error) => {
                metrics.checkpoints_failed.inc();
                state.lose(entries.into_iter().map(|entry| entry.id));
                if works {
                    tracing::error!(
                        "state can't be saved, so a restart would go on from older state: {error:#}"
                    );
                }
            }
        }
        works = result.is_ok();
    }
}
