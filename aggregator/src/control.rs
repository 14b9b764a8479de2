//! The one control loop: it alone owns the `Cluster`, ticks it once a second and has its decisions carried out.

pub mod checkpoints;
mod follow;
mod writes;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use prescale_core::Mono;
use prescale_core::cluster::{Cluster, Outcome, Refused};
use prescale_core::fitted::Fitted;
use prescale_core::view;
use prescale_core::wire::{NodeReport, WatchList};
use prescale_core::world::WorkloadId;
use prescale_models::retraining::{History, RetrainingSettings};
use prescale_shell::clock::Clock;
use prescale_shell::signals::Shutdown;
use thiserror::Error;
use tokio::sync::{Notify, mpsc, oneshot, watch};

use crate::metrics::{Metrics, Snapshot};
use crate::state::State;
use crate::target::{Target, TargetError, World};
use checkpoints::{Checkpoints, Source};
use follow::Follower;
use writes::{Writes, Written};

/// The brain's pace, in its clock.
const TICK: Duration = Duration::from_secs(1);
/// A burst is decided on when it is reported, not at the next tick; but a hundred nodes that see it at once must not
/// make a hundred ticks of it.
const BURST_TICK_SECONDS: f64 = 0.25;
/// Questions that wait for the loop. A report of a full node is about a megabyte when decoded; 5,000 agents at 1 Hz
/// fill this in 50 ms, far longer than the loop takes between ticks of a usual cluster.
const QUEUE: usize = 256;
/// Longest wait for an answer, real time; a tick may take its second, more is overload.
const PATIENCE: Duration = Duration::from_secs(5);
/// So long a start waits for agents at most, real time. A replica that has moved is found when its name is looked up anew, which a
/// cluster's name servers usually do after 30 s; a node may be without an agent for good.
const AGENTS_AWAITED: Duration = Duration::from_secs(60);
/// Most nodes that a sentence names.
const NAMED: usize = 3;
/// How long writes may take after the stop, real time.
const LAST_WRITES: Duration = Duration::from_secs(5);

/// A question to the loop, with where its answer goes.
#[derive(Debug)]
pub enum Ask {
    /// Take this report.
    Report(Box<NodeReport>, oneshot::Sender<Result<(), Refused>>),
    /// All workloads in short.
    List(oneshot::Sender<view::List>),
    /// One workload in full.
    Workload(WorkloadId, oneshot::Sender<Option<Box<view::Workload>>>),
    /// Every model, and how it does.
    Models(oneshot::Sender<Box<view::Models>>),
    /// What a training from this seed is about, and the workloads by number.
    Training(u64, oneshot::Sender<(RetrainingSettings, Vec<WorkloadId>)>),
    /// A workload's load by the minute, for a training; `None` when it has gone.
    Minutes(WorkloadId, oneshot::Sender<Option<History>>),
    /// The workloads with the most pods among those with trees, so many at most.
    Dearest(usize, oneshot::Sender<Vec<WorkloadId>>),
    /// Have every model run with these weights.
    Weights(Fitted, oneshot::Sender<()>),
    /// Everything that `/metrics` shows.
    Scrape(oneshot::Sender<Box<Snapshot>>),
}

/// The loop has more to do than it can.
#[derive(Clone, Copy, Debug, Error)]
#[error("the aggregator has more to do than it can; the next report makes up for this one")]
pub struct Overloaded;

/// A way to ask the loop.
#[derive(Clone, Debug)]
pub struct Control(mpsc::Sender<Ask>);

impl Control {
    /// Asks, and waits for the answer.
    ///
    /// # Errors
    /// [`Overloaded`] when the queue is full or the answer takes too long.
    pub async fn ask<T>(&self, ask: impl FnOnce(oneshot::Sender<T>) -> Ask) -> Result<T, Overloaded> {
        let (sender, answer) = oneshot::channel();
        self.0.try_send(ask(sender)).map_err(|_| Overloaded)?;
        match tokio::time::timeout(PATIENCE, answer).await {
            Ok(Ok(answer)) => Ok(answer),
            _ => Err(Overloaded),
        }
    }
}

/// Every node's watch list, as of the newest world.
#[derive(Clone, Debug)]
pub struct WatchLists {
    nodes: Arc<BTreeMap<String, WatchList>>,
    /// For nodes without a pod of ours.
    empty: Arc<WatchList>,
}

