//! From the kernel's shards to one pod's [`Counters`]: sums, widens 32-bit cells, detects torn reads.

use std::borrow::Borrow;

use anyhow::{Context, Result, bail};
use aya::maps::{Array, MapData};
use prescale_agent_ebpf::histogram::BUCKETS;
use prescale_agent_ebpf::layout::{CLASSES, REASONS, SHARDS, TIME_BIAS_NS, Totals};
use prescale_core::counters::Counters;

use super::requirements::kernel_clock_ns;

/// How often one shard is read again when a read fell between two writes that belong together. Under 300,000
/// requests a second on one shard about one read in 500 does; nine in a row don't happen.
const READS: usize = 9;

/// A slot's counters as of the last read; what the next read is compared with.
#[derive(Clone, Debug, Default)]
pub(super) struct Widened {
    counters: Counters,
    clocks: [Clocks; SHARDS],
}

/// One shard's two pairs that tell the number in flight and its integral.
#[derive(Clone, Copy, Debug, Default)]
struct Clocks {
    starts: u64,
    sum_start_ns: u64,
    ends: u64,
    sum_end_ns: u64,
}

/// A slot that has counted nothing yet.
pub(super) fn empty(generation: u32) -> Box<Totals> {
    Box::new(Totals {
        generation,
        unused: 0,
        ends: 0,
        sum_end_ns: 0,
        bytes_sent: 0,
        aborts: 0,
        closed: 0,
        retransmits_out: 0,
        retransmits_in: 0,
        starts: 0,
        sum_start_ns: 0,
        bytes_received: 0,
        opened: 0,
        bytes_unread: 0,
        probe_starts: 0,
        probe_finishes: 0,
        spare: [0; 1],
        reasons: [0; REASONS],
        first_byte: [0; BUCKETS],
        last_byte: [[0; BUCKETS]; CLASSES],
        spare_cells: [0; 8],
    })
}

/// Reads the shards `first..first + shards` and adds what they have counted since the last read.
pub(super) fn read_slot(
    map: &Array<impl Borrow<MapData>, Totals>,
    first: u32,
    shards: u32,
    widened: &mut Widened,
) -> Result<Counters> {
    let mut sum = empty(0);
    for shard in 0..shards {
        let clocks = &mut widened.clocks[shard as usize];
        let read = read_shard(|| Ok(map.get(&(first + shard), 0)?), clocks)?;
        *clocks = Clocks::of(&read);
        add_shard(&mut sum, &read);
    }
    widened.advance(&sum, kernel_clock_ns());
    Ok(widened.counters.clone())
}

fn read_shard(read: impl Fn() -> Result<Totals>, before: &Clocks) -> Result<Box<Totals>> {
    for _ in 0..READS {
        let totals = Box::new(read().context("reading the kernel's counters")?);
        if before.leads_to(&Clocks::of(&totals), kernel_clock_ns()) {
            return Ok(totals);
        }
    }
    bail!("the kernel's counters of starts and their times disagree in {READS} reads")
}

impl Clocks {
    fn of(totals: &Totals) -> Self {
        let &Totals { starts, sum_start_ns, ends, sum_end_ns, .. } = totals;
        Self { starts, sum_start_ns, ends, sum_end_ns }
    }

    /// Whether each sum has grown by as many times as its count says; a torn read is off by one or more
    /// [`TIME_BIAS_NS`].
    fn leads_to(&self, next: &Self, now_ns: u64) -> bool {
        let fits = |count: u64, sum: u64| {
            let expected = count.wrapping_mul(now_ns.wrapping_add(TIME_BIAS_NS));
            (sum.wrapping_sub(expected) as i64).unsigned_abs() < TIME_BIAS_NS / 2
        };
        fits(next.starts.wrapping_sub(self.starts), next.sum_start_ns.wrapping_sub(self.sum_start_ns))
            && fits(next.ends.wrapping_sub(self.ends), next.sum_end_ns.wrapping_sub(self.sum_end_ns))
    }
}

/// Adds one shard; cells of 32 bits wrap, which [`widen`] undoes.
fn add_shard(sum: &mut Totals, shard: &Totals) {
    let words = [
        (&mut sum.ends, shard.ends),
        (&mut sum.sum_end_ns, shard.sum_end_ns),
        (&mut sum.bytes_sent, shard.bytes_sent),
        (&mut sum.aborts, shard.aborts),
        (&mut sum.closed, shard.closed),
        (&mut sum.retransmits_out, shard.retransmits_out),
        (&mut sum.retransmits_in, shard.retransmits_in),
        (&mut sum.starts, shard.starts),
        (&mut sum.sum_start_ns, shard.sum_start_ns),
        (&mut sum.bytes_received, shard.bytes_received),
        (&mut sum.opened, shard.opened),
        (&mut sum.bytes_unread, shard.bytes_unread),
        (&mut sum.probe_starts, shard.probe_starts),
        (&mut sum.probe_finishes, shard.probe_finishes),
    ];
    for (total, word) in words {
        *total = total.wrapping_add(word);
    }
    let cells = |totals: &mut [u32], shard: &[u32]| {
        for (total, cell) in totals.iter_mut().zip(shard) {
            *total = total.wrapping_add(*cell);
        }
    };
    cells(&mut sum.reasons, &shard.reasons);
    cells(&mut sum.first_byte, &shard.first_byte);
    cells(sum.last_byte.as_flattened_mut(), shard.last_byte.as_flattened());
}

