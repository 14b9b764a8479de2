//! Prophet of a plain series: a trend that bends, daily and weekly shapes, holidays; fitted by its posterior's maximum.

use crate::state::state;

/// Places where the trend may bend, evenly over the first [`BEND_SHARE`] of the history: Prophet's defaults.
const BENDS: usize = 25;
const BEND_SHARE: f64 = 0.8;

/// Scale of the Laplace prior of a bend, and standard deviations of the normal priors of base, growth, seasons and
/// holidays, and of the half-normal one of the noise: Prophet's defaults. Values are relative to the largest one.
const BEND_SCALE: f64 = 0.05;
const TREND_DEVIATION: f64 = 5.0;
const SEASON_DEVIATION: f64 = 10.0;
const NOISE_DEVIATION: f64 = 0.5;

/// Fourier terms (a sine and a cosine each) of the day and of the week: Prophet's defaults.
const DAILY_TERMS: usize = 4;
const WEEKLY_TERMS: usize = 3;

const DAY: f64 = 86_400.0;
const WEEK: f64 = 7.0 * DAY;

/// Holidays that a model may have: a year's public ones, so that a column costs little.
pub const MOST_HOLIDAYS: usize = 12;

const MOST_COLUMNS: usize = 2 + BENDS + 2 * DAILY_TERMS + 2 * WEEKLY_TERMS + MOST_HOLIDAYS;

/// A fit stops when the posterior gains less than this share, or after so many steps: ten or twenty are usual.
const ENOUGH: f64 = 1e-9;
const MOST_STEPS: usize = 60;

/// A bend below this is none: a straight trend's slope changes by 10⁻⁷ of the largest value over the whole history.
const LEAST_BEND: f64 = 1e-7;

/// One holiday: its dates, as days since the epoch (UTC). All of them move the load by the same amount.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Holiday {
    /// Ascending or not.
    pub days: Vec<i64>,
}

/// What a model has beside its trend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Parts {
    /// A daily shape.
    pub daily: bool,
    /// A weekly shape.
    pub weekly: bool,
}
state!(Parts { daily, weekly });

/// y(t) = (k + a(t)ᵀδ) t + (m − a(t)ᵀ(s ∘ δ)) + Σ β sin, cos(2π n t / P) + Σ κ [t is that holiday] + noise.
///
/// Taylor, Letham: *Forecasting at Scale*, The American Statistician 72(1), 2018, §3, with the defaults of their package
/// (linear growth, additive seasons). The fit is the maximum of the same posterior: the Laplace prior of the bends δ is
/// a normal one whose variance is re-estimated from the last δ (Figueiredo: *Adaptive Sparseness for Supervised Learning*,
/// IEEE PAMI 25(9), 2003), each step a ridge regression solved by Cholesky's method; the noise's variance has a closed
/// form between them. Deterministic.
#[derive(Clone, Debug, PartialEq)]
pub struct Prophet {
    parts: Parts,
    /// Time of the first point, and seconds from it to the last.
    start: f64,
    span: f64,
    /// The largest value: coefficients and noise are relative to it.
    scale: f64,
    /// In units of the span; so many of them count.
    bends: [f64; BENDS],
    bend_count: usize,
    /// m, k, δ, the day's, the week's, the holidays'; so many of them count.
    coefficients: [f64; MOST_COLUMNS],
    columns: usize,
    noise: f64,
}
state!(Prophet { parts, start, span, scale, bends, bend_count, coefficients, columns, noise }
    sound |p| p.bend_count <= BENDS && p.columns >= 2 + p.bend_count && p.columns <= MOST_COLUMNS);

impl Default for Prophet {
    fn default() -> Self {
        Self {
            parts: Parts::default(),
            start: 0.0,
            span: 1.0,
            scale: 0.0,
            bends: [0.0; BENDS],
            bend_count: 0,
            coefficients: [0.0; MOST_COLUMNS],
            columns: 2,
            noise: NOISE_DEVIATION,
        }
    }
}

impl Prophet {
    /// Fits points at ascending `times` (Unix seconds); `None` for fewer than three, or if nothing is above 0. `holidays` are
    /// those that [`Prophet::at`] is then given, too.
    ///
    /// Cost: points × columns² / 2, and columns³ / 6 for each of some ten steps.
    ///
    /// # Panics
    /// If the lengths differ, or with too many holidays.
    pub fn fit(times: &[f64], values: &[f64], parts: Parts, holidays: &[Holiday]) -> Option<Self> {
        assert_eq!(times.len(), values.len(), "a value for each time");
        assert!(holidays.len() <= MOST_HOLIDAYS, "at most {MOST_HOLIDAYS} holidays");
        let scale = values.iter().fold(0.0, |most: f64, v| most.max(v.abs()));
        let (start, end) = (*times.first()?, *times.last()?);
        if times.len() < 3 || scale <= 0.0 || end <= start {
            return None;
        }
        let mut model = Self { parts, start, span: end - start, scale, ..Self::default() };
        model.place_bends(times);
        let day = if parts.daily { 2 * DAILY_TERMS } else { 0 };
        let week = if parts.weekly { 2 * WEEKLY_TERMS } else { 0 };
        let columns = 2 + model.bend_count + day + week + holidays.len();
        model.columns = columns;
        let mut sums = Sums::new(columns, times.len());
        let mut row = [0.0; MOST_COLUMNS];
        for (time, value) in times.iter().zip(values) {
            model.row(*time, holidays, &mut row);
            sums.add(&row[..columns], value / scale);
        }
        model.maximise(&sums);
        Some(model)
    }

