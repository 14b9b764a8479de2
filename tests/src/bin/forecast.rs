//! `cargo xtask forecast`: predictions for a directory of traces, to be scored by `evaluate.py`.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use clap::builder::PossibleValuesParser;
use prescale_models::choice::Choice as Models;
use prescale_models::neural::{CoreKind, Network, NetworkSettings, shipped_as};
use prescale_models::trees::{Booster, FEATURES};
use prescale_models::{Holidays, ModelKind};
use prescale_tests::forecast::anomalies::{self, Alarms};
use prescale_tests::forecast::cold;
use prescale_tests::forecast::drift::{self, Demotions};
use prescale_tests::forecast::maxima::{self, Marks};
use prescale_tests::forecast::metrics::{Metrics, naive_error, relative};
use prescale_tests::forecast::protocol::Protocol;
use prescale_tests::forecast::run::{Choice, Fitted, HEADER, Row, run, write};
use prescale_tests::forecast::trace::{Trace, files};
use prescale_tests::train::data::training_part;
use prescale_tests::train::trees::Lessons;

/// Forecasts every trace of a directory at the origins of evaluate.py's protocol and writes the predictions.
///
/// Each model reads the trace bin by bin and is asked at an origin before it sees the next bin. Score the file with
/// `evaluate.py score OUT.csv`.
#[derive(Parser)]
#[command(name = "forecast", bin_name = "cargo xtask forecast")]
struct Arguments {
    /// Directory with the traces: `*.csv.gz`, columns `timestamp,value`, counts per bin.
    #[arg(long, value_name = "DIR")]
    traces: PathBuf,
    /// Where the predictions go: CSV with trace, origin, horizon, quantile, value.
    #[arg(long, value_name = "FILE", required_unless_present_any = ["maxima", "anomalies", "cold_start", "drift"])]
    out: Option<PathBuf>,
    /// Instead of writing predictions, print how well the largest bin of the next 60 and 120 s is forecast on the
    /// traces of bins under a minute: q95's coverage and the provisioning loss, beside two-minute linear's.
    #[arg(long)]
    maxima: bool,
    /// Instead of writing predictions, print how many bins of each test part the anomaly filter keeps from learning (floods,
    /// synthetic loads, faults) and from acting.
    #[arg(long)]
    anomalies: bool,
    /// Instead of writing predictions, print how well fresh models forecast in their first hour and in the five after it
    /// on the traces whose test part is long enough: the loss as a share of tuned smoothing's.
    #[arg(long)]
    cold_start: bool,
    /// Instead of writing predictions, print how often the head of the cluster ensemble is demoted for having begun to hurt,
    /// over the whole of each trace of bins of a minute and more.
    #[arg(long)]
    drift: bool,
    /// The ensemble (`cluster` in the aggregator, `node` in an agent) or one expert alone; `help` lists them.
    #[arg(long, default_value = "cluster", value_parser = PossibleValuesParser::new(Choice::all().map(Choice::name)))]
    model: String,
    /// With `--model cluster`: of these models, as the aggregator's --models names them. Among them, or alone, `node_merge` is
    /// what three nodes say of the load that each request of a trace of seconds brings one of them.
    #[arg(long, value_name = "NAME,…", value_parser = models, default_value_t = Models::default())]
    models: Models,
    /// Days that the models which read them are told of beforehand, as the aggregator's --holidays names them.
    #[arg(long, value_name = "FILE")]
    holidays: Option<PathBuf>,
    /// With `--model trees`: for each trace trees that were fitted on its own training part alone, instead of those that ship.
    #[arg(long)]
    own: bool,
    /// Only traces whose name contains this.
    #[arg(long, value_name = "TEXT", default_value = "")]
    only: String,
    /// Weights of the network or the trees (safetensors, by `cargo xtask train`) instead of the shipped ones.
    #[arg(long, value_name = "FILE")]
    weights: Option<PathBuf>,
}

const TREES: Choice = Choice::Single(ModelKind::Trees);

