//! The container images: static binaries, from scratch, as archives that any container engine loads.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::archive::{File, Image, NOBODY};
use crate::{build_ebpf, cluster, release, run};

/// CAP_NET_ADMIN, CAP_PERFMON, CAP_BPF: what the agent raises at its start (DESIGN.md, 16).
const AGENT_CAPABILITIES: &[u32] = &[12, 38, 39];

/// Built together, so that what both need is compiled once.
const PROGRAMS: [&str; 2] = ["prescale-agent", "prescale-aggregator"];

/// Which images, and what to do with them.
#[derive(clap::Args)]
pub struct Options {
    /// Hand them to the running cluster's nodes.
    #[arg(long)]
    load: bool,
    /// Which cluster.
    #[arg(long, default_value = "dev")]
    name: String,
}

/// Builds the images, and loads them where that is asked for.
pub fn run(options: &Options) -> Result<()> {
    let archives = [agent()?, aggregator()?];
    if options.load {
        cluster::load(&options.name, &archives)?;
    }
    Ok(())
}

/// Builds the agent's image and returns its archive.
pub fn agent() -> Result<PathBuf> {
    let object = build_ebpf::build()?;
    let from = release::build(&PROGRAMS)?.join("prescale-agent");
    let files = vec![
        File { from, to: "/prescale-agent", executable: true, capabilities: AGENT_CAPABILITIES },
        File { from: object, to: "/prescale-agent.o", executable: false, capabilities: &[] },
    ];
    archive("prescale-agent", "Measures the requests of a node's pods with eBPF", files)
}

fn aggregator() -> Result<PathBuf> {
    let from = release::build(&PROGRAMS)?.join("prescale-aggregator");
    let files = vec![File { from, to: "/prescale-aggregator", executable: true, capabilities: &[] }];
    archive("prescale-aggregator", "Forecasts load and plans replicas", files)
}

fn archive(name: &str, description: &str, files: Vec<File<'_>>) -> Result<PathBuf> {
    let directory = run::target_dir().join("images");
    fs::create_dir_all(&directory).with_context(|| format!("making {}", directory.display()))?;
    let file = directory.join(format!("{name}.tar"));
    let version = env!("CARGO_PKG_VERSION");
    let entrypoint = files[0].to.to_owned();
    let image = Image {
        name: &format!("prescale.dev/{name}:{version}"),
        files,
        user: NOBODY,
        entrypoint: &[&entrypoint],
        labels: &[
            ("org.opencontainers.image.title", name),
            ("org.opencontainers.image.description", description),
            ("org.opencontainers.image.version", version),
            ("org.opencontainers.image.licenses", env!("CARGO_PKG_LICENSE")),
            ("org.opencontainers.image.source", env!("CARGO_PKG_REPOSITORY")),
        ],
    };
    image.write(&file)?;
    eprintln!("{}: {} bytes, {}", file.display(), fs::metadata(&file)?.len(), image.name);
    Ok(file)
}
