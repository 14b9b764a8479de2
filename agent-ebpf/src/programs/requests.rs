//! What arrives: recognises requests and follows them to their end.
//!
//! The short way takes a GET between two messages by its first four bytes, on a connection that is known to speak
//! HTTP/1.x. Everything else is read byte by byte: the first segment, methods with bodies, split heads, pipelining.
//! Ingress runs before TCP's own checks: segments come twice, out of order, or to the listener.

use core::ffi::c_void;
use core::mem::MaybeUninit;

use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::helpers::generated::{bpf_loop, bpf_map_lookup_elem, bpf_map_update_elem};
use prescale_agent_ebpf::connection::{Connection, Early, inward, mark, outward};
use prescale_agent_ebpf::http::{Event, phase, seen};
use prescale_agent_ebpf::layout::{Pod, Totals, reason};
use prescale_agent_ebpf::sequence::place;

use super::accounting::{add, blame, connection, count_starts, create_connection, push, totals};
use super::packet::{Segment, WINDOW, load, now, segment, window, word};
use super::{EARLY, NOWHERE, pods, probes};

const GET: u32 = u32::from_le_bytes(*b"GET ");
const HTTP: u32 = u32::from_le_bytes(*b"HTTP");
const TLS_HANDSHAKE: u8 = 0x16;
const TCP_LISTEN: u32 = 10;

/// A packet has arrived.
#[inline(always)]
pub unsafe fn arrive(skb: *mut __sk_buff) {
    unsafe {
        let Some(s) = segment(skb) else { return };
        if s.len == 0 {
            return;
        }
        let socket = (*skb).__bindgen_anon_2.sk;
        if socket.is_null() {
            return;
        }
        let c = connection(socket);
        if c.is_null() {
            return meet(skb, &s);
        }
        let t = totals((*c).slot);
        if t.is_null() || (*t).generation != (*c).generation {
            return meet(skb, &s);
        }
        // The short way, and it alone, costs no more than it must.
        if (*c).inward == inward::LIVE
            && (*c).next_in == s.sequence
            && (*c).pushed == (*c).popped
            && s.len >= 16
            && word(skb, s.at) as u32 == GET
        {
            let now = now() & !mark::ALL;
            let number = (*c).pushed.wrapping_add(1);
            (*c).start_ns = now | mark::UNREAD;
            (*c).start_tag = number;
            (*c).pushed = number;
            (*c).next_in = s.sequence.wrapping_add(s.len);
            count_starts(t, 1, now);
            add(&raw mut (*t).bytes_received, s.len as u64);
            return;
        }
        read(skb, c, t, &s);
    }
}

/// Whether a segment begins with one of the methods that the framer takes.
#[inline(always)]
fn begins_request(first: u32) -> bool {
    const METHODS: [u32; 18] = {
        let names = [
            b"GET ", b"POST", b"PUT ", b"HEAD", b"DELE", b"PATC", b"OPTI", b"TRAC", b"CONN", b"PROP",
            b"MKCO", b"COPY", b"MOVE", b"LOCK", b"UNLO", b"REPO", b"PURG", b"QUER",
        ];
        let mut methods = [0; 18];
        let mut i = 0;
        while i < names.len() {
            methods[i] = u32::from_le_bytes(*names[i]);
            i += 1;
        }
        methods
    };
    let mut found = false;
    for method in METHODS {
        found |= first == method;
    }
    found
}

/// Whether the `fresh` bytes at offset `at` are the rest of a message that is not read: of one taken unread, or of
/// whatever we are lost in. Too few bytes to tell are read while lost: clients write heads in small pieces.
#[inline(always)]
unsafe fn elsewhere(skb: *mut __sk_buff, at: u32, fresh: u32, unread: bool, lost: bool) -> bool {
    if fresh < 8 {
        return unread && !lost;
    }
    unsafe { (unread || lost) && !begins_request(word(skb, at) as u32) }
}

