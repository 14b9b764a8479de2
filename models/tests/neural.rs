//! The shipped networks as forecasters: causal, quiet on hostile input, without allocation, better than what it chooses
//! among.

#![allow(clippy::unwrap_used, reason = "a test may panic, in its helpers too")]

use std::sync::Arc;

use prescale_models::neural::training::{fingerprint, hash};
use prescale_models::neural::{CoreKind, Pooled, shipped, shipped_as};
use prescale_models::nn::Random;
use prescale_models::{Bin, Forecaster as _, Grid, Level, Target, WeightsKind};

const GRID: Grid = Grid { step_seconds: 60 };
const TARGETS: [Target; 3] =
    [Target::At { steps: 1 }, Target::At { steps: 15 }, Target::MaxOver { steps: 2 }];

fn pooled(core: CoreKind) -> Pooled {
    Pooled::new(shipped_as(core), GRID, &TARGETS)
}

/// A day's wave with a timer and noise.
fn rate(i: i64, random: &mut Random) -> f64 {
    let phase = (i % 1440) as f64 / 1440.0;
    20.0 + 60.0 * phase * (1.0 - phase) + 3.0 * random.unit() + if i % 30 == 0 { 12.0 } else { 0.0 }
}

#[test]
fn the_shipped_weights_were_trained_by_this_code() {
    let shipped: [(CoreKind, &str, &[u8]); 3] = [
        (CoreKind::Gru, include_str!("../weights/gru.json"), include_bytes!("../weights/gru.safetensors")),
        (CoreKind::Lstm, include_str!("../weights/lstm.json"), include_bytes!("../weights/lstm.safetensors")),
        (CoreKind::Cnn, include_str!("../weights/cnn.json"), include_bytes!("../weights/cnn.safetensors")),
    ];
    for (core, sidecar, weights) in shipped {
        let sidecar: serde_json::Value = serde_json::from_str(sidecar).unwrap();
        let named = |key: &str| sidecar[key].as_str().map(str::to_owned);
        assert_eq!(named("weights"), Some(format!("{:016x}", hash(weights))), "{core:?}: the JSON file's");
        // Where this fails, features or training have changed since: `cargo xtask train`, and new figures in the card.
        assert_eq!(named("code"), Some(format!("{:016x}", fingerprint(core))), "{core:?}");
        assert_eq!(named("code").as_deref(), Some(WeightsKind::Network(core).code()), "{core:?}");
    }
}

#[test]
fn the_future_changes_no_earlier_forecast() {
    CoreKind::ALL.into_iter().for_each(future_changes_nothing);
}

fn future_changes_nothing(core: CoreKind) {
    // Longer than any network's view, so that each of the later bins has had its chance.
    const BINS: i64 = 700;
    let run = |end: i64, future: &dyn Fn(i64) -> Option<f64>| {
        let (mut model, random) = (pooled(core), &mut Random::new(1));
        let mut said = Vec::new();
        for index in 0..BINS {
            let usual = rate(index, random);
            let value = if index < end { Some(usual) } else { future(index) };
            model.observe(Bin { index, value, censored: false });
            said.push(model.forecast().cloned());
        }
        (said, model)
    };
    let (usual, mut model) = run(BINS, &|_| None);
    let futures: [&dyn Fn(i64) -> Option<f64>; 3] =
        [&|_| Some(0.0), &|i| Some(1e6 * i as f64), &|i| (i % 3 > 0).then_some(50.0)];
    for (end, future) in [1, 61, 500, BINS - 1].into_iter().flat_map(|end| futures.map(|it| (end, it))) {
        let (other, _) = run(end, future);
        assert_eq!(usual[..end as usize], other[..end as usize], "{core:?}: other bins from {end} on");
        assert_ne!(usual.last(), other.last(), "{core:?}: bins must matter, or this test would not");
    }
    // An old bin again, or one before, changes nothing.
    model.observe(Bin::new(BINS - 1, 1e6));
    model.observe(Bin::new(3, 0.0));
    assert_eq!(model.forecast(), usual.last().unwrap().as_ref());
}

#[test]
fn hostile_bins_give_finite_ascending_quantiles() {
    CoreKind::ALL.into_iter().for_each(hostile_bins);
}

fn hostile_bins(core: CoreKind) {
    let mut model = pooled(core);
    assert!(model.forecast().is_none());
    model.observe(Bin::missing(0));
    assert!(model.forecast().is_none(), "nothing was measured yet");
    let values = [0.0, 1e300, f64::NAN, -5.0, f64::INFINITY, 1e-300, 0.0, 3.0];
    let mut index = 0;
    let random = &mut Random::new(2);
    for round in 0..2000 {
        index += if round % 97 == 0 { 5000 } else { 1 };
        let value = if round % 5 == 0 { values[random.below(values.len())] } else { random.unit() };
        model.observe(Bin { index, value: Some(value), censored: round % 11 == 0 });
        let Some(forecast) = model.forecast() else { continue };
        for (_, quantiles) in &forecast.points {
            let values = quantiles.values();
            assert!(values.is_sorted() && values.iter().all(|v| v.is_finite()), "bin {index}: {values:?}");
        }
    }
}

#[test]
fn a_bin_costs_no_allocation() {
    CoreKind::ALL.into_iter().for_each(no_allocation);
}

fn no_allocation(core: CoreKind) {
    let mut model = pooled(core);
    let random = &mut Random::new(3);
    for i in 0..3000 {
        model.observe(Bin::new(i, rate(i, random)));
    }
    let counted = allocation_counter::measure(|| {
        for i in 3000..3200 {
            model.observe(Bin::new(i, rate(i, random)));
        }
    });
    assert_eq!(counted.count_total, 0);
    assert!(model.memory_bytes() < 64 * 1024, "{} bytes", model.memory_bytes());
}

#[test]
fn it_learns_a_timer_and_covers_what_it_promises() {
    CoreKind::ALL.into_iter().for_each(timer);
}

fn timer(core: CoreKind) {
    let mut model = pooled(core);
    let random = &mut Random::new(4);
    let (mut own, mut last, mut covered, mut count) = (0.0, 0.0, 0, 0);
    let mut series = Vec::new();
    let mut said = Vec::new();
    for i in 0..4 * 1440 {
        series.push(rate(i, random));
        model.observe(Bin::new(i, series[i as usize]));
        said.push(model.forecast().expect("a value was observed").points[1].1);
        if i >= 2 * 1440 {
            let (origin, truth) = (i as usize - 15, series[i as usize]);
            own += (truth - said[origin].median()).abs();
            last += (truth - series[origin]).abs();
            covered += u32::from(truth <= said[origin].at(Level::P95));
            count += 1;
        }
    }
    assert!(own < 0.7 * last, "{core:?}: error {own} against {last} of the last value");
    let share = f64::from(covered) / f64::from(count);
    assert!((0.92..=0.98).contains(&share), "{core:?}: {share} covered");
}

#[test]
fn one_network_serves_all() {
    let (a, b) = (shipped(), shipped());
    assert!(Arc::ptr_eq(&a, &b));
}
