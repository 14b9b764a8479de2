//! A pod with a real server in a cgroup of its own, the agent's real binary, and clients that know what they sent.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use prescale_agent::cgroup;
use prescale_core::wire::WatchedPod;
use prescale_core::world::WorkloadId;
use prescale_tests::binaries::binary;

use crate::aggregator::{PATIENCE, free_address};

/// A cgroup2 tree of the test's own, like a node's; removed at the end, and its processes with it.
pub struct Node {
    pub root: PathBuf,
    pub scratch: PathBuf,
    pods: AtomicU32,
}

/// A pod's directory and the server in it.
pub struct Pod {
    pub uid: String,
    pub address: SocketAddr,
    directory: PathBuf,
    server: Child,
}

impl Node {
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name =
            format!("prescale-agent-test-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let root = cgroup::root(None).expect("these tests need cgroup2").join(&name);
        fs::create_dir(&root).expect("these tests need root");
        let scratch = std::env::temp_dir().join(&name);
        fs::create_dir(&scratch).unwrap();
        Self { root, scratch, pods: AtomicU32::new(0) }
    }

    /// An nginx in a new pod's cgroup, as a kubelet with the cgroupfs driver makes it.
    pub fn pod(&self) -> Pod {
        let number = self.pods.fetch_add(1, Ordering::Relaxed);
        let uid = format!("0f5c0d1a-6f0e-4a59-9f6e-{number:012x}");
        let directory = self.root.join(format!("kubepods/burstable/pod{uid}"));
        let container = directory.join("6b1ec0a1");
        fs::create_dir_all(&container).unwrap();
        let address = free_address();
        let scratch = self.scratch.join(format!("nginx{number}"));
        fs::create_dir(&scratch).unwrap();
        let configuration = format!(
            "daemon off; master_process off; pid {0}/pid; error_log {0}/error.log;
             events {{ worker_connections 1024; }}
             http {{ access_log off; keepalive_requests 1000000000;
               server {{ listen {address} deferred; location / {{ return 200 \"ok\\n\"; }}
                 location /missing {{ return 404 \"no\\n\"; }} }} }}",
            scratch.display()
        );
        fs::write(scratch.join("nginx.conf"), configuration).unwrap();
        // The shell moves into the cgroup, then becomes nginx: a socket belongs to the cgroup it was made in.
        let server = Command::new("sh")
            .args(["-c", "echo $$ > \"$0\" && exec nginx -e stderr -p \"$1\" -c nginx.conf"])
            .arg(container.join("cgroup.procs"))
            .arg(&scratch)
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        wait("nginx to listen", || TcpStream::connect(address).is_ok().then_some(()));
        Pod { uid, address, directory, server }
    }
}

impl Node {
    /// Directories of `count` pods in which nothing runs.
    pub fn idle_pods(&self, count: usize) -> Vec<WatchedPod> {
        let pod = |number| {
            let uid = format!("7d1a4b0c-1b7e-4c0d-8a51-{number:012x}");
            fs::create_dir_all(self.root.join(format!("kubepods/besteffort/pod{uid}"))).unwrap();
            let workload = WorkloadId { namespace: "demo".into(), name: format!("idle-{}", number % 10) };
            WatchedPod {
                uid,
                name: format!("idle-{number}"),
                workload,
                ports: vec![8080],
                probes: Vec::new(),
            }
        };
        (0..count).map(pod).collect()
    }

    /// A cgroup with a memory controller for the agent alone, version 2 or 1.
    fn memory_group(&self) -> PathBuf {
        let (own, v1) = (self.root.join("agent"), Path::new("/sys/fs/cgroup/memory"));
        let _ = fs::create_dir(&own);
        if fs::write(self.root.join("cgroup.subtree_control"), "+memory").is_ok() {
            return own;
        }
        let group = v1.join(self.root.file_name().unwrap());
        let _ = fs::create_dir(&group);
        group
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        remove(&self.memory_group());
        remove(&self.root);
        let _ = fs::remove_dir_all(&self.scratch);
    }
}

/// Removes a cgroup and those below it; a killed process leaves its own a moment later.
fn remove(directory: &Path) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|it| it.is_dir()) {
            remove(&entry.path());
        }
    }
    let deadline = Instant::now() + Duration::from_secs(5);
    while fs::remove_dir(directory).is_err() && directory.exists() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(5));
    }
}

impl Pod {
    pub fn watched(&self) -> WatchedPod {
        WatchedPod {
            uid: self.uid.clone(),
            name: format!("web-{}", self.address.port()),
            workload: WorkloadId { namespace: "demo".into(), name: "web".into() },
            ports: vec![self.address.port()],
            probes: Vec::new(),
        }
    }

    /// Ends the server and removes the directory, as a kubelet does with a pod that is gone.
    pub fn vanish(mut self) {
        self.end();
        remove(&self.directory);
    }

    fn end(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        self.end();
    }
}

/// The object that `cargo xtask build-ebpf` made, or the one that `PRESCALE_OBJECT` names.
pub fn object() -> PathBuf {
    if let Some(object) = std::env::var_os("PRESCALE_OBJECT") {
        return object.into();
    }
    let test = std::env::current_exe().unwrap();
    test.ancestors().nth(3).unwrap().join("bpf/prescale-agent.o")
}

/// A running agent; killed at the end.
pub struct Agent {
    pub listen: SocketAddr,
    child: Child,
    log: PathBuf,
}

impl Agent {
    /// Starts the real binary on `node`, reporting to `aggregator`.
    pub fn start(node: &Node, aggregator: SocketAddr) -> Self {
        Self::start_with(
            node,
            aggregator,
            &["--poll-seconds", "0.2", "--max-pods", "8", "--log-level", "debug"],
        )
    }

    /// With `flags`, as a kubelet runs it: in a memory cgroup of its own.
    pub fn start_with(node: &Node, aggregator: SocketAddr, flags: &[&str]) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let listen = free_address();
        let log = node.scratch.join(format!("agent{}.log", NEXT.fetch_add(1, Ordering::Relaxed)));
        let child = Command::new("sh")
            .args(["-c", "echo $$ > \"$0\" && exec \"$@\""])
            .arg(node.memory_group().join("cgroup.procs"))
            .arg(binary("prescale-agent"))
            .args(["--node", "node-1"])
            .args(flags)
            .args(["--aggregator", &format!("http://{aggregator}"), "--listen", &listen.to_string()])
            .arg("--object")
            .arg(object())
            .arg("--cgroup-root")
            .arg(&node.root)
            .stdin(Stdio::null())
            .stderr(fs::File::create(&log).unwrap())
            .spawn()
            .unwrap();
        Self { listen, child, log }
    }

    /// kill -9.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGTERM, and how it ended.
    pub fn terminate(mut self) -> ExitStatus {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        wait("the agent to stop", || self.child.try_wait().unwrap())
    }

    /// The path's status and body.
    pub fn get(&self, path: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(self.listen).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").unwrap();
        let mut reply = String::new();
        stream.read_to_string(&mut reply).unwrap();
        let (head, body) = reply.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }

    /// Kernel objects that this process holds: links and programs, by id.
    pub fn kernel_objects(&self) -> KernelObjects {
        let mut objects = KernelObjects::default();
        for entry in fs::read_dir(format!("/proc/{}/fdinfo", self.child.id())).unwrap().flatten() {
            // A descriptor may close meanwhile.
            for line in fs::read_to_string(entry.path()).unwrap_or_default().lines() {
                let id = |name: &str| line.strip_prefix(name)?.trim().parse::<u32>().ok();
                objects.links.extend(id("link_id:"));
                objects.programs.extend(id("prog_id:"));
            }
        }
        objects
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("the agent's log:\n{}", fs::read_to_string(&self.log).unwrap_or_default());
        }
    }
}

/// Ids in the kernel.
#[derive(Debug, Default)]
pub struct KernelObjects {
    pub links: BTreeSet<u32>,
    pub programs: BTreeSet<u32>,
}

impl KernelObjects {
    /// Those of them that the kernel still has.
    pub fn left(&self) -> (Vec<u32>, Vec<u32>) {
        // One that goes while the list is made gives an error: it is gone.
        let links =
            aya::programs::loaded_links().flatten().map(|it| it.id()).filter(|id| self.links.contains(id));
        let programs = aya::programs::loaded_programs().flatten().map(|it| it.id());
        (links.collect(), programs.filter(|id| self.programs.contains(id)).collect())
    }

