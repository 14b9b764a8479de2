//! ARIMA of a plain series: order choice, fit by conditional sum of squares, forecast.

use crate::state::state;

/// Largest orders that are tried. Load at a grain of minutes has its memory in few lags or in seasons, which others
/// model.
const MOST_AR: usize = 3;
const MOST_MA: usize = 2;

/// Parameters at most: AR, MA and the mean.
const MOST: usize = MOST_AR + MOST_MA + 1;

/// 5 % critical value of the KPSS statistic around a level (Kwiatkowski, Phillips, Schmidt, Shin: *Testing the null
/// hypothesis of stationarity*, Journal of Econometrics 54 (1992), table 1).
const KPSS_5_PERCENT: f64 = 0.463;

/// Levenberg-Marquardt steps at most; the fit of so few parameters settles within ten.
const MOST_STEPS: usize = 50;

/// Partial autocorrelations stay below this: at 1 a process is no longer stationary, or invertible.
const STABLE: f64 = 0.999;

/// (p, d, q).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Order {
    /// Autoregressive lags, at most 3.
    pub ar: usize,
    /// Differences, 0 or 1.
    pub differences: usize,
    /// Moving-average lags, at most 2.
    pub ma: usize,
}
state!(Order { ar, differences, ma } sound |o| o.ar <= MOST_AR && o.differences <= 1 && o.ma <= MOST_MA);

/// A fitted model: z − μ = Σ φ (z₋ᵢ − μ) + e + Σ θ e₋ⱼ, where z is the series or, with a difference, its changes
/// (then μ = 0).
///
/// Box, Jenkins, Reinsel, Ljung: *Time Series Analysis*, 5th ed., ch. 4; the conditional sum of squares, §7.1.2: errors
/// before the first forecast count as 0.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Arima {
    order: Order,
    /// φ, θ, μ.
    parameters: [f64; MOST],
    /// Sum of squared errors over the fitted series.
    squares: f64,
    /// What is carried from bin to bin: the newest z − μ and errors, the newest first, and the newest value.
    centred: [f64; MOST_AR],
    errors: [f64; MOST_MA],
    last: f64,
}
state!(Arima { order, parameters, squares, centred, errors, last });

impl Arima {
    /// The best order by AICc (Hyndman, Khandakar: *Automatic time series forecasting*, Journal of Statistical Software
    /// 27(3), 2008, §3.1: differences by the KPSS test, then the least AICc), fitted; `None` for fewer than 30 values.
    pub fn choose(series: &[f64]) -> Option<Self> {
        if series.len() < 30 {
            return None;
        }
        let differences = usize::from(kpss(series) > KPSS_5_PERCENT);
        let mut best: Option<(f64, Self)> = None;
        for ar in 0..=MOST_AR {
            for ma in 0..=MOST_MA {
                let model = Self::fit(series, Order { ar, differences, ma });
                let criterion = model.aicc(series.len());
                if best.as_ref().is_none_or(|(least, _)| criterion < *least) {
                    best = Some((criterion, model));
                }
            }
        }
        best.map(|(_, model)| model)
    }

    /// The parameters of one order that minimise the conditional sum of squares, by Levenberg-Marquardt from zero (and
    /// the series' mean); then the state after the last value.
    pub fn fit(series: &[f64], order: Order) -> Self {
        let z: Vec<f64> = match order.differences {
            0 => series.to_vec(),
            _ => series.windows(2).map(|pair| pair[1] - pair[0]).collect(),
        };
        let mut model = Self {
            order,
            parameters: [0.0; MOST],
            squares: 0.0,
            centred: [0.0; MOST_AR],
            errors: [0.0; MOST_MA],
            last: series.last().copied().unwrap_or(0.0),
        };
        if order.differences == 0 {
            model.parameters[MOST - 1] = z.iter().sum::<f64>() / z.len().max(1) as f64;
        }
        let mut normal = model.run(&z);
        let mut damping = 1e-3;
        for _ in 0..MOST_STEPS {
            let step = normal.solve(damping);
            let mut next = model;
            for (parameter, step) in next.parameters.iter_mut().zip(step) {
                *parameter += step;
            }
            let stable = stable(&next.parameters[..order.ar])
                && stable(
                    &next.parameters[MOST_AR..MOST_AR + order.ma].iter().map(|t| -t).collect::<Vec<_>>(),
                );
            let sums = if stable { Some(next.run(&z)).filter(|n| n.squares < normal.squares) } else { None };
            let Some(sums) = sums else {
                damping *= 10.0;
                if damping > 1e8 {
                    break;
                }
                continue;
            };
            let settled = normal.squares - sums.squares <= 1e-12 * normal.squares;
            (model, normal) = (next, sums);
            damping = (damping / 10.0).max(1e-12);
            if settled {
                break;
            }
        }
        model.squares = normal.squares;
        model
    }