fn main() -> Result<()> {
    if asks_for_models() {
        let names: Vec<&str> = Choice::all().map(Choice::name).collect();
        return writeln!(std::io::stdout(), "{}", names.join("\n")).context("print the models");
    }
    let arguments = Arguments::parse();
    let choice = Choice::all().find(|c| c.name() == arguments.model).context("clap has checked the name")?;
    let mut fitted = Fitted { network: shipped_as(choice.core()), ..Fitted::default() };
    if let Some(path) = &arguments.weights {
        let bytes = std::fs::read(path).with_context(|| format!("read {}", path.display()))?;
        let of = || format!("weights of {}", path.display());
        if choice == TREES {
            fitted.trees = Some(Arc::new(Booster::load(&bytes, FEATURES).with_context(of)?));
        } else {
            let network = Network::load(NetworkSettings::of(choice.core()), &bytes);
            fitted.network = Arc::new(network.with_context(of)?);
        }
    }
    ensure!(
        choice == Choice::Cluster(CoreKind::Gru) || arguments.models == Models::default(),
        "--models is about --model cluster"
    );
    fitted.models = arguments.models.clone();
    if let Some(path) = &arguments.holidays {
        let reads = match choice {
            Choice::Cluster(CoreKind::Gru) => fitted.models.reads_holidays(),
            Choice::Single(kind) => kind.reads_holidays(),
            _ => false,
        };
        ensure!(reads, "--holidays: {} reads none; prophet and prophet_lstm do", choice.name());
        let holidays = holidays(path).with_context(|| format!("--holidays {}", path.display()))?;
        fitted.models = fitted.models.with_holidays(holidays);
    }
    if arguments.anomalies {
        return print_anomalies(&arguments);
    }
    if arguments.maxima {
        return print_maxima(&arguments, choice, &fitted);
    }
    if arguments.cold_start {
        return print_cold_start(&arguments, choice, &fitted);
    }
    if arguments.drift {
        return print_drift(&arguments, &fitted);
    }
    let out = arguments.out.as_deref().context("clap asks for --out")?;
    let file = File::create(out).with_context(|| format!("create {}", out.display()))?;
    let mut out = BufWriter::new(file);
    writeln!(out, "{HEADER}")?;
    let files = files(&arguments.traces)?;
    ensure!(!arguments.own || choice == TREES, "--own is about --model trees");
    let begin_all = Instant::now();
    // Of traces of bins under a minute, and of the others.
    let mut coverages = [Vec::new(), Vec::new()];
    for (i, path) in files.iter().enumerate() {
        let trace = Trace::read(path)?;
        if !trace.name.contains(&arguments.only) {
            continue;
        }
        if arguments.own {
            let begin = Instant::now();
            fitted.trees = Some(Lessons::read(&[training_part(&trace)?], 0.0)?.fit());
            eprintln!("fitted on its own training part in {:.1?}", begin.elapsed());
        }
        let begin = Instant::now();
        let (rows, cost) = run(&trace, choice, &fitted)?;
        write(&trace, &rows, &mut out)?;
        let seconds = begin.elapsed().as_secs_f64();
        let each = seconds * 1e6 / cost.bins as f64;
        let coverage = coverage95(&trace, &rows);
        coverages[usize::from(trace.step_seconds >= 60)].push(coverage);
        eprintln!(
            "{:>2}/{} {:<24} {:>7} bins in {seconds:5.2} s, {each:5.2} µs a bin, {:>4} KiB, q95 {coverage:.3}",
            i + 1,
            files.len(),
            trace.name,
            cost.bins,
            cost.memory_bytes / 1024,
        );
    }
    out.flush().context("write the predictions")?;
    for (what, of) in ["under a minute", "of a minute and more"].into_iter().zip(&coverages) {
        let mean = of.iter().sum::<f64>() / of.len().max(1) as f64;
        eprintln!("q95 coverage of {} traces of bins {what}: {mean:.3} in the mean", of.len());
    }
    eprintln!("all in {:.0} s", begin_all.elapsed().as_secs_f64());
    Ok(())
}

/// Share of the outcomes at or below the 95 % quantile, as `evaluate.py` has it.
fn coverage95(trace: &Trace, rows: &[Row]) -> f64 {
    let outcome = |row: &Row| trace.counts[row.origin + (row.horizon / trace.step_seconds) as usize];
    let pairs: Vec<_> = rows.iter().map(|row| (outcome(row), row.quantiles)).collect();
    Metrics::of(&pairs, naive_error(trace, &Protocol::of(trace))).coverage95
}

