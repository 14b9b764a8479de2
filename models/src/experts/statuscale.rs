//! StatuScale as an expert: lines of resistance and support, and a load that is steady between them or bursts.

use crate::expert::{Bin, Expert, ModelKind, VALUE_LIMIT};
use crate::forecast::{Grid, Target};
use crate::state::{Loader, Saver, State, Unreadable, state};

/// Bins that the lines are drawn over: twenty, the usual window of a chart's bands (Bollinger: *Bollinger on Bollinger
/// Bands*, 2001).
const WINDOW: usize = 20;

/// The lines stand this many standard deviations of the window beyond its turning points' mean, and a line counts as broken
/// by so many bins in a row: one bin beyond is noise, as it is to a chart reader.
const MARGIN_DEVIATIONS: f64 = 1.0;
const CONFIRMED: u64 = 2;

/// How the load stands to its lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Between them.
    Stable,
    /// Above the resistance line for two bins and more.
    Burst,
    /// Below the support line for two bins and more.
    Slump,
}

impl State for Status {
    fn save(&self, out: &mut Saver) {
        (*self as u8).save(out);
    }

    fn load(&mut self, from: &mut Loader<'_>) -> Result<(), Unreadable> {
        let mut number = 0_u8;
        number.load(from)?;
        let all = [Self::Stable, Self::Burst, Self::Slump];
        *self = *all.get(usize::from(number)).ok_or(Unreadable::Broken)?;
        Ok(())
    }
}

/// Both lines, in the series' unit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Lines {
    /// Where rises end.
    pub resistance: f64,
    /// Where falls end.
    pub support: f64,
}
state!(Lines { resistance, support });

/// Steady: the middle of the lines. Bursting or slumping: the level since the break, on the far side of the broken line.
///
/// Wen et al.: *StatuScale: Status-aware and Elastic Scaling Strategy for Microservice Applications*, ACM TAAS 2024 (arXiv
/// 2407.10173): a load status detector after the resistance and support lines of financial charts tells a steady load
/// from a burst, and each is then served by a strategy of its own. That much is the paper's. Its figures were not at
/// hand: the lines (the means of the window's local maxima and minima, widened by its deviation), the two bins that
/// confirm a break, the forecast of each status and that a broken line changes its side (the charts' change of polarity)
/// are ours. The paper's detector steers a vertical scaler; here it is a forecaster like any other.
#[derive(Clone, Debug)]
pub struct StatuScale {
    grid: Grid,
    /// The newest values, the oldest first; the last `seen` of them are there.
    values: [f64; WINDOW],
    seen: usize,
    lines: Lines,
    status: Status,
    /// Bins in a row beyond a line: above it positive, below it negative.
    beyond: i64,
    /// Sum and number of the values since the break, the confirming ones included.
    since: (f64, u32),
    newest: Option<i64>,
}
state!(StatuScale { values, seen, lines, status, beyond, since, newest } fixed { grid }
    sound |s| s.seen <= WINDOW);

impl StatuScale {
    /// Without history.
    pub fn new(grid: Grid) -> Self {
        Self {
            grid,
            values: [0.0; WINDOW],
            seen: 0,
            lines: Lines { resistance: 0.0, support: 0.0 },
            status: Status::Stable,
            beyond: 0,
            since: (0.0, 0),
            newest: None,
        }
    }

    /// How the load stands.
    pub fn status(&self) -> Status {
        self.status
    }

    /// The lines, once the window is full.
    pub fn lines(&self) -> Option<Lines> {
        self.awake().then_some(self.lines)
    }

    fn forecast(&self) -> f64 {
        let level = || self.since.0 / f64::from(self.since.1.max(1));
        let forecast = match self.status {
            _ if !self.awake() => self.values[WINDOW - 1],
            Status::Stable => 0.5 * (self.lines.resistance + self.lines.support),
            Status::Burst => level().max(self.lines.resistance),
            Status::Slump => level().min(self.lines.support),
        };
        forecast.clamp(0.0, VALUE_LIMIT)
    }

    fn take(&mut self, value: f64) {
        if self.awake() {
            self.judge(value);
        }
        self.values.copy_within(1.., 0);
        self.values[WINDOW - 1] = value;
        self.seen = (self.seen + 1).min(WINDOW);
        // While a break lasts the old lines stand: it is they that were broken.
        if self.awake() && self.status == Status::Stable && self.beyond == 0 {
            self.lines = draw(&self.values);
        }
    }

