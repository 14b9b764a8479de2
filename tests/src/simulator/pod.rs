//! One simulated pod: slots, a queue, and the counters that the kernel would keep.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use prescale_agent_ebpf::histogram::bucket_of;
use prescale_core::counters::{Counters, StatusClass};
use prescale_core::world::PodPhase;

/// Nanoseconds since the simulation's start.
pub type Nanos = u64;

/// One second in [`Nanos`].
pub const SECOND: Nanos = 1_000_000_000;

/// A pod: requests wait in one line for one of its slots.
#[derive(Clone, Debug)]
pub struct SimPod {
    /// Its uid, name and node.
    pub uid: String,
    /// The node it is bound to.
    pub node: usize,
    /// Where it is in its life.
    pub phase: PodPhase,
    /// When it was bound.
    pub created: Nanos,
    /// When it is killed, once it leaves.
    pub killed: Option<Nanos>,
    /// What an attached program has counted; `None` before the attach.
    counters: Option<Counters>,
    /// When each slot is free again.
    slots: Vec<Nanos>,
    /// Ends of the requests in flight: when, begun when, completely or not.
    ends: BinaryHeap<Reverse<(Nanos, Nanos, bool)>>,
    last_event: Nanos,
}

/// A request whose end the caller has seen.
#[derive(Clone, Copy, Debug)]
pub struct Ended {
    /// From arrival to end.
    pub latency: Nanos,
    /// Whether a response came.
    pub complete: bool,
}

impl SimPod {
    /// A pod that starts.
    pub fn new(uid: String, node: usize, created: Nanos, slots: usize) -> Self {
        Self {
            uid,
            node,
            phase: PodPhase::Starting,
            created,
            killed: None,
            counters: None,
            slots: vec![0; slots],
            ends: BinaryHeap::new(),
            last_event: created,
        }
    }

    /// Requests in flight.
    pub fn in_flight(&self) -> usize {
        self.ends.len()
    }

    /// Takes a request at `now` that needs a slot for `service`. When its caller sees the end, and whether complete: a
    /// caller that has waited for `patience` hangs up, but the work is done all the same.
    pub fn request(&mut self, now: Nanos, service: Nanos, patience: Nanos) -> (Nanos, bool) {
        let slot = self.slots.iter_mut().min().expect("a pod has a slot");
        let done = now.max(*slot) + service;
        *slot = done;
        let complete = done - now <= patience;
        let end = if complete { done } else { now + patience };
        if let Some(counters) = &mut self.counters {
            counters.in_flight_integral_ns += self.ends.len() as u64 * (now - self.last_event);
            counters.starts += 1;
        }
        self.last_event = now;
        self.ends.push(Reverse((end, now, complete)));
        (end, complete)
    }

    /// Lets time pass until `now`; requests that ended go to `seen`.
    pub fn pass(&mut self, now: Nanos, seen: &mut impl FnMut(Ended)) {
        while let Some(&Reverse((end, begun, complete))) = self.ends.peek()
            && end <= now
        {
            self.end(end, begun, complete, seen);
        }
        if let Some(counters) = &mut self.counters {
            counters.in_flight_integral_ns += self.ends.len() as u64 * (now - self.last_event);
        }
        self.last_event = now;
    }

    fn end(&mut self, end: Nanos, begun: Nanos, complete: bool, seen: &mut impl FnMut(Ended)) {
        if let Some(counters) = &mut self.counters {
            counters.in_flight_integral_ns += self.ends.len() as u64 * (end - self.last_event);
            if complete {
                let bucket = bucket_of(end - begun);
                counters.finishes[StatusClass::Success as usize] += 1;
                counters.last_byte[StatusClass::Success as usize].0[bucket] += 1;
                counters.first_byte.0[bucket] += 1;
            } else {
                counters.aborts += 1;
            }
        }
        self.last_event = end;
        self.ends.pop();
        seen(Ended { latency: end - begun, complete });
    }

    /// Kills it: what is in flight ends without a response.
    pub fn kill(&mut self, now: Nanos, seen: &mut impl FnMut(Ended)) {
        self.pass(now, seen);
        while let Some(&Reverse((_, begun, _))) = self.ends.peek() {
            self.end(now, begun, false, seen);
        }
    }

    /// A program is attached: it counts from now on.
    pub fn attach(&mut self, now: Nanos) {
        self.counters = Some(Counters::default());
        self.last_event = now;
    }

    /// What the kernel's maps say; `boot_ns` is the node's clock at the simulation's start.
    pub fn read(&self, now: Nanos, boot_ns: Nanos) -> Option<Counters> {
        let mut counters = self.counters.clone()?;
        counters.read_at_ns = boot_ns + now;
        Some(counters)
    }
}
