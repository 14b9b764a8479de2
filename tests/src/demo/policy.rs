//! The rivals: the HPA's rule on the demo's counters.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use prescale_core::Mono;
use prescale_core::hpa::{Hpa, HpaInputs, HpaSettings, Metric};

use super::supervisor::Supervisor;

/// Requests started so far, and when by the counter's own clock.
#[derive(Clone, Copy, Debug)]
pub struct Reading {
    /// Cumulative, over all pods that are or were.
    pub starts: u64,
    /// Monotonic.
    pub at: Instant,
}

/// Scales `supervisor` as an HPA with an AverageValue target of `target_rps` requests/s per pod and no `behavior`
/// would, every period divided by `speed`. It sees the rate between its runs: no scrape interval, no averaging window.
///
/// # Errors
/// `read` fails.
pub async fn hpa(
    supervisor: &Arc<Supervisor>,
    target_rps: f64,
    speed: f64,
    read: impl AsyncFn() -> Result<Reading>,
) -> Result<()> {
    let settings = supervisor.workload().1.settings;
    let mut hpa = Hpa::new(HpaSettings::legacy(settings.min_replicas, settings.max_replicas));
    let period = Duration::from_secs_f64(hpa.settings().sync_period_seconds / speed);
    let starts = Instant::now();
    let mut before = read().await?;
    loop {
        // The controller's period runs from the end of one reconcile to the start of the next.
        tokio::time::sleep(period).await;
        let now = read().await?;
        let seconds = (now.at - before.at).as_secs_f64();
        let rate = (seconds > 0.0).then(|| now.starts.saturating_sub(before.starts) as f64 / seconds);
        before = now;
        let (census, version) = (supervisor.census(), supervisor.workload().1.resource_version);
        let metrics = [Metric::average_value(target_rps, rate)];
        let inputs = HpaInputs {
            replicas: census.wanted,
            status_replicas: census.existing,
            ready_pods: census.ready,
            metrics: &metrics,
        };
        let compressed = Mono((starts.elapsed().as_secs_f64() * speed * 1e9) as u64);
        let outcome = hpa.reconcile(compressed, &inputs);
        if outcome.replicas != census.wanted {
            let written = supervisor.scale(outcome.replicas, Some(version));
            written.map_err(|_| anyhow!("somebody else scales while the HPA does"))?;
        }
    }
}
