//! The head of the cluster ensemble: silent until it has helped for 500 records, causal, and no harm where it does not.

#![allow(clippy::unwrap_used, reason = "a test may panic, in its helpers too")]

mod common;

use std::sync::Arc;

use common::Rng;
use prescale_models::neural::{CoreKind, Network, NetworkSettings, shipped, shipped_as};
use prescale_models::nn::{Parameters, Random};
use prescale_models::{AllWeights, Bin, Choice, Ensemble, Grid, LEVELS, Quantiles, Target, Unreadable};

const GRID: Grid = Grid { step_seconds: 60 };
const TARGETS: [Target; 3] =
    [Target::At { steps: 1 }, Target::At { steps: 15 }, Target::MaxOver { steps: 2 }];

/// Bursts at random that die out within the half-hour: the shape of what follows is known, its beginning is not. The
/// experts know levels and seasons; the network has seen such shapes on other workloads.
struct Bursts {
    rng: Rng,
    level: f64,
}

impl Bursts {
    fn new(seed: u64) -> Self {
        Self { rng: Rng(seed), level: 5.0 }
    }

    fn next(&mut self) -> f64 {
        if self.rng.uniform() < 0.003 {
            self.level += 200.0 * self.rng.uniform();
        }
        self.level += 0.1 * (5.0 - self.level);
        self.level * (0.7 + 0.6 * self.rng.uniform())
    }
}

fn loss(quantiles: &Quantiles, truth: f64) -> f64 {
    let each = quantiles.values().into_iter().zip(LEVELS);
    each.map(|(q, level)| if truth > q { level * (truth - q) } else { (1.0 - level) * (q - truth) }).sum()
}

#[test]
fn until_it_is_admitted_the_forecast_is_the_ensembles_and_then_it_is_better() {
    let (mut with, mut without) = (Ensemble::cluster(GRID, &TARGETS), Ensemble::headless(GRID, &TARGETS));
    let mut bursts = Bursts::new(1);
    let (mut series, mut said) = (Vec::new(), Vec::new());
    let (mut ours, mut theirs, mut count) = (0.0, 0.0, 0);
    for i in 0..4 * 1440 {
        series.push(bursts.next());
        with.observe(Bin::new(i, series[i as usize]));
        without.observe(Bin::new(i, series[i as usize]));
        let (a, b) = (with.forecast().unwrap().clone(), without.forecast().unwrap().clone());
        let admitted = with.head().unwrap().admitted;
        assert!(admitted || a == b, "bin {i}");
        assert!(!admitted || i > 500, "bin {i}: admitted before 500 records");
        said.push((a, b, admitted));
        let Some((a, b, true)) = usize::try_from(i - 15).ok().map(|origin| &said[origin]) else { continue };
        ours += loss(&a.points[1].1, series[i as usize]);
        theirs += loss(&b.points[1].1, series[i as usize]);
        count += 1;
    }
    assert!(count > 2000, "admitted for {count} bins: {:?}", with.head());
    assert!(ours < theirs, "{ours} with the head, {theirs} without, over {count} bins");
    assert!(with.head_shares().all(|(_, shares)| shares.iter().any(|share| *share > 0.1)));
}

#[test]
fn the_future_changes_no_earlier_forecast_of_an_admitted_head() {
    let mut admitted = Ensemble::cluster(GRID, &TARGETS);
    let mut other = Ensemble::cluster(GRID, &TARGETS);
    let mut bursts = Bursts::new(1);
    let mut i = 0;
    while !admitted.head().unwrap().admitted {
        let bin = Bin::new(i, bursts.next());
        admitted.observe(bin);
        other.observe(bin);
        i += 1;
        assert!(i < 5000, "never admitted: {:?}", admitted.head());
    }
    let bin = Bin::new(i, bursts.next());
    admitted.observe(bin);
    other.observe(bin);
    let said = admitted.forecast().unwrap().clone();
    other.observe(Bin::new(i + 1, 1e6));
    assert_eq!(admitted.forecast(), Some(&said));
    assert_ne!(other.forecast(), Some(&said), "a bin must matter, or this test would not");
    // Nor does a bin that is no later than the newest.
    admitted.observe(Bin::new(i, 1e6));
    assert_eq!(admitted.forecast(), Some(&said));
}

#[test]
fn a_network_that_knows_nothing_is_never_heard() {
    // Weights at random and large: quantiles that have nothing to do with the series.
    let mut network = Network::<f32>::zeros(NetworkSettings::of(CoreKind::Gru));
    let mut random = Random::new(3);
    network.visit_mut("", &mut |_, _, values| {
        values.iter_mut().for_each(|w| *w = (4.0 * random.unit() - 2.0) as f32);
    });
    let mut with = Ensemble::cluster_with(GRID, &TARGETS, Arc::new(network));
    let mut without = Ensemble::headless(GRID, &TARGETS);
    let mut bursts = Bursts::new(2);
    for i in 0..3 * 1440 {
        let bin = Bin::new(i, bursts.next());
        with.observe(bin);
        without.observe(bin);
        assert_eq!(with.forecast(), without.forecast(), "bin {i}");
    }
    let state = with.head().unwrap();
    assert!(state.settled > 1000 && state.verdict.unwrap().high < 0.2, "it was judged: {state:?}");
}