    /// The order.
    pub fn order(&self) -> Order {
        self.order
    }

    /// φ, then θ, then μ, as many as the order has.
    pub fn parameters(&self) -> Vec<f64> {
        let mut all = self.parameters[..self.order.ar].to_vec();
        all.extend(&self.parameters[MOST_AR..MOST_AR + self.order.ma]);
        if self.order.differences == 0 {
            all.push(self.parameters[MOST - 1]);
        }
        all
    }

    /// The values `1..=steps` bins ahead, each handed to `each` in order.
    pub fn forecast(&self, steps: u32, mut each: impl FnMut(u32, f64)) {
        let mut ahead = *self;
        for step in 1..=steps {
            let value = ahead.expected();
            ahead.observe(value);
            each(step, value);
        }
    }

    /// What the next value is expected to be.
    pub fn expected(&self) -> f64 {
        let z = self.parameters[MOST - 1] + self.change();
        if self.order.differences == 0 { z } else { self.last + z }
    }

    /// Takes the next value.
    pub fn observe(&mut self, value: f64) {
        let z = if self.order.differences == 0 { value } else { value - self.last };
        self.push(z);
        self.last = value;
    }

    /// Σ φ (z₋ᵢ − μ) + Σ θ e₋ⱼ.
    fn change(&self) -> f64 {
        let ar: f64 = self.parameters[..self.order.ar].iter().zip(&self.centred).map(|(p, z)| p * z).sum();
        let ma: f64 =
            self.parameters[MOST_AR..][..self.order.ma].iter().zip(&self.errors).map(|(p, e)| p * e).sum();
        ar + ma
    }

    fn push(&mut self, z: f64) -> f64 {
        let centred = z - self.parameters[MOST - 1];
        let error = centred - self.change();
        self.centred.rotate_right(1);
        self.centred[0] = centred;
        self.errors.rotate_right(1);
        self.errors[0] = error;
        error
    }

    /// Runs the recursion over `z` from the start: the state is then that after its last value.
    fn run(&mut self, z: &[f64]) -> Normal {
        self.centred = [0.0; MOST_AR];
        self.errors = [0.0; MOST_MA];
        let Order { ar, ma, differences } = self.order;
        let mut normal = Normal { squares: 0.0, slopes: [0.0; MOST], products: [[0.0; MOST]; MOST] };
        // Derivatives of the newest errors, the newest first.
        let mut past = [[0.0; MOST]; MOST_MA];
        let phi: f64 = self.parameters[..ar].iter().sum();
        for (t, value) in z.iter().enumerate() {
            let mut slope = [0.0; MOST];
            for (slope, centred) in slope[..ar].iter_mut().zip(self.centred) {
                *slope = -centred;
            }
            for (slope, error) in slope[MOST_AR..][..ma].iter_mut().zip(self.errors) {
                *slope = -error;
            }
            if differences == 0 {
                slope[MOST - 1] = phi - 1.0;
            }
            for (theta, past) in self.parameters[MOST_AR..][..ma].iter().zip(&past) {
                for (slope, past) in slope.iter_mut().zip(past) {
                    *slope -= theta * past;
                }
            }
            let error = self.push(*value);
            if t < ar {
                // The condition: no error where not all lags are known.
                self.errors[0] = 0.0;
                continue;
            }
            past.rotate_right(1);
            past[0] = slope;
            normal.squares += error * error;
            for i in 0..MOST {
                normal.slopes[i] += slope[i] * error;
                for j in 0..MOST {
                    normal.products[i][j] += slope[i] * slope[j];
                }
            }
        }
        normal
    }