    /// Waits until the kernel has none of them.
    pub fn wait_until_gone(&self) {
        assert!(!self.links.is_empty() && !self.programs.is_empty(), "nothing was attached: {self:?}");
        let mut left = self.left();
        let deadline = Instant::now() + Duration::from_secs(5);
        while left != (vec![], vec![]) {
            assert!(Instant::now() < deadline, "links and programs that are still there: {left:?}");
            std::thread::sleep(Duration::from_millis(10));
            left = self.left();
        }
    }
}

/// A keep-alive connection that checks every reply.
pub struct Connection(TcpStream);

impl Connection {
    pub fn open(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self(stream)
    }

    /// One request and its whole reply.
    pub fn get(&mut self, path: &str) -> Result<u16, String> {
        write!(self.0, "GET {path} HTTP/1.1\r\nhost: a\r\n\r\n").map_err(|error| error.to_string())?;
        let mut reply = Vec::new();
        let mut chunk = [0; 1024];
        loop {
            match self.0.read(&mut chunk) {
                Ok(0) => return Err(format!("closed after {} bytes", reply.len())),
                Ok(read) => reply.extend_from_slice(&chunk[..read]),
                Err(error) => return Err(error.to_string()),
            }
            let text = std::str::from_utf8(&reply).map_err(|error| error.to_string())?;
            let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
            let length =
                head.lines().find_map(|line| line.strip_prefix("Content-Length: ")).ok_or("no length")?;
            if body.len() == length.parse::<usize>().map_err(|error| error.to_string())? {
                return head.split(' ').nth(1).and_then(|it| it.parse().ok()).ok_or("no status".into());
            }
        }
    }
}

/// Clients on keep-alive connections that send until they are told to stop.
pub struct Load {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    clients: Vec<JoinHandle<Result<Connection, String>>>,
}

impl Load {
    pub fn start(address: SocketAddr, clients: usize) -> Self {
        let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let client = |_| {
            let (stop, answered) = (Arc::clone(&stop), Arc::clone(&answered));
            std::thread::spawn(move || {
                let mut connection = Connection::open(address);
                while !stop.load(Ordering::Relaxed) {
                    let status = connection.get("/")?;
                    assert_eq!(status, 200);
                    answered.fetch_add(1, Ordering::Relaxed);
                }
                Ok(connection)
            })
        };
        let clients = (0..clients).map(client).collect();
        Self { stop, answered, clients }
    }

    /// Requests answered so far.
    pub fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }

    /// Waits until `more` further requests have been answered.
    pub fn wait_for(&self, more: u64) {
        let goal = self.answered() + more;
        wait("requests to be answered", || (self.answered() >= goal).then_some(()));
    }

    /// Stops; how many requests were answered in all, and the connections, still open.
    pub fn stop(self) -> (u64, Vec<Connection>) {
        self.stop.store(true, Ordering::Relaxed);
        let ended = self.clients.into_iter().map(|client| client.join().unwrap());
        let connections = ended.collect::<Result<_, _>>().expect("a client saw an error");
        (self.answered.load(Ordering::Relaxed), connections)
    }
}

/// Waits until `done` gives something.
pub fn wait<T>(what: &str, mut done: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(it) = done() {
            return it;
        }
        assert!(Instant::now() < deadline, "waited too long for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
