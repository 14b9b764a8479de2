//! Gradient checks against central differences.

use super::parameters::Parameters;
use super::random::Random;

/// Step of the differences: ∛ε of f64 would be 6e-6; a little more keeps cancellation away from small gradients.
const STEP: f64 = 1e-5;

/// Values in ±1 from a seed.
pub fn noise(count: usize, seed: u64) -> Vec<f64> {
    let mut random = Random::new(seed);
    (0..count).map(|_| 2.0 * random.unit() - 1.0).collect()
}

fn assert_close(analytic: f64, numeric: f64, what: &str) {
    // The differences' own error is about STEP² of a third derivative plus 1e-16/STEP.
    let tolerance = 1e-7 * (1.0 + analytic.abs().max(numeric.abs()));
    assert!((analytic - numeric).abs() < tolerance, "{what}: {analytic} but differences say {numeric}");
}

/// Compares `gradient` and `dx` with central differences of `loss` in every parameter and every input.
pub fn check_gradient<P: Parameters<f64>>(
    network: &mut P,
    gradient: &P,
    x: &mut [f64],
    dx: &[f64],
    loss: impl Fn(&P, &[f64]) -> f64,
) {
    let mut analytic = Vec::new();
    gradient.flatten(&mut analytic);
    assert!(analytic.iter().any(|g| *g != 0.0), "an empty gradient checks nothing");
    for (at, analytic) in analytic.iter().enumerate() {
        let moved = |network: &mut P, by: f64| {
            let mut seen = 0;
            network.visit_mut("", &mut |_, _, values| {
                if (seen..seen + values.len()).contains(&at) {
                    values[at - seen] += by;
                }
                seen += values.len();
            });
        };
        moved(network, STEP);
        let up = loss(network, x);
        moved(network, -2.0 * STEP);
        let down = loss(network, x);
        moved(network, STEP);
        assert_close(*analytic, (up - down) / (2.0 * STEP), &format!("parameter {at}"));
    }
    check_input_gradient(x, dx, |x| loss(network, x));
}

/// Compares `dx` with central differences of `loss` in every input.
pub fn check_input_gradient(x: &mut [f64], dx: &[f64], loss: impl Fn(&[f64]) -> f64) {
    assert!(dx.iter().any(|g| *g != 0.0), "an empty gradient checks nothing");
    for (at, analytic) in dx.iter().enumerate() {
        let kept = x[at];
        x[at] = kept + STEP;
        let up = loss(x);
        x[at] = kept - STEP;
        let down = loss(x);
        x[at] = kept;
        assert_close(*analytic, (up - down) / (2.0 * STEP), &format!("input {at}"));
    }
}
