//! The maps' layouts. Whoever changes one raises [`ABI`]: the loader refuses an object with another number.

use crate::histogram::BUCKETS;

/// Number of this layout; the object carries it in [`ABI_MARKER`].
pub const ABI: u32 = 3;

/// What stands in front of the ABI number (decimal, ended by a zero byte) in an object.
pub const ABI_MARKER: &[u8; 20] = b"prescale-kernel-abi=";

/// Status classes: unknown, 1xx, 2xx, 3xx, 4xx, 5xx; two spare so that an index masks cheaply.
pub const CLASSES: usize = 8;

/// Reason counters; see [`reason`].
pub const REASONS: usize = 16;

/// Ports that one pod can be limited to; a pod with more listens on all.
pub const PORTS: usize = 16;

/// Request lines of probes that one pod can have: as many as the wire carries.
pub const PROBES: usize = 16;

/// At most this many shards per pod: beyond eight CPUs, CPUs share. A shard costs [`Totals`]' 8 KB, so that
/// 110 pods stay under 7.1 MB on any machine.
pub const SHARDS: usize = 8;

/// Why traffic could not be accounted for, as indices; `prescale_core::counters::Unaccounted` has the same order.
pub mod reason {
    #![allow(missing_docs, reason = "documented at `Unaccounted`")]
    pub const NOT_HTTP: u32 = 0;
    pub const SEQUENCE_GAP: u32 = 1;
    pub const UNEXPECTED_RESPONSE: u32 = 2;
    pub const MID_STREAM: u32 = 3;
    pub const NO_MEMORY: u32 = 4;
    pub const PIPELINE_OVERFLOW: u32 = 5;
    pub const UNPARSED: u32 = 6;
    pub const TLS: u32 = 7;
    pub const HTTP2: u32 = 8;
}

/// One pod's counters on one shard; all only ever grow (wrapping), except when the agent resets the slot.
///
/// The number in flight and its integral follow from two pairs: with `n = starts - ends`, the integral of the
/// number in flight up to time `t` is `sum_end_ns - sum_start_ns + n * t`. A pair's two words lie in one cache
/// line and are written next to each other; every time is offset by [`TIME_BIAS_NS`], so that a read that falls
/// between the two writes is off by so much that the agent sees it and reads again.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Totals {
    /// Which attach the slot belongs to; sockets of another one must not count here.
    pub generation: u32,
    /// Keeps the next field aligned.
    pub unused: u32,
    /// Requests that ended: response complete, or aborted.
    pub ends: u64,
    /// Sum of their end times, each plus [`TIME_BIAS_NS`], wrapping.
    pub sum_end_ns: u64,
    /// Payload bytes that left.
    pub bytes_sent: u64,
    /// Requests whose connection ended before the response did.
    pub aborts: u64,
    /// Connections that carried payload and have ended.
    pub closed: u64,
    /// Segments that were seen again on their way out.
    pub retransmits_out: u64,
    /// Segments that were seen again on their way in.
    pub retransmits_in: u64,
    /// Requests whose first byte arrived.
    pub starts: u64,
    /// Sum of their arrival times, each plus [`TIME_BIAS_NS`], wrapping.
    pub sum_start_ns: u64,
    /// Payload bytes that arrived.
    pub bytes_received: u64,
    /// Connections that carried payload.
    pub opened: u64,
    /// Payload bytes that arrived on connections whose requests can't be read: TLS, HTTP/2, after an upgrade.
    pub bytes_unread: u64,
    /// Probes of the kubelet that arrived; in nothing else of this but bytes and connections.
    pub probe_starts: u64,
    /// Of these, those whose response's last byte left.
    pub probe_finishes: u64,
    /// Room up to the cache line.
    pub spare: [u64; 1],
    /// Unaccounted traffic, by [`reason`].
    pub reasons: [u32; REASONS],
    /// Arrival to first byte of the final response.
    pub first_byte: [u32; BUCKETS],
    /// Arrival to last byte of the response, by class; a class' sum is the number of its finishes.
    pub last_byte: [[u32; BUCKETS]; CLASSES],
    /// Room up to the cache line.
    pub spare_cells: [u32; 8],
}

impl Totals {
    /// The size of one shard's counters, bytes.
    pub const SIZE: usize = size_of::<Self>();
}

/// Added to every time in a sum: 2^58 request-nanoseconds, eight times what 300,000 requests a second bring in
/// 15 s, the longest that the agent may go without a read under such a load.
pub const TIME_BIAS_NS: u64 = 1 << 58;

/// A pod's entry, by the id of its cgroup.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Pod {
    /// Index of its counters.
    pub slot: u32,
    /// As in [`Totals::generation`].
    pub generation: u32,
    /// How many of `ports` count; 0: all ports do.
    pub ports_used: u32,
    /// Local ports, host byte order.
    pub ports: [u16; PORTS],
    /// How many of `probes` there are.
    pub probes_used: u32,
    /// Its probes.
    pub probes: [Probe; PROBES],
}

/// One probe's request line, `GET /path HTTP/1.1`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probe {
    /// Its first eight bytes, little endian: what is compared before anything else is read.
    pub begins: u64,
    /// [`line_hash`] of all of it.
    pub hash: u64,
}

impl Probe {
    /// No probe.
    pub const NONE: Self = Self { begins: 0, hash: 0 };

    /// Of a line without its end; `None` for one that is shorter than any that HTTP knows.
    pub fn of(line: &[u8]) -> Option<Self> {
        let begins = u64::from_le_bytes(*line.first_chunk()?);
        Some(Self { begins, hash: line.iter().fold(LINE_HASH, |hash, byte| line_hash(hash, *byte)) })
    }
}

/// [`line_hash`] of nothing.
pub const LINE_HASH: u64 = 0xcbf2_9ce4_8422_2325;

/// One more byte of a line: FNV-1a.
#[inline(always)]
pub fn line_hash(hash: u64, byte: u8) -> u64 {
    (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
}

const _: () = assert!(size_of::<Totals>().is_multiple_of(64) && size_of::<Totals>() < 8 * 1024);
const _: () = assert!(size_of::<Pod>() == 48 + PROBES * 16);

#[cfg(feature = "user")]
#[allow(unsafe_code)]
mod user {
    // SAFETY: plain integers, `repr(C)`, no padding (the sizes are asserted above), any bit pattern is valid.
    unsafe impl aya::Pod for super::Totals {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::Pod {}
}
