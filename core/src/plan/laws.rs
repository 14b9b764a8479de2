//! The plan's laws, as property tests, and the limiters one by one.

use proptest::prelude::*;

use super::arbitrary::{Owned, any, at, rps};
use super::*;
use crate::check::check;
use crate::world::Mode;

fn planned(owned: &Owned) -> u32 {
    plan(&owned.inputs()).replicas
}

fn last_word(owned: &Owned) -> (u32, Limiter) {
    let plan = plan(&owned.inputs());
    assert_eq!(check(&owned.inputs(), &plan), [], "{plan:#?}");
    (plan.replicas, plan.reason())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn every_plan_passes_the_checker(owned in any()) {
        let plan = plan(&owned.inputs());
        prop_assert_eq!(check(&owned.inputs(), &plan), [], "{:#?}", plan);
    }

    #[test]
    fn within_min_and_max(owned in any()) {
        prop_assume!(owned.replicas > 0 && owned.data != Data::Hold(HoldCause::SettingsInvalid));
        let bounds = owned.settings.min_replicas..=owned.settings.max_replicas;
        prop_assert!(bounds.contains(&planned(&owned)));
    }

    #[test]
    fn more_load_never_means_fewer_replicas(
        owned in any(),
        input in 0..7usize,
        more in 0.0..3000.0f64,
    ) {
        let mut busier = owned.clone();
        match input {
            0 => busier.load.windows.iter_mut().for_each(|w| w.starts += more),
            1 => busier.load.windows.push(Window { starts: more, seconds: 1.0 }),
            2 => busier.load.in_flight += more as u64,
            3 => busier.load.saturated_pods += more as u32 / 100,
            4 => busier.load.burst_rps = Some(rps(owned.load.burst_rps.map_or(0.0, |r| r.get()) + more)),
            5 => busier.scale_out = owned.scale_out.map(|v| v + more),
            _ => busier.scale_in_more = owned.scale_in_more.map(|v| v + more),
        }
        prop_assert!(planned(&busier) >= planned(&owned));
    }

    #[test]
    fn unknown_never_shrinks(owned in any(), data in super::arbitrary::held(), unknown in 0..4usize) {
        let mut owned = owned;
        match unknown {
            0 => owned.data = data,
            1 => owned.scale_out = None,
            2 => owned.scale_in_more = None,
            _ => owned.settings.rps_per_pod = None,
        }
        prop_assert!(planned(&owned) >= owned.replicas.min(owned.settings.max_replicas));
    }

    #[test]
    fn losing_data_never_means_fewer_replicas(owned in any(), data in super::arbitrary::held()) {
        // Bounds that contradict themselves are no loss of data.
        prop_assume!(data != Data::Hold(HoldCause::SettingsInvalid));
        let fresh = Owned { data: Data::Fresh, ..owned.clone() };
        let lost = planned(&Owned { data, ..owned });
        prop_assert!(lost >= planned(&fresh));
    }

    #[test]
    fn the_same_inputs_give_the_same_plan_and_carrying_it_out_changes_nothing(owned in any()) {
        let first = plan(&owned.inputs());
        prop_assert_eq!(&first, &plan(&owned.inputs()));
        let mut after = owned.clone();
        after.memory.record_need(owned.at, first.need);
        after.memory.record_replicas(owned.at, first.replicas);
        after.replicas = first.replicas;
        prop_assert_eq!(planned(&after), first.replicas, "{:#?}\n{:#?}", first, plan(&after.inputs()));
    }

    #[test]
    fn ramp_budgets_hold_over_any_sequence(loads in prop::collection::vec(0.0..3000.0f64, 2..150)) {
        let mut owned = Owned::quiet();
        let mut seen = vec![];
        for (second, load) in loads.iter().enumerate() {
            owned.at = at(2000 + second as u64);
            owned.scale_out = Some(*load);
            let plan = plan(&owned.inputs());
            owned.memory.record_need(owned.at, plan.need);
            owned.replicas = plan.replicas;
            owned.ready_pods = plan.replicas;
            owned.memory.record_replicas(owned.at, plan.replicas);
            seen.push(plan.replicas);
        }
        let rules = Rules::default();
        for (i, &now) in seen.iter().enumerate().skip(1) {
            let then = |seconds: f64| seen[i.saturating_sub(seconds as usize)];
            // At the start of the sequence there were 4.
            let up = if i < 15 { 4 } else { then(rules.up_period_seconds) };
            let down = if i < 30 { 4 } else { then(rules.down_period_seconds) };
            if now > seen[i - 1] {
                prop_assert!(now <= (2 * up).max(up + 4), "{i}: {seen:?}");
            }
            if now < seen[i - 1] {
                prop_assert!(now >= down - (down / 4).max(1), "{i}: {seen:?}");
            }
        }
    }
}

