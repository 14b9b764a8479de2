//! `evaluate.py`'s protocol: which origins and horizons of a trace are forecast.

use super::trace::Trace;

const DAY_SECONDS: usize = 86_400;

/// What has to be forecast on one trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Protocol {
    /// Index of the first bin of the test part.
    pub test: usize,
    /// Seconds ahead.
    pub horizons: Vec<u32>,
    /// Bins that are the last ones a forecaster may look at, ascending.
    pub origins: Vec<usize>,
}

impl Protocol {
    /// Test part: the last min(7 days, half the trace); 200 origins evenly over it, 100 on traces of less than a day.
    pub fn of(trace: &Trace) -> Self {
        let step = trace.step_seconds as usize;
        let n = trace.counts.len();
        let short = n * step < DAY_SECONDS;
        let test = n - (7 * DAY_SECONDS / step).min(n / 2);
        let horizons: &[u32] = match (step == 10, short) {
            (true, false) => &[30, 60, 300, 900],
            (true, true) => &[30, 60, 300],
            (false, false) => &[300, 900, 1800],
            (false, true) => &[300, 900],
        };
        let longest = horizons.iter().map(|h| *h as usize / step).max().unwrap_or(1);
        let count: u32 = if short { 100 } else { 200 };
        let (first, last) = (test.saturating_sub(1), n.saturating_sub(1 + longest));
        // numpy's linspace and rint, to the bit: i × width + start, the last exactly; halves go to even.
        let width = (last as f64 - first as f64) / f64::from(count - 1);
        let mut origins: Vec<usize> = (0..count)
            .map(|i| if i == count - 1 { last as f64 } else { f64::from(i) * width + first as f64 })
            .map(|origin| origin.round_ties_even() as usize)
            .collect();
        origins.dedup();
        Self { test, horizons: horizons.to_vec(), origins }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(serde::Deserialize)]
    struct Case {
        step_seconds: u32,
        bins: usize,
        test: usize,
        horizons: Vec<u32>,
        origins: Vec<usize>,
    }

    #[test]
    fn origins_and_horizons_are_those_of_evaluate_py() {
        // Made by `tests/reference/protocol.py`.
        let cases: Vec<Case> = serde_json::from_str(include_str!("../../reference/protocol.json")).unwrap();
        assert_eq!(cases.len(), 9);
        for Case { step_seconds, bins, test, horizons, origins } in cases {
            let trace = Trace { name: "x".into(), start: 0, step_seconds, counts: vec![1.0; bins] };
            let expected = Protocol { test, horizons, origins };
            assert_eq!(Protocol::of(&trace), expected, "{bins} bins of {step_seconds} s");
        }
    }
}
