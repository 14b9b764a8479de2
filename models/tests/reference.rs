//! The experts against independent implementations: statsmodels' Holt-Winters, numpy's least squares.
//!
//! The expected values were made by `models/tests/reference/experts.py`, which says with which versions.

use prescale_models::experts::{HoltWinters, HoltWintersFactors, LinearTwoMinutes};
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
