//! The agent's flags, checked before anything is touched.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use prescale_core::wire::{MAX_NAME_BYTES, MAX_PODS};
use prescale_shell::clock::ClockArgs;
use prescale_shell::log::LogArgs;
use prescale_shell::tls::TrustArgs;

/// The object's name beside the agent's own binary, where an image and `--object`'s default have it.
const OBJECT_NAME: &str = "prescale-agent.o";

/// Measures the HTTP requests of this node's watched pods in the kernel and reports them to the aggregator.
///
/// The aggregator says which pods; without one nothing is measured. Needs root, or the capabilities BPF, NET_ADMIN and
/// PERFMON, and a cgroup2 tree. However the agent ends, the kernel takes its programs off; connections go on.
#[derive(clap::Parser, Clone, Debug)]
#[command(name = "prescale-agent", version, max_term_width = 110)]
pub struct Args {
    /// This node's name in Kubernetes (`spec.nodeName` of the agent's own pod)
    #[arg(long, value_name = "NAME", value_parser = node_name)]
    pub node: String,

    /// An aggregator, as https://host:port, or http:// on loopback; once for each. The first that answers gives the watch
    /// list; reports go to all, or to the replicas that an aggregator names in its replies
    #[arg(long, value_name = "ADDRESS", required = true, num_args = 1..)]
    pub aggregator: Vec<String>,

    /// File with the token that the aggregator wants to see; read anew for each request
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,

    #[command(flatten)]
    #[allow(missing_docs)]
    pub trust: TrustArgs,

    /// The compiled kernel programs (`cargo xtask build-ebpf`) [default: prescale-agent.o beside this binary]
    #[arg(long, value_name = "FILE")]
    pub object: Option<PathBuf>,

    /// The cgroup2 tree that holds the pods [default: /sys/fs/cgroup, or /sys/fs/cgroup/unified beside version 1]
    #[arg(long, value_name = "DIRECTORY")]
    pub cgroup_root: Option<PathBuf>,

    /// Where /metrics, /healthz and /readyz are served; [::]:9464 serves IPv4 and IPv6
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "0.0.0.0:9464")]
    pub listen: SocketAddr,

    /// Seconds from one reading of the kernel's counters to the next, 0.1 to 10
    #[arg(long, value_name = "SECONDS", default_value_t = 1.0, value_parser = poll_seconds)]
    pub poll_seconds: f64,

    /// Most pods measured at a time; sizes the kernel's maps
    #[arg(long, value_name = "PODS", default_value_t = 256, value_parser = clap::value_parser!(u16).range(1..=MAX_PODS as i64))]
    pub max_pods: u16,

    #[command(flatten)]
    #[allow(missing_docs)]
    pub clock: ClockArgs,

    #[command(flatten)]
    #[allow(missing_docs)]
    pub log: LogArgs,
}

impl Args {
    /// The time between two readings, of the agent's clock.
    pub fn poll(&self) -> Duration {
        Duration::from_secs_f64(self.poll_seconds)
    }

    /// The object file to load.
    ///
    /// # Errors
    /// When this binary's own directory can't be found.
    pub fn object(&self) -> anyhow::Result<PathBuf> {
        match &self.object {
            Some(path) => Ok(path.clone()),
            None => Ok(std::env::current_exe()
                .context("can't find this binary's directory; name the object with --object")?
                .with_file_name(OBJECT_NAME)),
        }
    }
}

/// What the wire takes as a name, so that a wrong one stops the start and not every report.
fn node_name(text: &str) -> Result<String, String> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte);
    if text.is_empty() || text.len() > MAX_NAME_BYTES || !text.bytes().all(fits) {
        return Err(format!("want 1 to {MAX_NAME_BYTES} letters, digits, dashes and dots"));
    }
    Ok(text.to_owned())
}

fn poll_seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if (0.1..=10.0).contains(&seconds) => Ok(seconds),
        _ => Err("want a number from 0.1 to 10".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, Parser as _};

    use super::*;

    fn parse(flags: &[&str]) -> Result<Args, String> {
        Args::try_parse_from(["prescale-agent"].iter().chain(flags)).map_err(|error| error.to_string())
    }

    #[test]
    fn the_flags_hold_together() {
        Args::command().debug_assert();
    }

    #[test]
    fn wrong_flags_are_refused_with_the_reason() {
        let good = ["--node", "node-1", "--aggregator", "http://127.0.0.1:8080"];
        assert!(parse(&good).is_ok());
        assert!(parse(&good[..2]).unwrap_err().contains("--aggregator"));
        for (flag, value, reason) in [
            ("--node", "a b", "letters, digits"),
            ("--poll-seconds", "0", "0.1 to 10"),
            ("--poll-seconds", "NaN", "0.1 to 10"),
            ("--max-pods", "0", "1..=512"),
            ("--listen", "9464", "invalid socket address"),
            ("--clock-speed", "0", "from 1 to"),
        ] {
            let mut flags = good.to_vec();
            if flag == "--node" {
                flags.drain(..2);
            }
            let error = parse(&[flags.as_slice(), &[flag, value]].concat()).unwrap_err();
            assert!(error.contains(reason), "{flag} {value}: {error}");
        }
    }
}
