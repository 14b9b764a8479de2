//! What the program does beside its service: errands of the chart's Jobs, each run once to the end.

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use prescale_shell::client::{Access, Client, Limits, said};
use prescale_shell::log::LogArgs;
use prescale_shell::tls::TrustArgs;

use crate::target;

/// Something to do once, instead of serving.
#[derive(clap::Subcommand, Debug)]
pub enum Errand {
    /// Ask aggregators whether they are ready and hear from every agent; waits for it, a minute at most
    Check {
        /// Each a running aggregator: `https://HOST:PORT`, or `http://`
        #[arg(required = true, value_name = "URL")]
        aggregators: Vec<String>,
        /// Whom to believe.
        #[command(flatten)]
        trust: TrustArgs,
        /// The log.
        #[command(flatten)]
        log: LogArgs,
    },
    /// Give the minimums of HPAs and ScaledObjects that Prescale has raised back, whatever is needed: before an uninstall
    RestoreFloors {
        /// Scale this StatefulSet of our own namespace (POD_NAMESPACE) to 0 first: a running aggregator would raise them
        /// again
        #[arg(long, value_name = "NAME")]
        stop: Option<String>,
        /// Only in this namespace; may be given several times. Without it, everywhere
        #[arg(long, value_name = "NAMESPACE")]
        namespace: Vec<String>,
        /// The log.
        #[command(flatten)]
        log: LogArgs,
    },
}

/// New agents of a fresh installation report within seconds; image pulls of others are what takes long.
const PATIENCE: Duration = Duration::from_secs(60);
const AGAIN: Duration = Duration::from_secs(1);

/// Does it.
///
/// # Errors
/// What is wrong, in one sentence each.
pub async fn run(errand: Errand) -> anyhow::Result<()> {
    match errand {
        Errand::Check { aggregators, trust, log } => {
            log.start();
            let access = Access { token: None, trust: trust.open(&aggregators)? };
            let deadline = Instant::now() + PATIENCE;
            for aggregator in &aggregators {
                let client = Client::with_access(aggregator, Limits::default(), &access)?;
                let found = wait(&client, deadline).await.with_context(|| aggregator.clone())?;
                tracing::info!("{aggregator}: {found}");
            }
            Ok(())
        }
        Errand::RestoreFloors { stop, namespace, log } => {
            log.start();
            target::restore_floors(stop.as_deref(), &namespace).await
        }
    }
}

async fn wait(aggregator: &Client, deadline: Instant) -> anyhow::Result<String> {
    loop {
        let error = match look(aggregator).await {
            Ok(found) => return Ok(found),
            Err(error) => error,
        };
        if Instant::now() >= deadline {
            return Err(error);
        }
        tokio::time::sleep(AGAIN).await;
    }
}

async fn look(aggregator: &Client) -> anyhow::Result<String> {
    let ready = aggregator.get("/readyz").await.context("/readyz")?;
    ensure!(ready.status().is_success(), "not ready: {}", said(&ready));
    let metrics = aggregator.get("/metrics").await.context("/metrics")?;
    ensure!(metrics.status().is_success(), "/metrics: {}", said(&metrics));
    judge(&String::from_utf8_lossy(metrics.body()))
}

/// What the metrics say of the agents: some report, and none has fallen silent.
fn judge(metrics: &str) -> anyhow::Result<String> {
    let mut nodes = 0;
    for line in metrics.lines() {
        let Some(row) = line.strip_prefix("prescale_aggregator_report_stale{node=\"") else { continue };
        let Some((node, stale)) = row.split_once("\"} ") else { bail!("can't read `{line}`") };
        ensure!(stale.parse() == Ok(0.0), "the agent on {node} has not reported lately");
        nodes += 1;
    }
    ensure!(nodes > 0, "no agent has reported yet");
    Ok(format!("ready, the agents of {nodes} nodes report"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agents_are_needed_and_none_may_be_silent() {
        let row = |node: &str, stale: &str| {
            format!("prescale_aggregator_report_stale{{node=\"{node}\"}} {stale}\n")
        };
        assert!(judge("").unwrap_err().to_string().contains("no agent"));
        assert!(judge(&(row("a", "0.0") + &row("b", "0"))).unwrap().contains("2 nodes"));
        let silent = judge(&(row("a", "0.0") + &row("b", "1.0"))).unwrap_err().to_string();
        assert!(silent.contains("the agent on b"), "{silent}");
    }
}
