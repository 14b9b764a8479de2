//! What we keep of the API's objects, and how it is read from them. Nothing here talks to the API.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::{Container as ApiContainer, Pod, PodSpec, PodStatus, Probe};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use kube::core::{DynamicObject, Selector, SelectorExt as _};
use prescale_core::annotations::{PREFIX, Said, read};
use prescale_core::standing::{Container, FLOOR_ANNOTATION, Floor, NoFloor, ScalerKind};
use prescale_core::wire::{MAX_PROBE_BYTES, MAX_PROBES};
use prescale_core::world::{PodPhase, WorkloadId};

/// What can be opted in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Deployment,
    StatefulSet,
}

impl Kind {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Deployment => "Deployment",
            Self::StatefulSet => "StatefulSet",
        }
    }
}

/// Which workload. Deployments come first: of two of one name the Deployment is taken.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    pub(super) id: WorkloadId,
    pub(super) kind: Kind,
}

/// What the metadata of a workload says.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Meta {
    pub(super) uid: String,
    pub(super) generation: i64,
    pub(super) resource_version: String,
    pub(super) said: Said,
}

impl Meta {
    /// `None` for a workload that says nothing to us.
    pub(super) fn of(meta: &ObjectMeta) -> Option<Self> {
        let annotations = meta.annotations.as_ref()?;
        if !annotations.keys().any(|key| key.starts_with(PREFIX)) || meta.deletion_timestamp.is_some() {
            return None;
        }
        Some(Self {
            uid: meta.uid.clone()?,
            generation: meta.generation.unwrap_or(0),
            resource_version: meta.resource_version.clone()?,
            said: read(annotations.iter().map(|(key, value)| (key.as_str(), value.as_str()))),
        })
    }
}

/// What the spec of an opted-in workload says.
#[derive(Clone, Debug)]
pub(super) struct Spec {
    pub(super) uid: String,
    pub(super) generation: i64,
    /// Of an object with these replicas.
    pub(super) resource_version: String,
    pub(super) replicas: u32,
    pub(super) selector: Selector,
}

impl Spec {
    pub(super) fn of_deployment(it: &Deployment) -> Option<Self> {
        let spec = it.spec.as_ref()?;
        Self::new(&it.metadata, spec.replicas, spec.selector.clone())
    }

    pub(super) fn of_stateful_set(it: &StatefulSet) -> Option<Self> {
        let spec = it.spec.as_ref()?;
        Self::new(&it.metadata, spec.replicas, spec.selector.clone())
    }

    fn new(meta: &ObjectMeta, replicas: Option<i32>, selector: LabelSelector) -> Option<Self> {
        Some(Self {
            uid: meta.uid.clone()?,
            generation: meta.generation.unwrap_or(0),
            resource_version: meta.resource_version.clone()?,
            // The API server fills in 1 where none is stated.
            replicas: u32::try_from(replicas.unwrap_or(1)).ok()?,
            selector: Selector::try_from(selector).ok()?,
        })
    }
}

/// A bound pod that may belong to a workload of ours.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct PodFacts {
    pub(super) uid: String,
    pub(super) node: String,
    pub(super) phase: PodPhase,
    pub(super) containers: Vec<Container>,
    /// `kubectl.kubernetes.io/default-container`.
    pub(super) main: Option<String>,
    /// Request lines of the kubelet's HTTP probes.
    pub(super) probes: Vec<String>,
    /// From its making to its readiness, seconds; `None` until it is ready, and when a container was started anew.
    pub(super) start_seconds: Option<u32>,
    /// By the name that Deployments give their ReplicaSets, or the StatefulSet's own.
    pub(super) made_by: Key,
    labels: BTreeMap<String, String>,
}

impl PodFacts {
    /// `None` for pods that are unbound, have ended, or belong to neither a Deployment nor a StatefulSet (a Job's).
    pub(super) fn of(pod: &Pod) -> Option<Self> {
        let (meta, spec, status) = (&pod.metadata, pod.spec.as_ref()?, pod.status.as_ref());
        let node = spec.node_name.clone().filter(|node| !node.is_empty())?;
        if status.and_then(|it| it.phase.as_deref()).is_some_and(|it| matches!(it, "Succeeded" | "Failed")) {
            return None;
        }
        let labels = meta.labels.clone().unwrap_or_default();
        let controller = meta.owner_references.iter().flatten().find(|it| it.controller == Some(true))?;
        let (kind, name) = match controller.kind.as_str() {
            "ReplicaSet" => {
                let hash = labels.get("pod-template-hash")?;
                (Kind::Deployment, controller.name.strip_suffix(hash.as_str())?.strip_suffix('-')?)
            }
            "StatefulSet" => (Kind::StatefulSet, controller.name.as_str()),
            _ => return None,
        };
        let id = WorkloadId { namespace: meta.namespace.clone()?, name: name.to_owned() };
        let conditions = status.and_then(|it| it.conditions.as_ref());
        let readiness =
            conditions.and_then(|all| all.iter().find(|it| it.type_ == "Ready" && it.status == "True"));
        let ready = readiness.is_some();
        let phase = match (meta.deletion_timestamp.is_some(), ready) {
            (true, _) => PodPhase::Terminating,
            (false, true) => PodPhase::Ready,
            (false, false) => PodPhase::Starting,
        };
        let annotations = meta.annotations.as_ref();
        let running: Vec<&ApiContainer> = beside_each_other(spec).collect();
        Some(Self {
            uid: meta.uid.clone()?,
            node,
            phase,
            containers: running.iter().map(|it| container(it)).collect(),
            main: annotations.and_then(|it| it.get("kubectl.kubernetes.io/default-container")).cloned(),
            probes: probes(&running),
            start_seconds: readiness
                .filter(|_| !started_anew(status))
                .and_then(|it| Some((meta.creation_timestamp.as_ref()?, it.last_transition_time.as_ref()?)))
                .and_then(|(made, ready)| u32::try_from(ready.0.as_second() - made.0.as_second()).ok()),
            made_by: Key { id, kind },
            labels,
        })
    }

