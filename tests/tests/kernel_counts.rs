//! Exact counts, against clients that know the truth: loopback and veth, IPv4 and IPv6, keep-alive and close,
//! requests that reach the listener before their connection exists.

use std::fs;
use std::net::SocketAddr;

use prescale_core::counters::Counters;
use prescale_tests::kernel::client::{h2load, load, until_listening};
use prescale_tests::kernel::network::Network;
use prescale_tests::kernel::pod::{self, Pod, describe, read_until};

const PATHS: [&str; 3] = ["/200/20/length", "/404/0/length", "/503/300/length"];

fn url(host: &str, port: u16, path: &str) -> String {
    format!("http://{}{path}", SocketAddr::new(host.parse().expect("an address"), port))
}

/// Drives one service and compares the kernel's counts with the client's, by class.
fn exact(host: &str, network: Option<&Network>, drive: impl Fn(u16) -> [u64; 6]) -> Counters {
    let mut kernel = pod::load();
    let mut pod = Pod::new();
    let listen = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    let port = pod.serve(network, &listen, &[]);
    let slot = kernel.attach(pod.directory(), &[port], &[]).expect("the pod can be measured");
    let expected = drive(port);
    let total: u64 = expected.iter().sum();
    let counters = read_until(&mut kernel, slot, |counters| counters.finished() + counters.aborts >= total);
    assert_equal(&counters, &expected);
    counters
}

fn assert_equal(counters: &Counters, expected: &[u64; 6]) {
    let total: u64 = expected.iter().sum();
    assert_eq!(counters.starts, total, "{}", describe(counters));
    assert_eq!(&counters.finishes[..6], expected, "{}", describe(counters));
    assert_eq!(counters.aborts, 0);
    assert_eq!(counters.unaccounted.iter().sum::<u64>(), 0, "{}", describe(counters));
    assert_eq!(counters.first_byte.0.iter().sum::<u64>(), total);
}

#[test]
#[ignore = "needs root and a kernel with cgroup2; `cargo xtask test` runs it"]
fn h2load_keep_alive_on_loopback() {
    let counters =
        exact("127.0.0.1", None, |port| h2load(&url("127.0.0.1", port, PATHS[0]), 100_000, &["-c16", "-m1"]));
    assert_eq!(counters.connections_opened, 16);
}

#[test]
#[ignore = "needs root and a kernel with cgroup2; `cargo xtask test` runs it"]
fn h2load_keep_alive_over_veth_both_families() {
    let network = Network::new();
    for ipv6 in [false, true] {
        let host = network.inside(ipv6);
        exact(&host, Some(&network), |port| h2load(&url(&host, port, PATHS[1]), 100_000, &["-c16", "-m1"]));
    }
}

#[test]
#[ignore = "needs root and a kernel with cgroup2; `cargo xtask test` runs it"]
fn our_client_keep_alive_and_close_on_loopback_ipv6() {
    let address = |port| SocketAddr::new("::1".parse().expect("an address"), port);
    exact("::1", None, |port| load(address(port), 8, 100_000, &PATHS, true).classes);
    let counters = exact("::1", None, |port| load(address(port), 8, 3_000, &PATHS, false).classes);
    assert_eq!(counters.connections_opened, 3_000);
    assert_eq!(counters.connections_closed, 3_000);
}

#[test]
#[ignore = "needs root and a kernel with cgroup2; `cargo xtask test` runs it"]
fn our_client_keep_alive_and_close_over_veth() {
    let network = Network::new();
    let host = network.inside(false);
    let address = |port| SocketAddr::new(host.parse().expect("an address"), port);
    exact(&host, Some(&network), |port| load(address(port), 8, 100_000, &PATHS, true).classes);
    exact(&host, Some(&network), |port| load(address(port), 8, 3_000, &PATHS, false).classes);
}

#[test]
#[ignore = "needs root and a kernel with cgroup2; `cargo xtask test` runs it"]
fn a_listener_that_defers_accepting() {
    let mut kernel = pod::load();
    let mut pod = Pod::new();
    let directory = std::env::temp_dir().join(format!("prescale-nginx-{}", std::process::id()));
    fs::create_dir_all(&directory).expect("a directory can be made");
    let port = until_listening::free_port();
    let configuration = format!(
        "daemon off; master_process off; pid {0}/pid; error_log stderr crit;\n\
         events {{ worker_connections 1024; }}\n\
         http {{ access_log off; client_body_temp_path {0}; proxy_temp_path {0}; fastcgi_temp_path {0};\n\
         uwsgi_temp_path {0}; scgi_temp_path {0}; keepalive_requests 1000000;\n\
         server {{ listen 127.0.0.1:{port} deferred; location / {{ return 200 'hello'; }}\n\
         location /404 {{ return 404; }} }} }}\n",
        directory.display()
    );
    let file = directory.join("nginx.conf");
    fs::write(&file, configuration).expect("a file can be written");
    pod.start(None, &["nginx", "-c", file.to_str().expect("a path in UTF-8")]);
    until_listening::wait("127.0.0.1", port);
    let slot = kernel.attach(pod.directory(), &[port], &[]).expect("the pod can be measured");
    // Every connection's first request reaches the listener.
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let mut expected = load(address, 8, 4_000, &["/", "/404"], false).classes;
    let kept = h2load(&url("127.0.0.1", port, "/"), 100_000, &["-c16", "-m1"]);
    for (sum, class) in expected.iter_mut().zip(kept) {
        *sum += class;
    }
    let total: u64 = expected.iter().sum();
    let counters = read_until(&mut kernel, slot, |counters| counters.finished() + counters.aborts >= total);
    assert_equal(&counters, &expected);
    assert_eq!(counters.connections_opened, 4_016);
    drop(pod);
    fs::remove_dir_all(&directory).expect("the directory can be removed");
}
