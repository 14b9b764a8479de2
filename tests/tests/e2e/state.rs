//! What a leader knows of a workload, as its API shows it, and whether the next one goes on from there.

use std::fmt::Debug;
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value;

use super::app::{App, Load, arrivals, steady};
use super::kubectl::{Namespace, wait};
use super::prescale::workload;

/// So old may a state be that the next leader goes on from, ms.
const AGE_MS: u64 = 10_000;

/// A workload that is only watched, with so long a past as the tests had until its leader goes.
pub struct Remembered(Namespace, Load);

static REMEMBERED: Mutex<Option<Remembered>> = Mutex::new(None);

/// Begins that past: the test of the leaders takes it over.
pub fn remember() {
    *REMEMBERED.lock().unwrap_or_else(PoisonError::into_inner) = Some(Remembered::begin());
}

impl Remembered {
    fn begin() -> Self {
        let namespace = Namespace::new("remembered");
        let annotations = vec![("mode", "observe".to_owned())];
        App { cpu: "100m", annotations, ..App::default() }.start(&namespace);
        // Longer than all tests together.
        let load = Load::start(&namespace, arrivals(&[steady(25.0, 3600.0)], 10));
        Self(namespace, load)
    }

    /// The one that has begun, or a new one.
    pub fn take() -> Self {
        let begun = REMEMBERED.lock().unwrap_or_else(PoisonError::into_inner).take();
        begun.unwrap_or_else(Self::begin)
    }

    /// Where it is.
    pub fn namespace(&self) -> &str {
        &self.0.0
    }

    /// Waits until its forecasts of minutes have weights: they come with the first that is settled.
    pub fn known(&self) {
        wait("weights of the minutes' experts", 420, || {
            let said = self.1.totals().sent;
            let minutes = Known::of(&self.0.0)?.minutes;
            if minutes.len() > 1 { Ok(()) } else { Err(format!("{said} requests sent")) }
        });
    }

    /// Waits until what comes `seconds` from now comes well within a minute: weights of minutes change with each, so that a
    /// next leader that is there within ten seconds has those of the last. And not at the edge of a row of ten seconds: the
    /// last one that is compared is then some seconds older than [`AGE_MS`], which a busy machine's reports may need.
    pub fn minute(&self, seconds: f64) {
        wait("a minute's beginning", 70, || {
            let into = (unix_ms() as f64 / 1e3 + seconds) % 60.0;
            if (12.0..38.0).contains(&into) && (3.0..8.0).contains(&(into % 10.0)) {
                Ok(())
            } else {
                Err(format!("{into:.0} s into it"))
            }
        });
    }
}

/// What of a workload's state the API shows.
#[derive(Debug)]
pub struct Known {
    at_unix_ms: u64,
    timeline: Vec<Value>,
    decisions: Vec<Value>,
    /// Weights and scores of the forecasts of minutes.
    minutes: Vec<Value>,
}

impl Known {
    /// What the leader knows now of `namespace`'s `web`.
    pub fn of(namespace: &str) -> Result<Self, String> {
        let mut view = workload(namespace, "web")?;
        let at_unix_ms = view["now_unix_ms"].as_u64().ok_or("no time in it")?;
        let mut rows = |field: &str| match view[field].take() {
            Value::Array(rows) => rows,
            _ => Vec::new(),
        };
        let (timeline, decisions) = (rows("timeline"), rows("decisions"));
        let minutes = rows("weights").into_iter().chain(rows("scores"));
        let minutes = minutes.filter(|row| row["bin_seconds"] == 60).collect();
        Ok(Self { at_unix_ms, timeline, decisions, minutes })
    }

    /// Waits until the next leader knows what this one knew: the past as of [`AGE_MS`] before this, and the weights and
    /// scores of the same minute, in which both must be asked. What that is, in words.
    pub fn goes_on(&self, namespace: &str) -> String {
        let until = self.at_unix_ms - AGE_MS;
        let (past, decisions) = self.until(until);
        assert!(past.len() > 1, "{namespace}: {} rows of the past", past.len());
        wait(&format!("{namespace}: the next leader knows what the last one knew"), 10, || {
            let after = Self::of(namespace)?;
            let (rows, log) = after.until(until);
            same("the past", &past, &rows)?;
            same("decisions", &decisions, &log)?;
            if after.at_unix_ms / 60_000 != self.at_unix_ms / 60_000 {
                return Err("it is another minute".to_owned());
            }
            same("weights and scores", &self.minutes, &after.minutes)
        });
        let (past, decisions, minutes) = (past.len(), decisions.len(), self.minutes.len());
        format!("{past} rows of the past, {decisions} decisions, {minutes} rows of weights and scores")
    }

    /// The past that had ended at `unix_ms`.
    fn until(&self, unix_ms: u64) -> (Vec<&Value>, Vec<&Value>) {
        let began = |row: &Value| row["at_unix_ms"].as_u64().unwrap_or(u64::MAX);
        let length = |row: &Value| row["length_seconds"].as_u64().unwrap_or(0) * 1000;
        let over = |row: &&Value| began(row).saturating_add(length(row)) <= unix_ms;
        (self.timeline.iter().filter(over).collect(), self.decisions.iter().filter(over).collect())
    }
}

fn same<T: PartialEq + Debug>(what: &str, before: &[T], after: &[T]) -> Result<(), String> {
    if before == after {
        return Ok(());
    }
    let first = before.iter().zip(after).find(|(before, after)| before != after);
    Err(format!("{what}: {} and {} rows, {first:?}", before.len(), after.len()))
}

fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is past 1970");
    u64::try_from(since.as_millis()).expect("some thousand years are left")
}
