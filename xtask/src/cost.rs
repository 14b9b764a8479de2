//! What a forecast costs, in instructions: the same on every machine of one architecture, so that CI can hold it.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::{packages, run};

/// Bins that `models/examples/cost.rs` counts over.
const BINS: u64 = 500;

/// What is counted, and the most instructions a bin may cost: what was measured when the row was last touched, and a
/// tenth for another compiler.
const BUDGETS: [(&str, &str, u64); 5] = [
    ("minute", "all targets of a workload's grid of minutes, head included", 483_000),
    ("six", "six horizons, five quantiles, head included", 269_000),
    ("ten-seconds", "a workload's grid of 10 s", 48_600),
    ("node", "an agent's grid of 5 s", 89_000),
    ("gru", "the pooled network alone, six horizons", 167_000),
];

/// Counts every row and fails if one is over its budget.
///
/// # Errors
/// If callgrind can't run or a row costs too much.
pub fn run() -> Result<()> {
    packages::ensure(&["valgrind", "libc6-dbg"], "counting instructions")?;
    run::run(&mut run::cargo(&["build", "--release", "-p", "prescale-models", "--example", "cost"]))?;
    let mut over = Vec::new();
    eprintln!("{:<12} {:>12} {:>12}", "", "instructions", "budget");
    for (name, what, budget) in BUDGETS {
        let counted = count(name)? / BINS;
        eprintln!("{name:<12} {counted:>12} {budget:>12}  a bin: {what}");
        if counted > budget {
            over.push(name);
        }
    }
    if !over.is_empty() {
        bail!(
            "over budget: {}; make it cheaper, or say in xtask/src/cost.rs why it must cost more",
            over.join(", ")
        );
    }
    Ok(())
}

/// Instructions of the counted part.
fn count(name: &str) -> Result<u64> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null", "--toggle-collect=*cost::measured*"])
        .arg(run::target_dir().join("release/examples/cost"))
        .arg(name)
        .stdout(Stdio::null())
        .output()
        .context("starting valgrind")?;
    let said = String::from_utf8_lossy(&output.stderr);
    let line = said.lines().find_map(|line| line.split_once("Collected :"));
    let collected = line.and_then(|(_, count)| count.trim().parse().ok());
    match collected {
        Some(count) if output.status.success() && count > 0 => Ok(count),
        _ => bail!("callgrind counted nothing for {name:?}:\n{said}"),
    }
}