impl WatchLists {
    /// The list of `node`.
    pub fn of(&self, node: &str) -> &WatchList {
        self.nodes.get(node).unwrap_or(&self.empty)
    }
}

/// Whether the target answers, and what it refuses; whether the agents are heard.
#[derive(Clone, Debug, Default)]
pub struct Health {
    /// The target has answered at least once.
    pub seen: bool,
    /// Since when it does not, and why not.
    pub down: Option<(Instant, String)>,
    /// What stands refused, by its last answer.
    pub refusals: Arc<Vec<view::Refusal>>,
    /// Once the target is seen: which nodes' agents are awaited, in one sentence; `None` for good when each has reported, or this
    /// has waited for long enough.
    pub unheard: Option<String>,
}

/// What the loop is made of.
pub struct Parts {
    /// The brain, history imported.
    pub cluster: Cluster,
    /// The clock of everything that it decides.
    pub clock: Clock,
    /// Whom it scales.
    pub target: Arc<Target>,
    /// What it counts.
    pub metrics: Arc<Metrics>,
    /// What outlives it.
    pub state: Arc<State>,
    /// Whose state the store holds at the start.
    pub source: Source,
}

/// Ways to the running loop.
#[derive(Clone, Debug)]
pub struct Running {
    /// Questions.
    pub control: Control,
    /// Watch lists; `None` until the target has answered.
    pub lists: watch::Receiver<Option<WatchLists>>,
    /// The target, and the agents.
    pub health: watch::Receiver<Health>,
}

/// Starts the loop. It ticks until `shutdown`, answers until every [`Control`] is dropped, then waits for the writes
/// that are under way and ends.
///
/// # Errors
/// When the thread that writes state can't be started.
pub fn start(mut parts: Parts, shutdown: Shutdown) -> anyhow::Result<(Running, tokio::task::JoinHandle<()>)> {
    let (asks, questions) = mpsc::channel(QUEUE);
    let (lists, lists_out) = watch::channel(None);
    let (health, health_out) = watch::channel(Health::default());
    let again = Arc::new(Notify::new());
    // One world waits at most: a newer one makes it worthless.
    let (worlds, worlds_in) = mpsc::channel(1);
    let follower = Follower { target: Arc::clone(&parts.target), worlds, again: Arc::clone(&again) };
    tokio::spawn(follower.run());
    let writes = Writes::new(Arc::clone(&parts.target));
    let (state, metrics) = (Arc::clone(&parts.state), Arc::clone(&parts.metrics));
    let checkpoints = Checkpoints::new(state, metrics, parts.source, &mut parts.cluster)?;
    let last_tick = Mono::default();
    let control = Loop {
        parts,
        writes,
        checkpoints,
        lists,
        health,
        again,
        last_tick,
        awaiting_since: None,
        violations: 0,
    };
    let task = tokio::spawn(control.run(questions, worlds_in, shutdown));
    Ok((Running { control: Control(asks), lists: lists_out, health: health_out }, task))
}

struct Loop {
    parts: Parts,
    writes: Writes,
    checkpoints: Checkpoints,
    lists: watch::Sender<Option<WatchLists>>,
    health: watch::Sender<Health>,
    again: Arc<Notify>,
    last_tick: Mono,
    awaiting_since: Option<Instant>,
    violations: u64,
}

impl Loop {
    async fn run(
        mut self,
        mut questions: mpsc::Receiver<Ask>,
        mut worlds: mpsc::Receiver<Result<World, TargetError>>,
        shutdown: Shutdown,
    ) {
        let mut tick = self.parts.clock.interval(TICK);
        loop {
            let stopping = shutdown.is_requested();
            tokio::select! {
                _ = tick.tick(), if !stopping => self.tick(),
                Some(world) = worlds.recv(), if !stopping => self.world(world),
                written = self.writes.next() => self.written(written),
                question = questions.recv() => match question {
                    Some(question) => self.answer(question),
                    None => break,
                },
                () = shutdown.requested(), if !stopping => {}
            }
        }
        let last = async {
            while self.writes.under_way() > 0 {
                let written = self.writes.next().await;
                self.written(written);
            }
        };
        if tokio::time::timeout(LAST_WRITES, last).await.is_err() {
            tracing::warn!(
                left = self.writes.under_way(),
                "stopped before the target had answered all writes"
            );
        }
        self.checkpoints.close(&mut self.parts.cluster, self.parts.clock.now()).await;
    }

