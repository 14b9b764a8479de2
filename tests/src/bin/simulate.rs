//! The simulator at the command line: a seeded day, policies, faults.
#![allow(clippy::print_stdout)]

use anyhow::{Result, bail};
use clap::{Parser, ValueEnum};
use prescale_tests::simulator::compare::{compare, table as table_of};
use prescale_tests::simulator::{Fault, FaultKind, Outcome, Policy, Scenario, Shape, run};

/// Run Prescale's own brains, and what they compete with, through a simulated day; same seed, same bytes.
///
/// A workload of some 75 requests/s, with a burst at the same time each morning and a new one in the afternoon, whose
/// pods take 30 s to start. The table says what each policy cost (pod-seconds) and what it missed (slow share).
///
///   cargo xtask simulate                                  one day, all policies
///   cargo xtask simulate --compare 3                      all load shapes, three seeds, all policies: one table
///   cargo xtask simulate --policy prescale --seed 7       one policy, another day
///   cargo xtask simulate --fault reports-stop --at 18     ten minutes without reports, from 18:00
///   cargo xtask simulate --shape noise --policy prescale  chance alone: how often does it scale up for nothing?
#[derive(Parser)]
#[command(name = "simulate", verbatim_doc_comment)]
struct Arguments {
    /// Draws the load, the bursts, the arrivals, the service times.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Who scales.
    #[arg(long, value_enum, default_value_t = Who::All)]
    policy: Who,
    /// What goes wrong (Prescale only: rivals have no reports to lose).
    #[arg(long, value_enum)]
    fault: Option<What>,
    /// When it goes wrong, hour of the day [default: at the load's peak, 15].
    #[arg(long)]
    at: Option<f64>,
    /// Hour of the day to start at.
    #[arg(long, default_value_t = 0.0)]
    from: f64,
    /// Hours to simulate.
    #[arg(long, default_value_t = 24.0)]
    hours: f64,
    /// What is asked of the workload.
    #[arg(long, value_enum, default_value_t = Shape::Day, conflicts_with = "compare")]
    shape: Shape,
    /// Load that one pod is planned for, requests/s (it serves at most 20).
    #[arg(long, default_value_t = 14.0)]
    rps_per_pod: f64,
    /// Seconds until a new pod serves.
    #[arg(long, default_value_t = 30.0)]
    start_up: f64,
    /// Times that a caller whose request failed tries again.
    #[arg(long, default_value_t = 0)]
    retries: u32,
    /// Callers that wait for each answer before they ask again, beside the open load.
    #[arg(long, default_value_t = 0)]
    closed_loop: u32,
    /// Compare all policies on all load shapes, each with so many seeds from `--seed` on; the table is Markdown.
    #[arg(long, value_name = "SEEDS")]
    compare: Option<u64>,
    /// Print one JSON line with all runs instead of table and pictures.
    #[arg(long)]
    json: bool,
    /// Also write minutes as CSV to this file.
    #[arg(long, value_name = "FILE")]
    csv: Option<std::path::PathBuf>,
}

#[derive(Clone, Copy, ValueEnum, PartialEq, Eq)]
enum Who {
    /// All of them, one after the other.
    All,
    /// Prescale, mode full.
    Prescale,
    /// The HPA on requests/s, with the target that Prescale's pods are planned for.
    Hpa,
    /// The HPA at 50 % of a pod's capacity.
    Hpa50,
    /// The HPA at 65 %.
    Hpa65,
    /// The HPA at 80 %.
    Hpa80,
    /// A fixed number: Prescale's mean in `all`, else what the mean load needs.
    Static,
    /// Two-minute linear extrapolation.
    Linear,
    /// The true load to come.
    Oracle,
}

#[derive(Clone, Copy, ValueEnum)]
enum What {
    /// No report arrives for ten minutes.
    ReportsStop,
    /// All agents write seconds where milliseconds belong, for ten minutes.
    WrongUnit,
    /// The aggregator starts anew.
    AggregatorRestart,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    if let Some(seeds) = arguments.compare {
        if !(1..=100).contains(&seeds) {
            bail!("--compare takes 1 to 100 seeds");
        }
        let seeds: Vec<u64> = (arguments.seed..arguments.seed + seeds).collect();
        let rows = compare(&Shape::ALL, &seeds, arguments.rps_per_pod);
        let text = if arguments.json { serde_json::to_string(&rows)? + "\n" } else { table_of(&rows) };
        print!("{text}");
        return Ok(());
    }
    let scenario = scenario(&arguments)?;
    let outcomes = outcomes(&arguments, &scenario);
    if let Some(path) = &arguments.csv {
        std::fs::write(path, outcomes.iter().map(Outcome::csv).collect::<String>())?;
    }
    if arguments.json {
        println!("{}", serde_json::to_string(&outcomes)?);
        return Ok(());
    }
    for outcome in &outcomes {
        println!("{}", outcome.picture(96));
    }
    print!("{}", table(&outcomes));
    Ok(())
}

