//! The nodes' forecasts and burst flags of one workload, merged.

use prescale_models::{Forecast, LEVELS, Quantiles, Target};

use super::demand::MergedBurst;
use crate::node::LocalForecast;
use crate::wire::Burst;

/// What one node says, with what its pods do now.
pub(super) struct NodeView<'a> {
    pub(super) forecast: Option<&'a LocalForecast>,
    pub(super) burst: Option<Burst>,
    /// Requests/s that its pods do now.
    pub(super) rate: f64,
}

/// A jump that one node sees may be load moved over from another: over all nodes it has to be at least this much.
const MIN_TOTAL_RATIO: f64 = 1.1;
/// Spread of a node's forecast below this share of its median gives no more weight: a model that says it is certain
/// does not outvote all others.
const MIN_SPREAD: f64 = 0.01;

/// The forecasts of a workload's nodes, merged for `ready` pods: per pod, averaged with the inverse square of their spread
/// as weight.
///
/// Quantiles are averaged level by level (Vincent averages), never added: nodes err together, because the demand that
/// they see is one. Only forecasts from the newest origin and its predecessor on the same grid take part.
pub fn merged_forecast<'a>(
    nodes: impl Iterator<Item = &'a LocalForecast> + Clone,
    ready: usize,
) -> Option<Forecast> {
    let usable = || nodes.clone().filter(|f| f.pods > 0);
    let newest = usable().max_by_key(|f| f.forecast.origin)?;
    let (origin, grid) = (newest.forecast.origin, newest.forecast.grid);
    let targets: Vec<Target> = newest.forecast.points.iter().map(|(t, _)| *t).collect();
    let mut points = Vec::with_capacity(targets.len());
    for target in targets {
        let (mut sum, mut weights) = ([0.0; LEVELS.len()], 0.0);
        for local in usable().filter(|f| f.forecast.grid == grid && f.forecast.origin + 1 >= origin) {
            let Some(quantiles) = local.forecast.get(target) else { continue };
            let per_pod = quantiles.values().map(|v| v / f64::from(local.pods));
            // The span from 10 to 95 % in place of a standard deviation: only ratios between nodes matter.
            let spread = (per_pod[3] - per_pod[0]).max(MIN_SPREAD * per_pod[1]).max(1e-6);
            let weight = 1.0 / (spread * spread);
            weights += weight;
            for (to, value) in sum.iter_mut().zip(per_pod) {
                *to += weight * value;
            }
        }
        if weights > 0.0 {
            let scaled = sum.map(|s| s / weights * ready as f64);
            points.push((target, Quantiles::new(scaled).ok()?));
        }
    }
    Some(Forecast { origin, grid, points })
}

/// The burst that the sum over all nodes confirms.
pub(super) fn burst(nodes: &[NodeView<'_>]) -> Option<MergedBurst> {
    let since = nodes.iter().filter_map(|n| n.burst).map(|b| b.since).min()?;
    // A node without a flag has not changed, as far as it can tell.
    let rate: f64 = nodes.iter().map(|n| n.burst.map_or(n.rate, |b| b.rate)).sum();
    let baseline: f64 = nodes.iter().map(|n| n.burst.map_or(n.rate, |b| b.baseline)).sum();
    (rate >= MIN_TOTAL_RATIO * baseline).then_some(MergedBurst { since, rate, baseline })
}
