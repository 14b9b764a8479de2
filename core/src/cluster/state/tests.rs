//! A brain that goes on from saved state does what the one that saved it does; nothing else is taken for state.

use std::sync::OnceLock;

use prescale_models::neural::CoreKind;
use proptest::prelude::*;

use super::super::tests::{Small, id, later};
use super::super::{Cluster, Outcome};
use super::*;
use crate::fitted::Fitted;
use crate::plan::{Limiter, Rules};
use crate::world::Mode;

fn checkpoint(small: &mut Small) -> Checkpoint {
    let now = small.now();
    small.cluster.checkpoint(now, &id()).unwrap()
}

/// A base of four minutes ago and the tail of now, as a store holds them; the warm-up of 300 s is not over.
fn saved(small: &mut Small) -> (Vec<u8>, Vec<u8>) {
    small.seconds(30);
    let base = checkpoint(small).base.expect("the first checkpoint stands alone");
    for rps in [170.0, 150.0, 190.0, 150.0] {
        small.rps = rps;
        small.seconds(60);
    }
    let newer = checkpoint(small);
    assert!(newer.base.is_none(), "the base still holds");
    assert!(newer.tail.len() < 12_000, "a tail of {} bytes", newer.tail.len());
    (base, newer.tail)
}

/// A twin on a clock that is `ahead` seconds ahead takes over; from then on both are compared, every second.
fn taken_over(ahead: u64) -> Small {
    let mut small = Small::new(20, 150.0);
    let mut standby = Cluster::new(ClusterSettings::default());
    standby.set_standby(true);
    small.twin = Some((standby, ahead));
    let (base, tail) = saved(&mut small);
    let now = later(small.now(), ahead);
    let (twin, _) = small.twin.as_mut().unwrap();
    assert_eq!(twin.restore(now, &id(), &base, &tail), Ok(Restored::Whole));
    twin.set_standby(false);
    small.compared = true;
    small.decisions.clear();
    for rps in [150.0, 150.0, 600.0, 1100.0] {
        small.rps = rps;
        small.seconds(100);
    }
    let grew = |shrank: bool| small.decisions.iter().any(|(_, d)| (d.replicas < d.replicas_before) == shrank);
    assert!(grew(true) && grew(false), "both ways: {:?}", small.decisions);
    small
}

#[test]
fn a_standby_that_takes_the_state_over_plans_and_saves_as_the_leader_would_have() {
    let mut small = taken_over(0);
    let now = small.now();
    let whole = |cluster: &mut Cluster| {
        cluster.checkpoint_lost(&id());
        cluster.checkpoint(now, &id()).unwrap()
    };
    let ours = whole(&mut small.cluster);
    let (twin, _) = small.twin.as_mut().unwrap();
    assert!(ours == whole(twin), "all of the state has gone on alike, to the byte");
}

#[test]
fn a_standby_knows_of_replicas_and_needs_that_came_after_the_leaders_last_save() {
    let mut small = Small::new(4, 70.0);
    let mut standby = Cluster::new(ClusterSettings::default());
    standby.set_standby(true);
    small.twin = Some((standby, 0));
    small.seconds(400);
    let replicas = small.state.replicas;
    let whole = checkpoint(&mut small);
    small.rps = 140.0;
    small.seconds(60);
    assert!(small.state.replicas > replicas, "{replicas} to {}", small.state.replicas);
    // It takes over, and the target has nothing new to say for as long as a long poll lasts: neither to it nor to the leader,
    // which would have gone on so.
    small.rps = 600.0;
    small.seconds += 1;
    let (report, now) = (small.report(), small.now());
    let (twin, _) = small.twin.as_mut().unwrap();
    twin.restore(now, &id(), &whole.base.unwrap(), &whole.tail).unwrap();
    twin.set_standby(false);
    let [next, last] = [twin, &mut small.cluster].map(|cluster| {
        cluster.report(now, &report).unwrap();
        cluster.tick(now).decisions.first().map(|decision| decision.replicas)
    });
    assert!(last > Some(Rules::default().up_limit(replicas)), "{last:?} is within the budget of long ago");
    assert_eq!(next, last);
}

#[test]
fn on_another_clock_windows_and_budgets_are_as_old_as_they_were() {
    taken_over(5000);
}

/// Seven seconds of nobody, then a new process.
fn crash(small: &mut Small, base: &[u8], tail: &[u8]) {
    small.seconds += 7;
    small.cluster = Cluster::new(ClusterSettings::default());
    let now = small.now();
    small.cluster.restore(now, &id(), base, tail).unwrap();
}

