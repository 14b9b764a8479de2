//! The chart's settings that are no switches: each is rendered, must show in the objects, and passes the same checks; what
//! makes no sense is refused.

use anyhow::{Result, bail, ensure};
use serde_json::{Value, json};

use super::{objects, render};

/// Values as `--set` takes them, what of them must show in the objects, and what the user has made beforehand.
struct Setting {
    set: &'static [&'static str],
    shows: &'static [&'static str],
    brings: &'static [(&'static str, &'static str)],
}

const fn setting(set: &'static [&'static str], shows: &'static [&'static str]) -> Setting {
    Setting { set, shows, brings: &[] }
}

const SETTINGS: [Setting; 19] = [
    setting(
        &["tls.certManager.issuerRef.name=our-issuer", "tls.certManager.issuerRef.kind=ClusterIssuer"],
        &["our-issuer", "ClusterIssuer", "cert-manager.io/v1"],
    ),
    Setting {
        brings: &[("ConfigMap", "our-authority")],
        ..setting(
            &["tls.certManager.issuerRef.name=our-issuer", "tls.caConfigMap=our-authority"],
            &["our-issuer", "our-authority"],
        )
    },
    Setting {
        brings: &[("Secret", "our-certificate")],
        ..setting(&["tls.existingSecret=our-certificate"], &["our-certificate"])
    },
    Setting {
        brings: &[("Secret", "our-certificate"), ("ConfigMap", "our-authority")],
        ..setting(
            &["tls.existingSecret=our-certificate", "tls.caConfigMap=our-authority"],
            &["our-certificate", "our-authority"],
        )
    },
    Setting {
        brings: &[("ConfigMap", "our-authority")],
        ..setting(&["tls.caConfigMap=our-authority"], &["our-authority"])
    },
    Setting {
        brings: &[("Secret", "our-word")],
        ..setting(
            &["aggregator.page.access=token", "aggregator.page.tokenSecret=our-word"],
            &["our-word", "--page-token-file="],
        )
    },
    setting(
        &["rbac.writeNamespaces={shop,bank}"],
        &[r#""namespace":"shop""#, r#""namespace":"bank""#, "--namespace=shop", "--namespace=bank"],
    ),
    setting(
        &["persistence.enabled=true", "persistence.size=3Gi", "persistence.storageClass=our-class"],
        &["3Gi", "our-class", "volumeClaimTemplates"],
    ),
    setting(&["persistence.enabled=false", "persistence.size=300Mi"], &[r#""sizeLimit":"300Mi""#]),
    setting(
        &["agent.resources.limits.memory=96Mi", "agent.resources.requests.cpu=31m", "agent.maxPods=111"],
        &["96Mi", "31m", "--max-pods=111"],
    ),
    setting(
        &[
            "aggregator.resources.limits.memory=768Mi",
            "aggregator.resources.limits.cpu=3",
            "aggregator.replicas=3",
        ],
        &["768Mi", "--peer=https://prescale-aggregator-2.", "--aggregator=https://prescale-aggregator-2."],
    ),
    setting(&["models={tuned_smoothing,rls_ar}"], &["--models=tuned_smoothing,rls_ar"]),
    setting(
        &[
            "modelsFor[0].workloads=batch/*",
            "modelsFor[0].models={tuned_smoothing,phase_profile}",
            "modelsFor[1].workloads=*/web",
            "modelsFor[1].models={tuned_smoothing}",
        ],
        &["--models-for=batch/*=tuned_smoothing,phase_profile", "--models-for=*/web=tuned_smoothing"],
    ),
    setting(&["training.at=off", "training.cpuShare=0.5"], &["--train-at=off", "--train-cpu-share=0.5"]),
    setting(
        &["image.prefix=registry.example.org/ours/", "image.tag=v7", "image.pullSecrets[0].name=our-login"],
        &[
            "registry.example.org/ours/prescale-agent:v7",
            "registry.example.org/ours/prescale-aggregator:v7",
            "our-login",
        ],
    ),
    setting(&["agent.cgroupRoot=/host/cgroup"], &["--cgroup-root=/host/cgroup", r#""path":"/host/cgroup""#]),
    setting(
        &[
            r"agent.nodeSelector.kubernetes\.io/arch=arm64",
            "agent.priorityClassName=system-node-critical",
            "aggregator.priorityClassName=our-class",
            "aggregator.tolerations[0].key=our-taint",
            "aggregator.tolerations[0].operator=Exists",
        ],
        &["arm64", "system-node-critical", "our-class", "our-taint"],
    ),
    setting(
        &[
            "networkPolicy.enabled=true",
            r"networkPolicy.from[0].namespaceSelector.matchLabels.kubernetes\.io/metadata\.name=our-monitoring",
        ],
        &["our-monitoring"],
    ),
    setting(
        &[
            "serviceMonitor.enabled=true",
            "serviceMonitor.labels.release=our-prometheus",
            "serviceMonitor.interval=7s",
            "prometheusRule.enabled=true",
            "prometheusRule.labels.role=our-rules",
        ],
        &["our-prometheus", "7s", "our-rules"],
    ),
];

/// What values.schema.json must refuse: it would make objects that can't work.
const REFUSED: [&str; 10] = [
    "aggregator.page.access=token",
    "aggregator.page.access=open",
    "models={holt_winters}",
    "modelsFor[0].workloads=web",
    "tls.certManager.issuerRef.kind=ClusterIssuer",
    "persistence.size=3 GB",
    "aggregator.replicas=0",
    "training.at=25:00",
    "training.cpuShare=half",
    "rbac.writeNamspaces={shop}",
];

/// Renders each with the switches as they are and with `all_on`.
pub fn check(all_on: &[String]) -> Result<()> {
    for Setting { set, shows, brings } in &SETTINGS {
        for switches in [&[][..], all_on] {
            let set: Vec<String> =
                switches.iter().cloned().chain(set.iter().map(|it| (*it).to_owned())).collect();
            let mut objects = render(&set)?;
            // As JSON, before what the user brings is beside it.
            let text = Value::from(objects.clone()).to_string();
            let hidden: Vec<_> = shows.iter().filter(|it| !text.contains(**it)).collect();
            ensure!(hidden.is_empty(), "rendered with {}: {hidden:?} is nowhere", set.join(","));
            objects.extend(brings.iter().map(|(kind, name)| {
                json!({"apiVersion": "v1", "kind": kind, "metadata": {"name": name, "namespace": "prescale"}})
            }));
            let complaints = objects::complaints(&objects);
            ensure!(complaints.is_empty(), "rendered with {}:\n{}", set.join(","), complaints.join("\n"));
        }
    }
    for set in REFUSED {
        if render(&[set.to_owned()]).is_ok() {
            bail!("values.schema.json takes {set}");
        }
    }
    eprintln!("rendered with {} settings, {} values refused", SETTINGS.len(), REFUSED.len());
    Ok(())
}
