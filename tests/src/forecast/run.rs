//! Runs one model over one trace, bin by bin, and writes what it forecast at the protocol's origins.

use std::io::Write;
use std::sync::Arc;

use anyhow::{Context, Result};
use prescale_models::neural::{Network, Pooled};
use prescale_models::{Bin, Ensemble, Forecast, Grid, LEVELS, ModelKind, Target};

use super::protocol::Protocol;
use super::trace::Trace;

/// What can be asked for with `--model`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// The ensemble of the agents: the same experts, no head.
    Node,
    /// The ensemble of the aggregator: experts and head.
    Cluster,
    /// One expert, with its residual quantiles and online quantile tracking.
    Single(ModelKind),
    /// The pooled GRU with its own quantiles and online quantile tracking.
    Gru,
}

/// A model as the runner drives it.
pub(super) enum Model {
    Ensemble(Ensemble),
    Pooled(Pooled),
}

impl Model {
    pub(super) fn observe(&mut self, bin: Bin) {
        match self {
            Self::Ensemble(model) => model.observe(bin),
            Self::Pooled(model) => model.observe(bin),
        }
    }

    pub(super) fn forecast(&self) -> Option<&Forecast> {
        match self {
            Self::Ensemble(model) => model.forecast(),
            Self::Pooled(model) => model.forecast(),
        }
    }

    fn memory_bytes(&self) -> usize {
        match self {
            Self::Ensemble(model) => model.memory_bytes(),
            Self::Pooled(model) => model.memory_bytes(),
        }
    }
}

impl Choice {
    /// Every choice.
    pub fn all() -> impl Iterator<Item = Self> {
        [Self::Node, Self::Cluster, Self::Gru].into_iter().chain(ModelKind::ALL.map(Self::Single))
    }

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Node => "node",
            Self::Cluster => "cluster",
            Self::Single(kind) => kind.name(),
            Self::Gru => "gru",
        }
    }

    pub(super) fn build(self, grid: Grid, targets: &[Target], network: &Arc<Network<f32>>) -> Model {
        Model::Ensemble(match self {
            Self::Node => Ensemble::node(grid, targets),
            Self::Cluster => Ensemble::cluster_with(grid, targets, Arc::clone(network)),
            Self::Single(kind) => Ensemble::single(grid, targets, kind),
            Self::Gru => return Model::Pooled(Pooled::new(Arc::clone(network), grid, targets)),
        })
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

/// Forecasts `trace` with `choice` and writes the rows to `out`; `network` is what a neural choice runs.
///
/// The model is fed one bin after the other, up to and including an origin, before it is asked there: it can't have
/// seen a later one. Raw bins older than 14 days are in no model's memory; recursive state may be.
///
/// # Errors
/// If `out` can't be written.
pub fn run(trace: &Trace, choice: Choice, network: &Arc<Network<f32>>, out: &mut dyn Write) -> Result<Cost> {
    let protocol = Protocol::of(trace);
    let grid = Grid { step_seconds: trace.step_seconds };
    let targets: Vec<Target> =
        protocol.horizons.iter().map(|h| Target::At { steps: h / trace.step_seconds }).collect();
    let mut model = choice.build(grid, &targets, network);
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
