//! One workload's state as bytes, and back: what a restart, or another replica, goes on from.
//!
//! It comes in two parts. The *base* is what is large and moves slowly: the history and the two ensembles, some 200 KB,
//! made anew every ten minutes. The *tail* is what must never be old: windows and ramp budgets, lead times, writes, the
//! shadow HPA, and the bins since the base; a few KB, made every few seconds. The ensembles are a function of the bins
//! that they saw, so the base and the bins of the tail give them back as they were.
//!
//! What is not kept is the merge: agents send cumulative counters, and two reports of each bring it back.

#[cfg(test)]
mod tests;

use std::collections::VecDeque;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::ClusterSettings;
use super::forecasts::Forecasts;
use super::moments::{Moment, Moments};
use super::shadow::Shadow;
use super::starts::Starts;
use super::tracked::{LOG, Logged, Recent, Tracked};
use super::writes::Writes;
use crate::lead_time::LeadTime;
use crate::merge::Second;
use crate::plan::Memory;
use crate::series::{Resolution, SavedSeries, SeriesTail};
use crate::time::{Mono, Now, Wall};
use crate::world::{WorkloadId, WorkloadSettings};

/// To be raised with every change of what is saved here; `a_fixed_state_gives_these_very_bytes` says when. State of
/// another format is refused, and its workload starts anew.
const FORMAT: u32 = 2;
/// Format and checksum, 4 bytes each, before what is encoded (postcard).
const HEADER: usize = 8;
/// A base is made anew after so long, seconds of the caller's clock. A thousand workloads of 200 KB then make 0.3 MB a
/// second, and at most 60 + 10 bins are replayed.
const BASE_SECONDS: f64 = 600.0;

/// One workload's state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The slow part; `None`: the one that was given last still holds.
    pub base: Option<Vec<u8>>,
    /// The fast part, which belongs to the newest base.
    pub tail: Vec<u8>,
}

/// What could be restored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restored {
    /// Everything: plans go on as if nothing had happened.
    Whole,
    /// All but the forecasters, whose state is of another build; they have learned anew from the saved history.
    Retrained,
}

/// Why state could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Unreadable {
    /// Written by a build with another format.
    #[error("the state is of format {found}, this build reads {FORMAT}")]
    Format {
        /// Its format.
        found: u32,
    },
    /// Cut short, or its checksum or its contents can't be true.
    #[error("the state is broken")]
    Broken,
    /// The tail is not this base's.
    #[error("the two parts of the state do not belong together")]
    Parts,
}

/// The slow part.
#[derive(Serialize, Deserialize)]
struct Base {
    series: SavedSeries,
    forecasts: SavedForecasts,
    moments: [Moments; 2],
    log: VecDeque<Logged>,
}

/// The ensembles, fast first, and the anomaly filter.
#[derive(Serialize, Deserialize)]
pub(super) struct SavedForecasts {
    pub(super) ensembles: [SavedEnsemble; 2],
    pub(super) filter: Vec<u8>,
}

/// An ensemble and the newest bin that it has seen.
#[derive(Serialize, Deserialize)]
pub(super) struct SavedEnsemble {
    pub(super) seen: Option<i64>,
    pub(super) bytes: Vec<u8>,
}

/// The fast part. Instants are those of the writer's clock, at `mono` and `wall`.
#[derive(Serialize, Deserialize)]
struct Tail {
    mono: Mono,
    wall: Wall,
    base: u32,
    series: SeriesTail,
    moments: [Vec<Moment>; 2],
    log: Vec<Logged>,
    logged: u64,
    recent: Recent,
    lead_times: Vec<f64>,
    starts: Starts,
    memory: Memory,
    writes: Writes,
    measured_since: Option<Mono>,
    shadow: Option<Shadow>,
    settings: Option<WorkloadSettings>,
}

/// The base that tails refer to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mark {
    checksum: u32,
    made: Mono,
    /// The newest bins of the two coarse rings.
    newest: [Option<i64>; 2],
    moments: [Option<i64>; 2],
    logged: u64,
}

