//! A ring of quantised bins, addressed by absolute index.
//!
//! A value is stored as a logarithmic code: 0 is a gap, 1 is zero, and the other codes divide 1e-3 to 1e9 evenly in
//! the logarithm. The load has 15 bits and the censored bit beside them: steps of 0.084 %, so at most **0.043 %** off.
//! The concurrency has 16 bits: at most 0.022 % off. Values below 1e-3 (a request in a quarter of an hour) become 0,
//! values above 1e9 become 1e9.

use serde::{Deserialize, Serialize};

use super::Point;
use crate::units::{Concurrency, RequestsPerSecond};

const LOWEST: f64 = 1e-3;
const HIGHEST: f64 = 1e9;
const LOAD_CODES: u16 = 1 << 15;
const CONCURRENCY_CODES: u16 = u16::MAX;
const CENSORED: u16 = 1 << 15;
/// Bins that a ring grows by, so that a young workload costs little.
const GROW: usize = 1024;

#[derive(Clone, Debug)]
pub(super) struct Ring {
    capacity: usize,
    newest: Option<i64>,
    /// Bin `index` is at `index mod capacity`; the vectors grow until they have the ring's capacity.
    load: Vec<u16>,
    concurrency: Vec<u16>,
    /// Bins from the oldest to the newest.
    length: usize,
}

/// A ring's bins, oldest first.
#[derive(Serialize, Deserialize)]
pub(crate) struct SavedRing {
    newest: Option<i64>,
    /// Load and concurrency of each bin, little-endian.
    codes: Vec<u8>,
}

/// The newest bins of a ring, oldest first.
pub(crate) type RingTail = SavedRing;

impl SavedRing {
    fn length(&self) -> usize {
        self.codes.len() / 4
    }

    /// A ring of these bins alone; `None` if they can't be.
    pub(super) fn restored(&self, capacity: usize) -> Option<Ring> {
        let mut ring = Ring::new(capacity);
        ring.append(self)?;
        Some(ring)
    }
}

impl Ring {
    pub(super) fn save(&self) -> SavedRing {
        self.save_newest(self.length)
    }

    /// The bins after `index`; all without it.
    pub(super) fn save_after(&self, index: Option<i64>) -> RingTail {
        let newer = match (self.newest, index) {
            (Some(newest), Some(index)) => usize::try_from(newest.saturating_sub(index)).unwrap_or(0),
            _ => self.length,
        };
        self.save_newest(newer.min(self.length))
    }

    fn save_newest(&self, count: usize) -> SavedRing {
        let newest = self.newest.unwrap_or(0);
        let mut codes = Vec::with_capacity(4 * count);
        for back in (0..count as i64).rev() {
            let slot = self.slot(newest.saturating_sub(back));
            let code = |channel: &[u16]| channel.get(slot).copied().unwrap_or(0).to_le_bytes();
            codes.extend(code(&self.load));
            codes.extend(code(&self.concurrency));
        }
        SavedRing { newest: self.newest, codes }
    }

    /// Adds bins that come after its own; `None` if they can't be.
    pub(super) fn append(&mut self, tail: &RingTail) -> Option<()> {
        let Some(newest) = tail.newest else { return tail.codes.is_empty().then_some(()) };
        let count = tail.length();
        let reached = match self.newest {
            Some(own) => usize::try_from(newest.checked_sub(own)?).ok()?,
            None => count,
        };
        // What lies between has been pushed out of a ring by the tail, or the tail would have it.
        if count > self.capacity || !tail.codes.len().is_multiple_of(4) || count != reached.min(self.capacity)
        {
            return None;
        }
        let first = newest.checked_sub(count as i64)?;
        for (back, codes) in tail.codes.chunks_exact(4).enumerate() {
            let code = |at: usize| u16::from_le_bytes([codes[at], codes[at + 1]]);
            self.write(first.saturating_add(1 + back as i64), code(0), code(2));
        }
        self.newest = Some(newest);
        self.length = (self.length + count).min(self.capacity);
        Some(())
    }

    pub(super) fn new(capacity: usize) -> Self {
        Self { capacity, newest: None, load: Vec::new(), concurrency: Vec::new(), length: 0 }
    }

