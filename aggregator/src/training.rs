//! Training of the heads' networks and the trees on this cluster's own history: every night and on request, in the background,
//! one after the other where several are chosen, then trees of their own for the dearest workloads; the versions that came of it,
//! here or at the replica that leads; the way back.

mod run;
pub mod schedule;
pub mod versions;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prescale_core::world::WorkloadId;
use prescale_models::retraining::{Challenge, RetrainingSettings};
use prescale_models::{Weights, WeightsKind};
use prescale_shell::clock::Clock;
use prescale_shell::http::{
    JSON, Method, Request, Response, StatusCode, header, json, method_not_allowed, query, text,
};
use prescale_shell::signals::Shutdown;
use serde::Serialize;
use tokio::sync::oneshot;

use crate::control::{Ask, Control};
use crate::metrics::Metrics;
use crate::state::State;
use run::{Ended, Work};
use schedule::{Share, TrainAt};
use versions::{Own, Version};

/// Where the state of it is.
pub const PATH: &str = "/api/v1/models/training";
/// Where one is begun.
pub const TRAIN: &str = "/api/v1/models/train";
/// The way back.
pub const ROLLBACK: &str = "/api/v1/models/rollback";

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

/// How it stands, for `GET` of it and of the models.
#[derive(Debug, Serialize)]
pub struct View {
    models: Vec<ModelView>,
    trains: bool,
    next_unix_ms: Option<i64>,
    cpu_share: f64,
    running: Option<RunningView>,
    versions: Vec<Version>,
}

/// A kind that some choice runs with.
#[derive(Debug, Serialize)]
struct ModelView {
    model: &'static str,
    /// The version that runs.
    version: u32,
    last: Option<Finished>,
}

#[derive(Debug, Serialize)]
struct RunningView {
    run: i64,
    model: &'static str,
    workload: Option<WorkloadId>,
    progress: f64,
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

    /// Answers `GET` of the state.
    pub fn show(&self) -> Response {
        serialized(&self.view())
    }

    /// How it stands.
    pub fn view(&self) -> View {
        let (status, weights) = (self.status(), self.0.state.weights());
        let running = status.running.as_ref().map(|it| RunningView {
            run: it.run,
            model: it.kind.name(),
            workload: it.workload.clone(),
            progress: f64::from(it.progress.load(Ordering::Relaxed)) / 1000.0,
        });
        let model = |kind: &WeightsKind| ModelView {
            model: kind.name(),
            version: weights.active(*kind).0,
            last: status.last.get(kind).cloned(),
        };
        View {
            models: self.0.settings.kinds.iter().map(model).collect(),
            trains: self.0.state.leads(),
            next_unix_ms: status.next,
            cpu_share: self.0.settings.share.get(),
            running,
            versions: weights.kept().cloned().collect(),
        }
    }

    /// Answers `POST` of a training: 202 with the run's number.
    pub fn train(&self, request: &Request) -> Response {
        if let Some(refused) = refused(request) {
            return refused;
        }
        match self.begin() {
            Ok(run) => {
                let mut response = serialized(&serde_json::json!({ "run": run }));
                *response.status_mut() = StatusCode::ACCEPTED;
                response
            }
            Err(Refused::Runs) => text(StatusCode::CONFLICT, "a training runs already"),
            Err(Refused::NotLeading) => text(StatusCode::CONFLICT, NOT_LEADING),
            Err(Refused::Nothing) => text(StatusCode::CONFLICT, NOTHING),
        }
    }

    /// Answers `POST` of a rollback: 200 with the version that runs now.
    pub async fn roll_back(&self, request: &Request) -> Response {
        if let Some(refused) = refused(request) {
            return refused;
        }
        if !self.0.state.leads() {
            return text(StatusCode::CONFLICT, NOT_LEADING);
        }
        let kind = match self.meant(query(request.uri(), "model").as_deref()) {
            Ok(kind) => kind,
            Err(sentence) => return text(StatusCode::BAD_REQUEST, &sentence),
        };
        let state = Arc::clone(&self.0.state);
        let rolled = tokio::task::spawn_blocking(move || {
            let mut weights = state.weights();
            let was = weights.active(kind).0;
            weights.roll_back(kind).map(|to| (was, to))
        });
        match rolled.await {
            Ok(Ok((was, Some(to)))) => {
                self.swap().await;
                let model = kind.name();
                tracing::warn!("asked to: the weights of {model} go back from version {was} to version {to}");
                serialized(&serde_json::json!({ "model": model, "version": to, "was": was }))
            }
            Ok(Ok((_, None))) => text(StatusCode::CONFLICT, "the weights that ship run already"),
            Ok(Err(error)) => {
                tracing::error!("the weights of {} stay as they are: {error:#}", kind.name());
                text(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "the state directory can't be written; the log says why",
                )
            }
            Err(_) => text(StatusCode::INTERNAL_SERVER_ERROR, "the rollback failed; the log says how"),
        }
    }

