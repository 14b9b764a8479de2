//! The demo: Prescale's agent, aggregator and eBPF object on one machine, on a real HTTP service whose worker
//! processes are the replicas, against the HPA's rule on the same seeded load.
//!
//! The way of a run: `stage` (what is fixed) → `calibrate` → `run` (`supervisor` owns the `worker` processes,
//! `load` plays the `week` over the `balancer`, `policy` is the HPA) → `report`. `guard` cleans up after everything.

pub mod api;
pub mod balancer;
pub mod calibrate;
pub mod cgroup;
pub mod client;
pub mod guard;
pub mod instruments;
pub mod load;
pub mod machine;
pub mod options;
pub mod policy;
pub mod random;
pub mod report;
pub mod run;
pub mod stage;
pub mod supervisor;
pub mod week;
pub mod worker;

use anyhow::{Context, Result, bail};
use prescale_core::world::Mode;
use prescale_shell::signals::Shutdown;

use cgroup::{Groups, Mounts};
use guard::{Belongings, Guard};
use instruments::Program;
use options::{Options, Policy};
use report::Run;
use stage::{OBJECTIVE, Stage};

/// Runs the whole demo.
///
/// # Errors
/// One sentence about what is missing or went wrong; everything is cleaned up by then.
pub async fn show(options: Options) -> Result<()> {
    options.check()?;
    machine::prepare()?;
    let mounts = Mounts::find()?;
    cgroup::remove_abandoned(&mounts)?;
    let shutdown = Shutdown::on_signals()?;
    let groups = Groups::new(&mounts);
    let files = std::env::temp_dir().join(format!("{}{}", cgroup::PREFIX, std::process::id()));
    let stage = Stage::new(options, groups, files)?;
    // The guard is there before what it removes.
    let belongings = Belongings { cgroups: stage.groups.all(), files: stage.files.clone() };
    let guard = Guard::start(&stage.program("demo_guard")?, &belongings)?;
    let outcome = play(&stage, &shutdown).await;
    let cleaned = guard.finish();
    outcome.and(cleaned)
}

async fn play(stage: &Stage, shutdown: &Shutdown) -> Result<()> {
    stage.groups.create()?;
    std::fs::create_dir(&stage.files).with_context(|| format!("making {}", stage.files.display()))?;
    say("measuring what one worker can do …");
    let calibration = || stage.deployment(Mode::Observe, None).expect("the programs were there a moment ago");
    let capacity = tokio::select! {
        capacity = calibrate::measure(calibration, &stage.groups, OBJECTIVE, stage.options.seed) => capacity?,
        () = shutdown.requested() => bail!("stopped"),
    };
    say(&stage.introduction(capacity));
    if !stage.options.headless {
        say(&format!("the page: http://{}/", stage.options.listen));
    }
    let mut runs = Vec::new();
    let mut showing: Option<Program> = None;
    for (number, policy) in stage.options.policies.iter().copied().enumerate() {
        let replicas = match policy {
            Policy::Static => runs
                .iter()
                .find(|run: &&Run| run.policy == Policy::Prescale)
                .map_or(1, |run| run.mean_replicas.round().max(1.0) as u32),
            Policy::Prescale | Policy::Hpa(_) => stage.start_replicas(capacity),
        };
        // Each run has an aggregator of its own; the last one's goes on showing the page.
        if let Some(aggregator) = showing.take() {
            aggregator.stop().await?;
        }
        let (run, aggregator) = run::run(stage, capacity, (number, policy), replicas, shutdown).await?;
        runs.push(run);
        showing = Some(aggregator);
        write_comparison(stage, &runs)?;
    }
    for paragraph in report::closing(&runs) {
        say(&paragraph);
    }
    let line = report::Line::new(stage.options.seed, stage.options.speed, &runs);
    if stage.options.json {
        say(&line.json()?);
    }
    if !stage.options.headless {
        say(&format!("the page stays up: http://{}/ (Ctrl-C ends it)", stage.options.listen));
        shutdown.requested().await;
    }
    if let Some(aggregator) = showing {
        aggregator.stop().await?;
    }
    report::check(&runs)
}

// Written beside and renamed, so that the page never reads half of it.
fn write_comparison(stage: &Stage, runs: &[Run]) -> Result<()> {
    let line = report::Line::new(stage.options.seed, stage.options.speed, runs);
    let (path, fresh) = (stage.comparison(), stage.files.join("comparison.new"));
    std::fs::write(&fresh, line.json()?)
        .and_then(|()| std::fs::rename(&fresh, &path))
        .with_context(|| format!("writing {}", path.display()))
}

/// A line for people on standard output, at once.
pub(crate) fn say(line: &str) {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    // Whoever read it may be gone; the demo still has to clean up.
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}
