//! When a pod's served rate is a lower bound of what is asked of it: the censored flag.
//!
//! A saturated pod serves what it can; callers that wait for answers, full queues and refused connections then hide
//! the rest of the demand. The sign that needs no knowledge of the pod's capacity: requests in flight grow while the
//! finish rate stays flat below the start rate. It is remembered until the backlog has drained by half, or the pod
//! finishes clearly more than it did then (so it was not its limit). A pod whose cgroup is throttled for most of the
//! time is at its limit, whatever the backlog does. A pause of a second (a garbage collection, a busy node) is no saturation.

use std::collections::VecDeque;

use crate::sample::Sample;
use crate::wire::{Censored, Resources};

/// Polls that are looked at: five seconds; a garbage collection's pause is over by then.
const WINDOW: usize = 5;
/// Requests in flight of a healthy pod vary like a Poisson count or less; the difference of two of them by √(2·mean).
/// Growth beyond four of those in a window, and at least four requests, is no chance.
const GROWTH_SIGMAS: f64 = 4.0;
const MIN_GROWTH: f64 = 4.0;
/// The finish rate counts as flat when the window's second half is at most this much over its first.
const FLAT: f64 = 1.1;
/// And as below the start rate when at most this share of it.
const BELOW: f64 = 0.95;
/// A pod that finishes this much more than when the episode began was not at its limit.
const RISEN: f64 = 1.25;
/// Throttled for more than half of the time.
const THROTTLED_SHARE: f64 = 0.5;

#[derive(Clone, Copy, Debug)]
struct Poll {
    in_flight: f64,
    start_rate: f64,
    finish_rate: f64,
}

#[derive(Clone, Copy, Debug)]
struct Episode {
    /// Requests in flight before it, and the most since.
    entry: f64,
    peak: f64,
    /// Finish rate when it began.
    finish_rate: f64,
}

/// The saturation detector of one pod.
#[derive(Clone, Debug, Default)]
pub(super) struct Saturation {
    polls: VecDeque<Poll>,
    episode: Option<Episode>,
    throttled_ns: Option<u64>,
    throttled: bool,
}

impl Saturation {
    /// Takes one poll's sample.
    pub(super) fn observe(&mut self, sample: &Sample, resources: &Resources) {
        if let Some(before) = self.throttled_ns {
            let share = resources.throttled_ns.saturating_sub(before) as f64 / (sample.seconds * 1e9);
            self.throttled = share > THROTTLED_SHARE;
        }
        self.throttled_ns = Some(resources.throttled_ns);
        self.polls.push_back(Poll {
            in_flight: sample.in_flight as f64,
            start_rate: sample.rate.get(),
            finish_rate: sample.finish_rate.get(),
        });
        if self.polls.len() > WINDOW {
            self.polls.pop_front();
        }
        self.episode = match self.episode {
            None => self.begins(),
            Some(episode) => Self::goes_on(episode, sample),
        };
    }

    /// The flag and its reason.
    pub(super) fn censored(&self) -> Option<Censored> {
        if self.episode.is_some() {
            Some(Censored::Backlog)
        } else {
            self.throttled.then_some(Censored::Throttled)
        }
    }

    fn begins(&self) -> Option<Episode> {
        if self.polls.len() < WINDOW {
            return None;
        }
        let (first, last) = (self.polls.front()?, self.polls.back()?);
        // What one poll shows and the one before does not yet may be a pause that is over within a second.
        let lasting = last.in_flight.min(self.polls[WINDOW - 2].in_flight);
        let mean = (first.in_flight + lasting) / 2.0;
        let noise = MIN_GROWTH.max(GROWTH_SIGMAS * (2.0 * mean).sqrt());
        let (mut starts, mut finishes, mut early, mut late) = (0.0, 0.0, 0.0, 0.0);
        for (position, poll) in self.polls.iter().enumerate() {
            starts += poll.start_rate;
            finishes += poll.finish_rate;
            match position {
                0 | 1 => early += poll.finish_rate,
                p if p + 2 >= WINDOW => late += poll.finish_rate,
                _ => {}
            }
        }
        let grew = lasting - first.in_flight > noise;
        let flat = late <= FLAT * early;
        let below = finishes <= BELOW * starts;
        (grew && flat && below).then_some(Episode {
            entry: first.in_flight,
            peak: last.in_flight,
            finish_rate: finishes / WINDOW as f64,
        })
    }

    fn goes_on(mut episode: Episode, sample: &Sample) -> Option<Episode> {
        let in_flight = sample.in_flight as f64;
        episode.peak = episode.peak.max(in_flight);
        let drained = in_flight <= episode.entry + 0.5 * (episode.peak - episode.entry);
        let risen = sample.finish_rate.get() > RISEN * episode.finish_rate;
        (!drained && !risen).then_some(episode)
    }
}
