//! One training: a thread of its own, of the lowest priority, that works for a moment and then rests.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use prescale_core::world::WorkloadId;
use prescale_models::Weights;
use prescale_models::retraining::{Challenge, History, Retraining, RetrainingSettings, Step};
use prescale_shell::signals::Shutdown;
use tokio::runtime::Handle;

use super::schedule::Share;
use crate::control::{Ask, Control};
use crate::metrics::Metrics;

/// It works for about so long before it rests: far shorter than anything that waits for a core notices.
const SPELL: Duration = Duration::from_millis(10);
/// Longest rest: a spell that took that long was kept from the core by others, and the stop waits for a rest to end.
const MOST_REST: Duration = Duration::from_secs(1);
/// A loop that has too much to do is asked so often for a history, a second apart; then that workload is left out.
const ATTEMPTS: u32 = 5;

/// What a training is given.
pub(super) struct Work {
    pub(super) champion: Weights,
    pub(super) settings: RetrainingSettings,
    /// The workloads by number.
    pub(super) workloads: Vec<WorkloadId>,
    pub(super) share: Share,
    pub(super) control: Control,
    pub(super) metrics: Arc<Metrics>,
    pub(super) shutdown: Shutdown,
    /// Thousandths that are done.
    pub(super) progress: Arc<AtomicU32>,
}

/// How a training ended.
pub(super) enum Ended {
    /// With a challenger; `None`: no workload has history enough.
    Judged(Option<Box<Challenge>>),
    /// The process stops.
    Stopped,
}

impl Work {
    /// Trains; on a thread that may sleep, with the runtime of the loop.
    pub(super) fn run(self, runtime: &Handle) -> Ended {
        // Of this thread alone, as Linux counts; refused, the share still holds.
        let _ = rustix::process::nice(19);
        let mut retraining = Retraining::new(self.champion.clone(), self.settings.clone());
        let mut began = Instant::now();
        loop {
            match retraining.step() {
                Step::Wants(workload) => {
                    if self.shutdown.is_requested() {
                        return Ended::Stopped;
                    }
                    retraining.give(self.history(workload, runtime));
                }
                Step::Worked => {}
                Step::Done => break,
            }
            let worked = began.elapsed();
            if worked >= SPELL {
                self.metrics.training_seconds.inc_by(worked.as_secs_f64());
                self.progress.store((retraining.progress() * 1000.0) as u32, Ordering::Relaxed);
                if self.shutdown.is_requested() {
                    return Ended::Stopped;
                }
                std::thread::sleep(self.share.rest(worked).min(MOST_REST));
                began = Instant::now();
            }
        }
        Ended::Judged(retraining.finish().map(Box::new))
    }

    fn history(&self, workload: usize, runtime: &Handle) -> Option<History> {
        let id = self.workloads.get(workload)?;
        for _ in 0..ATTEMPTS {
            let ask = |reply| Ask::Minutes(id.clone(), reply);
            if let Ok(history) = runtime.block_on(self.control.ask(ask)) {
                return history;
            }
            if self.shutdown.is_requested() {
                return None;
            }
            std::thread::sleep(Duration::from_secs(1));
        }
        tracing::warn!(
            "{}/{} is left out of the training: its history was not to be had",
            id.namespace,
            id.name
        );
        None
    }
}