    pub(super) fn newest(&self) -> Option<i64> {
        self.newest
    }

    /// Writes a bin later than all before; those between are gaps. One that is not later fills its gap, if it is one.
    pub(super) fn push(&mut self, point: &Point) {
        let skipped = match self.newest {
            Some(newest) if point.index <= newest => return self.fill(point),
            Some(newest) => point.index.saturating_sub(newest).min(self.capacity as i64) as usize,
            None => 1,
        };
        self.newest = Some(point.index);
        self.length = (self.length + skipped).min(self.capacity);
        for back in 0..skipped as i64 {
            self.write(point.index - back, 0, 0);
        }
        self.fill(point);
    }

    /// Writes a bin that is a gap so far and not later than the newest; grows backwards within the capacity.
    pub(super) fn fill(&mut self, point: &Point) {
        let Some(newest) = self.newest else { return };
        let back = newest.saturating_sub(point.index);
        if !(0..self.capacity as i64).contains(&back) || point.load.is_none() {
            return;
        }
        while self.length <= back as usize {
            self.write(newest - self.length as i64, 0, 0);
            self.length += 1;
        }
        if self.read(point.index).load.is_none() {
            let load = code(point.load.map(RequestsPerSecond::get), LOAD_CODES);
            let bit = if point.censored { CENSORED } else { 0 };
            let concurrency = code(point.concurrency.map(Concurrency::get), CONCURRENCY_CODES);
            self.write(point.index, load | bit, concurrency);
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Point> + '_ {
        self.iter_newest(self.length)
    }

    pub(super) fn iter_newest(&self, count: usize) -> impl Iterator<Item = Point> + '_ {
        let count = count.min(self.length) as i64;
        let newest = self.newest.unwrap_or(0);
        (newest - count + 1..=newest).take(count as usize).map(|index| self.read(index))
    }

    pub(super) fn at(&self, index: i64) -> Option<Point> {
        let back = self.newest?.checked_sub(index)?;
        (0..self.length as i64).contains(&back).then(|| self.read(index))
    }

    pub(super) fn heap_bytes(&self) -> usize {
        2 * (self.load.capacity() + self.concurrency.capacity())
    }

    fn slot(&self, index: i64) -> usize {
        index.rem_euclid(self.capacity as i64) as usize
    }

    fn read(&self, index: i64) -> Point {
        let slot = self.slot(index);
        let load = self.load.get(slot).copied().unwrap_or(0);
        let concurrency = self.concurrency.get(slot).copied().unwrap_or(0);
        Point {
            index,
            load: value(load & !CENSORED, LOAD_CODES).and_then(|v| RequestsPerSecond::new(v).ok()),
            concurrency: value(concurrency, CONCURRENCY_CODES).and_then(|v| Concurrency::new(v).ok()),
            censored: load & CENSORED != 0,
        }
    }

    fn write(&mut self, index: i64, load: u16, concurrency: u16) {
        let slot = self.slot(index);
        if slot >= self.load.len() {
            if load == 0 {
                return;
            }
            let length = (slot + 1).next_multiple_of(GROW).min(self.capacity);
            for channel in [&mut self.load, &mut self.concurrency] {
                channel.reserve_exact(length - channel.len());
                channel.resize(length, 0);
            }
        }
        self.load[slot] = load;
        self.concurrency[slot] = concurrency;
    }
}

/// The code of a value, 0 for none; codes go from 0 to `codes` − 1.
fn code(value: Option<f64>, codes: u16) -> u16 {
    let Some(value) = value else { return 0 };
    if value < LOWEST {
        return 1;
    }
    let share = libm::log(value.min(HIGHEST) / LOWEST) / libm::log(HIGHEST / LOWEST);
    2 + (share * f64::from(codes - 3)).round() as u16
}

fn value(code: u16, codes: u16) -> Option<f64> {
    match code {
        0 => None,
        1 => Some(0.0),
        c => Some(LOWEST * libm::exp(libm::log(HIGHEST / LOWEST) * f64::from(c - 2) / f64::from(codes - 3))),
    }
}
