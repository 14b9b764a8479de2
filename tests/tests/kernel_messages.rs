//! Messages of every kind: bodies, pieces, chunks, pipelines, ends before the end; each with the counts it must give.

use std::net::SocketAddr;

use prescale_agent::kernel::{Kernel, SlotId};
use prescale_core::counters::{Counters, Unaccounted};
use prescale_tests::kernel::client::{Raw, h2load, load};
use prescale_tests::kernel::network::Network;
use prescale_tests::kernel::pod::{self, Pod, describe, read_until};

struct Scene {
    kernel: Kernel,
    slot: SlotId,
    pod: Pod,
    address: SocketAddr,
}

impl Scene {
    fn new() -> Self {
        Self::with(&[])
    }

    fn with(options: &[&str]) -> Self {
        let mut kernel = pod::load();
        let mut pod = Pod::new();
        let port = pod.serve(None, "127.0.0.1", options);
        let slot = kernel.attach(pod.directory(), &[port], &[]).expect("the pod can be measured");
        Self { kernel, slot, pod, address: SocketAddr::from(([127, 0, 0, 1], port)) }
    }

    fn connect(&self) -> Raw {
        Raw::connect(self.address)
    }

    /// Waits for as many ends as given, then checks that nothing else was counted.
    fn expect(&mut self, finishes: [u64; 6], aborts: u64) -> Counters {
        let total = finishes.iter().sum::<u64>() + aborts;
        let counters = read_until(&mut self.kernel, self.slot, |counters| {
            counters.starts >= total && counters.finished() + counters.aborts >= total
        });
        assert_eq!(counters.starts, total, "{}", describe(&counters));
        assert_eq!(counters.finishes[..6], finishes, "{}", describe(&counters));
        assert_eq!(counters.aborts, aborts, "{}", describe(&counters));
        counters
    }

    fn until(&mut self, done: impl Fn(&Counters) -> bool) -> Counters {
        read_until(&mut self.kernel, self.slot, done)
    }
}

fn get(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n").into_bytes()
}

fn reasons(counters: &Counters) -> u64 {
    counters.unaccounted.iter().sum()
}

#[test]
#[ignore = "needs root and a kernel with cgroup2; `cargo xtask test` runs it"]
fn bodies_of_a_megabyte_both_ways() {
    let mut scene = Scene::new();
    let mut connection = scene.connect();
    let body = vec![b'G'; 1 << 20];
    let mut head = 0;
    for _ in 0..20 {
        connection.write(&get("/200/1048576/length"));
        assert_eq!(connection.response(), 200);
        let post = format!("POST /201/10/length HTTP/1.1\r\nContent-Length: {}\r\n\r\n", body.len());
        head += post.len() + get("/200/1048576/length").len();
        connection.write(post.as_bytes());
        connection.write(&body);
        assert_eq!(connection.response(), 201);
    }
    let counters = scene.expect([0, 0, 40, 0, 0, 0], 0);
    assert_eq!(counters.bytes_received, (20 * body.len() + head) as u64);
    assert!(counters.bytes_sent > 20 << 20, "{}", describe(&counters));
    assert_eq!(reasons(&counters), 0, "{}", describe(&counters));
}

#[test]
#[ignore = "needs root and a kernel with cgroup2; `cargo xtask test` runs it"]
fn the_last_byte_is_later_than_the_first() {
    let mut scene = Scene::new();
    let mut connection = scene.connect();
    // More than fits the socket's buffers: the rest leaves when the client begins to read.
    connection.write(&get("/200/30000000/length"));
    scene.until(|counters| counters.first_byte.0.iter().sum::<u64>() == 1);
    let held = scene.kernel.read(scene.slot).expect("attached");
    assert_eq!((held.finished(), held.in_flight()), (0, 1), "{}", describe(&held));
    let waited = scene.until(|counters| counters.read_at_ns > held.read_at_ns + 50_000_000);
    // What is in flight shows while it is, not when it ends.
    let grown = waited.in_flight_integral_ns - held.in_flight_integral_ns;
    assert_eq!(grown, waited.read_at_ns - held.read_at_ns);
    assert_eq!(connection.response(), 200);
    let counters = scene.expect([0, 0, 1, 0, 0, 0], 0);
    let bucket = |cells: &[u64]| cells.iter().position(|&count| count > 0).expect("one was counted");
    assert!(bucket(&*counters.first_byte.0) < bucket(&*counters.last_byte[2].0));
}

