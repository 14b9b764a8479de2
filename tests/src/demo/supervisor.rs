//! The demo's little Kubernetes: one Deployment whose pods are worker processes, started, drained and counted.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use prescale_core::world::{Pod, PodPhase, WorkloadId, WorkloadSettings, WorkloadState};
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout};
use tokio::sync::{Notify, watch};

use super::balancer::Balancer;
use super::cgroup::{self, Groups};
use super::random::Random;
use super::worker::Behaviour;

/// The node that all pods run on.
pub const NODE: &str = "demo-node";
/// A replica whose last request has ended needs milliseconds to exit; this long means that it hangs.
const EXIT_LIMIT: Duration = Duration::from_secs(10);

/// What a supervisor is started with.
#[derive(Debug)]
pub struct Deployment {
    /// Its name in the API.
    pub id: WorkloadId,
    /// Its settings in the API.
    pub settings: WorkloadSettings,
    /// The replica's program.
    pub program: PathBuf,
    /// How a replica behaves.
    pub behaviour: Behaviour,
}

/// A scale write that came too late: somebody wrote in between.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conflict;

/// Owns the worker processes. Shared by reference counting: each pod's life is a task of its own.
#[derive(Debug)]
pub struct Supervisor {
    deployment: Deployment,
    groups: Groups,
    balancer: Arc<Balancer>,
    state: Mutex<State>,
    // Grows with every change that the API shows.
    revision: watch::Sender<u64>,
}

#[derive(Debug)]
struct State {
    replicas: u32,
    resource_version: u64,
    scale_events: u64,
    pods: BTreeMap<u64, Entry>,
    started: u64,
    uids: Random,
    // Real seconds of pods that have ended.
    ended_seconds: f64,
    failure: Option<String>,
}

#[derive(Debug)]
struct Entry {
    pod: Pod,
    since: Instant,
    leave: Arc<Notify>,
}

/// How many pods there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// `spec.replicas`.
    pub wanted: u32,
    /// Pods that do not leave, ready or not: `status.replicas`.
    pub existing: u32,
    /// Of those, the ready ones.
    pub ready: u32,
    /// Pods that are leaving.
    pub leaving: u32,
}

impl Supervisor {
    /// A Deployment without pods; [`Self::scale`] starts them.
    pub fn new(deployment: Deployment, groups: Groups, balancer: Arc<Balancer>) -> Arc<Self> {
        // Uids must be unique beyond this process: the instant goes into them.
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let uids = Random::new(now.as_nanos() as u64 ^ u64::from(std::process::id()), "uids");
        let state = State {
            replicas: 0,
            resource_version: 1,
            scale_events: 0,
            pods: BTreeMap::new(),
            started: 0,
            uids,
            ended_seconds: 0.0,
            failure: None,
        };
        let (revision, _) = watch::channel(1);
        Arc::new(Self { deployment, groups, balancer, state: Mutex::new(state), revision })
    }

    /// Sets `spec.replicas`, if nobody has since `resource_version` (`None`: whatever it is). Returns the new version.
    ///
    /// # Errors
    /// [`Conflict`] if somebody has.
    pub fn scale(self: &Arc<Self>, replicas: u32, resource_version: Option<u64>) -> Result<u64, Conflict> {
        let mut state = self.lock();
        if resource_version.is_some_and(|version| version != state.resource_version) {
            return Err(Conflict);
        }
        if replicas != state.replicas {
            state.replicas = replicas;
            state.resource_version += 1;
            state.scale_events += 1;
            self.reconcile(&mut state);
            self.changed();
        }
        Ok(state.resource_version)
    }

    /// What the API shows, and its revision.
    pub fn workload(&self) -> (u64, WorkloadState) {
        let state = self.lock();
        let workload = WorkloadState {
            id: self.deployment.id.clone(),
            settings: self.deployment.settings.clone(),
            replicas: state.replicas,
            resource_version: state.resource_version,
            // A pod's spec names its ports from the first moment: those of the first few ms that have bound none yet
            // are left out.
            pods: state
                .pods
                .values()
                .map(|it| &it.pod)
                .filter(|pod| !pod.ports.is_empty())
                .cloned()
                .collect(),
        };
        (*self.revision.borrow(), workload)
    }

