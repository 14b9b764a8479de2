//! One run: fresh processes, one policy, the seed's load from its first to its last request.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, bail};
use prescale_core::world::Mode;
use prescale_shell::signals::Shutdown;

use super::api;
use super::balancer::Balancer;
use super::calibrate::Capacity;
use super::instruments::{Instruments, Program};
use super::load::{self, Tally};
use super::machine::Busy;
use super::options::Policy;
use super::policy::{self, Reading};
use super::report::Run;
use super::stage::{OBJECTIVE, Stage};
use super::supervisor::Supervisor;

/// Between the start of the processes and the first request, beyond the replicas' start-up: what the aggregator needs to
/// import six days and the agent to attach. A release build needs a second or two; a debug build on a busy machine has
/// to come in time too, because the compressed clock's start is fixed before.
const LEAD_IN: Duration = Duration::from_secs(12);
/// How often a line of progress appears, real time.
const PROGRESS: Duration = Duration::from_secs(5);
/// How often CPU and memory are read, real time.
const SAMPLING: Duration = Duration::from_millis(500);
/// What a clean end may take: the longest queue that a client waits for, then some.
const END_LIMIT: Duration = Duration::from_secs(45);

/// Plays the load under `policy`, which is run number `number`; `replicas` are those of the start. Gives back the
/// aggregator, which can go on showing the page.
///
/// # Errors
/// A process fails, the machine's directories vanish: the run means nothing then.
pub async fn run(
    stage: &Stage,
    capacity: Capacity,
    (number, policy): (usize, Policy),
    replicas: u32,
    shutdown: &Shutdown,
) -> Result<(Run, Program)> {
    let mode = if policy == Policy::Prescale { Mode::Full } else { Mode::Observe };
    let balancer = Arc::new(Balancer::default());
    let deployment = stage.deployment(mode, Some(capacity))?;
    let id = deployment.id.clone();
    let supervisor = Supervisor::new(deployment, stage.groups.clone(), Arc::clone(&balancer));
    let target = api::start(Arc::clone(&supervisor), shutdown.clone()).await?;
    // Agent and aggregator start while the replicas do; the first request comes when the compressed clock shows the
    // live start, to replicas that are measured.
    let began = Instant::now();
    let starts = began + stage.start_up() + LEAD_IN;
    supervisor.scale(replicas, None).map_err(|_| anyhow!("nobody else scales yet"))?;
    let instruments = Instruments::start(stage, number, target, &id, starts)?;
    supervisor.wait(stage.start_up() + LEAD_IN, |census| census.ready == replicas).await?;
    instruments.ready(replicas as usize, starts).await?;

    let tally = Arc::new(Tally::default());
    let mut watched = Watched::default();
    let ended: Result<()> = tokio::select! {
        () = load::play(&stage.arrivals, starts, load::CLIENT_LIMIT, &balancer, &tally) => Ok(()),
        ended = rival(stage, capacity, policy, starts, &supervisor, &instruments) => ended,
        ended = watch(stage, policy, starts, &supervisor, &tally, &instruments, &mut watched) => ended,
        () = shutdown.requested() => Err(anyhow!("stopped")),
    };
    ended?;
    let totals = tally.totals(OBJECTIVE);
    let elapsed = began.elapsed().as_secs_f64();
    let scale_events = supervisor.scale_events() - 1;
    instruments.check()?;
    let counted = instruments.settled(totals.sent).await?;
    let agent_cpu_s = instruments.agent_cpu(&stage.groups)?.as_secs_f64();
    let aggregator = instruments.stop_agent().await?;
    supervisor.scale(0, None).map_err(|_| anyhow!("nobody else scales any more"))?;
    supervisor.wait(END_LIMIT, |census| census.existing + census.leaving == 0).await?;
    let replica_seconds = supervisor.replica_seconds();
    let run = Run {
        policy,
        totals,
        replica_seconds,
        mean_replicas: replica_seconds / elapsed,
        scale_events,
        counted,
        first_forecast_s: watched.first_forecast.map(|after| after.as_secs_f64()),
        agent_cpu_s,
        agent_memory_bytes: watched.agent_memory_bytes,
        busy: watched.busy(),
    };
    Ok((run, aggregator))
}

// Scales as the HPA would; never ends for policies that need nobody here.
async fn rival(
    stage: &Stage,
    capacity: Capacity,
    policy: Policy,
    starts: Instant,
    supervisor: &Arc<Supervisor>,
    instruments: &Instruments,
) -> Result<()> {
    let Policy::Hpa(percent) = policy else { return std::future::pending().await };
    let target = capacity.saturated_rps * f64::from(percent) / 100.0;
    let read = async || Ok(Reading { starts: instruments.counted().await?, at: Instant::now() });
    tokio::time::sleep_until(starts.into()).await;
    policy::hpa(supervisor, target, stage.options.speed, read).await
}

// What is sampled while the load plays.
#[derive(Default)]
struct Watched {
    busy: Vec<f64>,
    agent_memory_bytes: u64,
    first_forecast: Option<Duration>,
}

impl Watched {
    fn busy(&self) -> (f64, f64) {
        let mean = self.busy.iter().sum::<f64>() / self.busy.len().max(1) as f64;
        (mean, self.busy.iter().copied().fold(0.0, f64::max))
    }
}

// Samples the machine and the agent and says how it goes; ends only with a failure.
async fn watch(
    stage: &Stage,
    policy: Policy,
    starts: Instant,
    supervisor: &Supervisor,
    tally: &Tally,
    instruments: &Instruments,
    watched: &mut Watched,
) -> Result<()> {
    let mut busy = Busy::start()?;
    let mut progress = starts + PROGRESS;
    loop {
        instruments.check()?;
        watched.agent_memory_bytes =
            watched.agent_memory_bytes.max(instruments.agent_memory_bytes(&stage.groups)?);
        watched.first_forecast = instruments.first_forecast().await?;
        tokio::time::sleep(SAMPLING).await;
        watched.busy.push(busy.share()?);
        if let Some(failure) = supervisor.failure() {
            bail!("{failure}");
        }
        if Instant::now() >= progress {
            progress += PROGRESS;
            say_progress(stage, policy, starts, supervisor, tally);
        }
    }
}

fn say_progress(stage: &Stage, policy: Policy, starts: Instant, supervisor: &Supervisor, tally: &Tally) {
    let since = Instant::now().saturating_duration_since(starts).as_secs_f64();
    let of_day = (stage.week.live_starts() + since * stage.options.speed) % 86_400.0;
    let (count, p50, p99) = tally.recent(PROGRESS);
    let census = supervisor.census();
    super::say(&format!(
        "{:<10} {:>4.0} s  {:02}:{:02}  {:>5.0} requests/s  {:>2} ready{}  p50 {:>4.0} ms  p99 {:>5.0} ms  {:>4} in flight",
        policy.to_string(),
        since,
        (of_day / 3_600.0) as u32,
        (of_day / 60.0) as u32 % 60,
        count as f64 / PROGRESS.as_secs_f64(),
        census.ready,
        if census.existing > census.ready {
            format!(" +{} starting", census.existing - census.ready)
        } else {
            String::new()
        },
        p50,
        p99,
        tally.in_flight()
    ));
}
