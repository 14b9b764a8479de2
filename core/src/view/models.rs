//! Every model and how it does over all workloads, as the API shows it.

use serde::Serialize;

/// `/api/v1/models`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Models {
    /// Now.
    pub now_unix_ms: i64,
    /// What is issued: the chosen models together, per grid.
    pub issued: Vec<ModelGrid>,
    /// Every model that the aggregator knows, chosen or not.
    pub models: Vec<Model>,
}

/// One model.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Model {
    /// Its name.
    pub name: &'static str,
    /// `expert`, or `head`: the network that is mixed in while it helps.
    pub kind: &'static str,
    /// What it is.
    pub what: &'static str,
    /// Where it is described; `null`: it needs no source.
    pub source: Option<&'static str>,
    /// The history that it sleeps without.
    pub awake_after: &'static str,
    /// Whether it was chosen, for all workloads or for some (`--models`, `--models-for`).
    pub on: bool,
    /// Checksum of the weights that it was trained to; `null` where nothing is trained beforehand.
    pub weights: Option<String>,
    /// How it does, per grid that it runs on; empty unless `on`.
    pub grids: Vec<ModelGrid>,
}

/// How one model does on one grid, over all workloads that have a forecast there.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct ModelGrid {
    /// Length of the grid's bins.
    pub bin_seconds: u32,
    /// Those workloads.
    pub workloads: usize,
    /// Of them, where its history suffices.
    pub awake: usize,
    /// Of them, where the head takes part in what is issued; `null` of everything else.
    pub admitted: Option<usize>,
    /// Of them, where the head was found to hurt within minutes and waits; `null` of everything else.
    pub demoted: Option<usize>,
    /// Workloads where it has a score.
    pub scored: usize,
    /// The median over these of its loss in those of the last value, meaned over the targets; the head's is that of the
    /// experts with it.
    pub loss_ratio: Option<f64>,
    /// Share of the outcomes, over all these workloads and targets, at or below its 95 % quantile; `null` of the head.
    pub q95_coverage: Option<f64>,
    /// Share of the workloads where its weight is the largest of all experts', meaned over the targets; `null` of what has
    /// none.
    pub largest_weight_share: Option<f64>,
}
