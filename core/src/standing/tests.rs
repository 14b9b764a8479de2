//! What is refused and why; that a floor never loses its original; which ports are measured.

use proptest::prelude::*;

use super::*;
use crate::annotations::{Port, read};
use crate::time::Wall;

fn scaler(min_replicas: u32, max_replicas: u32, floor: Option<Floor>) -> Scaler {
    let kind = ScalerKind::HorizontalPodAutoscaler;
    Scaler { kind, name: "web".into(), min_replicas, max_replicas, floor: floor.map(Ok) }
}

fn stand(annotations: &[(&str, &str)], scalers: &[Scaler]) -> Standing {
    let names: Vec<(String, &str)> =
        annotations.iter().map(|(name, value)| (format!("prescale.dev/{name}"), *value)).collect();
    let said = read(names.iter().map(|(name, value)| (name.as_str(), *value)));
    standing(&said, said.wish.as_ref().expect("it opts in"), scalers)
}

fn reasons(standing: &Standing) -> Vec<&'static str> {
    standing.refusals.iter().map(Refusal::reason).collect()
}

#[test]
fn full_owns_scale_when_nothing_else_does_and_it_is_bounded() {
    let full = stand(&[("mode", "full"), ("max-replicas", "20"), ("rps-per-pod", "50")], &[]);
    assert_eq!((full.settings.mode, full.writes), (Mode::Full, Writes::Scale));
    assert_eq!((full.settings.min_replicas, full.settings.max_replicas), (1, 20));
    assert_eq!(reasons(&full), [""; 0]);

    let unbounded = stand(&[("mode", "full")], &[]);
    assert_eq!((unbounded.settings.mode, reasons(&unbounded)), (Mode::Observe, vec!["NoMaximum"]));
    assert!(unbounded.refusals[0].to_string().contains("prescale.dev/max-replicas"));

    let shared = stand(&[("mode", "full"), ("max-replicas", "20")], &[scaler(2, 10, None)]);
    assert_eq!((shared.settings.mode, reasons(&shared)), (Mode::Observe, vec!["OtherScaler"]));
    assert!(shared.refusals[0].to_string().contains("HorizontalPodAutoscaler web"));
}

#[test]
fn floor_raises_what_scales_it_within_both_bounds() {
    let floor = stand(&[("mode", "floor")], &[scaler(2, 10, None)]);
    assert_eq!((floor.settings.mode, floor.writes), (Mode::Floor, Writes::ScalerMinimum));
    assert_eq!((floor.settings.min_replicas, floor.settings.max_replicas), (2, 10));
    let narrower =
        stand(&[("mode", "floor"), ("max-replicas", "6"), ("min-replicas", "3")], &[scaler(2, 10, None)]);
    assert_eq!((narrower.settings.min_replicas, narrower.settings.max_replicas), (3, 6));

    let ours = Floor { before: Some(2), set: 7, until: Wall(0) };
    let raised = stand(&[("mode", "floor")], &[scaler(7, 10, Some(ours))]);
    assert_eq!(raised.settings.min_replicas, 2, "a floor must not hold itself up");

    let mut garbled = scaler(7, 10, None);
    garbled.floor = Some(Err(NoFloor));
    let unknown = stand(&[("mode", "floor")], &[garbled]);
    assert_eq!((unknown.settings.mode, reasons(&unknown)), (Mode::Observe, vec!["FloorUnreadable"]));

    let alone = stand(&[("mode", "floor")], &[]);
    assert_eq!((alone.settings.mode, reasons(&alone)), (Mode::Observe, vec!["NoMaximum"]));
    let bounded = stand(&[("mode", "floor"), ("max-replicas", "6")], &[]);
    assert_eq!((bounded.settings.mode, bounded.writes), (Mode::Floor, Writes::Scale));

    let two = stand(&[("mode", "floor")], &[scaler(2, 10, None), scaler(1, 5, None)]);
    assert_eq!((two.settings.mode, reasons(&two)), (Mode::Observe, vec!["OtherScaler"]));
    let above = stand(&[("mode", "floor"), ("min-replicas", "11")], &[scaler(2, 10, None)]);
    assert_eq!((above.settings.mode, reasons(&above)), (Mode::Observe, vec!["InvalidAnnotation"]));
}

#[test]
fn observe_needs_nothing() {
    for scalers in [&[][..], &[scaler(2, 10, None)]] {
        let observe = stand(&[("mode", "observe")], scalers);
        assert_eq!((observe.settings.mode, observe.refusals.len()), (Mode::Observe, 0));
    }
}

const NOW: Wall = Wall(1_790_000_000_000);

