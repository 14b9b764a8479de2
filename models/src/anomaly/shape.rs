//! What a stretch of counts looks like: made by a generator, or by many independent users.

/// Bins that are looked at: four turns of a wave of twelve.
pub(super) const WINDOW: usize = 48;

/// A count below this is too small to tell a generator from chance.
const LEAST_COUNT: f64 = 20.0;

/// Variance over mean of a count: 1 for independent users (Poisson), more where they come in bursts. Over 48 bins chance
/// leaves [0.5, 1.6]; a generator's clock keeps it near 0.
const GENERATED: f64 = 0.1;

/// Whether these counts, a whole window of them, come at a rate that a generator keeps: constant, or a square wave.
pub(super) fn is_generated(counts: &[f32]) -> bool {
    debug_assert_eq!(counts.len(), WINDOW, "a whole window");
    is_steady(counts) || is_square(counts)
}

/// Mean, and variance over mean.
fn dispersion(counts: impl Iterator<Item = f64> + Clone) -> (f64, f64) {
    let n = counts.clone().count().max(1) as f64;
    let mean = counts.clone().sum::<f64>() / n;
    let variance = counts.map(|c| (c - mean) * (c - mean)).sum::<f64>() / n;
    (mean, if mean > 0.0 { variance / mean } else { 0.0 })
}

fn is_steady(counts: &[f32]) -> bool {
    let (mean, dispersion) = dispersion(counts.iter().map(|c| f64::from(*c)));
    mean >= LEAST_COUNT && dispersion < GENERATED
}

/// Two steady levels that take turns, all high turns as long as each other and all low ones too, two bins at least: a timer's
/// strike is shorter.
fn is_square(counts: &[f32]) -> bool {
    let least = counts.iter().copied().fold(f32::MAX, f32::min);
    let most = counts.iter().copied().fold(f32::MIN, f32::max);
    let middle = 0.5 * (least + most);
    if f64::from(most) < LEAST_COUNT || f64::from(most - least) < 5.0 * f64::from(most).sqrt() {
        return false;
    }
    let level = |high: bool| counts.iter().filter(move |c| (**c > middle) == high).map(|c| f64::from(*c));
    if [false, true].into_iter().any(|high| dispersion(level(high)).1 >= GENERATED) {
        return false;
    }
    // Lengths of the whole turns, high and low ones: least and most. The first and the last are cut off by the window.
    let mut lengths = [(u32::MAX, 0_u32, 0_u32); 2];
    let mut start = None;
    for i in 1..counts.len() {
        let (before, now) = (counts[i - 1] > middle, counts[i] > middle);
        if before == now {
            continue;
        }
        if let Some(start) = start {
            let (least, most, turns) = &mut lengths[usize::from(before)];
            let length = (i - start) as u32;
            (*least, *most, *turns) = ((*least).min(length), (*most).max(length), *turns + 1);
        }
        start = Some(i);
    }
    lengths.into_iter().all(|(least, most, turns)| turns >= 2 && least >= 2 && most - least <= 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::Random;

    fn window(of: impl FnMut(usize) -> f64) -> Vec<f32> {
        (0..WINDOW).map(of).map(|c| c as f32).collect()
    }

    #[test]
    fn generators_are_told_from_users_and_timers() {
        let mut random = Random::new(1);
        let mut jitter = |width: f64| width * (random.unit() - 0.5);
        assert!(is_generated(&window(|_| 600.0 + jitter(4.0))), "a constant rate");
        assert!(
            is_generated(&window(|i| if i / 6 % 2 == 0 { 100.0 } else { 900.0 } + jitter(4.0))),
            "a square wave"
        );
        // A uniform of width √12 n has the variance n of a Poisson count.
        let poisson = |mean: f64, jitter: &mut dyn FnMut(f64) -> f64| mean + jitter((12.0 * mean).sqrt());
        assert!(!is_generated(&window(|_| poisson(600.0, &mut jitter))), "users");
        assert!(!is_generated(&window(|i| if i % 12 == 0 { 300.0 } else { 0.0 })), "a timer");
        let uneven = [0, 7, 9, 20, 26, 31, 40];
        let steps =
            window(|i| if uneven.iter().filter(|u| **u <= i).count() % 2 == 0 { 100.0 } else { 900.0 });
        assert!(!is_generated(&steps), "two levels, at no rhythm");
        assert!(!is_generated(&window(|_| 3.0)), "too few to tell");
    }
}
