//! Images for the cluster's nodes: no registry anywhere, so archives are handed to each node's containerd.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::layout::{CONTAINERD_SOCKET, Place};
use super::running;

/// Hands docker archives to every node of the cluster at `place`.
///
/// # Errors
/// It is not up, or containerd refuses an archive.
pub fn load(place: &Place, archives: &[PathBuf]) -> Result<()> {
    let (layout, record) = running(place)?;
    for (node, processes) in layout.nodes().zip(&record.nodes) {
        let first = processes.first.context("a running node has a process")?;
        // The socket lies in the node's own /run.
        let socket = Path::new("/proc").join(first.pid().to_string()).join("root");
        let socket = format!("{}{CONTAINERD_SOCKET}", socket.display());
        for archive in archives {
            let mut ctr = Command::new("ctr");
            ctr.args(["--address", &socket, "--namespace", "k8s.io", "images", "import"]).arg(archive);
            let output = ctr.output().context("starting ctr (package containerd)")?;
            if !output.status.success() {
                let said = String::from_utf8_lossy(&output.stderr);
                bail!("{} does not take {}: {}", node.name(), archive.display(), said.trim());
            }
        }
    }
    Ok(())
}
