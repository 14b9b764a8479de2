//! Runs one model over one trace, bin by bin, and writes what it forecast at the protocol's origins.

use std::io::Write;

use anyhow::{Context, Result};
use prescale_models::{Bin, Ensemble, Grid, LEVELS, ModelKind, Target};

use super::protocol::Protocol;
use super::trace::Trace;

/// What can be asked for with `--model`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// The ensemble of the agents.
    Node,
    /// The ensemble of the aggregator.
    Cluster,
    /// One expert, with its residual quantiles and online quantile tracking.
    Single(ModelKind),
}

impl Choice {
    /// Every choice.
    pub fn all() -> impl Iterator<Item = Self> {
        [Self::Node, Self::Cluster].into_iter().chain(ModelKind::ALL.map(Self::Single))
    }

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Node => "node",
            Self::Cluster => "cluster",
            Self::Single(kind) => kind.name(),
        }
    }

    fn build(self, grid: Grid, targets: &[Target]) -> Ensemble {
        match self {
            Self::Node => Ensemble::node(grid, targets),
            Self::Cluster => Ensemble::cluster(grid, targets),
            Self::Single(kind) => Ensemble::single(grid, targets, kind),
        }
    }
}

/// The header of a prediction file.
pub const HEADER: &str = "trace,origin,horizon,quantile,value";

/// What a run cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cost {
    /// Bins observed, each with a whole forecast.
    pub bins: usize,
    /// Bytes that the model held at the end.
    pub memory_bytes: usize,
}

/// Forecasts `trace` with `choice` and writes the rows to `out`.
///
/// The model is fed one bin after the other, up to and including an origin, before it is asked there: it can't have
/// seen a later one. Raw bins older than 14 days are in no model's memory; recursive state may be.
///
/// # Errors
/// If `out` can't be written.
pub fn run(trace: &Trace, choice: Choice, out: &mut dyn Write) -> Result<Cost> {
    let protocol = Protocol::of(trace);
    let grid = Grid { step_seconds: trace.step_seconds };
    let targets: Vec<Target> =
        protocol.horizons.iter().map(|h| Target::At { steps: h / trace.step_seconds }).collect();
    let mut model = choice.build(grid, &targets);
    let seconds = f64::from(trace.step_seconds);
    let mut observed = 0;
    for &origin in &protocol.origins {
        for i in observed..=origin {
            // Files hold counts per bin, models work on requests/s.
            model.observe(Bin::new(trace.index(i), trace.counts[i] / seconds));
        }
        observed = origin + 1;
        let forecast = model.forecast().context("no forecast after a value")?;
        let time = trace.time(origin);
        for (horizon, (_, quantiles)) in protocol.horizons.iter().zip(&forecast.points) {
            for (level, value) in LEVELS.iter().zip(quantiles.values()) {
                writeln!(out, "{},{time},{horizon},{level},{}", trace.name, value * seconds)?;
            }
        }
    }
    Ok(Cost { bins: observed, memory_bytes: model.memory_bytes() })
}
