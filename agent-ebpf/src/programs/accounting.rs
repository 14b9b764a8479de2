//! Counting: atomic adds, and a request's start, first byte, end.

use core::arch::asm;

use aya_ebpf::bindings::BPF_SK_STORAGE_GET_F_CREATE;
use aya_ebpf::helpers::generated::{bpf_get_smp_processor_id, bpf_map_lookup_elem, bpf_sk_storage_get};
use prescale_agent_ebpf::connection::{Connection, PIPELINE_DEPTH, Ring, inward, mark, outward};
use prescale_agent_ebpf::histogram::{BUCKETS, bucket_of};
use prescale_agent_ebpf::layout::{CLASSES, REASONS, TIME_BIAS_NS, Totals, reason};

use super::{CONNECTIONS, RINGS, SHARD_BITS, TOTALS};

/// Adds atomically. The target has no atomics in its core library.
#[inline(always)]
pub unsafe fn add(to: *mut u64, value: u64) {
    // SAFETY: the caller's pointer points into a map's value.
    unsafe { asm!("lock *(u64 *)({to} + 0) += {value}", to = in(reg) to, value = in(reg) value) };
}

#[inline(always)]
unsafe fn add_one(to: *mut u32) {
    // SAFETY: the caller's pointer points into a map's value.
    unsafe { asm!("lock *(u32 *)({to} + 0) += {value}", to = in(reg) to, value = in(reg) 1u64) };
}

/// `index`, or 0 if it is not below `size`: the verifier sees the bound, which the compiler would leave out.
#[inline(always)]
fn bounded(mut index: usize, size: usize) -> usize {
    // SAFETY: moves a register onto itself.
    unsafe { asm!("{0} = {0}", inout(reg) index, options(nomem, nostack, preserves_flags)) };
    if index < size { index } else { 0 }
}

/// This CPU's shard of `slot`; null if there is no such slot.
#[inline(always)]
pub unsafe fn totals(slot: u32) -> *mut Totals {
    unsafe {
        let bits = (&raw const SHARD_BITS).read_volatile();
        let index = slot << bits | (bpf_get_smp_processor_id() & ((1 << bits) - 1));
        bpf_map_lookup_elem((&raw const TOTALS).cast_mut().cast(), (&raw const index).cast()).cast()
    }
}

/// The connection of a socket; null if there is none yet.
#[inline(always)]
pub unsafe fn connection<T>(socket: *mut T) -> *mut Connection {
    unsafe {
        let map = (&raw const CONNECTIONS).cast_mut().cast();
        bpf_sk_storage_get(map, socket.cast(), core::ptr::null_mut(), 0).cast()
    }
}

/// The connection of a socket, made from `first` (or zeros) if there is none; null if there is no memory.
#[inline(always)]
pub unsafe fn create_connection<T>(socket: *mut T, first: *mut Connection) -> *mut Connection {
    unsafe {
        let map = (&raw const CONNECTIONS).cast_mut().cast();
        bpf_sk_storage_get(map, socket.cast(), first.cast(), BPF_SK_STORAGE_GET_F_CREATE as u64).cast()
    }
}

#[inline(always)]
unsafe fn ring<T>(socket: *mut T, flags: u32) -> *mut Ring {
    unsafe {
        let map = (&raw const RINGS).cast_mut().cast();
        bpf_sk_storage_get(map, socket.cast(), core::ptr::null_mut(), flags as u64).cast()
    }
}

/// Counts traffic that can't be accounted for.
#[inline(always)]
pub unsafe fn blame(totals: *mut Totals, reason: u32) {
    unsafe { add_one((&raw mut (*totals).reasons).cast::<u32>().add(reason as usize & (REASONS - 1))) }
}

/// Counts `count` requests that arrived at `at`.
#[inline(always)]
pub unsafe fn count_starts(totals: *mut Totals, count: u64, at: u64) {
    unsafe {
        add(&raw mut (*totals).starts, count);
        add(&raw mut (*totals).sum_start_ns, count.wrapping_mul(at.wrapping_add(TIME_BIAS_NS)));
    }
}

#[inline(always)]
unsafe fn count_ends(totals: *mut Totals, count: u64, at: u64) {
    unsafe {
        add(&raw mut (*totals).ends, count);
        add(&raw mut (*totals).sum_end_ns, count.wrapping_mul(at.wrapping_add(TIME_BIAS_NS)));
    }
}