/// The shipped network, every weight a little off.
fn other_weights() -> Arc<Network<f32>> {
    let mut network = (*shipped()).clone();
    let mut random = Random::new(7);
    network.visit_mut("", &mut |_, _, values| {
        values.iter_mut().for_each(|w| *w *= 1.0 + 0.05 * (random.unit() as f32 - 0.5));
    });
    Arc::new(network)
}

#[test]
fn other_weights_let_the_head_sleep_for_half_an_hour_and_change_nothing_else() {
    let mut bursts = Bursts::new(1);
    let bins: Vec<Bin> = (0..5100).map(|i| Bin::new(i, bursts.next())).collect();
    let (mut model, mut experts) = (Ensemble::cluster(GRID, &TARGETS), Ensemble::headless(GRID, &TARGETS));
    for bin in &bins[..5000] {
        model.observe(*bin);
        experts.observe(*bin);
    }
    let before = model.head().unwrap();
    assert!(before.admitted && before.awake);
    let saved = model.save();
    // The same weights again are no change.
    model.set_weights(&shipped().into());
    assert!(model.head().unwrap().awake);
    model.set_weights(&other_weights().into());
    // What was saved before the change is taken by who starts with the new weights, and comes to the same.
    let mut restored = Ensemble::cluster_with(GRID, &TARGETS, other_weights()).restored(&saved).unwrap();
    for (n, bin) in bins[5000..].iter().enumerate() {
        model.observe(*bin);
        experts.observe(*bin);
        restored.observe(*bin);
        let head = model.head().unwrap();
        assert_eq!((head.awake, head.admitted), (n >= 29, true), "bin {n}");
        assert_eq!(model.forecast() == experts.forecast(), n < 29, "bin {n}");
        assert_eq!(model.forecast(), restored.forecast(), "bin {n}");
    }
}

#[test]
fn each_kind_of_network_is_a_head_whose_state_no_other_reads() {
    let mut bursts = Bursts::new(1);
    let bins: Vec<Bin> = (0..1500).map(|i| Bin::new(i, bursts.next())).collect();
    let fresh = |core: CoreKind| {
        let experts =
            Choice::default().names().filter(|name| CoreKind::of(name).is_none()).collect::<Vec<_>>();
        let choice = Choice::of(experts.into_iter().chain([core.name()])).unwrap();
        Ensemble::chosen(GRID, &TARGETS, &choice, &AllWeights::shipped())
    };
    let saved = CoreKind::ALL.map(|core| {
        let mut model = fresh(core);
        bins.iter().for_each(|bin| model.observe(*bin));
        assert_eq!(model.head().map(|head| (head.core, head.awake)), Some((core, true)));
        // A network of another kind is not this head's.
        for other in CoreKind::ALL.into_iter().filter(|other| *other != core) {
            model.set_weights(&shipped_as(other).into());
        }
        assert!(model.head().unwrap().awake);
        // The LSTM carries its cells too, the CNN all that its taps still see.
        let more = model.memory_bytes() - fresh(CoreKind::Gru).memory_bytes();
        assert_eq!(more, [0, 128, 10_680][core as usize], "{core:?}, as docs/models/ensemble.md says");
        model.save()
    });
    for (core, saved) in CoreKind::ALL.into_iter().zip(&saved) {
        for reader in CoreKind::ALL {
            let restored = fresh(reader).restored(saved).map(|model| model.head().unwrap().settled);
            let expected = if reader == core { Ok(true) } else { Err(Unreadable::OtherLayout) };
            assert_eq!(restored.map(|settled| settled > 0), expected, "{core:?} by {reader:?}");
        }
    }
}

#[test]
fn a_bin_that_is_missing_or_a_lower_bound_is_the_ensembles_alone() {
    let (mut with, mut without) = (Ensemble::cluster(GRID, &TARGETS), Ensemble::headless(GRID, &TARGETS));
    let mut bursts = Bursts::new(1);
    for i in 0..5000 {
        let bin = Bin::new(i, bursts.next());
        with.observe(bin);
        without.observe(bin);
    }
    assert!(with.head().unwrap().admitted);
    assert_ne!(with.forecast(), without.forecast());
    for bin in [Bin::missing(5000), Bin { index: 5001, value: Some(3.0), censored: true }] {
        with.observe(bin);
        without.observe(bin);
        assert_eq!(with.forecast(), without.forecast(), "{bin:?}");
    }
}

#[test]
fn a_bin_costs_no_allocation_and_the_network_is_shared() {
    assert!(Arc::ptr_eq(&shipped(), &shipped()));
    let mut model = Ensemble::cluster(GRID, &TARGETS);
    let mut bursts = Bursts::new(4);
    for i in 0..3000 {
        model.observe(Bin::new(i, bursts.next()));
    }
    let counted = allocation_counter::measure(|| {
        for i in 3000..3600 {
            model.observe(Bin::new(i, bursts.next()));
        }
    });
    assert_eq!(counted.count_total, 0);
}
