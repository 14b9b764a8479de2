//! The release as Helm changes it: an upgrade and its rollback under load, and state on a volume.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::Instant;

use prescale_tests::cluster::layout::Place;

use super::Run;
use super::app::{App, Load, Scale, arrivals, steady};
use super::kubectl::{Namespace, feed, kubectl, roll_out, try_kubectl, wait};
use super::prescale::{self, NAMESPACE, all_measured, chart, helm, image_prefix, nodes};

/// From a rise to the write, while replicas of the aggregator are replaced: the one that goes gives its Lease back.
const TAKE_OVER: f64 = 10.0;

/// One value changed by an upgrade, then taken back: both replicas of the aggregator are replaced twice while the load rises.
/// Every change of replicas is written once, by whoever leads.
pub fn upgraded_and_rolled_back(run: &Run) {
    let namespace = Namespace::new("rollback");
    let annotations = [("mode", "full"), ("max-replicas", "20"), ("rps-per-pod", "50")]
        .map(|(name, value)| (name, value.to_owned()));
    App { annotations: annotations.into(), ..App::default() }.start(&namespace);
    let scale = Scale::watch(&namespace);
    let generation = |what: &str| namespace.field("deployment/web", what).parse::<usize>().expect("a number");
    let before = generation(".metadata.generation");
    let mut loads = vec![Load::start(&namespace, arrivals(&[steady(20.0, 300.0)], 13))];
    all_measured(&namespace.0);
    // Each rise is to more than twice the load: a burst is planned for up to that, so a smaller one may find its pods there.
    let mut rise = |more: f64, seed: u64| {
        let load = Load::start(&namespace, arrivals(&[steady(more, 300.0)], seed));
        let (at, replicas) = scale.change_after(load.began, 60);
        let took = at.duration_since(load.began).as_secs_f64();
        loads.push(load);
        assert!(
            took < TAKE_OVER,
            "{took:.1} s after a rise by {more} requests/s, in which a leader may be replaced"
        );
        format!("{replicas} replicas {took:.1} s after a rise by {more} requests/s")
    };
    run.say(&rise(60.0, 14));
    let revision = revision();
    let chart = chart();
    let chart = chart.to_str().expect("the tree's path is UTF-8");
    let upgrade = [
        "upgrade",
        NAMESPACE,
        chart,
        "--namespace",
        NAMESPACE,
        "--reset-then-reuse-values",
        "--set",
        "aggregator.log=debug",
    ];
    let rollback = ["rollback", NAMESPACE, &revision, "--namespace", NAMESPACE];
    for (what, arguments, log, more) in
        [("upgrade", upgrade.as_slice(), "debug", 170.0), ("rollback", rollback.as_slice(), "info", 350.0)]
    {
        let begin = Instant::now();
        helm(arguments).unwrap_or_else(|said| panic!("helm {what}: {said}"));
        let said = rise(more, 15);
        prescale::ready();
        let ready = begin.elapsed().as_secs_f64();
        run.say(&format!("helm {what}: {said}; all ready {ready:.1} s after it"));
        let path = "jsonpath={.spec.template.spec.containers[0].args}";
        let flags =
            kubectl(&["get", "statefulset", "prescale-aggregator", "--namespace", NAMESPACE, "-o", path]);
        assert!(flags.contains(&format!("--log-level={log}")), "after the {what}: {flags}");
    }
    let lost: u64 = loads.into_iter().map(Load::stop).map(|totals| totals.aborted + totals.unsent).sum();
    // Nothing needs more pods now, and fewer not before five minutes of watching.
    let changes = wait("an Event for each write, and a write for each Event", 30, || {
        let changes: Vec<u32> = scale.changes().iter().map(|(_, replicas)| *replicas).collect();
        let written = changes.windows(2).map(|pair| format!("Scaled from {} to {}", pair[0], pair[1]));
        let (written, told): (Vec<String>, _) = (written.collect(), scaled(&namespace));
        // One that is lost is missing here, one that is doubled is there twice.
        if written == told { Ok(changes) } else { Err(format!("{written:?}, told {told:?}")) }
    });
    let writes = changes.len() - 1;
    run.say(&format!("replicas {changes:?}: {writes} writes, an Event each; {lost} requests lost"));
    assert_eq!(generation(".metadata.generation") - before, writes, "somebody else has written");
    assert_eq!(lost, 0);
}

/// The release's revision that is deployed.
fn revision() -> String {
    let history = helm(&["history", NAMESPACE, "--namespace", NAMESPACE, "--output", "json"]);
    let history = history.unwrap_or_else(|said| panic!("helm history: {said}"));
    let history: serde_json::Value = serde_json::from_str(&history).expect("helm writes JSON");
    let deployed = history.as_array().and_then(|all| all.iter().find(|it| it["status"] == "deployed"));
    deployed.unwrap_or_else(|| panic!("{history}"))["revision"].to_string()
}

