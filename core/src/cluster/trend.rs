//! A rise that chance does not explain, and where it leads within the lead time: the first minute of a burst that no
//! forecast knew of.

use crate::units::RequestsPerSecond;

/// A variance over fewer pairs of seconds than this says little.
const LEAST_PAIRS: f64 = 30.0;
/// Halves of the time that is looked at, in seconds of the caller's clock: a step shows in the short ones, a ramp of
/// minutes in the long.
const HALVES: [usize; 4] = [5, 10, 30, 60];
/// Counts over less than this, seconds of the kernel's clock, are not looked at: on that scale packets come when
/// schedulers and delayed acknowledgements (40 ms) let them, not when someone asks. Only a demo's fast clock gets there.
pub(super) const SHORTEST_SECONDS: f64 = 0.1;
/// Seconds in which requests may have been held up (a caller that paused, a lost link) and come all at once after.
const LULL: usize = 5;
/// What has just begun has no trend yet: while the load was below this share of the present one, how fast it rose says
/// whether someone switched it on, not where it goes.
const NOTHING: f64 = 0.05;
/// Where a rise may lead, as a multiple of the load that is there: the ramp's own factor. Bursts end.
const MOST: f64 = 2.0;

/// The load that the present rise leads to in `lead_seconds`, requests/s; `None` when there is no rise that stands out
/// by `sigmas`.
///
/// `loads` are the last seconds' means, requests/s, oldest first; `None` is a gap. `second` is the length of each in
/// the kernel's clock. Of two neighbouring halves the later count must exceed the earlier by more than `sigmas` of
/// their noise, `√(dispersion·(a + b))`; only the excess is extrapolated, and no further than [`MOST`] times what the
/// newest seconds still show: a burst that has ended leads nowhere, however high its minute stands out. A load that came
/// from nothing is looked at from its [beginning](begun) on: switched on, it leads nowhere; a ramp shows ten seconds later.
pub(super) fn expected(
    loads: &[Option<f64>],
    second: f64,
    lead_seconds: f64,
    sigmas: f64,
) -> Option<RequestsPerSecond> {
    let mut most = 0.0f64;
    let sigmas = sigmas * dispersion(loads, second).sqrt();
    let (newest, present) = present(loads, second, sigmas)?;
    let loads = &loads[begun(loads, newest)..];
    for half in HALVES.into_iter().filter(|half| *half as f64 * second >= SHORTEST_SECONDS) {
        let Some(from) = loads.len().checked_sub(2 * half) else { break };
        let Some(earlier) = count(&loads[from..from + half], second) else { continue };
        let Some(later) = count(&loads[from + half..], second) else { continue };
        let later = (later - held_up(loads, half) * second).max(0.0);
        let rise = later - earlier - sigmas * (later + earlier).sqrt();
        if rise <= 0.0 {
            continue;
        }
        let rate = later / (half as f64 * second);
        // Between the halves' middles lies one half; from the later's middle to the end of the lead time half a half
        // more than that.
        let per_half = rise / (half as f64 * second);
        let led_to = rate + per_half * (0.5 + lead_seconds / half as f64);
        most = most.max(led_to.min(rate * MOST).min(present * MOST));
    }
    (most > 0.0).then(|| RequestsPerSecond::new(most).ok()).flatten()
}

/// Variance of the seconds' counts over their mean: 1 for Poisson arrivals, more where requests come in bunches. From
/// successive differences (von Neumann, *Distribution of the ratio of the mean square successive difference to the
/// variance*, 1941), which a trend or a single step hardly moves. At least 1; 1 while little is known.
pub(super) fn dispersion(loads: &[Option<f64>], second: f64) -> f64 {
    let (mut squares, mut sum, mut pairs) = (0.0, 0.0, 0.0);
    for pair in loads.windows(2) {
        if let [Some(a), Some(b)] = *pair {
            squares += (a - b) * (a - b);
            sum += a + b;
            pairs += 1.0;
        }
    }
    // Of a Poisson count's successive differences the mean square is twice the mean count.
    if pairs < LEAST_PAIRS || sum <= 0.0 { 1.0 } else { (squares * second / sum).max(1.0) }
}

