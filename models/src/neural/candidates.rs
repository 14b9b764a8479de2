//! The simple forecasts that a network chooses among, and how each of them has done lately.

use crate::forecast::{Grid, Target};
use crate::packed::Packed;
use crate::residual::Residuals;
use crate::state::state;
use crate::track::stride;

use super::levels::{Day, Level, Profile, Trend};

/// How many simple forecasts there are.
pub const CANDIDATES: usize = 14;

const HOUR: u32 = 3600;
const DAY: u32 = 86_400;

/// All that candidates are made of. Values are counts per bin.
#[derive(Clone, Debug)]
pub struct Sources {
    pub last: f64,
    pub pair: Level,
    pub five_minutes: Level,
    pub twenty_minutes: Level,
    pub hour: Level,
    pub six_hours: Level,
    pub trend: Trend,
    pub day: Day,
    /// Minute of hour, bin by bin: timers and crons.
    pub hourly: Profile,
    /// Time of day in slots of five minutes.
    pub daily: Profile,
    /// Time of week in slots of a quarter-hour.
    pub weekly: Profile,
    grid: Grid,
}
state!(Sources { last, pair, five_minutes, twenty_minutes, hour, six_hours, trend, day, hourly, daily, weekly } fixed { grid });

impl Sources {
    pub fn new(grid: Grid) -> Self {
        Self {
            last: 0.0,
            pair: Level::new(2.0 * f64::from(grid.step_seconds), grid),
            five_minutes: Level::new(300.0, grid),
            twenty_minutes: Level::new(1200.0, grid),
            hour: Level::new(3600.0, grid),
            six_hours: Level::new(21_600.0, grid),
            trend: Trend::default(),
            day: Day::new(grid),
            // A timer's hour is learned in a few turns, a day's shape in a week, a week's shape at its second turn.
            hourly: Profile::new(HOUR, 0, 0.2, grid),
            daily: Profile::new(DAY, 300, 0.3, grid),
            weekly: Profile::new(7 * DAY, 900, 0.6, grid),
            grid,
        }
    }

    /// Takes the value of bin `index`.
    pub fn add(&mut self, index: i64, value: f64) {
        self.last = value;
        for level in [
            &mut self.pair,
            &mut self.five_minutes,
            &mut self.twenty_minutes,
            &mut self.hour,
            &mut self.six_hours,
        ] {
            level.add(value);
        }
        self.trend.add(value);
        self.day.add(index, value);
        self.hourly.add(index, value);
        self.daily.add(index, value);
        self.weekly.add(index, value);
    }

    /// Each candidate's forecast for the bin `steps` after `origin`; `None` while its history doesn't suffice.
    pub fn forecasts(&self, origin: i64, steps: u32) -> [Option<f64>; CANDIDATES] {
        let due = origin + i64::from(steps);
        let bins = |seconds: u32| i64::from(seconds / self.grid.step_seconds);
        let now = self.twenty_minutes.value();
        let shift = |profile: &Profile| profile.ready().then(|| now + profile.at(due) - profile.at(origin));
        let hourly = self.hourly.ready();
        // Half a request keeps the ratio of an idle series finite.
        let ratio = |profile: &Profile| {
            profile
                .ready()
                .then(|| now * ((profile.at(due) + 0.5) / (profile.at(origin) + 0.5)).clamp(0.1, 10.0))
        };
        let yesterday = due - bins(DAY);
        [
            Some(self.last),
            Some(self.pair.value()),
            Some(self.five_minutes.value()),
            Some(now),
            Some(self.hour.value()),
            Some(self.six_hours.value()),
            Some(self.trend.ahead(steps)),
            self.day.at(due - bins(HOUR).max(i64::from(steps))),
            self.day.at(yesterday),
            self.day.around(yesterday, bins(420)),
            shift(&self.daily),
            ratio(&self.daily),
            shift(&self.weekly),
            hourly.then(|| self.hourly.at(due)),
        ]
        .map(|forecast| forecast.map(|f| f.max(0.0)))
    }

    /// Bytes on the heap.
    pub fn heap_bytes(&self) -> usize {
        self.day.heap_bytes() + self.hourly.heap_bytes() + self.daily.heap_bytes() + self.weekly.heap_bytes()
    }
}

/// A candidate's recent and long mean absolute error.
#[derive(Clone, Copy, Debug, Default)]
struct Losses {
    recent: f32,
    long: f32,
}
state!(Losses { recent, long });

impl Losses {
    /// Takes an error, so many as `seen` with it; the recent mean is over the newest `recent`.
    fn add(&mut self, error: f32, seen: u16, recent: u16) {
        self.recent += (error - self.recent) / f32::from(seen.min(recent));
        self.long += (error - self.long) / f32::from(seen);
    }
}

/// An outlook that is not yet due, as far as settling needs it.
#[derive(Clone, Copy, Debug)]
struct Row {
    /// The index's low half: rows are reused within the longest target, far sooner than it repeats.
    origin: u32,
    /// One bit per candidate; none before the row was first written.
    ready: u32,
    base: f32,
    scale: f32,
    candidates: [Packed; CANDIDATES],
}
state!(Row { origin, ready, base, scale, candidates });