    /// Sees the revision change.
    pub fn revisions(&self) -> watch::Receiver<u64> {
        self.revision.subscribe()
    }

    /// Counts the pods.
    pub fn census(&self) -> Census {
        let state = self.lock();
        let count = |phase| state.pods.values().filter(|entry| entry.pod.phase == phase).count() as u32;
        let (ready, leaving) = (count(PodPhase::Ready), count(PodPhase::Terminating));
        Census { wanted: state.replicas, existing: count(PodPhase::Starting) + ready, ready, leaving }
    }

    /// Real seconds of all pods so far, each from its process's start to its exit.
    pub fn replica_seconds(&self) -> f64 {
        let state = self.lock();
        state.ended_seconds
            + state.pods.values().map(|entry| entry.since.elapsed().as_secs_f64()).sum::<f64>()
    }

    /// Writes that changed `spec.replicas`.
    pub fn scale_events(&self) -> u64 {
        self.lock().scale_events
    }

    /// Waits until `done` holds of the pods.
    ///
    /// # Errors
    /// A replica failed, or `limit` has passed.
    pub async fn wait(&self, limit: Duration, done: impl Fn(Census) -> bool) -> Result<()> {
        let mut revisions = self.revisions();
        let waited = tokio::time::timeout(limit, async {
            while self.failure().is_none() && !done(self.census()) {
                let _ = revisions.changed().await;
            }
        });
        let in_time = waited.await.is_ok();
        if let Some(failure) = self.failure() {
            bail!("{failure}");
        }
        ensure!(in_time, "after {} s the replicas are at {:?}", limit.as_secs_f64(), self.census());
        Ok(())
    }

    /// The first failure of a replica: the demo's numbers would mean nothing.
    pub fn failure(&self) -> Option<String> {
        self.lock().failure.clone()
    }

    // Starts or ends pods until as many exist as are wanted.
    fn reconcile(self: &Arc<Self>, state: &mut State) {
        let existing = |state: &State| {
            state.pods.values().filter(|entry| entry.pod.phase != PodPhase::Terminating).count() as u32
        };
        while existing(state) < state.replicas {
            self.start(state);
        }
        for _ in state.replicas..existing(state) {
            // As a ReplicaSet chooses: those that don't serve yet first, then the youngest.
            let youngest = state.pods.values_mut().rev();
            let Some(entry) = youngest
                .filter(|entry| entry.pod.phase != PodPhase::Terminating)
                .min_by_key(|entry| entry.pod.phase == PodPhase::Ready)
            else {
                return;
            };
            entry.pod.phase = PodPhase::Terminating;
            entry.leave.notify_one();
        }
    }

    fn start(self: &Arc<Self>, state: &mut State) {
        state.started += 1;
        let number = state.started;
        let (high, low) = (state.uids.bits(), state.uids.bits());
        // The shape of a version 4 UUID, as Kubernetes' uids have.
        let uid = format!(
            "{:08x}-{:04x}-4{:03x}-8{:03x}-{:012x}",
            high >> 32,
            high >> 16 & 0xffff,
            high & 0xfff,
            low >> 52,
            low & 0xffff_ffff_ffff
        );
        let pod = Pod {
            name: format!("{}-{number}", self.deployment.id.name),
            uid,
            node: NODE.to_owned(),
            phase: PodPhase::Starting,
            ports: Vec::new(),
            probes: Vec::new(),
            start_seconds: None,
        };
        let leave = Arc::new(Notify::new());
        state
            .pods
            .insert(number, Entry { pod: pod.clone(), since: Instant::now(), leave: Arc::clone(&leave) });
        let supervisor = Arc::clone(self);
        tokio::spawn(async move {
            if let Err(error) = supervisor.life(number, &pod, &leave).await {
                supervisor.lock().failure.get_or_insert(format!("replica {}: {error:#}", pod.name));
            }
            let mut state = supervisor.lock();
            if let Some(entry) = state.pods.remove(&number) {
                state.ended_seconds += entry.since.elapsed().as_secs_f64();
            }
            drop(state);
            supervisor.changed();
        });
    }