    /// Whose way back is asked for: the kind that is named, or the only one.
    fn meant(&self, named: Option<&str>) -> Result<WeightsKind, String> {
        let kinds = &self.0.settings.kinds;
        let names: Vec<&str> = kinds.iter().map(|kind| kind.name()).collect();
        match (named, kinds.as_slice()) {
            (None, [only]) => Ok(*only),
            (_, []) => Err(NOTHING.into()),
            (None, _) => Err(format!("which of {}? say ?model=NAME", names.join(", "))),
            (Some(named), _) => {
                let kind = WeightsKind::of(named).filter(|kind| kinds.contains(kind));
                kind.ok_or_else(|| {
                    format!("model: {named:?} is not trained here; one of {}", names.join(", "))
                })
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

    /// One training of one kind from its beginning to what it changes; `None` when the process stops.
    async fn run(&self, run: i64, kind: WeightsKind) -> Option<Finished> {
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
    async fn own(&self, run: i64) -> Option<()> {
        let (inner, kind) = (&self.0, WeightsKind::Trees);
        let (from, champion) = inner.state.weights().active(kind);
        let most = inner.settings.own_trees;
        let Ok(dearest) = inner.control.ask(|reply| Ask::Dearest(most, reply)).await else {
            tracing::warn!(
                "no trees of workloads' own are fitted: the aggregator has more to do than it can"
            );
            return Some(());
        };
        let mut own = Own::new();
        for workload in &dearest {
            let name = format!("{}/{}", workload.namespace, workload.name);
            let Ok((settings, _)) = inner.control.ask(|reply| Ask::Training(run as u64, reply)).await else {
                tracing::warn!("{name} runs the trees of all: the aggregator has more to do than it can");
                continue;
            };
            let trained_until_unix_ms = settings.split() * i64::from(settings.grid.step_seconds) * 1000;
            let settings = RetrainingSettings { workloads: 1, ..settings };
            let (of, alone) = ((run, kind, Some(workload.clone())), vec![workload.clone()]);
            let challenge = match self.judged(of, champion.clone(), settings, alone).await {
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
                    "{name} has trees of its own: on its newest day their loss is lower than that of version {from} by \
                     {mean} (90 % interval {low} to {high})"
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
            number: 0,
            model: String::new(),
            workload: None,
            parent: 0,
            weights: String::new(),
            code: String::new(),
            trained_until_unix_ms,
            made_unix_ms: self.0.clock.now().wall.0,
            workloads: challenge.taught,
            records: challenge.records,
            gain,
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

/// What a challenger gained, in shares of the champion's loss: mean, and the ends of the 90 % interval.
fn gain(challenge: &Challenge) -> Option<[f64; 3]> {
    challenge.verdict.map(|it| [it.mean, it.low, it.high])
}

fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}

const NOT_LEADING: &str = "this replica does not lead: ask the one that does";

/// Where there is nothing to train.
const NOTHING: &str = "nothing is trained here: --models and --models-for name none of gru, lstm, cnn, trees";

enum Refused {
    Nothing,
    Runs,
    NotLeading,
}

/// Why a request changes nothing. The content type keeps a foreign page in a person's browser from asking: it needs a leave
/// that we don't give.
fn refused(request: &Request) -> Option<Response> {
    if *request.method() != Method::POST {
        return Some(method_not_allowed("POST"));
    }
    let media_type = request.headers().get(header::CONTENT_TYPE).and_then(|it| it.to_str().ok());
    let is_json = media_type.and_then(|it| it.split(';').next()).is_some_and(|it| it.trim() == JSON);
    (!is_json).then(|| text(StatusCode::UNSUPPORTED_MEDIA_TYPE, "content-type: application/json is wanted"))
}

fn serialized(value: &impl Serialize) -> Response {
    json(serde_json::to_vec(value).expect("views have string keys and finite or null numbers"))
}