#[test]
fn the_forecast_sizes_pods() {
    let mut owned = Owned::quiet();
    owned.scale_out = Some(350.0);
    assert_eq!(last_word(&owned), (7, Limiter::Forecast));
    owned.settings.headroom = 0.1;
    assert_eq!(last_word(&owned), (8, Limiter::Forecast));
    // Exactly full is enough, whatever the bits of the quotient.
    owned.scale_out = Some(50.0 * 7.0 / 1.1);
    assert_eq!(last_word(&owned), (7, Limiter::Forecast));
}

#[test]
fn the_measured_load_is_a_floor() {
    let mut owned = Owned::quiet();
    owned.load.windows = vec![Window { starts: 400.0, seconds: 1.0 }];
    // 400 in one second prove 315 with 4.5 standard deviations: 7 pods.
    assert_eq!(last_word(&owned), (7, Limiter::ReactiveFloor));
    // Requests that come in bunches prove less: with a dispersion of 4, 240.
    owned.load.dispersion = 4.0;
    assert_eq!(last_word(&owned), (5, Limiter::ReactiveFloor));
    // A tenth of a second proves less, too: 40 prove 17, and nothing grows.
    owned.load.windows = vec![Window { starts: 40.0, seconds: 0.1 }];
    owned.load.dispersion = 1.0;
    assert_eq!(last_word(&owned), (4, Limiter::ReactiveFloor));
    // Five requests prove nothing, in however short a time.
    owned.load.windows = vec![Window { starts: 5.0, seconds: 0.001 }];
    assert_ne!(last_word(&owned).1, Limiter::ReactiveFloor);
    owned.load = Load { burst_rps: Some(rps(390.0)), ..Load::default() };
    assert_eq!(last_word(&owned), (8, Limiter::Burst));
}

#[test]
fn no_pod_is_added_for_what_chance_explains() {
    let mut owned = Owned::quiet();
    // 4 pods carry 200; one deviation of ten seconds' mean is 4.5.
    owned.scale_out = Some(204.0);
    assert_eq!(last_word(&owned), (4, Limiter::WithinChance));
    owned.scale_out = Some(205.0);
    assert_eq!(last_word(&owned), (5, Limiter::Forecast));
    owned.load.dispersion = 2.0;
    assert_eq!(last_word(&owned), (4, Limiter::WithinChance), "bunches move it further");
    // It excuses no pod that the load of now needs.
    owned.load.windows = vec![Window { starts: 3000.0, seconds: 10.0 }];
    assert_eq!(last_word(&owned), (6, Limiter::ReactiveFloor));
}

#[test]
fn a_backlog_is_drained_within_one_lead_time() {
    let mut owned = Owned::quiet();
    // 4 pods at 50/s hold 40 within 0.2 s; 3,040 are 3,000 too many: 100/s more over 30 s.
    owned.load = Load { in_flight: 3040, ..Load::default() };
    owned.load.windows = vec![Window { starts: 1e6, seconds: 5000.0 }];
    let normal = 997.75f64 * 997.75 / 5000.0;
    assert_eq!(last_word(&owned), (((normal + 100.0) / 50.0).ceil() as u32, Limiter::Backlog));
    // A demo whose clock runs ten times as fast has 3 real seconds for it; the ramp then has its say.
    owned.clock_speed = 10.0;
    assert_eq!(last_word(&owned), (8, Limiter::RampUp));
    owned.settings.slo_seconds = None;
    assert_eq!(last_word(&owned), (4, Limiter::ReactiveFloor));
}

#[test]
fn saturated_pods_grow_by_a_step_and_wait_for_it() {
    let mut owned = Owned::quiet();
    owned.load.saturated_pods = 4;
    assert_eq!(last_word(&owned), (8, Limiter::CensoredDemand));
    owned.replicas = 8;
    owned.memory.record_replicas(owned.at, 8);
    assert_eq!(last_word(&owned), (8, Limiter::CensoredDemand), "the four that start are not counted twice");
    owned.ready_pods = 6;
    // The ramp's base is still the 4 of 15 s ago.
    assert_eq!(last_word(&owned), (8, Limiter::RampUp));
}

