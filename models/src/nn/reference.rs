//! Reads the values that `tests/reference/nn.py` computed independently, and draws as `networks.py` beside it does.

use serde_json::Value;

use super::parameters::Parameters;

/// One case of the file.
pub fn case(name: &str) -> Value {
    let file: Value =
        serde_json::from_str(include_str!("../../tests/reference/nn.json")).expect("the reference is JSON");
    file[name].clone()
}

/// A flat list of numbers.
pub fn values(case: &Value, name: &str) -> Vec<f64> {
    let list = case[name].as_array().unwrap_or_else(|| panic!("no list {name} in the reference"));
    list.iter().map(|v| v.as_f64().expect("a number")).collect()
}

/// Fills a network from the lists of its tensors' names.
pub fn load(network: &mut impl Parameters<f64>, case: &Value) {
    network.visit_mut("", &mut |name, _, to| to.copy_from_slice(&values(case, name)));
}

/// Both use f64 and differ in the order of their sums only.
pub fn assert_near(found: &[f64], expected: &[f64]) {
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(expected) {
        assert!((found - expected).abs() < 1e-12, "{found} is not {expected}");
    }
}

/// As `noise` in `tests/reference/networks.py`: thousandths from −1 to 1.
pub fn noise(seed: u64) -> impl FnMut() -> f64 {
    let mut x = seed;
    move || {
        x = (1_103_515_245 * x + 12_345) % (1 << 31);
        (x / 65_536 % 2001) as f64 / 1000.0 - 1.0
    }
}