/// Requests, in `loads`' unit times seconds, that were missing right before the newest `length` seconds and may come on top
/// of theirs: of the seconds before them that stayed below half of the minute's mean, what they lacked of it. What a pause
/// held up is no rise.
pub(super) fn held_up(loads: &[Option<f64>], length: usize) -> f64 {
    let Some(before) = loads.len().checked_sub(length).map(|end| &loads[..end]) else { return 0.0 };
    let minute = &before[before.len().saturating_sub(HALVES[HALVES.len() - 1])..];
    let known = minute.iter().flatten().count();
    if known * 2 < HALVES[HALVES.len() - 1] {
        return 0.0;
    }
    let mean = minute.iter().flatten().sum::<f64>() / known as f64;
    let lull = before.iter().rev().take(LULL).map_while(|load| load.filter(|load| *load < mean / 2.0));
    lull.map(|load| mean - load).sum()
}

/// Whether a load of `before` that became `now` came from nothing.
pub(super) fn from_nothing(before: f64, now: f64) -> bool {
    before < NOTHING * now
}

/// Where in `loads` the present load of `rate` requests/s began: right after the newest [`LULL`] seconds in which it
/// [was nothing](from_nothing), or after those, however few, that were nothing at the very first; and after the second in
/// whose midst it came. 0 if it was always there.
fn begun(loads: &[Option<f64>], rate: f64) -> usize {
    let nothing = |seconds: &[Option<f64>]| {
        let known = seconds.iter().flatten().count();
        known > 0 && from_nothing(seconds.iter().flatten().sum::<f64>() / known as f64, rate)
    };
    let newest = loads.windows(LULL).rposition(nothing).map(|start| start + LULL);
    let first = loads.iter().take_while(|load| load.is_none_or(|load| from_nothing(load, rate))).count();
    let first = Some(first).filter(|first| loads[..*first].iter().any(Option::is_some));
    newest.max(first).map_or(0, |end| (end + 1).min(loads.len()))
}

/// The rate that the newest seconds show, and the largest that their count allows, chance included, requests/s; of the
/// shortest half that is looked at, as a rise of that length is what may have just begun.
fn present(loads: &[Option<f64>], second: f64, sigmas: f64) -> Option<(f64, f64)> {
    let long_enough = |half: &usize| *half as f64 * second >= SHORTEST_SECONDS;
    // Through a gap the next longer half looks.
    let (newest, count) = HALVES.into_iter().filter(long_enough).find_map(|half| {
        let from = loads.len().checked_sub(half)?;
        Some((half, count(&loads[from..], second)?))
    })?;
    // Upper end of the Poisson interval whose lower end is the count: n = c + s·√n, solved for n.
    let root = (sigmas + (sigmas * sigmas + 4.0 * count).sqrt()) / 2.0;
    let seconds = newest as f64 * second;
    Some((count / seconds, root * root / seconds))
}

