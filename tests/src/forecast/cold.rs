//! How well a workload is forecast in its first hours: fresh models, started at many places of the test part.

use anyhow::{Context, Result};
use prescale_models::{Bin, Grid, LEVELS};

use super::protocol::Protocol;
use super::run::{Choice, Fitted, targets};
use super::trace::Trace;

/// What is scored apart, seconds of history: the first hour from the fifth minute on, and the five hours after it.
pub const PARTS: [(u32, u32); 2] = [(300, 3600), (3601, 6 * 3600)];

/// Fresh models per trace.
const STARTS: usize = 24;

/// The mean pinball loss as a share of the outcomes (`evaluate.py`'s WQL without its factor 2), in each of [`PARTS`], at
/// the protocol's horizons. `None` for a trace whose test part is too short.
///
/// # Errors
/// If the model says nothing after a value.
pub fn score(trace: &Trace, choice: Choice, fitted: &Fitted) -> Result<Option<[f64; PARTS.len()]>> {
    let protocol = Protocol::of(trace);
    let (step, seconds) = (trace.step_seconds, f64::from(trace.step_seconds));
    let targets = targets(trace, &protocol);
    let bins = (PARTS[1].1 / step) as usize;
    let longest = targets.iter().map(|t| t.steps() as usize).max().unwrap_or(1);
    let Some(room) = (trace.counts.len() - protocol.test).checked_sub(bins + longest) else {
        return Ok(None);
    };
    let mut sums = [(0.0, 0.0); PARTS.len()];
    for start in (0..STARTS).map(|i| protocol.test + i * room / STARTS) {
        let mut model = choice.build(Grid { step_seconds: step }, &targets, fitted);
        for i in start..start + bins {
            model.observe(Bin::new(trace.index(i), trace.counts[i] / seconds));
            let age = (i + 1 - start) as u32 * step;
            let Some(part) = PARTS.iter().position(|(from, to)| (*from..=*to).contains(&age)) else {
                continue;
            };
            let forecast = model.forecast().context("no forecast after a value")?;
            for (target, quantiles) in &forecast.points {
                let truth = trace.counts[i + target.steps() as usize] / seconds;
                for (level, value) in LEVELS.iter().zip(quantiles.values()) {
                    let error = truth - value;
                    sums[part].0 += (level * error).max((level - 1.0) * error) / LEVELS.len() as f64;
                }
                sums[part].1 += truth;
            }
        }
    }
    Ok(Some(sums.map(|(loss, truth): (f64, f64)| loss / truth.max(1e-9))))
}

#[cfg(test)]
mod tests {
    use prescale_models::ModelKind;
    use prescale_models::neural::CoreKind;

    use super::*;

    #[test]
    fn the_first_hour_is_smoothings_and_an_hours_timer_is_known_after_it() {
        // A day of minutes with a burst every quarter-hour: smoothing can't know it, the hourly season does.
        let counts = (0..2 * 1440).map(|i| if i % 15 == 0 { 600.0 } else { 60.0 }).collect();
        let trace = Trace { name: "x".into(), start: 0, step_seconds: 60, counts };
        let fitted = Fitted::default();
        let of = |choice| score(&trace, choice, &fitted).unwrap().unwrap();
        let (cluster, smoothing) =
            (of(Choice::Cluster(CoreKind::Gru)), of(Choice::Single(ModelKind::TunedSmoothing)));
        assert_eq!(cluster[0], smoothing[0]);
        assert!(cluster[1] < 0.5 * smoothing[1], "{cluster:?} {smoothing:?}");
        let short = Trace { counts: vec![1.0; 400], ..trace };
        assert_eq!(score(&short, Choice::Cluster(CoreKind::Gru), &fitted).unwrap(), None);
    }
}
