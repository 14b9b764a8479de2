//! What the cluster tests need that is written in Go: Kubernetes itself, its name server, metrics-server, the tests' own
//! servers. Each is built once, from published modules, and kept outside of the work tree by all that it is made from.

use std::fs;
use std::io::{BufRead, BufReader, IsTerminal};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::archive::{File, Image, NOBODY, sha256};
use crate::run;

/// The same as `k8s.io/kubernetes` in `tests/cluster/go.mod`; kubectl wants to know its own version.
const KUBERNETES: (&str, &str, &str) = ("1", "36", "3");
/// Without symbols and debugging information, which nobody reads here.
const STRIPPED: &str = "-s -w";
const METRICS_SERVER: &str = "sigs.k8s.io/metrics-server/cmd/metrics-server@v0.9.0";

/// The directory of the program `cluster`, which is all of Kubernetes, and of the images that every cluster has:
/// `pause.tar`, `dns.tar`.
pub fn programs() -> Result<PathBuf> {
    let files = ["go.mod", "go.sum", "main.go", "pause/main.go", "dns/go.mod", "dns/go.sum", "dns/main.go"];
    kept("cluster", &files, &link_flags(), |into| {
        eprintln!(
            "building Kubernetes for tests, about 12 minutes the first time; kept in {}",
            into.display()
        );
        let source = source();
        build(&source, into, &link_flags(), &[".", "./pause"])?;
        image(into, "pause", "/pause")?;
        eprintln!("building its name server, about 2 minutes the first time");
        // A module of its own: it needs other versions of the same libraries.
        build(&source.join("dns"), into, STRIPPED, &["."])?;
        image(into, "dns", "/dns")
    })
}

/// The directory of the images of the tests' own servers: `server.tar`, `external.tar`.
pub fn servers() -> Result<PathBuf> {
    kept("servers", &["go.mod", "server/main.go", "external/main.go"], "", |into| {
        build(&source(), into, STRIPPED, &["./server", "./external"])?;
        image(into, "server", "/server")?;
        image(into, "external", "/external")
    })
}

/// The image of metrics-server, which a real HPA reads CPU from.
pub fn metrics_server() -> Result<PathBuf> {
    let directory = kept("metrics-server", &[], METRICS_SERVER, |into| {
        eprintln!("building {METRICS_SERVER}, about 3 minutes the first time");
        // Of no module that is here, so that nobody can say beforehand of how many packages.
        let mut install = go(into, &["install", "-v", "-trimpath", "-ldflags", STRIPPED, METRICS_SERVER]);
        watch(install.env("GOBIN", into), None)?;
        image(into, "metrics-server", "/metrics-server")
    })?;
    Ok(directory.join("metrics-server.tar"))
}

fn source() -> PathBuf {
    run::root().join("tests/cluster")
}

/// The directory in the cache that `make` fills, named by Go's version, `files` of `tests/cluster` and `flags`.
fn kept(what: &str, files: &[&str], flags: &str, make: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    let version = Command::new("go").arg("version").output();
    let version = version.context("starting go: the cluster tests need Go 1.26 or later")?;
    let mut whole = version.stdout;
    for file in files {
        whole.extend(fs::read(source().join(file)).with_context(|| format!("reading tests/cluster/{file}"))?);
    }
    whole.extend(flags.as_bytes());
    let cache = run::cache(what)?;
    let directory = cache.join(&sha256(&whole)?[..16]);
    if directory.is_dir() {
        return Ok(directory);
    }
    // A second caller waits here for the first, then finds its work.
    let lock = fs::File::create(cache.join("lock"))?;
    lock.lock().with_context(|| format!("waiting for another build of {what}"))?;
    if !directory.is_dir() {
        let fresh = directory.with_extension("new");
        if fresh.exists() {
            fs::remove_dir_all(&fresh)?;
        }
        fs::create_dir(&fresh)?;
        make(&fresh)?;
        fs::rename(&fresh, &directory).with_context(|| format!("putting {what} into the cache"))?;
    }
    Ok(directory)
}

fn link_flags() -> String {
    let (major, minor, patch) = KUBERNETES;
    let mut flags = STRIPPED.to_owned();
    for package in ["k8s.io/component-base/version", "k8s.io/client-go/pkg/version"] {
        flags += &format!(" -X {package}.gitVersion=v{major}.{minor}.{patch}");
        flags += &format!(" -X {package}.gitMajor={major} -X {package}.gitMinor={minor}");
    }
    flags
}

/// Builds `packages` of the module in `source` into the directory `into`.
fn build(source: &Path, into: &Path, link_flags: &str, packages: &[&str]) -> Result<()> {
    let listed = go(source, &["list", "-deps"]).args(packages).output().context("starting go")?;
    ensure!(listed.status.success(), "go list: {}", String::from_utf8_lossy(&listed.stderr));
    let most = listed.stdout.iter().filter(|&&byte| byte == b'\n').count();
    let mut command = go(source, &["build", "-v", "-trimpath", "-ldflags", link_flags, "-o"]);
    watch(command.arg(into).args(packages), Some(most))
}

/// The program `name` in `directory` as the image `prescale.dev/<name>:1`, beside it.
fn image(directory: &Path, name: &str, to: &str) -> Result<()> {
    let files = vec![File { from: directory.join(name), to, executable: true, capabilities: &[] }];
    let image = Image {
        name: &format!("prescale.dev/{name}:1"),
        files,
        user: NOBODY,
        entrypoint: &[to],
        labels: &[],
    };
    image.write(&directory.join(name).with_extension("tar"))
}

/// Go without C: everything static, and nothing compiled a second time.
fn go(directory: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new("go");
    command.current_dir(directory).env("CGO_ENABLED", "0").args(arguments);
    command
}

/// Runs `go build -v` (or `install`) and says how far it is: it names each package as it compiles it. `most`: how many there
/// may be, where that is known.
pub fn watch(command: &mut Command, most: Option<usize>) -> Result<()> {
    let terminal = std::io::stderr().is_terminal();
    let period = Duration::from_secs(if terminal { 1 } else { 30 });
    let (begin, mut told) = (Instant::now(), Instant::now());
    let mut child = command.stderr(Stdio::piped()).spawn().context("starting go")?;
    let lines = BufReader::new(child.stderr.take().context("its output is piped")?).lines();
    let (mut compiled, mut other) = (0, Vec::new());
    for line in lines {
        let line = line.context("reading what go says")?;
        // A package's path, or an error; of a "# package" line the errors follow.
        if line.contains([' ', ':', '#']) {
            other.push(line);
            continue;
        }
        compiled += 1;
        if told.elapsed() >= period {
            told = Instant::now();
            let (before, after) = if terminal { ("\r", "") } else { ("", "\n") };
            let minutes = begin.elapsed().as_secs_f64() / 60.0;
            let most = most.map(|most| format!(" of at most {most}")).unwrap_or_default();
            eprint!("{before}compiled {compiled} packages{most}, {minutes:.1} minutes {after}");
        }
    }
    let status = child.wait().context("waiting for go")?;
    eprintln!();
    if !status.success() {
        bail!("go ended with {status}\n{}", other.join("\n"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_that_kubectl_is_told_is_the_one_that_is_built() {
        let modules = fs::read_to_string(run::root().join("tests/cluster/go.mod")).unwrap();
        let (major, minor, patch) = KUBERNETES;
        assert!(modules.contains(&format!("k8s.io/kubernetes v{major}.{minor}.{patch}\n")));
    }
}
