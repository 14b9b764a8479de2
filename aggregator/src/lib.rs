//! The aggregator: merges reports, forecasts, plans, applies, explains. The library is for the binary and its tests.

pub mod api;
pub mod comparison;
pub mod control;
pub mod errand;
pub mod flags;
pub mod history;
pub mod holidays;
pub mod ingest;
pub mod metrics;
pub mod page;
pub mod predict;
pub mod review;
pub mod state;
pub mod target;
pub mod training;

use std::fs::File;
use std::io::BufReader;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context as _;
use prescale_core::choices::Choices;
use prescale_core::cluster::{Cluster, ClusterSettings};
use prescale_models::Holidays;
use prescale_shell::client::{Access, Client};
use prescale_shell::clock::Clock;
use prescale_shell::server::{self, bind, serve};
use prescale_shell::signals::Shutdown;
use prescale_shell::tls::{Identity, TrustArgs};
use prescale_shell::token::TokenFile;

use api::{Api, Door, PageAccess};
use comparison::Comparison;
use control::checkpoints::Source;
use control::{Parts, Running};
use flags::Flags;
use ingest::Ingest;
use metrics::Metrics;
use predict::Predict;
use state::State;
use state::peers::{self, Peer};
use target::Target;
use training::{Training, TrainingSettings};

/// Runs until SIGTERM or SIGINT: takes no new request, answers what is in flight, waits for writes under way.
///
/// # Errors
/// One sentence on what kept it from starting.
pub async fn run(flags: Flags) -> anyhow::Result<()> {
    flags.check()?;
    let shutdown = Shutdown::on_signals()?;
    let peer_token = flags.peer_token_file.or_else(|| flags.token_file.clone());
    let peer_token = peer_token.map(TokenFile::open).transpose()?;
    let token = flags.token_file.map(TokenFile::open).transpose()?;
    let identity = match (flags.tls_cert, flags.tls_key) {
        (Some(certificate), Some(key)) => {
            Some(Identity::open(certificate, key).context("--tls-cert and --tls-key")?)
        }
        _ => None,
    };
    let reviewer = match &flags.review_tokens_of {
        Some(account) => Some(review::Reviewer::new(account, flags.review_peers_of.as_deref()).await?),
        None => None,
    };
    let holidays = match &flags.holidays {
        Some(path) => holidays::read(path).with_context(|| format!("--holidays {}", path.display()))?,
        None => Holidays::default(),
    };
    let target = Arc::new(Target::new(&flags.target).await?);
    let dir = flags.state_dir.as_deref();
    let state = Arc::new(State::open(dir).with_context(|| match dir {
        Some(dir) => format!("--state-dir {}", dir.display()),
        None => "no --state-dir".into(),
    })?);
    if flags.own_trees == 0 {
        state.weights().set_own(Vec::new()).context("--own-trees 0: those that were kept stay behind")?;
    }
    let clock = flags.clock.start();
    let page_token = flags.page_token_file.map(TokenFile::open).transpose()?;
    let metrics = Arc::new(Metrics::default());
    let trust = TrustArgs { tls_ca: flags.peer_ca, allow_plain_http: flags.allow_plain_http };
    let access = Access { token: peer_token, trust: trust.open(&flags.peer).context("--peer-ca")? };
    let own = std::env::var("POD_NAME").ok();
    let others = flags.peer.iter().filter(|url| !peers::is_of(url, own.as_deref()));
    let peers =
        others.map(|url| Ok(Peer::new(Client::with_access(url, Peer::limits(), &access).context("--peer")?)));
    let mut peers: Vec<Peer> = peers.collect::<anyhow::Result<_>>()?;
    // Before it listens itself: two replicas that start together would wait for each other.
    let taken = tokio::select! {
        taken = peers::take_at_start(&mut peers, &state, &metrics) => taken,
        () = shutdown.requested() => false,
    };
    let listener = bind(flags.listen).await?;
    let page_listener = match flags.page_listen {
        Some(page) => Some(bind(page).await?),
        None => None,
    };
    let address = listener.local_addr().context("can't tell where it listens")?;

    let models = Choices::new(flags.models_for, flags.models).with_holidays(&holidays);
    let kinds = models.weights();
    let mut cluster = Cluster::new(ClusterSettings {
        clock_speed: clock.speed(),
        models,
        weights: state.weights().running(),
        ..ClusterSettings::default()
    });
    if let Some(path) = &flags.history {
        import(&mut cluster, &clock, path, &shutdown)
            .with_context(|| format!("--history {}", path.display()))?;
    }
    let parts = Parts {
        cluster,
        clock,
        target: Arc::clone(&target),
        metrics: Arc::clone(&metrics),
        state: Arc::clone(&state),
        source: if taken { Source::Leader } else { Source::Store },
    };
    let (running, control_loop) = control::start(parts, shutdown.clone())?;
    let Running { control, lists, health } = running;
    let training = Training::new(
        TrainingSettings {
            kinds,
            at: flags.train_at,
            share: flags.train_cpu_share,
            own_trees: flags.own_trees,
        },
        clock,
        control.clone(),
        Arc::clone(&state),
        Arc::clone(&metrics),
        shutdown.clone(),
    );
    tokio::spawn(training.clone().nightly());
    if !peers.is_empty() {
        let follow = peers::follow(peers, Arc::clone(&state), Arc::clone(&metrics), training.clone());
        let stop = shutdown.clone();
        // It holds a way to the loop, which ends when the last of them is dropped.
        tokio::spawn(async move {
            tokio::select! {
                () = follow => {}
                () = stop.requested() => {}
            }
        });
    }
    let api = Arc::new(Api {
        ingest: Ingest { token, reviewer, control, lists, shutdown: shutdown.clone() },
        metrics,
        health,
        target_name: flags.target.to_string(),
        comparison: Comparison(flags.comparison),
        predict: Predict::new(shutdown.clone()),
        training,
        state,
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
            let limits = server::Limits { body_bytes: predict::MAX_BODY_BYTES, ..server::Limits::default() };
            serve(listener, people, limits, shutdown.clone()).await;
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
/// Clocks differ by less, and a demo's history reaches to its live part; time zones differ by more.
const MAX_AHEAD_SECONDS: i64 = 20 * 60;

fn import(cluster: &mut Cluster, clock: &Clock, path: &Path, shutdown: &Shutdown) -> anyhow::Result<()> {
    let began = Instant::now();
    let file = File::open(path).context("can't open it")?;
    let bytes = file.metadata().context("can't read it")?.len();
    anyhow::ensure!(bytes <= MAX_HISTORY_BYTES, "{bytes} bytes; at most {MAX_HISTORY_BYTES}");
    let history = history::read(BufReader::new(file))?;
    let read = began.elapsed();
    let now = clock.now().wall;
    let newest = history.values().filter_map(|bins| bins.bins.last()).map(|(at, _)| *at).max();
    let ahead = newest.map_or(0, |at| at.unix_seconds() - now.unix_seconds());
    if ahead > MAX_AHEAD_SECONDS {
        anyhow::bail!("its newest bin begins {ahead} s from now: want the past, in UTC");
    }
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