/// Requests of some seconds; gaps are taken as the mean of the others, and more than half of them is unknown.
fn count(loads: &[Option<f64>], second: f64) -> Option<f64> {
    let (mut sum, mut known) = (0.0, 0);
    for load in loads.iter().flatten() {
        sum += load;
        known += 1;
    }
    if known * 2 < loads.len() || known == 0 {
        return None;
    }
    Some(sum / f64::from(known as u32) * loads.len() as f64 * second)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expected_of(load: impl Fn(usize) -> f64, lead: f64) -> Option<f64> {
        let loads: Vec<_> = (0..120).map(|t| Some(load(t))).collect();
        expected(&loads, 1.0, lead, 3.0).map(RequestsPerSecond::get)
    }

    #[test]
    fn a_steady_load_and_a_falling_one_lead_nowhere() {
        assert_eq!(expected_of(|_| 100.0, 30.0), None);
        assert_eq!(expected_of(|t| 500.0 - t as f64, 30.0), None);
        assert_eq!(expected(&[], 1.0, 30.0, 3.0), None);
        assert_eq!(expected(&[None; 120], 1.0, 30.0, 3.0), None);
    }

    #[test]
    fn a_ramp_is_followed_to_the_end_of_the_lead_time() {
        // 10 requests/s more each second: 30 s on it stands at 2,490; the noise's share is left out.
        let led_to = expected_of(|t| 1000.0 + 10.0 * t as f64, 30.0).unwrap();
        assert!((2350.0..2490.0).contains(&led_to), "{led_to}");
    }

    #[test]
    fn a_step_leads_to_at_most_twice_itself() {
        let led_to = expected_of(|t| if t < 117 { 100.0 } else { 400.0 }, 60.0).unwrap();
        assert!((400.0..=800.0).contains(&led_to), "{led_to}");
    }

    #[test]
    fn a_load_that_is_switched_on_leads_nowhere_and_a_ramp_from_nothing_is_followed() {
        let leads_to = |load: &dyn Fn(usize) -> Option<f64>, end: usize| {
            let loads: Vec<_> = (0..end).map(load).collect();
            expected(&loads, 1.0, 30.0, 5.0).map(RequestsPerSecond::get)
        };
        for rate in [30.0, 1000.0] {
            for share_of_first in [0.1, 0.5, 1.0] {
                let load = |t: usize| match t {
                    _ if t < 60 => 0.0,
                    60 => rate * share_of_first,
                    _ => rate,
                };
                for end in 61..120 {
                    assert_eq!(leads_to(&|t| Some(load(t)), end), None, "{rate}, {end}");
                    for opted_in in [50, 57, 59] {
                        let known = |t: usize| (t >= opted_in).then(|| load(t));
                        assert_eq!(leads_to(&known, end), None, "{rate}, {end}, opted in at {opted_in}");
                    }
                }
            }
        }
        let ramp = |t: usize| Some(10.0 * t.saturating_sub(60) as f64);
        let led_to = leads_to(&ramp, 75).expect("fourteen seconds of a ramp");
        assert!((145.0..=2.0 * 145.0).contains(&led_to), "{led_to}");
    }

    #[test]
    fn a_burst_that_has_ended_leads_nowhere() {
        let burst = |t: usize| if (85..105).contains(&t) { 300.0 } else { 20.0 };
        let until = |end: usize| {
            let loads: Vec<_> = (0..end).map(|t| Some(burst(t))).collect();
            expected(&loads, 1.0, 30.0, 3.0).map_or(0.0, RequestsPerSecond::get)
        };
        assert!(until(95) > 500.0, "{} while it lasts", until(95));
        assert!(until(116) < 300.0 / 2.0, "{} eleven seconds after", until(116));
    }

    #[test]
    fn what_a_pause_held_up_is_no_rise() {
        for pause in 1..=LULL {
            let load = |t: usize| match t {
                _ if (100..100 + pause).contains(&t) => 0.0,
                _ if t == 100 + pause => 100.0 * (1 + pause) as f64,
                _ => 100.0,
            };
            for end in 100 + pause..118 {
                let loads: Vec<_> = (0..=end).map(|t| Some(load(t))).collect();
                let rise = expected(&loads, 1.0, 30.0, 5.0);
                assert_eq!(rise, None, "{} s after a pause of {pause} s", end - 100 - pause);
                for length in [1, 3, 10] {
                    let count: f64 = loads[loads.len() - length..].iter().flatten().sum();
                    let rate = (count - held_up(&loads, length)) / length as f64;
                    // The minute's mean has the pause in it, so half a second's worth may be left of five.
                    assert!(rate <= 100.0 * (1.0 + 0.5 / length as f64), "{length} s until {end}: {rate}");
                }
            }
        }
        // What was idle has held up nothing.
        let loads: Vec<_> = (0..120).map(|t| Some(if t < 117 { 0.1 } else { 50.0 })).collect();
        assert!(held_up(&loads, 3) < 1.0);
    }

    #[test]
    fn dispersion_knows_bunches_from_trends() {
        let of = |load: &dyn Fn(usize) -> f64, second: f64| {
            dispersion(&(0..120).map(|t| Some(load(t))).collect::<Vec<_>>(), second)
        };
        assert_eq!(of(&|_| 100.0, 1.0), 1.0);
        assert_eq!(of(&|t| 100.0 + 10.0 * t as f64, 1.0), 1.0, "a ramp");
        assert!(of(&|t| if t < 60 { 100.0 } else { 200.0 }, 1.0) < 1.5, "a step");
        // 0 and 200 in turn: variance 10,000, mean 100; successive differences see twice that, being as regular.
        assert!((of(&|t| 200.0 * (t % 2) as f64, 1.0) - 200.0).abs() < 1.0);
        // The same rates over a tenth of a second are a tenth of the requests.
        assert!((of(&|t| 200.0 * (t % 2) as f64, 0.1) - 20.0).abs() < 0.1);
        assert_eq!(dispersion(&[None; 120], 1.0), 1.0);
    }

    #[test]
    fn gaps_are_bridged_but_not_when_they_prevail() {
        let load = |t: usize| 1000.0 + 10.0 * t as f64;
        let holes = |every: usize| (0..120).map(|t| (t % every == 0).then(|| load(t))).collect::<Vec<_>>();
        assert!(expected(&holes(2), 1.0, 30.0, 3.0).is_some());
        assert_eq!(expected(&holes(3), 1.0, 30.0, 3.0), None);
    }
}