    /// The curve at a time (Unix seconds), in the values' unit; not bounded below.
    pub fn at(&self, time: f64, holidays: &[Holiday]) -> f64 {
        let mut row = [0.0; MOST_COLUMNS];
        self.row(time, holidays, &mut row);
        self.scale * self.coefficients[..self.columns].iter().zip(&row).map(|(c, x)| c * x).sum::<f64>()
    }

    /// The noise's standard deviation, in the values' unit.
    pub fn noise(&self) -> f64 {
        self.scale * self.noise
    }

    /// How much the slope changes at each possible bend, in largest values per history.
    pub fn bends(&self) -> &[f64] {
        &self.coefficients[2..2 + self.bend_count]
    }

    /// Places where the trend may bend: at points of the history, as Prophet chooses them.
    fn place_bends(&mut self, times: &[f64]) {
        let most = (BEND_SHARE * times.len() as f64).floor() as usize;
        self.bend_count = BENDS.min(most.saturating_sub(1));
        for (bend, place) in self.bends[..self.bend_count].iter_mut().enumerate() {
            let index = ((bend + 1) * (most - 1)) as f64 / self.bend_count as f64;
            *place = (times[index.round_ties_even() as usize] - self.start) / self.span;
        }
    }

    /// The regressors at a time.
    fn row(&self, time: f64, holidays: &[Holiday], row: &mut [f64; MOST_COLUMNS]) {
        let t = (time - self.start) / self.span;
        (row[0], row[1]) = (1.0, t);
        let mut at = 2;
        for bend in &self.bends[..self.bend_count] {
            row[at] = (t - bend).max(0.0);
            at += 1;
        }
        if self.parts.daily {
            fourier(time / DAY, &mut row[at..at + 2 * DAILY_TERMS]);
            at += 2 * DAILY_TERMS;
        }
        if self.parts.weekly {
            fourier(time / WEEK, &mut row[at..at + 2 * WEEKLY_TERMS]);
            at += 2 * WEEKLY_TERMS;
        }
        let day = (time / DAY).floor() as i64;
        for holiday in holidays {
            row[at] = f64::from(u8::from(holiday.days.contains(&day)));
            at += 1;
        }
    }

    /// The inverse variance of a coefficient's prior, as it stands.
    fn precision(&self, column: usize) -> f64 {
        if column < 2 {
            1.0 / (TREND_DEVIATION * TREND_DEVIATION)
        } else if column < 2 + self.bend_count {
            1.0 / (BEND_SCALE * self.coefficients[column].abs().max(LEAST_BEND))
        } else {
            1.0 / (SEASON_DEVIATION * SEASON_DEVIATION)
        }
    }

    fn maximise(&mut self, sums: &Sums) {
        let columns = self.columns;
        // Bends start free; what is not needed shrinks to nothing.
        self.coefficients[2..2 + self.bend_count].fill(1.0);
        let mut matrix = vec![0.0; columns * columns];
        let mut before = f64::INFINITY;
        for _ in 0..MOST_STEPS {
            let variance = self.noise * self.noise;
            matrix.copy_from_slice(&sums.squares);
            for column in 0..columns {
                matrix[column * columns + column] += variance * self.precision(column);
            }
            let coefficients = &mut self.coefficients[..columns];
            coefficients.copy_from_slice(&sums.products);
            if !solve(&mut matrix, coefficients) {
                self.coefficients.fill(0.0);
                self.coefficients[0] = sums.products[0] / sums.count;
                return;
            }
            let errors = sums.errors(&self.coefficients[..columns]);
            // The maximum by σ of −n ln σ − errors / 2σ² − σ² / 2·½².
            let (n, tightness) = (sums.count, 4.0 / (NOISE_DEVIATION * NOISE_DEVIATION));
            let variance = 2.0 * ((n * n + tightness * errors).sqrt() - n) / tightness;
            self.noise = variance.max(1e-12).sqrt();
            let loss = self.loss(errors, n);
            if before - loss <= ENOUGH * loss.abs() {
                break;
            }
            before = loss;
        }
    }

