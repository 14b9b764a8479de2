//! A network namespace with a veth pair into it, made for one test and removed after it.

use std::process::Command;
use std::sync::atomic::{AtomicU8, Ordering};

/// A namespace; the test is at `.1` and `::1` of its subnet, what runs in the namespace at `.2` and `::2`.
pub struct Network {
    namespace: String,
    outer: String,
    subnet: u8,
}

impl Network {
    /// Makes one.
    ///
    /// # Panics
    /// When `ip` refuses: not root, no veth.
    pub fn new() -> Self {
        static NEXT: AtomicU8 = AtomicU8::new(1);
        let subnet = NEXT.fetch_add(1, Ordering::Relaxed);
        let namespace = format!("prescale{}-{subnet}", std::process::id());
        let (outer, inner) = (format!("pk{}o{subnet}", std::process::id() % 100_000), "eth0");
        let network = Self { namespace, outer, subnet };
        let (name, outer) = (network.namespace.as_str(), network.outer.as_str());
        run(&["netns", "add", name]);
        run(&["link", "add", outer, "type", "veth", "peer", "name", inner, "netns", name]);
        run(&["addr", "add", &format!("{}/24", network.address(1, false)), "dev", outer]);
        run(&["addr", "add", &format!("{}/64", network.address(1, true)), "dev", outer, "nodad"]);
        run(&["link", "set", outer, "up"]);
        run(&["-n", name, "link", "set", "lo", "up"]);
        run(&["-n", name, "addr", "add", &format!("{}/24", network.address(2, false)), "dev", inner]);
        run(&["-n", name, "addr", "add", &format!("{}/64", network.address(2, true)), "dev", inner, "nodad"]);
        run(&["-n", name, "link", "set", inner, "up"]);
        network
    }

    /// Its name, as `ip netns exec` takes it.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The address of what runs inside.
    pub fn inside(&self, ipv6: bool) -> String {
        self.address(2, ipv6)
    }

    fn address(&self, host: u8, ipv6: bool) -> String {
        // 198.18.0.0/15 is set aside for tests of networks (RFC 2544), fd00::/8 for private use.
        let subnet = self.subnet;
        if ipv6 { format!("fd00:7e57:{subnet}::{host}") } else { format!("198.18.{subnet}.{host}") }
    }

    /// Limits both directions by a token bucket with the options `queue`.
    ///
    /// # Panics
    /// When `tc` refuses.
    pub fn limit(&self, queue: &[&str]) {
        for (namespace, device) in [(Some(self.namespace.as_str()), "eth0"), (None, self.outer.as_str())] {
            let mut command = Command::new("tc");
            if let Some(namespace) = namespace {
                command.args(["-n", namespace]);
            }
            command.args(["qdisc", "add", "dev", device, "root", "tbf"]).args(queue);
            let status = command.status().expect("iproute2 is installed");
            assert!(status.success(), "the kernel tests can't run: {command:?} failed: {status}");
        }
    }

    /// Cuts the wire.
    pub fn cut(&self) {
        run(&["link", "set", &self.outer, "down"]);
    }
}

impl Default for Network {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        // The veth pair goes with the namespace.
        let _ = Command::new("ip").args(["netns", "del", &self.namespace]).status();
    }
}

fn run(arguments: &[&str]) {
    let status = Command::new("ip").args(arguments).status().expect("iproute2 is installed");
    assert!(status.success(), "the kernel tests can't run: `ip {}` failed: {status}", arguments.join(" "));
}