#[test]
fn a_floor_is_renewed_while_it_is_needed_and_then_given_back() {
    let floor = raise(NOW, Some(2), None, 7);
    assert_eq!(floor, Floor { before: Some(2), set: 7, until: Wall(NOW.0 + FLOOR_SECONDS * 1000) });
    assert_eq!(keep(NOW, Some(7), floor, Some(1)), Kept::AsItIs);
    let half = Wall(NOW.0 + FLOOR_SECONDS * 500);
    let renewed = |need| keep(half, Some(7), floor, need);
    let until = Wall(half.0 + FLOOR_SECONDS * 1000);
    assert_eq!(renewed(Some(9)), Kept::Write(Floor { until, ..floor }));
    assert_eq!(renewed(Some(4)), Kept::Write(Floor { set: 4, until, ..floor }));
    assert_eq!(renewed(Some(2)), Kept::Restore);
    assert_eq!(keep(NOW, Some(7), floor, None), Kept::Restore, "opted out");
}

#[test]
fn whoever_changes_a_raised_minimum_keeps_theirs() {
    let floor = raise(NOW, Some(2), None, 7);
    for theirs in [Some(3), Some(9), None] {
        assert_eq!(keep(NOW, theirs, floor, Some(7)), Kept::LetGo);
        assert_eq!(keep(NOW, theirs, floor, None), Kept::LetGo);
        assert_eq!(raise(NOW, theirs, Some(floor), 10).before, theirs);
    }
    assert_eq!(raise(NOW, Some(7), Some(floor), 10).before, Some(2));
}

proptest! {
    #[test]
    fn a_floor_survives_its_text(before in prop::option::of(0..1000u32), set in 0..1000u32, seconds in 0..4_000_000_000i64) {
        let floor = Floor { before, set, until: Wall(seconds * 1000) };
        prop_assert_eq!(floor.to_string().parse(), Ok(floor));
    }

    #[test]
    fn any_other_text_is_no_floor(text in "\\PC{0,40}") {
        if let Ok(floor) = text.parse::<Floor>() {
            prop_assert_eq!(floor.to_string().parse(), Ok(floor));
        }
    }

    /// However often it is raised and renewed, what stood before us comes back.
    #[test]
    fn the_original_is_never_lost(original in prop::option::of(1..5u32), needs in prop::collection::vec(1..20u32, 1..20)) {
        let (mut stated, mut standing, mut now) = (original, None, NOW);
        for need in needs {
            now = Wall(now.0 + 301_000);
            match standing {
                Some(floor) if need <= floor_of(&standing) => match keep(now, stated, floor, Some(need)) {
                    Kept::AsItIs => {}
                    Kept::Write(floor) => {
                        prop_assert!(floor.set >= need.min(floor_of(&standing)));
                        (stated, standing) = (Some(floor.set), Some(floor));
                    }
                    Kept::Restore => (stated, standing) = (floor.before, None),
                    Kept::LetGo => prop_assert!(false, "nobody else wrote"),
                },
                _ => {
                    let floor = raise(now, stated, standing, need);
                    (stated, standing) = (Some(floor.set), Some(floor));
                }
            }
            prop_assert_eq!(standing.map_or(stated, |floor: Floor| floor.before), original);
        }
    }
}

fn floor_of(standing: &Option<Floor>) -> u32 {
    standing.map_or(0, |floor| floor.set)
}

fn container(name: &str, ports: &[(u16, &str)]) -> Container {
    let ports =
        ports.iter().map(|(port, name)| (*port, (!name.is_empty()).then(|| (*name).to_owned()))).collect();
    Container { name: name.into(), ports }
}

#[test]
fn one_serving_container_says_its_ports_itself() {
    assert_eq!(measured(&[], None, &[container("app", &[])]), Ok(vec![]));
    assert_eq!(
        measured(&[], None, &[container("app", &[(8080, ""), (80, ""), (80, "")])]),
        Ok(vec![80, 8080])
    );
    assert_eq!(measured(&[], None, &[container("app", &[(80, "")]), container("log", &[])]), Ok(vec![80]));
}

#[test]
fn with_several_containers_someone_must_say_which() {
    let mesh = [container("app", &[(8080, "http")]), container("proxy", &[(15090, "metrics")])];
    let why = measured(&[], None, &mesh).unwrap_err();
    assert!(why.to_string().contains("app, proxy") && why.to_string().contains("prescale.dev/port"), "{why}");
    assert_eq!(measured(&[], Some("app"), &mesh), Ok(vec![8080]), "kubectl's default container");
    assert_eq!(measured(&[Port::Name("http".into())], None, &mesh), Ok(vec![8080]));
    assert_eq!(measured(&[Port::Number(9)], None, &mesh), Ok(vec![9]), "need not be declared");
    assert_eq!(
        measured(&[Port::Name("grpc".into())], None, &mesh),
        Err(NotMeasurable::NoSuchPort("grpc".into()))
    );
    assert!(measured(&[], None, &[container("a", &[]), container("b", &[])]).is_err());
    let many: Vec<(u16, &str)> = (1..=17).map(|port| (port, "")).collect();
    assert_eq!(measured(&[], None, &[container("app", &many)]), Err(NotMeasurable::TooManyPorts(17)));
}
