//! A workload's history: 1 s × 10 min, 10 s × 6 h, 1 min × 15 d, load and concurrency as quantised 16-bit channels.
//!
//! A bin is written once. The one-second ring takes each closed second as it comes; late seconds fill explicit gaps
//! and change nothing that is known. The coarser rings take their bins when the first second after them comes: a mean
//! over the seconds that were there, a gap when fewer than half were; what is later still does not change them.
//! Imported history fills gaps only. So a forecast that was made on a bin can be made again on the same bin.

mod ring;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

use ring::{Ring, RingTail, SavedRing};

use crate::merge::Second;
use crate::time::Wall;
use crate::units::{Concurrency, RequestsPerSecond};

/// The three resolutions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Resolution {
    /// One second, the last 10 minutes.
    Second,
    /// Ten seconds, the last 6 hours.
    TenSeconds,
    /// One minute, the last 15 days.
    Minute,
}

impl Resolution {
    /// All, finest first.
    pub const ALL: [Self; 3] = [Self::Second, Self::TenSeconds, Self::Minute];

    /// Length of a bin, seconds.
    pub fn step_seconds(self) -> u32 {
        match self {
            Self::Second => 1,
            Self::TenSeconds => 10,
            Self::Minute => 60,
        }
    }

    /// Bins that are kept.
    pub fn bins(self) -> usize {
        match self {
            Self::Second => 600,
            Self::TenSeconds => 6 * 360,
            Self::Minute => 15 * 1440,
        }
    }
}

/// One bin of history.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// Unix seconds of the bin's start divided by its length.
    pub index: i64,
    /// Mean load, requests/s; `None` is a gap.
    pub load: Option<RequestsPerSecond>,
    /// Mean requests in flight; `None` where it is not known (imported history has none).
    pub concurrency: Option<Concurrency>,
    /// The load is a lower bound.
    pub censored: bool,
}

/// Sums over the open bin of a coarse ring.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
struct Open {
    index: i64,
    load: f64,
    concurrency: f64,
    seconds: u32,
    censored: bool,
}

/// A workload's history.
#[derive(Clone, Debug)]
pub struct Series {
    rings: [Ring; 3],
    /// The open bins of the two coarser rings.
    open: [Option<Open>; 2],
    /// A bin of the coarser rings behind their newest was written.
    refilled: bool,
}

/// The two coarser rings, for a checkpoint.
#[derive(Serialize, Deserialize)]
pub(crate) struct SavedSeries([SavedRing; 2]);

/// What a history has beyond a [`SavedSeries`]: the seconds, the newer bins of the coarser rings, their open bins.
#[derive(Serialize, Deserialize)]
pub(crate) struct SeriesTail {
    seconds: SavedRing,
    coarse: [RingTail; 2],
    open: [Option<Open>; 2],
}

impl SavedSeries {
    /// The history; `None` if it can't be one.
    pub(crate) fn restored(self) -> Option<Series> {
        let [ten, minute] = self.0;
        let ten = ten.restored(Resolution::TenSeconds.bins())?;
        let minute = minute.restored(Resolution::Minute.bins())?;
        let seconds = Ring::new(Resolution::Second.bins());
        Some(Series { rings: [seconds, ten, minute], open: [None; 2], refilled: false })
    }
}

/// Longest that an imported value stands for the time after it, seconds: five-minute history leaves no gaps in a ring
/// of minutes, and an hour without a point is a gap.
const IMPORT_HOLD_SECONDS: i64 = 600;

impl Default for Series {
    fn default() -> Self {
        Self { rings: Resolution::ALL.map(|r| Ring::new(r.bins())), open: [None; 2], refilled: false }
    }
}

impl Series {
    /// An empty history.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes a closed second. Seconds may skip (a gap) and may come late (see the head of the file).
    pub fn push(&mut self, second: &Second) {
        let point = Point {
            index: second.unix_seconds,
            load: second.load,
            concurrency: second.concurrency,
            censored: second.censored,
        };
        let newest = self.rings[0].newest();
        if newest.is_some_and(|newest| second.unix_seconds <= newest) {
            self.rings[0].fill(&point);
            return;
        }
        self.rings[0].push(&point);
        for (open, resolution) in self.open.iter_mut().zip([Resolution::TenSeconds, Resolution::Minute]) {
            let step = resolution.step_seconds();
            let index = second.unix_seconds.div_euclid(i64::from(step));
            if let Some(done) = open.filter(|o| o.index < index) {
                let ring = &mut self.rings[resolution as usize];
                self.refilled |= ring.newest().is_some_and(|newest| newest >= done.index);
                ring.push(&done.close(step));
                *open = None;
            }
            open.get_or_insert(Open { index, ..Open::default() }).add(second);
        }
    }

    /// Takes history from before our time: (instant, requests/s), in any order. A point stands until the next one, at
    /// most ten minutes. Only gaps are filled.
    pub fn import(&mut self, history: &[(Wall, RequestsPerSecond)]) {
        let mut points: Vec<(i64, f64)> = history.iter().map(|(w, v)| (w.unix_seconds(), v.get())).collect();
        points.sort_by_key(|(at, _)| *at);
        self.refilled = true;
        for resolution in [Resolution::TenSeconds, Resolution::Minute] {
            self.import_into(resolution, &points);
        }
    }

