//! How each program of a node is told what to do: its arguments and its files. Data only; `node` starts them.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};

use super::certificates::{Certificates, kubeconfig};
use super::layout::{CONTAINERD_SOCKET, Layout, NAME_SERVER, NodeLayout, PAUSE_IMAGE, PODS, SERVICES};

/// Kernel settings that a kubelet wants and would write for the whole machine. With `protectKernelDefaults` it only
/// reads them, and the node shows it these files instead.
pub const SYSCTLS: &[(&str, &str)] = &[
    ("vm/overcommit_memory", "1"),
    ("vm/panic_on_oom", "0"),
    ("kernel/panic", "10"),
    ("kernel/panic_on_oops", "1"),
    ("kernel/keys/root_maxkeys", "1000000"),
    ("kernel/keys/root_maxbytes", "25000000"),
];

/// A program and its arguments.
#[derive(Clone, Debug)]
pub struct Program {
    /// Its name, which is also its log's.
    pub name: &'static str,
    /// What to start.
    pub path: PathBuf,
    /// Its arguments.
    pub arguments: Vec<String>,
}

/// What runs on every node from the start.
pub fn node_programs(layout: &Layout, node: &NodeLayout) -> Vec<Program> {
    let text = |file: PathBuf| file.display().to_string();
    let certificates = text(layout.file("pki"));
    let kubelet = [
        format!("--config={}", text(node.file("kubelet.yaml"))),
        format!("--kubeconfig={}", text(node.file("kubelet.kubeconfig"))),
        format!("--hostname-override={}", node.name()),
        format!("--node-ip={}", node.address()),
    ];
    let containerd = vec!["--config".to_owned(), text(node.file("containerd.toml"))];
    let mut programs = vec![
        Program { name: "containerd", path: "containerd".into(), arguments: containerd },
        ours(layout, "kubelet", kubelet),
        ours(layout, "kube-proxy", [format!("--config={}", text(node.file("proxy.yaml")))]),
    ];
    if node.number == 1 {
        programs.insert(0, apiserver(layout, &certificates));
        programs.insert(0, ours(layout, "etcd", [text(layout.file("etcd.yaml"))]));
    }
    programs
}

/// What runs on the first node once the API server is ready: earlier, the controller manager ends for want of rights.
pub fn late_programs(layout: &Layout) -> Vec<Program> {
    let certificates = layout.file("pki").display().to_string();
    let with_api = |name: &str| {
        let file = layout.file(&format!("{name}.kubeconfig")).display().to_string();
        ["--kubeconfig", "--authentication-kubeconfig", "--authorization-kubeconfig"]
            .map(|flag| format!("{flag}={file}"))
    };
    let mut manager: Vec<String> = with_api("controller-manager").into();
    manager.extend([
        "--leader-elect=false".to_owned(),
        "--use-service-account-credentials".to_owned(),
        format!("--service-account-private-key-file={certificates}/service-accounts.key"),
        format!("--root-ca-file={certificates}/authority.crt"),
        format!("--cluster-signing-cert-file={certificates}/authority.crt"),
        format!("--cluster-signing-key-file={certificates}/authority.key"),
    ]);
    let mut scheduler: Vec<String> = with_api("scheduler").into();
    scheduler.push("--leader-elect=false".to_owned());
    vec![ours(layout, "kube-controller-manager", manager), ours(layout, "kube-scheduler", scheduler)]
}

fn ours(layout: &Layout, name: &'static str, arguments: impl IntoIterator<Item = String>) -> Program {
    Program { name, path: layout.program(name), arguments: arguments.into_iter().collect() }
}

