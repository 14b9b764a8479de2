//! The kubelet's probes beside requests: who is which, exactly, on kept and closed connections, pipelined, in IPv6.

use std::net::SocketAddr;

use prescale_agent::kernel::{Kernel, SlotId};
use prescale_core::counters::Counters;
use prescale_tests::kernel::client::{Raw, load};
use prescale_tests::kernel::network::Network;
use prescale_tests::kernel::pod::{self, Pod, describe, read_until};

const READY: &str = "/200/5/length";
const SICK: &str = "/503/5/length";

struct Scene {
    kernel: Kernel,
    slot: SlotId,
    _pod: Pod,
    address: SocketAddr,
}

/// What was sent, or counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counts {
    requests: u64,
    finished: u64,
    aborts: u64,
    probes: u64,
    probes_finished: u64,
}

impl Scene {
    /// A pod whose spec has two probes.
    fn new(network: Option<&Network>, host: &str, ipv6: bool) -> Self {
        let mut kernel = pod::load();
        let mut pod = Pod::new();
        let listen = if ipv6 { format!("[{host}]") } else { host.to_owned() };
        let port = pod.serve(network, &listen, &[]);
        let probes = [READY, SICK].map(|path| format!("GET {path} HTTP/1.1"));
        let slot = kernel.attach(pod.directory(), &[port], &probes).expect("the pod can be measured");
        let address = SocketAddr::new(host.parse().expect("an address"), port);
        Self { kernel, slot, _pod: pod, address }
    }

    fn here() -> Self {
        Self::new(None, "127.0.0.1", false)
    }

    /// One probe as a kubelet sends it: a connection of its own, the head in one piece.
    fn probe(&self, path: &str) -> u16 {
        let mut connection = Raw::connect(self.address);
        connection.write(&probe(path));
        connection.response()
    }

    /// Waits for all that is expected, and that nothing else is counted.
    fn expect(&mut self, expected: Counts) -> Counters {
        let counters = read_until(&mut self.kernel, self.slot, |it| {
            it.finished() + it.aborts >= expected.finished + expected.aborts
                && it.probe_finishes >= expected.probes_finished
                && it.connections_closed == it.connections_opened
        });
        let counted = Counts {
            requests: counters.starts,
            finished: counters.finished(),
            aborts: counters.aborts,
            probes: counters.probe_starts,
            probes_finished: counters.probe_finishes,
        };
        assert_eq!(counted, expected, "{}", describe(&counters));
        assert_eq!(counters.unaccounted.iter().sum::<u64>(), 0, "{}", describe(&counters));
        assert_eq!(counters.in_flight(), 0);
        assert_eq!(counters.first_byte.count(), expected.finished);
        counters
    }
}

/// As `k8s.io/kubernetes/pkg/probe/http` and Go's client write it.
fn probe(path: &str) -> Vec<u8> {
    head(path, "kube-probe/1.36")
}

