//! One watched pod: waiting for its directory, attached, not measurable (with back-off), gone.

use super::saturation::Saturation;
use crate::counters::Counters;
use crate::sample::{Sample, SampleError};
use crate::time::{Mono, Now, Wall};
use crate::wire::{Censored, NotMeasurable, PodReport, PodState, Resources, WatchedPod};

/// First wait after a failed attach, seconds; doubled with each failure.
const FIRST_RETRY_SECONDS: f64 = 1.0;
/// Longest wait: what stood in the way (another agent's program) often leaves within minutes.
const LAST_RETRY_SECONDS: f64 = 60.0;
/// An attach that was neither confirmed nor refused for so long is asked for again.
const ATTACH_TIMEOUT_SECONDS: f64 = 10.0;

#[derive(Clone, Debug, PartialEq)]
enum Stage {
    /// No directory.
    Waiting,
    /// An attach was asked for.
    Attaching { directory: String, asked: Mono },
    /// It failed.
    Failed { directory: String, reason: NotMeasurable, at: Mono },
    /// It is read every poll.
    Attached { directory: String },
    /// A release was asked for; the next tick brings the last counters.
    Leaving { asked: Mono },
}

/// A watched pod.
#[derive(Clone, Debug)]
pub(super) struct WatchedState {
    pub(super) watched: WatchedPod,
    /// Still on the watch list.
    pub(super) wanted: bool,
    pub(super) generation: u32,
    pub(super) newest: Option<(Counters, Resources, Wall)>,
    pub(super) sample: Option<Sample>,
    pub(super) attach_lag_seconds: Option<f64>,
    stage: Stage,
    watched_since: Mono,
    found: Option<Mono>,
    failures: u32,
    saturation: Saturation,
    /// The same pod with other ports or probes: watched once this attach is released.
    replacement: Option<WatchedPod>,
}

/// What a directory scan asks of the shell for one pod.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Need {
    Nothing,
    Attach(String),
    Release,
}

impl WatchedState {
    pub(super) fn new(now: Now, watched: WatchedPod) -> Self {
        Self {
            watched,
            wanted: true,
            generation: 0,
            newest: None,
            sample: None,
            attach_lag_seconds: None,
            stage: Stage::Waiting,
            watched_since: now.mono,
            found: None,
            failures: 0,
            saturation: Saturation::default(),
            replacement: None,
        }
    }

    /// Other ports or probes mean another filter in the kernel: the pod is released, then attached anew.
    pub(super) fn replace(&mut self, watched: WatchedPod) {
        self.replacement = Some(watched);
    }

    /// Its directory as of now (`None`: there is none).
    pub(super) fn scan(&mut self, now: Now, directory: Option<&str>) -> Need {
        let directory = if self.wanted { directory } else { None };
        if directory.is_some() {
            self.found.get_or_insert(now.mono);
        }
        match (&self.stage, directory) {
            (Stage::Waiting, Some(d)) => self.ask(now, d),
            (Stage::Attaching { directory, asked }, Some(d))
                if directory != d || now.mono.seconds_since(*asked) >= ATTACH_TIMEOUT_SECONDS =>
            {
                self.ask(now, d)
            }
            (Stage::Failed { directory, at, .. }, Some(d))
                if directory != d || now.mono.seconds_since(*at) >= self.retry_seconds() =>
            {
                self.ask(now, d)
            }
            (Stage::Attached { directory }, d) if d != Some(directory.as_str()) => {
                self.stage = Stage::Leaving { asked: now.mono };
                Need::Release
            }
            // The attach may have succeeded without our having heard: release frees it all the same.
            (Stage::Attaching { .. }, None) => {
                self.stage = Stage::Leaving { asked: now.mono };
                Need::Release
            }
            (Stage::Failed { .. }, None) => {
                self.back_to_waiting();
                Need::Nothing
            }
            _ => Need::Nothing,
        }
    }

    fn ask(&mut self, now: Now, directory: &str) -> Need {
        self.stage = Stage::Attaching { directory: directory.to_owned(), asked: now.mono };
        Need::Attach(directory.to_owned())
    }

    fn back_to_waiting(&mut self) {
        self.stage = Stage::Waiting;
        self.generation = 0;
        self.found = None;
        self.failures = 0;
        self.newest = None;
        self.sample = None;
        self.saturation = Saturation::default();
    }

