//! One fit after the other: of the weights of all workloads, then of trees of their own for the dearest; each judged, and taken on
//! where it is better.

use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use prescale_core::world::WorkloadId;
use prescale_models::retraining::{Challenge, RetrainingSettings};
use prescale_models::{Weights, WeightsKind};
use tokio::sync::oneshot;

use super::run::{Ended, Work};
use super::versions::{Own, Version};
use super::{Finished, Outcome, ROLLBACK, Running, Training};
use crate::control::Ask;

impl Training {
    /// One training of one kind from its beginning to what it changes; `None` when the process stops.
    pub(super) async fn run(&self, run: i64, kind: WeightsKind) -> Option<Finished> {
        let inner = &self.0;
        let (from, champion) = inner.state.weights().active(kind);
        let finish = |outcome, version, challenge: Option<&Challenge>| {
            let gain = challenge.and_then(gain);
            Some(Finished {
                run,
                ended_unix_ms: inner.clock.now().wall.0,
                outcome,
                version,
                workloads: challenge.map_or(0, |it| it.taught),
                records: challenge.map_or(0, |it| it.records),
                updates: challenge.map_or(0, |it| it.updates),
                gain,
            })
        };
        let seed = run as u64;
        let Ok((settings, workloads)) = inner.control.ask(|reply| Ask::Training(seed, reply)).await else {
            tracing::warn!("no training: the aggregator has more to do than it can");
            return finish(Outcome::Failed, from, None);
        };
        tracing::info!(
            "training {} on the history of {} workloads, against version {from}, on at most {} of a core",
            kind.name(),
            workloads.len(),
            inner.settings.share.get()
        );
        let trained_until_unix_ms = settings.split() * i64::from(settings.grid.step_seconds) * 1000;
        let challenge = match self.judged((run, kind, None), champion.clone(), settings, workloads).await {
            Some(Ended::Judged(Some(challenge))) => *challenge,
            Some(Ended::Judged(None)) => {
                tracing::info!(
                    "no training yet: no workload has a day of minutes to learn from and a later one to judge by; \
                     version {from} goes on"
                );
                return finish(Outcome::TooLittle, from, None);
            }
            Some(Ended::Stopped) => return None,
            None => return finish(Outcome::Failed, from, None),
        };
        let outcome = self.decide((from, champion), &challenge, trained_until_unix_ms).await;
        let version = self.0.state.weights().active(kind).0;
        finish(outcome, version, Some(&challenge))
    }

    /// One fit and its verdict, on a thread of its own: of which run, what, and whose own; `None` where that failed, which is said.
    async fn judged(
        &self,
        (run, kind, workload): (i64, WeightsKind, Option<WorkloadId>),
        champion: Weights,
        settings: RetrainingSettings,
        workloads: Vec<WorkloadId>,
    ) -> Option<Ended> {
        let inner = &self.0;
        let progress = Arc::new(AtomicU32::new(0));
        self.status().running = Some(Running { run, kind, workload, progress: Arc::clone(&progress) });
        let work = Work {
            champion,
            settings,
            workloads,
            share: inner.settings.share,
            control: inner.control.clone(),
            metrics: Arc::clone(&inner.metrics),
            shutdown: inner.shutdown.clone(),
            progress,
        };
        let (reply, ended) = oneshot::channel();
        let runtime = tokio::runtime::Handle::current();
        let thread = std::thread::Builder::new().name("training".into()).spawn(move || {
            let _ = reply.send(work.run(&runtime));
        });
        if let Err(error) = thread {
            tracing::error!("no training: no thread for it: {error}");
            return None;
        }
        let ended = ended.await.ok();
        if ended.is_none() {
            tracing::error!("the training of {} failed; what runs goes on", kind.name());
        }
        ended
    }

