//! The experts against independent implementations: statsmodels' Holt-Winters and autocorrelation, numpy's least squares.
//! (Prophet's are in `prophet.rs`.)
//!
//! The expected values were made by `models/tests/reference/experts.py`, which says with which versions.

use prescale_models::arima::{Arima, Order, kpss};
use prescale_models::experts::{
    HoltWinters, HoltWintersFactors, LinearTwoMinutes, PhaseProfile, QuarterMean, RlsAr, SeasonalNaive,
    StatuScale, Status, TunedSmoothing,
};
use prescale_models::rls::Rls;
use prescale_models::season::autocorrelation;
use prescale_models::{Bin, Expert, Grid, ModelKind, Target};

/// As `series` in the script.
fn series(n: u32) -> Vec<f64> {
    let mut x = 12_345_u64;
    (0..n)
        .map(|t| {
            x = (1_103_515_245 * x + 12_345) % (1 << 31);
            let hour = t % 24;
            f64::from(200 + t / 4 + 10 * hour.min(24 - hour)) + (x / 65_536 % 20) as f64
        })
        .collect()
}

fn assert_near(got: &[f64], expected: &[f64]) {
    for (got, expected) in got.iter().zip(expected) {
        // The season is stored as f32: seven digits.
        assert!((got - expected).abs() <= 1e-6 * expected.abs() + 1e-6, "{got} instead of {expected}");
    }
}

#[test]
fn holt_winters_is_statsmodels() {
    let targets = [
        Target::At { steps: 1 },
        Target::At { steps: 3 },
        Target::At { steps: 12 },
        Target::At { steps: 23 },
        Target::MaxOver { steps: 12 },
    ];
    for (level, trend, season, expected) in [
        (0.15, 0.0, 0.3, [245.856811, 268.652051, 360.605919, 269.258224, 360.605919]),
        (0.3, 0.1, 0.2, [244.872403, 266.414178, 353.687966, 263.291136, 353.687966]),
    ] {
        let grid = Grid { step_seconds: 3600 };
        let factors = [HoltWintersFactors { level, trend }];
        let mut expert =
            HoltWinters::new(ModelKind::HoltWinters, grid, &targets, &factors, &[season], 86_400, 3600);
        for (index, value) in series(24 * 7).into_iter().enumerate() {
            expert.observe(Bin::new(index as i64, value));
        }
        let mut out = [0.0; 5];
        expert.predict(&targets, &mut out);
        assert_near(&out, &expected);
    }
}

#[test]
fn two_minute_linear_is_polyfit() {
    let targets = [Target::At { steps: 6 }, Target::At { steps: 30 }];
    let mut expert = LinearTwoMinutes::new(Grid { step_seconds: 10 });
    for (index, value) in series(24 * 7).into_iter().enumerate() {
        expert.observe(Bin::new(index as i64, value));
    }
    let mut out = [0.0; 2];
    expert.predict(&targets, &mut out);
    // The line goes below zero; a load doesn't.
    assert_near(&out, &[205.131868, 0.0]);
}

/// Feeds hours to an expert and returns what it says for the values 1, 3, `third` and `fourth` hours ahead, and for the
/// maximum of the next twelve.
fn after(mut expert: impl Expert, values: Vec<f64>, third: u32, fourth: u32) -> [f64; 5] {
    for (index, value) in values.into_iter().enumerate() {
        expert.observe(Bin::new(index as i64, value));
    }
    assert!(expert.awake());
    let at = |steps| Target::At { steps };
    let mut out = [0.0; 5];
    expert.predict(&[at(1), at(3), at(third), at(fourth), Target::MaxOver { steps: 12 }], &mut out);
    out
}

#[test]
fn seasonal_naive_is_the_series_shifted() {
    let grid = Grid { step_seconds: 3600 };
    let daily = after(SeasonalNaive::daily(grid), series(24 * 7), 12, 23);
    assert_near(&daily, &[236.0, 259.0, 363.0, 266.0, 363.0]);
    let weekly = after(SeasonalNaive::weekly(grid), series(24 * 9), 12, 23);
    assert_near(&weekly, &[225.0, 236.0, 339.0, 253.0, 339.0]);
}

#[test]
fn autocorrelation_is_statsmodels() {
    let y = series(24 * 7);
    let at = |series: &[f64]| {
        let all = autocorrelation(series, 48);
        [all[1], all[12], all[24], all[48]]
    };
    assert_near(&at(&y), &[0.926576497, -0.720166632, 0.80344597, 0.652962039]);
    let changes: Vec<f64> = y.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert_near(&at(&changes), &[0.373908545, -0.512228508, 0.517521491, 0.45290174]);
}

#[test]
fn the_phase_profile_is_the_weighted_mean_of_four_turns() {
    let timer = |(i, v): (usize, f64)| v - 200.0 + if i % 12 == 5 { 400.0 } else { 0.0 };
    let cron = series(24 * 30).into_iter().enumerate().map(timer).collect();
    let got = after(PhaseProfile::new(Grid { step_seconds: 3600 }), cron, 6, 20);
    assert_near(&got, &[254.307136, 255.594399, 657.374887, 254.759711, 657.374887]);
}