#[test]
fn after_a_crash_the_warm_up_goes_on_where_it_was() {
    let mut small = Small::new(20, 150.0);
    let (base, tail) = saved(&mut small);
    let before = small.view();
    crash(&mut small, &base, &tail);
    small.seconds(5);
    let after = small.view();
    assert_eq!(after.decisions.len(), before.decisions.len());
    assert!(after.forecast.is_some());
    assert_eq!((small.state.replicas, small.reason()), (20, "warming_up"));
    // A brain that knew nothing would hold for 300 s.
    small.seconds(60);
    assert_ne!(small.reason(), "warming_up");
}

#[test]
fn after_a_crash_windows_and_budgets_are_seven_seconds_older_and_lead_times_known() {
    let mut small = Small::new(4, 150.0);
    small.seconds(330);
    small.rps = 700.0;
    small.seconds(60);
    let whole = checkpoint(&mut small);
    let remembered = |small: &Small, gap: f64| {
        let (memory, now) = (&small.cluster.workloads[&id()].memory, small.now().mono);
        [3.0, 16.0, 40.0, 62.0, 300.0]
            .map(|ago| (memory.largest_need(now, ago + gap), memory.replicas_at(now, ago + gap)))
    };
    let (before, lead_time) = (remembered(&small, 0.0), small.view().lead_time);
    assert!(before[0] != before[4] && lead_time.measured_starts >= 8, "{before:?} {lead_time:?}");
    crash(&mut small, &whole.base.unwrap(), &whole.tail);
    assert_eq!(remembered(&small, 7.0), before);
    small.seconds(2);
    assert_eq!(small.view().lead_time, lead_time);
}

#[test]
fn a_long_gap_begins_a_new_warm_up() {
    let mut small = Small::new(4, 150.0);
    let (base, tail) = saved(&mut small);
    small.seconds += 3600;
    small.cluster = Cluster::new(ClusterSettings::default());
    let now = small.now();
    small.cluster.restore(now, &id(), &base, &tail).unwrap();
    let replicas = small.state.replicas;
    small.rps = 50.0;
    small.seconds(200);
    assert_eq!((small.state.replicas, small.reason()), (replicas, "warming_up"));
}

#[test]
fn while_state_is_awaited_nothing_is_decided_and_nothing_is_saved() {
    let mut small = Small::new(4, 150.0);
    small.seconds(400);
    small.cluster.await_state([id()]);
    small.rps = 2000.0;
    small.decisions.clear();
    small.seconds(20);
    let now = small.now();
    assert!(small.cluster.checkpoint(now, &id()).is_none());
    assert!(small.decisions.is_empty());
    small.cluster.without_state(&id());
    small.seconds(5);
    assert!(!small.decisions.is_empty());
}

#[test]
fn forecasters_of_another_build_learn_anew_and_the_rest_is_kept() {
    let mut small = Small::new(4, 150.0);
    let (base, tail) = saved(&mut small);
    let mut decoded: Base = open(&base).unwrap();
    decoded.forecasts.ensembles[1].bytes[0] ^= 1;
    let base = seal(&decoded);
    let mut decoded: Tail = open(&tail).unwrap();
    decoded.base = checksum(&base);
    let (now, mut cluster) = (small.now(), Cluster::new(ClusterSettings::default()));
    assert_eq!(cluster.restore(now, &id(), &base, &seal(&decoded)), Ok(Restored::Retrained));
    small.cluster = cluster;
    small.seconds(2);
    assert!(small.view().forecast.is_some());
    assert_eq!(small.view().lead_time.measured_starts, decoded.lead_times.len());
}

#[test]
fn parts_that_do_not_belong_together_are_refused() {
    let mut small = Small::new(4, 150.0);
    let (_, tail) = saved(&mut small);
    small.seconds(700);
    let other = checkpoint(&mut small).base.expect("ten minutes have passed");
    let now = small.now();
    let mut cluster = Cluster::new(ClusterSettings::default());
    assert_eq!(cluster.restore(now, &id(), &other, &tail), Err(Unreadable::Parts));
}

