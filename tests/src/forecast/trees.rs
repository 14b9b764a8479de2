//! Fits the pooled trees on the training parts of a directory's traces, as the aggregator would on its workloads' past.

use std::sync::Arc;

use anyhow::{Result, ensure};
use prescale_models::trees::{Booster, Collector, Examples, PooledTrees};
use prescale_models::{Bin, Grid};

use super::protocol::Protocol;
use super::run::targets;
use super::trace::Trace;

/// Origins that each workload gives, so that long ones don't drown the others; 1,000 of each of 21 traces fit in
/// seconds.
const ORIGINS: usize = 1000;

/// One model for all `traces`, from the bins before each one's test part alone.
///
/// # Errors
/// If no trace is long enough to learn from.
pub fn fit(traces: &[Trace]) -> Result<Arc<Booster>> {
    let mut examples = Examples::default();
    for trace in traces {
        let protocol = Protocol::of(trace);
        let grid = Grid { step_seconds: trace.step_seconds };
        let every = protocol.test.div_ceil(ORIGINS).max(1);
        let mut collector = Collector::new(grid, &targets(trace, &protocol), every);
        for i in 0..protocol.test {
            let value = trace.counts[i] / f64::from(trace.step_seconds);
            collector.observe(Bin::new(trace.index(i), value), &mut examples);
        }
    }
    ensure!(!examples.labels.is_empty(), "no trace is long enough to fit trees on");
    Ok(PooledTrees::fit(&examples))
}