    fn tick(&mut self) {
        let leads = self.parts.target.leads();
        self.checkpoints.before(&mut self.parts.cluster, self.parts.clock.now(), leads);
        // Before the target has said what exists there is nothing to plan for.
        if !self.health.borrow().seen {
            return;
        }
        let (began, now) = (Instant::now(), self.parts.clock.now());
        self.await_agents();
        self.parts.metrics.leads.set(i64::from(leads));
        self.parts.cluster.set_standby(!leads);
        let plan = self.parts.cluster.tick(now);
        self.parts.target.sustain(&plan.report);
        self.last_tick = now.mono;
        self.parts.metrics.tick_seconds.observe(began.elapsed().as_secs_f64());
        self.own_up();
        for decision in plan.decisions {
            tracing::info!(
                workload = %format_args!("{}/{}", decision.workload.namespace, decision.workload.name),
                from = decision.replicas_before,
                to = decision.replicas,
                reason = decision.reason.name(),
                "{}",
                decision.reason.sentence()
            );
            self.parts.metrics.decided(&decision);
            self.writes.start(decision);
        }
        self.parts.metrics.writes_in_flight.set(self.writes.under_way() as i64);
        self.checkpoints.after(&mut self.parts.cluster, now);
    }

    /// Whether the agents are heard, until they are. Who is to replace replicas one by one must know: what a leader plans that
    /// hears nobody is to hold everything.
    fn await_agents(&mut self) {
        let is_over = |health: &Health| health.seen && health.unheard.is_none();
        if is_over(&self.health.borrow()) {
            return;
        }
        let waited = self.awaiting_since.get_or_insert_with(Instant::now).elapsed();
        let (heard, sentence) = heard(&self.parts.cluster.unheard(self.parts.clock.now()), waited);
        if heard && !sentence.is_empty() {
            tracing::warn!("waits no longer for the agents: {sentence}");
        }
        self.health.send_modify(|health| health.unheard = (!heard).then_some(sentence));
    }

    /// Says so when a plan broke one of its own rules; it was refused then.
    fn own_up(&mut self) {
        let violations: u64 = self.parts.cluster.violations().map(|(_, count)| count).sum();
        if violations > self.violations {
            let broken: Vec<String> = self
                .parts
                .cluster
                .violations()
                .map(|(law, count)| format!("{}: {count}", law.name()))
                .collect();
            tracing::error!("a plan broke its own rules and was refused; so far: {}", broken.join(", "));
            self.parts.metrics.plan_violations.inc_by(violations - self.violations);
            self.violations = violations;
        }
    }

    fn written(&mut self, written: Written) {
        let Written { decision, result, took } = written;
        self.parts.metrics.written(&result, took);
        self.parts.metrics.writes_in_flight.set(self.writes.under_way() as i64);
        let outcome = match &result {
            Ok(resource_version) => Outcome::Applied { resource_version: *resource_version },
            Err(TargetError::Conflict | TargetError::Gone | TargetError::NotLeader) => Outcome::Conflict,
            Err(_) => Outcome::Failed,
        };
        if let Err(error) = &result {
            let workload = format!("{}/{}", decision.workload.namespace, decision.workload.name);
            tracing::warn!(workload, replicas = decision.replicas, "not written: {error}");
            // What we decided on is not what is there.
            self.again.notify_one();
        }
        self.parts.cluster.outcome(self.parts.clock.now(), &decision.workload, outcome);
    }

    fn world(&mut self, world: Result<World, TargetError>) {
        match world {
            Ok(mut world) => {
                self.parts.cluster.world(self.parts.clock.now(), &world.workloads);
                // Before the target counts as seen: from then on nobody awaited means ready.
                self.await_agents();
                self.target_is_up(&mut world);
                self.parts.metrics.keep_only(&world.workloads.iter().map(|w| &w.id).collect());
                self.publish_lists();
            }
            Err(error) => {
                self.parts.metrics.target_failed(&error);
                self.health.send_if_modified(|health| {
                    let first = health.down.is_none();
                    if first {
                        tracing::warn!(
                            "the target gives no answer, so nothing changes until it does: {error}"
                        );
                        health.down = Some((Instant::now(), error.to_string()));
                    }
                    first
                });
            }
        }
    }

