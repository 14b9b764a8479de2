//! `cargo xtask train`: fits a pooled network, or pooled trees, to the training parts of a directory of traces.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use clap::builder::PossibleValuesParser;
use prescale_models::hybrid::{HIDDEN, Network as HybridNetwork};
use prescale_models::neural::training::{Lesson, Training, TrainingSettings, fingerprint, hash, score};
use prescale_models::neural::{CoreKind, Network, NetworkSettings};
use prescale_models::nn::{Parameters, Random};
use prescale_models::trees::{self as boosted, Booster};
use prescale_tests::forecast::trace::{Trace, files};
use prescale_tests::train::data::{Part, training_part};
use prescale_tests::train::{baseline, hybrid, trees};
use serde::Serialize;

/// Fits one network, or trees, to the pooled training parts of all traces of a directory and writes the weights.
///
/// Reads of each trace the bins before evaluate.py's test part, and no others. The same traces, seed and number of
/// updates give the same bytes on any machine, unless the time limit cut the training short.
#[derive(Parser)]
#[command(name = "train", bin_name = "cargo xtask train")]
struct Arguments {
    /// Directory with the traces: `*.csv.gz`, columns `timestamp,value`, counts per bin.
    #[arg(long, value_name = "DIR", required_unless_present = "data")]
    traces: Option<PathBuf>,
    /// Instead of traces, the baseline data set that an earlier training saved.
    #[arg(long, value_name = "FILE", conflicts_with = "traces")]
    data: Option<PathBuf>,
    /// Saves what this training reads as a baseline data set, for `--data`.
    #[arg(long, value_name = "FILE")]
    save_data: Option<PathBuf>,
    /// Where the weights go, as safetensors; what they saw goes beside them, as JSON.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// What reads the series; `prophet_lstm` is the hybrid's network, which reads Prophet's residuals, `trees` are boosted
    /// trees, in which nothing is random and whose number is fixed.
    #[arg(long, default_value = "gru", value_parser = PossibleValuesParser::new(CoreKind::ALL.map(CoreKind::name).into_iter().chain([hybrid::NAME, trees::NAME])))]
    core: String,
    /// Steps of the optimiser.
    #[arg(long, default_value_t = 3000)]
    updates: usize,
    /// Stops earlier than that after this many seconds, and says so.
    #[arg(long, value_name = "SECONDS", default_value_t = 900)]
    limit: u64,
    /// Start of everything random.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Share of each training part, at its end, that is kept from the network and scored instead.
    #[arg(long, value_name = "SHARE", default_value_t = 0.0)]
    hold_out: f64,
    /// Weights of the same core that are scored on the same held-out parts, beside those that are trained.
    #[arg(long, value_name = "FILE")]
    against: Option<PathBuf>,
    /// Leaves out traces whose name contains this.
    #[arg(long, value_name = "TEXT")]
    without: Vec<String>,
}

/// The sidecar: what the weights were made of.
#[derive(Serialize)]
struct Sidecar {
    /// Of the features and the training of the pooled networks: a test compares it with the code's.
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<String>,
    /// Of the weights file.
    weights: String,
    core: &'static str,
    hidden: usize,
    parameters: usize,
    seed: u64,
    updates: usize,
    planned_updates: usize,
    loss: f64,
    /// Checksum of what was read: the same in all sidecars of one baseline data set.
    data: String,
    saw: Vec<Saw>,
}

/// The same of trees.
#[derive(Serialize)]
struct TreesSidecar {
    /// Of the regressors and the fit: a test compares it with the code's.
    code: String,
    weights: String,
    core: &'static str,
    trees: usize,
    leaves: usize,
    /// On what they were fitted on, in errors of the expert that they correct.
    loss: f64,
    data: String,
    saw: Vec<Saw>,
}