fn scenario(arguments: &Arguments) -> Result<Scenario> {
    let mut scenario = Scenario::day(arguments.seed);
    if !(0.01..=168.0).contains(&arguments.hours) || !(0.0..24.0).contains(&arguments.from) {
        bail!("--hours goes from 0.01 to 168, --from from 0 to 24");
    }
    if !(0.1..=20.0).contains(&arguments.rps_per_pod) || !(1.0..=900.0).contains(&arguments.start_up) {
        bail!("--rps-per-pod goes from 0.1 to 20 (a pod serves at most 20), --start-up from 1 to 900");
    }
    scenario.start_seconds = (arguments.from * 3600.0) as u64;
    scenario.seconds = (arguments.hours * 3600.0) as u64;
    scenario.rps_per_pod = arguments.rps_per_pod;
    scenario.physics.start_up_seconds = arguments.start_up;
    scenario.physics.retries = arguments.retries;
    scenario.physics.closed_loop_callers = arguments.closed_loop;
    scenario.shape = arguments.shape;
    if let Some(what) = arguments.fault {
        let kind = match what {
            What::ReportsStop => FaultKind::ReportsStop,
            What::WrongUnit => FaultKind::WrongUnit,
            What::AggregatorRestart => FaultKind::AggregatorRestart,
        };
        let at = arguments.at.unwrap_or(15.0) - arguments.from;
        if !(0.0..arguments.hours).contains(&at) {
            bail!("the fault at {} h lies outside the simulated hours", at + arguments.from);
        }
        scenario.faults = vec![Fault { kind, at: (at * 3600.0) as u64 }];
    }
    Ok(scenario)
}

fn outcomes(arguments: &Arguments, scenario: &Scenario) -> Vec<Outcome> {
    let planned = scenario.rps_per_pod / scenario.capacity_rps();
    let mean = (scenario.mean_rps / scenario.rps_per_pod).ceil() as u32;
    let policies = match arguments.policy {
        Who::All => {
            let hpas = [planned, 0.5, 0.65, 0.8].map(Policy::Hpa);
            [Policy::Prescale].into_iter().chain(hpas).chain([Policy::Linear, Policy::Oracle]).collect()
        }
        Who::Prescale => vec![Policy::Prescale],
        Who::Hpa => vec![Policy::Hpa(planned)],
        Who::Hpa50 => vec![Policy::Hpa(0.5)],
        Who::Hpa65 => vec![Policy::Hpa(0.65)],
        Who::Hpa80 => vec![Policy::Hpa(0.8)],
        Who::Static => vec![Policy::Static(mean)],
        Who::Linear => vec![Policy::Linear],
        Who::Oracle => vec![Policy::Oracle],
    };
    let mut out: Vec<Outcome> = Vec::new();
    for policy in policies {
        eprintln!("simulating {} …", policy.name());
        out.push(run(scenario, policy));
    }
    if arguments.policy == Who::All {
        let mean = (out[0].pod_seconds / scenario.seconds as f64).round() as u32;
        out.push(run(scenario, Policy::Static(mean.max(1))));
    }
    out
}

fn table(outcomes: &[Outcome]) -> String {
    let head =
        ["policy", "slow share", "p99 s", "pod-seconds", "scale events", "ups", "failed", "recovered s"];
    let mut out = format!(
        "{:<10} {:>10} {:>8} {:>12} {:>12} {:>5} {:>7} {:>11}\n",
        head[0], head[1], head[2], head[3], head[4], head[5], head[6], head[7]
    );
    for o in outcomes {
        let recovered = o.recovered_after_seconds.map_or("-".to_owned(), |s| s.to_string());
        out.push_str(&format!(
            "{:<10} {:>9.4}% {:>8.3} {:>12.0} {:>12} {:>5} {:>7} {recovered:>11}\n",
            o.policy,
            o.slow_share * 100.0,
            o.p99_seconds,
            o.pod_seconds,
            o.scale_events,
            o.scale_ups,
            o.failed
        ));
    }
    out
}
