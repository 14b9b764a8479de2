//! What the kernel programs need of the machine, checked first, so that each lack is one clear sentence.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::fd::AsRawFd;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use prescale_agent_ebpf::layout::{ABI, ABI_MARKER};

/// `bpf_loop` came with 5.17.
const OLDEST_KERNEL: (u32, u32) = (5, 17);

/// Names and bit numbers of the capabilities needed, from linux/capability.h.
const CAPABILITIES: [(&str, u32); 3] = [("CAP_NET_ADMIN", 12), ("CAP_PERFMON", 38), ("CAP_BPF", 39)];
const CAP_SYS_ADMIN: u32 = 21;

/// Reads the object file and checks that it fits this program.
pub(super) fn read_object(object: &Path) -> Result<Vec<u8>> {
    let code = match fs::read(object) {
        Ok(code) => code,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            bail!("the eBPF object {} is missing: run `cargo xtask build-ebpf`", object.display())
        }
        Err(error) => return Err(error).with_context(|| format!("reading {}", object.display())),
    };
    check_abi(&code).with_context(|| format!("the eBPF object {}", object.display()))?;
    Ok(code)
}

fn check_abi(code: &[u8]) -> Result<()> {
    ensure!(code.starts_with(b"\x7fELF"), "is no object file: run `cargo xtask build-ebpf`");
    let found = code.windows(ABI_MARKER.len()).position(|window| window == ABI_MARKER);
    let digits = found.map(|at| &code[at + ABI_MARKER.len()..]).unwrap_or_default();
    let digits: String =
        digits.iter().take_while(|byte| byte.is_ascii_digit()).map(|&b| char::from(b)).collect();
    match digits.parse::<u32>() {
        Ok(ABI) => Ok(()),
        Ok(other) => bail!("does not fit: its ABI is {other}, expected {ABI}; run `cargo xtask build-ebpf`"),
        Err(_) => bail!("carries no ABI number: it is none of ours; run `cargo xtask build-ebpf`"),
    }
}

/// Checks the running kernel's version.
pub(super) fn check_kernel() -> Result<()> {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").context("reading the kernel's version")?;
    let release = release.trim();
    let mut numbers = release.split(['.', '-', '+']).map_while(|part| part.parse::<u32>().ok());
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    let (major, minor) = OLDEST_KERNEL;
    ensure!(version >= OLDEST_KERNEL, "kernel {release} is too old: {major}.{minor} or newer is needed");
    Ok(())
}

/// Raises those of the needed capabilities that this process is permitted: an image's binary carries them as no more
/// than that, so that it starts without them too, and [`check_capabilities`] can say which one is missing.
pub(super) fn raise_capabilities() -> Result<()> {
    use rustix::thread::{CapabilitySet, capabilities, set_capabilities};
    let needed = CapabilitySet::NET_ADMIN | CapabilitySet::PERFMON | CapabilitySet::BPF;
    let mut sets = capabilities(None).context("reading this process' capabilities")?;
    let raised = sets.effective | (sets.permitted & needed);
    if raised != sets.effective {
        sets.effective = raised;
        set_capabilities(None, sets).context("raising this process' capabilities")?;
    }
    Ok(())
}

/// Checks that this process may load and attach.
pub(super) fn check_capabilities() -> Result<()> {
    let status = fs::read_to_string("/proc/self/status").context("reading this process' capabilities")?;
    let field = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let effective = u64::from_str_radix(field.unwrap_or_default().trim(), 16).context("parsing CapEff")?;
    let missing = missing_capabilities(effective);
    ensure!(missing.is_empty(), "may not load eBPF programs: run as root, or give this process {missing}");
    Ok(())
}

