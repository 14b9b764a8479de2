//! The finder on directory trees recorded from kubelets with both drivers, kind and k3d.

use super::*;

const WEB: &str = "0f5c0d1a-6f0e-4a59-9f6e-0a6a3f1b7c11";
const API: &str = "7d1a4b0c-1b7e-4c0d-8a51-5a1f0f3f2e22";
const JOB: &str = "c3f2f6d8-2f4d-4d7b-b0c8-9c0d7a5e4f33";

/// A directory tree in a temporary directory, removed at the end.
struct Tree(PathBuf);

impl Tree {
    fn new(test: &str, directories: &[String]) -> Self {
        let root = std::env::temp_dir().join(format!("prescale-finder-{test}-{}", std::process::id()));
        fs::create_dir_all(&root).unwrap();
        let tree = Self(root);
        for directory in directories {
            tree.add(directory);
        }
        tree
    }

    fn add(&self, directory: &str) {
        fs::create_dir_all(self.0.join(directory)).unwrap();
    }

    fn remove(&self, directory: &str) {
        fs::remove_dir_all(self.0.join(directory)).unwrap();
    }

    fn finder(&self) -> Finder {
        Finder::new(self.0.clone())
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn wanted(uids: &[&str]) -> BTreeSet<String> {
    uids.iter().map(|&uid| uid.to_owned()).collect()
}

fn found(finder: &mut Finder, seconds: u64, uids: &[&str]) -> Vec<(String, String)> {
    let root = finder.root.clone();
    let found = finder.find(Mono(seconds * 1_000_000_000), &wanted(uids));
    let relative = |path: PathBuf| path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
    found.into_iter().map(|(uid, path)| (uid, relative(path))).collect()
}

fn underscored(uid: &str) -> String {
    uid.replace('-', "_")
}

/// What a full search of `tree` must find for the three pods, one of each QoS class.
fn check(test: &str, burstable: &str, best_effort: &str, guaranteed: &str) {
    let trees = [burstable, best_effort, guaranteed].map(|pod| format!("{pod}/cri-containerd-6b1e.scope"));
    let tree = Tree::new(test, &trees);
    tree.add("system.slice/containerd.service");
    tree.add("user.slice/user-0.slice/session-1.scope");
    let expected = [(WEB, burstable), (API, best_effort), (JOB, guaranteed)];
    let expected = expected.map(|(uid, path)| (uid.to_owned(), path.to_owned()));
    assert_eq!(found(&mut tree.finder(), 0, &[WEB, API, JOB]), expected);
}

#[test]
fn systemd_driver() {
    check(
        "systemd",
        &format!("kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{}.slice", underscored(WEB)),
        &format!(
            "kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod{}.slice",
            underscored(API)
        ),
        &format!("kubepods.slice/kubepods-pod{}.slice", underscored(JOB)),
    );
}

#[test]
fn cgroupfs_driver() {
    check(
        "cgroupfs",
        &format!("kubepods/burstable/pod{WEB}"),
        &format!("kubepods/besteffort/pod{API}"),
        &format!("kubepods/pod{JOB}"),
    );
}

#[test]
fn kind_with_the_systemd_driver() {
    let top = "kubelet.slice/kubelet-kubepods.slice";
    check(
        "kind",
        &format!(
            "{top}/kubelet-kubepods-burstable.slice/kubelet-kubepods-burstable-pod{}.slice",
            underscored(WEB)
        ),
        &format!(
            "{top}/kubelet-kubepods-besteffort.slice/kubelet-kubepods-besteffort-pod{}.slice",
            underscored(API)
        ),
        &format!("{top}/kubelet-kubepods-pod{}.slice", underscored(JOB)),
    );
}

#[test]
fn nodes_that_are_containers_seen_from_their_host() {
    let node = "system.slice/docker-7c2f9b.scope";
    check(
        "k3d",
        &format!("{node}/kubepods/burstable/pod{WEB}"),
        &format!("{node}/kubepods/besteffort/pod{API}"),
        &format!("machine.slice/libpod-55.scope/kubelet/kubepods/pod{JOB}"),
    );
}

#[test]
fn names_that_only_look_like_pods() {
    let uid = |name: &str| pod_uid(OsStr::new(name));
    assert_eq!(uid("kubepods"), None);
    assert_eq!(uid("kubepods.slice"), None);
    assert_eq!(uid("kubepods-burstable.slice"), None);
    assert_eq!(uid("pod"), None);
    assert_eq!(uid("poddemo-3").unwrap(), "demo-3");
    // Podman's own slices are searched, not taken for a pod.
    let inside = format!("podman.slice/kubepods/pod{WEB}");
    let tree = Tree::new("podman", std::slice::from_ref(&inside));
    assert_eq!(found(&mut tree.finder(), 0, &[WEB]), [(WEB.to_owned(), inside)]);
}

#[test]
fn a_new_pod_beside_others_costs_one_directory() {
    let tree = Tree::new("beside", &[format!("a/b/kubepods/burstable/pod{WEB}")]);
    for other in 0..50 {
        tree.add(&format!("system.slice/unit-{other}.service"));
    }
    let mut finder = tree.finder();
    assert_eq!(found(&mut finder, 0, &[WEB]).len(), 1);
    assert!(found(&mut finder, 1, &[API]).is_empty());
    tree.add(&format!("a/b/kubepods/burstable/pod{API}"));
    let before = finder.directories_read;
    assert_eq!(found(&mut finder, 1, &[API]).len(), 1);
    assert_eq!(finder.directories_read - before, 1);
}

#[test]
fn a_pod_that_stays_missing_is_searched_for_ever_less_often() {
    let tree = Tree::new("missing", &["kubepods/burstable".to_owned()]);
    let mut finder = tree.finder();
    let mut searches = 0;
    for second in 0..100 {
        let before = finder.directories_read;
        assert!(found(&mut finder, second, &[WEB]).is_empty());
        searches += u32::from(finder.directories_read > before);
    }
    assert!((10..=20).contains(&searches), "{searches}");
    // Somebody new is searched for at once.
    tree.add(&format!("kubepods/besteffort/pod{API}"));
    assert_eq!(found(&mut finder, 100, &[WEB, API]).len(), 1);
    // The one that was missing is found within the longest wait.
    tree.add(&format!("kubepods/guaranteed/pod{WEB}"));
    assert_eq!(found(&mut finder, 111, &[WEB]).len(), 1);
}

#[test]
fn a_home_that_vanished_is_forgotten_and_found_again() {
    let tree = Tree::new("vanished", &[format!("kubepods/burstable/pod{WEB}")]);
    let mut finder = tree.finder();
    assert_eq!(found(&mut finder, 0, &[WEB]).len(), 1);
    tree.remove("kubepods");
    assert!(found(&mut finder, 1, &[WEB]).is_empty());
    tree.add(&format!("kubepods.slice/kubepods-burstable.slice/kubepods-pod{}.slice", underscored(WEB)));
    assert_eq!(found(&mut finder, 12, &[WEB]).len(), 1);
}

#[test]
fn nothing_wanted_reads_nothing() {
    let tree = Tree::new("idle", &[format!("kubepods/pod{WEB}")]);
    let mut finder = tree.finder();
    assert!(found(&mut finder, 0, &[]).is_empty());
    assert_eq!(finder.directories_read, 0);
}
