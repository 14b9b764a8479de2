//! A node of the tests' cluster refuses a network with a way out, before it starts anything. Needs root.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::io::Write as _;
use std::process::{Command, Stdio};

use prescale_tests::binaries::binary;
use prescale_tests::cluster::layout::Layout;
use prescale_tests::cluster::node::GO;

/// A node's first process in a network namespace prepared by `network`; what it said before it ended.
fn node(network: &str) -> String {
    let directory = std::env::temp_dir().join(format!("prescale-isolation-{}", std::process::id()));
    fs::create_dir_all(&directory).unwrap();
    let layout = Layout { name: "none".into(), nodes: 1, programs: "/nowhere".into() };
    fs::write(directory.join("layout.json"), serde_json::to_vec(&layout).unwrap()).unwrap();
    let mut command = Command::new("unshare");
    command.args(["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--"]);
    command.args(["sh", "-c", &format!("{network}\nexec \"$@\""), "sh"]).arg(binary("cluster"));
    command.arg("node").arg("--directory").arg(&directory).args(["--number", "1"]);
    let mut child = command.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // Open until the end: a node ends itself when whoever starts it is gone.
    let mut starter = child.stdin.take().unwrap();
    writeln!(starter, "{GO}").unwrap();
    let output = child.wait_with_output().unwrap();
    drop(starter);
    fs::remove_dir_all(directory).unwrap();
    assert!(!output.status.success());
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
#[ignore = "makes namespaces: needs root"]
fn a_network_with_a_way_out_is_refused() {
    let routed = node(
        "ip link add eth0 type veth peer name other; ip link set eth0 up; ip route add default dev eth0",
    );
    assert!(routed.contains("could reach outside"), "{routed}");
    // The same without the route gets further: to the files of its cluster, which is not there.
    let alone = node("ip link add eth0 type veth peer name other; ip link set eth0 up");
    assert!(!alone.contains("could reach outside") && alone.contains("prescale-cluster-none"), "{alone}");
}
