//! The real binaries, built from the same tree as the test that starts them.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The path of a binary of this workspace, such as `prescale-aggregator`.
///
/// Cargo names a test the binaries of its own package only, and builds no others for it; so the first call builds all
/// of them, with the profile of the running test. That is quick when nothing has changed, and a test can never run
/// against a binary of yesterday. `PRESCALE_BIN_DIR` names a directory of binaries instead, for tests of installed ones.
///
/// # Panics
/// When they can't be built; cargo's words are on standard error then.
pub fn binary(name: &str) -> PathBuf {
    static DIRECTORY: OnceLock<PathBuf> = OnceLock::new();
    let path = DIRECTORY.get_or_init(directory).join(name);
    assert!(path.is_file(), "no binary {}", path.display());
    path
}

fn directory() -> PathBuf {
    if let Some(installed) = std::env::var_os("PRESCALE_BIN_DIR") {
        return installed.into();
    }
    // …/target/<profile>/deps/<test>-<hash>
    let test = std::env::current_exe().expect("a running program has a path");
    let profile = test.parent().and_then(Path::parent).expect("tests are built below target/<profile>/deps");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = Command::new(cargo);
    // With the features of `cargo test --workspace` (the example stands for what needs development dependencies), so that what
    // that has built is compiled no second time; the same words as `LIKE_THE_TESTS` in xtask's `run.rs`.
    build.args(["build", "--quiet", "--bins", "--workspace", "--example", "cost", "--target-dir"]);
    build.arg(profile.parent().expect("the profile's directory is in the target directory"));
    if profile.ends_with("release") {
        build.arg("--release");
    }
    // As in xtask's `run::cargo`: what cargo said of the test's package would have `ring` built anew.
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|it| it.starts_with("CARGO_PKG_") || it.starts_with("CARGO_MANIFEST_")) {
            build.env_remove(name);
        }
    }
    let status = build.current_dir(env!("CARGO_MANIFEST_DIR")).status().expect("cargo runs");
    assert!(status.success(), "the binaries can't be built");
    profile.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_aggregator_is_there_and_is_built_from_this_tree() {
        assert!(binary("prescale-aggregator").starts_with(directory()));
    }
}
