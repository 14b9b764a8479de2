//! How well the maximum of the next minutes is forecast: what pods are sized for, which `evaluate.py` doesn't score.

use anyhow::{Context, Result, ensure};
use prescale_models::{Bin, Grid, Level, Target};

use super::protocol::Protocol;
use super::run::{Choice, Fitted};
use super::trace::Trace;

/// The spans, seconds.
pub const SPANS: [u32; 2] = [60, 120];

/// Under-provisioning costs this many times over-provisioning, as in `evaluate.py`'s `prov`.
const UNDER: f64 = 5.0;

/// One model's marks on one span of one trace.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Marks {
    /// Share of outcomes at or below the 95 % quantile.
    pub covered: f64,
    /// Provisioning loss at the 90 % quantile, relative to the sum of the outcomes.
    pub provisioning: f64,
    /// Forecasts that were scored.
    pub count: usize,
}

/// Scores the forecasts of the largest bin within each of [`SPANS`], from every origin of the trace's test part.
///
/// # Errors
/// If the trace's bins are longer than the shorter span, or the model says nothing.
pub fn score(trace: &Trace, choice: Choice, fitted: &Fitted) -> Result<[Marks; SPANS.len()]> {
    let step = trace.step_seconds;
    ensure!(SPANS.iter().all(|span| span % step == 0), "bins of {step} s don't divide a minute");
    let targets = SPANS.map(|span| Target::MaxOver { steps: span / step });
    let mut model = choice.build(Grid { step_seconds: step }, &targets, fitted);
    let seconds = f64::from(step);
    let test = Protocol::of(trace).test;
    let mut sums = [(0_usize, 0.0, 0.0, 0_usize); SPANS.len()];
    for (origin, count) in trace.counts.iter().enumerate() {
        model.observe(Bin::new(trace.index(origin), count / seconds));
        if origin + 1 < test {
            continue;
        }
        let forecast = model.forecast().context("no forecast after a value")?;
        for ((target, quantiles), sum) in forecast.points.iter().zip(&mut sums) {
            let Some(ahead) = trace.counts.get(origin + 1..=origin + target.steps() as usize) else {
                continue;
            };
            let truth = ahead.iter().copied().fold(0.0, f64::max) / seconds;
            let missing = truth - quantiles.at(Level::P90);
            sum.0 += usize::from(truth <= quantiles.at(Level::P95));
            sum.1 += UNDER * missing.max(0.0) + (-missing).max(0.0);
            sum.2 += truth;
            sum.3 += 1;
        }
    }
    Ok(sums.map(|(covered, loss, truth, count)| Marks {
        covered: covered as f64 / count.max(1) as f64,
        provisioning: loss / f64::max(truth, f64::MIN_POSITIVE),
        count,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use prescale_models::ModelKind;

    #[test]
    fn the_largest_bin_ahead_is_what_counts() {
        // A count of 600 every twelfth bin, else 60: within two minutes the largest is always 600, within one every
        // other time. Forecasts of the last value, whose residuals say so after two days, cover the two minutes.
        let counts = (0..4 * 8640).map(|i| if i % 12 == 0 { 600.0 } else { 60.0 }).collect();
        let trace = Trace { name: "x".into(), start: 0, step_seconds: 10, counts };
        let fitted = Fitted::default();
        let [minute, two] = score(&trace, Choice::Single(ModelKind::LastValue), &fitted).unwrap();
        assert_eq!(minute.count, two.count + 6, "the last minutes have no outcome");
        // The truth is one number, so whoever forecasts that very number covers all of it.
        assert!((0.93..=1.0).contains(&two.covered), "the level is 0.95: {two:?}");
        assert!(
            minute.provisioning > two.provisioning,
            "half of the minutes need a tenth: {minute:?} {two:?}"
        );
    }
}
