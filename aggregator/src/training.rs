//! Training of the heads' networks and the trees on this cluster's own history: every night and on request, in the background,
//! one after the other where several are chosen, then trees of their own for the dearest workloads; the versions that came of it,
//! here or at the replica that leads; the way back.

mod answers;
mod fits;
mod run;
pub mod schedule;
pub mod versions;

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prescale_core::world::WorkloadId;
use prescale_models::WeightsKind;
use prescale_shell::clock::Clock;
use prescale_shell::signals::Shutdown;
use serde::Serialize;

pub use answers::{PATH, ROLLBACK, TRAIN, View};

use crate::control::{Ask, Control};
use crate::metrics::Metrics;
use crate::state::State;
use schedule::{Share, TrainAt};

/// Longest single wait for the night: a clock that is set, or runs faster, is noticed after that.
const LOOK: Duration = Duration::from_secs(60);

/// How a training ended, for logs, labels and the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Better on the later day: the new weights run.
    Admitted,
    /// Not shown to be better: nothing changes.
    Rejected,
    /// No workload has a day to learn from and one to judge by.
    TooLittle,
    /// The weights that it began from no longer ran when it ended.
    Superseded,
    /// The new weights could not be kept, or the thread failed; the log says why.
    Failed,
}

impl Outcome {
    /// All.
    pub const ALL: [Self; 5] =
        [Self::Admitted, Self::Rejected, Self::TooLittle, Self::Superseded, Self::Failed];

    /// The value of labels.
    pub fn name(self) -> &'static str {
        match self {
            Self::Admitted => "admitted",
            Self::Rejected => "rejected",
            Self::TooLittle => "too_little",
            Self::Superseded => "superseded",
            Self::Failed => "failed",
        }
    }
}

/// How it is done.
#[derive(Clone, Debug)]
pub struct TrainingSettings {
    /// The kinds of weights that some choice runs with: they are fitted anew, in this order. Each learns from all workloads, also
    /// from those that run without it.
    pub kinds: Vec<WeightsKind>,
    /// When.
    pub at: TrainAt,
    /// At most so much of a core.
    pub share: Share,
    /// So many workloads at most, those with the most pods, are fitted trees of their own after the trees of all.
    pub own_trees: usize,
}

/// The ways into it.
#[derive(Clone, Debug)]
pub struct Training(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    settings: TrainingSettings,
    clock: Clock,
    control: Control,
    state: Arc<State>,
    metrics: Arc<Metrics>,
    shutdown: Shutdown,
    status: Mutex<Status>,
    /// One swap at a time, so that what was kept last is what runs.
    swapping: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct Status {
    running: Option<Running>,
    /// How the last one of each kind ended.
    last: BTreeMap<WeightsKind, Finished>,
    /// The night that is waited for, Unix milliseconds.
    next: Option<i64>,
}

#[derive(Clone, Debug)]
struct Running {
    run: i64,
    kind: WeightsKind,
    /// Whose own trees are fitted.
    workload: Option<WorkloadId>,
    progress: Arc<AtomicU32>,
}

/// What is shown of the last training.
#[derive(Clone, Debug, Serialize)]
struct Finished {
    run: i64,
    ended_unix_ms: i64,
    outcome: Outcome,
    /// The version that runs since.
    version: u32,
    workloads: usize,
    records: usize,
    updates: usize,
    /// Mean gain and the ends of its 90 % interval, in shares of the champion's loss; `null` when nothing could judge.
    gain: Option<[f64; 3]>,
}

impl Training {
    /// Ready to train; [`Training::nightly`] waits for the nights.
    pub fn new(
        settings: TrainingSettings,
        clock: Clock,
        control: Control,
        state: Arc<State>,
        metrics: Arc<Metrics>,
        shutdown: Shutdown,
    ) -> Self {
        for kind in &settings.kinds {
            metrics.weights_run(kind.name(), state.weights().active(*kind).0);
        }
        metrics.own_trees.set(state.weights().running().own.len() as i64);
        let (status, swapping) = Default::default();
        Self(Arc::new(Inner { settings, clock, control, state, metrics, shutdown, status, swapping }))
    }

    /// Begins a training each night, where this replica leads then, until the shutdown.
    pub async fn nightly(self) {
        // Without anything to train there is no night to wait for.
        while !self.0.settings.kinds.is_empty() {
            let now = self.0.clock.now().wall.0;
            let Some(next) = self.0.settings.at.next(now) else { return };
            self.status().next = Some(next);
            while self.0.clock.now().wall.0 < next {
                let left = u64::try_from(next - self.0.clock.now().wall.0).unwrap_or(0);
                tokio::select! {
                    () = self.0.clock.sleep(Duration::from_millis(left).min(LOOK)) => {}
                    () = self.0.shutdown.requested() => return,
                }
            }
            match self.begin() {
                Ok(_) => {}
                Err(Refused::NotLeading | Refused::Nothing) => {}
                Err(Refused::Runs) => tracing::warn!("no training tonight: the last one still runs"),
            }
        }
    }

    fn begin(&self) -> Result<i64, Refused> {
        let kinds = self.0.settings.kinds.clone();
        let first = *kinds.first().ok_or(Refused::Nothing)?;
        if !self.0.state.leads() {
            return Err(Refused::NotLeading);
        }
        let mut status = self.status();
        if status.running.is_some() {
            return Err(Refused::Runs);
        }
        // Unix milliseconds: not used twice, and it says when.
        let run = Clock::real().now().wall.0;
        status.running = Some(Running { run, kind: first, workload: None, progress: Arc::default() });
        drop(status);
        self.0.metrics.training_runs.set(1);
        let this = self.clone();
        tokio::spawn(async move {
            for kind in kinds {
                let Some(finished) = this.run(run, kind).await else { break };
                this.0.metrics.trained(kind.name(), finished.outcome, finished.gain);
                this.status().last.insert(kind, finished);
                if kind == WeightsKind::Trees && this.own(run).await.is_none() {
                    break;
                }
            }
            this.0.metrics.training_runs.set(0);
            this.status().running = None;
        });
        Ok(run)
    }

    /// Gives the loop the active versions' weights. A loop that has too much to do is asked until it takes it: what is kept
    /// and what runs must be the same.
    pub async fn swap(&self) {
        let _one = self.0.swapping.lock().await;
        loop {
            let (wanted, running) = {
                let weights = self.0.state.weights();
                let running = |kind: &WeightsKind| (kind.name(), weights.active(*kind).0);
                let running: Vec<_> = self.0.settings.kinds.iter().map(running).collect();
                (weights.running(), running)
            };
            let own = wanted.own.len();
            if self.0.control.ask(|reply| Ask::Weights(wanted, reply)).await.is_ok() {
                for (model, version) in running {
                    self.0.metrics.weights_run(model, version);
                }
                self.0.metrics.own_trees.set(own as i64);
                return;
            }
            if self.0.shutdown.is_requested() {
                return;
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    fn status(&self) -> MutexGuard<'_, Status> {
        self.0.status.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

enum Refused {
    Nothing,
    Runs,
    NotLeading,
}
