//! `cargo xtask evaluate`: every model on every trace of a directory, as a table and as an HTML report.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use clap::builder::PossibleValuesParser;
use prescale_models::ModelKind;
use prescale_models::neural::shipped_as;
use prescale_tests::forecast::metrics::{Metrics, naive_error};
use prescale_tests::forecast::protocol::Protocol;
use prescale_tests::forecast::report::{Entry, Report};
use prescale_tests::forecast::run::{Choice, Fitted, run};
use prescale_tests::forecast::trace::{Trace, files};
use prescale_tests::train::data::training_part;
use prescale_tests::train::trees::Lessons;

/// Scores models on every trace of a directory at the origins of evaluate.py's protocol.
///
/// Prints one line a model and writes an HTML report with plots. What is fitted is fitted on the bins before each
/// trace's test part. relWQL is relative to the model `last_value`, not to evaluate.py's baseline of that name.
#[derive(Parser)]
#[command(name = "evaluate", bin_name = "cargo xtask evaluate")]
struct Arguments {
    /// Directory with the traces: `*.csv.gz`, columns `timestamp,value`, counts per bin.
    #[arg(long, value_name = "DIR")]
    traces: PathBuf,
    /// Where the report goes.
    #[arg(long, value_name = "FILE", default_value = "evaluation.html")]
    report: PathBuf,
    /// Only these models, separated by commas; `last_value` is always among them.
    #[arg(long, value_name = "MODELS", value_delimiter = ',', value_parser = PossibleValuesParser::new(Choice::all().map(Choice::name)))]
    models: Vec<String>,
    /// Only traces whose name contains this.
    #[arg(long, value_name = "TEXT", default_value = "")]
    only: String,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let asked = |choice: &Choice| {
        let name = choice.name();
        arguments.models.is_empty() || arguments.models.iter().any(|m| m == name) || name == "last_value"
    };
    let choices: Vec<Choice> = Choice::all().filter(asked).collect();
    let mut traces = Vec::new();
    for path in files(&arguments.traces)? {
        let trace = Trace::read(&path)?;
        if trace.name.contains(&arguments.only) {
            traces.push(trace);
        }
    }
    ensure!(!traces.is_empty(), "no trace's name contains {:?}", arguments.only);
    let mut report = Report::new(&traces);
    let begin = Instant::now();
    let (mut done, all) = (0, choices.len() * traces.len());
    for choice in choices {
        let fit = Instant::now();
        // Anew on these traces' training parts, so that the fit has a time; `forecast` runs what ships.
        let trees = (choice == Choice::Single(ModelKind::Trees)).then(|| {
            let parts = traces.iter().map(training_part).collect::<Result<Vec<_>>>()?;
            Ok::<_, anyhow::Error>(Lessons::read(&parts, 0.0)?.fit())
        });
        let trees = trees.transpose()?;
        let fitted = Fitted { network: shipped_as(choice.core()), trees, ..Fitted::default() };
        let fit_seconds = if fitted.trees.is_some() { fit.elapsed().as_secs_f64() } else { 0.0 };
        let mut entries = Vec::new();
        for trace in &traces {
            progress(done, all, begin, choice.name(), &trace.name);
            let start = Instant::now();
            let (rows, cost) = run(trace, choice, &fitted)?;
            let microseconds = start.elapsed().as_secs_f64() * 1e6 / cost.bins as f64;
            let truth =
                |origin: usize, horizon: u32| trace.counts[origin + (horizon / trace.step_seconds) as usize];
            let pairs: Vec<_> = rows.iter().map(|r| (truth(r.origin, r.horizon), r.quantiles)).collect();
            let metrics = Metrics::of(&pairs, naive_error(trace, &Protocol::of(trace)));
            entries.push(Entry { metrics, rows, microseconds });
            done += 1;
        }
        report.add(choice.name(), fit_seconds, entries);
    }
    progress(done, all, begin, "done", "");
    eprintln!();
    let mut out = std::io::stdout().lock();
    std::io::Write::write_all(&mut out, report.table().as_bytes()).context("print the table")?;
    std::fs::write(&arguments.report, report.html())
        .with_context(|| format!("write {}", arguments.report.display()))?;
    eprintln!("report: {}", arguments.report.display());
    Ok(())
}

/// One line that is written over on a terminal, a line a step elsewhere.
fn progress(done: usize, all: usize, begin: Instant, model: &str, trace: &str) {
    let seconds = begin.elapsed().as_secs_f64();
    let left = if done > 0 { seconds / done as f64 * (all - done) as f64 } else { f64::NAN };
    let bar: String = (0..20).map(|i| if i * all < done * 20 { '█' } else { '·' }).collect();
    let (start, end) = if std::io::stderr().is_terminal() { ("\r\x1b[K", "") } else { ("", "\n") };
    eprint!("{start}{bar} {done:>4}/{all} {seconds:5.0} s, {left:4.0} s to go  {model} {trace}{end}");
}