    /// Fits the workloads with the most pods trees of their own. Each night anew they must be shown to be better, on their
    /// workload's newest day, than the trees of all; who is not, or is no longer among them, runs those. `None` when the process
    /// stops.
    pub(super) async fn own(&self, run: i64) -> Option<()> {
        let (inner, kind) = (&self.0, WeightsKind::Trees);
        let (from, champion) = inner.state.weights().active(kind);
        let most = inner.settings.own_trees;
        let dearest = inner.control.ask(|reply| Ask::Dearest(most, reply)).await;
        let about = inner.control.ask(|reply| Ask::Training(run as u64, reply)).await;
        let (Ok(dearest), Ok((settings, _))) = (dearest, about) else {
            tracing::warn!(
                "no trees of workloads' own are fitted: the aggregator has more to do than it can"
            );
            return Some(());
        };
        let trained_until_unix_ms = settings.split() * i64::from(settings.grid.step_seconds) * 1000;
        let settings = RetrainingSettings { workloads: 1, ..settings };
        let mut own = Own::new();
        for workload in &dearest {
            let (of, alone) = ((run, kind, Some(workload.clone())), vec![workload.clone()]);
            let challenge = match self.judged(of, champion.clone(), settings.clone(), alone).await {
                Some(Ended::Judged(challenge)) => challenge,
                Some(Ended::Stopped) => return None,
                None => None,
            };
            if let Some(challenge) = challenge.filter(|it| it.admitted)
                && let Some(gain) = gain(&challenge)
                && let Weights::Trees(booster) = &challenge.weights
            {
                let [mean, low, high] = gain.map(percent);
                tracing::info!(
                    "{}/{} has trees of its own: on its newest day their loss is lower than that of version {from} by \
                     {mean} (90 % interval {low} to {high})",
                    workload.namespace,
                    workload.name
                );
                let version = self.version(&challenge, gain, trained_until_unix_ms);
                own.push((Version { workload: Some(workload.clone()), ..version }, Arc::clone(booster)));
            }
        }
        let (state, champion, better) = (Arc::clone(&inner.state), (from, champion), own.len());
        let kept = tokio::task::spawn_blocking(move || {
            let mut weights = state.weights();
            let ours = weights.active(kind) == champion && state.leads();
            if ours { weights.set_own(own).map(|()| true) } else { Ok(false) }
        });
        match kept.await {
            Ok(Ok(true)) => {
                self.swap().await;
                if !dearest.is_empty() {
                    tracing::info!("{better} of {} workloads have trees of their own now", dearest.len());
                }
            }
            Ok(Ok(false)) => tracing::info!(
                "the trees of workloads' own are dropped: version {from} of all no longer runs here"
            ),
            Ok(Err(error)) => tracing::error!("the trees of workloads' own can't be kept: {error:#}"),
            Err(_) => tracing::error!("the trees of workloads' own can't be kept: the log says why"),
        }
        Some(())
    }

    /// What is to be said of a challenger that is better.
    fn version(&self, challenge: &Challenge, gain: [f64; 3], trained_until_unix_ms: i64) -> Version {
        Version {
            trained_until_unix_ms,
            made_unix_ms: self.0.clock.now().wall.0,
            workloads: challenge.taught,
            records: challenge.records,
            gain,
            ..Version::default()
        }
    }

    /// Takes a challenger on, or not, and says so.
    async fn decide(
        &self,
        champion: (u32, Weights),
        challenge: &Challenge,
        trained_until_unix_ms: i64,
    ) -> Outcome {
        let (from, kind) = (champion.0, champion.1.kind());
        let Some(gain) = gain(challenge) else {
            tracing::info!(
                "the newly trained weights could not be judged: {} records of the newest day are too few; version {from} \
                 goes on",
                challenge.records
            );
            return Outcome::TooLittle;
        };
        let [mean, low, high] = gain.map(percent);
        if !challenge.admitted {
            tracing::info!(
                "the newly trained weights are not shown to be better than version {from}, which goes on: on the newest \
                 day of {} workloads their loss is lower by {mean} (90 % interval {low} to {high})",
                challenge.judged
            );
            return Outcome::Rejected;
        }
        let version = self.version(challenge, gain, trained_until_unix_ms);
        let challenger = challenge.weights.clone();
        let state = Arc::clone(&self.0.state);
        let added = tokio::task::spawn_blocking(move || {
            let mut weights = state.weights();
            // Not the number alone: another leader's versions may have come meanwhile.
            if weights.active(kind) != champion || !state.leads() {
                return Ok(None);
            }
            weights.add(challenger, version).map(Some)
        });
        match added.await {
            Ok(Ok(Some(number))) => {
                self.swap().await;
                tracing::info!(
                    "the weights of {} are now version {number}: on the newest day of {} workloads their loss is lower \
                     than version {from}'s by {mean} (90 % interval {low} to {high}); POST {ROLLBACK} goes back",
                    kind.name(),
                    challenge.judged
                );
                Outcome::Admitted
            }
            Ok(Ok(None)) => {
                tracing::info!("the newly trained weights are dropped: version {from} no longer runs here");
                Outcome::Superseded
            }
            Ok(Err(error)) => {
                tracing::error!(
                    "the newly trained weights can't be kept, so version {from} goes on: {error:#}"
                );
                Outcome::Failed
            }
            Err(_) => Outcome::Failed,
        }
    }
}

/// What a challenger gained, in shares of the champion's loss: mean, and the ends of the 90 % interval.
fn gain(challenge: &Challenge) -> Option<[f64; 3]> {
    challenge.verdict.map(|it| [it.mean, it.low, it.high])
}

fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}