/// One of each, by hand: learned values differ with every change of a model, these don't.
fn by_hand() -> (Vec<u8>, Vec<u8>) {
    let moment =
        Moment { index: 7, p50: Some(0.5), p99: None, wanted: 1, current: 2, ready: 3, hpa: Some(4) };
    let logged = Logged {
        at: Wall(1),
        from: 2,
        to: 3,
        reason: Limiter::Burst,
        sentence: "because".into(),
        outcome: Some(Outcome::Applied { resource_version: 9 }),
    };
    let mut series = crate::series::Series::new();
    for unix_seconds in 1_700_000_000..1_700_000_200 {
        let load = crate::units::RequestsPerSecond::new((unix_seconds % 7) as f64).ok();
        series.push(&Second { unix_seconds, load, concurrency: None, censored: unix_seconds % 5 == 0 });
    }
    let (mut memory, mut starts, mut moments) = (Memory::default(), Starts::default(), Moments::default());
    memory.record_need(Mono(1), 2);
    memory.record_replicas(Mono(3), 4);
    starts.raised(Mono(5), 6);
    moments.record(moment);
    let base = seal(&Base {
        series: series.save(),
        forecasts: SavedForecasts {
            ensembles: [(Some(3), vec![1, 2]), (None, vec![3])]
                .map(|(seen, bytes)| SavedEnsemble { seen, bytes }),
            filter: vec![4, 5],
        },
        moments: [moments.clone(), moments],
        log: [logged.clone()].into(),
    });
    let mut shadow = None;
    let settings = WorkloadSettings {
        mode: Mode::Full,
        min_replicas: 1,
        max_replicas: 9,
        rps_per_pod: Some(10.0),
        slo_seconds: None,
        headroom: 0.5,
        paused: false,
    };
    Shadow::follow(&mut shadow, Mono(11), &settings, 4, None);
    let tail = seal(&Tail {
        mono: Mono(11),
        wall: Wall(12),
        base: checksum(&base),
        series: series.save_after([Some(170_000_010), None]),
        moments: [vec![moment], vec![]],
        log: vec![logged],
        logged: 1,
        recent: Recent::default(),
        lead_times: vec![1.5, 2.5],
        starts,
        memory,
        writes: Writes::default(),
        measured_since: Some(Mono(2)),
        shadow,
        settings: Some(settings),
    });
    (base, tail)
}

#[test]
fn a_fixed_state_gives_these_very_bytes() {
    let (base, tail) = by_hand();
    let sums = [base, tail].map(|part| crc32fast::hash(&part));
    // Other sums mean another format: raise FORMAT, then write them here.
    assert_eq!((FORMAT, sums), (2, [1_185_575_224, 2_097_183_277]));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn bytes_that_are_no_state_are_an_error(
        junk in proptest::collection::vec(any::<u8>(), 0..300),
        flip in any::<prop::sample::Index>(),
        change in 1..=255_u8,
    ) {
        static SAVED: OnceLock<(Vec<u8>, Vec<u8>)> = OnceLock::new();
        let (base, tail) = SAVED.get_or_init(|| saved(&mut Small::new(4, 150.0)));
        let mut cluster = Cluster::new(ClusterSettings::default());
        let now = Now { mono: Mono(0), wall: Wall(0) };
        prop_assert_eq!(cluster.restore(now, &id(), base, tail), Ok(Restored::Whole));
        let mut refused = |base: &[u8], tail: &[u8]| cluster.restore(now, &id(), base, tail).is_err();
        prop_assert!(refused(&junk, tail) && refused(base, &junk) && refused(&junk, &junk));
        // A sound header before them: what is encoded makes no sense.
        let sealed = |body: &[u8]| {
            let mut bytes = FORMAT.to_le_bytes().to_vec();
            bytes.extend(crc32fast::hash(body).to_le_bytes());
            bytes.extend(body);
            bytes
        };
        prop_assert!(refused(&sealed(&junk), tail) && refused(base, &sealed(&junk)));
        let mut flipped = base.clone();
        let at = flip.index(flipped.len());
        flipped[at] ^= change;
        prop_assert!(refused(&flipped, tail));
        let mut flipped = tail.clone();
        let at = flip.index(flipped.len());
        flipped[at] ^= change;
        prop_assert!(refused(base, &flipped));
    }
}

#[test]
fn state_that_other_weights_made_is_taken_and_no_forecaster_learns_anew() {
    let mut small = Small::new(20, 150.0);
    saved(&mut small);
    small.cluster.checkpoint_lost(&id());
    let whole = checkpoint(&mut small);
    let mut network = (**small.cluster.weights().pooled.network(CoreKind::Gru)).clone();
    prescale_models::nn::Parameters::visit_mut(&mut network, "", &mut |_, _, values| {
        values.iter_mut().for_each(|weight| *weight *= 0.9);
    });
    let mut weights = Fitted::shipped();
    weights.pooled.set(std::sync::Arc::new(network).into());
    let mut other = Cluster::new(ClusterSettings { weights, ..ClusterSettings::default() });
    let restored = other.restore(small.now(), &id(), &whole.base.unwrap(), &whole.tail);
    assert_eq!(restored, Ok(Restored::Whole));
    // The same comes of a change while it runs.
    let ensembles =
        |cluster: &Cluster| cluster.workloads[&id()].forecasts.save().ensembles.map(|saved| saved.bytes);
    assert_ne!(ensembles(&small.cluster), ensembles(&other));
    small.cluster.set_weights(other.weights().clone());
    assert_eq!(ensembles(&small.cluster), ensembles(&other));
}