fn apiserver(layout: &Layout, certificates: &str) -> Program {
    let arguments = [
        "--etcd-servers=http://127.0.0.1:2379".to_owned(),
        format!("--advertise-address={}", layout.node(1).address()),
        "--secure-port=6443".to_owned(),
        format!("--service-cluster-ip-range={SERVICES}"),
        "--allow-privileged".to_owned(),
        "--authorization-mode=Node,RBAC".to_owned(),
        "--enable-admission-plugins=NodeRestriction".to_owned(),
        format!("--tls-cert-file={certificates}/apiserver.crt"),
        format!("--tls-private-key-file={certificates}/apiserver.key"),
        format!("--client-ca-file={certificates}/authority.crt"),
        format!("--kubelet-certificate-authority={certificates}/authority.crt"),
        format!("--kubelet-client-certificate={certificates}/apiserver-kubelet.crt"),
        format!("--kubelet-client-key={certificates}/apiserver-kubelet.key"),
        "--kubelet-preferred-address-types=InternalIP".to_owned(),
        "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
        format!("--service-account-key-file={certificates}/service-accounts.crt"),
        format!("--service-account-signing-key-file={certificates}/service-accounts.key"),
        // The aggregation layer, for tests that bring an API of their own.
        format!("--requestheader-client-ca-file={certificates}/authority.crt"),
        "--requestheader-allowed-names=front-proxy".to_owned(),
        "--requestheader-username-headers=X-Remote-User".to_owned(),
        "--requestheader-group-headers=X-Remote-Group".to_owned(),
        "--requestheader-extra-headers-prefix=X-Remote-Extra-".to_owned(),
        format!("--proxy-client-cert-file={certificates}/front-proxy.crt"),
        format!("--proxy-client-key-file={certificates}/front-proxy.key"),
        "--enable-aggregator-routing".to_owned(),
    ];
    ours(layout, "kube-apiserver", arguments)
}

/// Writes every file that the programs read, the kubeconfigs among them.
///
/// # Errors
/// One can't be written.
pub fn write(layout: &Layout) -> Result<()> {
    let certificates = Certificates::of(layout);
    let authority = certificates.pair("authority").certificate;
    let here = "https://127.0.0.1:6443";
    let config = |server: &str, name: &str| kubeconfig(server, &authority, &certificates.pair(name));
    put(layout.kubeconfig(), &config(here, "admin"))?;
    for name in ["controller-manager", "scheduler"] {
        put(layout.file(&format!("{name}.kubeconfig")), &config(here, name))?;
    }
    put(layout.file("etcd.yaml"), &etcd(layout))?;
    // Nothing listens there: an answer at once instead of a wait for a name server that packets can't reach.
    put(layout.file("resolv.conf"), "nameserver 127.0.0.1\n")?;
    for (name, value) in SYSCTLS {
        put(layout.file("sysctl").join(name), &format!("{value}\n"))?;
    }
    let there = format!("https://{}:6443", layout.node(1).address());
    for node in layout.nodes() {
        put(node.file("kubelet.kubeconfig"), &config(&there, &node.name()))?;
        put(node.file("proxy.kubeconfig"), &config(&there, "proxy"))?;
        put(node.file("kubelet.yaml"), &kubelet(layout, &node))?;
        put(node.file("proxy.yaml"), &proxy(&node))?;
        put(node.file("containerd.toml"), &containerd(&node))?;
        put(node.file("cni/10-bridge.conflist"), &pod_network(&node))?;
        fs::create_dir_all(node.file("logs")).context("making the directory of logs")?;
    }
    Ok(())
}

fn put(file: PathBuf, text: &str) -> Result<()> {
    let parent = file.parent().context("a file lies in a directory")?;
    fs::create_dir_all(parent)
        .and_then(|()| fs::write(&file, text))
        .with_context(|| format!("writing {}", file.display()))
}

fn etcd(layout: &Layout) -> String {
    // Nobody needs its data after a crash of the machine: no waiting for the disk.
    format!(
        "name: tests\ndata-dir: {}\nlisten-client-urls: http://127.0.0.1:2379\n\
         advertise-client-urls: http://127.0.0.1:2379\nlisten-peer-urls: http://127.0.0.1:2380\n\
         initial-advertise-peer-urls: http://127.0.0.1:2380\ninitial-cluster: tests=http://127.0.0.1:2380\n\
         initial-cluster-state: new\nunsafe-no-fsync: true\nlog-level: error\n",
        layout.file("etcd").display()
    )
}