#[test]
#[ignore = "needs root and a kernel with cgroup2; `cargo xtask test` runs it"]
fn heads_in_pieces_both_ways() {
    let mut scene = Scene::new();
    let mut connection = scene.connect();
    let request = get("/200/5000/split");
    for size in [1, 2, 3, 7, 20, request.len()] {
        for piece in request.chunks(size) {
            connection.write(piece);
        }
        assert_eq!(connection.response(), 200);
    }
    let counters = scene.expect([0, 0, 6, 0, 0, 0], 0);
    assert_eq!(reasons(&counters), 0, "{}", describe(&counters));
}

#[test]
#[ignore = "needs root and a kernel with cgroup2; `cargo xtask test` runs it"]
fn every_way_to_end_a_message() {
    let mut scene = Scene::new();
    let mut connection = scene.connect();
    let mut ask = |request: &[u8], method: &str, status: u16| {
        connection.write(request);
        assert_eq!(connection.response_to(method), status, "{:?}", request.escape_ascii().to_string());
    };
    for _ in 0..3 {
        ask(&get("/200/12345/chunked"), "GET", 200);
        ask(&get("/200/3/trailer"), "GET", 200);
        ask(b"HEAD /200/500/length HTTP/1.1\r\n\r\n", "HEAD", 200);
        ask(&get("/204/0/none"), "GET", 204);
        ask(&get("/304/0/none"), "GET", 304);
        ask(&get("/200/7/interim"), "GET", 200);
        ask(b"DELETE /404/0/length HTTP/1.1\r\n\r\n", "DELETE", 404);
        let chunked =
            b"POST /500/1/length HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nGET /\r\n0\r\n\r\n";
        ask(chunked, "POST", 500);
    }
    for _ in 0..3 {
        connection.write(b"POST /200/1/length HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n");
        assert_eq!(connection.head_only(), 100);
        connection.write(b"ok");
        assert_eq!(connection.response(), 200);
    }
    drop(connection);
    let mut closing = scene.connect();
    closing.write(&get("/200/100000/close"));
    assert_eq!(closing.response(), 200);
    let counters = scene.expect([0, 0, 19, 3, 3, 3], 0);
    assert_eq!(reasons(&counters), 0, "{}", describe(&counters));
}

#[test]
#[ignore = "needs root and a kernel with cgroup2; `cargo xtask test` runs it"]
fn pipelines_seen_and_unseen() {
    let mut scene = Scene::new();
    // Together from the first segment.
    let mut connection = scene.connect();
    connection.write(&get("/200/10/length").repeat(50));
    (0..50).for_each(|_| assert_eq!(connection.response(), 200));
    scene.expect([0, 0, 50, 0, 0, 0], 0);
    // Together on a connection that went one by one before, where the short way takes the first for all.
    let mut connection = scene.connect();
    for round in 0..20 {
        connection.write(&get("/404/0/length"));
        assert_eq!(connection.response(), 404);
        if round % 4 == 3 {
            connection.write(&get("/503/0/length").repeat(3));
            (0..3).for_each(|_| assert_eq!(connection.response(), 503));
        }
    }
    let counters = scene.expect([0, 0, 50, 0, 20, 15], 0);
    assert_eq!(reasons(&counters), 0, "{}", describe(&counters));
    // As h2load does it.
    let url = format!("http://{}/200/10/length", scene.address);
    h2load(&url, 50_000, &["-c4", "-m32"]);
    let counters = scene.expect([0, 0, 50_050, 0, 20, 15], 0);
    assert_eq!(reasons(&counters), 0, "{}", describe(&counters));
    // Deeper than the ring: the counts stay, and a reason says that latencies may not.
    let mut connection = scene.connect();
    connection.write(&get("/200/0/length").repeat(1000));
    (0..1000).for_each(|_| assert_eq!(connection.response(), 200));
    let counters = scene.expect([0, 0, 51_050, 0, 20, 15], 0);
    assert_eq!(counters.unaccounted[Unaccounted::PipelineOverflow as usize], 1000 - 128);
}

#[test]
#[ignore = "needs root and a kernel with cgroup2; `cargo xtask test` runs it"]
fn ends_before_the_end_are_aborts() {
    let mut scene = Scene::new();
    // The service breaks off in the middle of a body.
    let mut connection = scene.connect();
    connection.write(&get("/200/1000/half"));
    connection.drain();
    scene.expect([0; 6], 1);
    // The client gives up on one that hangs, with a reset, then in order.
    let mut connection = scene.connect();
    connection.write(&get("/200/0/hang"));
    scene.until(|counters| counters.in_flight() == 1);
    connection.reset();
    scene.expect([0; 6], 2);
    let mut connection = scene.connect();
    connection.write(&get("/200/0/hang"));
    scene.until(|counters| counters.in_flight() == 1);
    drop(connection);
    scene.expect([0; 6], 3);
    // The service dies.
    let mut connections: Vec<Raw> = (0..5).map(|_| scene.connect()).collect();
    for connection in &mut connections {
        connection.write(&get("/200/0/hang"));
    }
    scene.until(|counters| counters.in_flight() == 5);
    scene.pod.kill();
    let counters = scene.expect([0; 6], 8);
    assert_eq!(counters.connections_opened, counters.connections_closed, "{}", describe(&counters));
    assert_eq!(reasons(&counters), 0, "{}", describe(&counters));
}