impl Tracked {
    /// The state as of `now`, with a new base when it is due or the history behind the newest bin has changed.
    pub(super) fn checkpoint(&mut self, now: Now, stagger_seconds: f64) -> Checkpoint {
        let due = |mark: &Mark| now.mono.seconds_since(mark.made) >= BASE_SECONDS;
        let refilled = self.series.take_refilled();
        let kept = self.mark.filter(|mark| !refilled && !due(mark));
        let (mark, base) = match kept {
            Some(mark) => (mark, None),
            None => {
                let (mark, base) = self.base(now, self.mark.map_or(stagger_seconds, |_| 0.0));
                (mark, Some(base))
            }
        };
        self.mark = Some(mark);
        Checkpoint { base, tail: self.tail(now, &mark) }
    }

    fn base(&self, now: Now, older_seconds: f64) -> (Mark, Vec<u8>) {
        let moments = [&self.fine, &self.coarse];
        let base = Base {
            series: self.series.save(),
            forecasts: self.forecasts.save(),
            moments: moments.map(Clone::clone),
            log: self.log.clone(),
        };
        let bytes = seal(&base);
        let mark = Mark {
            checksum: checksum(&bytes),
            made: Mono(now.mono.0.saturating_sub((older_seconds * 1e9) as u64)),
            newest: self.series.coarse_newest(),
            moments: moments.map(Moments::newest),
            logged: self.logged,
        };
        (mark, bytes)
    }

    fn tail(&self, now: Now, mark: &Mark) -> Vec<u8> {
        // The newest entry of the base may have learned its outcome since.
        let since = usize::try_from(self.logged - mark.logged + 1).unwrap_or(LOG);
        let log = self.log.iter().skip(self.log.len().saturating_sub(since)).cloned().collect();
        seal(&Tail {
            mono: now.mono,
            wall: now.wall,
            base: mark.checksum,
            series: self.series.save_after(mark.newest),
            moments: [self.fine.since(mark.moments[0]), self.coarse.since(mark.moments[1])],
            log,
            logged: self.logged,
            recent: self.recent.newest_only(),
            lead_times: self.lead_time.measured().collect(),
            starts: self.starts.clone(),
            memory: self.memory.clone(),
            writes: self.writes.after_a_restart(),
            measured_since: self.measured_since,
            shadow: self.shadow.clone(),
            settings: self.state.as_ref().map(|state| state.settings.clone()),
        })
    }

    /// The workload that the state is of, as it goes on at `now`. What `self` has measured since the state was saved
    /// is kept: a standby has heard the same reports.
    pub(super) fn restored(
        &self,
        now: Now,
        id: &WorkloadId,
        base_bytes: &[u8],
        tail: &[u8],
        settings: &ClusterSettings,
    ) -> Result<(Self, Restored), Unreadable> {
        let base: Base = open(base_bytes)?;
        let tail: Tail = open(tail)?;
        if tail.base != checksum(base_bytes) {
            return Err(Unreadable::Parts);
        }
        let down_ms = now.wall.0.saturating_sub(tail.wall.0).max(0);
        let shift = |at: Mono| rebased(at, tail.mono, now.mono, down_ms);

        let mut new = Self::new(settings, id);
        new.series = base.series.restored().ok_or(Unreadable::Broken)?;
        let mark = Mark {
            checksum: tail.base,
            made: now.mono,
            newest: new.series.coarse_newest(),
            moments: base.moments.each_ref().map(Moments::newest),
            logged: tail.logged.saturating_sub(tail.log.len().saturating_sub(1) as u64),
        };
        new.mark = Some(mark);
        // The bins of the tail come after the ensembles: they are shown to them as they were then.
        new.series.append(&tail.series).ok_or(Unreadable::Broken)?;
        let (models, weights) = (settings.models.of(id), &settings.weights.of(id));
        let (forecasts, restored) = match Forecasts::restored(&base.forecasts, models, weights) {
            Ok(forecasts) => (forecasts, Restored::Whole),
            Err(prescale_models::Unreadable::OtherLayout) => {
                (Forecasts::retrained(&new.series, models, weights), Restored::Retrained)
            }
            Err(prescale_models::Unreadable::Broken) => return Err(Unreadable::Broken),
        };
        new.forecasts = forecasts;
        new.forecasts.follow(&new.series);
        let [fine, coarse] = base.moments;
        let [fine_tail, coarse_tail] = tail.moments;
        (new.fine, new.coarse) = (fine.followed_by(fine_tail), coarse.followed_by(coarse_tail));
        new.log = base.log;
        if !tail.log.is_empty() {
            new.log.pop_back();
        }
        new.log.extend(tail.log);
        while new.log.len() > LOG {
            new.log.pop_front();
        }
        new.logged = tail.logged;
        new.recent = tail.recent;
        new.lead_time = LeadTime::with(settings.lead_time_prior, tail.lead_times);
        new.starts = tail.starts.rebased(shift);
        new.memory = tail.memory.rebased(shift);
        new.writes = tail.writes.rebased(shift);
        new.shadow = tail.shadow.map(|shadow| shadow.rebased(shift));
        new.settings_before = tail.settings;
        // After a gap as long as the warm-up nothing of what was measured says what may be taken away now.
        let warm_up_ms = settings.rules.warm_up_seconds * 1000.0;
        new.measured_since = tail.measured_since.filter(|_| (down_ms as f64) < warm_up_ms).map(shift);
        new.go_on_from(self);
        Ok((new, restored))
    }

