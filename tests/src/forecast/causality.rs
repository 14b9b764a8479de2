//! Nothing that ships looks ahead: with other bins after an origin, what was forecast up to it is the same.

use prescale_models::ModelKind;
use prescale_models::choice::Choice as Models;
use prescale_models::neural::CoreKind;

use super::protocol::Protocol;
use super::run::{Choice, Fitted, run};
use super::trace::Trace;
use crate::train::data::training_part;
use crate::train::trees::Lessons;

/// A daily wave with noise, with all that the anomaly filter knows: an hour of silence, a flood, a generator's even rate, by
/// turns every few hours. From bin `end` on it is another load.
fn trace(step_seconds: u32, bins: usize, end: usize) -> Trace {
    let hour = 3600 / step_seconds as usize;
    let count = |i: usize| {
        let wave = 60.0 - 40.0 * libm::cos(std::f64::consts::TAU * i as f64 / (24 * hour) as f64);
        let noisy = (wave * f64::from(step_seconds) / 60.0) + (i * 7919 % 31) as f64;
        match (i / hour % 15, i >= end) {
            (_, true) => 500.0 + (i * 104_729 % 97) as f64,
            (4, _) => 0.0,
            (9, _) => 40.0 * noisy,
            (13, _) => 77.0,
            _ => noisy.round(),
        }
    };
    Trace { name: "x".into(), start: 0, step_seconds, counts: (0..bins).map(count).collect() }
}

/// What ships, each on a grid that it runs on: the cluster ensemble behind its filter and with its head, on seconds without
/// either, with what nodes say, the nodes alone, trees fitted on the training part, and the network alone.
fn shipped() -> [(u32, Choice, &'static [&'static str]); 6] {
    let default: &[&str] =
        &["tuned_smoothing", "holt_winters", "holt_winters_hour", "holt_winters_week", "rls_ar", "gru"];
    [
        (60, Choice::Cluster(CoreKind::Gru), default),
        (10, Choice::Cluster(CoreKind::Gru), default),
        (10, Choice::Cluster(CoreKind::Gru), &["tuned_smoothing", "node_merge"]),
        (10, Choice::Single(ModelKind::NodeMerge), default),
        (300, Choice::Single(ModelKind::Trees), default),
        (60, Choice::Pooled(CoreKind::Gru), default),
    ]
}

#[test]
fn other_bins_after_an_origin_change_nothing_up_to_it() {
    for (step, choice, models) in shipped() {
        let bins = if step == 10 { 9000 } else { 4 * 86_400 / step as usize };
        let test = Protocol::of(&trace(step, bins, bins)).test;
        let rows = |end: usize| {
            let trace = trace(step, bins, end);
            let trees = (choice == Choice::Single(ModelKind::Trees))
                .then(|| Lessons::read(&[training_part(&trace).unwrap()], 0.0).unwrap().fit());
            let models = Models::of(models.iter().copied()).unwrap();
            let fitted = Fitted { trees, models, ..Fitted::default() };
            run(&trace, choice, &fitted).unwrap().0
        };
        let usual = rows(bins);
        for end in [test, test + (bins - test) / 3, bins - 120] {
            let other = rows(end);
            let mut differ = 0;
            for (usual, other) in usual.iter().zip(&other) {
                let same = usual.quantiles == other.quantiles;
                assert!(
                    same || usual.origin >= end,
                    "{} on {step} s: origin {}",
                    choice.name(),
                    usual.origin
                );
                differ += usize::from(!same);
            }
            assert!(
                differ > 0 && differ < usual.len(),
                "{} on {step} s: {differ} rows differ",
                choice.name()
            );
        }
    }
}

#[test]
#[should_panic(expected = "looking ahead")]
fn who_asks_for_a_later_bin_is_stopped() {
    let trace = trace(60, 100, 100);
    let known = trace.known_at(50);
    assert_eq!(known(trace.index(0) - 1), None);
    assert_eq!(known(trace.index(50)), Some(trace.rate(50)));
    known(trace.index(51));
}
