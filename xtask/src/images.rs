//! The container images: static binaries, from scratch, as archives that any container engine loads.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::archive::{File, Image, NOBODY};
use crate::{build_ebpf, cluster, release, run};

/// CAP_NET_ADMIN, CAP_PERFMON, CAP_BPF: what the agent raises at its start (DESIGN.md, 16).
const AGENT_CAPABILITIES: &[u32] = &[12, 38, 39];

/// Built together, so that what both need is compiled once.
const PROGRAMS: [&str; 2] = ["prescale-agent", "prescale-aggregator"];

/// An image.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// Of every node.
    Agent,
    /// What plans and writes.
    Aggregator,
    /// The application to try Prescale on, `deploy/sample`.
    Sample,
}

/// Which images, and what to do with them.
#[derive(clap::Args)]
pub struct Options {
    /// Which; Prescale's own where none is named.
    #[arg(value_enum, default_values_t = [Which::Agent, Which::Aggregator])]
    which: Vec<Which>,
    /// Hand them to the running cluster's nodes.
    #[arg(long)]
    load: bool,
    /// Which cluster.
    #[arg(long, default_value = "dev")]
    name: String,
}

/// Builds the images, and loads them where that is asked for.
pub fn run(options: &Options) -> Result<()> {
    let archives: Vec<PathBuf> = options.which.iter().map(|which| build(*which)).collect::<Result<_>>()?;
    if options.load {
        cluster::load(&options.name, &archives)?;
    }
    Ok(())
}

/// Builds one image and returns its archive.
pub fn build(which: Which) -> Result<PathBuf> {
    match which {
        Which::Agent => agent(),
        Which::Aggregator => aggregator(),
        Which::Sample => sample(),
    }
}

/// Builds the agent's image and returns its archive.
pub fn agent() -> Result<PathBuf> {
    let object = build_ebpf::build()?;
    let from = release::build(&PROGRAMS)?.join("prescale-agent");
    let files = vec![
        File { from, to: "/prescale-agent", executable: true, capabilities: AGENT_CAPABILITIES },
        File { from: object, to: "/prescale-agent.o", executable: false, capabilities: &[] },
    ];
    archive(Which::Agent, files)
}

/// Builds the aggregator's image and returns its archive.
pub fn aggregator() -> Result<PathBuf> {
    let from = release::build(&PROGRAMS)?.join("prescale-aggregator");
    let files = vec![File { from, to: "/prescale-aggregator", executable: true, capabilities: &[] }];
    archive(Which::Aggregator, files)
}

/// Builds the sample's image and returns its archive.
pub fn sample() -> Result<PathBuf> {
    let from = run::target_dir().join("sample");
    let mut go = Command::new("go");
    go.current_dir(run::root().join("deploy/sample/app")).env("CGO_ENABLED", "0");
    run::run(go.args(["build", "-trimpath", "-ldflags", "-s -w", "-o"]).arg(&from).arg("."))
        .context("building the sample needs Go 1.26 or later")?;
    archive(Which::Sample, vec![File { from, to: "/sample", executable: true, capabilities: &[] }])
}

/// Name and description; the name is also that of the program, in the image's root.
fn titles(which: Which) -> (&'static str, &'static str) {
    match which {
        Which::Agent => ("prescale-agent", "Measures the requests of a node's pods with eBPF"),
        Which::Aggregator => ("prescale-aggregator", "Forecasts load and plans replicas"),
        Which::Sample => ("sample", "An application to try Prescale on"),
    }
}

/// OCI's labels of an image.
fn labels(which: Which) -> [(&'static str, &'static str); 5] {
    let (title, description) = titles(which);
    [
        ("org.opencontainers.image.title", title),
        ("org.opencontainers.image.description", description),
        ("org.opencontainers.image.version", env!("CARGO_PKG_VERSION")),
        ("org.opencontainers.image.licenses", env!("CARGO_PKG_LICENSE")),
        ("org.opencontainers.image.source", env!("CARGO_PKG_REPOSITORY")),
    ]
}

fn archive(which: Which, files: Vec<File<'_>>) -> Result<PathBuf> {
    let (name, _) = titles(which);
    let directory = run::target_dir().join("images");
    fs::create_dir_all(&directory).with_context(|| format!("making {}", directory.display()))?;
    for file in files.iter().filter(|file| file.executable) {
        let program = fs::read(&file.from).with_context(|| format!("reading {}", file.from.display()))?;
        ensure!(runs_alone(&program)?, "{} needs a loader, which the image has not", file.from.display());
    }
    let file = directory.join(format!("{name}.tar"));
    let entrypoint = files[0].to.to_owned();
    let image = Image {
        name: &format!("prescale.dev/{name}:{}", env!("CARGO_PKG_VERSION")),
        files,
        user: NOBODY,
        entrypoint: &[&entrypoint],
        labels: &labels(which),
    };
    image.write(&file)?;
    eprintln!("{}: {} bytes, {}", file.display(), fs::metadata(&file)?.len(), image.name);
    Ok(file)
}

/// Whether a 64-bit little-endian ELF program names no interpreter, which would load its libraries.
fn runs_alone(program: &[u8]) -> Result<bool> {
    const INTERPRETER: u64 = 3;
    let number = |at: usize, bytes: usize| {
        let field = program.get(at..at + bytes).context("the program is cut off")?;
        Ok::<_, anyhow::Error>(field.iter().rev().fold(0_u64, |all, byte| all << 8 | u64::from(*byte)))
    };
    ensure!(program.starts_with(b"\x7fELF\x02\x01"), "no 64-bit little-endian ELF program");
    // Program headers: where, how large each, how many.
    let (start, size, count) = (number(32, 8)?, number(54, 2)?, number(56, 2)?);
    for header in 0..count {
        if number((start + header * size) as usize, 4)? == INTERPRETER {
            return Ok(false);
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum as _;

    use super::*;

    #[test]
    fn the_dockerfiles_make_images_of_the_same_configuration() {
        for which in Which::value_variants() {
            let (name, _) = titles(*which);
            let file = name.trim_start_matches("prescale-");
            let path = run::root().join(format!("deploy/images/{file}.Dockerfile"));
            let text = fs::read_to_string(&path).unwrap();
            let mut wanted =
                vec![format!("ENTRYPOINT [\"/{name}\"]"), format!("USER {NOBODY}"), "FROM scratch".into()];
            wanted.extend(labels(*which).map(|(key, value)| format!("{key}=\"{value}\"")));
            for line in wanted {
                assert!(text.contains(&line), "{}: no {line}", path.display());
            }
        }
    }

    #[test]
    fn a_program_that_needs_a_loader_is_told_from_one_that_does_not() {
        // Tests are linked dynamically.
        let own = fs::read(std::env::current_exe().unwrap()).unwrap();
        assert!(!runs_alone(&own).unwrap());
        assert!(runs_alone(&own[..40]).is_err());
        let mut none = own;
        // No program headers.
        none[56..58].fill(0);
        assert!(runs_alone(&none).unwrap());
        assert!(runs_alone(b"#!/bin/sh").is_err());
    }
}
