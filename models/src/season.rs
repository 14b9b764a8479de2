//! Season detection: autocorrelation and the period that stands out of it.

/// A peak below this is no season: a timer whose bursts vary by half still reaches 0.3.
const LEAST: f64 = 0.25;

/// Nor is one below so many standard errors 1/√n of white noise's autocorrelation over the n products of its lag: among
/// 360 lags chance reaches four.
const STANDARD_ERRORS: f64 = 5.0;

/// The shortest period whose peak reaches this share of the highest: every multiple of a period is one too, and its peak
/// differs by chance.
const NEARLY: f64 = 0.9;

/// Autocorrelation at the lags 0 to `longest` of a series without gaps: Σ (xₜ − x̄)(xₜ₋ₖ − x̄) / Σ (xₜ − x̄)².
///
/// All zero for a constant series. Cost: `series.len() × longest`.
pub fn autocorrelation(series: &[f64], longest: usize) -> Vec<f64> {
    let mean = series.iter().sum::<f64>() / series.len().max(1) as f64;
    let centred: Vec<f64> = series.iter().map(|x| x - mean).collect();
    of_centred(centred.len(), |i| centred[i], longest).collect()
}

/// [`autocorrelation`] of `bins` values whose mean is zero, without an allocation.
pub(crate) fn of_centred(
    bins: usize,
    value: impl Fn(usize) -> f64,
    longest: usize,
) -> impl Iterator<Item = f64> {
    let variance: f64 = (0..bins).map(|i| value(i) * value(i)).sum();
    (0..=longest).map(move |lag| {
        if variance <= 0.0 || lag >= bins {
            return 0.0;
        }
        (lag..bins).map(|i| value(i) * value(i - lag)).sum::<f64>() / variance
    })
}

/// The lag (at least 2) of the season that an autocorrelation over `bins` bins shows, if one stands out.
///
/// The peak of a long lag has fewer products in its sum; it is weighed up by that share before peaks are compared.
pub fn dominant_period(autocorrelation: &[f64], bins: usize) -> Option<usize> {
    let peak = |lag: usize| {
        let products = bins.saturating_sub(lag).max(1) as f64;
        let height = autocorrelation[lag] * bins as f64 / products;
        if height >= LEAST.max(STANDARD_ERRORS / products.sqrt()) { height } else { 0.0 }
    };
    let lags = 2..autocorrelation.len();
    let highest = lags.clone().map(peak).fold(0.0, f64::max);
    (highest > 0.0).then(|| lags.clone().find(|lag| peak(*lag) >= NEARLY * highest)).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_constant_has_no_season() {
        assert_eq!(autocorrelation(&[3.0; 100], 10), [0.0; 11]);
        assert_eq!(dominant_period(&autocorrelation(&[3.0; 100], 10), 100), None);
    }

    #[test]
    fn the_period_and_not_its_multiple_is_found() {
        let series: Vec<f64> = (0..400).map(|i| if i % 12 == 0 { 1.0 } else { 0.0 }).collect();
        assert_eq!(dominant_period(&autocorrelation(&series, 100), series.len()), Some(12));
    }
}