/// One of many that hangs asks for one in its place, once, however long it hangs; and none leaves meanwhile.
#[test]
fn a_pod_that_is_stuck_is_replaced_and_no_more() {
    let mut owned = Owned::quiet();
    owned.load.saturated_pods = 1;
    assert_eq!(last_word(&owned), (4, Limiter::CensoredDemand), "the three others carry 140 requests/s");
    owned.scale_out = Some(190.0);
    let (one_more, limiter) = last_word(&owned);
    assert_eq!((one_more, limiter), (5, Limiter::CensoredDemand));
    (owned.replicas, owned.ready_pods) = (one_more, one_more);
    for _ in 0..100 {
        assert_eq!(last_word(&owned), (one_more, Limiter::CensoredDemand));
    }
    // Twice as many as the load needs: the one that hangs has been made up for already.
    (owned.replicas, owned.ready_pods) = (10, 10);
    assert_eq!(last_word(&owned), (10, Limiter::CensoredDemand));
}

#[test]
fn scale_in_looks_ahead_and_back_and_goes_slowly() {
    let mut owned = Owned::quiet();
    owned.replicas = 20;
    owned.memory.record_replicas(at(500), 20);
    assert_eq!(last_word(&owned), (15, Limiter::RampDown));
    // 840 and half a deviation of ten seconds' mean, 4.6, need 17; 848 and 4.6 would need 18.
    owned.scale_in_more = Some(708.0);
    assert_eq!(last_word(&owned), (18, Limiter::LookAhead));
    owned.scale_in_more = Some(700.0);
    assert_eq!(last_word(&owned), (17, Limiter::LookAhead));
    owned.memory.record_need(at(1000 - 30), 19);
    assert_eq!(last_word(&owned), (19, Limiter::Stabilisation));
    owned.memory = Owned::quiet().memory;
    owned.memory.record_replicas(at(500), 20);
    owned.memory.record_need(at(1000 - 61), 19);
    assert_eq!(last_word(&owned), (17, Limiter::LookAhead), "longer ago than the window");
    owned.settings.mode = Mode::Floor;
    assert_eq!(last_word(&owned), (20, Limiter::FloorMode));
}

#[test]
fn what_is_unknown_holds_but_the_known_may_grow() {
    let mut owned = Owned::quiet();
    owned.replicas = 9;
    owned.memory.record_replicas(at(900), 9);
    owned.data = Data::Hold(HoldCause::Stale);
    assert_eq!(last_word(&owned), (9, Limiter::Hold(HoldCause::Stale)));
    assert_eq!(plan(&owned.inputs()).need, 9, "the window restarts from what there is");
    owned.load.windows = vec![Window { starts: 6000.0, seconds: 10.0 }];
    assert_eq!(last_word(&owned), (12, Limiter::ReactiveFloor));
    owned.settings.rps_per_pod = None;
    assert_eq!(last_word(&owned), (9, Limiter::Hold(HoldCause::CapacityUnknown)));
    owned.settings.max_replicas = 6;
    assert_eq!(last_word(&owned), (6, Limiter::Maximum), "a stated maximum holds whatever is known");
}

#[test]
fn gates_decide_but_do_not_act() {
    let mut owned = Owned::quiet();
    owned.scale_out = Some(350.0);
    assert_eq!(plan(&owned.inputs()).decision().map(|d| (d.replicas, d.resource_version)), Some((7, 7)));
    owned.gate = Some(Gate::ForeignWrite);
    assert_eq!(plan(&owned.inputs()).decision(), None);
    owned.settings.paused = true;
    assert_eq!(plan(&owned.inputs()).gate, Some(Gate::Paused));
    owned.settings.mode = Mode::Observe;
    let observed = plan(&owned.inputs());
    assert_eq!((observed.gate, observed.replicas), (Some(Gate::Observe), 7));
}

#[test]
fn zero_and_contradictions_are_left_alone() {
    let mut owned = Owned::quiet();
    owned.replicas = 0;
    assert_eq!(last_word(&owned), (0, Limiter::ScaledToZero));
    owned.replicas = 50;
    owned.data = Data::Hold(HoldCause::SettingsInvalid);
    assert_eq!(last_word(&owned), (50, Limiter::Hold(HoldCause::SettingsInvalid)));
}

#[test]
fn every_limiter_has_its_own_label_and_place() {
    let names: std::collections::BTreeSet<_> = Limiter::ORDER.iter().map(|l| l.name()).collect();
    assert_eq!(names.len(), Limiter::ORDER.len());
    assert!(Limiter::ORDER.windows(2).all(|pair| pair[0].rank() <= pair[1].rank()));
}
