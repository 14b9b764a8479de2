//! Exact counts, against clients that know the truth: loopback and veth, IPv4 and IPv6, keep-alive and close.

use std::net::SocketAddr;

use prescale_core::counters::Counters;
use prescale_tests::kernel::client::{h2load, load};
use prescale_tests::kernel::network::Network;
use prescale_tests::kernel::pod::{self, Pod, describe, read_until};

const PATHS: [&str; 3] = ["/200/20/length", "/404/0/length", "/503/300/length"];

fn address(host: &str, port: u16) -> SocketAddr {
    SocketAddr::new(host.parse().expect("an address"), port)
}

fn url(host: &str, port: u16, path: &str) -> String {
    format!("http://{}{path}", address(host, port))
}

/// Counts `requests` of known classes through one service and compares.
fn exact(host: &str, network: Option<&Network>, drive: impl Fn(u16) -> [u64; 6]) -> Counters {
    let mut kernel = pod::load();
    let mut pod = Pod::new();
    let listen = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    let port = pod.serve(network, &listen, &[]);
    let slot = kernel.attach(pod.directory(), &[port]).expect("the pod can be measured");
    let expected = drive(port);
    let total: u64 = expected.iter().sum();
    let counters = read_until(&mut kernel, slot, |counters| counters.finished() + counters.aborts >= total);
    assert_eq!(counters.starts, total, "{}", describe(&counters));
    assert_eq!(counters.finishes[..6], expected, "{}", describe(&counters));
    assert_eq!(counters.aborts, 0);
    assert_eq!(counters.unaccounted.iter().sum::<u64>(), 0, "{}", describe(&counters));
    assert_eq!(counters.first_byte.0.iter().sum::<u64>(), total);
    counters
}

#[test]
#[ignore = "needs root and a kernel with cgroup2; `cargo xtask test` runs it"]
fn ten_requests() {
    exact("127.0.0.1", None, |port| load(address("127.0.0.1", port), 2, 10, &PATHS, true).classes);
}

#[test]
#[ignore = "needs root and a kernel with cgroup2; `cargo xtask test` runs it"]
fn keep_alive_on_loopback() {
    let counters =
        exact("127.0.0.1", None, |port| h2load(&url("127.0.0.1", port, PATHS[0]), 100_000, &["-c16", "-m1"]));
    assert_eq!(counters.connections_opened, 16);
}
