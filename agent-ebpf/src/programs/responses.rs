//! What leaves: finds the responses, their status, first and last byte, and the end of the connection.
//!
//! Egress holds the socket's lock, so a connection's responses are never handled on two CPUs at once. The short
//! way takes a response whose head has the shape of the one before it on the same connection.

use core::ffi::c_void;
use core::mem::MaybeUninit;

use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::helpers::generated::bpf_loop;
use prescale_agent_ebpf::connection::{Connection, inward, mark, outward};
use prescale_agent_ebpf::http::{Event, phase};
use prescale_agent_ebpf::layout::{Totals, reason};
use prescale_agent_ebpf::sequence::place;

use super::accounting::{
    add, blame, close, connection, count_first_byte, count_last_byte, count_starts, finish, oldest_start,
    totals,
};
use super::packet::{FIN, RST, Segment, WINDOW, departure, load, segment, window, word, words};

/// "HTTP/1." as the low seven bytes.
const VERSION: u64 = u64::from_le_bytes(*b"HTTP/1.\0");
const VERSION_MASK: u64 = u64::MAX >> 8;
const REQUEST_TIMEOUT: u32 = 408;
/// What stands before a length, and the bits that make its letters small.
const CONTENT: u64 = u64::from_le_bytes(*b"\ncontent");
const LENGTH: u64 = u64::from_le_bytes(*b"-length:");
const LOWER: u64 = 0x2020_2020_2020_2020;
const LOWER_NAME: u64 = LOWER & !0xff;
const END_OF_HEAD: u64 = u32::from_le_bytes(*b"\r\n\r\n") as u64;
/// Statuses without a body, with the space before them.
const NO_CONTENT: u32 = u32::from_le_bytes(*b" 204");
const NOT_MODIFIED: u32 = u32::from_le_bytes(*b" 304");

/// A packet leaves.
#[inline(always)]
pub unsafe fn leave(skb: *mut __sk_buff) {
    unsafe {
        let Some(s) = segment(skb) else { return };
        if s.len == 0 && s.flags & (FIN | RST) == 0 {
            return;
        }
        let socket = (*skb).__bindgen_anon_2.sk;
        if socket.is_null() {
            return;
        }
        let c = connection(socket);
        if c.is_null() {
            return;
        }
        let t = totals((*c).slot);
        if t.is_null() || (*t).generation != (*c).generation {
            return;
        }
        // The short way: the answer to one plain request, whole or its beginning, on a connection in step.
        if (*c).outward == outward::SYNCED
            && (*c).inward == inward::LIVE
            && (*c).next_out == s.sequence
            && (*c).shape != 0
            && s.flags & (FIN | RST) == 0
            && (*c).pushed.wrapping_sub((*c).popped) == 1
            && (*c).start_tag == (*c).pushed
            && (*c).start_ns & (mark::HEAD | mark::CONNECT | mark::PROBE) == 0
            && answer(skb, c, t, &s)
        {
            return;
        }
        write(skb, c, t, &s);
    }
}

/// Takes a response whose head has the same shape as the one before it. `false`: it has not, nothing was done.
#[inline(always)]
unsafe fn answer(skb: *mut __sk_buff, c: *mut Connection, t: *mut Totals, s: &Segment) -> bool {
    unsafe {
        let digits_at = (*c).shape & 0xffff;
        let tail = (*c).shape >> 16;
        if s.len < digits_at + 16 {
            return false;
        }
        let Some([version, status]) = words::<2>(skb, s.at) else { return false };
        // One byte before the name to the sixteenth after its end: "\ncontent-length: 12345…".
        let Some([name, rest, digits, _]) = words::<4>(skb, s.at + digits_at - 17) else { return false };
        let code = status as u32;
        if version & VERSION_MASK != VERSION
            || name | LOWER_NAME != CONTENT
            || rest | LOWER != LENGTH
            || digits as u8 != b' '
            || code == NO_CONTENT
            || code == NOT_MODIFIED
        {
            return false;
        }
        let class = ((code >> 8) & 0xff).wrapping_sub(b'0' as u32);
        if class < 2 || class > 5 {
            return false;
        }
        let (mut length, mut used, mut left) = (0u32, 0u32, digits >> 8);
        // Six digits fit with the byte behind them; longer bodies go the long way.
        for _ in 0..6 {
            let digit = (left as u8).wrapping_sub(b'0') as u32;
            if digit > 9 {
                break;
            }
            length = length * 10 + digit;
            used += 1;
            left >>= 8;
        }
        if used == 0 || left as u8 != b'\r' {
            return false;
        }
        let head = digits_at + used + tail;
        if s.len < head || s.len - head > length || word(skb, s.at + head - 8) >> 32 != END_OF_HEAD {
            return false;
        }
        let start = (*c).start_ns;
        let now = departure(skb, start);
        (*c).next_out = s.sequence.wrapping_add(s.len);
        add(&raw mut (*t).bytes_sent, s.len as u64);
        count_first_byte(t, start, now);
        let missing = length - (s.len - head);
        if missing == 0 {
            (*c).popped = (*c).pushed;
            (*c).previous_start_ns = start;
            count_last_byte(t, class, start, now);
        } else {
            (*c).remaining_out = missing as u64;
            (*c).class_out = class;
            (*c).framer_out.phase = phase::BODY;
            (*c).outward = outward::SYNCED | outward::BUSY;
        }
        true
    }
}

