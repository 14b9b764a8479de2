//! Tells the kubelet's probes from requests: by the request line in the pod's spec and the kubelet's User-Agent.
//!
//! A kubelet opens a connection for each probe and writes the head in one piece, so only the segment that a connection
//! begins with is looked at: on one that is kept, nothing here costs anything. Both signs must be there. A user's request
//! for the same path has another User-Agent, and whoever takes the kubelet's on must also know the path.

use core::ffi::c_void;
use core::mem::MaybeUninit;

use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::helpers::generated::bpf_loop;
use prescale_agent_ebpf::layout::{LINE_HASH, PROBES, Pod, line_hash};

use super::packet::{WINDOW, load, window, word};

/// The kubelet writes Host and User-Agent right after the line: this is room for a path of 200 bytes.
const LOOK_BYTES: u32 = 512;
/// The end of `kube-probe/`; the version follows.
const AGENT: u64 = u64::from_be_bytes(*b"e-probe/");
const END_OF_HEAD: u32 = u32::from_be_bytes(*b"\r\n\r\n");

struct Look {
    skb: *mut __sk_buff,
    /// Offset in the packet of the next byte, and of the end.
    at: u32,
    end: u32,
    /// Offset in the packet that the window ends at.
    window_end: u32,
    /// 0: in the request line; 1: behind it; 2: the kubelet's User-Agent has been seen.
    state: u32,
    /// Of the request line.
    hash: u64,
    /// The last eight bytes behind the line.
    recent: u64,
    window: MaybeUninit<[u64; WINDOW / 8]>,
}

/// Whether the `len` bytes at offset `at` begin with a probe of the pod's.
#[inline(never)]
pub unsafe fn begins_one(skb: *mut __sk_buff, at: u32, len: u32, pod: *const Pod) -> bool {
    unsafe {
        if pod.is_null() || len < 16 {
            return false;
        }
        let begins = word(skb, at);
        let used = (*pod).probes_used as usize;
        let probes = (&raw const (*pod).probes).cast::<u64>();
        let mut likely = false;
        for i in 0..PROBES {
            likely |= i < used && *probes.add(2 * i) == begins;
        }
        if !likely {
            return false;
        }
        let most = if len < LOOK_BYTES { len } else { LOOK_BYTES };
        let mut look = Look {
            skb,
            at,
            end: at + most,
            window_end: 0,
            state: 0,
            hash: LINE_HASH,
            recent: 0,
            window: window(),
        };
        bpf_loop(most, step as *mut c_void, (&raw mut look).cast(), 0);
        if look.state != 2 {
            return false;
        }
        let mut found = false;
        for i in 0..PROBES {
            found |= i < used && *probes.add(2 * i) == begins && *probes.add(2 * i + 1) == look.hash;
        }
        found
    }
}

/// One byte. Returns 1 to stop.
#[inline(never)]
unsafe extern "C" fn step(_index: u64, look: *mut Look) -> i64 {
    unsafe {
        let at = (*look).at;
        if at >= (*look).end {
            return 1;
        }
        if at >= (*look).window_end {
            let left = ((*look).end - at) as u64;
            let size = if left < WINDOW as u64 { left } else { WINDOW as u64 };
            if !load((*look).skb, at, (&raw mut (*look).window).cast(), size) {
                return 1;
            }
            (*look).window_end = at + WINDOW as u32;
        }
        let index = (at + WINDOW as u32 - (*look).window_end) as usize & (WINDOW - 1);
        let byte = *(&raw const (*look).window).cast::<u8>().add(index);
        (*look).at = at + 1;
        if (*look).state == 0 {
            if byte == b'\r' {
                (*look).state = 1;
                (*look).recent = byte as u64;
            } else {
                (*look).hash = line_hash((*look).hash, byte);
            }
            return 0;
        }
        (*look).recent = (*look).recent << 8 | byte as u64;
        if (*look).recent == AGENT {
            (*look).state = 2;
            return 1;
        }
        // What follows the head is another request's.
        ((*look).recent as u32 == END_OF_HEAD) as i64
    }
}