    fn target_is_up(&self, world: &mut World) {
        self.parts.metrics.target_up.set(1);
        self.health.send_if_modified(|health| {
            let workloads = world.workloads.len();
            health.refusals = Arc::new(std::mem::take(&mut world.refusals));
            match health.down.take() {
                Some((since, _)) => {
                    let seconds = since.elapsed().as_secs_f64();
                    tracing::info!(workloads, "the target answers, after {seconds:.1} s");
                }
                None if !health.seen => tracing::info!(workloads, "the target answers"),
                None => return false,
            }
            health.seen = true;
            true
        });
    }

    fn publish_lists(&self) {
        let lists = WatchLists {
            nodes: Arc::new(self.parts.cluster.watch_lists()),
            // No pod is on a node without a name.
            empty: Arc::new(self.parts.cluster.watch_list("")),
        };
        self.lists.send_replace(Some(lists));
    }

    /// Whoever asked may have gone; then nobody needs the answer.
    fn answer(&mut self, question: Ask) {
        let (cluster, now) = (&mut self.parts.cluster, self.parts.clock.now());
        match question {
            Ask::Report(report, reply) => {
                let accepted = cluster.report(now, &report);
                let burst = accepted.as_ref().is_ok_and(|it| it.burst);
                if let Ok(accepted) = &accepted {
                    self.parts.metrics.pods_ignored(accepted);
                }
                let _ = reply.send(accepted.map(drop));
                if burst && now.mono.seconds_since(self.last_tick) >= BURST_TICK_SECONDS {
                    self.tick();
                }
            }
            Ask::List(reply) => {
                let _ = reply.send(cluster.list(now));
            }
            Ask::Workload(id, reply) => {
                let _ = reply.send(cluster.view(now, &id).map(Box::new));
            }
            Ask::Models(reply) => {
                let _ = reply.send(Box::new(cluster.models(now)));
            }
            Ask::Training(seed, reply) => {
                let workloads = cluster.workloads().cloned().collect();
                let _ = reply.send((cluster.retraining(now, seed), workloads));
            }
            Ask::Minutes(id, reply) => {
                let _ = reply.send(cluster.minutes(&id));
            }
            Ask::Dearest(most, reply) => {
                let _ = reply.send(cluster.dearest(most));
            }
            Ask::Weights(weights, reply) => {
                cluster.set_weights(weights);
                let _ = reply.send(());
            }
            Ask::Scrape(reply) => {
                let list = cluster.list(now);
                let ids = list
                    .workloads
                    .iter()
                    .map(|w| WorkloadId { namespace: w.namespace.clone(), name: w.name.clone() });
                let workloads = ids.filter_map(|id| cluster.view_of_now(now, &id)).collect();
                let _ = reply.send(Box::new(Snapshot { nodes: list.nodes, workloads }));
            }
        }
    }
}

/// Whether nobody needs to wait for these nodes' agents any more, after so long; and who is missing, in one sentence.
fn heard(unheard: &BTreeSet<&str>, waited: Duration) -> (bool, String) {
    if unheard.is_empty() {
        return (true, String::new());
    }
    let names: Vec<&str> = unheard.iter().copied().take(NAMED).collect();
    let more = if unheard.len() > NAMED { ", …" } else { "" };
    let sentence = format!(
        "no report yet from {} of the nodes with pods to measure ({}{more})",
        unheard.len(),
        names.join(", ")
    );
    (waited >= AGENTS_AWAITED, sentence)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agents_are_awaited_for_a_minute_at_most_and_named() {
        let nodes = |count: usize| ["a", "b", "c", "d"].into_iter().take(count).collect::<BTreeSet<_>>();
        assert_eq!(heard(&nodes(0), Duration::ZERO), (true, String::new()));
        let (enough, sentence) = heard(&nodes(1), Duration::from_secs(59));
        assert!(!enough && sentence.contains(" 1 of ") && sentence.ends_with("(a)"), "{sentence}");
        let (enough, sentence) = heard(&nodes(4), Duration::from_secs(60));
        assert!(enough && sentence.contains(" 4 of ") && sentence.ends_with("(a, b, c, …)"), "{sentence}");
    }
}