fn kubelet(layout: &Layout, node: &NodeLayout) -> String {
    let certificates = Certificates::of(layout);
    let own = certificates.pair(&node.name());
    format!(
        "apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication:
  anonymous: {{enabled: false}}
  webhook: {{enabled: true}}
  x509: {{clientCAFile: {authority}}}
authorization: {{mode: Webhook}}
tlsCertFile: {certificate}
tlsPrivateKeyFile: {key}
containerRuntimeEndpoint: unix://{CONTAINERD_SOCKET}
cgroupDriver: cgroupfs
cgroupRoot: /{cgroup}
failCgroupV1: false
failSwapOn: false
# Without CAP_SYS_RESOURCE nobody may lower these; 0 asks for nothing.
oomScoreAdj: 0
protectKernelDefaults: true
clusterDNS: ['{NAME_SERVER}']
clusterDomain: cluster.local
resolvConf: {resolv}
volumePluginDir: {plugins}
# The machine's disk is not the cluster's to judge.
evictionHard: {{memory.available: '0%', nodefs.available: '0%', imagefs.available: '0%'}}
imageGCHighThresholdPercent: 100
imageGCLowThresholdPercent: 99
serializeImagePulls: false
registerWithTaints: []
",
        authority = certificates.pair("authority").certificate.display(),
        certificate = own.certificate.display(),
        key = own.key.display(),
        cgroup = node.cgroup(&layout.place()),
        resolv = layout.file("resolv.conf").display(),
        plugins = node.file("plugins").display(),
    )
}

fn proxy(node: &NodeLayout) -> String {
    format!(
        "apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
clientConnection: {{kubeconfig: {kubeconfig}}}
hostnameOverride: {name}
mode: iptables
clusterCIDR: {PODS}
oomScoreAdj: 0
# These would be written for the whole machine.
conntrack: {{maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}}
",
        kubeconfig = node.file("proxy.kubeconfig").display(),
        name = node.name(),
    )
}

fn containerd(node: &NodeLayout) -> String {
    format!(
        "version = 2
root = '{root}'
state = '/run/containerd'
disabled_plugins = [
  'io.containerd.snapshotter.v1.aufs', 'io.containerd.snapshotter.v1.btrfs', 'io.containerd.snapshotter.v1.devmapper',
  'io.containerd.snapshotter.v1.zfs',
]
[grpc]
address = '{CONTAINERD_SOCKET}'
[plugins.'io.containerd.internal.v1.opt']
path = '{opt}'
[plugins.'io.containerd.grpc.v1.cri']
sandbox_image = '{PAUSE_IMAGE}'
# Without CAP_SYS_RESOURCE a container that wants a lower score can't be started.
restrict_oom_score_adj = true
# Below /run, which is the node's own: they go with it.
netns_mounts_under_state_dir = true
[plugins.'io.containerd.grpc.v1.cri'.cni]
bin_dir = '/usr/lib/cni'
conf_dir = '{cni}'
",
        root = node.file("containerd").display(),
        opt = node.file("opt").display(),
        cni = node.file("cni").display(),
    )
}

fn pod_network(node: &NodeLayout) -> String {
    let network = serde_json::json!({
        "cniVersion": "1.0.0",
        "name": "pods",
        "plugins": [
            {
                "type": "bridge", "bridge": "cni0", "isDefaultGateway": true, "hairpinMode": true,
                "ipam": {
                    "type": "host-local",
                    "dataDir": node.file("addresses"),
                    "ranges": [[{"subnet": node.pods()}]],
                },
            },
            {"type": "portmap", "capabilities": {"portMappings": true}},
        ],
    });
    format!("{network:#}")
}

#[cfg(test)]
mod tests {
    use super::super::layout::FIRST_SERVICE;
    use super::*;

    #[test]
    fn the_service_named_kubernetes_has_the_first_address() {
        let first = SERVICES.split('/').next().unwrap().parse::<std::net::Ipv4Addr>().unwrap();
        assert_eq!(u32::from(FIRST_SERVICE), u32::from(first) + 1);
    }

    #[test]
    fn only_the_first_node_carries_the_control_plane() {
        let layout = Layout { name: "x".into(), nodes: 2, programs: "/p".into() };
        let names = |number| -> Vec<_> {
            node_programs(&layout, &layout.node(number)).iter().map(|program| program.name).collect()
        };
        assert_eq!(names(1), ["etcd", "kube-apiserver", "containerd", "kubelet", "kube-proxy"]);
        assert_eq!(names(2), ["containerd", "kubelet", "kube-proxy"]);
    }
}
