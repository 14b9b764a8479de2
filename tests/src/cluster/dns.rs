//! The cluster's name server: CoreDNS, for pods that call Services by name. Nobody waits for it: a pod that is asked for
//! at the same time starts no sooner.

use std::io::Write;
use std::process::Stdio;

use anyhow::{Context, Result, ensure};

use super::layout::{Layout, NAME_SERVER};
use super::processes::Record;
use super::{images, kubectl};

const MANIFEST: &str = include_str!("dns.yaml");

/// Hands its image to the nodes and its objects to the API server.
pub(super) fn start(layout: &Layout, record: &Record) -> Result<()> {
    images::load(&layout.place(), &[layout.programs.join("dns.tar")])?;
    let mut kubectl = kubectl(layout, record)?;
    kubectl.args(["apply", "-f", "-"]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = kubectl.spawn().context("starting kubectl")?;
    let mut input = child.stdin.take().context("its input is piped")?;
    input.write_all(MANIFEST.replace("NAME_SERVER", &NAME_SERVER.to_string()).as_bytes())?;
    drop(input);
    let output = child.wait_with_output().context("waiting for kubectl")?;
    ensure!(output.status.success(), "the name server: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}