    fn aicc(&self, count: usize) -> f64 {
        let n = (count - self.order.differences - self.order.ar) as f64;
        // The errors' variance is a parameter too.
        let k = self.parameters().len() as f64 + 1.0;
        // A series that is followed exactly has no logarithm; any such model is as good.
        let variance = (self.squares / n).max(1e-12);
        n * libm::log(variance) + 2.0 * k + 2.0 * k * (k + 1.0) / (n - k - 1.0)
    }
}

/// What one pass over the series gives: Σ e², Jᵀe and JᵀJ.
struct Normal {
    squares: f64,
    slopes: [f64; MOST],
    products: [[f64; MOST]; MOST],
}

impl Normal {
    /// −(JᵀJ + damping · diag)⁻¹ Jᵀe, by Gaussian elimination with pivots; parameters without a slope stay.
    fn solve(&self, damping: f64) -> [f64; MOST] {
        let mut a = [[0.0; MOST + 1]; MOST];
        for (i, row) in a.iter_mut().enumerate() {
            row[..MOST].copy_from_slice(&self.products[i]);
            row[i] = if row[i] > 0.0 { row[i] * (1.0 + damping) } else { 1.0 };
            row[MOST] = -self.slopes[i];
        }
        for column in 0..MOST {
            let pivot = (column..MOST).fold(column, |best, row| {
                if a[row][column].abs() > a[best][column].abs() { row } else { best }
            });
            a.swap(column, pivot);
            let eliminator = a[column];
            if eliminator[column] == 0.0 {
                return [0.0; MOST];
            }
            for (_, row) in a.iter_mut().enumerate().filter(|(row, _)| *row != column) {
                let factor = row[column] / eliminator[column];
                for (value, other) in row.iter_mut().zip(eliminator) {
                    *value -= factor * other;
                }
            }
        }
        std::array::from_fn(|i| a[i][MOST] / a[i][i])
    }
}

/// Whether an autoregressive polynomial is stationary: all its partial autocorrelations, by stepping down the
/// Levinson-Durbin recursion (Barndorff-Nielsen, Schou, Journal of Multivariate Analysis 3 (1973)), lie within ±1.
fn stable(coefficients: &[f64]) -> bool {
    let mut phi = coefficients.to_vec();
    while let Some(last) = phi.pop() {
        // A step to NaN is no stable one.
        if last.is_nan() || last.abs() >= STABLE {
            return false;
        }
        let reversed: Vec<f64> = phi.iter().rev().copied().collect();
        for (phi, mirror) in phi.iter_mut().zip(reversed) {
            *phi = (*phi + last * mirror) / (1.0 - last * last);
        }
    }
    true
}

/// The KPSS statistic around a level, with ⌊4 (n/100)^¼⌋ lags of the Bartlett window.
pub fn kpss(series: &[f64]) -> f64 {
    let n = series.len() as f64;
    let mean = series.iter().sum::<f64>() / n;
    let residuals: Vec<f64> = series.iter().map(|x| x - mean).collect();
    let (mut sum, mut squares) = (0.0, 0.0);
    for residual in &residuals {
        sum += residual;
        squares += sum * sum;
    }
    let lags = (4.0 * libm::pow(n / 100.0, 0.25)) as usize;
    let product = |lag: usize| residuals[lag..].iter().zip(&residuals).map(|(a, b)| a * b).sum::<f64>() / n;
    let weighted = |lag: usize| 2.0 * (1.0 - lag as f64 / (lags as f64 + 1.0)) * product(lag);
    let variance = product(0) + (1..=lags).map(weighted).sum::<f64>();
    if variance > 0.0 { squares / (n * n) / variance } else { 0.0 }
}
