//! What CI runs, tier by tier, and how long each took.

use std::time::Instant;

use anyhow::Result;

use crate::{run, suite};

type Tier = (&'static str, fn() -> Result<()>);

/// Runs every tier; stops at the first that fails, the minutes so far printed either way.
pub fn run() -> Result<()> {
    let tiers: [Tier; 8] = [
        ("format and lints", lints),
        ("plain tests", suite::plain),
        ("chart", crate::chart::run),
        ("costs in instructions", crate::cost::run),
        ("kernel tests", suite::kernel),
        ("fuzzing", || suite::fuzz(30)),
        ("short demo", demo),
        ("end to end in a cluster", crate::e2e::quick),
    ];
    let mut minutes = Vec::new();
    for (name, tier) in tiers {
        eprintln!("\n=== {name}");
        let start = Instant::now();
        let outcome = tier();
        minutes.push(format!("{:>6.1} min  {name}", start.elapsed().as_secs_f64() / 60.0));
        if let Err(error) = outcome {
            eprintln!("\n{}  <- failed", minutes.join("\n"));
            return Err(error.context(format!("CI tier '{name}'")));
        }
    }
    eprintln!("\n{}", minutes.join("\n"));
    Ok(())
}

fn lints() -> Result<()> {
    run::run(&mut run::cargo(&["fmt", "--all", "--check"]))?;
    run::run(&mut run::cargo(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]))?;
    // `--all-targets` passes over what `cargo test` does.
    let left_out = ["--test", "e2e", "--test", "cluster_crash"];
    run::run(run::cargo(&["clippy", "--workspace"]).args(left_out).args(["--", "-D", "warnings"]))
}

/// The demo end to end, short: it exits with failure itself when its counts are not exact.
fn demo() -> Result<()> {
    let arguments = ["--headless", "--duration", "30s", "--json", "--policies", "prescale,hpa65"];
    crate::programs::demo(&arguments.map(String::from))
}