#[allow(clippy::print_stdout, reason = "the table is what was asked for")]
fn print_maxima(arguments: &Arguments, choice: Choice, fitted: &Fitted) -> Result<()> {
    println!("trace,span_seconds,model,forecasts,q95_coverage,provisioning_loss");
    for path in files(&arguments.traces)? {
        let trace = Trace::read(&path)?;
        if !trace.name.contains(&arguments.only) || trace.step_seconds >= 60 {
            continue;
        }
        for choice in [choice, Choice::Single(ModelKind::LinearTwoMinutes)] {
            let marks = maxima::score(&trace, choice, fitted)?;
            for (span, Marks { covered, provisioning, count }) in maxima::SPANS.iter().zip(marks) {
                println!("{},{span},{},{count},{covered:.3},{provisioning:.3}", trace.name, choice.name());
            }
        }
    }
    Ok(())
}

#[allow(clippy::print_stdout, reason = "the table is what was asked for")]
fn print_anomalies(arguments: &Arguments) -> Result<()> {
    println!("trace,bins,flood,synthetic,fault,held");
    for path in files(&arguments.traces)? {
        let trace = Trace::read(&path)?;
        if trace.name.contains(&arguments.only) {
            let Alarms { bins, skipped: [flood, synthetic, fault], held } = anomalies::count(&trace);
            println!("{},{bins},{flood},{synthetic},{fault},{held}", trace.name);
        }
    }
    Ok(())
}

#[allow(clippy::print_stdout, reason = "the table is what was asked for")]
fn print_cold_start(arguments: &Arguments, choice: Choice, fitted: &Fitted) -> Result<()> {
    let model = choice.name();
    println!("trace,{model}_first_hour,{model}_next_five_hours");
    // Of traces of bins under a minute, and of the others, by the part of the history.
    let mut all = [[Vec::new(), Vec::new()], [Vec::new(), Vec::new()]];
    for path in files(&arguments.traces)? {
        let trace = Trace::read(&path)?;
        if !trace.name.contains(&arguments.only) {
            continue;
        }
        let smoothing = Choice::Single(ModelKind::TunedSmoothing);
        let own = cold::score(&trace, choice, fitted)?;
        let Some((own, other)) = own.zip(cold::score(&trace, smoothing, fitted)?) else { continue };
        let ratios = [0, 1].map(|part| relative(&own[part..=part], &other[part..=part]));
        println!("{},{:.3},{:.3}", trace.name, ratios[0], ratios[1]);
        let all = &mut all[usize::from(trace.step_seconds >= 60)];
        for (all, pair) in all.iter_mut().zip(own.into_iter().zip(other)) {
            all.push(pair);
        }
    }
    for (what, parts) in ["under a minute", "of a minute and more"].into_iter().zip(all) {
        let count = parts[0].len();
        let means = parts.map(|pairs| {
            let (own, other): (Vec<f64>, Vec<f64>) = pairs.into_iter().unzip();
            relative(&own, &other)
        });
        if count > 0 {
            println!("geometric mean of {count} of bins {what},{:.4},{:.4}", means[0], means[1]);
        }
    }
    Ok(())
}

#[allow(clippy::print_stdout, reason = "the table is what was asked for")]
fn print_drift(arguments: &Arguments, fitted: &Fitted) -> Result<()> {
    println!("trace,bin_seconds,bins,admitted,demoted,demotions,demotions_per_day");
    for path in files(&arguments.traces)? {
        let trace = Trace::read(&path)?;
        let step = trace.step_seconds;
        if trace.name.contains(&arguments.only) && step >= 60 {
            let Demotions { bins, admitted, demoted, demotions } = drift::count(&trace, fitted)?;
            let per_day = f64::from(demotions) / (bins as f64 * f64::from(step) / 86_400.0);
            println!("{},{step},{bins},{admitted},{demoted},{demotions},{per_day:.3}", trace.name);
        }
    }
    Ok(())
}

fn holidays(path: &Path) -> Result<Holidays> {
    let named: BTreeMap<String, Vec<String>> = serde_json::from_slice(&std::fs::read(path)?)?;
    Ok(Holidays::of(named)?)
}

fn models(text: &str) -> Result<Models, String> {
    Models::of(text.split(',').map(str::trim)).map_err(|unfit| unfit.to_string())
}

/// `--model help`, which needs no traces.
fn asks_for_models() -> bool {
    let arguments: Vec<String> = std::env::args().collect();
    arguments.windows(2).any(|pair| pair == ["--model", "help"])
        || arguments.iter().any(|a| a == "--model=help")
}