/// A request has arrived: remembers when, and counts it. `socket` is null where no ring can be.
#[inline(always)]
pub unsafe fn push<T>(c: *mut Connection, t: *mut Totals, socket: *mut T, start: u64) {
    unsafe {
        let number = (*c).pushed.wrapping_add(1);
        let waiting = (*c).pushed.wrapping_sub((*c).popped);
        if waiting == 0 {
            (*c).start_ns = start;
            (*c).start_tag = number;
        } else {
            (*c).inward |= inward::PIPELINED;
            let ring = if socket.is_null() {
                core::ptr::null_mut()
            } else {
                ring(socket, BPF_SK_STORAGE_GET_F_CREATE)
            };
            if ring.is_null() {
                blame(t, reason::NO_MEMORY);
            } else if waiting as usize >= PIPELINE_DEPTH {
                blame(t, reason::PIPELINE_OVERFLOW);
            } else {
                let place = number as usize & (PIPELINE_DEPTH - 1);
                *(&raw mut (*ring).start_ns).cast::<u64>().add(place) = start;
                *(&raw mut (*ring).tag).cast::<u32>().add(place) = number;
            }
        }
        (*c).pushed = number;
        if start & mark::PROBE != 0 {
            add(&raw mut (*t).probe_starts, 1);
        } else {
            count_starts(t, 1, start & !mark::ALL);
        }
    }
}

/// The start of the request that is to be answered next; what was not remembered has the start of the one before.
#[inline(always)]
pub unsafe fn oldest_start<T>(c: *mut Connection, socket: *mut T) -> u64 {
    unsafe {
        let number = (*c).popped.wrapping_add(1);
        if (*c).start_tag == number || (*c).outward & outward::LATE != 0 {
            return (*c).start_ns;
        }
        let ring = ring(socket, 0);
        if !ring.is_null() {
            let place = number as usize & (PIPELINE_DEPTH - 1);
            if *(&raw const (*ring).tag).cast::<u32>().add(place) == number {
                return *(&raw const (*ring).start_ns).cast::<u64>().add(place);
            }
        }
        (*c).previous_start_ns
    }
}

/// Whether a probe, the first request of its connection, has not been answered.
#[inline(always)]
unsafe fn probe_waits(c: *mut Connection) -> bool {
    unsafe { (*c).popped == 0 && (*c).start_tag == 1 && (*c).start_ns & mark::PROBE != 0 }
}

/// The first byte of a final response has left at `at`.
#[inline(always)]
pub unsafe fn count_first_byte(t: *mut Totals, start: u64, at: u64) {
    unsafe {
        let bucket = bucket_of(at.saturating_sub(start & !mark::ALL));
        add_one((&raw mut (*t).first_byte).cast::<u32>().add(bounded(bucket, BUCKETS)));
    }
}

/// The last byte of a response of class `class` has left at `at`.
#[inline(always)]
pub unsafe fn count_last_byte(t: *mut Totals, class: u32, start: u64, at: u64) {
    unsafe {
        let bucket = bucket_of(at.saturating_sub(start & !mark::ALL));
        let cell = bounded((class as usize & 7) * BUCKETS + bucket, CLASSES * BUCKETS);
        add_one((&raw mut (*t).last_byte).cast::<u32>().add(cell));
        count_ends(t, 1, at);
    }
}

/// The response being written is complete as of `at`.
#[inline(always)]
pub unsafe fn finish<T>(c: *mut Connection, t: *mut Totals, socket: *mut T, at: u64) {
    unsafe {
        let state = (*c).outward;
        if state & outward::GHOST == 0 {
            let start = oldest_start(c, socket);
            if state & outward::LATE == 0 {
                (*c).popped = (*c).popped.wrapping_add(1);
                // Who takes it for its own is no probe.
                (*c).previous_start_ns = start & !mark::PROBE;
            }
            if start & mark::PROBE != 0 && state & outward::LATE == 0 {
                add(&raw mut (*t).probe_finishes, 1);
            } else {
                count_last_byte(t, (*c).class_out, start, at);
            }
        }
        (*c).outward =
            state & !(outward::GHOST | outward::LATE | outward::OPEN | outward::BUSY | outward::BODY);
    }
}

/// The connection ends: what ended with it is complete (`orderly`), what was open is aborted.
#[inline(always)]
pub unsafe fn close<T>(c: *mut Connection, t: *mut Totals, socket: *mut T, at: u64, orderly: bool) {
    unsafe {
        let answering = (*c).pushed != (*c).popped || (*c).outward & outward::LATE != 0;
        if orderly && (*c).outward & outward::OPEN != 0 && answering {
            let last = (*c).last_out_ns;
            finish(c, t, socket, last);
        }
        let mut aborted = (*c).pushed.wrapping_sub((*c).popped) as u64;
        if aborted > 0 && probe_waits(c) {
            aborted -= 1;
            (*c).popped = 1;
        }
        if (*c).outward & outward::LATE != 0 {
            aborted += 1;
        }
        if aborted > 0 {
            (*c).popped = (*c).pushed;
            add(&raw mut (*t).aborts, aborted);
            count_ends(t, aborted, at);
        }
        if (*c).outward & outward::CLOSED == 0 && (*c).inward & (inward::LIVE | inward::OPAQUE) != 0 {
            add(&raw mut (*t).closed, 1);
        }
        (*c).outward = outward::CLOSED;
    }
}
