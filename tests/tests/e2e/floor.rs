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

/// A scaler of `web`, and where its minimum is.
#[derive(Clone, Copy, Debug)]
pub struct Scaler {
    /// For kubectl.
    pub object: &'static str,
    /// As Events name it.
    pub name: &'static str,
    /// Its minimum's path.
    pub minimum: &'static str,
}

/// An HPA.
pub const HPA: Scaler =
    Scaler { object: "hpa/web", name: "HorizontalPodAutoscaler web", minimum: ".spec.minReplicas" };

impl Scaler {
    fn minimum(self, namespace: &Namespace) -> String {
        namespace.field(self.object, self.minimum)
    }

    /// Waits until the minimum of 2 of `namespace`'s workload, in floor mode under load, is raised.
    pub fn raised(self, run: &Run, namespace: &Namespace, seconds: u64) {
        let begin = Instant::now();
        let minimum = wait("a raised minimum", seconds, || {
            let minimum = self.minimum(namespace);
            if minimum == "2" { Err(minimum) } else { Ok(minimum) }
        });
        let took = begin.elapsed().as_secs_f64();
        let note = namespace.field(self.object, ANNOTATION);
        run.say(&format!(
            "minimum 2 to {minimum} {took:.1} s after the load began; prescale.dev/floor: {note}"
        ));
        self.stands(namespace);
        namespace.event("web", "FloorRaised", &[self.name], 20);
    }

    /// That a minimum is raised, and the note beside it still says that it was 2 before.
    ///
    /// # Panics
    /// If not.
    pub fn stands(self, namespace: &Namespace) {
        let looks = || (self.minimum(namespace), namespace.field(self.object, ANNOTATION));
        let (minimum, note) = wait("a minimum and its note", 10, || {
            let (minimum, note) = looks();
            // Between the two looks it may have been written anew.
            let of_it = note.starts_with(&format!("before=2 set={minimum} until="));
            if of_it { Ok((minimum, note)) } else { Err(format!("{minimum} {note:?}")) }
        });
        assert_ne!(minimum, "2", "{note}");
    }

    /// Waits until it has its own minimum again.
    pub fn given_back(self, run: &Run, namespace: &Namespace, after: &str) {
        let begin = Instant::now();
        wait("the minimum given back", 30, || {
            let (minimum, note) = (self.minimum(namespace), namespace.field(self.object, ANNOTATION));
            if minimum == "2" && note.is_empty() { Ok(()) } else { Err(format!("{minimum} {note:?}")) }
        });
        run.say(&format!("given back {:.1} s after {after}", begin.elapsed().as_secs_f64()));
    }
}

/// Two pods in floor mode, of 50 requests/s each, which `scaler` (a manifest) scales from 2 to 6.
pub fn workload(name: &str, scaler: &str) -> Namespace {
    let namespace = Namespace::new(name);
    let annotations =
        [("mode", "floor"), ("rps-per-pod", "50")].map(|(name, value)| (name, value.to_owned()));
    App { replicas: 2, annotations: annotations.into(), ..App::default() }.start(&namespace);
    namespace.apply(scaler);
    namespace
}

/// A workload with an HPA of 2 to 6 in floor mode, loaded until its minimum is raised.
fn raised(run: &Run, name: &str) -> (Namespace, Load) {
    let namespace = workload(name, &hpa(2, 6));
    let load = Load::start(&namespace, arrivals(&[steady(180.0, 240.0)], 4));
    HPA.raised(run, &namespace, 60);
    (namespace, load)
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
    HPA.given_back(run, &namespace, "opting out");
}

/// Raised, then Prescale is uninstalled: the hook gives it back, and nothing of the release stays.
pub fn is_given_back_by_the_uninstall(run: &Run) {
    let (namespace, load) = raised(run, "uninstall");
    let begin = Instant::now();
    helm(&["uninstall", NAMESPACE, "--namespace", NAMESPACE, "--wait"])
        .unwrap_or_else(|said| panic!("helm uninstall: {said}"));
    run.say(&format!("helm uninstall took {:.1} s", begin.elapsed().as_secs_f64()));
    HPA.given_back(run, &namespace, "the uninstall");
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