#[derive(Serialize)]
struct Saw {
    trace: String,
    bins: usize,
    until: String,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    ensure!((0.0..0.9).contains(&arguments.hold_out), "--hold-out wants a share from 0 to 0.9");
    ensure!(arguments.updates > 0, "--updates wants at least 1");
    ensure!(arguments.against.is_none() || arguments.hold_out > 0.0, "--against wants --hold-out");
    let begin = Instant::now();
    let series = read(&arguments)?;
    let data = format!("{:016x}", baseline::checksum(&series));
    if let Some(path) = &arguments.save_data {
        baseline::save(path, &series)?;
    }
    if arguments.core == hybrid::NAME {
        return train_hybrid(&arguments, &series, data);
    }
    if arguments.core == trees::NAME {
        return fit_trees(&arguments, &series, data);
    }
    let mut parts: Vec<Part> = Vec::new();
    for trace in series {
        let name = trace.name.clone();
        match Part::of(trace) {
            Some(part) => parts.push(part),
            None => eprintln!("{name}: too short to learn from, left out"),
        }
    }
    ensure!(!parts.is_empty(), "no trace is long enough to learn from");
    let bins: usize = parts.iter().map(|p| p.lesson.len()).sum();
    eprintln!("{} workloads, {bins} bins, read in {:.1} s", parts.len(), begin.elapsed().as_secs_f64());
    let kept: Vec<usize> =
        parts.iter().map(|p| (p.lesson.len() as f64 * (1.0 - arguments.hold_out)) as usize).collect();
    let lessons: Vec<Lesson> = parts.iter().zip(&kept).map(|(p, kept)| p.lesson.until(*kept)).collect();

    let named = |kind: &CoreKind| kind.name() == arguments.core;
    let kind = CoreKind::ALL.into_iter().find(named).context("clap has checked the name")?;
    let network = Network::random(NetworkSettings::of(kind), &mut Random::new(arguments.seed));
    let held_out = |network: &Network<f32>| {
        let scores = parts.iter().zip(&kept).filter_map(|(p, kept)| score(network, &p.lesson, *kept));
        let (mut sum, mut count) = (0.0, 0);
        for score in scores {
            sum += score.max(1e-4).ln();
            count += 1;
        }
        (sum / f64::from(count.max(1))).exp()
    };
    if arguments.hold_out > 0.0 {
        eprintln!("held out, untrained: {:.4}", held_out(&network));
    }
    if let Some(path) = &arguments.against {
        let other = Network::load(NetworkSettings::of(kind), &read_file(path)?);
        let other = other.with_context(|| format!("weights of {}", path.display()))?;
        eprintln!("held out, {}: {:.4}", path.display(), held_out(&other));
    }
    let settings = TrainingSettings { seed: arguments.seed, ..TrainingSettings::default() };
    let mut training = Training::new(&lessons, network, settings);
    let begin = Instant::now();
    let report = (arguments.updates / 20).max(1);
    let (mut loss, mut sum, mut done) = (f64::NAN, 0.0, 0);
    for update in 0..arguments.updates {
        sum += training.update(update as f64 / arguments.updates as f64);
        done = update + 1;
        if done % report == 0 {
            loss = sum / report as f64;
            sum = 0.0;
            let seconds = begin.elapsed().as_secs_f64();
            let left = seconds / done as f64 * (arguments.updates - done) as f64;
            let held = if arguments.hold_out > 0.0 && done % (4 * report) == 0 {
                format!(", held out {:.4}", held_out(training.network()))
            } else {
                String::new()
            };
            eprintln!(
                "{done:>6}/{} loss {loss:.4}{held}, {seconds:.0} s, {left:.0} s to go",
                arguments.updates
            );
        }
        if begin.elapsed().as_secs() >= arguments.limit {
            eprintln!("stopped by --limit after {done} of {} updates", arguments.updates);
            break;
        }
    }
    if arguments.hold_out > 0.0 {
        for (part, kept) in parts.iter().zip(&kept) {
            if let Some(score) = score(training.network(), &part.lesson, *kept) {
                eprintln!("  {:<24} {score:.4}", part.trace.name);
            }
        }
    }
    let network = training.network();
    let bytes = network.save();
    let sidecar = Sidecar {
        code: Some(format!("{:016x}", fingerprint(kind))),
        weights: format!("{:016x}", hash(&bytes)),
        core: kind.name(),
        hidden: network.settings().hidden,
        parameters: network.count(),
        seed: arguments.seed,
        updates: done,
        planned_updates: arguments.updates,
        loss,
        data,
        saw: parts
            .iter()
            .zip(&kept)
            .map(|(p, kept)| Saw {
                trace: p.trace.name.clone(),
                bins: *kept,
                until: p.trace.time(kept.saturating_sub(1)),
            })
            .collect(),
    };
    write(&arguments.out, &bytes, &sidecar)
}

