//! The wire of the nodes: one veth pair, made inside their network namespaces, so that the machine's own never sees it.

use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::processes::{Process, Record};

/// Gives every node its `eth0`. A single node keeps the other end itself: a wire that leads nowhere.
pub(super) fn connect(record: &Record) -> Result<()> {
    let nodes: Vec<Process> = record.nodes.iter().filter_map(|node| node.first).collect();
    let (first, other, end) = match nodes.as_slice() {
        [only] => (only, only, "wire"),
        [first, second] => (first, second, "eth0"),
        nodes => anyhow::bail!("a wire has two ends, and these are {} nodes", nodes.len()),
    };
    let (first, other) = (first.pid().to_string(), other.pid().to_string());
    let mut ip = Command::new("ip");
    ip.args(["link", "add", "eth0", "netns", &first, "type", "veth"]);
    ip.args(["peer", "name", end, "netns", &other]);
    let output = ip.output().context("starting ip (package iproute2)")?;
    ensure!(output.status.success(), "making the wire: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}
