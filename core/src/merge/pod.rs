//! One pod: the counters of its attaches, and its rate from neighbouring ones.

use std::collections::{BTreeMap, VecDeque};

use super::demand::{Latency, Totals};
use crate::counters::{Histogram, StatusClass};
use crate::sample::{interval_seconds, rate};
use crate::time::{Mono, Now, Wall};
use crate::wire::{Censored, NodeReport, PodReport, PodState};
use crate::world::PodPhase;

/// Readings that are kept to compute rates from: half a minute at one a second, more than a second stays open.
const READINGS: usize = 32;
/// Rates are taken over at least this long, milliseconds of the node's clock: a burst report comes soon after the one
/// before.
const MIN_RATE_MS: i64 = 500;
/// Counters are read before they are sent, but for a clock that is set in between, milliseconds.
const MAX_AHEAD_MS: i64 = 5_000;
/// Most attaches of one pod that are told apart; a pod that is re-attached every second for a quarter of an hour is
/// broken, and the oldest are summed up.
const MAX_ATTACHES: usize = 64;

/// One attach of a pod: its counters start at 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    /// Hash of the boot id.
    boot: u64,
    agent_start: Wall,
    generation: u32,
}

impl Key {
    pub(super) fn of(report: &NodeReport, pod: &PodReport) -> Self {
        // FNV-1a: a node has a handful of boots.
        let boot = report.boot_id.bytes().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        Self { boot, agent_start: report.agent_start, generation: pod.attach_generation }
    }
}

/// What became of a pod's counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    Newer,
    Known,
    Impossible,
    Unknown,
}

#[derive(Clone, Debug)]
struct Attach {
    read_at_ns: u64,
    totals: Totals,
}

/// The few counters that rates come from.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Reading {
    key: Key,
    read_at_ns: u64,
    wall_ms: i64,
    starts: u64,
    finishes: u64,
    errors: u64,
    integral_ns: u64,
    in_flight: u64,
    received: u64,
    unread: u64,
}

/// What a pod did between two readings, per second of the kernel's clock.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Rates {
    pub(super) starts: f64,
    pub(super) finishes: f64,
    pub(super) errors: f64,
    pub(super) concurrency: f64,
}

/// A pod's state in the merge.
#[derive(Clone, Debug)]
pub(super) struct PodMerge {
    pub(super) node: String,
    pub(super) phase: Option<PodPhase>,
    pub(super) state: PodState,
    pub(super) censored: Option<Censored>,
    pub(super) latency: Option<Latency>,
    /// When its counters were last found impossible.
    pub(super) impossible: Option<Mono>,
    pub(super) first_heard: Option<Mono>,
    heard: Option<(Mono, f64)>,
    touched: Mono,
    attaches: BTreeMap<Key, Attach>,
    readings: VecDeque<Reading>,
    /// Attaches beyond [`MAX_ATTACHES`].
    summed: Totals,
}

impl PodMerge {
    pub(super) fn new(now: Now, node: &str) -> Self {
        Self {
            node: node.to_owned(),
            phase: None,
            state: PodState::Waiting,
            censored: None,
            latency: None,
            impossible: None,
            first_heard: None,
            heard: None,
            touched: now.mono,
            attaches: BTreeMap::new(),
            readings: VecDeque::new(),
            summed: Totals::default(),
        }
    }

    /// Takes a report's counters. With the newer ones comes the latency histogram since those before.
    pub(super) fn report(
        &mut self,
        now: Now,
        report: &NodeReport,
        pod: &PodReport,
        key: Key,
        correction_ms: i64,
    ) -> (Taken, Option<Histogram>) {
        self.touched = now.mono;
        let Some(counters) = &pod.counters else { return (Taken::Known, None) };
        // Read after it was sent: whoever wrote that does not know the time.
        if pod.read.0.saturating_sub(report.sent.0) > MAX_AHEAD_MS {
            self.impossible = Some(now.mono);
            return (Taken::Impossible, None);
        }
        let totals = Totals::of(counters);
        let reading = Reading {
            key,
            read_at_ns: counters.read_at_ns,
            wall_ms: pod.read.0.saturating_add(correction_ms),
            starts: counters.starts,
            finishes: counters.finished(),
            errors: counters.finishes[StatusClass::ServerError as usize],
            integral_ns: counters.in_flight_integral_ns,
            in_flight: counters.in_flight(),
            received: counters.bytes_received,
            unread: counters.bytes_unread,
        };
        if !self.fits(&reading) || self.attaches.get(&key).is_some_and(|known| !known.fits(&totals, &reading))
        {
            self.impossible = Some(now.mono);
            return (Taken::Impossible, None);
        }
        self.remember(reading);
        let mut since = None;
        match self.attaches.get_mut(&key) {
            Some(known) if known.read_at_ns >= reading.read_at_ns => return (Taken::Known, None),
            Some(known) => {
                since = totals.last_byte.since(&known.totals.last_byte);
                *known = Attach { read_at_ns: reading.read_at_ns, totals };
            }
            None => {
                self.attaches.insert(key, Attach { read_at_ns: reading.read_at_ns, totals });
                if self.attaches.len() > MAX_ATTACHES
                    && let Some((_, oldest)) = self.attaches.pop_first()
                {
                    self.summed.add(&oldest.totals);
                }
            }
        }
        self.first_heard.get_or_insert(now.mono);
        let age = report.sent.0.saturating_sub(pod.read.0).max(0) as f64 / 1e3;
        self.heard = Some((now.mono, age));
        self.latency = since.as_ref().and_then(Latency::of);
        (Taken::Newer, since)
    }