#[test]
#[ignore = "needs root and a kernel with cgroup2; `cargo xtask test` runs it"]
fn what_is_no_http_is_named_and_not_counted() {
    let mut scene = Scene::new();
    let named: [(&[u8], Unaccounted); 3] = [
        (b"SSH-2.0-OpenSSH_9.2\r\n", Unaccounted::NotHttp),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", Unaccounted::Tls),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00", Unaccounted::Http2),
    ];
    let mut unread = 0;
    for (payload, reason) in named {
        let mut connection = scene.connect();
        connection.write(payload);
        let counters = scene.until(|counters| counters.unaccounted[reason as usize] == 1);
        assert_eq!(counters.starts, 0, "{}", describe(&counters));
        // What it carries from there on is no idleness.
        unread += payload.len() as u64;
        scene.until(|counters| counters.bytes_unread == unread);
        connection.write(&[0; 1000]);
        unread += 1000;
        scene.until(|counters| counters.bytes_unread == unread && counters.bytes_received == unread);
    }
    // A switch of protocols ends an exchange, and what follows is not looked at.
    let mut connection = scene.connect();
    connection.write(&get("/101/0/upgrade"));
    assert_eq!(connection.response(), 101);
    connection.write(&get("/200/0/length"));
    assert_eq!(connection.response(), 200);
    let counters = scene.expect([0, 1, 0, 0, 0, 0], 0);
    assert_eq!(counters.unaccounted[Unaccounted::Unparsed as usize], 1);
    assert_eq!(counters.connections_opened, 4);
    assert_eq!(counters.bytes_unread, unread + get("/200/0/length").len() as u64, "{}", describe(&counters));
}

