//! Programs come and go under load: a killed holder leaves nothing attached, its successor counts at once; lacks are
//! said in one sentence.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use prescale_agent::kernel::Kernel;
use prescale_agent_ebpf::layout::ABI;
use prescale_tests::binaries::binary;
use prescale_tests::kernel::client::{load, load_until};
use prescale_tests::kernel::pod::{self, Pod, describe, read_until};

/// The ids of the programs that a process holds.
fn programs_of(process: u32) -> BTreeSet<u32> {
    let entries = std::fs::read_dir(format!("/proc/{process}/fdinfo")).expect("the process is there");
    let texts = entries.flatten().filter_map(|entry| std::fs::read_to_string(entry.path()).ok());
    texts
        .filter(|text| text.contains("prog_jited:"))
        .filter_map(|text| text.lines().find_map(|line| line.strip_prefix("prog_id:")?.trim().parse().ok()))
        .collect()
}

/// Which of `programs` are still loaded.
fn still_loaded(programs: &BTreeSet<u32>) -> usize {
    let loaded = aya::programs::loaded_programs().map_while(Result::ok);
    loaded.filter(|program| programs.contains(&program.id())).count()
}

fn hold(pod: &Pod) -> Child {
    let mut command = Command::new(binary("kernel_holder"));
    command.arg("--object").arg(pod::object()).arg("--directory").arg(pod.directory());
    let mut child = command.stdout(Stdio::piped()).spawn().expect("the holder starts");
    let mut line = String::new();
    let output = child.stdout.take().expect("it is piped");
    BufReader::new(output).read_line(&mut line).expect("the holder speaks");
    assert_eq!(line.trim(), "attached");
    child
}

#[test]
#[ignore = "needs root and a kernel with cgroup2; `cargo xtask test` runs it"]
fn a_killed_holder_leaves_nothing_and_the_next_counts_at_once() {
    let mut pod = Pod::new();
    let port = pod.serve(None, "127.0.0.1", &[]);
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let mut holder = hold(&pod);
    let programs = programs_of(holder.id());
    assert_eq!((programs.len(), still_loaded(&programs)), (3, 3));
    let ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // Any error of the client panics, and fails the test.
        let client = scope.spawn(|| load_until(address, 4, "/200/10/length", &ended));
        holder.kill().expect("the holder is there");
        holder.wait().expect("the holder ends");
        let end = Instant::now() + Duration::from_secs(5);
        while still_loaded(&programs) > 0 {
            assert!(Instant::now() < end, "{} programs are left", still_loaded(&programs));
            std::thread::yield_now();
        }
        let mut kernel = pod::load();
        let slot = kernel.attach(pod.directory(), &[port], &[]).expect("the pod can be measured");
        // The connections are older than this program: they count from their next request.
        let counters = read_until(&mut kernel, slot, |counters| {
            counters.finished() >= 1_000 && counters.connections_opened >= 4
        });
        assert_eq!(counters.connections_opened, 4, "{}", describe(&counters));
        ended.store(true, Ordering::Relaxed);
        let seen = client.join().expect("the client saw no error");
        assert_eq!(seen.responses(), seen.classes[2], "{seen:?}");
        let last = read_until(&mut kernel, slot, |counters| counters.in_flight() == 0);
        assert_eq!((last.aborts, last.finished()), (0, last.starts), "{}", describe(&last));
    });
}

#[test]
#[ignore = "needs root and a kernel with cgroup2; `cargo xtask test` runs it"]
fn each_lack_is_one_sentence() {
    let error = |result: anyhow::Result<Kernel>| format!("{:#}", result.err().expect("it must be refused"));
    let missing = error(Kernel::load(Path::new("/nowhere/prescale-agent.o"), 1));
    assert!(missing.contains("is missing: run `cargo xtask build-ebpf`"), "{missing}");
    let mut other = std::fs::read(pod::object()).expect("the object is there");
    let marker = b"prescale-kernel-abi=";
    let at = other.windows(marker.len()).position(|window| window == marker).expect("it has a marker");
    other[at + marker.len()] = b'9';
    let file = std::env::temp_dir().join(format!("prescale-other-abi-{}.o", std::process::id()));
    std::fs::write(&file, other).expect("a file can be written");
    let unfit = error(Kernel::load(&file, 1));
    std::fs::remove_file(&file).expect("a file can be removed");
    assert!(unfit.contains(&format!("its ABI is 9, expected {ABI}")), "{unfit}");

    let mut kernel = pod::load();
    let mut attach =
        |directory: &Path| format!("{:#}", kernel.attach(directory, &[], &[]).expect_err("no cgroup"));
    let absent = attach(Path::new("/sys/fs/cgroup/nowhere/at/all"));
    assert!(absent.contains("opening /sys/fs/cgroup/nowhere"), "{absent}");
    let foreign = attach(Path::new("/proc"));
    assert!(foreign.contains("no directory of cgroup v2"), "{foreign}");
    let pod = Pod::new();
    let slot = kernel.attach(pod.directory(), &[], &[]).expect("the pod can be measured");
    let twice = format!("{:#}", kernel.attach(pod.directory(), &[], &[]).expect_err("it is attached"));
    assert!(twice.contains("is attached already"), "{twice}");
    kernel.detach(slot).expect("attached");
    assert!(kernel.read(slot).is_err());
}

#[test]
#[ignore = "needs root and a kernel with cgroup2; `cargo xtask test` runs it"]
fn a_cgroup_that_vanishes_keeps_its_last_counters() {
    let mut kernel = pod::load();
    let mut pod = Pod::new();
    let port = pod.serve(None, "127.0.0.1", &[]);
    let slot = kernel.attach(pod.directory(), &[port], &[]).expect("the pod can be measured");
    load(SocketAddr::from(([127, 0, 0, 1], port)), 2, 20, &["/200/10/length"], true);
    drop(pod);
    let last = kernel.detach(slot).expect("what was counted stays");
    assert_eq!(last.finished(), 20, "{}", describe(&last));
}