    /// Whether a reading can stand beside its neighbours: counters and rates that a pod can have.
    fn fits(&self, reading: &Reading) -> bool {
        let before =
            self.readings.iter().rev().find(|r| r.key == reading.key && r.read_at_ns < reading.read_at_ns);
        let after = self.readings.iter().find(|r| r.key == reading.key && r.read_at_ns > reading.read_at_ns);
        let possible = |a: &Reading, b: &Reading| {
            // Too short or too long for a rate is no lie.
            interval_seconds(a.read_at_ns, b.read_at_ns).is_err() || rates(a, b).is_some()
        };
        before.is_none_or(|b| possible(b, reading)) && after.is_none_or(|a| possible(reading, a))
    }

    /// Puts a reading in its place. Readings of one boot are in the order of its clock; of two boots the later by the
    /// wall clock stays.
    fn remember(&mut self, reading: Reading) {
        if let Some(newest) = self.readings.back()
            && newest.key.boot != reading.key.boot
        {
            if newest.wall_ms >= reading.wall_ms {
                return;
            }
            self.readings.clear();
        }
        let order = |r: &Reading| (r.read_at_ns, r.key);
        let place = self.readings.partition_point(|r| order(r) < order(&reading));
        if self.readings.get(place).is_none_or(|r| order(r) != order(&reading)) {
            self.readings.insert(place, reading);
        }
        while self.readings.len() > READINGS {
            self.readings.pop_front();
        }
    }

    /// Age of its newest counters, seconds.
    pub(super) fn age_seconds(&self, now: Now) -> Option<f64> {
        self.heard.map(|(at, age)| now.mono.seconds_since(at) + age)
    }

    /// Seconds since anything was heard of it, counters or not.
    pub(super) fn silent_for(&self, now: Now) -> f64 {
        now.mono.seconds_since(self.touched)
    }

    /// Requests in flight at the newest reading.
    pub(super) fn in_flight(&self) -> u64 {
        self.readings.back().map_or(0, |r| r.in_flight)
    }

    /// Bytes that it received over its readings, half a minute, and how many of them on connections whose requests
    /// can't be read.
    pub(super) fn received(&self) -> (u64, u64) {
        let (mut received, mut unread) = (0u64, 0u64);
        for (a, b) in self.readings.iter().zip(self.readings.iter().skip(1)).filter(|(a, b)| a.key == b.key) {
            let unread_here = b.unread.saturating_sub(a.unread);
            unread = unread.saturating_add(unread_here);
            // Bytes of connections that are older than the attach are only among the unread.
            received = received.saturating_add(b.received.saturating_sub(a.received).max(unread_here));
        }
        (received, unread)
    }

    /// What it did up to its newest reading; `None` before a second one.
    pub(super) fn newest(&self) -> Option<Rates> {
        let newest = self.readings.back()?;
        let same = || self.readings.iter().rev().skip(1).take_while(|r| r.key == newest.key);
        let before = same().find(|r| newest.wall_ms - r.wall_ms >= MIN_RATE_MS).or_else(|| same().last())?;
        rates(before, newest)
    }

    /// Whether its readings reach past a wall-clock instant.
    pub(super) fn reaches(&self, wall_ms: i64) -> bool {
        self.readings.back().is_some_and(|r| r.wall_ms >= wall_ms)
    }

    /// What it did in the second that starts at `start_ms`, and the share of it that readings cover.
    pub(super) fn second(&self, start_ms: i64) -> (Rates, f64) {
        let (mut sum, mut covered) = (Rates::default(), 0.0);
        let end_ms = start_ms + 1000;
        for (a, b) in self.readings.iter().zip(self.readings.iter().skip(1)) {
            let overlap = b.wall_ms.min(end_ms) - a.wall_ms.max(start_ms);
            if overlap <= 0 || a.key != b.key {
                continue;
            }
            if let Some(r) = rates(a, b) {
                let share = overlap as f64 / 1e3;
                sum.starts += r.starts * share;
                sum.finishes += r.finishes * share;
                sum.errors += r.errors * share;
                sum.concurrency += r.concurrency * share;
                covered += share;
            }
        }
        (sum, covered)
    }

    /// Everything it ever did.
    pub(super) fn totals(&self) -> Totals {
        let mut sum = self.summed.clone();
        for attach in self.attaches.values() {
            sum.add(&attach.totals);
        }
        sum
    }
}

impl Attach {
    /// Whether counters of the same attach can be earlier or later ones than these.
    fn fits(&self, totals: &Totals, reading: &Reading) -> bool {
        let (old, new) = if reading.read_at_ns >= self.read_at_ns {
            (&self.totals, totals)
        } else {
            (totals, &self.totals)
        };
        new.starts >= old.starts
            && new.aborts >= old.aborts
            && new.in_flight_integral_ns >= old.in_flight_integral_ns
            && new.finishes.iter().zip(&old.finishes).all(|(n, o)| n >= o)
    }
}

/// The rates between two readings of one attach, `None` where they can't be.
fn rates(a: &Reading, b: &Reading) -> Option<Rates> {
    let seconds = interval_seconds(a.read_at_ns, b.read_at_ns).ok()?;
    let per_second = |new: u64, old: u64| Some(rate("rate", new.checked_sub(old)?, seconds).ok()?.get());
    Some(Rates {
        starts: per_second(b.starts, a.starts)?,
        finishes: per_second(b.finishes, a.finishes)?,
        errors: per_second(b.errors, a.errors)?,
        concurrency: b.integral_ns.checked_sub(a.integral_ns)? as f64 / (seconds * 1e9),
    })
}
