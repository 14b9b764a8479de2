//! The deterministic simulator: Prescale's two brains, and its rivals, in one seeded world. Same seed, same bytes.
//!
//! The world answers requests one by one (`world`, `pod`); agents and aggregator are the real brains and meet in
//! encoded bytes (`prescale`); the HPA's rule is the real rule (`rivals`).

pub mod compare;
pub mod load;
pub mod pod;
pub mod prescale;
pub mod random;
pub mod report;
pub mod rivals;
pub mod run;
pub mod tally;
pub mod world;

pub use load::Shape;
pub use report::Outcome;
pub use run::{Policy, Scenario, run};

/// How long reports stop, or come in the wrong unit, seconds.
pub const FAULT_SECONDS: u64 = 600;

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// No report reaches the aggregator for ten minutes.
    ReportsStop,
    /// All agents write seconds where milliseconds belong, for ten minutes.
    WrongUnit,
    /// The aggregator starts anew, with the history that it was given at first.
    AggregatorRestart,
}

impl FaultKind {
    /// Its label.
    pub fn name(self) -> &'static str {
        match self {
            Self::ReportsStop => "reports-stop",
            Self::WrongUnit => "wrong-unit",
            Self::AggregatorRestart => "aggregator-restart",
        }
    }
}

/// A fault and when it strikes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What.
    pub kind: FaultKind,
    /// When, seconds after the simulation's start.
    pub at: u64,
}

impl Fault {
    fn lasts(self, second: u64) -> bool {
        (self.at..self.at + FAULT_SECONDS).contains(&second)
    }

    fn stops_reports(self, second: u64) -> bool {
        self.kind == FaultKind::ReportsStop && self.lasts(second)
    }

    fn wrong_unit(self, second: u64) -> bool {
        self.kind == FaultKind::WrongUnit && self.lasts(second)
    }

    fn restarts_at(self, second: u64) -> bool {
        self.kind == FaultKind::AggregatorRestart && second == self.at
    }

    /// When it is over, seconds after the simulation's start.
    pub fn over(self) -> u64 {
        match self.kind {
            FaultKind::AggregatorRestart => self.at,
            FaultKind::ReportsStop | FaultKind::WrongUnit => self.at + FAULT_SECONDS,
        }
    }
}