    /// Takes what `other`, which ran meanwhile, knows beyond the state.
    fn go_on_from(&mut self, other: &Self) {
        let newest = self.series.points(Resolution::Second).last().map_or(i64::MIN, |point| point.index);
        for point in other.series.after(Resolution::Second, newest) {
            let second = Second {
                unix_seconds: point.index,
                load: point.load,
                concurrency: point.concurrency,
                censored: point.censored,
            };
            self.series.push(&second);
            self.recent.push(&second);
        }
        self.forecasts.follow(&self.series);
        // The target may not have shown us the last writer's last write yet: it is no stranger's.
        if let Some(replicas) = self.memory.newest_replicas() {
            self.writes.expect(replicas);
        }
        // What the last writer wrote after its last save the target has shown us: the growth that it used up is no longer to be
        // had, and that from what it wrote is.
        self.memory.go_on_from(&other.memory);
        self.state.clone_from(&other.state);
    }
}

/// The instant of the reader's clock that was `at` on the writer's, whose clocks showed `then` when the reader's showed
/// `now`, `down_ms` later. The reader's clock must have started long enough ago in its own count (`shell::clock`).
fn rebased(at: Mono, then: Mono, now: Mono, down_ms: i64) -> Mono {
    let nanos = i128::from(now.0) - (i128::from(then.0) - i128::from(at.0)) - i128::from(down_ms) * 1_000_000;
    Mono(u64::try_from(nanos.max(0)).unwrap_or(u64::MAX))
}

fn seal(part: &impl Serialize) -> Vec<u8> {
    let body = postcard::to_allocvec(part).expect("plain data of bounded size always encodes");
    let mut bytes = Vec::with_capacity(HEADER + body.len());
    bytes.extend_from_slice(&FORMAT.to_le_bytes());
    bytes.extend_from_slice(&crc32fast::hash(&body).to_le_bytes());
    bytes.extend_from_slice(&body);
    bytes
}

fn checksum(sealed: &[u8]) -> u32 {
    sealed[4..HEADER].try_into().map_or(0, u32::from_le_bytes)
}

fn open<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Unreadable> {
    let (format, rest) = bytes.split_first_chunk().ok_or(Unreadable::Broken)?;
    let found = u32::from_le_bytes(*format);
    if found != FORMAT {
        return Err(Unreadable::Format { found });
    }
    let (checksum, body) = rest.split_first_chunk().ok_or(Unreadable::Broken)?;
    if crc32fast::hash(body) != u32::from_le_bytes(*checksum) {
        return Err(Unreadable::Broken);
    }
    match postcard::take_from_bytes(body) {
        Ok((part, [])) => Ok(part),
        _ => Err(Unreadable::Broken),
    }
}
