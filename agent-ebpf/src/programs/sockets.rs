//! What becomes of a connection: who opened it, and its end, also a silent one.
//!
//! Packets alone don't tell when a connection dies without one (time-outs, `ss -K`, a reset from outside): a request
//! in flight would stay so for ever. TCP says so through its socket events, once per connection at each end.

use aya_ebpf::bindings::bpf_sock_ops;
use aya_ebpf::helpers::generated::{bpf_map_delete_elem, bpf_map_lookup_elem, bpf_sock_ops_cb_flags_set};
use prescale_agent_ebpf::connection::{Connection, Early, inward, mark};

use super::EARLY;
use super::accounting::{add, blame, close, connection, count_starts, create_connection, totals};
use super::packet::now;

const ACTIVE_ESTABLISHED: u32 = 4;
const PASSIVE_ESTABLISHED: u32 = 5;
const STATE_CHANGED: u32 = 10;
/// Asks for `STATE_CHANGED`.
const STATE_FLAG: u32 = 1 << 2;
const TCP_CLOSE: u32 = 7;
const AF_INET: u32 = 2;
/// No pod has it: a connection that has carried no payload yet.
const NO_SLOT: u32 = u32::MAX;

/// Something has happened to a socket.
#[inline(always)]
pub unsafe fn change(ops: *mut bpf_sock_ops) {
    unsafe {
        match (*ops).op {
            PASSIVE_ESTABLISHED => accepted(ops),
            ACTIVE_ESTABLISHED => opened(ops),
            STATE_CHANGED => {
                if (*ops).__bindgen_anon_1.args[1] == TCP_CLOSE {
                    closed(ops);
                }
            }
            _ => {}
        }
    }
}

#[inline(always)]
unsafe fn opened(ops: *mut bpf_sock_ops) {
    unsafe {
        let socket = (*ops).__bindgen_anon_2.sk;
        if socket.is_null() {
            return;
        }
        let c = create_connection(socket, core::ptr::null_mut());
        if !c.is_null() {
            (*c).slot = NO_SLOT;
            (*c).inward = inward::OPENED_BY_POD;
        }
    }
}

#[inline(always)]
unsafe fn accepted(ops: *mut bpf_sock_ops) {
    unsafe {
        let socket = (*ops).__bindgen_anon_2.sk;
        if socket.is_null() {
            return;
        }
        // Others may have asked for events of their own.
        bpf_sock_ops_cb_flags_set(ops, ((*ops).bpf_sock_ops_cb_flags | STATE_FLAG) as i32);
        let mut key = Early { remote: [0; 4], ports: 0, sequence: (*ops).rcv_nxt };
        // All are read, and volatile: the verifier refuses a load at an offset chosen between two.
        let ipv4 = (&raw const (*ops).remote_ip4).read_volatile();
        let ipv6 = (&raw const (*ops).remote_ip6).cast::<u32>();
        let ipv6 = [
            ipv6.read_volatile(),
            ipv6.add(1).read_volatile(),
            ipv6.add(2).read_volatile(),
            ipv6.add(3).read_volatile(),
        ];
        let mapped = [0, 0, u32::from_be(0xffff), ipv4];
        key.remote = if (*ops).family == AF_INET { mapped } else { ipv6 };
        // The remote port comes in network order, the local one in the machine's.
        key.ports = (u32::from_be((*ops).remote_port) << 16) | ((*ops).local_port & 0xffff);
        let map = (&raw const EARLY).cast_mut().cast();
        let early: *mut Connection = bpf_map_lookup_elem(map, (&raw const key).cast()).cast();
        let c = create_connection(socket, early);
        if c.is_null() {
            return;
        }
        if early.is_null() {
            (*c).slot = NO_SLOT;
            (*c).inward = inward::ACCEPTED;
            (*c).next_in = (*ops).rcv_nxt;
            return;
        }
        bpf_map_delete_elem(map, (&raw const key).cast());
        let t = totals((*c).slot);
        if t.is_null() || (*t).generation != (*c).generation {
            return;
        }
        add(&raw mut (*t).opened, 1);
        add(&raw mut (*t).bytes_received, (*c).next_in.wrapping_sub(key.sequence) as u64);
        if (*c).inward & inward::OPAQUE != 0 {
            blame(t, (*c).opaque_reason);
        }
        if (*c).pushed > 0 {
            let probe = ((*c).start_ns & mark::PROBE != 0) as u64;
            add(&raw mut (*t).probe_starts, probe);
            count_starts(t, (*c).pushed as u64 - probe, (*c).start_ns & !mark::ALL);
        }
    }
}

#[inline(always)]
unsafe fn closed(ops: *mut bpf_sock_ops) {
    unsafe {
        let socket = (*ops).__bindgen_anon_2.sk;
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
        close(c, t, socket, now(), false);
    }
}