#[test]
#[ignore = "needs root and a kernel with cgroup2; `cargo xtask test` runs it"]
fn what_was_there_before_and_shows_no_request_is_unread_bytes() {
    let mut kernel = pod::load();
    let mut pod = Pod::new();
    let port = pod.serve(None, "127.0.0.1", &[]);
    let mut connection = Raw::connect(SocketAddr::from(([127, 0, 0, 1], port)));
    connection.write(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03");
    let slot = kernel.attach(pod.directory(), &[port], &[]).expect("the pod can be measured");
    connection.write(&[0x17; 1000]);
    let counters = read_until(&mut kernel, slot, |counters| counters.bytes_unread == 1000);
    assert_eq!((counters.starts, counters.bytes_received), (0, 0), "{}", describe(&counters));
}

#[test]
#[ignore = "needs root and a kernel with cgroup2; `cargo xtask test` runs it"]
fn only_the_pods_ports_and_its_own_requests_count() {
    let mut kernel = pod::load();
    let mut pod = Pod::new();
    let main = pod.serve(None, "127.0.0.1", &[]);
    let sidecar = pod.serve(None, "127.0.0.1", &[]);
    let slot = kernel.attach(pod.directory(), &[main], &[]).expect("the pod can be measured");
    let local = |port| SocketAddr::from(([127, 0, 0, 1], port));
    load(local(sidecar), 2, 50, &["/200/1/length"], true);
    load(local(main), 2, 100, &["/200/1/length"], true);
    let counters = kernel.detach(slot).expect("attached");
    assert_eq!(counters.starts, 100, "{}", describe(&counters));
    // Attached anew, without a filter: both ports count; what the pod itself asks of others does not.
    let slot = kernel.attach(pod.directory(), &[], &[]).expect("the pod can be measured");
    let mut outside = Pod::new();
    let other = outside.serve(None, "127.0.0.1", &[]);
    let url = format!("http://127.0.0.1:{other}/200/1/length");
    let client = pod.start(None, &["h2load", "--h1", "-t1", "-c4", "-n200", &url]);
    assert!(client.wait().expect("h2load runs").success());
    load(local(sidecar), 2, 30, &["/404/1/length"], true);
    load(local(main), 2, 40, &["/200/1/length"], true);
    let counters = read_until(&mut kernel, slot, |counters| counters.finished() >= 70);
    assert_eq!((counters.starts, counters.finishes[2], counters.finishes[4]), (70, 40, 30));
    assert_eq!(reasons(&counters), 0, "{}", describe(&counters));
}

#[test]
#[ignore = "needs root and a kernel with cgroup2; `cargo xtask test` runs it"]
fn connections_that_were_there_before_count_from_their_next_request() {
    let mut kernel = pod::load();
    let mut pod = Pod::new();
    let port = pod.serve(None, "127.0.0.1", &[]);
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let mut connections: Vec<Raw> = (0..10).map(|_| Raw::connect(address)).collect();
    let ask_all = |connections: &mut Vec<Raw>| {
        for connection in connections {
            connection.write(&get("/200/10/length"));
            assert_eq!(connection.response(), 200);
        }
    };
    ask_all(&mut connections);
    // First attach, then a detach and another: sockets remember a slot that is not theirs any more.
    for round in 0..2 {
        let slot = kernel.attach(pod.directory(), &[port], &[]).expect("the pod can be measured");
        ask_all(&mut connections);
        ask_all(&mut connections);
        let counters = read_until(&mut kernel, slot, |counters| counters.finished() >= 20);
        assert_eq!((counters.starts, counters.finishes[2]), (20, 20), "{round}: {}", describe(&counters));
        assert_eq!(counters.unaccounted[Unaccounted::MidStream as usize], 10);
        let last = kernel.detach(slot).expect("attached");
        assert_eq!(last.starts, 20);
        ask_all(&mut connections);
        // The slot is another pod's now.
        let mut other = Pod::new();
        let other_port = other.serve(None, "127.0.0.1", &[]);
        let other_slot =
            kernel.attach(other.directory(), &[other_port], &[]).expect("the pod can be measured");
        assert_eq!(other_slot, slot);
        ask_all(&mut connections);
        load(SocketAddr::from(([127, 0, 0, 1], other_port)), 1, 5, &["/200/1/length"], true);
        let counters = read_until(&mut kernel, other_slot, |counters| counters.finished() >= 5);
        assert_eq!(counters.starts, 5, "{}", describe(&counters));
        kernel.detach(other_slot).expect("attached");
    }
}

#[test]
#[ignore = "needs root and a kernel with cgroup2; `cargo xtask test` runs it"]
fn lost_segments_are_sent_again_and_counted_once() {
    let network = Network::new();
    let host = network.inside(false);
    let mut kernel = pod::load();
    let mut pod = Pod::new();
    let port = pod.serve(Some(&network), &host, &[]);
    let slot = kernel.attach(pod.directory(), &[port], &[]).expect("the pod can be measured");
    // A queue too short for a burst drops what does not fit, in both directions. (The kernel here has no netem.)
    let queue = ["rate", "200mbit", "burst", "5kb", "limit", "15kb"];
    network.limit(&queue);
    let address = SocketAddr::new(host.parse().expect("an address"), port);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut connection = Raw::connect(address);
                let body = vec![b'x'; 300_000];
                for _ in 0..10 {
                    connection.write(&get("/200/300000/length"));
                    assert_eq!(connection.response(), 200);
                    let head =
                        format!("POST /404/0/length HTTP/1.1\r\nContent-Length: {}\r\n\r\n", body.len());
                    connection.write(head.as_bytes());
                    connection.write(&body);
                    assert_eq!(connection.response(), 404);
                }
            });
        }
    });
    let counters = read_until(&mut kernel, slot, |counters| counters.finished() + counters.aborts >= 80);
    assert_eq!((counters.starts, counters.finishes[2], counters.finishes[4]), (80, 40, 40));
    assert!(counters.retransmits > 0, "nothing was lost: {}", describe(&counters));
    assert_eq!(reasons(&counters), 0, "{}", describe(&counters));
}

#[test]
#[ignore = "needs root and a kernel with cgroup2; `cargo xtask test` runs it"]
fn a_connection_that_dies_in_silence_leaves_nothing_in_flight() {
    let network = Network::new();
    let host = network.inside(false);
    let mut kernel = pod::load();
    let mut pod = Pod::new();
    let port = pod.serve(Some(&network), &host, &[]);
    let slot = kernel.attach(pod.directory(), &[port], &[]).expect("the pod can be measured");
    let mut connection = Raw::connect(SocketAddr::new(host.parse().expect("an address"), port));
    connection.write(&get("/200/0/hang"));
    read_until(&mut kernel, slot, |counters| counters.in_flight() == 1);
    // The wire is cut, then the service goes: its FIN reaches nobody, and the kernel gives up on it.
    network.cut();
    pod.kill();
    let counters = read_until(&mut kernel, slot, |counters| counters.in_flight() == 0);
    assert_eq!(counters.aborts, 1, "{}", describe(&counters));
}
