//! How good forecasts were: `evaluate.py`'s metrics, and the plain errors beside them.

use prescale_models::{LEVELS, Quantiles};

use super::protocol::Protocol;
use super::trace::Trace;

/// Errors of one model on one trace, over all origins and horizons, in counts per bin.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Metrics {
    /// Root of the mean squared error of the median.
    pub rmse: f64,
    /// Mean squared error of the median.
    pub mse: f64,
    /// Mean absolute error of the median.
    pub mae: f64,
    /// Mean absolute error as a share of the outcome; none where an outcome was 0, for it is not defined there.
    pub mape: Option<f64>,
    /// MAE over that of yesterday's value on the training part (the last value on traces of less than two days).
    pub mase: f64,
    /// Mean over the levels of 2 × pinball loss, as a share of the outcomes' sum.
    pub wql: f64,
    /// Share of outcomes at or below the 95 % quantile.
    pub coverage95: f64,
    /// Share of outcomes at or below the 99 % quantile.
    pub coverage99: f64,
    /// 5 × what was missing above the 90 % quantile and 1 × what was spare below it, as a share of the outcomes' sum.
    pub provisioning: f64,
}

impl Metrics {
    /// Of pairs of an outcome and what was forecast of it; `scale` is [`naive_error`].
    pub fn of(pairs: &[(f64, Quantiles)], scale: f64) -> Self {
        let count = pairs.len().max(1) as f64;
        let mut all = Self { mape: Some(0.0), ..Self::default() };
        let (mut total, mut pinball) = (0.0, 0.0);
        for (truth, quantiles) in pairs {
            let values = quantiles.values();
            let error = truth - quantiles.median();
            all.mse += error * error / count;
            all.mae += error.abs() / count;
            all.mape = all.mape.filter(|_| *truth != 0.0).map(|sum| sum + (error / truth).abs() / count);
            total += truth.abs();
            for (level, value) in LEVELS.iter().zip(values) {
                let error = truth - value;
                pinball += (level * error).max((level - 1.0) * error);
            }
            all.coverage95 += f64::from(u8::from(*truth <= values[3])) / count;
            all.coverage99 += f64::from(u8::from(*truth <= values[4])) / count;
            let above = truth - values[2];
            all.provisioning += if above > 0.0 { 5.0 * above } else { -above };
        }
        let total = total.max(1e-9);
        all.rmse = all.mse.sqrt();
        all.mase = all.mae / scale;
        all.wql = 2.0 * pinball / total / LEVELS.len() as f64;
        all.provisioning /= total;
        all
    }
}

/// Mean absolute error of yesterday's value on the training part; of the last value where that is shorter than two
/// days.
pub fn naive_error(trace: &Trace, protocol: &Protocol) -> f64 {
    let training = &trace.counts[..protocol.test];
    let day = 86_400 / trace.step_seconds as usize;
    let lag = if training.len() >= 2 * day { day } else { 1 };
    let errors = training.iter().skip(lag).zip(training).map(|(now, then)| (now - then).abs());
    let mean = errors.sum::<f64>() / training.len().saturating_sub(lag).max(1) as f64;
    mean.max(1e-9)
}

/// Geometric mean of the ratios to another model's values, each with 10⁻⁴ added, as `evaluate.py` does.
pub fn relative(own: &[f64], other: &[f64]) -> f64 {
    let logs: f64 = own.iter().zip(other).map(|(a, b)| ((a + 1e-4) / (b + 1e-4)).max(1e-6).ln()).sum();
    (logs / own.len().max(1) as f64).exp()
}

#[cfg(test)]
mod tests {
    use super::*;
    use prescale_models::{Bin, Ensemble, Grid, Target};

    /// The aggregator keeps the same errors of what it forecasts.
    #[test]
    fn the_live_errors_of_an_ensemble_are_these() {
        let target = Target::At { steps: 1 };
        let mut model = Ensemble::cluster(Grid { step_seconds: 60 }, &[target]);
        let counts: Vec<f64> = (0..1000).map(|i| f64::from(200 + i % 60 + i * 7919 % 31)).collect();
        let mut pairs: Vec<(f64, Quantiles)> = Vec::new();
        let mut forecast: Option<Quantiles> = None;
        for (index, &count) in (0..).zip(&counts) {
            pairs.extend(forecast.map(|quantiles| (count, quantiles)));
            model.observe(Bin::new(index, count));
            forecast = model.forecast().and_then(|it| it.get(target)).copied();
        }
        // On all bins, where this is a shorter trace's training part, and of the last value, as on such.
        let trace = Trace { name: String::new(), start: 0, step_seconds: 60, counts };
        let all = Protocol { test: trace.counts.len(), horizons: vec![], origins: vec![] };
        let expected = Metrics::of(&pairs, naive_error(&trace, &all));
        let live = model.scores().next().unwrap().issued;
        for (live, expected) in [
            (live.rmse(), expected.rmse),
            (live.mse, expected.mse),
            (live.mae, expected.mae),
            (live.mape.unwrap(), expected.mape.unwrap()),
            (live.mase.unwrap(), expected.mase),
            (live.wql.unwrap(), expected.wql),
            (live.coverage95().unwrap(), expected.coverage95),
            (live.provisioning.unwrap(), expected.provisioning),
        ] {
            assert!((live - expected).abs() <= 1e-4 * expected, "{live} for {expected}");
        }
    }

    /// `evaluate.metrics(numpy.array([10, 0, 30.]), numpy.array([[5, 9, 12, 14, 20], [0, 1, 2, 3, 4], [10, 20, 25, 28,
    /// 29.]]), 4.0)`, by FORECAST.md's script, gave these; mape is added by hand.
    #[test]
    fn they_are_those_of_the_script() {
        let rows = [
            (10.0, [5.0, 9.0, 12.0, 14.0, 20.0]),
            (0.0, [0.0, 1.0, 2.0, 3.0, 4.0]),
            (30.0, [10.0, 20.0, 25.0, 28.0, 29.0]),
        ];
        let pairs = rows.map(|(truth, values)| (truth, Quantiles::new(values).unwrap()));
        let got = Metrics::of(&pairs, 4.0);
        let near = |got: f64, expected: f64| assert!((got - expected).abs() < 1e-9, "{got} for {expected}");
        near(got.mase, 1.0);
        near(got.rmse, 5.830951894845);
        near(got.wql, 0.1678);
        near(got.provisioning, 0.725);
        near(got.coverage95, 2.0 / 3.0);
        near(got.coverage99, 2.0 / 3.0);
        assert_eq!(got.mape, None, "an outcome was 0");
        near(Metrics::of(&pairs[..1], 4.0).mape.unwrap(), 0.1);
    }
}
