//! What a workload's annotations mean beside the objects around it: the settings in force, what is written, what is
//! refused and why.
//!
//! Pure: the shell reads the objects and carries out what is said here. `floor` does the arithmetic of raised minimums.

mod floor;
mod ports;
#[cfg(test)]
mod tests;

pub use floor::{FLOOR_ANNOTATION, FLOOR_SECONDS, Floor, Kept, NoFloor, keep, raise};
pub use ports::{Container, Measured, NotMeasurable, measured};

use std::fmt;

use crate::annotations::{Annotation, Problem, Said, Wish};
use crate::world::{Mode, WorkloadSettings};

/// A thing that scales a workload already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scaler {
    /// Which.
    pub kind: ScalerKind,
    /// Its name, in the workload's namespace.
    pub name: String,
    /// Its minimum as it stands; Kubernetes' default where it states none.
    pub min_replicas: u32,
    /// Its maximum; its kind's default where it states none.
    pub max_replicas: u32,
    /// What we have raised, if we have; an error when our annotation there can't be read.
    pub floor: Option<Result<Floor, NoFloor>>,
}

/// The kinds of scalers that we know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ScalerKind {
    /// `autoscaling/v2`.
    HorizontalPodAutoscaler,
    /// `keda.sh/v1alpha1`. It makes an HPA of its own; its minimum is the one to raise.
    ScaledObject,
}

impl fmt::Display for ScalerKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::HorizontalPodAutoscaler => "HorizontalPodAutoscaler",
            Self::ScaledObject => "ScaledObject",
        })
    }
}

/// Why something that was asked for is not done. Each is one Event on the workload.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Refusal {
    /// An annotation can't be obeyed.
    Annotation(Problem),
    /// `full`, but something else scales it.
    OtherScaler(ScalerKind, String),
    /// Two scalers: which minimum would count can't be said.
    TwoScalers(String, String),
    /// It may grow, but nothing says how far.
    NoMaximum(Mode),
    /// Our annotation on a scaler can't be read: what it was before is not known.
    FloorUnreadable(String),
    /// `min-replicas` is above the scaler's maximum.
    MinAboveScaler(u32, u32),
    /// Its pods can't be measured.
    NotMeasurable(NotMeasurable),
    /// A Deployment of the same name has opted in.
    NameTaken,
}

impl Refusal {
    /// The Event's reason.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Annotation(_) => "InvalidAnnotation",
            Self::OtherScaler(..) | Self::TwoScalers(..) => "OtherScaler",
            Self::NoMaximum(_) => "NoMaximum",
            Self::FloorUnreadable(_) => "FloorUnreadable",
            Self::MinAboveScaler(..) => "InvalidAnnotation",
            Self::NotMeasurable(_) => "NotMeasurable",
            Self::NameTaken => "NameTaken",
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (mode, max) = (Annotation::Mode.name(), Annotation::MaxReplicas.name());
        match self {
            Self::Annotation(problem) => write!(f, "{problem}. Until then nothing is written."),
            Self::OtherScaler(kind, name) => write!(
                f,
                "{mode}=full is refused: the {kind} {name} scales this workload too. Write {mode}=floor to raise its \
                 minimum ahead of the load, or delete it. Until then nothing is written."
            ),
            Self::TwoScalers(one, other) => write!(
                f,
                "Both {one} and {other} scale this workload. Delete one of them. Until then nothing is written."
            ),
            Self::NoMaximum(which) => write!(
                f,
                "{mode}={} needs a bound here: set {max} to the most replicas that you would pay for. Until then \
                 nothing is written.",
                if *which == Mode::Full { "full" } else { "floor" },
            ),
            Self::FloorUnreadable(scaler) => write!(
                f,
                "The annotation {FLOOR_ANNOTATION} of {scaler} can't be read, so its own minimum is not known. Set its \
                 minimum as you want it and remove the annotation. Until then nothing is written."
            ),
            Self::MinAboveScaler(min, most) => write!(
                f,
                "{}: {min} is above the scaler's maximum of {most}; lower the one or raise the other. Until then \
                 nothing is written.",
                Annotation::MinReplicas.name()
            ),
            Self::NotMeasurable(why) => write!(f, "Not measurable: {why}"),
            Self::NameTaken => f.write_str(
                "A Deployment of this name has opted in too, and measurements go by name. Rename one, or opt one out.",
            ),
        }
    }
}

/// What is written when more replicas are needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writes {
    /// The workload's `/scale`.
    Scale,
    /// The minimum of the scaler that targets it.
    ScalerMinimum,
}

/// What holds for a workload.
#[derive(Clone, Debug, PartialEq)]
pub struct Standing {
    /// In force; a refusal to act shows as mode `observe`.
    pub settings: WorkloadSettings,
    /// Where decisions go.
    pub writes: Writes,
    /// Each to be told once.
    pub refusals: Vec<Refusal>,
}

/// What holds for a workload that has opted in with `wish`, with the `scalers` that target it.
pub fn standing(said: &Said, wish: &Wish, scalers: &[Scaler]) -> Standing {
    let mut refusals: Vec<Refusal> = said.problems.iter().cloned().map(Refusal::Annotation).collect();
    // Bounds that contradict each other bound nothing, and `WorkloadSettings::problem` would hold what is observed.
    let contradict = said.problems.contains(&Problem::MinAboveMax);
    let min = wish.min_replicas.filter(|_| !contradict);
    let max = wish.max_replicas.filter(|_| !contradict);
    // Kubernetes' own upper end: in `observe` a plan without a bound is what we would like to show.
    let (mut least, mut most) = (min.unwrap_or(1), max.unwrap_or(i32::MAX as u32));
    let mut mode = wish.mode;
    let mut writes = Writes::Scale;
    match scalers {
        [] => {
            if mode != Mode::Observe && max.is_none() {
                refusals.push(Refusal::NoMaximum(mode));
                mode = Mode::Observe;
            }
        }
        [scaler] => {
            writes = Writes::ScalerMinimum;
            // Its own minimum, not ours of a moment ago, or a floor would hold itself up.
            let own = match &scaler.floor {
                None => scaler.min_replicas,
                Some(Ok(floor)) => floor.original(scaler.min_replicas),
                Some(Err(NoFloor)) => {
                    refusals.push(Refusal::FloorUnreadable(format!("{} {}", scaler.kind, scaler.name)));
                    mode = Mode::Observe;
                    scaler.min_replicas
                }
            };
            most = most.min(scaler.max_replicas.max(1));
            if mode == Mode::Full {
                refusals.push(Refusal::OtherScaler(scaler.kind, scaler.name.clone()));
                mode = Mode::Observe;
            } else if least > most {
                refusals.push(Refusal::MinAboveScaler(least, most));
                mode = Mode::Observe;
            }
            least = least.max(own).min(most).max(1);
        }
        [one, other, ..] => {
            let name = |it: &Scaler| format!("{} {}", it.kind, it.name);
            refusals.push(Refusal::TwoScalers(name(one), name(other)));
            mode = Mode::Observe;
        }
    }
    let settings = WorkloadSettings {
        mode,
        min_replicas: least,
        max_replicas: most,
        rps_per_pod: wish.rps_per_pod,
        slo_seconds: wish.slo.map(|slo| slo.seconds),
        headroom: wish.headroom,
        paused: wish.paused,
    };
    Standing { settings, writes, refusals }
}