#[test]
fn statuscale_is_the_scripts() {
    let mut expert = StatuScale::new(Grid { step_seconds: 60 });
    let (mut said, mut bursts) = (Vec::new(), 0);
    for (t, value) in series(24 * 7).into_iter().enumerate() {
        expert.observe(Bin::new(t as i64, if t % 50 >= 42 { value + 150.0 } else { value }));
        bursts += u32::from(expert.status() == Status::Burst);
        if [19, 41, 43, 45, 52, 100, 142, 143, 167].contains(&t) {
            let mut out = [0.0];
            expert.predict(&[Target::At { steps: 5 }], &mut out);
            said.push(out[0]);
        }
    }
    let expected = [279.75, 294.375, 418.5, 414.5, 339.1, 329.166667, 350.5, 411.0, 337.458333];
    assert_near(&said, &expected);
    assert!(bursts > 10, "{bursts} bins of bursts: the expected values would show little");
}

#[test]
fn the_quarter_mean_is_the_mean_of_what_was_measured() {
    let mut expert = QuarterMean::new(Grid { step_seconds: 60 });
    for (index, value) in series(24 * 7).into_iter().enumerate() {
        let measured = if index % 4 == 1 { None } else { Some(value) };
        expert.observe(Bin { index: index as i64, value: measured, censored: false });
    }
    let mut out = [0.0];
    expert.predict(&[Target::At { steps: 5 }], &mut out);
    assert_near(&out, &[320.181818]);
}

#[test]
fn tuned_smoothing_is_the_best_of_statsmodels_levels() {
    let at = |steps| Target::At { steps };
    let targets = [at(1), at(3), at(24), Target::MaxOver { steps: 12 }];
    let mut expert = TunedSmoothing::new(Grid { step_seconds: 3600 }, &targets);
    // The noise alone, about a level that moves every 50 bins: each target is served best by another factor.
    for (t, value) in (0..).zip(series(24 * 21)) {
        let (hour, step) = (t % 24, t / 50 * 7 % 5);
        let daily = f64::from(t / 4 + 10 * hour.min(24 - hour));
        expert.observe(Bin::new(t.into(), value - daily + f64::from(4 * step)));
    }
    let mut out = [0.0; 4];
    expert.predict(&targets, &mut out);
    assert_near(&out, &[215.19993, 215.19993, 218.90535, 213.3227]);
}

#[test]
fn rls_ar_is_the_ridge_regression_of_all_that_settled() {
    let at = |steps| Target::At { steps };
    let targets = [at(1), at(3), at(12), Target::MaxOver { steps: 12 }];
    let mut expert = RlsAr::new(Grid { step_seconds: 3600 }, &targets);
    for (index, value) in series(24 * 30).into_iter().enumerate() {
        expert.observe(Bin::new(index as i64, value));
    }
    assert!(expert.awake());
    let mut out = [0.0; 4];
    expert.predict(&targets, &mut out);
    for (got, expected) in out.iter().zip([399.4154, 415.3901, 511.6961, 511.6961]) {
        // Regressors are kept in 16 bits, to a thousandth each.
        assert!((got - expected).abs() < 2e-4 * expected, "{out:?}: {got} instead of {expected}");
    }
}

#[test]
fn recursive_least_squares_is_the_weighted_ridge_regression() {
    let y = series(24 * 7);
    let scaled = |t: usize| (y[t] - 250.0) / 50.0;
    let mut rls = Rls::new(4, 0.99, 2.0);
    for t in 3..153 {
        rls.update(&[1.0, scaled(t), scaled(t - 1), scaled(t - 3)], scaled(t + 1));
    }
    assert_near(rls.weights(), &[0.138212647, 0.991058504, 0.156704533, -0.303604683]);
}

#[test]
fn arima_is_fitted_as_by_scipy_and_forecasts_as_statsmodels() {
    let y = series(24 * 7);
    let near = |got: &[f64], expected: &[f64], tolerance: f64| {
        assert_eq!(got.len(), expected.len());
        let all = got.iter().zip(expected).all(|(a, b)| (a - b).abs() <= tolerance * (1.0 + b.abs()));
        assert!(all, "{got:?} instead of {expected:?}");
    };
    for (order, parameters, forecast) in [
        (
            Order { ar: 2, differences: 0, ma: 1 },
            &[1.87063, -0.927415, -0.763354, 289.822763][..],
            [249.419, 244.5882, 256.1306, 304.482],
        ),
        (
            Order { ar: 1, differences: 1, ma: 1 },
            &[0.801224, -0.495474],
            [248.8827, 238.6112, 229.6672, 222.7006],
        ),
    ] {
        let model = Arima::fit(&y, order);
        // Both minimisers stop where the sum of squares is flat to their last digits.
        near(&model.parameters(), parameters, 1e-4);
        let mut got = Vec::new();
        model.forecast(12, |step, value| {
            if [1, 3, 6, 12].contains(&step) {
                got.push(value);
            }
        });
        near(&got, &forecast, 1e-4);
    }
    let changes: Vec<f64> = y.windows(2).map(|pair| pair[1] - pair[0]).collect();
    near(&[kpss(&y), kpss(&changes)], &[0.463976481, 0.072798441], 1e-8);
}
