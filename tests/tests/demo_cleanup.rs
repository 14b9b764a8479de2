//! However the demo ends, nothing of it stays: no process, no control group, no file.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use prescale_tests::binaries::binary;
use prescale_tests::demo::cgroup::{Mounts, PREFIX};
use rustix::process::{Pid, Signal, kill_process};

/// Everything is gone well within this, a saturated CI machine included.
const LIMIT: Duration = Duration::from_secs(30);

struct Demo {
    process: Child,
    lines: std::io::Lines<BufReader<ChildStdout>>,
}

impl Demo {
    fn start() -> Self {
        let program = binary("demo");
        let object = std::env::var_os("PRESCALE_OBJECT").expect("`cargo xtask test` sets PRESCALE_OBJECT");
        let mut command = Command::new(&program);
        command.arg("--bin-dir").arg(program.parent().expect("a program is in a directory"));
        command.arg("--object").arg(object).args(["--headless", "--policies", "hpa65", "--duration", "120s"]);
        let mut process =
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the demo starts");
        let out = process.stdout.take().expect("its output is a pipe");
        Self { process, lines: BufReader::new(out).lines() }
    }

    /// Reads until a line of progress: all its processes run and load flows.
    fn under_load(&mut self) {
        let mut seen = Vec::new();
        for line in self.lines.by_ref() {
            let line = line.expect("the demo speaks UTF-8");
            if line.contains("requests/s") && line.contains("ready") {
                return;
            }
            seen.push(line);
        }
        panic!("the demo ended before load flowed; it said {seen:#?}");
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.process.id()).ok().and_then(Pid::from_raw).expect("a process id");
        kill_process(pid, signal).expect("the demo runs");
    }

    /// Waits for its end.
    fn ended(&mut self) -> ExitStatus {
        let deadline = Instant::now() + LIMIT;
        loop {
            if let Some(status) = self.process.try_wait().expect("its status") {
                return status;
            }
            if Instant::now() >= deadline {
                // Its guard cleans up behind it.
                self.process.kill().expect("the demo runs");
                panic!("the demo still ran after {LIMIT:?}");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// What it said on standard error until its end.
    fn errors(&mut self) -> String {
        let mut said = String::new();
        let errors = self.process.stderr.as_mut().expect("its errors are a pipe");
        errors.read_to_string(&mut said).expect("the demo speaks UTF-8");
        said
    }

    /// What it owns on this machine.
    fn belongings(&self) -> Vec<PathBuf> {
        let mounts = Mounts::find().expect("cgroup2");
        let name = format!("{PREFIX}{}", self.process.id());
        let mut all = vec![mounts.unified.join(&name), std::env::temp_dir().join(&name)];
        all.extend(mounts.memory.map(|memory| memory.join(&name)));
        all
    }

    /// Its workers, agent and aggregator.
    fn processes(&self) -> BTreeSet<u32> {
        let mut found = BTreeSet::new();
        let mut open = vec![self.belongings().remove(0)];
        while let Some(directory) = open.pop() {
            let listed = std::fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
            found.extend(listed.lines().filter_map(|line| line.parse::<u32>().ok()));
            let entries = std::fs::read_dir(&directory).into_iter().flatten().flatten();
            open.extend(entries.map(|entry| entry.path()).filter(|path| path.is_dir()));
        }
        found
    }
}

/// Ended, or ended and not yet reaped by whoever inherited it.
fn is_gone(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with('Z'))
}

fn assert_nothing_stays(belongings: &[PathBuf], processes: &BTreeSet<u32>) {
    let deadline = Instant::now() + LIMIT;
    loop {
        let paths: Vec<&Path> =
            belongings.iter().map(PathBuf::as_path).filter(|path| path.exists()).collect();
        let alive: Vec<u32> = processes.iter().copied().filter(|pid| !is_gone(*pid)).collect();
        if paths.is_empty() && alive.is_empty() {
            return;
        }
        assert!(
            Instant::now() < deadline,
            "after {LIMIT:?} there are still {paths:?} and the processes {alive:?}"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn ends_cleanly(signal: Signal) {
    let mut demo = Demo::start();
    demo.under_load();
    let (belongings, processes) = (demo.belongings(), demo.processes());
    assert!(
        belongings.iter().all(|path| path.exists()),
        "this test looks in the wrong places: {belongings:?}"
    );
    // Two workers at least, the agent and the aggregator.
    assert!(processes.len() >= 4, "this test looks at the wrong processes: {processes:?}");
    demo.signal(signal);
    assert!(!demo.ended().success(), "a demo that was cut off is no success");
    assert_nothing_stays(&belongings, &processes);
}

#[test]
#[ignore = "needs root and the eBPF object: run by `cargo xtask test`"]
fn nothing_stays_after_kill_9() {
    ends_cleanly(Signal::KILL);
}

#[test]
#[ignore = "needs root and the eBPF object: run by `cargo xtask test`"]
fn nothing_stays_after_ctrl_c() {
    ends_cleanly(Signal::INT);
}

#[test]
#[ignore = "needs root and the eBPF object: run by `cargo xtask test`"]
fn a_demo_whose_agent_dies_says_so_and_ends() {
    let mut demo = Demo::start();
    demo.under_load();
    let (belongings, processes) = (demo.belongings(), demo.processes());
    let agent = processes.iter().copied().find(|pid| {
        std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == "prescale-agent")
    });
    let agent = agent.and_then(|pid| Pid::from_raw(pid as i32)).expect("the agent runs");
    kill_process(agent, Signal::KILL).expect("the agent runs");
    assert!(!demo.ended().success(), "a run without its agent is no success");
    assert_nothing_stays(&belongings, &processes);
    let said = demo.errors();
    assert!(said.contains("prescale-agent has ended (signal: 9"), "it said {said:?}");
}
