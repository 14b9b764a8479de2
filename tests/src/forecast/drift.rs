//! How often a trace's head is demoted for having begun to hurt.

use anyhow::{Context, Result};
use prescale_models::{Bin, Ensemble, Grid};

use super::protocol::Protocol;
use super::run::{Fitted, targets};
use super::trace::Trace;

/// Bins of a whole trace, those whose forecast was the mixture with the head, and the ends of such spells by a demotion.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Demotions {
    /// Observed.
    pub bins: usize,
    /// With the head.
    pub admitted: usize,
    /// Kept without the head, though its records spoke for it or would have.
    pub demoted: usize,
    /// How often.
    pub demotions: u32,
}

/// Runs the cluster ensemble over the whole trace, with the protocol's targets.
///
/// # Errors
/// If the trace's grid has no head.
pub fn count(trace: &Trace, fitted: &Fitted) -> Result<Demotions> {
    let grid = Grid { step_seconds: trace.step_seconds };
    let targets = targets(trace, &Protocol::of(trace));
    let mut model = Ensemble::cluster_with(grid, &targets, fitted.network.clone());
    let mut all = Demotions { bins: trace.counts.len(), ..Demotions::default() };
    for (i, count) in trace.counts.iter().enumerate() {
        model.observe(Bin::new(trace.index(i), count / f64::from(trace.step_seconds)));
        let head = model.head().context("no head on this grid")?;
        all.admitted += usize::from(head.admitted);
        all.demoted += usize::from(head.demoted);
        all.demotions = head.demotions;
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_that_never_changes_anything_is_not_demoted() {
        let counts = (0..3 * 1440).map(|i| 60.0 + f64::from(i * 7919 % 31)).collect();
        let trace = Trace { name: "x".into(), start: 0, step_seconds: 60, counts };
        let all = count(&trace, &Fitted::default()).unwrap();
        assert_eq!((all.bins, all.demotions), (3 * 1440, 0));
        assert!(all.admitted + all.demoted <= all.bins, "{all:?}");
        let fine = Trace { step_seconds: 10, ..trace };
        assert!(count(&fine, &Fitted::default()).is_err());
    }
}
