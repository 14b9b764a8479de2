//! What a network may see of a trace: its training part, as evaluate.py defines it.

use anyhow::{Result, ensure};
use prescale_models::neural::training::{CHUNK, Lesson};
use prescale_models::{Grid, Target};

use crate::forecast::protocol::Protocol;
use crate::forecast::trace::Trace;

/// Newest bins of a workload that a network learns from: two weeks of half-minutes, so that one workload on a fine grid
/// doesn't take the time of ten others.
const MOST_BINS: usize = 40_000;

/// A trace's training part as a lesson.
pub struct Part {
    /// That part alone.
    pub trace: Trace,
    /// What the network reads of it.
    pub lesson: Lesson,
}

impl Part {
    /// Of a trace's [`training_part`]; `None` if it is too short to learn from.
    pub fn of(trace: Trace) -> Option<Self> {
        if trace.counts.len() < 2 * CHUNK {
            return None;
        }
        let grid = Grid { step_seconds: trace.step_seconds };
        let lesson = Lesson::new(grid, &targets(grid), trace.index(0), &rates(&trace));
        Some(Self { trace, lesson })
    }
}

/// The newest bins of a trace's training part, as a trace of their own.
///
/// # Errors
/// If the trace has no test part.
pub fn training_part(trace: &Trace) -> Result<Trace> {
    let test = Protocol::of(trace).test;
    ensure!(test < trace.counts.len(), "{} has no test part", trace.name);
    let first = test.saturating_sub(MOST_BINS);
    Ok(Trace {
        name: trace.name.clone(),
        start: trace.start + first as i64 * i64::from(trace.step_seconds),
        step_seconds: trace.step_seconds,
        // The bins from `test` on are cut off here, before anything looks at them.
        counts: trace.counts[first..test].to_vec(),
    })
}

/// All of a trace in requests/s.
pub fn rates(trace: &Trace) -> Vec<f64> {
    trace.counts.iter().map(|count| count / f64::from(trace.step_seconds)).collect()
}

/// What a network learns to forecast on this grid: the protocol's horizons; beyond them an hour on coarse grids, and
/// on fine ones the maxima of one and two minutes, which pods are sized for.
pub fn targets(grid: Grid) -> Vec<Target> {
    let at = |seconds: u32| Target::At { steps: seconds / grid.step_seconds };
    let max = |seconds: u32| Target::MaxOver { steps: seconds / grid.step_seconds };
    if grid.step_seconds < 60 {
        vec![at(30), at(60), at(300), at(900), max(60), max(120)]
    } else {
        vec![at(300), at(900), at(1800), at(3600)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_ends_where_the_test_begins() {
        // Ten days of minutes: the last half is the test part.
        let n = 10 * 1440;
        let trace = |after: f64| Trace {
            name: "x".into(),
            start: 0,
            step_seconds: 60,
            counts: (0..n).map(|i| if i < n / 2 { (i % 50) as f64 } else { after }).collect(),
        };
        let part = |trace: &Trace| Part::of(training_part(trace).unwrap());
        let (a, b) = (part(&trace(0.0)).unwrap(), part(&trace(1e6)).unwrap());
        assert_eq!((a.trace.start, a.lesson.len()), (0, n / 2));
        assert_eq!(a.lesson, b.lesson, "the test part was read");
        let short = Trace { counts: vec![1.0; 200], ..trace(0.0) };
        assert!(part(&short).is_none());
    }

    #[test]
    fn a_fine_grid_is_cut_to_its_newest_bins() {
        let n = 4 * MOST_BINS;
        let trace = Trace { name: "x".into(), start: 0, step_seconds: 10, counts: vec![3.0; n] };
        let test = Protocol::of(&trace).test;
        let part = Part::of(training_part(&trace).unwrap()).unwrap();
        assert_eq!(part.trace.start, trace.start + 10 * (test - MOST_BINS) as i64);
        assert_eq!((part.trace.counts.len(), part.lesson.len()), (MOST_BINS, MOST_BINS));
    }
}
