//! Annotations that can't be obeyed are answered by an Event that names them and the mend, and nothing is written.

use std::time::Duration;

use prescale_core::annotations::Annotation;

use super::Run;
use super::app::{App, Load, Scale, arrivals, steady};
use super::floor::hpa;
use super::kubectl::{Namespace, wait};
use super::prescale::{all_measured, workload};

/// Annotations without a valid mode, every annotation with a value that means nothing, `full` without a maximum, `full`
/// beside an HPA.
pub fn are_refused_with_the_mend(run: &Run) {
    let namespace = Namespace::new("refusals");
    App { replicas: 1, ..App::default() }.start(&namespace);
    let scale = Scale::watch(&namespace);
    // Nothing opts in, and all the same each is answered, with the name that was meant.
    namespace.annotate("web", &["mdoe=full", "slo=fast", "hedroom=0.1"]);
    for (name, mend) in [("mdoe", "did you mean prescale.dev/mode?"), ("hedroom", "prescale.dev/headroom?")] {
        let told = namespace.event("web", "InvalidAnnotation", &[&format!("prescale.dev/{name}:"), mend], 20);
        run.say(&format!("without a mode: {told}"));
    }
    namespace.event("web", "InvalidAnnotation", &["prescale.dev/slo: `fast`", Annotation::Slo.mend()], 20);
    namespace.event(
        "web",
        "InvalidAnnotation",
        &["prescale.dev/slo is set, but without prescale.dev/mode"],
        20,
    );
    namespace.annotate("web", &["mdoe-", "slo-", "hedroom-"]);

    let full = ["mode=full", "max-replicas=4", "rps-per-pod=1"];
    namespace.annotate("web", &full[..1]);
    let told = namespace.event("web", "NoMaximum", &["prescale.dev/max-replicas"], 20);
    run.say(&format!("full without a maximum: {told}"));

    for annotation in Annotation::ALL {
        let bad = format!("{}=nonsense!", annotation.name().trim_start_matches("prescale.dev/"));
        namespace.annotate("web", &full);
        namespace.annotate("web", &[&bad]);
        namespace.event("web", "InvalidAnnotation", &[annotation.name(), annotation.mend()], 20);
        let name = bad.split('=').next().unwrap_or_default();
        namespace.annotate("web", &[&format!("{name}-")]);
    }
    namespace.annotate("web", &["mode=observe", "repilcas=3"]);
    namespace.event("web", "InvalidAnnotation", &["prescale.dev/repilcas", "no such annotation"], 20);
    namespace.annotate("web", &["repilcas-"]);
    run.say(&format!("{} bad values and a bad name: an Event each, with the mend", Annotation::ALL.len()));

    namespace.apply(&hpa(1, 3));
    namespace.annotate("web", &full);
    let told = namespace.event(
        "web",
        "OtherScaler",
        &["HorizontalPodAutoscaler web", "prescale.dev/mode=floor"],
        20,
    );
    run.say(&format!("full beside an HPA: {told}"));
    assert_eq!(scale.changes().len(), 1, "something was written: {:?}", scale.changes());
}

/// A paused workload is planned for and not written; the write comes when the pause ends.
pub fn pause(run: &Run) {
    let namespace = Namespace::new("pause");
    let annotations = [("mode", "full"), ("max-replicas", "4"), ("rps-per-pod", "50"), ("paused", "true")]
        .map(|(name, value)| (name, value.to_owned()));
    App { annotations: annotations.into(), ..App::default() }.start(&namespace);
    let scale = Scale::watch(&namespace);
    let load = Load::start(&namespace, arrivals(&[steady(150.0, 120.0)], 3));
    all_measured(&namespace.0);
    // It would write for as long as this, if it did not hold: a step takes it three seconds.
    for _ in 0..5 {
        wait("a plan that is not carried out", 60, || {
            let view = workload(&namespace.0, "web")?;
            let (wanted, gate) = (view["plan"]["wanted"].as_u64(), view["plan"]["gate"]["name"].as_str());
            let held = wanted.is_some_and(|it| it >= 3) && gate == Some("paused");
            if held { Ok(()) } else { Err(format!("{wanted:?} {gate:?}")) }
        });
        std::thread::sleep(Duration::from_secs(1));
    }
    assert_eq!(scale.changes().len(), 1, "written while paused: {:?}", scale.changes());
    let ended = std::time::Instant::now();
    namespace.annotate("web", &["paused=false"]);
    let (at, replicas) = scale.change_after(ended, 20);
    run.say(&format!(
        "1 to {replicas} replicas {:.2} s after the pause",
        at.duration_since(ended).as_secs_f64()
    ));
    load.stop();
}
