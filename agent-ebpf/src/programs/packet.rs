//! Packets: the TCP segment in a packet of a cgroup, its bytes, its times.

use core::arch::asm;
use core::mem::MaybeUninit;

use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::helpers::generated::{bpf_ktime_get_ns, bpf_skb_load_bytes};

pub const FIN: u32 = 1;
pub const RST: u32 = 4;
const TCP: u8 = 6;
/// Bytes that are fetched from a packet at once.
pub const WINDOW: usize = 64;

/// A TCP segment with its payload's place in the packet. GSO and GRO segments are one, whatever the IP header says.
#[derive(Clone, Copy)]
pub struct Segment {
    /// Sequence number of the first payload byte.
    pub sequence: u32,
    /// Offset of the payload in the packet.
    pub at: u32,
    /// Bytes of payload.
    pub len: u32,
    /// TCP flags.
    pub flags: u32,
}

/// The packet's TCP segment; `None` if it has none. Packets of a cgroup begin with the IP header.
#[inline(always)]
pub unsafe fn segment(skb: *mut __sk_buff) -> Option<Segment> {
    unsafe {
        let data = (*skb).data as usize;
        let end = (*skb).data_end as usize;
        if data + 40 > end {
            return None;
        }
        let first = *(data as *const u8);
        let mut header;
        if first >> 4 == 4 {
            if *((data + 9) as *const u8) != TCP {
                return None;
            }
            header = ((first & 15) as usize) << 2;
        } else {
            if *((data + 6) as *const u8) != TCP {
                return None;
            }
            header = 40;
        }
        // The bound is plain to us, not to the verifier.
        header &= 63;
        let tcp = data + header;
        if tcp + 20 > end {
            return None;
        }
        let sequence = u32::from_be(*((tcp + 4) as *const u32));
        let words = *((tcp + 12) as *const u8) >> 4;
        let flags = *((tcp + 13) as *const u8) as u32;
        let at = header as u32 + ((words as u32) << 2);
        let len = (*skb).len;
        if at > len {
            return None;
        }
        // A SYN takes the number before its data's.
        let sequence = sequence.wrapping_add((flags >> 1) & 1);
        Some(Segment { sequence, at, len: len - at, flags })
    }
}

/// `N` words at offset `at`, little endian; `None` if they are not there. Direct where the payload is linear.
#[inline(always)]
pub unsafe fn words<const N: usize>(skb: *mut __sk_buff, at: u32) -> Option<[u64; N]> {
    unsafe {
        let data = (*skb).data as usize;
        let end = (*skb).data_end as usize;
        // Offsets are small; the mask tells the verifier.
        let from = data + (at & 4095) as usize;
        let mut words = MaybeUninit::<[u64; N]>::uninit();
        let to = words.as_mut_ptr().cast::<u64>();
        if from + 8 * N <= end {
            for i in 0..N {
                // As if it were aligned: this machine does not care, and the compiler would load byte by byte.
                to.add(i).write(*(from as *const u64).add(i));
            }
        } else if bpf_skb_load_bytes(skb.cast(), at, to.cast(), 8 * N as u32) != 0 {
            return None;
        }
        Some(words.assume_init())
    }
}

/// The word at offset `at`, or 0.
#[inline(always)]
pub unsafe fn word(skb: *mut __sk_buff, at: u32) -> u64 {
    unsafe {
        match words::<1>(skb, at) {
            Some([word]) => word,
            None => 0,
        }
    }
}

/// An empty window. Older kernels want all of it written before a helper may fill a part.
#[inline(always)]
pub unsafe fn window() -> MaybeUninit<[u64; WINDOW / 8]> {
    let mut window = MaybeUninit::<[u64; WINDOW / 8]>::uninit();
    for i in 0..WINDOW / 8 {
        // SAFETY: inside the array. Volatile, or it would become a call of memset.
        unsafe { window.as_mut_ptr().cast::<u64>().add(i).write_volatile(0) };
    }
    window
}

/// Fetches `size` bytes, 1 to [`WINDOW`], from offset `at`; `false` if they are not there.
#[inline(always)]
pub unsafe fn load(skb: *mut __sk_buff, at: u32, to: *mut u8, mut size: u64) -> bool {
    unsafe {
        // The verifier wants to see the bounds at the call. The compiler knows them and would leave them out; and the
        // generated helper's 32-bit parameter would make it check a copy.
        asm!("{0} = {0}", inout(reg) size, options(nomem, nostack, preserves_flags));
        if size == 0 || size > WINDOW as u64 {
            return false;
        }
        type Helper = unsafe extern "C" fn(*mut __sk_buff, u64, *mut u8, u64) -> i64;
        let skb_load_bytes: Helper = core::mem::transmute(26usize);
        skb_load_bytes(skb, at as u64, to, size) == 0
    }
}

/// The monotonic clock, nanoseconds.
#[inline(always)]
pub unsafe fn now() -> u64 {
    unsafe { bpf_ktime_get_ns() }
}

/// When the packet leaves: TCP has stamped it a microsecond ago, on the same clock. A stamp that is missing, or
/// more than a second after `start` (a pacer may have dated it ahead), is checked against the clock.
#[inline(always)]
pub unsafe fn departure(skb: *mut __sk_buff, start: u64) -> u64 {
    unsafe {
        let stamp = (*skb).tstamp;
        if stamp.wrapping_sub(start) < 1 << 30 { stamp } else { now() }
    }
}
