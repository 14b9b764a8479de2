//! What the programs remember of one connection (SK_STORAGE), and the longer memory of pipelined ones.

use crate::http::Framer;

/// Requests whose arrival is remembered on a connection that pipelines. h2load and wrk pipeline some tens,
/// browsers nothing; beyond it the counts stay right and the latencies are those of the oldest remembered.
pub const PIPELINE_DEPTH: usize = 128;

/// One connection. Ingress writes its half, egress and the socket events (which hold the socket's lock) theirs.
///
/// The first 56 bytes share a cache line with the kernel's own 8, and hold all that a keep-alive request needs.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Connection {
    /// Index into the counters, without the shard.
    pub slot: u32,
    /// The attach that it belongs to; 0: not resolved yet.
    pub generation: u32,
    /// [`inward`] bits; written by ingress.
    pub inward: u32,
    /// [`outward`] bits; written by egress.
    pub outward: u32,
    /// Next sequence number expected to arrive; written by ingress.
    pub next_in: u32,
    /// Next sequence number expected to leave; written by egress.
    pub next_out: u32,
    /// Requests seen; written by ingress.
    pub pushed: u32,
    /// Requests ended; written by egress.
    pub popped: u32,
    /// Arrival of the request number `start_tag`, see [`mark`]; written by ingress while nothing is in flight.
    pub start_ns: u64,
    /// Bytes of the response's body, or chunk, still to come; written by egress.
    pub remaining_out: u64,
    /// Number (from 1) of the request that `start_ns` belongs to.
    pub start_tag: u32,
    /// The last response's shape: offset of the digits of its Content-Length, and in the upper half the bytes
    /// from their end to the end of the head; 0: none known. Written by egress. The next response on the connection
    /// mostly has the same.
    pub shape: u32,

    /// Bytes of the request's body, or chunk, still to come; written by ingress.
    pub remaining_in: u64,
    /// Arrival of the first byte of the request being read; written by ingress.
    pub message_in_ns: u64,
    /// First sequence number of data that arrived ahead of a hole, and the one after its end.
    pub ahead_from: u32,
    /// See `ahead_from`; both 0: none.
    pub ahead_to: u32,
    /// Departure of the first byte of the response being written; written by egress.
    pub message_out_ns: u64,
    /// Departure of the last payload; written by egress, only while a response is [`outward::OPEN`]-ended.
    pub last_out_ns: u64,
    /// Start of the request that ended last; written by egress.
    pub previous_start_ns: u64,
    /// Status class of the response being written; written by egress.
    pub class_out: u32,
    /// Why the connection is [`inward::OPAQUE`], a [`crate::layout::reason`].
    pub opaque_reason: u32,
    /// The request being read.
    pub framer_in: Framer,
    /// The response being written.
    pub framer_out: Framer,
}

/// State of the direction towards the pod.
pub mod inward {
    /// A connection with HTTP/1.x requests to the pod. Alone: between requests, the short way applies.
    pub const LIVE: u32 = 1;
    /// Inside a request.
    pub const BUSY: u32 = 2;
    /// Has pipelined: read every byte, remember arrivals in the ring.
    pub const PIPELINED: u32 = 4;
    /// Out of step: wait for a segment that begins with a request line.
    pub const LOST: u32 = 8;
    /// Was open before it was first seen, and no request has been recognised yet.
    pub const STRANGER: u32 = 16;
    /// Not to be measured: another port, or a connection that the pod opened.
    pub const IGNORED: u32 = 32;
    /// Carries payload that is not HTTP/1.x: only bytes and its end count.
    pub const OPAQUE: u32 = 64;
    /// Accepted while the program was attached, no payload yet: every byte will have been seen.
    pub const ACCEPTED: u32 = 128;
    /// Opened by the pod.
    pub const OPENED_BY_POD: u32 = 256;
    /// With `STRANGER`: the pod is surely the server, by its port.
    pub const SERVED: u32 = 512;
    /// The segment that is about to be read begins with a probe.
    pub const PROBE: u32 = 1024;
}

/// State of the direction from the pod.
pub mod outward {
    /// `next_out` is valid. Alone: between responses, the short way applies.
    pub const SYNCED: u32 = 1;
    /// Inside a response.
    pub const BUSY: u32 = 2;
    /// Inside a body of known length, with nothing else to be looked at.
    pub const BODY: u32 = 4;
    /// The response ends with the connection, or its end is not known.
    pub const OPEN: u32 = 8;
    /// The response answers a request that was never seen: one is made up from the last arrival.
    pub const LATE: u32 = 16;
    /// The response answers nothing: it is read, not counted.
    pub const GHOST: u32 = 32;
    /// Out of step: wait for a segment that begins with a status line.
    pub const LOST: u32 = 64;
    /// The pod has ended the connection.
    pub const CLOSED: u32 = 128;
    /// A switch of protocols: nothing more to follow.
    pub const OPAQUE: u32 = 256;
}

/// Low bits of a start time, that say more of the request; fifteen nanoseconds are nothing.
pub mod mark {
    /// A HEAD: its response has no body.
    pub const HEAD: u64 = 1;
    /// A CONNECT: what follows success is no HTTP.
    pub const CONNECT: u64 = 2;
    /// Taken without reading its segment to the end: there may be more requests in it.
    pub const UNREAD: u64 = 4;
    /// The kubelet's probe: counted apart. Only the first request of a connection can be one.
    pub const PROBE: u64 = 8;
    /// All of them.
    pub const ALL: u64 = 15;
}

/// Arrivals on a connection that pipelines: a ring, by request number.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Ring {
    /// Arrival, see [`mark`].
    pub start_ns: [u64; PIPELINE_DEPTH],
    /// Number (from 1) of the request in that place.
    pub tag: [u32; PIPELINE_DEPTH],
}

/// Names a connection whose request reached its listener before the connection had a socket of its own.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Early {
    /// Remote address; IPv4 mapped into IPv6.
    pub remote: [u32; 4],
    /// Remote port in the upper, local port in the lower half.
    pub ports: u32,
    /// Sequence number of the first byte.
    pub sequence: u32,
}

const _: () = assert!(core::mem::offset_of!(Connection, remaining_in) == 56);
const _: () = assert!(size_of::<Connection>().is_multiple_of(8));