    fn judge(&mut self, value: f64) {
        let side = if value > self.lines.resistance {
            1
        } else if value < self.lines.support {
            -1
        } else {
            0
        };
        if side == 0 {
            (self.status, self.beyond, self.since) = (Status::Stable, 0, (0.0, 0));
            return;
        }
        if side * self.beyond <= 0 {
            (self.status, self.beyond, self.since) = (Status::Stable, 0, (0.0, 0));
        }
        self.beyond += side;
        self.since = (self.since.0 + value, self.since.1 + 1);
        if self.beyond.unsigned_abs() >= WINDOW as u64 {
            // The window holds nothing else any more: this is the load now, with lines of its own.
            (self.status, self.beyond, self.since) = (Status::Stable, 0, (0.0, 0));
        } else if self.beyond.unsigned_abs() >= CONFIRMED {
            self.status = if side > 0 { Status::Burst } else { Status::Slump };
        }
    }
}

/// The means of the local maxima and minima (the window's own where there are none), widened by the deviation.
fn draw(values: &[f64]) -> Lines {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let deviation = (values.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>() / n).sqrt();
    let mean_of = |is_turn: fn(f64, f64, f64) -> bool, extreme: f64| {
        let turns = values.windows(3).filter(|v| is_turn(v[0], v[1], v[2])).map(|v| v[1]);
        let (sum, count) = turns.fold((0.0, 0.0), |(sum, count), v| (sum + v, count + 1.0));
        if count > 0.0 { sum / count } else { extreme }
    };
    let largest = values.iter().copied().fold(f64::MIN, f64::max);
    let least = values.iter().copied().fold(f64::MAX, f64::min);
    Lines {
        resistance: mean_of(|a, b, c| a < b && b >= c, largest) + MARGIN_DEVIATIONS * deviation,
        support: mean_of(|a, b, c| a > b && b <= c, least) - MARGIN_DEVIATIONS * deviation,
    }
}

impl Expert for StatuScale {
    fn kind(&self) -> ModelKind {
        ModelKind::StatuScale
    }

    fn observe(&mut self, bin: Bin) {
        // After a gap as long as the window the old lines say nothing.
        if self.newest.is_some_and(|newest| bin.index - newest > WINDOW as i64) {
            *self = Self::new(self.grid);
        }
        self.newest = Some(bin.index);
        if let Some(value) = bin.learnable(self.forecast()) {
            self.take(value);
        }
    }

    fn awake(&self) -> bool {
        self.seen == WINDOW
    }

    fn predict(&self, _: &[Target], out: &mut [f64]) {
        out.fill(self.forecast());
    }

    fn grid(&self) -> Grid {
        self.grid
    }

    fn heap_bytes(&self) -> usize {
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(expert: &StatuScale) -> f64 {
        let mut out = [0.0];
        expert.predict(&[Target::At { steps: 1 }], &mut out);
        out[0]
    }

    #[test]
    fn one_bin_beyond_is_noise_two_are_a_burst_and_a_lasting_one_is_the_new_load() {
        let mut expert = StatuScale::new(Grid { step_seconds: 60 });
        let mut index = 0;
        let mut see = |expert: &mut StatuScale, value: f64| {
            expert.observe(Bin::new(index, value));
            index += 1;
        };
        for i in 0..40 {
            see(&mut expert, 100.0 + f64::from(i % 4));
        }
        assert_eq!(expert.status(), Status::Stable);
        assert!((said(&expert) - 101.5).abs() < 0.1, "{} between its lines", said(&expert));
        see(&mut expert, 300.0);
        assert_eq!(expert.status(), Status::Stable, "one bin is noise");
        see(&mut expert, 100.0);
        assert_eq!(expert.status(), Status::Stable);
        for i in 0..19 {
            see(&mut expert, 300.0 + f64::from(i % 2));
            assert_eq!(expert.status(), if i == 0 { Status::Stable } else { Status::Burst }, "bin {i}");
        }
        assert!((said(&expert) - 300.5).abs() < 1.0, "{} since the break", said(&expert));
        for i in 0..4 {
            see(&mut expert, 300.0 + f64::from(i % 2));
        }
        assert_eq!(expert.status(), Status::Stable, "the new load has lines of its own");
        assert!((said(&expert) - 300.5).abs() < 1.0);
        see(&mut expert, 10.0);
        see(&mut expert, 10.0);
        assert_eq!(expert.status(), Status::Slump);
        assert_eq!(said(&expert), 10.0);
    }

    #[test]
    fn lines_are_forgotten_after_a_gap() {
        let mut expert = StatuScale::new(Grid { step_seconds: 60 });
        for index in 0..30 {
            expert.observe(Bin::new(index, 50.0));
        }
        assert!(expert.lines().is_some());
        expert.observe(Bin::new(100, 5.0));
        assert!(expert.lines().is_none() && !expert.awake());
        assert_eq!(said(&expert), 5.0);
    }
}