    fn import_into(&mut self, resolution: Resolution, points: &[(i64, f64)]) {
        let step = i64::from(resolution.step_seconds());
        let Some(end) = points.last().map(|(at, _)| at.div_euclid(step)) else { return };
        let ring = &mut self.rings[resolution as usize];
        let oldest = ring.newest().unwrap_or(end).max(end) - resolution.bins() as i64;
        // The ring is laid out up to the newest point first; its bins are gaps until they are filled.
        if ring.newest().is_none_or(|newest| newest < end) {
            ring.push(&Point { index: end, load: None, concurrency: None, censored: false });
        }
        let mut position = 0;
        while position < points.len() {
            let index = points[position].0.div_euclid(step);
            let (mut sum, mut n) = (0.0, 0.0);
            while position < points.len() && points[position].0.div_euclid(step) == index {
                sum += points[position].1;
                n += 1.0;
                position += 1;
            }
            let until = match points.get(position) {
                Some((next, _)) => {
                    next.div_euclid(step).min(index + 1 + (IMPORT_HOLD_SECONDS - 1) / step).max(index + 1)
                }
                None => index + 1,
            };
            let load = RequestsPerSecond::new(sum / n).ok();
            for index in index.max(oldest)..until {
                ring.fill(&Point { index, load, concurrency: None, censored: false });
            }
        }
    }

    /// The bins of a resolution, oldest first, gaps included.
    pub fn points(&self, resolution: Resolution) -> impl Iterator<Item = Point> + '_ {
        self.rings[resolution as usize].iter()
    }

    /// The newest `count` bins of a resolution, oldest first, gaps included.
    pub fn newest(&self, resolution: Resolution, count: usize) -> impl Iterator<Item = Point> + '_ {
        self.rings[resolution as usize].iter_newest(count)
    }

    /// The bins that are later than `index`, oldest first: what an ensemble has not been shown yet.
    pub fn after(&self, resolution: Resolution, index: i64) -> impl Iterator<Item = Point> + '_ {
        let ring = &self.rings[resolution as usize];
        let count = ring.newest().map_or(0, |newest| newest.saturating_sub(index).max(0));
        ring.iter_newest(usize::try_from(count).unwrap_or(usize::MAX))
    }

    /// The bin of this index; `None` where it is not kept any more, or not yet.
    pub fn at(&self, resolution: Resolution, index: i64) -> Option<Point> {
        self.rings[resolution as usize].at(index)
    }

    /// Whether a coarser ring has changed behind its newest bin since the last call: an older [`SavedSeries`] and a
    /// [`SeriesTail`] no longer make this history.
    pub(crate) fn take_refilled(&mut self) -> bool {
        std::mem::take(&mut self.refilled)
    }

    /// The newest bins of the two coarser rings.
    pub(crate) fn coarse_newest(&self) -> [Option<i64>; 2] {
        [self.rings[1].newest(), self.rings[2].newest()]
    }

    pub(crate) fn save(&self) -> SavedSeries {
        SavedSeries([self.rings[1].save(), self.rings[2].save()])
    }

    /// What came after the bins `newest` of the two coarser rings.
    pub(crate) fn save_after(&self, newest: [Option<i64>; 2]) -> SeriesTail {
        SeriesTail {
            seconds: self.rings[0].save(),
            coarse: [self.rings[1].save_after(newest[0]), self.rings[2].save_after(newest[1])],
            open: self.open,
        }
    }

    /// Adds what [`Series::save_after`] gave; `None` if that can't be.
    pub(crate) fn append(&mut self, tail: &SeriesTail) -> Option<()> {
        self.rings[0] = tail.seconds.restored(Resolution::Second.bins())?;
        self.rings[1].append(&tail.coarse[0])?;
        self.rings[2].append(&tail.coarse[1])?;
        self.open = tail.open;
        Some(())
    }

    /// Bytes that it holds.
    pub fn memory_bytes(&self) -> usize {
        size_of::<Self>() + self.rings.iter().map(Ring::heap_bytes).sum::<usize>()
    }
}

impl Open {
    fn add(&mut self, second: &Second) {
        if let Some(load) = second.load {
            self.load += load.get();
            self.concurrency += second.concurrency.map_or(0.0, Concurrency::get);
            self.seconds += 1;
            self.censored |= second.censored;
        }
    }

    fn close(&self, step: u32) -> Point {
        let known = self.seconds * 2 >= step;
        let mean = |sum: f64| known.then(|| sum / f64::from(self.seconds));
        Point {
            index: self.index,
            load: mean(self.load).and_then(|v| RequestsPerSecond::new(v).ok()),
            concurrency: mean(self.concurrency).and_then(|v| Concurrency::new(v).ok()),
            censored: known && self.censored,
        }
    }
}