impl Widened {
    fn advance(&mut self, sum: &Totals, now_ns: u64) {
        let counters = &mut self.counters;
        counters.read_at_ns = now_ns;
        counters.starts = sum.starts;
        counters.aborts = sum.aborts;
        counters.probe_starts = sum.probe_starts;
        counters.probe_finishes = sum.probe_finishes;
        counters.bytes_received = sum.bytes_received;
        counters.bytes_unread = sum.bytes_unread;
        counters.bytes_sent = sum.bytes_sent;
        counters.connections_opened = sum.opened;
        counters.connections_closed = sum.closed;
        counters.retransmits = sum.retransmits_in + sum.retransmits_out;
        // Shards are read one after the other, so a request that moved between CPUs may be seen to end before it
        // starts: the integral then lags by the microseconds of the read. It never goes back.
        let in_flight = sum.starts.wrapping_sub(sum.ends);
        let integral = sum
            .sum_end_ns
            .wrapping_sub(sum.sum_start_ns)
            .wrapping_add(in_flight.wrapping_mul(now_ns.wrapping_add(TIME_BIAS_NS)));
        let integral = u64::try_from(integral as i64).unwrap_or(0);
        counters.in_flight_integral_ns = counters.in_flight_integral_ns.max(integral);
        widen(&mut counters.unaccounted, &sum.reasons);
        widen(counters.first_byte.0.as_mut_slice(), &sum.first_byte);
        for (class, cells) in sum.last_byte.iter().enumerate() {
            widen(counters.last_byte[class].0.as_mut_slice(), cells);
            counters.finishes[class] = counters.last_byte[class].0.iter().sum();
        }
    }
}

/// Brings 64-bit totals up to 32-bit cells that have wrapped less than once since the last call.
fn widen(totals: &mut [u64], cells: &[u32]) {
    for (total, cell) in totals.iter_mut().zip(cells) {
        *total += u64::from(cell.wrapping_sub(*total as u32));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn at(starts: &[u64], ends: &[u64]) -> Box<Totals> {
        let mut totals = empty(1);
        let sum = |times: &[u64]| times.iter().fold(0u64, |sum, t| sum.wrapping_add(t + TIME_BIAS_NS));
        (totals.starts, totals.sum_start_ns) = (starts.len() as u64, sum(starts));
        (totals.ends, totals.sum_end_ns) = (ends.len() as u64, sum(ends));
        totals
    }

    #[test]
    fn the_integral_includes_what_has_not_finished() {
        let mut widened = Widened::default();
        // One request took 1 s; one is in flight since second 12 and it is second 15; then it is aborted.
        widened.advance(&at(&[10 * SECOND, 12 * SECOND], &[11 * SECOND]), 15 * SECOND);
        assert_eq!(widened.counters.in_flight_integral_ns, 4 * SECOND);
        widened.advance(&at(&[10 * SECOND, 12 * SECOND], &[11 * SECOND, 16 * SECOND]), 20 * SECOND);
        assert_eq!(widened.counters.in_flight_integral_ns, 5 * SECOND);
    }

    #[test]
    fn the_integral_never_goes_back() {
        let mut widened = Widened::default();
        widened.advance(&at(&[10 * SECOND], &[]), 15 * SECOND);
        // The end turns out to have been at second 12; a skewed read even sees it without its start.
        widened.advance(&at(&[10 * SECOND], &[12 * SECOND]), 16 * SECOND);
        assert_eq!(widened.counters.in_flight_integral_ns, 5 * SECOND);
        widened.advance(&at(&[], &[12 * SECOND]), 16 * SECOND);
        assert_eq!(widened.counters.in_flight_integral_ns, 5 * SECOND);
    }

    #[test]
    fn a_torn_read_is_noticed_and_repeated() {
        let whole = at(&[10 * SECOND; 1000], &[11 * SECOND; 900]);
        let mut torn = whole.clone();
        torn.starts += 1;
        let before = Clocks::default();
        assert!(before.leads_to(&Clocks::of(&whole), 20 * SECOND));
        assert!(!before.leads_to(&Clocks::of(&torn), 20 * SECOND));
        torn = whole.clone();
        torn.sum_end_ns = torn.sum_end_ns.wrapping_add(11 * SECOND + TIME_BIAS_NS);
        assert!(!before.leads_to(&Clocks::of(&torn), 20 * SECOND));

        let reads = std::cell::Cell::new(0);
        let read = || {
            reads.set(reads.get() + 1);
            Ok(if reads.get() < 3 { *torn } else { *whole })
        };
        assert_eq!(read_shard(read, &before).unwrap().starts, 1000);
        assert_eq!(reads.get(), 3);
        assert!(read_shard(|| Ok(*torn), &before).is_err());
    }

    #[test]
    fn cells_that_wrap_keep_growing_in_the_counters() {
        let mut widened = Widened::default();
        let mut totals = empty(1);
        totals.last_byte[2][7] = u32::MAX;
        widened.advance(&totals, SECOND);
        totals.last_byte[2][7] = 4;
        widened.advance(&totals, 2 * SECOND);
        assert_eq!(widened.counters.finishes[2], u64::from(u32::MAX) + 5);
        assert_eq!(widened.counters.last_byte[2].0[7], u64::from(u32::MAX) + 5);
    }

    #[test]
    fn shards_add_up() {
        let mut sum = empty(0);
        let mut shard = empty(1);
        (shard.starts, shard.first_byte[3], shard.reasons[1]) = (5, 2, u32::MAX);
        add_shard(&mut sum, &shard);
        shard.reasons[1] = 3;
        add_shard(&mut sum, &shard);
        assert_eq!((sum.starts, sum.first_byte[3], sum.reasons[1]), (10, 4, 2));
    }
}
