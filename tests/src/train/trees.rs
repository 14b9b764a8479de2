//! Fits the pooled trees to training parts, as the aggregator would to its workloads' past.

use std::sync::Arc;

use anyhow::{Result, ensure};
use prescale_models::trees::{Booster, Collector, Examples, FEATURES, PooledTrees};
use prescale_models::{Bin, Grid, Target};

use super::data::{rates, targets};
use crate::forecast::trace::Trace;

/// Its name on the command line, as of the model.
pub const NAME: &str = "trees";

/// Origins that each workload gives, so that long ones don't drown the others; 1,000 of each of 21 traces fit in
/// seconds.
const ORIGINS: usize = 1000;

/// What trees learn from, and what is kept from them.
pub struct Lessons {
    learned: Examples,
    /// Of each trace that has any.
    held_out: Vec<(String, Examples)>,
}

impl Lessons {
    /// Reads training parts; the last `hold_out` of each is kept from the fit.
    ///
    /// # Errors
    /// If none is long enough to learn from.
    pub fn read(traces: &[Trace], hold_out: f64) -> Result<Self> {
        let (mut learned, mut held_out) = (Examples::default(), Vec::new());
        for trace in traces {
            let grid = Grid { step_seconds: trace.step_seconds };
            let rates = rates(trace);
            let kept = (rates.len() as f64 * (1.0 - hold_out)) as usize;
            // Of a maximum the trees correct the largest value of a member's own path, by what they know of the bin.
            let at = targets(grid).into_iter().filter(|it| matches!(it, Target::At { .. }));
            let every = kept.div_ceil(ORIGINS).max(1);
            let mut collector = Collector::new(grid, &at.collect::<Vec<_>>(), every);
            let mut later = Examples::default();
            for (i, rate) in rates.into_iter().enumerate() {
                // An outcome that lies beyond the end of what is learned from teaches nothing.
                let examples = if i < kept { &mut learned } else { &mut later };
                collector.observe(Bin::new(trace.index(i), rate), examples);
            }
            if !later.labels.is_empty() {
                held_out.push((trace.name.clone(), later));
            }
        }
        ensure!(!learned.labels.is_empty(), "no trace is long enough to fit trees on");
        Ok(Self { learned, held_out })
    }

    /// Fits the model that all workloads share.
    pub fn fit(&self) -> Arc<Booster> {
        PooledTrees::fit(&self.learned)
    }

    /// The mean absolute error on what it learned from, in those of the expert that it corrects.
    pub fn loss(&self, booster: &Booster) -> f64 {
        ratio(booster, &self.learned)
    }

    /// The same on what was held out, by trace.
    pub fn held_out(&self, booster: &Booster) -> Vec<(&str, f64)> {
        self.held_out.iter().map(|(name, examples)| (name.as_str(), ratio(booster, examples))).collect()
    }
}

fn ratio(booster: &Booster, examples: &Examples) -> f64 {
    let rows = examples.rows.chunks_exact(FEATURES).zip(&examples.labels);
    let (own, base) = rows.fold((0.0, 0.0), |(own, base), (row, label)| {
        (own + (label - booster.predict(row)).abs(), base + label.abs())
    });
    own / base.max(f64::MIN_POSITIVE)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three days of minutes around a level, with a timer's spike every 23 minutes, which no expert knows.
    fn trace(seed: usize) -> Trace {
        let spike = |i: usize| if (i + 5 * seed).is_multiple_of(23) { 900.0 } else { 0.0 };
        let counts = (0..4320).map(|i| 600.0 + (i * 7919 % 131) as f64 + spike(i)).collect();
        Trace { name: format!("timer {seed}"), start: 1_700_000_040, step_seconds: 60, counts }
    }

    #[test]
    fn what_is_held_out_scores_and_does_not_teach() {
        let traces = [trace(1), trace(2)];
        let lessons = Lessons::read(&traces, 0.25).unwrap();
        let booster = lessons.fit();
        let scores = lessons.held_out(&booster);
        assert!(scores.len() == 2 && scores.iter().all(|(_, score)| *score < 1.0), "{scores:?}");
        assert!(lessons.loss(&booster) < 1.0);
        let changed = traces.map(|mut it| {
            it.counts[3240..].fill(5.0);
            it
        });
        let changed = Lessons::read(&changed, 0.25).unwrap();
        assert_eq!(changed.fit().save(), booster.save(), "the same bytes, whatever comes later");
        assert_ne!(changed.held_out(&booster), scores);
        assert!(Lessons::read(&[], 0.0).is_err());
    }
}
