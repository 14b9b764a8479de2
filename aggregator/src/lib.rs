//! The aggregator: merges reports, forecasts, plans, applies, explains. The library is for the binary and its tests.

pub mod api;
pub mod comparison;
pub mod control;
pub mod errand;
pub mod flags;
pub mod history;
pub mod ingest;
pub mod metrics;
pub mod page;
pub mod review;
pub mod target;

use std::fs::File;
use std::io::BufReader;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context as _;
use prescale_core::cluster::{Cluster, ClusterSettings};
use prescale_shell::clock::Clock;
use prescale_shell::server::{self, bind, serve};
use prescale_shell::signals::Shutdown;
use prescale_shell::tls::Identity;
use prescale_shell::token::TokenFile;

use api::{Api, Door, PageAccess};
use comparison::Comparison;
use control::{Parts, Running};
use flags::Flags;
use ingest::Ingest;
use metrics::Metrics;
use target::Target;

/// Runs until SIGTERM or SIGINT: takes no new request, answers what is in flight, waits for writes under way.
///
/// # Errors
/// One sentence on what kept it from starting.
pub async fn run(flags: Flags) -> anyhow::Result<()> {
    flags.check()?;
    let shutdown = Shutdown::on_signals()?;
    let token = flags.token_file.map(TokenFile::open).transpose()?;
    let identity = match (flags.tls_cert, flags.tls_key) {
        (Some(certificate), Some(key)) => {
            Some(Identity::open(certificate, key).context("--tls-cert and --tls-key")?)
        }
        _ => None,
    };
    let reviewer = match &flags.review_tokens_of {
        Some(account) => Some(review::Reviewer::new(account).await?),
        None => None,
    };
    let target = Arc::new(Target::new(&flags.target).await?);
    let clock = flags.clock.start();
    let page_token = flags.page_token_file.map(TokenFile::open).transpose()?;
    let listener = bind(flags.listen).await?;
    let page_listener = match flags.page_listen {
        Some(page) => Some(bind(page).await?),
        None => None,
    };
    let address = listener.local_addr().context("can't tell where it listens")?;

    let mut cluster =
        Cluster::new(ClusterSettings { clock_speed: clock.speed(), ..ClusterSettings::default() });
    if let Some(path) = &flags.history {
        import(&mut cluster, &clock, path, &shutdown)
            .with_context(|| format!("--history {}", path.display()))?;
    }
    let metrics = Arc::new(Metrics::default());
    let parts = Parts { cluster, clock, target: Arc::clone(&target), metrics: Arc::clone(&metrics) };
    let (Running { control, lists, target: health }, control_loop) = control::start(parts, shutdown.clone());
    let api = Arc::new(Api {
        ingest: Ingest { token, reviewer, control, lists, shutdown: shutdown.clone() },
        metrics,
        target: health,
        target_name: flags.target.to_string(),
        comparison: Comparison(flags.comparison),
    });
    let page = match (&page_listener, page_token) {
        (Some(_), _) => PageAccess::Elsewhere,
        (None, Some(secret)) => PageAccess::Secret(secret),
        (None, None) => PageAccess::Open,
    };
    let agents = Door { api: Arc::clone(&api), agents: true, page };
    let people = Door { api, agents: false, page: PageAccess::Open };
    let scheme = if identity.is_some() { "https" } else { "http" };
    match page_listener
        .as_ref()
        .map(|it| it.local_addr())
        .transpose()
        .context("can't tell where it listens")?
    {
        None => tracing::info!(
            "listening on {scheme}://{address} for agents, people and Prometheus; scaling {}",
            flags.target
        ),
        Some(page) => tracing::info!(
            "listening on {scheme}://{address} for agents and Prometheus, on http://{page} for people; scaling {}",
            flags.target
        ),
    }
    let serve_people = async {
        if let Some(listener) = page_listener {
            serve(listener, people, server::Limits::default(), shutdown.clone()).await;
        } else {
            drop(people);
        }
    };
    // The servers drop the last ways to the loop when they end; that ends the loop.
    let door = server::Door::new(listener, identity);
    tokio::join!(serve(door, agents, api::limits(), shutdown.clone()), serve_people);
    control_loop.await.context("the control loop failed")?;
    target.close().await;
    tracing::info!("stopped");
    Ok(())
}

/// Largest history file: `history::MAX_LINES` lines of usual length.
const MAX_HISTORY_BYTES: u64 = 512 * 1024 * 1024;

fn import(cluster: &mut Cluster, clock: &Clock, path: &Path, shutdown: &Shutdown) -> anyhow::Result<()> {
    let began = Instant::now();
    let file = File::open(path).context("can't open it")?;
    let bytes = file.metadata().context("can't read it")?.len();
    anyhow::ensure!(bytes <= MAX_HISTORY_BYTES, "{bytes} bytes; at most {MAX_HISTORY_BYTES}");
    let history = history::read(BufReader::new(file))?;
    let read = began.elapsed();
    for (id, bins) in &history {
        // A workload takes a second or two; nobody waits longer for the end.
        if shutdown.is_requested() {
            return Ok(());
        }
        let began = Instant::now();
        cluster.import(clock.now(), id, &bins.bins);
        tracing::info!(
            "imported the history of {}/{}: {} bins of {} s in {:.1} s",
            id.namespace,
            id.name,
            bins.bins.len(),
            bins.step_seconds,
            began.elapsed().as_secs_f64()
        );
    }
    tracing::info!(
        "imported the history of {} workloads in {:.1} s, of which reading took {:.1} s",
        history.len(),
        began.elapsed().as_secs_f64(),
        read.as_secs_f64()
    );
    Ok(())
}