fn missing_capabilities(effective: u64) -> String {
    let has = |bit: u32| effective & (1 << bit) != 0;
    // CAP_SYS_ADMIN includes CAP_BPF and CAP_PERFMON, not CAP_NET_ADMIN.
    let holds = |bit: u32| has(bit) || (bit >= 38 && has(CAP_SYS_ADMIN));
    CAPABILITIES
        .iter()
        .filter(|(_, bit)| !holds(*bit))
        .map(|&(name, _)| name)
        .collect::<Vec<_>>()
        .join(" and ")
}

/// Checks that a cgroup v2 hierarchy is mounted.
pub(super) fn check_cgroup2() -> Result<()> {
    let mounts = fs::read_to_string("/proc/self/mounts").context("reading the mounts")?;
    ensure!(
        mounts.lines().any(|line| line.split(' ').nth(2) == Some("cgroup2")),
        "no cgroup v2 hierarchy is mounted: pods can't be told apart; mount one with `mount -t cgroup2 none DIR`"
    );
    Ok(())
}

/// Checks that an open directory belongs to cgroup v2.
pub(super) fn check_is_cgroup2(directory: &File, name: &Path) -> Result<()> {
    let mut answer = std::mem::MaybeUninit::<libc::statfs>::uninit();
    // SAFETY: the descriptor is open and `answer` has room for what fstatfs writes.
    #[allow(unsafe_code)]
    let result = unsafe { libc::fstatfs(directory.as_raw_fd(), answer.as_mut_ptr()) };
    ensure!(result == 0, "{}: {}", name.display(), std::io::Error::last_os_error());
    // SAFETY: fstatfs succeeded, so it has filled the structure.
    #[allow(unsafe_code)]
    let answer = unsafe { answer.assume_init() };
    ensure!(answer.f_type == libc::CGROUP2_SUPER_MAGIC, "{} is no directory of cgroup v2", name.display());
    Ok(())
}

/// Waits until no program that was running when this was called still runs.
pub(super) fn wait_for_running_programs() {
    const MEMBARRIER_CMD_GLOBAL: libc::c_int = 1;
    // SAFETY: membarrier takes no pointer. Its GLOBAL command waits for an RCU grace period, and eBPF programs run
    // inside RCU read sections. Where it is refused (nohz_full), a packet in flight may miss the last read.
    #[allow(unsafe_code)]
    unsafe {
        libc::syscall(libc::SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0);
    }
}

/// The kernel's monotonic clock, the one of `bpf_ktime_get_ns`, nanoseconds.
pub(super) fn kernel_clock_ns() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` has room for what clock_gettime writes; CLOCK_MONOTONIC always exists.
    #[allow(unsafe_code)]
    unsafe {
        libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut now);
    }
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(abi: &str) -> Vec<u8> {
        [b"\x7fELF....", ABI_MARKER.as_slice(), abi.as_bytes(), b"\0...."].concat()
    }

    #[test]
    fn an_object_of_another_abi_is_refused_with_both_numbers() {
        assert!(check_abi(&object(&ABI.to_string())).is_ok());
        let error = check_abi(&object("4711")).unwrap_err().to_string();
        assert!(error.contains("ABI is 4711, expected"), "{error}");
        assert!(check_abi(b"\x7fELF and nothing more").unwrap_err().to_string().contains("no ABI number"));
        assert!(check_abi(b"not an object").unwrap_err().to_string().contains("no object file"));
    }

    #[test]
    fn a_missing_object_says_how_to_build_it() {
        let error = read_object(Path::new("/nowhere/prescale-agent.o")).unwrap_err().to_string();
        assert!(error.contains("cargo xtask build-ebpf"), "{error}");
    }

    #[test]
    fn missing_capabilities_are_named() {
        assert_eq!(missing_capabilities(0), "CAP_NET_ADMIN and CAP_PERFMON and CAP_BPF");
        assert_eq!(missing_capabilities(1 << 39 | 1 << 38 | 1 << 12), "");
        assert_eq!(missing_capabilities(1 << 21), "CAP_NET_ADMIN");
    }
}
