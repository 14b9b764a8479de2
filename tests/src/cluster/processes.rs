//! The processes of a cluster as its directory records them: found again after any crash, never mistaken for others.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};

/// A process, told from a later one of the same number by when it was started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    pid: i32,
    /// Clock ticks from the machine's start, field 22 of `/proc/<pid>/stat`.
    started: u64,
}

impl Process {
    /// The running process `pid`.
    pub fn find(pid: i32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let (state, started) = parse(&stat)?;
        // One that has ended and waits for its parent counts as ended: some machines reap orphans seconds later.
        (!matches!(state, 'Z' | 'X')).then_some(Self { pid, started })
    }

    /// Its number on this machine.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Whether it still runs.
    pub fn runs(&self) -> bool {
        Self::find(self.pid) == Some(*self)
    }

    /// Ends it at once, unless it has ended.
    pub fn kill(&self) {
        if self.runs()
            && let Some(pid) = Pid::from_raw(self.pid)
        {
            // ESRCH: it ended in between.
            let _ = kill_process(pid, Signal::KILL);
        }
    }

    /// Its first child, if it has one by now.
    pub fn first_child(&self) -> Option<Self> {
        let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", self.pid)).ok()?;
        Self::find(children.split_whitespace().next()?.parse().ok()?)
    }

    /// The namespace that it is in, by its kind (`net`, `mnt`, …).
    pub fn namespace(&self, kind: &str) -> PathBuf {
        format!("/proc/{}/ns/{kind}", self.pid).into()
    }
}

/// State and start of `/proc/<pid>/stat`; the name before them may hold anything, parentheses too.
fn parse(stat: &str) -> Option<(char, u64)> {
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    Some((fields.first()?.chars().next()?, fields.get(19)?.parse().ok()?))
}

/// A node's processes. All others live in its process namespace and end with its first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeProcesses {
    /// `unshare`, which made the namespaces and waits.
    pub outer: Process,
    /// The first process of the namespaces; `None` until it was seen.
    pub first: Option<Process>,
}

impl NodeProcesses {
    /// Whether any of it still runs.
    pub fn run(&self) -> bool {
        self.outer.runs() || self.first.is_some_and(|first| first.runs())
    }

    /// Ends it all: the kernel ends a process namespace with its first process.
    pub fn kill(&self) {
        // `unshare` takes its child with it, which matters when the child was not recorded yet.
        self.first.or_else(|| self.outer.first_child()).inspect(Process::kill);
        self.outer.kill();
    }
}

/// Who the nodes are, in the order of their numbers, and whether the cluster came up.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The nodes.
    pub nodes: Vec<NodeProcesses>,
    /// Whether everything was ready once.
    pub ready: bool,
}

impl Record {
    const FILE: &str = "processes.json";

    /// What is recorded below `directory`; nothing, if nothing is.
    ///
    /// # Errors
    /// The file is there and can't be understood.
    pub fn read(directory: &Path) -> Result<Self> {
        let file = directory.join(Self::FILE);
        match fs::read(&file) {
            Ok(text) => serde_json::from_slice(&text).with_context(|| format!("reading {}", file.display())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error).with_context(|| format!("reading {}", file.display())),
        }
    }

    /// Records it; whoever reads sees the whole old or the whole new one.
    ///
    /// # Errors
    /// The file can't be written.
    pub fn write(&self, directory: &Path) -> Result<()> {
        let (file, fresh) = (directory.join(Self::FILE), directory.join("processes.new"));
        fs::write(&fresh, serde_json::to_vec(self)?)
            .and_then(|()| fs::rename(&fresh, &file))
            .with_context(|| format!("writing {}", file.display()))
    }

    /// Whether any process of it still runs.
    pub fn any_runs(&self) -> bool {
        self.nodes.iter().any(NodeProcesses::run)
    }

    /// Whether every node runs.
    pub fn all_run(&self) -> bool {
        !self.nodes.is_empty() && self.nodes.iter().all(|node| node.first.is_some_and(|it| it.runs()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stat_line_with_an_odd_name_is_read() {
        let stat = "42 (a) b ( c)) S 1 42 42 0 -1 4194560 100 0 0 0 0 0 0 0 20 0 1 0 4711 1000 10 18446744073709551615";
        assert_eq!(parse(stat), Some(('S', 4711)));
        assert_eq!(parse("42 (cut"), None);
    }

    #[test]
    fn another_process_of_the_same_number_is_not_taken_for_ours() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let process = Process::find(child.id() as i32).unwrap();
        let earlier = Process { started: process.started - 1, ..process };
        assert!(process.runs() && !earlier.runs());
        earlier.kill();
        assert!(process.runs(), "a stale record ended a stranger");
        process.kill();
        child.wait().unwrap();
        assert!(!process.runs());
    }

    #[test]
    fn a_record_survives_the_disk_and_a_missing_one_is_empty() {
        let directory = std::env::temp_dir().join(format!("prescale-record-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        assert_eq!(Record::read(&directory).unwrap(), Record::default());
        let own = Process::find(std::process::id() as i32).unwrap();
        let record = Record { nodes: vec![NodeProcesses { outer: own, first: Some(own) }], ready: true };
        record.write(&directory).unwrap();
        assert_eq!(Record::read(&directory).unwrap(), record);
        fs::write(directory.join(Record::FILE), "{").unwrap();
        assert!(Record::read(&directory).is_err());
        fs::remove_dir_all(directory).unwrap();
    }
}