struct Walk {
    skb: *mut __sk_buff,
    c: *mut Connection,
    t: *mut Totals,
    now: u64,
    /// Offset in the packet of the first byte that is read, of the next one, and of the end.
    first: u32,
    at: u32,
    end: u32,
    /// Offset in the packet that the window ends at.
    window_end: u32,
    window: MaybeUninit<[u64; WINDOW / 8]>,
}

/// Follows a segment of a connection of ours.
#[inline(never)]
unsafe fn write(skb: *mut __sk_buff, c: *mut Connection, t: *mut Totals, s: &Segment) {
    unsafe {
        let socket = (*skb).__bindgen_anon_2.sk;
        if socket.is_null() {
            return;
        }
        if (*c).inward & (inward::LIVE | inward::OPAQUE) == 0 || (*c).outward & outward::CLOSED != 0 {
            return;
        }
        if (*c).outward & outward::SYNCED == 0 {
            (*c).outward |= outward::SYNCED;
            (*c).next_out = s.sequence;
        }
        let now = departure(skb, (*c).start_ns);
        if s.len > 0 {
            let p = place((*c).next_out, s.sequence, s.len);
            if p.advance == 0 {
                add(&raw mut (*t).retransmits_out, 1);
            } else {
                if (*c).inward & inward::STRANGER == 0 {
                    add(&raw mut (*t).bytes_sent, p.advance as u64);
                }
                (*c).next_out = s.sequence.wrapping_add(s.len);
                if ((*c).inward & inward::OPAQUE) | ((*c).outward & outward::OPAQUE) == 0 {
                    follow(skb, c, t, s, p.old, p.hole, now);
                }
            }
        }
        if s.flags & (FIN | RST) != 0 {
            close(c, t, socket, now, s.flags & FIN != 0);
        }
    }
}

#[inline(always)]
unsafe fn follow(
    skb: *mut __sk_buff,
    c: *mut Connection,
    t: *mut Totals,
    s: &Segment,
    old: u32,
    hole: u32,
    now: u64,
) {
    unsafe {
        let socket = (*skb).__bindgen_anon_2.sk;
        if socket.is_null() {
            return;
        }
        if hole as u64 > (*c).remaining_out {
            // Egress is in order, so these bytes left while the program was not there.
            if (*c).outward & outward::LOST == 0 {
                blame(t, reason::SEQUENCE_GAP);
            }
            (*c).remaining_out = 0;
            lose_track(c);
        } else {
            (*c).remaining_out -= hole as u64;
        }
        if (*c).outward & outward::OPEN != 0 {
            // The next response shows that this one is over, if one is due and a segment begins with it.
            let next =
                (*c).pushed.wrapping_sub((*c).popped) >= 2 && word(skb, s.at) & VERSION_MASK == VERSION;
            if !next {
                (*c).last_out_ns = now;
                return;
            }
            let last = (*c).last_out_ns;
            finish(c, t, socket, last);
            (*c).framer_out.reset();
        }
        let fresh = s.len - old;
        if (*c).remaining_out > fresh as u64 {
            (*c).remaining_out -= fresh as u64;
            return;
        }
        let mut walk = Walk {
            skb,
            c,
            t,
            now,
            first: s.at + old,
            at: s.at + old,
            end: s.at + s.len,
            window_end: 0,
            window: window(),
        };
        bpf_loop(fresh + 1, step as *mut c_void, (&raw mut walk).cast(), 0);
        let inside = (*c).framer_out.phase != phase::START || (*c).remaining_out > 0;
        if inside {
            (*c).outward |= outward::BUSY;
        } else {
            (*c).outward &= !outward::BUSY;
        }
    }
}

