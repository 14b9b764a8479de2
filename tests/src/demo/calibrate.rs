//! Measures one worker before the runs: what it can do at most, what it carries within the objective, what a request
//! costs.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use tokio::task::JoinSet;

use super::balancer::Balancer;
use super::cgroup::Groups;
use super::load::{self, Tally};
use super::random::Random;
use super::supervisor::{Deployment, Supervisor};

/// How long the worker is saturated: a thousand requests and more, so that the count is good to a percent.
const SATURATED: Duration = Duration::from_secs(4);
/// Not counted at its start: connections open and the queue fills.
const WARM_UP: Duration = Duration::from_millis(500);
/// How long each load level is tried: about a thousand requests, ten of them above the 99 %.
const LEVEL: Duration = Duration::from_secs(6);
/// Loads that are tried, as shares of the saturated throughput, each on a worker of its own at the same time.
const LEVELS: [f64; 5] = [0.75, 0.80, 0.85, 0.90, 0.95];

/// A machine that something else keeps busy for a moment gets another chance.
const ATTEMPTS: usize = 3;

/// What one worker can do.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Capacity {
    /// Throughput of a saturated worker, requests/s: the HPA's targets are shares of it.
    pub saturated_rps: f64,
    /// The highest tried load whose 99 % kept the objective, requests/s: Prescale is told this as `rps_per_pod`.
    pub within_objective_rps: f64,
    /// CPU time of the worker per request.
    pub cpu_per_request: Duration,
}

/// Measures it with processes that end afterwards.
///
/// # Errors
/// A worker fails, or not even the lowest level keeps the objective.
pub async fn measure(
    deployment: impl Fn() -> Deployment,
    groups: &Groups,
    objective: Duration,
    seed: u64,
) -> Result<Capacity> {
    let (saturated_rps, cpu_per_request) = saturate(deployment(), groups).await?;
    for _ in 0..ATTEMPTS {
        if let Some(share) = highest_level(&deployment, groups, objective, seed, saturated_rps).await? {
            return Ok(Capacity {
                saturated_rps,
                within_objective_rps: share * saturated_rps,
                cpu_per_request,
            });
        }
    }
    bail!(
        "even at {:.0} % of its capacity a worker misses the objective of {} ms, {ATTEMPTS} times in a row: the machine \
         is too busy for the demo",
        LEVELS[0] * 100.0,
        objective.as_millis()
    )
}

// The highest level that keeps the objective, below which none fails; `None` if the lowest does.
async fn highest_level(
    deployment: impl Fn() -> Deployment,
    groups: &Groups,
    objective: Duration,
    seed: u64,
    saturated_rps: f64,
) -> Result<Option<f64>> {
    let mut levels = JoinSet::new();
    for (index, share) in LEVELS.into_iter().enumerate() {
        let rate = share * saturated_rps;
        let mut draw = Random::new(seed, "calibration");
        let mut at = 0.0;
        let arrivals: Vec<Duration> = std::iter::from_fn(|| {
            at += draw.exponential() / rate;
            (at < LEVEL.as_secs_f64()).then(|| Duration::from_secs_f64(at))
        })
        .collect();
        let (deployment, groups) = (deployment(), groups.clone());
        levels.spawn(async move {
            let totals = one_worker(deployment, &groups, |balancer| async move {
                let tally = Arc::new(Tally::default());
                load::play(&arrivals, Instant::now(), load::CLIENT_LIMIT, &balancer, &tally).await;
                Ok(tally.totals(objective))
            });
            totals.await.map(|(totals, _)| (index, totals))
        });
    }
    let mut kept = [false; LEVELS.len()];
    while let Some(level) = levels.join_next().await {
        let (index, totals) = level.context("a calibration task")??;
        kept[index] = totals.p99_ms <= objective.as_secs_f64() * 1e3 && totals.unsent + totals.aborted == 0;
    }
    // A level that keeps it above one that does not is luck.
    let passed = kept.iter().take_while(|kept| **kept).count();
    Ok(passed.checked_sub(1).map(|highest| LEVELS[highest]))
}

// Closed loop with more clients than slots: the slots are always full.
async fn saturate(deployment: Deployment, groups: &Groups) -> Result<(f64, Duration)> {
    let clients = deployment.behaviour.slots * 2;
    let (rate_and_count, cpu) = one_worker(deployment, groups, |balancer| async move {
        let starts = Instant::now() + WARM_UP;
        let mut tasks = JoinSet::new();
        for _ in 0..clients {
            let balancer = Arc::clone(&balancer);
            tasks.spawn(async move {
                let lease = balancer.pick().context("no worker")?;
                let mut connection = lease.connection().await?;
                let (mut all, mut counted) = (0u64, 0u64);
                while starts.elapsed() < SATURATED {
                    connection.send().await?;
                    connection.receive().await?;
                    all += 1;
                    let in_time = Instant::now() >= starts && starts.elapsed() < SATURATED;
                    counted += u64::from(in_time);
                }
                anyhow::Ok((all, counted))
            });
        }
        let (mut all, mut counted) = (0, 0);
        while let Some(client) = tasks.join_next().await {
            let (of_all, of_counted) = client.context("a calibration task")??;
            all += of_all;
            counted += of_counted;
        }
        Ok((all, counted as f64 / SATURATED.as_secs_f64()))
    })
    .await?;
    let (requests, rate) = rate_and_count;
    ensure!(requests > 0 && rate > 0.0, "a saturated worker answered nothing");
    Ok((rate, cpu.div_f64(requests as f64)))
}

// Runs `work` on a single worker; returns its result and the CPU time that the worker used meanwhile.
async fn one_worker<T, F: Future<Output = Result<T>>>(
    deployment: Deployment,
    groups: &Groups,
    work: impl FnOnce(Arc<Balancer>) -> F,
) -> Result<(T, Duration)> {
    let balancer = Arc::new(Balancer::default());
    let supervisor = Supervisor::new(deployment, groups.clone(), Arc::clone(&balancer));
    let start =
        |replicas| supervisor.scale(replicas, None).map_err(|_| anyhow::anyhow!("nobody else scales here"));
    start(1)?;
    supervisor.wait(Duration::from_secs(30), |census| census.ready == 1).await?;
    let group = supervisor.workload().1.pods.first().map(|pod| format!("pod{}", pod.uid)).unwrap_or_default();
    let before = groups.cpu_time(&group)?;
    let result = work(balancer).await?;
    let used = groups.cpu_time(&group)?.saturating_sub(before);
    start(0)?;
    supervisor.wait(Duration::from_secs(30), |census| census.existing + census.leaving == 0).await?;
    Ok((result, used))
}
