//! What was saved goes on as if nothing had happened, and nothing else is taken for it.

#![allow(clippy::unwrap_used, reason = "a test may panic, in its helpers too")]

mod common;

use common::{Rng, diurnal};
use prescale_models::{Bin, Ensemble, Grid, ModelKind, Target, Unreadable};
use proptest::prelude::*;

const TARGETS: [Target; 3] =
    [Target::At { steps: 1 }, Target::MaxOver { steps: 5 }, Target::MaxOver { steps: 60 }];

type Build = Box<dyn Fn() -> Ensemble>;

fn everyone(step: u32) -> Vec<(&'static str, Build)> {
    let grid = Grid { step_seconds: step };
    let mut all: Vec<(&'static str, Build)> = vec![
        ("node", Box::new(move || Ensemble::node(grid, &TARGETS))),
        ("cluster", Box::new(move || Ensemble::cluster(grid, &TARGETS))),
    ];
    for kind in ModelKind::ALL {
        all.push((kind.name(), Box::new(move || Ensemble::single(grid, &TARGETS, kind))));
    }
    all
}

fn bin(rng: &mut Rng, index: i64, step: i64) -> Bin {
    let value = diurnal(rng, index * step, step as u32);
    // Gaps and lower bounds are part of every ensemble's life.
    match index % 97 {
        0 => Bin::missing(index),
        1 => Bin { index, value: Some(value), censored: true },
        _ => Bin::new(index, value),
    }
}

#[test]
fn a_restored_ensemble_forecasts_and_saves_as_the_one_that_was_saved() {
    let step = 300_i64;
    for (name, build) in everyone(step as u32) {
        // Fresh, in its first hour, and when every season has begun.
        for past in [0, 7, 9 * 288] {
            let mut rng = Rng(7);
            let mut model = build();
            (0..past).for_each(|i| model.observe(bin(&mut rng, i, step)));
            let mut restored = build().restored(&model.save()).unwrap();
            assert_eq!(restored.forecast(), model.forecast(), "{name} after {past}");
            for index in past..past + 400 {
                let bin = bin(&mut rng, index, step);
                model.observe(bin);
                restored.observe(bin);
                assert_eq!(restored.forecast(), model.forecast(), "{name} after {past}, bin {index}");
            }
            assert!(restored.save() == model.save(), "{name} after {past}: all of the state goes on alike");
        }
    }
}

#[test]
fn another_composition_grid_or_target_is_refused() {
    let grid = Grid { step_seconds: 60 };
    let saved = Ensemble::cluster(grid, &TARGETS).save();
    let others = [
        Ensemble::node(grid, &TARGETS),
        Ensemble::cluster(Grid { step_seconds: 120 }, &TARGETS),
        Ensemble::cluster(grid, &[TARGETS[0], TARGETS[1], Target::At { steps: 60 }]),
        Ensemble::cluster(grid, &TARGETS[..2]),
    ];
    for (i, other) in others.into_iter().enumerate() {
        assert_eq!(other.restored(&saved).err(), Some(Unreadable::OtherLayout), "{i}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn bytes_that_are_no_state_are_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let fresh = || Ensemble::cluster(Grid { step_seconds: 60 }, &TARGETS);
        prop_assert!(fresh().restored(&bytes).is_err());
        // The true header before them.
        let mut headed = fresh().save()[..8].to_vec();
        headed.extend(&bytes);
        prop_assert!(fresh().restored(&headed).is_err());
    }

    #[test]
    fn one_changed_byte_is_an_error(at in any::<prop::sample::Index>(), change in 1..=255_u8) {
        let fresh = || Ensemble::node(Grid { step_seconds: 60 }, &TARGETS);
        let mut saved = fresh().save();
        let at = at.index(saved.len());
        saved[at] ^= change;
        prop_assert!(fresh().restored(&saved).is_err());
    }
}