/// Payload on a connection that is not known to belong to a pod yet.
#[inline(never)]
unsafe fn meet(skb: *mut __sk_buff, s: &Segment) {
    unsafe {
        let socket = (*skb).__bindgen_anon_2.sk;
        if socket.is_null() {
            return;
        }
        let pod = pods::of_packet(skb);
        if pod.is_null() {
            return;
        }
        let (slot, generation) = ((*pod).slot, (*pod).generation);
        let t = totals(slot);
        if t.is_null() {
            return;
        }
        let counts = pods::listens_on(pod, (*socket).src_port);
        if (*socket).state == TCP_LISTEN {
            if counts {
                remember(skb, s, pod);
            }
            return;
        }
        let c = create_connection(socket, core::ptr::null_mut());
        if c.is_null() {
            return blame(t, reason::NO_MEMORY);
        }
        let before = (*c).inward;
        if before & inward::OPENED_BY_POD != 0 {
            return;
        }
        let accepted = before & inward::ACCEPTED != 0 && (*c).generation == 0;
        (*c).slot = slot;
        (*c).generation = generation;
        (*c).pushed = 0;
        (*c).popped = 0;
        (*c).start_tag = 0;
        (*c).start_ns = 0;
        (*c).remaining_in = 0;
        (*c).remaining_out = 0;
        (*c).ahead_from = 0;
        (*c).ahead_to = 0;
        (*c).framer_in.reset();
        (*c).framer_out.reset();
        if !counts || (!accepted && word(skb, s.at) as u32 == HTTP) {
            (*c).inward = inward::IGNORED;
            return;
        }
        if accepted {
            (*c).inward = inward::LIVE;
            if (*pod).probes_used > 0 && probes::begins_one(skb, s.at, s.len, pod) {
                (*c).inward |= inward::PROBE;
            }
            (*c).outward = 0;
            add(&raw mut (*t).opened, 1);
        } else {
            // Whose end it is shows only in the port: one that the pod states, or one that no kernel lends to clients
            // (`ip_local_port_range` begins at 32768).
            let served = (*pod).ports_used > 0 || (*socket).src_port < 32_768;
            let served = if served { inward::SERVED } else { 0 };
            (*c).inward = inward::LIVE | inward::LOST | inward::STRANGER | served;
            (*c).outward = outward::LOST;
            (*c).next_in = s.sequence;
        }
        read(skb, c, t, s);
        (*c).inward &= !inward::PROBE;
    }
}

/// A request that reached the listener is read, and kept for the connection that is about to be made.
#[inline(always)]
unsafe fn remember(skb: *mut __sk_buff, s: &Segment, pod: *const Pod) {
    unsafe {
        let Some(key) = early_key(skb, s) else { return };
        let map = (&raw const EARLY).cast_mut().cast::<c_void>();
        let key = (&raw const key).cast::<c_void>();
        // Most of it is zero; a map's value is the cheapest zeroed memory there is.
        let zero = 0u32;
        let nowhere: *mut Totals =
            bpf_map_lookup_elem((&raw const NOWHERE).cast_mut().cast(), (&raw const zero).cast()).cast();
        if nowhere.is_null() {
            return;
        }
        const NEW_ONLY: u64 = 1;
        // `last_byte` of a pod that is nobody's is never written where the zeros are taken from.
        let zeros = (&raw const (*nowhere).last_byte).cast::<c_void>();
        if bpf_map_update_elem(map, key, zeros, NEW_ONLY) != 0 {
            return;
        }
        let c: *mut Connection = bpf_map_lookup_elem(map, key).cast();
        if c.is_null() {
            return;
        }
        (*c).slot = (*pod).slot;
        (*c).generation = (*pod).generation;
        (*c).inward = inward::LIVE;
        (*c).next_in = s.sequence;
        if (*pod).probes_used > 0 && probes::begins_one(skb, s.at, s.len, pod) {
            (*c).inward |= inward::PROBE;
        }
        read(skb, c, nowhere, s);
        (*c).inward &= !inward::PROBE;
    }
}

#[inline(always)]
unsafe fn early_key(skb: *mut __sk_buff, s: &Segment) -> Option<Early> {
    unsafe {
        let data = (*skb).data as usize;
        let end = (*skb).data_end as usize;
        if data + 44 > end {
            return None;
        }
        let mut key = Early { remote: [0; 4], ports: 0, sequence: s.sequence };
        let ports;
        if *(data as *const u8) >> 4 == 4 {
            key.remote[2] = u32::from_be(0xffff);
            key.remote[3] = *((data + 12) as *const u32);
            let header = ((*(data as *const u8) & 15) as usize) << 2;
            ports = data + header;
        } else {
            key.remote[0] = *((data + 8) as *const u32);
            key.remote[1] = *((data + 12) as *const u32);
            key.remote[2] = *((data + 16) as *const u32);
            key.remote[3] = *((data + 20) as *const u32);
            ports = data + 40;
        }
        if ports + 4 > end {
            return None;
        }
        key.ports = u32::from_be(*(ports as *const u32));
        Some(key)
    }
}

