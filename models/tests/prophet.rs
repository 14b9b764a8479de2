//! Prophet against Meta's own package and against scipy's maximum of the same posterior.
//!
//! The expected values were made by `models/tests/reference/prophet.py`, which says with which versions.

use prescale_models::prophet::{Holiday, Parts, Prophet};

/// As `series` in the script, hour by hour.
fn series() -> (Vec<f64>, Vec<f64>) {
    let mut x = 12_345_u64;
    let value = |t: i64| {
        x = (1_103_515_245 * x + 12_345) % (1 << 31);
        let hour = t % 24;
        let bend = if t < 216 { t / 4 } else { 54 - (t - 216) / 2 };
        let weekend = if t / 24 % 7 >= 5 { 60 } else { 0 };
        let fair = if t / 24 == 6 { 90 } else { 0 };
        (200 + bend + 10 * hour.min(24 - hour) - weekend + fair) as f64 + (x / 65_536 % 20) as f64
    };
    let values: Vec<f64> = (0..24 * 14).map(value).collect();
    ((0..24 * 14).map(time).collect(), values)
}

fn time(hour: i64) -> f64 {
    (hour as f64 + 0.5) * 3600.0
}

fn assert_near(what: &str, got: &[f64], expected: &[f64], tolerance: f64) {
    let near = got.iter().zip(expected).all(|(got, expected)| (got - expected).abs() <= tolerance);
    assert!(near && got.len() == expected.len(), "{what}: {got:?} instead of {expected:?}");
}

/// What a fit says at hours of its past and at hours after its end, and its noise.
fn fit(parts: Parts, holidays: &[Holiday]) -> (Vec<f64>, Vec<f64>, Prophet) {
    let (times, values) = series();
    let model = Prophet::fit(&times, &values, parts, holidays).expect("two weeks of loads above 0");
    let past = [0, 100, 150, 300].map(|hour| model.at(time(hour), holidays)).to_vec();
    let ahead = [0, 5, 12, 29].map(|hour| model.at(time(24 * 14 + hour), holidays)).to_vec();
    (past, ahead, model)
}

#[test]
fn a_trend_and_a_day_are_the_posteriors_maximum_and_close_to_the_packages() {
    let (past, ahead, model) = fit(Parts { daily: true, weekly: false }, &[]);
    // The steps end where the posterior is flat: within a thousandth of the past, within half a hundredth ahead.
    assert_near("past", &past, &[220.17, 264.51, 297.77, 294.47], 0.25);
    assert_near("ahead", &ahead, &[134.21, 170.76, 225.83, 136.43], 0.7);
    assert!((model.noise() - 18.9946).abs() < 0.05, "{}", model.noise());
    // The package's optimiser stops a little before the maximum.
    assert_near("prophet", &ahead, &[135.59, 172.22, 227.48, 138.64], 3.0);
    // A bend that isn't needed is none: the prior is Laplace's, not a normal one. Among neighbours that do as well as each
    // other the posterior is flat, and the steps end before small ones are gone.
    let large: Vec<usize> = (0..25).filter(|bend| model.bends()[*bend].abs() > 0.1).collect();
    assert!((5..=9).contains(&large.len()), "scipy has six, at 11, 15, 19, 20, 22 and 23: {large:?}");
    assert!(
        (0..10).all(|bend| model.bends()[bend].abs() < 1e-3),
        "straight for nine days: {:?}",
        model.bends()
    );
}

#[test]
fn weeks_and_holidays_are_too() {
    let fair = [Holiday { days: vec![6, 14] }];
    let (past, ahead, model) = fit(Parts { daily: true, weekly: true }, &fair);
    assert_near("past", &past, &[208.53, 278.8, 322.57, 273.25], 0.1);
    assert_near("ahead", &ahead, &[231.68, 275.98, 337.32, 192.91], 0.2);
    assert_near("prophet", &ahead, &[232.36, 276.84, 338.48, 195.07], 2.5);
    assert!((model.noise() - 10.1717).abs() < 0.01, "{}", model.noise());
}
