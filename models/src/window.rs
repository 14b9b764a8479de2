//! The newest bins of a series, by index, gaps included.

use crate::expert::Bin;
use crate::state::{Loader, Saver, State, Unreadable, state};

/// What the window holds for one bin: NaN where nothing was measured; the sign says that the value is a lower bound.
#[derive(Clone, Copy, Debug)]
struct Slot(f32);

impl Slot {
    const EMPTY: Self = Self(f32::NAN);

    fn outcome(self) -> Outcome {
        match self.0 {
            v if v.is_nan() => Outcome::Unknown,
            v if v.is_sign_negative() => Outcome::AtLeast(f64::from(-v)),
            v => Outcome::Known(f64::from(v)),
        }
    }
}

impl State for Slot {
    fn save(&self, out: &mut Saver) {
        self.0.save(out);
    }

    fn load(&mut self, from: &mut Loader<'_>) -> Result<(), Unreadable> {
        self.0.load(from)
    }
}

/// A value that became known, as far as it did.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Outcome {
    /// Exactly this.
    Known(f64),
    /// At least this: a bin was censored or missing.
    AtLeast(f64),
    /// Nothing was measured.
    Unknown,
}

/// A ring of the newest `capacity` bins.
#[derive(Clone, Debug)]
pub struct Window {
    slots: Box<[Slot]>,
    newest: Option<i64>,
}
state!(Window { slots, newest });

impl Window {
    /// An empty window of `capacity` bins.
    pub fn new(capacity: usize) -> Self {
        Self { slots: vec![Slot::EMPTY; capacity.max(1)].into(), newest: None }
    }

    /// Index of the newest bin.
    pub fn newest(&self) -> Option<i64> {
        self.newest
    }

    /// Adds a bin later than all before; skipped bins are missing.
    pub fn push(&mut self, bin: Bin) {
        let capacity = self.slots.len() as i64;
        if let Some(newest) = self.newest {
            debug_assert!(bin.index > newest, "bins must come in order");
            // Bins older than the capacity were overwritten anyway, so a long gap costs at most one turn of the ring.
            let first = (newest + 1).max(bin.index.saturating_sub(capacity - 1));
            for index in first..bin.index {
                let at = self.at(index);
                self.slots[at] = Slot::EMPTY;
            }
        }
        let at = self.at(bin.index);
        self.slots[at] = match (bin.value, bin.censored) {
            (None, _) => Slot::EMPTY,
            // A zero may come with a sign of its own.
            (Some(v), false) => Slot(v.abs() as f32),
            (Some(v), true) => Slot(-v.abs() as f32),
        };
        self.newest = Some(bin.index);
    }

    /// What is known of bin `index`.
    pub fn get(&self, index: i64) -> Outcome {
        self.slot(index).outcome()
    }

    /// What is known of the largest value of the bins `first..=last`.
    pub fn max(&self, first: i64, last: i64) -> Outcome {
        let (mut largest, mut whole, mut any) = (0.0_f64, true, false);
        for index in first..=last {
            let outcome = self.get(index);
            whole &= matches!(outcome, Outcome::Known(_));
            if let Outcome::Known(value) | Outcome::AtLeast(value) = outcome {
                any = true;
                largest = largest.max(value);
            }
        }
        match (any, whole) {
            (false, _) => Outcome::Unknown,
            (true, true) => Outcome::Known(largest),
            (true, false) => Outcome::AtLeast(largest),
        }
    }

    /// Bytes on the heap.
    pub fn heap_bytes(&self) -> usize {
        std::mem::size_of_val(&*self.slots)
    }

    fn slot(&self, index: i64) -> Slot {
        match self.newest {
            Some(newest) if index <= newest && newest - index < self.slots.len() as i64 => {
                self.slots[self.at(index)]
            }
            _ => Slot::EMPTY,
        }
    }

    fn at(&self, index: i64) -> usize {
        index.rem_euclid(self.slots.len() as i64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jump_leaves_missing_bins_and_old_ones_are_forgotten() {
        let mut window = Window::new(4);
        for i in 0..4 {
            window.push(Bin::new(i, i as f64));
        }
        assert_eq!(window.max(0, 3), Outcome::Known(3.0));
        window.push(Bin::new(6, 1.0));
        assert_eq!(window.get(2), Outcome::Unknown, "older than the capacity");
        assert_eq!(window.get(3), Outcome::Known(3.0));
        assert_eq!(window.get(5), Outcome::Unknown, "skipped");
        assert_eq!(window.max(3, 6), Outcome::AtLeast(3.0));
        window.push(Bin { index: 1_000_000_000_000, value: Some(2.0), censored: true });
        assert_eq!(window.get(6), Outcome::Unknown);
        assert_eq!(window.get(1_000_000_000_000), Outcome::AtLeast(2.0));
    }
}
