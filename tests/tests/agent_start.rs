//! What keeps the agent from starting is one clear sentence, and nothing is left half started.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;

use prescale_tests::binaries::binary;
use prescale_tests::scratch::Scratch;

fn agent(program: PathBuf, flags: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(["--node", "node-1", "--aggregator", "127.0.0.1:1", "--listen", "127.0.0.1:0"]).args(flags);
    command
}

/// The one line that the agent ends with.
fn refusal(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(output.stdout.is_empty());
    assert_eq!(said.lines().count(), 1, "one sentence, not:\n{said}");
    said
}

#[test]
fn each_wrong_flag_is_one_clear_sentence() {
    let scratch = Scratch::new();
    let directory = scratch.path().to_str().unwrap();
    let empty = scratch.file("empty", b" \n");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    // A directory that passes for cgroup2, so that what comes after it is reached on any machine.
    scratch.file("cgroup.controllers", b"");
    let root = ["--cgroup-root", directory];
    let cases: [(&[&str], &[&str]); 11] = [
        (&["--token-file", "/nowhere/token"], &["can't read the token file /nowhere/token", "No such file"]),
        (&["--token-file", &empty], &["holds no token", "the token is empty"]),
        (&["--cgroup-root", "/proc"], &["--cgroup-root /proc is not a cgroup2 tree", "mount -t cgroup2"]),
        (&["--cgroup-root", "/nowhere"], &["--cgroup-root /nowhere does not exist"]),
        (&[root[0], root[1], "--aggregator", "ftp://a:1"], &["`ftp://a:1`: want http://host:port or https"]),
        (&[root[0], root[1], "--aggregator", "https://a:1"], &["`https://a:1`: https needs --tls-ca"]),
        (&[root[0], root[1], "--aggregator", "http://a:1"], &["`http://a:1`", "--allow-plain-http"]),
        (&["--tls-ca", "/nowhere/ca.crt"], &["--tls-ca is for https:// addresses"]),
        (&["--aggregator", "https://a:1", "--tls-ca", &empty], &["--tls-ca", &empty, "holds no certificate"]),
        (
            &[root[0], root[1], "--object", "/nowhere/a.o"],
            &["/nowhere/a.o is missing", "cargo xtask build-ebpf"],
        ),
        (&[root[0], root[1], "--object", &empty], &["is no object file", "cargo xtask build-ebpf"]),
    ];
    for (flags, expected) in cases {
        let said = refusal(&mut agent(binary("prescale-agent"), flags));
        for part in expected {
            assert!(said.contains(part), "{flags:?}: no `{part}` in: {said}");
        }
    }
    let mut command = Command::new(binary("prescale-agent"));
    command.args(["--node", "a", "--aggregator", "127.0.0.1:1", "--listen", &taken]).args(root);
    let said = refusal(&mut command);
    assert!(said.contains(&format!("can't listen on {taken}")), "{said}");
}

#[test]
fn help_teaches_and_unknown_flags_are_refused() {
    let help = Command::new(binary("prescale-agent")).arg("--help").output().unwrap();
    let text = String::from_utf8(help.stdout).unwrap();
    assert!(help.status.success());
    for word in ["--node", "--aggregator", "--object", "BPF, NET_ADMIN and PERFMON", "only a demo"] {
        assert!(text.contains(word), "no `{word}` in\n{text}");
    }
    let unknown = agent(binary("prescale-agent"), &["--pol-seconds", "1"]).output().unwrap();
    assert_eq!(unknown.status.code(), Some(2));
    assert!(String::from_utf8(unknown.stderr).unwrap().contains("unexpected argument '--pol-seconds'"));
}

#[test]
#[ignore = "needs root and cgroup2"]
fn without_root_it_names_the_capabilities() {
    let scratch = Scratch::new();
    fs::set_permissions(&scratch, fs::Permissions::from_mode(0o755)).unwrap();
    // Copies that another user can reach, wherever the tree lies.
    let program = scratch.path().join("prescale-agent");
    fs::copy(binary("prescale-agent"), &program).unwrap();
    let object =
        fs::read(std::env::var_os("PRESCALE_OBJECT").map_or_else(built_object, PathBuf::from)).unwrap();
    let object = scratch.file("prescale-agent.o", &object);
    // `nobody`, as the agent's image has it, without file capabilities.
    let said = refusal(agent(program, &["--object", &object]).uid(65534).gid(65534));
    for part in ["run as root", "CAP_NET_ADMIN", "CAP_PERFMON", "CAP_BPF"] {
        assert!(said.contains(part), "no `{part}` in: {said}");
    }
}

fn built_object() -> PathBuf {
    std::env::current_exe().unwrap().ancestors().nth(3).unwrap().join("bpf/prescale-agent.o")
}