/// The training parts that are asked for.
fn read(arguments: &Arguments) -> Result<Vec<Trace>> {
    let mut series = match (&arguments.data, &arguments.traces) {
        (Some(file), _) => baseline::load(file)?,
        (None, Some(directory)) => {
            let traces = files(directory)?.into_iter().map(|path| training_part(&Trace::read(&path)?));
            traces.collect::<Result<_>>()?
        }
        (None, None) => bail!("--traces or --data: clap asks for one"),
    };
    series.retain(|it| !arguments.without.iter().any(|text| it.name.contains(text)));
    Ok(series)
}

fn train_hybrid(arguments: &Arguments, traces: &[Trace], data: String) -> Result<()> {
    let lessons = hybrid::Lessons::read(traces, arguments.hold_out)?;
    if let Some(path) = &arguments.against {
        let other = HybridNetwork::load(&read_file(path)?);
        let other = other.with_context(|| format!("weights of {}", path.display()))?;
        print_held_out(&path.display().to_string(), &lessons.held_out(&other));
    }
    let begin = Instant::now();
    let hybrid::Trained { network, loss } = lessons.train(arguments.seed, arguments.updates);
    let saw = lessons.saw.clone();
    eprintln!("{} workloads, loss {loss:.4}, {:.0} s", saw.len(), begin.elapsed().as_secs_f64());
    if arguments.hold_out > 0.0 {
        print_held_out("these", &lessons.held_out(&network));
    }
    let bytes = network.save();
    let sidecar = Sidecar {
        code: None,
        weights: format!("{:016x}", hash(&bytes)),
        core: hybrid::NAME,
        hidden: HIDDEN,
        parameters: network.count(),
        seed: arguments.seed,
        updates: arguments.updates,
        planned_updates: arguments.updates,
        loss,
        data,
        saw: saw.into_iter().map(|(trace, bins, until)| Saw { trace, bins, until }).collect(),
    };
    write(&arguments.out, &bytes, &sidecar)
}

fn fit_trees(arguments: &Arguments, traces: &[Trace], data: String) -> Result<()> {
    let begin = Instant::now();
    let lessons = trees::Lessons::read(traces, arguments.hold_out)?;
    eprintln!("{} workloads read in {:.1} s", traces.len(), begin.elapsed().as_secs_f64());
    if let Some(path) = &arguments.against {
        let other = Booster::load(&read_file(path)?, boosted::FEATURES);
        let other = other.with_context(|| format!("trees of {}", path.display()))?;
        print_held_out(&path.display().to_string(), &lessons.held_out(&other));
    }
    let begin = Instant::now();
    let booster = lessons.fit();
    eprintln!("fitted in {:.1} s", begin.elapsed().as_secs_f64());
    if arguments.hold_out > 0.0 {
        print_held_out("these", &lessons.held_out(&booster));
    }
    let bytes = booster.save();
    let saw = |it: &Trace| {
        let bins = (it.counts.len() as f64 * (1.0 - arguments.hold_out)) as usize;
        Saw { trace: it.name.clone(), bins, until: it.time(bins.saturating_sub(1)) }
    };
    let sidecar = TreesSidecar {
        code: format!("{:016x}", boosted::fingerprint()),
        weights: format!("{:016x}", hash(&bytes)),
        core: trees::NAME,
        trees: booster.leaves().count(),
        leaves: booster.leaves().sum(),
        loss: lessons.loss(&booster),
        data,
        saw: traces.iter().map(saw).collect(),
    };
    write(&arguments.out, &bytes, &sidecar)
}

/// Errors by trace, and their geometric mean.
fn print_held_out(name: &str, scores: &[(&str, f64)]) {
    scores.iter().for_each(|(trace, score)| eprintln!("  {trace:<24} {score:.4}"));
    let logs: f64 = scores.iter().map(|(_, score)| score.max(1e-4).ln()).sum();
    eprintln!("held out, {name}: {:.4}", (logs / scores.len().max(1) as f64).exp());
}

fn read_file(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("read {}", path.display()))
}

fn write(path: &Path, weights: &[u8], sidecar: &impl Serialize) -> Result<()> {
    let put = |path: &Path, bytes: &[u8]| {
        fs::write(path, bytes).with_context(|| format!("write {}", path.display()))
    };
    put(path, weights)?;
    put(&path.with_extension("json"), serde_json::to_string_pretty(sidecar)?.as_bytes())
}