/// The response's end can't be known any more: it ends with the next one, or with the connection.
#[inline(always)]
unsafe fn lose_track(c: *mut Connection) {
    unsafe {
        if (*c).framer_out.phase != phase::START || (*c).remaining_out > 0 {
            (*c).outward |= outward::OPEN;
            (*c).framer_out.phase = phase::UNTIL_CLOSE;
        } else {
            (*c).outward |= outward::LOST;
        }
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
        let socket = (*(*walk).skb).__bindgen_anon_2.sk;
        if socket.is_null() {
            return 1;
        }
        let left = ((*walk).end - at) as u64;
        let remaining = (*c).remaining_out;
        if remaining > 0 {
            let run = if remaining < left { remaining } else { left };
            (*c).remaining_out = remaining - run;
            (*walk).at = at + run as u32;
            if remaining == run && (*c).framer_out.skipped() == Event::End {
                finish(c, (*walk).t, socket, (*walk).now);
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
        if (*c).framer_out.phase == phase::START {
            (*c).message_out_ns = (*walk).now;
        }
        match (*c).framer_out.step(byte, true) {
            Event::Response => return respond(walk),
            Event::Skip => (*c).remaining_out = (*c).framer_out.length,
            Event::End => finish(c, (*walk).t, socket, (*walk).now),
            Event::Malformed => return give_up(walk),
            _ => {}
        }
        0
    }
}

/// A response's head is complete.
#[inline(always)]
unsafe fn respond(walk: *mut Walk) -> i64 {
    unsafe {
        let (c, t) = ((*walk).c, (*walk).t);
        let socket = (*(*walk).skb).__bindgen_anon_2.sk;
        if socket.is_null() {
            return 1;
        }
        let status = (*c).framer_out.status;
        if status >= 100 && status < 200 && status != 101 {
            (*c).framer_out.reset();
            return 0;
        }
        (*c).outward &= !outward::LOST;
        (*c).class_out = if status >= 100 && status < 600 { status / 100 } else { 0 };
        if (*c).pushed == (*c).popped {
            if (*c).inward == inward::LIVE && (*c).start_ns & mark::UNREAD != 0 && status != REQUEST_TIMEOUT {
                // The last segment held more requests than its first.
                (*c).outward |= outward::LATE;
                count_starts(t, 1, (*c).start_ns & !mark::ALL);
            } else {
                (*c).outward |= outward::GHOST;
                blame(t, reason::UNEXPECTED_RESPONSE);
            }
        }
        learn_shape(walk);
        let counted = (*c).outward & outward::GHOST == 0;
        let start = oldest_start(c, socket);
        let known = counted && (*c).outward & outward::LATE == 0;
        let probe = known && start & mark::PROBE != 0;
        if counted && !probe {
            count_first_byte(t, start, (*c).message_out_ns);
        }
        if status == 101 || (known && start & mark::CONNECT != 0 && status < 300) {
            blame(t, reason::UNPARSED);
            (*c).framer_out.reset();
            finish(c, t, socket, (*walk).now);
            (*c).outward |= outward::OPAQUE;
            (*c).inward = inward::OPAQUE;
            return 1;
        }
        match (*c).framer_out.begin_response_body(known && start & mark::HEAD != 0) {
            Event::End => finish(c, t, socket, (*walk).now),
            Event::Skip => (*c).remaining_out = (*c).framer_out.length,
            _ => {
                if (*c).framer_out.phase == phase::UNTIL_CLOSE {
                    (*c).outward |= outward::OPEN;
                    (*c).last_out_ns = (*walk).now;
                    return 1;
                }
            }
        }
        0
    }
}

/// Remembers where this response's length stands, if its head is whole and begins the segment.
#[inline(always)]
unsafe fn learn_shape(walk: *mut Walk) {
    unsafe {
        let c = (*walk).c;
        let (at, end) = ((*c).framer_out.length_at, (*c).framer_out.length_end);
        let head = (*c).framer_out.head_bytes;
        let whole = (*walk).at - (*walk).first == head;
        // "HTTP/1.1 200 \r\nContent-Length: " is 32 bytes; further out than a page's half is not worth a look.
        let plain = at >= 32 && end > at && head >= end + 4 && head < 2048;
        (*c).shape = if whole && plain { at | (head - end) << 16 } else { 0 };
    }
}

/// These bytes are no response.
#[inline(always)]
unsafe fn give_up(walk: *mut Walk) -> i64 {
    unsafe {
        let (c, t) = ((*walk).c, (*walk).t);
        if (*c).outward & outward::LOST != 0 {
            (*c).framer_out.reset();
            return 1;
        }
        blame(t, reason::UNPARSED);
        if (*c).pushed == (*c).popped {
            (*c).framer_out.reset();
            (*c).outward |= outward::LOST;
            return 1;
        }
        if (*c).framer_out.status == 0 {
            (*c).class_out = 0;
        }
        (*c).framer_out.phase = phase::UNTIL_CLOSE;
        (*c).outward |= outward::OPEN;
        (*c).last_out_ns = (*walk).now;
        1
    }
}
