//! Release binaries as users get them: for a named target, static. One build serves the images, the demo and the tests.

use std::path::PathBuf;

use anyhow::{Result, bail};

use crate::run;

/// Builds every binary of `packages` so that it runs without any library; returns their directory.
///
/// # Errors
/// On an architecture that there are no images for, or when the build fails.
pub fn build(packages: &[&str]) -> Result<PathBuf> {
    // Named, so that the flags don't reach build scripts and macros; glibc, for its allocator and its speed.
    let target = match std::env::consts::ARCH {
        "x86_64" => "x86_64-unknown-linux-gnu",
        "aarch64" => "aarch64-unknown-linux-gnu",
        other => bail!("no static binaries for {other} yet"),
    };
    let mut build = run::cargo(&["build", "--release", "--bins", "--target", target]);
    for package in packages {
        build.args(["--package", package]);
    }
    run::run(build.env("RUSTFLAGS", "-Ctarget-feature=+crt-static -Cstrip=debuginfo"))?;
    Ok(run::target_dir().join(target).join("release"))
}