struct Walk {
    skb: *mut __sk_buff,
    c: *mut Connection,
    t: *mut Totals,
    now: u64,
    /// Offset in the packet of the next byte, and of the end.
    at: u32,
    end: u32,
    /// Offset in the packet that the window ends at.
    window_end: u32,
    window: MaybeUninit<[u64; WINDOW / 8]>,
}

/// Follows a segment of a connection of ours.
#[inline(never)]
unsafe fn read(skb: *mut __sk_buff, c: *mut Connection, t: *mut Totals, s: &Segment) {
    unsafe {
        let state = (*c).inward;
        if state & (inward::IGNORED | inward::OPENED_BY_POD) != 0 {
            return;
        }
        let p = place((*c).next_in, s.sequence, s.len);
        if p.advance == 0 {
            add(&raw mut (*t).retransmits_in, 1);
            return;
        }
        let end = s.sequence.wrapping_add(s.len);
        if state & inward::OPAQUE != 0 {
            (*c).next_in = end;
            add(&raw mut (*t).bytes_received, p.advance as u64);
            add(&raw mut (*t).bytes_unread, p.advance as u64);
            return;
        }
        if p.hole > 0 && state & inward::LOST == 0 {
            if (*c).remaining_in < p.hole as u64 {
                // What is missing matters. It will come again; this segment will not, but the server gets it.
                if (*c).ahead_from == (*c).ahead_to {
                    blame(t, reason::SEQUENCE_GAP);
                    (*c).ahead_from = s.sequence;
                    (*c).ahead_to = end;
                } else if (end.wrapping_sub((*c).ahead_to) as i32) > 0 {
                    (*c).ahead_to = end;
                }
                return;
            }
            (*c).remaining_in -= p.hole as u64;
        }
        (*c).next_in = end;
        let fresh = s.len - p.old;
        let unread =
            (*c).pushed != (*c).popped && (*c).start_tag == (*c).pushed && (*c).start_ns & mark::UNREAD != 0;
        let between = (*c).framer_in.phase == phase::START && (*c).remaining_in == 0;
        if (*c).remaining_in > fresh as u64 {
            (*c).remaining_in -= fresh as u64;
        } else if between && elsewhere(skb, s.at + p.old, fresh, unread, state & inward::LOST != 0) {
            // The rest of the request that was taken unread, or of whatever we are lost in.
        } else {
            let mut walk = Walk {
                skb,
                c,
                t,
                now: now() & !mark::ALL,
                at: s.at + p.old,
                end: s.at + s.len,
                window_end: 0,
                window: window(),
            };
            bpf_loop(fresh + 1, step as *mut c_void, (&raw mut walk).cast(), 0);
        }
        let mut received = p.advance;
        if (*c).ahead_from != (*c).ahead_to && ((*c).next_in.wrapping_sub((*c).ahead_from) as i32) >= 0 {
            received += skip_ahead(c);
        }
        if (*c).inward & inward::STRANGER == 0 {
            add(&raw mut (*t).bytes_received, received as u64);
        }
        if (*c).inward & (inward::OPAQUE | inward::SERVED) != 0 {
            add(&raw mut (*t).bytes_unread, received as u64);
        }
        let inside = (*c).framer_in.phase != phase::START || (*c).remaining_in > 0;
        (*c).inward = if inside { (*c).inward | inward::BUSY } else { (*c).inward & !inward::BUSY };
    }
}

