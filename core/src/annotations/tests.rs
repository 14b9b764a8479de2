//! Every annotation's good and bad values, and that each problem names its annotation and the mend.

use proptest::prelude::*;

use super::*;

fn said(annotations: &[(&str, &str)]) -> Said {
    read(annotations.iter().copied())
}

/// A wish with one annotation beside the mode.
fn with(name: &str, value: &str) -> Result<Wish, Problem> {
    let said = said(&[("prescale.dev/mode", "full"), (&format!("{PREFIX}{name}"), value)]);
    let wish = said.wish.expect("it opts in");
    match said.problems.into_iter().next() {
        None => Ok(wish),
        Some(problem) => {
            assert_eq!(wish.mode, Mode::Observe, "a problem must not act");
            Err(problem)
        }
    }
}

#[test]
fn only_the_mode_opts_in() {
    assert_eq!(
        said(&[("app", "web"), ("prescale.dev.example.org/mode", "full")]),
        Said { wish: None, problems: vec![] }
    );
    assert_eq!(said(&[("prescale.dev/mode", "full")]).wish.unwrap().mode, Mode::Full);
    assert_eq!(said(&[("prescale.dev/mode", " floor ")]).wish.unwrap().mode, Mode::Floor);
}

#[test]
fn without_a_mode_every_bad_annotation_is_told_all_the_same() {
    let told = |annotations: &[(&str, &str)]| {
        let said = said(annotations);
        assert_eq!(said.wish, None, "nothing opts in: {annotations:?}");
        said.problems.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let misspelt = told(&[("prescale.dev/mdoe", "full")]);
    assert_eq!(misspelt.len(), 1, "{misspelt:?}");
    assert!(misspelt[0].starts_with("prescale.dev/mdoe: there is no such annotation"), "{misspelt:?}");
    assert!(misspelt[0].contains("did you mean prescale.dev/mode?"), "{misspelt:?}");

    let forgotten = told(&[("prescale.dev/slo", "p99<200ms"), ("prescale.dev/max-replicas", "4")]);
    assert_eq!(forgotten.len(), 1, "{forgotten:?}");
    assert!(
        forgotten[0].starts_with(
            "prescale.dev/slo, prescale.dev/max-replicas are set, but without prescale.dev/mode"
        )
    );
    assert!(forgotten[0].contains(Annotation::Mode.mend()));

    let all = told(&[
        ("prescale.dev/Mode", "full"),
        ("prescale.dev/slo", "fast"),
        ("prescale.dev/max-replicas", "many"),
        ("prescale.dev/hedroom", "0.1"),
        ("app", "web"),
    ]);
    let begin = [
        "prescale.dev/slo: `fast`",
        "prescale.dev/max-replicas: `many`",
        "prescale.dev/Mode:",
        "prescale.dev/hedroom:",
    ];
    assert_eq!(all.len(), begin.len() + 1, "{all:?}");
    for (text, begin) in all.iter().zip(begin) {
        assert!(text.starts_with(begin), "{text} for {begin}");
    }
    assert!(all[4].contains("without prescale.dev/mode"), "{all:?}");
}

#[test]
fn a_flood_of_unknown_names_is_told_in_part() {
    let names: Vec<String> = (0..1000).map(|number| format!("prescale.dev/x{number:03}")).collect();
    let mut annotations: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "")).collect();
    annotations.push(("prescale.dev/slo", "fast"));
    let problems = said(&annotations).problems;
    assert_eq!(problems.len(), MAX_UNKNOWN + 2, "{problems:?}");
    assert_eq!(problems[0], Problem::BadValue(Annotation::Slo, "fast".into()), "and hides no other");
    assert_eq!(problems.last(), Some(&Problem::NoMode(vec![Annotation::Slo])));
}

#[test]
fn each_good_value_is_understood() {
    assert_eq!(with("slo", "p99<200ms").unwrap().slo, Some(Slo { quantile: 0.99, seconds: 0.2 }));
    assert_eq!(with("slo", "p50 < 1.5s").unwrap().slo, Some(Slo { quantile: 0.5, seconds: 1.5 }));
    assert_eq!(with("min-replicas", "2").unwrap().min_replicas, Some(2));
    assert_eq!(with("max-replicas", "20").unwrap().max_replicas, Some(20));
    assert_eq!(with("rps-per-pod", "12.5").unwrap().rps_per_pod, Some(12.5));
    assert_eq!(with("headroom", "0.1").unwrap().headroom, 0.1);
    assert_eq!(with("headroom", "25%").unwrap().headroom, 0.25);
    assert_eq!(with("port", "8080, http").unwrap().ports, [Port::Number(8080), Port::Name("http".into())]);
    assert!(with("paused", "true").unwrap().paused);
    assert!(!with("paused", "false").unwrap().paused);
}