    /// The negative logarithm of the posterior, but for a constant.
    fn loss(&self, errors: f64, count: f64) -> f64 {
        let variance = self.noise * self.noise;
        let mut loss = 0.5 * count * libm::log(variance) + 0.5 * errors / variance;
        loss += 0.5 * variance / (NOISE_DEVIATION * NOISE_DEVIATION);
        for (column, coefficient) in self.coefficients[..self.columns].iter().enumerate() {
            loss += if (2..2 + self.bend_count).contains(&column) {
                coefficient.abs() / BEND_SCALE
            } else {
                0.5 * coefficient * coefficient * self.precision(column)
            };
        }
        loss
    }
}

/// sin and cos of 2π n `turns` for n = 1, 2, …, by the addition theorems.
fn fourier(turns: f64, out: &mut [f64]) {
    let angle = std::f64::consts::TAU * (turns - turns.floor());
    let (sin, cos) = (libm::sin(angle), libm::cos(angle));
    let (mut s, mut c) = (sin, cos);
    for pair in out.chunks_exact_mut(2) {
        (pair[0], pair[1]) = (s, c);
        (s, c) = (s * cos + c * sin, c * cos - s * sin);
    }
}

/// XᵀX (its lower half), Xᵀy, yᵀy and the number of rows.
struct Sums {
    squares: Vec<f64>,
    products: Vec<f64>,
    total: f64,
    count: f64,
}

impl Sums {
    fn new(columns: usize, rows: usize) -> Self {
        Self {
            squares: vec![0.0; columns * columns],
            products: vec![0.0; columns],
            total: 0.0,
            count: rows as f64,
        }
    }

    fn add(&mut self, row: &[f64], value: f64) {
        let columns = row.len();
        for (i, x) in row.iter().enumerate() {
            // A trend's row is zero before its bend.
            if *x == 0.0 {
                continue;
            }
            for (sum, other) in self.squares[i * columns..=i * columns + i].iter_mut().zip(row) {
                *sum += x * other;
            }
            self.products[i] += x * value;
        }
        self.total += value * value;
    }

    /// The sum of squared errors with these coefficients.
    fn errors(&self, coefficients: &[f64]) -> f64 {
        let columns = coefficients.len();
        let mut sum = self.total;
        for (i, c) in coefficients.iter().enumerate() {
            let below = &self.squares[i * columns..i * columns + i];
            let cross: f64 = below.iter().zip(coefficients).map(|(s, other)| s * other).sum();
            sum += c * (2.0 * cross + c * self.squares[i * columns + i] - 2.0 * self.products[i]);
        }
        sum.max(0.0)
    }
}

/// Solves `matrix` x = `right` in place by Cholesky's method, from the lower half; `false` if it is not positive definite.
fn solve(matrix: &mut [f64], right: &mut [f64]) -> bool {
    let n = right.len();
    for i in 0..n {
        let (above, row) = matrix.split_at_mut(i * n);
        for j in 0..i {
            let other = &above[j * n..=j * n + j];
            let cross: f64 = row[..j].iter().zip(other).map(|(a, b)| a * b).sum();
            row[j] = (row[j] - cross) / other[j];
        }
        let square = row[i] - row[..i].iter().map(|x| x * x).sum::<f64>();
        if square.is_nan() || square <= 0.0 {
            return false;
        }
        row[i] = square.sqrt();
        let known: f64 = row[..i].iter().zip(&right[..i]).map(|(a, x)| a * x).sum();
        right[i] = (right[i] - known) / row[i];
    }
    for i in (0..n).rev() {
        let known: f64 = (i + 1..n).map(|j| matrix[j * n + i] * right[j]).sum();
        right[i] = (right[i] - known) / matrix[i * n + i];
    }
    right.iter().all(|x| x.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_solved_system_gives_its_right_side_back_and_a_singular_one_is_refused() {
        let matrix = [4.0, 0.0, 0.0, 2.0, 5.0, 0.0, -2.0, 1.0, 6.0];
        let mut x = [2.0, 11.0, 16.0];
        assert!(solve(&mut matrix.clone(), &mut x));
        let back = [4.0 * x[0] + 2.0 * x[1] - 2.0 * x[2], 2.0 * x[0] + 5.0 * x[1] + x[2]];
        assert!((back[0] - 2.0).abs() < 1e-12 && (back[1] - 11.0).abs() < 1e-12, "{x:?}");
        assert!(!solve(&mut [1.0, 0.0, 1.0, 1.0], &mut [1.0, 2.0]));
    }

    #[test]
    fn nothing_to_fit_is_no_model() {
        assert!(Prophet::fit(&[], &[], Parts::default(), &[]).is_none());
        assert!(Prophet::fit(&[0.0, 1.0, 2.0], &[0.0; 3], Parts::default(), &[]).is_none());
        assert!(Prophet::fit(&[1.0; 3], &[5.0; 3], Parts::default(), &[]).is_none(), "no time passed");
    }
}