/// The Events `Scaled` of a namespace in order, each up to its colon.
fn scaled(namespace: &Namespace) -> Vec<String> {
    let path = r#"jsonpath={range .items[?(@.reason=="Scaled")]}{.eventTime} {.message}{"\n"}{end}"#;
    let events = namespace.kubectl(&["get", "events", "-o", path]);
    let mut lines: Vec<&str> = events.lines().collect();
    lines.sort_unstable();
    let said = lines.into_iter().filter_map(|line| line.split_once(' ')?.1.split_once(':'));
    said.map(|(begin, _)| begin.to_owned()).collect()
}

/// A volume on a node of ours, its directory on this machine, and a release that keeps its state there.
struct Kept {
    namespace: Namespace,
    directory: PathBuf,
}

const RELEASE: &str = "kept";
const VOLUME: &str = "prescale-e2e-kept";

impl Drop for Kept {
    fn drop(&mut self) {
        let _ = helm(&["uninstall", RELEASE, "--namespace", &self.namespace.0]);
        let _ = try_kubectl(&["delete", "persistentvolume", VOLUME, "--wait=false"]);
    }
}

impl Kept {
    /// The store's file: where it is among all files, its size, and whose it is.
    fn store(&self) -> Result<(u64, u64, u32), String> {
        let file = self.directory.join("state.redb");
        let found = fs::metadata(&file).map_err(|error| format!("{}: {error}", file.display()))?;
        Ok((found.ino(), found.size(), found.uid()))
    }
}

/// With `persistence.enabled` the chart's claim is bound, the unprivileged program may write there, and the store outlives
/// its pod. A release of its own, of one aggregator without agents that may write nowhere else.
pub fn on_a_volume(run: &Run) {
    let cluster = std::env::var("PRESCALE_E2E_CLUSTER").expect("`cargo xtask e2e` says which cluster");
    // Goes with the cluster.
    let directory = Place::new(&cluster).expect("a name").directory().join(VOLUME);
    let _ = fs::remove_dir_all(&directory);
    fs::create_dir(&directory).expect("the cluster's directory takes one more");
    let kept = Kept { namespace: Namespace::new("kept"), directory };
    let node = nodes().swap_remove(0);
    feed(
        &["apply"],
        &format!(
            "
apiVersion: v1
kind: PersistentVolume
metadata: {{name: {VOLUME}}}
spec:
  capacity: {{storage: 1Gi}}
  accessModes: [ReadWriteOnce]
  storageClassName: {VOLUME}
  persistentVolumeReclaimPolicy: Retain
  # `local` and not `hostPath`: only of the former a kubelet gives the directory to the pod's group.
  local: {{path: {path}}}
  nodeAffinity:
    required:
      nodeSelectorTerms:
      - matchExpressions: [{{key: kubernetes.io/hostname, operator: In, values: [{node}]}}]
",
            path = kept.directory.display()
        ),
    );
    let chart = chart();
    let set = [
        format!("image.prefix={}", image_prefix()),
        format!("persistence.enabled=true,persistence.storageClass={VOLUME}"),
        // Two agents on a node would want the same pods.
        "aggregator.replicas=1,agent.nodeSelector.nowhere=none".to_owned(),
        format!("rbac.writeNamespaces={{{}}},uninstall.restoreFloors=false", kept.namespace.0),
    ];
    let chart = chart.to_str().expect("the tree's path is UTF-8");
    let begin = Instant::now();
    helm(&["install", RELEASE, chart, "--namespace", &kept.namespace.0, "--set", &set.join(",")])
        .unwrap_or_else(|said| panic!("helm install: {said}"));
    roll_out(&kept.namespace.0, "statefulset/prescale-aggregator");
    let phase = kept.namespace.field("persistentvolumeclaim/state-prescale-aggregator-0", ".status.phase");
    assert_eq!(phase, "Bound");
    let (file, size, owner) = wait("the store on the volume", 30, || kept.store());
    run.say(&format!(
        "ready {:.1} s after `helm install`; {size} bytes of uid {owner} on the volume",
        begin.elapsed().as_secs_f64()
    ));
    assert!(size > 0 && owner == 65534, "{size} bytes of {owner}");
    kept.namespace.kubectl(&["delete", "pod", "prescale-aggregator-0", "--wait=true"]);
    let again = Instant::now();
    wait("the next pod", 60, || {
        let path = r#"jsonpath={.status.conditions[?(@.type=="Ready")].status}"#;
        let pod = ["get", "pod", "prescale-aggregator-0", "--namespace", &kept.namespace.0, "-o", path];
        let ready = try_kubectl(&pod)?;
        if ready == "True" { Ok(()) } else { Err(ready) }
    });
    let (same, ..) = kept.store().expect("it is there still");
    let broken = kept.directory.join("state.redb.broken");
    assert!(same == file && !broken.exists(), "it has begun another store");
    run.say(&format!(
        "the next pod is ready {:.1} s after it on the same store",
        again.elapsed().as_secs_f64()
    ));
}