#[test]
fn each_bad_value_is_named_with_its_mend() {
    let bad = [
        ("mode", &["", "Full", "on", "full,floor"][..]),
        (
            "slo",
            &["", "200ms", "p99", "p0<1s", "p100<1s", "p99<0ms", "p99<1m", "p99>200ms", "p99<-1s", "pNaN<1s"],
        ),
        ("min-replicas", &["0", "-1", "1.5", "two", "99999999999", "+3"]),
        ("max-replicas", &["0", "", "2147483648"]),
        ("rps-per-pod", &["0", "-5", "inf", "nan", "1e3", "50rps"]),
        ("headroom", &["-0.1", "11", "1001%", "ten", "NaN"]),
        ("port", &["0", "65536", "80,", "HTTP", "a-name-that-is-too-long", "+80", "80;81"]),
        ("paused", &["yes", "1", "True"]),
    ];
    for annotation in Annotation::ALL {
        let tried = bad.iter().any(|(name, _)| annotation.name() == format!("{PREFIX}{name}"));
        assert!(tried, "no bad value of {annotation:?} is tried");
    }
    for (name, values) in bad {
        for value in values {
            let problem = if name == "mode" {
                let said = said(&[("prescale.dev/mode", value)]);
                assert_eq!(said.wish.unwrap().mode, Mode::Observe, "{value}");
                said.problems[0].clone()
            } else {
                with(name, value).expect_err(value)
            };
            let Problem::BadValue(annotation, _) = &problem else { panic!("{name}={value}: {problem}") };
            assert_eq!(annotation.name(), format!("{PREFIX}{name}"));
            assert!(problem.to_string().starts_with(annotation.name()), "{problem}");
            assert!(problem.to_string().contains(annotation.mend()), "{problem}");
        }
    }
}

#[test]
fn a_misspelt_name_is_told_and_keeps_from_acting() {
    let problem = with("max-replica", "20").unwrap_err();
    let text = problem.to_string();
    assert!(text.starts_with("prescale.dev/max-replica:"), "{text}");
    assert!(text.contains("did you mean prescale.dev/max-replicas?"), "{text}");
}

#[test]
fn bounds_that_contradict_each_other_keep_from_acting() {
    let bounds = |min, max| {
        said(&[
            ("prescale.dev/mode", "full"),
            ("prescale.dev/min-replicas", min),
            ("prescale.dev/max-replicas", max),
        ])
    };
    assert_eq!(bounds("3", "3").problems, []);
    assert_eq!(bounds("4", "3").problems, [Problem::MinAboveMax]);
    assert_eq!(bounds("4", "3").wish.unwrap().mode, Mode::Observe);
}

proptest! {
    /// Whatever anybody writes: no panic, and what is taken lies within its bounds.
    #[test]
    fn any_text_is_taken_within_bounds_or_told(which in 0..8usize, value in "\\PC{0,12}|[0-9p<.,%ms-]{0,9}") {
        let name = Annotation::ALL[which].name();
        let said = read([("prescale.dev/mode", "full"), (name, value.as_str())]);
        let wish = said.wish.expect("the mode opts in");
        prop_assert_eq!(said.problems.is_empty(), wish.mode != Mode::Observe || value.trim() == "observe");
        prop_assert!(wish.min_replicas.is_none_or(|it| it >= 1));
        prop_assert!(wish.max_replicas.is_none_or(|it| it >= 1));
        prop_assert!(wish.rps_per_pod.is_none_or(|it| it > 0.0 && it.is_finite()));
        prop_assert!((0.0..=10.0).contains(&wish.headroom));
        prop_assert!(wish.slo.is_none_or(|it| it.seconds > 0.0 && it.quantile > 0.0 && it.quantile < 1.0));
        for problem in said.problems {
            prop_assert!(problem.to_string().len() <= 1000, "an Event's note holds 1 KiB");
        }
    }
}
