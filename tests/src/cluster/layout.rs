//! Where everything of a cluster is: its directory, its files, its addresses. The one table that the rest agrees on.

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

/// Directories and cgroups of clusters are called this and the cluster's name.
pub const PREFIX: &str = "prescale-cluster-";
/// One wire joins two nodes; a third would need a bridge, and no test needs a third.
pub const MAX_NODES: u8 = 2;
/// First process of every pod.
pub const PAUSE_IMAGE: &str = "prescale.dev/pause:1";
/// Where a node's containerd listens, in the node's own mount namespace.
pub const CONTAINERD_SOCKET: &str = "/run/containerd/containerd.sock";

// All from 198.18.0.0/15, set aside for tests of networks (RFC 2544): nodes .0.x, pods .<64 + node>.x, services 198.19.
/// Addresses of Services.
pub const SERVICES: &str = "198.19.0.0/16";
/// The Service `kubernetes`: the first address of [`SERVICES`].
pub const FIRST_SERVICE: Ipv4Addr = Ipv4Addr::new(198, 19, 0, 1);
/// Where pods look for names: the Service of CoreDNS (`dns`).
pub const NAME_SERVER: Ipv4Addr = Ipv4Addr::new(198, 19, 0, 10);
/// Addresses of the pods of all nodes.
pub const PODS: &str = "198.18.64.0/18";

/// A cluster's own corner of the machine, by its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    name: String,
}

impl Place {
    /// The place of the cluster `name`.
    ///
    /// # Errors
    /// The name does not fit a directory, a cgroup and a label.
    pub fn new(name: &str) -> Result<Self> {
        let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        ensure!(
            (1..=20).contains(&name.len()) && name.bytes().all(fits),
            "a cluster's name is 1 to 20 small letters and digits, not {name:?}"
        );
        Ok(Self { name: name.to_owned() })
    }

    /// The cluster's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Holds all its files. On a disk that survives a crash, so that the next start finds what to clean.
    pub fn directory(&self) -> PathBuf {
        Path::new("/var/tmp").join(format!("{PREFIX}{}", self.name))
    }

    /// Its directory in every cgroup hierarchy, from that hierarchy's mount.
    pub fn cgroup(&self) -> String {
        format!("{PREFIX}{}", self.name)
    }
}

/// A cluster that is or was up.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Layout {
    /// Its name.
    pub name: String,
    /// How many nodes it has.
    pub nodes: u8,
    /// The directory of the built programs: `cluster`, `pause.tar`, `dns.tar`.
    pub programs: PathBuf,
}

impl Layout {
    const FILE: &str = "layout.json";

    /// Reads what [`Self::write`] wrote below `directory`.
    ///
    /// # Errors
    /// There is none, or it is of another version of this program.
    pub fn read(directory: &Path) -> Result<Self> {
        let file = directory.join(Self::FILE);
        let text = fs::read(&file).with_context(|| format!("reading {}", file.display()))?;
        serde_json::from_slice(&text).with_context(|| format!("reading {}", file.display()))
    }

    /// Writes it into the cluster's directory.
    ///
    /// # Errors
    /// The file can't be written.
    pub fn write(&self) -> Result<()> {
        let file = self.file(Self::FILE);
        fs::write(&file, serde_json::to_vec(self)?).with_context(|| format!("writing {}", file.display()))
    }

    /// The cluster's place.
    pub fn place(&self) -> Place {
        Place { name: self.name.clone() }
    }

    /// A file in the cluster's directory.
    pub fn file(&self, name: &str) -> PathBuf {
        self.place().directory().join(name)
    }

    /// A program by its name: a symbolic link to the one binary.
    pub fn program(&self, name: &str) -> PathBuf {
        self.file("bin").join(name)
    }

    /// The administrator's way in; its address is only there in the nodes' network namespaces.
    pub fn kubeconfig(&self) -> PathBuf {
        self.file("admin.kubeconfig")
    }

    /// The nodes, the control plane's first.
    pub fn nodes(&self) -> impl Iterator<Item = NodeLayout> + '_ {
        (1..=self.nodes).map(|number| self.node(number))
    }

    /// The node of that number, from 1.
    pub fn node(&self, number: u8) -> NodeLayout {
        NodeLayout { number, directory: self.file(&format!("node-{number}")) }
    }
}

/// What belongs to one node.
#[derive(Clone, Debug)]
pub struct NodeLayout {
    /// From 1; the first carries the control plane.
    pub number: u8,
    directory: PathBuf,
}

impl NodeLayout {
    /// Its name in Kubernetes.
    pub fn name(&self) -> String {
        format!("node-{}", self.number)
    }

    /// A file in its directory.
    pub fn file(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// What the program `name` prints.
    pub fn log(&self, name: &str) -> PathBuf {
        self.directory.join("logs").join(format!("{name}.log"))
    }

    /// Its own address.
    pub fn address(&self) -> Ipv4Addr {
        Ipv4Addr::new(198, 18, 0, 10 + self.number)
    }

    /// The addresses of its pods.
    pub fn pods(&self) -> String {
        format!("198.18.{}.0/24", 64 + self.number)
    }

    /// Its cgroup below the cluster's: two kubelets on one machine must not see each other's pods.
    pub fn cgroup(&self, place: &Place) -> String {
        format!("{}/{}", place.cgroup(), self.name())
    }

    /// Written by the node when it has started everything.
    pub fn started(&self) -> PathBuf {
        self.file("started")
    }

    /// Written by the node: which of its programs have ended, a line each.
    pub fn ended(&self) -> PathBuf {
        self.file("ended")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_part_of_paths_and_stays_harmless() {
        assert_eq!(Place::new("e2e").unwrap().directory(), Path::new("/var/tmp/prescale-cluster-e2e"));
        for bad in ["", "..", "a/b", "A", "a b", "x-1", "abcdefghijklmnopqrstu"] {
            assert!(Place::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn nodes_do_not_share_anything() {
        let layout = Layout { name: "x".into(), nodes: 2, programs: "/p".into() };
        let nodes: Vec<_> = layout.nodes().collect();
        let place = layout.place();
        assert_ne!(nodes[0].address(), nodes[1].address());
        assert_ne!(nodes[0].pods(), nodes[1].pods());
        assert_ne!(nodes[0].cgroup(&place), nodes[1].cgroup(&place));
        assert_ne!(nodes[0].started(), nodes[1].started());
    }
}
