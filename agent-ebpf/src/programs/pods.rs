//! Which pod a packet belongs to: by the cgroup of its socket or one above it.

use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::helpers::generated::{bpf_map_lookup_elem, bpf_skb_ancestor_cgroup_id};
use prescale_agent_ebpf::layout::{PORTS, Pod};

use super::PODS;

/// Levels of the cgroup tree that are looked at. Kubernetes puts pods at 2 to 5, below a container engine inside
/// a container (kind) at up to 9.
const LEVELS: i32 = 16;

/// The pod's entry; null if its cgroup is not measured.
#[inline(always)]
pub unsafe fn of_packet(skb: *mut __sk_buff) -> *const Pod {
    unsafe {
        for level in 1..LEVELS {
            let id = bpf_skb_ancestor_cgroup_id(skb, level);
            if id == 0 {
                break;
            }
            let map = (&raw const PODS).cast_mut().cast();
            let pod: *const Pod = bpf_map_lookup_elem(map, (&raw const id).cast()).cast();
            if !pod.is_null() {
                return pod;
            }
        }
        core::ptr::null()
    }
}

/// Whether `port` (host byte order) is one of the pod's.
#[inline(always)]
pub unsafe fn listens_on(pod: *const Pod, port: u32) -> bool {
    unsafe {
        let used = (*pod).ports_used as usize;
        if used == 0 {
            return true;
        }
        for i in 0..PORTS {
            if i < used && *(&raw const (*pod).ports).cast::<u16>().add(i) as u32 == port {
                return true;
            }
        }
        false
    }
}