    fn retry_seconds(&self) -> f64 {
        let doublings = self.failures.saturating_sub(1).min(16) as i32;
        (FIRST_RETRY_SECONDS * f64::from(1 << doublings)).min(LAST_RETRY_SECONDS)
    }

    /// The shell has attached; counters start at 0.
    pub(super) fn attached(&mut self, now: Now, generation: u32) {
        if let Stage::Attaching { directory, .. } = &self.stage {
            self.stage = Stage::Attached { directory: directory.clone() };
            self.generation = generation;
            self.failures = 0;
            // From when both were known: that it is wanted, and where it is.
            let known = self.found.unwrap_or(now.mono).max(self.watched_since);
            self.attach_lag_seconds = Some(now.mono.seconds_since(known));
        }
    }

    /// The shell could not attach.
    pub(super) fn attach_failed(&mut self, now: Now, reason: NotMeasurable) {
        if let Stage::Attaching { directory, .. } = &self.stage {
            self.stage = Stage::Failed { directory: directory.clone(), reason, at: now.mono };
            self.failures = self.failures.saturating_add(1);
        }
    }

    /// Whether something is, or may be, attached that has to be released before the pod is forgotten.
    pub(super) fn holds(&self) -> bool {
        matches!(self.stage, Stage::Attaching { .. } | Stage::Attached { .. } | Stage::Leaving { .. })
    }

    /// Whether its counters are taken: not before a confirmed attach has given them a key.
    pub(super) fn is_read(&self) -> bool {
        self.generation > 0 && self.holds()
    }

    pub(super) fn is_attached(&self) -> bool {
        matches!(self.stage, Stage::Attached { .. })
    }

    /// Takes this poll's counters.
    ///
    /// # Errors
    /// [`SampleError`] when they and the ones before give no sample; after a counter that went back, the caller
    /// gives the pod a new generation.
    pub(super) fn read(
        &mut self,
        now: Now,
        counters: Counters,
        resources: Resources,
    ) -> Result<(), SampleError> {
        let sample = self.newest.as_ref().map(|(before, ..)| Sample::between(before, &counters));
        self.sample = None;
        if let Some(Err(SampleError::BadInterval { seconds })) = sample
            && (0.0..1.0).contains(&seconds)
        {
            // Read twice within a millisecond: keep the older one as the next sample's start.
            return Ok(());
        }
        self.newest = Some((counters, resources, now.wall));
        match sample {
            None => Ok(()),
            Some(Ok(sample)) => {
                self.saturation.observe(&sample, &resources);
                self.sample = Some(sample);
                Ok(())
            }
            Some(Err(e)) => {
                self.saturation = Saturation::default();
                Err(e)
            }
        }
    }

    /// Ends a leave: its last report, if it was ever read; `None` while it is not leaving.
    ///
    /// Called once a tick, after its readings: a shell that got no last counters has none to wait for.
    pub(super) fn leave(&mut self, now: Now, workload: usize) -> Option<Option<PodReport>> {
        let Stage::Leaving { asked } = self.stage else { return None };
        // The release was asked for in this very instant; the shell's last read comes with the next tick.
        if asked == now.mono {
            return None;
        }
        let report = self.newest.is_some().then(|| PodReport { last: true, ..self.report(workload) });
        self.back_to_waiting();
        if let Some(watched) = self.replacement.take() {
            self.watched = watched;
            self.wanted = true;
        }
        Some(report)
    }

    pub(super) fn state(&self) -> PodState {
        match &self.stage {
            Stage::Waiting | Stage::Attaching { .. } => PodState::Waiting,
            Stage::Failed { reason, .. } => PodState::NotMeasurable(*reason),
            Stage::Attached { .. } | Stage::Leaving { .. } => PodState::Measured,
        }
    }

    pub(super) fn censored(&self) -> Option<Censored> {
        self.saturation.censored()
    }

    pub(super) fn report(&self, workload: usize) -> PodReport {
        let (counters, resources, read) = match &self.newest {
            Some((counters, resources, read)) => (Some(counters.clone()), *resources, *read),
            None => (None, Resources::default(), Wall(0)),
        };
        PodReport {
            uid: self.watched.uid.clone(),
            workload,
            attach_generation: self.generation,
            state: self.state(),
            read,
            counters,
            resources,
            censored: self.censored(),
            last: false,
        }
    }
}
