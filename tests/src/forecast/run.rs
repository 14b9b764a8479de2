//! Runs one model over one trace, bin by bin, and writes what it forecast at the protocol's origins.

use std::io::Write;
use std::sync::Arc;

use anyhow::{Context, Result};
use prescale_models::anomaly::Filter;
use prescale_models::choice::Choice as Models;
use prescale_models::neural::{CoreKind, Network, Pooled, shipped};
use prescale_models::trees::{Booster, PooledTrees};
use prescale_models::{
    AllWeights, Bin, Ensemble, Forecast, Forecaster, Grid, LEVELS, ModelKind, Quantiles, Target,
};

use super::nodes::Nodes;
use super::protocol::Protocol;
use super::trace::Trace;

/// What can be asked for with `--model`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// The ensemble of the agents: the same experts, no head.
    Node,
    /// The ensemble of the aggregator: experts and head. By default with a GRU, and then of [`Fitted::models`].
    Cluster(CoreKind),
    /// The same without its head.
    Headless,
    /// One expert, with its residual quantiles and online quantile tracking.
    Single(ModelKind),
    /// A pooled network with its own quantiles and online quantile tracking.
    Pooled(CoreKind),
}

/// What was fitted before the runs and is shared by them.
pub struct Fitted {
    /// The pooled network's weights, of [`Choice::core`]'s kind.
    pub network: Arc<Network<f32>>,
    /// Trees that run instead of those that ship.
    pub trees: Option<Arc<Booster>>,
    /// The models of [`Choice::Cluster`], and the holidays of all that read any.
    pub models: Models,
}

impl Default for Fitted {
    /// What ships.
    fn default() -> Self {
        Self { network: shipped(), trees: None, models: Models::default() }
    }
}

/// An ensemble that hears what nodes expect of the same load.
struct Informed(Ensemble, Nodes);

impl Forecaster for Informed {
    fn observe(&mut self, bin: Bin) {
        if let Some(expected) = self.1.observe(bin) {
            self.0.hear(&expected);
        }
        self.0.observe(bin);
    }

    fn forecast(&self) -> Option<&Forecast> {
        self.0.forecast()
    }

    fn memory_bytes(&self) -> usize {
        self.0.memory_bytes()
    }
}

