//! The cgroup2 tree: where it is mounted, and what a pod's directory says about cpu, memory and pressure.

use std::fs;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::bail;
use prescale_core::wire::{Pressure, Resources};

/// Where distributions mount cgroup2: alone, or beside version 1.
const MOUNTS: [&str; 2] = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"];

/// The cgroup2 tree to search: `given`, or the first of the usual places that is one.
///
/// # Errors
/// One sentence that says what is there instead.
pub fn root(given: Option<&Path>) -> anyhow::Result<PathBuf> {
    if let Some(given) = given {
        if is_cgroup2(given) {
            return Ok(given.to_owned());
        }
        let what = if given.exists() { "is not a cgroup2 tree" } else { "does not exist" };
        bail!(
            "--cgroup-root {} {what}: mount one (mount -t cgroup2 none DIRECTORY) or name another",
            given.display()
        );
    }
    match MOUNTS.iter().map(Path::new).find(|mount| is_cgroup2(mount)) {
        Some(mount) => Ok(mount.to_owned()),
        None => bail!(
            "no cgroup2 tree at {}: mount one (mount -t cgroup2 none DIRECTORY) and name it with --cgroup-root",
            MOUNTS.join(" or ")
        ),
    }
}

/// Every cgroup2 directory has this file, and no cgroup version 1 directory has.
fn is_cgroup2(directory: &Path) -> bool {
    directory.join("cgroup.controllers").is_file()
}

/// What tells a directory from one of the same name made later; `None` when it is gone.
pub fn identity(directory: &Path) -> Option<u64> {
    fs::metadata(directory).ok().map(|it| it.ino())
}

/// Reads a pod's directory. What a disabled controller does not say is 0, pressure without PSI `None`.
pub fn resources(directory: &Path) -> Resources {
    let mut text = String::new();
    let mut resources = Resources::default();
    if read(directory, "cpu.stat", &mut text) {
        let micros = |name| number_after(&text, name).unwrap_or(0).saturating_mul(1000);
        resources.cpu_ns = micros("usage_usec");
        resources.throttled_ns = micros("throttled_usec");
    }
    if read(directory, "memory.current", &mut text) {
        resources.memory_bytes = text.trim().parse().unwrap_or(0);
    }
    let mut stalled = |name| read(directory, name, &mut text).then(|| some_total_ns(&text)).flatten();
    let stalls = [stalled("cpu.pressure"), stalled("memory.pressure"), stalled("io.pressure")];
    if stalls.iter().any(Option::is_some) {
        let [cpu_ns, memory_ns, io_ns] = stalls.map(Option::unwrap_or_default);
        resources.pressure = Some(Pressure { cpu_ns, memory_ns, io_ns });
    }
    resources
}

/// Whether `name` could be read, into `text`.
fn read(directory: &Path, name: &str, text: &mut String) -> bool {
    text.clear();
    // The largest of these files, cpu.stat, has under 1 KiB.
    fs::File::open(directory.join(name)).is_ok_and(|file| file.take(8192).read_to_string(text).is_ok())
}

/// The number in the line `name number`.
pub(crate) fn number_after(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

/// `total` of PSI's `some` line, microseconds in the file.
fn some_total_ns(text: &str) -> Option<u64> {
    let some = text.lines().find(|line| line.starts_with("some "))?;
    let total: u64 = some.rsplit_once("total=")?.1.trim().parse().ok()?;
    total.checked_mul(1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory(test: &str, files: &[(&str, &str)]) -> PathBuf {
        let path = std::env::temp_dir().join(format!("prescale-cgroup-{test}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        for (name, text) in files {
            fs::write(path.join(name), text).unwrap();
        }
        path
    }

    #[test]
    fn reads_what_a_kubelets_node_shows() {
        let pod = directory(
            "full",
            &[
                (
                    "cpu.stat",
                    "usage_usec 1500000\nuser_usec 1000000\nsystem_usec 500000\nnr_periods 9\nnr_throttled 2\nthrottled_usec 70\nnr_bursts 0\nburst_usec 0\n",
                ),
                ("memory.current", "123456\n"),
                (
                    "cpu.pressure",
                    "some avg10=0.44 avg60=2.90 avg300=3.80 total=51703078\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=7\n",
                ),
                (
                    "memory.pressure",
                    "some avg10=0.00 avg60=0.00 avg300=0.00 total=3\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=1\n",
                ),
                (
                    "io.pressure",
                    "some avg10=0.00 avg60=0.00 avg300=0.00 total=4\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=2\n",
                ),
            ],
        );
        let pressure = Pressure { cpu_ns: 51_703_078_000, memory_ns: 3000, io_ns: 4000 };
        assert_eq!(
            resources(&pod),
            Resources {
                cpu_ns: 1_500_000_000,
                throttled_ns: 70_000,
                memory_bytes: 123_456,
                pressure: Some(pressure)
            }
        );
        fs::remove_dir_all(pod).unwrap();
    }

    #[test]
    fn a_bare_directory_says_nothing() {
        // cgroup2 beside version 1 without controllers, and a kernel without PSI.
        let pod = directory("bare", &[("cpu.stat", "usage_usec 42\n")]);
        assert_eq!(resources(&pod), Resources { cpu_ns: 42_000, ..Resources::default() });
        assert_eq!(resources(&pod.join("gone")), Resources::default());
        assert_eq!(identity(&pod.join("gone")), None);
        fs::remove_dir_all(pod).unwrap();
    }

    #[test]
    fn says_what_is_wrong_with_a_root() {
        let not = directory("root", &[]);
        assert!(root(Some(&not)).unwrap_err().to_string().contains("is not a cgroup2 tree"));
        assert!(root(Some(&not.join("gone"))).unwrap_err().to_string().contains("does not exist"));
        fs::write(not.join("cgroup.controllers"), "").unwrap();
        assert_eq!(root(Some(&not)).unwrap(), not);
        fs::remove_dir_all(not).unwrap();
    }
}