    /// Whether the workload that made it still selects it.
    pub(super) fn selected_by(&self, spec: &Spec) -> bool {
        spec.selector.matches(&self.labels)
    }
}

/// Whether a container of it has run before: its readiness is then no start's.
fn started_anew(status: Option<&PodStatus>) -> bool {
    let containers = status.and_then(|it| it.container_statuses.as_ref());
    containers.is_some_and(|all| all.iter().any(|it| it.restart_count > 0))
}

/// The containers that run at the same time: native sidecars are init containers that are always restarted.
fn beside_each_other(spec: &PodSpec) -> impl Iterator<Item = &ApiContainer> {
    let sidecars =
        spec.init_containers.iter().flatten().filter(|it| it.restart_policy.as_deref() == Some("Always"));
    spec.containers.iter().chain(sidecars)
}

fn container(it: &ApiContainer) -> Container {
    let tcp = it.ports.iter().flatten().filter(|port| port.protocol.as_deref().is_none_or(|it| it == "TCP"));
    let port = |number: i32, name: &Option<String>| Some((u16::try_from(number).ok()?, name.clone()));
    Container {
        name: it.name.clone(),
        ports: tcp.filter_map(|it| port(it.container_port, &it.name)).collect(),
    }
}

/// Request lines as the kubelet writes them, at most [`MAX_PROBES`]; too long ones are left out: they count as load.
fn probes(containers: &[&ApiContainer]) -> Vec<String> {
    let line = |probe: &Probe| {
        let path = probe.http_get.as_ref()?.path.as_deref().filter(|it| !it.is_empty()).unwrap_or("/");
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        Some(format!("GET {path} HTTP/1.1")).filter(|it| it.len() <= MAX_PROBE_BYTES)
    };
    let all = containers
        .iter()
        .flat_map(|it| [it.startup_probe.as_ref(), it.readiness_probe.as_ref(), it.liveness_probe.as_ref()]);
    let mut lines: Vec<String> = all.flatten().filter_map(line).collect();
    lines.sort();
    lines.dedup();
    lines.truncate(MAX_PROBES);
    lines
}

/// A scaler's name within its namespace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ScalerKey {
    pub(super) namespace: String,
    pub(super) kind: ScalerKind,
    pub(super) name: String,
}

/// A scaler and what it scales.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct ScalerFacts {
    pub(super) target: Key,
    pub(super) resource_version: String,
    /// As it is stated.
    pub(super) min_replicas: Option<u32>,
    pub(super) max_replicas: u32,
    /// Our annotation, as far as it can be read.
    pub(super) floor: Option<Result<Floor, NoFloor>>,
}

/// KEDA's own defaults.
const KEDA_MAX: u32 = 100;

impl ScalerFacts {
    /// `None` when it scales neither a Deployment nor a StatefulSet, or is KEDA's own (its ScaledObject counts).
    pub(super) fn of_hpa(it: &HorizontalPodAutoscaler) -> Option<Self> {
        let spec = it.spec.as_ref()?;
        let keda = it.metadata.owner_references.iter().flatten().any(|owner| owner.kind == "ScaledObject");
        if keda {
            return None;
        }
        let (min, max) = (spec.min_replicas.and_then(count), count(spec.max_replicas)?);
        Self::new(&it.metadata, &spec.scale_target_ref.kind, &spec.scale_target_ref.name, min, max)
    }

    /// As [`ScalerFacts::of_hpa`].
    pub(super) fn of_scaled_object(it: &DynamicObject) -> Option<Self> {
        let spec = it.data.get("spec")?;
        let target = spec.get("scaleTargetRef")?;
        let number =
            |name| spec.get(name).and_then(serde_json::Value::as_u64).and_then(|it| u32::try_from(it).ok());
        let kind = target.get("kind").and_then(|it| it.as_str()).unwrap_or("Deployment");
        let name = target.get("name")?.as_str()?;
        let max = number("maxReplicaCount").unwrap_or(KEDA_MAX);
        Self::new(&it.metadata, kind, name, number("minReplicaCount"), max)
    }

    /// The minimum in force: where none is stated, an HPA keeps 1 and KEDA 0.
    pub(super) fn stated_min(&self, kind: ScalerKind) -> u32 {
        self.min_replicas.unwrap_or(u32::from(kind == ScalerKind::HorizontalPodAutoscaler))
    }

    fn new(meta: &ObjectMeta, kind: &str, name: &str, min: Option<u32>, max: u32) -> Option<Self> {
        let kind = match kind {
            "Deployment" => Kind::Deployment,
            "StatefulSet" => Kind::StatefulSet,
            _ => return None,
        };
        let floor =
            meta.annotations.as_ref().and_then(|it| it.get(FLOOR_ANNOTATION)).map(|text| text.parse());
        Some(Self {
            target: Key {
                id: WorkloadId { namespace: meta.namespace.clone()?, name: name.to_owned() },
                kind,
            },
            resource_version: meta.resource_version.clone()?,
            min_replicas: min,
            max_replicas: max,
            floor,
        })
    }
}

fn count(number: i32) -> Option<u32> {
    u32::try_from(number).ok()
}
