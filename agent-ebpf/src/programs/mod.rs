//! The programs' entry points and maps. Every program has one exit, and it returns 1: no packet is ever dropped.
//!
//! `requests` reads what arrives, `responses` what leaves, `sockets` what becomes of the connection.

mod accounting;
mod packet;
mod pods;
mod probes;
mod requests;
mod responses;
mod sockets;

use aya_ebpf::btf_maps::{Array, HashMap, LruHashMap, SkStorage};
use aya_ebpf::macros::{btf_map, cgroup_skb, sock_ops};
use aya_ebpf::programs::{SkBuffContext, SockOpsContext};
use prescale_agent_ebpf::connection::{Connection, Early, Ring};
use prescale_agent_ebpf::layout::{Pod, Totals};

/// Counters: index `slot << SHARD_BITS | shard`. The loader sets the size.
#[btf_map]
static TOTALS: Array<Totals, 1> = Array::new();

/// Pods by the id of their cgroup. The loader sets the size.
#[btf_map]
static PODS: HashMap<u64, Pod, 1> = HashMap::new();

/// One [`Connection`] per socket, freed with it.
#[btf_map]
static CONNECTIONS: SkStorage<Connection> = SkStorage::new();

/// Only sockets that pipeline have one.
#[btf_map]
static RINGS: SkStorage<Ring> = SkStorage::new();

/// Requests that reached a listener (deferred accept, TCP fast open, a lost handshake ACK) before their connection
/// existed. They wait here for as long as it takes to create it: 1024 at once are far beyond a listen backlog.
#[btf_map]
static EARLY: LruHashMap<Early, Connection, 1024> = LruHashMap::new();

/// Where the reading of an early request counts: its connection may never come to be.
#[btf_map]
static NOWHERE: Array<Totals, 1> = Array::new();

/// How many low bits of a counter index are the shard; set by the loader.
#[unsafe(no_mangle)]
static SHARD_BITS: u32 = 0;

/// What the loader looks for in the object file: `ABI_MARKER` and the number, in a section of its own.
#[unsafe(no_mangle)]
#[unsafe(link_section = "prescale_abi")]
#[used]
static ABI_NUMBER: [u8; 24] = *b"prescale-kernel-abi=3\0\0\0";

#[cgroup_skb(ingress)]
pub fn ingress(context: SkBuffContext) -> i32 {
    // SAFETY: the context is the packet that the kernel runs this program for.
    unsafe { requests::arrive(context.skb.skb) };
    1
}

#[cgroup_skb(egress)]
pub fn egress(context: SkBuffContext) -> i32 {
    // SAFETY: the context is the packet that the kernel runs this program for.
    unsafe { responses::leave(context.skb.skb) };
    1
}

#[sock_ops]
pub fn sockets(context: SockOpsContext) -> u32 {
    // SAFETY: the context is the socket event that the kernel runs this program for.
    unsafe { sockets::change(context.ops) };
    1
}

/// Does nothing: what a pair of programs costs before it does anything. `kernel_cost` loads it, the agent does not.
#[cgroup_skb(ingress)]
pub fn empty_in(_: SkBuffContext) -> i32 {
    1
}

/// As [`empty_in`].
#[cgroup_skb(egress)]
pub fn empty_out(_: SkBuffContext) -> i32 {
    1
}

#[unsafe(no_mangle)]
#[unsafe(link_section = "license")]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
