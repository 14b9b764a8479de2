//! For each rule a deliberately wrong plan; the checker must name it.

use super::*;
use crate::plan::arbitrary::{Owned, at, rps};
use crate::plan::{Gate, Limiter, Load, Step, Window, plan};

/// Spoils a good plan's replicas, its chain kept whole.
fn with_replicas(owned: &Owned, replicas: u32) -> Vec<Violation> {
    let mut plan = plan(&owned.inputs());
    assert_eq!(check(&owned.inputs(), &plan), [], "good to begin with");
    plan.replicas = replicas;
    plan.steps = vec![Step { limiter: Limiter::Forecast, before: 0, after: replicas }];
    check(&owned.inputs(), &plan)
}

fn spoiled(owned: &Owned, spoil: impl Fn(&mut WorkloadPlan)) -> Vec<Violation> {
    let mut plan = plan(&owned.inputs());
    assert_eq!(check(&owned.inputs(), &plan), [], "good to begin with");
    spoil(&mut plan);
    check(&owned.inputs(), &plan)
}

fn of(change: impl Fn(&mut Owned)) -> Owned {
    let mut owned = Owned::quiet();
    change(&mut owned);
    owned
}

/// 20 replicas that were 20 for long, and need 3.
fn shrinking(change: impl Fn(&mut Owned)) -> Owned {
    of(|o| {
        o.replicas = 20;
        o.ready_pods = 20;
        o.memory.record_replicas(at(500), 20);
        change(o);
    })
}

#[test]
fn a_wrong_number_is_caught_by_its_rule() {
    use Violation as V;
    let quiet = of(|_| {});
    let held = of(|o| o.data = Data::Hold(HoldCause::Stale));
    assert_eq!(with_replicas(&held, 3), [V::ShrankOnHold]);
    assert_eq!(with_replicas(&of(|o| o.settings.rps_per_pod = None), 3), [V::ShrankOnHold]);
    assert_eq!(with_replicas(&of(|o| o.settings.rps_per_pod = None), 5), [V::MoreThanNeeded]);
    assert_eq!(with_replicas(&of(|o| o.scale_in_more = None), 3), [V::ShrankOnHold]);
    assert_eq!(with_replicas(&of(|o| o.settings.mode = Mode::Floor), 3), [V::ShrankInFloorMode]);
    assert!(with_replicas(&of(|o| o.load.saturated_pods = 1), 3).contains(&V::ShrankSaturated));
    assert!(with_replicas(&quiet, 41).contains(&V::OutOfBounds));
    assert_eq!(with_replicas(&of(|o| o.replicas = 0), 1), [V::WokeFromZero]);
    let invalid = of(|o| o.data = Data::Hold(HoldCause::SettingsInvalid));
    assert_eq!(with_replicas(&invalid, 5), [V::InvalidSettings]);

    assert_eq!(with_replicas(&of(|o| o.scale_out = Some(350.0)), 6), [V::BelowForecast]);
    let measured = of(|o| o.load.windows = vec![Window { starts: 400.0, seconds: 1.0 }]);
    assert_eq!(with_replicas(&measured, 6), [V::BelowMeasured]);
    let waiting =
        of(|o| o.load = Load { in_flight: 3040, windows: o.load.windows.clone(), ..Load::default() });
    assert!(plan(&waiting.inputs()).replicas > 3);
    assert!(with_replicas(&waiting, 3).contains(&V::BelowBacklog));
    let burst = of(|o| o.load.burst_rps = Some(rps(390.0)));
    assert_eq!(with_replicas(&burst, 7), [V::BelowBacklog]);
    assert_eq!(with_replicas(&quiet, 6), [V::MoreThanNeeded]);

    assert_eq!(with_replicas(&shrinking(|o| o.scale_in_more = Some(700.0)), 16), [V::DropsNeededSoon]);
    let needed_before = shrinking(|o| o.memory.record_need(at(970), 19));
    assert_eq!(with_replicas(&needed_before, 18), [V::DropsNeededBefore]);
    assert_eq!(with_replicas(&shrinking(|_| {}), 14), [V::RampDownExceeded]);
    assert_eq!(with_replicas(&of(|o| o.scale_out = Some(800.0)), 9), [V::RampUpExceeded]);
}

#[test]
fn a_wrong_record_is_caught_by_its_rule() {
    use Violation as V;
    let quiet = of(|_| {});
    assert_eq!(spoiled(&quiet, |p| p.resource_version += 1), [V::OtherInputs]);
    assert_eq!(spoiled(&quiet, |p| p.workload.name.push('x')), [V::OtherInputs]);
    let two_steps = of(|o| o.data = Data::Hold(HoldCause::Stale));
    assert_eq!(spoiled(&two_steps, |p| p.steps.swap(0, 1)), [V::BrokenChain]);
    assert_eq!(spoiled(&two_steps, |p| p.steps[1].limiter = Limiter::Forecast), [V::BrokenChain]);
    assert_eq!(spoiled(&quiet, |p| p.steps.clear()), [V::BrokenChain]);
    assert_eq!(spoiled(&quiet, |p| p.need = 2), [V::NeedUnderstated]);
    let held = of(|o| o.data = Data::Hold(HoldCause::Stale));
    assert_eq!(spoiled(&held, |p| p.need = 3), [V::NeedUnderstated]);
    for gated in [
        of(|o| o.gate = Some(Gate::ForeignWrite)),
        of(|o| o.settings.paused = true),
        of(|o| o.settings.mode = Mode::Observe),
    ] {
        assert_eq!(spoiled(&gated, |p| p.gate = None), [V::GateIgnored]);
    }
}
