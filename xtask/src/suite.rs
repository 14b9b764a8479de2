//! The tests, cheapest first: plain ones, those that need root and a real kernel, fuzzing.

use anyhow::{Result, bail};

use crate::{build_ebpf, packages, run};

/// Debian packages that the tests drive as real clients, servers and networks.
const PACKAGES: &[&str] = &["nghttp2-client", "nginx-light", "iproute2", "g++"];

/// What to run.
#[derive(clap::Args)]
pub struct Options {
    /// Leave out the tests that need root and a real kernel.
    #[arg(long)]
    no_kernel: bool,
}

/// Runs every tier in order.
pub fn run(options: &Options) -> Result<()> {
    plain()?;
    if options.no_kernel {
        eprintln!("left out by --no-kernel: the tests that need root and a real kernel");
        return Ok(());
    }
    kernel()
}

/// Unit and property tests, the simulator, tidy: no root, no kernel.
pub fn plain() -> Result<()> {
    // Documentation here has no code to run: `--all-targets` leaves it out.
    run::run(&mut run::cargo(&["test", "--workspace", "--all-targets"]))
}

/// The tests that load the eBPF program, with the real binaries beside them.
pub fn kernel() -> Result<()> {
    if !run::is_root()? {
        bail!("the kernel tests load eBPF programs: run as root, or leave them out with --no-kernel");
    }
    packages::ensure(PACKAGES, "the kernel tests")?;
    let object = build_ebpf::build()?;
    run::run(run::cargo(&["build", "--bins"]).args(run::LIKE_THE_TESTS))?;
    // Only the ignored ones: the rest has run. Those of `core` are sweeps of minutes and no checks.
    let mut tests = run::cargo(&["test", "--workspace", "--exclude", "prescale-core", "--tests"]);
    // One at a time: some measure queueing, and all share two cores.
    tests.args(["--", "--ignored", "--test-threads=1"]);
    run::run(tests.env("PRESCALE_OBJECT", object))
}

/// Fuzzes the wire decoder with libFuzzer, coverage-guided, on stable Rust.
pub fn fuzz(seconds: u32) -> Result<()> {
    packages::ensure(&["g++"], "building libFuzzer")?;
    // What `cargo fuzz` would set, less the address sanitizer: the decoder has no unsafe code.
    let flags = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
                 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
                 -Cllvm-args=-sanitizer-coverage-trace-compares --cfg fuzzing -Ccodegen-units=1";
    let fuzz = run::root().join("core/fuzz");
    // Findings stay in the target directory; the seeds are committed.
    let corpus = run::target_dir().join("fuzz/corpus");
    std::fs::create_dir_all(&corpus)?;
    let mut command =
        run::cargo(&["run", "--release", "--bin", "wire", "--target", "host-tuple", "--target-dir"]);
    command.arg(run::target_dir().join("fuzz")).current_dir(&fuzz).env("RUSTFLAGS", flags).arg("--");
    command.arg(corpus).arg(fuzz.join("seeds")).arg(format!("-max_total_time={seconds}"));
    command.args(["-max_len=65536", "-print_final_stats=1"]);
    run::run(&mut command)
}