fn head(path: &str, agent: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: 10.200.113.7:8080\r\nUser-Agent: {agent}\r\nAccept: */*\r\nConnection: close\r\n\r\n")
        .into_bytes()
}

/// A probe as no kubelet sends it.
fn kept_open(path: &str) -> Vec<u8> {
    String::from_utf8(probe(path)).expect("text").replace("close", "keep-alive").into_bytes()
}

fn get(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n").into_bytes()
}

fn probes_among_requests(mut scene: Scene) {
    const ROUNDS: u64 = 50;
    for _ in 0..ROUNDS {
        assert_eq!(scene.probe(READY), 200);
        // What users ask for at the same path, kept and closed.
        load(scene.address, 1, 3, &[READY, "/404/0/length"], true);
        load(scene.address, 1, 2, &[READY], false);
        assert_eq!(scene.probe(SICK), 503);
    }
    let counters = scene.expect(Counts {
        requests: 5 * ROUNDS,
        finished: 5 * ROUNDS,
        aborts: 0,
        probes: 2 * ROUNDS,
        probes_finished: 2 * ROUNDS,
    });
    // The failed probe is in no status class.
    assert_eq!(counters.finishes[5], 0);
    assert_eq!(counters.connections_opened, 5 * ROUNDS);
}

#[test]
#[ignore = "needs root and a kernel with cgroup2; `cargo xtask test` runs it"]
fn probes_and_requests_for_the_same_path_are_told_apart() {
    probes_among_requests(Scene::here());
}

#[test]
#[ignore = "needs root and a kernel with cgroup2; `cargo xtask test` runs it"]
fn probes_over_ipv6() {
    let network = Network::new();
    let host = network.inside(true);
    probes_among_requests(Scene::new(Some(&network), &host, true));
}

#[test]
#[ignore = "needs root and a kernel with cgroup2; `cargo xtask test` runs it"]
fn only_both_signs_on_the_first_request_make_a_probe() {
    let mut scene = Scene::here();
    for bytes in [
        // One sign of two; a line that begins alike; the sign before or far behind the line; a head in pieces.
        head(READY, "curl/8.0"),
        head("/200/50/length", "kube-probe/1.36"),
        head("/200/5/length?e-probe/", "curl/8.0"),
        head(READY, &format!("{}kube-probe/1.36", "x".repeat(500))),
    ] {
        let mut connection = Raw::connect(scene.address);
        connection.write(&bytes);
        connection.response();
    }
    let mut pieces = Raw::connect(scene.address);
    for piece in probe(READY).chunks(20) {
        pieces.write(piece);
    }
    assert_eq!(pieces.response(), 200);
    drop(pieces);
    // A kubelet keeps no connection: what comes second on one is a request, whatever it says.
    let kept = |scene: &Scene, first: Vec<u8>| {
        let mut connection = Raw::connect(scene.address);
        for bytes in [first, kept_open(READY), get("/404/0/length")] {
            connection.write(&bytes);
            connection.response();
        }
    };
    kept(&scene, get(READY));
    scene.expect(Counts { requests: 8, finished: 8, ..Counts::default() });
    // One that is kept after its probe counts what follows.
    kept(&scene, kept_open(READY));
    scene.expect(Counts { requests: 10, finished: 10, aborts: 0, probes: 1, probes_finished: 1 });
}

#[test]
#[ignore = "needs root and a kernel with cgroup2; `cargo xtask test` runs it"]
fn pipelined_with_requests() {
    let mut scene = Scene::here();
    let keep = kept_open(READY);
    let mut connection = Raw::connect(scene.address);
    connection.write(&[&keep[..], &get(READY), &get("/404/0/length")].concat());
    assert_eq!([connection.response(), connection.response(), connection.response()], [200, 200, 404]);
    drop(connection);
    let mut connection = Raw::connect(scene.address);
    connection.write(&[&get(READY)[..], &keep, &get("/404/0/length")].concat());
    assert_eq!([connection.response(), connection.response(), connection.response()], [200, 200, 404]);
    drop(connection);
    let counters =
        scene.expect(Counts { requests: 5, finished: 5, aborts: 0, probes: 1, probes_finished: 1 });
    assert_eq!(counters.finishes[..6], [0, 0, 3, 0, 2, 0]);
}

#[test]
#[ignore = "needs root and a kernel with cgroup2; `cargo xtask test` runs it"]
fn a_probe_that_is_given_up_aborts_no_request() {
    let mut kernel = pod::load();
    let mut pod = Pod::new();
    let port = pod.serve(None, "127.0.0.1", &[]);
    let line = "GET /200/0/hang HTTP/1.1".to_owned();
    let slot = kernel.attach(pod.directory(), &[port], &[line]).expect("the pod can be measured");
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let mut scene = Scene { kernel, slot, _pod: pod, address };
    let mut given_up = Raw::connect(address);
    given_up.write(&probe("/200/0/hang"));
    read_until(&mut scene.kernel, slot, |it| it.probe_starts == 1);
    given_up.reset();
    // Beside a request that hangs on the same connection, and is aborted with it.
    let mut both = Raw::connect(address);
    both.write(&[&probe("/200/0/hang")[..], &get(READY)].concat());
    read_until(&mut scene.kernel, slot, |it| it.probe_starts == 2 && it.starts == 1);
    both.reset();
    scene.expect(Counts { requests: 1, finished: 0, aborts: 1, probes: 2, probes_finished: 0 });
}
