//! One run: fresh processes, one policy, the seed's load from its first to its last request.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, bail};
use prescale_core::world::Mode;
use prescale_shell::signals::Shutdown;

use super::balancer::Balancer;
use super::calibrate::Capacity;
use super::load::{self, Tally};
use super::machine::Busy;
use super::options::Policy;
use super::policy::{self, Reading};
use super::report::Run;
use super::stage::{OBJECTIVE, Stage};
use super::supervisor::Supervisor;

/// Between the start of the processes and the first request, beyond the replicas' start-up: what agent and aggregator
/// need to be ready on a busy machine.
const LEAD_IN: Duration = Duration::from_millis(2_500);
/// How often a line of progress appears, real time.
const PROGRESS: Duration = Duration::from_secs(5);
/// How often CPU and memory are read, real time.
const SAMPLING: Duration = Duration::from_secs(1);
/// What a clean end may take: the longest queue that a client waits for, then some.
const END_LIMIT: Duration = Duration::from_secs(45);

/// Plays the load under `policy`; `replicas` are those of the start.
///
/// # Errors
/// A process fails, the machine's directories vanish: the run means nothing then.
pub async fn run(
    stage: &Stage,
    capacity: Capacity,
    policy: Policy,
    replicas: u32,
    shutdown: &Shutdown,
) -> Result<Run> {
    let mode = if policy == Policy::Prescale { Mode::Full } else { Mode::Observe };
    let balancer = Arc::new(Balancer::default());
    let deployment = stage.deployment(mode, Some(capacity))?;
    let supervisor = Supervisor::new(deployment, stage.groups.clone(), Arc::clone(&balancer));
    let began = Instant::now();
    supervisor.scale(replicas, None).map_err(|_| anyhow!("nobody else scales yet"))?;
    let starts = began + stage.start_up() + LEAD_IN;
    supervisor.wait(stage.start_up() + LEAD_IN, |census| census.ready == replicas).await?;

    let tally = Arc::new(Tally::default());
    let meter = || async { Ok(Reading { starts: tally.sent(), at: Instant::now() }) };
    let rival = async {
        match policy {
            Policy::Hpa(percent) => {
                let target = capacity.saturated_rps * f64::from(percent) / 100.0;
                tokio::time::sleep_until(starts.into()).await;
                policy::hpa(&supervisor, target, stage.options.speed, meter).await
            }
            Policy::Prescale | Policy::Static => std::future::pending().await,
        }
    };
    let mut busy = Vec::new();
    let watch = async {
        let mut now_busy = Busy::start()?;
        let mut progress = Instant::now() + PROGRESS;
        loop {
            tokio::time::sleep(SAMPLING).await;
            busy.push(now_busy.share()?);
            if let Some(failure) = supervisor.failure() {
                bail!("{failure}");
            }
            if Instant::now() >= progress {
                progress += PROGRESS;
                say_progress(stage, policy, starts, &supervisor, &tally);
            }
        }
    };
    let ended: Result<()> = tokio::select! {
        () = load::play(&stage.arrivals, starts, &balancer, &tally) => Ok(()),
        ended = rival => ended,
        ended = watch => ended,
        () = shutdown.requested() => Err(anyhow!("stopped")),
    };
    ended?;
    let totals = tally.totals(OBJECTIVE);
    let elapsed = began.elapsed().as_secs_f64();
    let scale_events = supervisor.scale_events() - 1;
    supervisor.scale(0, None).map_err(|_| anyhow!("nobody else scales any more"))?;
    supervisor.wait(END_LIMIT, |census| census.existing + census.leaving == 0).await?;
    let replica_seconds = supervisor.replica_seconds();
    Ok(Run {
        policy,
        totals,
        replica_seconds,
        mean_replicas: replica_seconds / elapsed,
        scale_events,
        counted: 0,
        first_forecast_s: None,
        agent_cpu_s: 0.0,
        agent_memory_bytes: 0,
        busy: (busy.iter().sum::<f64>() / busy.len().max(1) as f64, busy.iter().copied().fold(0.0, f64::max)),
    })
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
