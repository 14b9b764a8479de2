//! Beside an HPA: its minimum is raised ahead of the load and given back, by opting out and by an uninstall.

use std::time::Instant;

use super::Run;
use super::app::{App, Load, arrivals, steady};
use super::kubectl::{Namespace, kubectl, try_kubectl, wait};
use super::prescale::{NAMESPACE, helm};

const ANNOTATION: &str = r".metadata.annotations.prescale\.dev/floor";

/// An HPA of `web` on CPU. Without metrics it only keeps its bounds, which is all that floors need of it.
pub fn hpa(minimum: u32, maximum: u32) -> String {
    format!(
        "
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {{name: web}}
spec:
  scaleTargetRef: {{apiVersion: apps/v1, kind: Deployment, name: web}}
  minReplicas: {minimum}
  maxReplicas: {maximum}
  metrics:
  - {{type: Resource, resource: {{name: cpu, target: {{type: AverageValue, averageValue: 1}}}}}}
"
    )
}

/// A workload with an HPA of 2 to 6 in floor mode, loaded until its minimum is raised.
fn raised(run: &Run, name: &str) -> (Namespace, Load) {
    let namespace = Namespace::new(name);
    let annotations =
        [("mode", "floor"), ("rps-per-pod", "50")].map(|(name, value)| (name, value.to_owned()));
    App { replicas: 2, annotations: annotations.into(), ..App::default() }.start(&namespace);
    namespace.apply(&hpa(2, 6));
    let begin = Instant::now();
    let load = Load::start(&namespace, arrivals(&[steady(180.0, 240.0)], 4));
    let minimum = wait("a raised minimum", 60, || {
        let minimum = namespace.field("hpa/web", ".spec.minReplicas");
        if minimum == "2" { Err(minimum) } else { Ok(minimum) }
    });
    let took = begin.elapsed().as_secs_f64();
    let note = namespace.field("hpa/web", ANNOTATION);
    run.say(&format!("minimum 2 to {minimum} {took:.1} s after the load began; prescale.dev/floor: {note}"));
    assert!(note.starts_with(&format!("before=2 set={minimum} until=")), "{note:?}");
    namespace.event("web", "FloorRaised", &["HorizontalPodAutoscaler web"], 20);
    (namespace, load)
}

/// Waits until the HPA has its own minimum again.
fn given_back(run: &Run, namespace: &Namespace, after: &str) {
    let begin = Instant::now();
    wait("the minimum given back", 30, || {
        let (minimum, note) =
            (namespace.field("hpa/web", ".spec.minReplicas"), namespace.field("hpa/web", ANNOTATION));
        if minimum == "2" && note.is_empty() { Ok(()) } else { Err(format!("{minimum} {note:?}")) }
    });
    run.say(&format!("given back {:.1} s after {after}", begin.elapsed().as_secs_f64()));
}

/// Raised ahead of the load, obeyed by the HPA, given back by opting out.
pub fn is_raised_and_given_back(run: &Run) {
    let (namespace, load) = raised(run, "floor");
    let minimum: u32 = namespace.field("hpa/web", ".spec.minReplicas").parse().expect("a number");
    wait("the HPA obeys its minimum", 60, || {
        let replicas = namespace.field("deployment/web", ".spec.replicas");
        if replicas.parse().is_ok_and(|it: u32| it >= minimum) { Ok(()) } else { Err(replicas) }
    });
    let obeyed = namespace.field("hpa/web", ".status.desiredReplicas");
    run.say(&format!("the HPA has scaled to {obeyed}"));
    load.stop();
    namespace.annotate("web", &["mode-"]);
    given_back(run, &namespace, "opting out");
}

/// Raised, then Prescale is uninstalled: the hook gives it back, and nothing of the release stays.
pub fn is_given_back_by_the_uninstall(run: &Run) {
    let (namespace, load) = raised(run, "uninstall");
    let begin = Instant::now();
    helm(&["uninstall", NAMESPACE, "--namespace", NAMESPACE, "--wait"])
        .unwrap_or_else(|said| panic!("helm uninstall: {said}"));
    run.say(&format!("helm uninstall took {:.1} s", begin.elapsed().as_secs_f64()));
    given_back(run, &namespace, "the uninstall");
    load.stop();
    let label = format!("app.kubernetes.io/instance={NAMESPACE}");
    for kinds in ["all,configmap,secret,serviceaccount,role,rolebinding", "clusterrole,clusterrolebinding"] {
        wait("nothing left of the release", 60, || {
            let left = try_kubectl(&["get", kinds, "--namespace", NAMESPACE, "-l", &label, "-o", "name"])?;
            if left.is_empty() { Ok(()) } else { Err(left) }
        });
    }
    kubectl(&["delete", "namespace", NAMESPACE, "--wait=false"]);
}