    // One pod from its cgroup to its exit.
    async fn life(&self, number: u64, pod: &Pod, leave: &Notify) -> Result<()> {
        let group = format!("pod{}", pod.uid);
        let directories = self.groups.add(&group)?;
        let mut worker = Worker::start(&self.deployment, &directories)?;
        // The process counts from its own start, not from the decision.
        self.update(number, |entry| entry.since = Instant::now());
        let port = worker.says("bound").await?;
        let port: u16 = port.trim().parse().context("the port that it bound")?;
        self.update(number, |entry| entry.pod.ports = vec![port]);
        let ready = tokio::select! {
            ready = worker.says("ready") => { ready?; true }
            () = leave.notified() => false,
        };
        if ready {
            let backend = self.balancer.join(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
            self.update(number, |entry| {
                if entry.pod.phase == PodPhase::Starting {
                    entry.pod.phase = PodPhase::Ready;
                }
            });
            let left = tokio::select! {
                () = leave.notified() => Ok(()),
                status = worker.process.wait() => Err(anyhow::anyhow!("ended by itself: {}", status?)),
            };
            // Drain first: nothing new goes there, what is under way ends, then the process is asked to exit.
            self.balancer.leave(&backend).await;
            left?;
        }
        worker.stop().await?;
        cgroup::remove_empty(&directories[0])
    }

    fn update(&self, number: u64, change: impl FnOnce(&mut Entry)) {
        if let Some(entry) = self.lock().pods.get_mut(&number) {
            change(entry);
        }
        self.changed();
    }

    fn changed(&self) {
        self.revision.send_modify(|revision| *revision += 1);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// A replica's process. Dropping it closes its standard input, which ends it.
#[derive(Debug)]
struct Worker {
    process: Child,
    // Apart, because waiting for a child closes the input that it holds.
    _input: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Worker {
    fn start(deployment: &Deployment, directories: &[PathBuf]) -> Result<Self> {
        let Behaviour { start_up_ms, slots, hold_ms } = deployment.behaviour;
        let mut command = cgroup::command(directories, &deployment.program);
        command.arg("--start-up-ms").arg(start_up_ms.to_string());
        command.arg("--slots").arg(slots.to_string());
        command.arg("--hold-ms").arg(hold_ms.to_string());
        let mut command = tokio::process::Command::from(command);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let program = deployment.program.display();
        let mut process = command.spawn().with_context(|| format!("starting {program}"))?;
        let out = process.stdout.take().context("no standard output")?;
        let input = process.stdin.take().context("no standard input")?;
        Ok(Self { process, _input: input, lines: BufReader::new(out).lines() })
    }

    // Waits for the line that begins with `word`; returns the rest of it.
    async fn says(&mut self, word: &str) -> Result<String> {
        while let Some(line) = self.lines.next_line().await? {
            if let Some(rest) = line.strip_prefix(word) {
                return Ok(rest.to_owned());
            }
        }
        bail!("ended before it said `{word}`: {}", self.process.wait().await?)
    }

    async fn stop(&mut self) -> Result<()> {
        if let Some(pid) = self.process.id().and_then(|pid| Pid::from_raw(pid as i32)) {
            // It may have exited by now.
            let _ = kill_process(pid, Signal::TERM);
        }
        let exit = tokio::time::timeout(EXIT_LIMIT, self.process.wait()).await;
        ensure!(exit.is_ok(), "still runs {} s after SIGTERM", EXIT_LIMIT.as_secs());
        Ok(())
    }
}