/// The hole is filled: goes on behind what had arrived ahead of it, unread. Returns by how many bytes.
#[inline(always)]
unsafe fn skip_ahead(c: *mut Connection) -> u32 {
    unsafe {
        let to = (*c).ahead_to;
        let ahead = to.wrapping_sub((*c).next_in) as i32;
        (*c).ahead_from = 0;
        (*c).ahead_to = 0;
        if ahead <= 0 {
            return 0;
        }
        (*c).next_in = to;
        if (*c).remaining_in >= ahead as u64 {
            (*c).remaining_in -= ahead as u64;
            if (*c).remaining_in == 0 {
                (*c).framer_in.skipped();
            }
        } else {
            (*c).remaining_in = 0;
            (*c).framer_in.reset();
            (*c).inward |= inward::LOST;
            // Requests may be among the unread bytes: an unexpected response may make one up.
            (*c).start_ns |= mark::UNREAD;
        }
        ahead as u32
    }
}

/// One byte, or one run of body bytes. Returns 1 to stop.
#[inline(never)]
unsafe extern "C" fn step(_index: u64, walk: *mut Walk) -> i64 {
    unsafe {
        let c = (*walk).c;
        let at = (*walk).at;
        if at >= (*walk).end {
            return 1;
        }
        let left = ((*walk).end - at) as u64;
        let remaining = (*c).remaining_in;
        if remaining > 0 {
            let run = if remaining < left { remaining } else { left };
            (*c).remaining_in = remaining - run;
            (*walk).at = at + run as u32;
            if remaining == run {
                (*c).framer_in.skipped();
            }
            return 0;
        }
        if at >= (*walk).window_end {
            let size = if left < WINDOW as u64 { left } else { WINDOW as u64 };
            if !load((*walk).skb, at, (&raw mut (*walk).window).cast(), size) {
                return 1;
            }
            (*walk).window_end = at + WINDOW as u32;
        }
        let index = (at + WINDOW as u32 - (*walk).window_end) as usize & (WINDOW - 1);
        let byte = *(&raw const (*walk).window).cast::<u8>().add(index);
        (*walk).at = at + 1;
        if (*c).framer_in.phase == phase::START {
            (*c).message_in_ns = (*walk).now;
        }
        match (*c).framer_in.step(byte, false) {
            Event::Request => recognise(walk),
            Event::Skip => (*c).remaining_in = (*c).framer_in.length,
            Event::Malformed => return give_up(c, (*walk).t, byte),
            Event::Http2 => {
                return make_opaque(c, (*walk).t, reason::HTTP2);
            }
            _ => {}
        }
        0
    }
}

#[inline(always)]
unsafe fn recognise(walk: *mut Walk) {
    unsafe {
        let (c, t) = ((*walk).c, (*walk).t);
        let mut start = (*c).message_in_ns;
        let seen = (*c).framer_in.seen;
        if seen & seen::HEAD != 0 {
            start |= mark::HEAD;
        }
        if seen & seen::CONNECT != 0 {
            start |= mark::CONNECT;
        }
        if (*c).inward & inward::STRANGER != 0 {
            blame(t, reason::MID_STREAM);
            add(&raw mut (*t).opened, 1);
        }
        if (*c).inward & inward::PROBE != 0 {
            start |= mark::PROBE;
        }
        (*c).inward &= !(inward::STRANGER | inward::SERVED | inward::LOST | inward::PROBE);
        let socket = (*(*walk).skb).__bindgen_anon_2.sk;
        push(c, t, socket, start);
    }
}

/// These bytes are no request.
#[inline(always)]
unsafe fn give_up(c: *mut Connection, t: *mut Totals, byte: u8) -> i64 {
    unsafe {
        let first = (*c).framer_in.head_bytes == 1;
        (*c).framer_in.reset();
        if (*c).inward & inward::LOST != 0 {
            return 1;
        }
        if (*c).pushed == 0 {
            let reason = if first && byte == TLS_HANDSHAKE { reason::TLS } else { reason::NOT_HTTP };
            return make_opaque(c, t, reason);
        }
        blame(t, reason::UNPARSED);
        (*c).inward |= inward::LOST;
        1
    }
}

#[inline(always)]
unsafe fn make_opaque(c: *mut Connection, t: *mut Totals, reason: u32) -> i64 {
    unsafe {
        (*c).framer_in.reset();
        if (*c).inward & inward::STRANGER != 0 {
            // Only clients send what tells a stranger's protocol: the pod is the server.
            add(&raw mut (*t).opened, 1);
        }
        blame(t, reason);
        (*c).opaque_reason = reason;
        (*c).inward = inward::OPAQUE;
        1
    }
}