/// What the candidates say about one target, and how far to believe them.
#[derive(Clone, Copy, Debug)]
pub struct Outlook {
    /// A first combination: by the inverse cube of the errors.
    pub base: f64,
    /// How far the better candidates are usually off.
    pub scale: f64,
    /// Each candidate; that which isn't ready says `base`.
    pub candidates: [f64; CANDIDATES],
    /// Each candidate's recent and long mean absolute error.
    pub recent: [f64; CANDIDATES],
    pub long: [f64; CANDIDATES],
    /// One bit per candidate.
    pub ready: u32,
    /// Quantiles of (truth − base) / scale so far.
    pub residuals: [f64; 5],
}

/// One target's candidates: forecasts not yet due, and errors.
#[derive(Clone, Debug)]
pub struct Track {
    target: Target,
    /// Every so many-th origin's outlook is kept and settled, as in the ensemble.
    stride: i64,
    /// A ring by origin.
    rows: Box<[Row]>,
    losses: [Losses; CANDIDATES],
    /// The errors in them, as far as the longer memory reaches.
    seen: [u16; CANDIDATES],
    residuals: Residuals,
    memories: (u16, u16),
}
state!(Track { rows, losses, seen, residuals } fixed { target, stride, memories });

impl Track {
    pub fn new(target: Target, grid: Grid) -> Self {
        let stride = stride(target);
        let rows = target.steps().div_ceil(stride) as usize;
        let empty =
            Row { origin: 0, ready: 0, base: 0.0, scale: 1.0, candidates: [Packed::default(); CANDIDATES] };
        // At most a day of the finest grid, 8,640 bins.
        let settled = |seconds: u32| (seconds / grid.step_seconds / stride) as u16;
        Self {
            target,
            stride: i64::from(stride),
            rows: vec![empty; rows].into_boxed_slice(),
            losses: [Losses::default(); CANDIDATES],
            seen: [0; CANDIDATES],
            residuals: Residuals::new(),
            // An hour and a day; fewer than these would be noise.
            memories: (settled(HOUR).max(20), settled(DAY).max(200)),
        }
    }

    fn row(&self, origin: i64) -> usize {
        origin.div_euclid(self.stride).rem_euclid(self.rows.len() as i64) as usize
    }

    /// Settles the forecast that bin `now` makes due, if it was kept.
    pub fn settle(&mut self, now: i64, day: &Day) {
        let origin = now - i64::from(self.target.steps());
        let row = self.rows[self.row(origin)];
        if origin.rem_euclid(self.stride) != 0 || row.origin != origin as u32 || row.ready == 0 {
            return;
        }
        let Some(truth) = truth(self.target, origin, day) else { return };
        for (k, (losses, forecast)) in self.losses.iter_mut().zip(row.candidates).enumerate() {
            if row.ready >> k & 1 == 1 {
                self.seen[k] = (self.seen[k] + 1).min(self.memories.1);
                losses.add((truth as f32 - forecast.get()).abs(), self.seen[k], self.memories.0);
            }
        }
        self.residuals.add((truth - f64::from(row.base)) / f64::from(row.scale));
    }

    /// What the candidates say from `origin`; kept until it is due. `movement` is the series' local scale.
    pub fn look(&mut self, origin: i64, sources: &Sources, movement: f64) -> Outlook {
        let forecasts = sources.forecasts(origin, self.target.steps());
        let mut ready = 0;
        let (mut recent, mut long) = ([0.0; CANDIDATES], [0.0; CANDIDATES]);
        let (mut least_recent, mut least_long) = (f64::MAX, f64::MAX);
        for k in 0..CANDIDATES {
            // Before its first settled forecast a candidate is as good as the series' own movement.
            let losses = &self.losses[k];
            let known = |loss: f32| if self.seen[k] > 0 { f64::from(loss) } else { movement };
            (recent[k], long[k]) = (known(losses.recent), known(losses.long));
            if forecasts[k].is_some() {
                ready |= 1 << k;
                least_recent = least_recent.min(recent[k]);
                least_long = least_long.min(long[k]);
            }
        }
        // A share of the Poisson deviation keeps the scale of a series that was exactly predicted above zero.
        let scale = 0.5 * (least_recent + least_long) + 0.05 * (sources.hour.value() + 0.25).sqrt();
        let (mut base, mut total) = (0.0, 0.0);
        for k in 0..CANDIDATES {
            if let Some(forecast) = forecasts[k] {
                let error = long[k] / scale + 0.05;
                let weight = 1.0 / (error * error * error);
                base += weight * forecast;
                total += weight;
            }
        }
        base /= total;
        let outlook = Outlook {
            base,
            scale,
            candidates: forecasts.map(|f| f.unwrap_or(base)),
            recent,
            long,
            ready,
            residuals: std::array::from_fn(|l| self.residuals.quantile(l)),
        };
        if origin.rem_euclid(self.stride) != 0 {
            return outlook;
        }
        self.rows[self.row(origin)] = Row {
            origin: origin as u32,
            ready,
            base: base as f32,
            scale: scale as f32,
            candidates: outlook.candidates.map(|c| Packed::new(c as f32)),
        };
        outlook
    }

    /// Bytes on the heap.
    pub fn heap_bytes(&self) -> usize {
        std::mem::size_of_val(&*self.rows)
    }
}

/// The outcome of `target` from `origin`, if all its bins are known.
pub fn truth(target: Target, origin: i64, day: &Day) -> Option<f64> {
    match target {
        Target::At { steps } => day.at(origin + i64::from(steps)),
        Target::MaxOver { steps } => {
            let mut largest = 0.0_f64;
            for index in origin + 1..=origin + i64::from(steps) {
                largest = largest.max(day.at(index)?);
            }
            Some(largest)
        }
    }
}
