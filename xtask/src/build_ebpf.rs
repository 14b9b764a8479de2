//! Builds the kernel programs: finds a compiler and a linker for eBPF, on Debian as root installs them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::{packages, run};

/// Debian's compiler with a ready-made core library for eBPF.
const COMPILER_PACKAGES: &[&str] = &["rustc-web", "libstd-rust-web-dev-bpf"];
/// What bpf-linker is built with; the LLVM of Debian's compiler.
const LINKER_PACKAGES: &[&str] = &["llvm-22-dev", "libpolly-22-dev", "zlib1g-dev", "libzstd-dev", "g++"];
const LINKER_VERSION: &str = "0.13.0";
const LLVM: &str = "/usr/lib/llvm-22";
const TARGET: &str = "bpfel-unknown-none";

const RECIPES: &str = "\
No compiler for eBPF was found. Either, on Debian 12 as root:
    apt-get install -y rustc-web libstd-rust-web-dev-bpf llvm-22-dev libpolly-22-dev
    LLVM_PREFIX=/usr/lib/llvm-22 PATH=/usr/lib/llvm-22/bin:$PATH \\
        cargo install bpf-linker --version 0.13.0 --no-default-features --features llvm-22
or, with rustup, anywhere:
    rustup toolchain install nightly --component rust-src
    cargo install bpf-linker --version 0.13.0
then run this again.";

/// A compiler that can make eBPF, and whether it needs to build the core library first.
struct Compiler {
    rustc: PathBuf,
    build_core: bool,
}

/// Builds the object and returns its path.
///
/// # Errors
/// Where there is no compiler and none can be installed: with the recipes.
pub fn build() -> Result<PathBuf> {
    let compiler = compiler()?;
    let linker = linker()?;
    let directory = run::target_dir().join("bpf");
    let mut cargo = run::cargo(&["build", "--quiet", "--release", "--package", "prescale-agent-ebpf"]);
    cargo.args(["--bin", "prescale-kernel", "--target", TARGET, "--target-dir"]).arg(directory.join("build"));
    if compiler.build_core {
        cargo.arg("-Zbuild-std=core");
    }
    // The assembler of this target is experimental; maps in sockets and loops need full debug information and BTF.
    let flags = [
        format!("--cfg=bpf_target_arch=\"{}\"", std::env::consts::ARCH),
        "-Cdebuginfo=2".to_owned(),
        "-Clink-arg=--btf".to_owned(),
    ];
    cargo.env("RUSTC", &compiler.rustc).env("RUSTC_BOOTSTRAP", "1");
    cargo.env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}"));
    cargo.env_remove("RUSTC_WRAPPER").env_remove("RUSTC_WORKSPACE_WRAPPER");
    let path = std::env::var_os("PATH").unwrap_or_default();
    let linker_first = linker.parent().into_iter().map(Path::to_owned).chain(std::env::split_paths(&path));
    cargo.env("PATH", std::env::join_paths(linker_first)?);
    run::run(&mut cargo)?;

    let built = directory.join("build").join(TARGET).join("release/prescale-kernel");
    let object = directory.join("prescale-agent.o");
    let code = fs::read(&built).with_context(|| format!("reading {}", built.display()))?;
    // Untouched when nothing has changed, so that nobody takes it for new.
    if fs::read(&object).ok().as_ref() != Some(&code) {
        fs::write(&object, &code).with_context(|| format!("writing {}", object.display()))?;
    }
    eprintln!("{}: {} bytes, sha256 {}", object.display(), code.len(), sha256(&object)?);
    Ok(object)
}

fn compiler() -> Result<Compiler> {
    if let Some(found) = find_compiler() {
        return Ok(found);
    }
    if !may_install()? {
        bail!("{RECIPES}");
    }
    packages::ensure(COMPILER_PACKAGES, "compiling the kernel programs")?;
    find_compiler().with_context(|| format!("{} did not bring a compiler for {TARGET}", COMPILER_PACKAGES[0]))
}

/// The first compiler with a core library for the target, ready or as source.
fn find_compiler() -> Option<Compiler> {
    let mut candidates = vec![PathBuf::from("/usr/bin/rustc"), PathBuf::from("rustc")];
    let nightly = Command::new("rustup").args(["which", "rustc", "--toolchain", "nightly"]).output();
    if let Ok(output) = nightly
        && output.status.success()
    {
        candidates.push(PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()));
    }
    candidates.into_iter().find_map(|rustc| {
        let output = Command::new(&rustc).args(["--print", "sysroot"]).output().ok()?;
        let libraries = Path::new(String::from_utf8_lossy(&output.stdout).trim()).join("lib/rustlib");
        let build_core = !libraries.join(TARGET).is_dir();
        let usable = !build_core || libraries.join("src/rust/library/core").is_dir();
        usable.then_some(Compiler { rustc, build_core })
    })
}

fn linker() -> Result<PathBuf> {
    if let Some(found) = find_linker() {
        return Ok(found);
    }
    if !may_install()? {
        bail!("{RECIPES}");
    }
    packages::ensure(LINKER_PACKAGES, "building bpf-linker")?;
    eprintln!("installing with cargo, 1 to 3 minutes: bpf-linker {LINKER_VERSION}");
    let mut install = run::cargo(&["install", "--quiet", "bpf-linker", "--version", LINKER_VERSION]);
    install.args(["--locked", "--no-default-features", "--features", "llvm-22"]);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let tools = std::iter::once(Path::new(LLVM).join("bin")).chain(std::env::split_paths(&path));
    install.env("LLVM_PREFIX", LLVM).env("PATH", std::env::join_paths(tools)?);
    // Its build belongs neither to this workspace's target directory nor under its flags.
    install.env_remove("CARGO_TARGET_DIR").env_remove("RUSTFLAGS");
    run::run(&mut install)?;
    find_linker().context("cargo install succeeded, yet there is no bpf-linker")
}

fn find_linker() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cargo")));
    let installed = home.map(|home| home.join("bin"));
    std::env::split_paths(&path)
        .chain(installed)
        .map(|dir| dir.join("bpf-linker"))
        .find(|file| file.is_file())
}

fn may_install() -> Result<bool> {
    Ok(Path::new("/etc/debian_version").exists() && run::is_root()?)
}

fn sha256(file: &Path) -> Result<String> {
    let output = Command::new("sha256sum").arg(file).output().context("running sha256sum")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.split_whitespace().next().map(str::to_owned).context("sha256sum printed nothing")
}