impl Choice {
    /// Every choice.
    pub fn all() -> impl Iterator<Item = Self> {
        CoreKind::ALL
            .map(Self::Cluster)
            .into_iter()
            .chain([Self::Headless, Self::Node])
            .chain(CoreKind::ALL.map(Self::Pooled))
            .chain(ModelKind::ALL.map(Self::Single))
    }

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Node => "node",
            Self::Cluster(CoreKind::Gru) => "cluster",
            Self::Cluster(CoreKind::Lstm) => "cluster_lstm",
            Self::Cluster(CoreKind::Cnn) => "cluster_cnn",
            Self::Headless => "headless",
            Self::Single(kind) => kind.name(),
            Self::Pooled(core) => core.name(),
        }
    }

    /// What reads the series in the network that it runs; that of the head where it runs none.
    pub fn core(self) -> CoreKind {
        match self {
            Self::Cluster(core) | Self::Pooled(core) => core,
            _ => CoreKind::Gru,
        }
    }

    /// Whether the aggregator runs it over its minutes, from which it keeps what they must not learn.
    fn filtered(self) -> bool {
        matches!(self, Self::Cluster(_) | Self::Headless)
    }

    /// Whether nodes tell it what they expect.
    fn informed(self, grid: Grid, fitted: &Fitted) -> bool {
        match self {
            Self::Single(kind) => kind == ModelKind::NodeMerge,
            Self::Cluster(CoreKind::Gru) => {
                fitted.models.experts(grid).iter().any(|(kind, _)| *kind == ModelKind::NodeMerge)
            }
            _ => false,
        }
    }

    pub(super) fn build(self, grid: Grid, targets: &[Target], fitted: &Fitted) -> Box<dyn Forecaster> {
        let network = Arc::clone(&fitted.network);
        let ensemble = match self {
            Self::Node => Ensemble::node(grid, targets),
            Self::Cluster(CoreKind::Gru) => {
                let mut weights = AllWeights::shipped();
                weights.set(network.into());
                Ensemble::chosen(grid, targets, &fitted.models, &weights)
            }
            Self::Cluster(_) => Ensemble::cluster_with(grid, targets, network),
            Self::Headless => Ensemble::headless(grid, targets),
            Self::Single(kind) => match &fitted.trees {
                Some(model) if kind == ModelKind::Trees => {
                    let trees = PooledTrees::new(Arc::clone(model), grid, targets);
                    Ensemble::of(grid, targets, vec![(Box::new(trees), 1.0)])
                }
                _ => Ensemble::single_with(grid, targets, kind, fitted.models.holidays()),
            },
            Self::Pooled(_) => return Box::new(Pooled::new(network, grid, targets)),
        };
        match Nodes::new(grid).filter(|_| self.informed(grid, fitted)) {
            Some(nodes) => Box::new(Informed(ensemble, nodes)),
            None => Box::new(ensemble),
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

/// What the protocol asks of a trace, in bins ahead.
pub fn targets(trace: &Trace, protocol: &Protocol) -> Vec<Target> {
    protocol.horizons.iter().map(|h| Target::At { steps: h / trace.step_seconds }).collect()
}

/// One forecast, in counts per bin.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// The last bin that the model had seen.
    pub origin: usize,
    /// Seconds after it.
    pub horizon: u32,
    /// What was forecast.
    pub quantiles: Quantiles,
}

/// Forecasts `trace` with `choice` at the protocol's origins.
///
/// The model is fed one bin after the other, up to and including an origin, before it is asked there: it can't have
/// seen a later one. Raw bins older than 14 days are in no model's memory; recursive state may be.
///
/// # Errors
/// If the model says nothing, or what is no number.
pub fn run(trace: &Trace, choice: Choice, fitted: &Fitted) -> Result<(Vec<Row>, Cost)> {
    let protocol = Protocol::of(trace);
    let grid = Grid { step_seconds: trace.step_seconds };
    let mut model = choice.build(grid, &targets(trace, &protocol), fitted);
    let seconds = f64::from(trace.step_seconds);
    // The aggregator keeps from its minutes what they must not learn.
    let mut filter = (choice.filtered() && grid.step_seconds >= 60).then(|| Filter::new(grid));
    let mut shown = |i: usize| {
        // Files hold counts per bin, models work on requests/s.
        let bin = Bin::new(trace.index(i), trace.rate(i));
        let Some(filter) = &mut filter else { return bin };
        filter.judge(bin, trace.known_at(i));
        filter.doubt().map_or(bin, |reason| reason.shown(bin))
    };
    let (mut observed, mut rows) = (0, Vec::new());
    for &origin in &protocol.origins {
        for i in observed..=origin {
            model.observe(shown(i));
        }
        observed = origin + 1;
        let forecast = model.forecast().context("no forecast after a value")?;
        for (horizon, (_, quantiles)) in protocol.horizons.iter().zip(&forecast.points) {
            let quantiles = Quantiles::new(quantiles.values().map(|v| v * seconds))?;
            rows.push(Row { origin, horizon: *horizon, quantiles });
        }
    }
    Ok((rows, Cost { bins: observed, memory_bytes: model.memory_bytes() }))
}

/// Writes forecasts in the format of [`HEADER`].
///
/// # Errors
/// If `out` can't be written.
pub fn write(trace: &Trace, rows: &[Row], out: &mut dyn Write) -> Result<()> {
    for row in rows {
        let time = trace.time(row.origin);
        for (level, value) in LEVELS.iter().zip(row.quantiles.values()) {
            writeln!(out, "{},{time},{},{level},{value}", trace.name, row.horizon)?;
        }
    }
    Ok(())
}
