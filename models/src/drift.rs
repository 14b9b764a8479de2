//! Whether the head has begun to hurt: a change detector that speaks within minutes.

use crate::state::state;

/// What a bin's excess must be above to count towards a demotion: a head whose loss has risen from the ensemble's to a
/// third more. On FORECAST.md's traces the excess of an admitted head has a standard deviation of 0.06 to 0.13.
const REFERENCE: f32 = 0.25;

/// Demoted above this sum: after seven bins in a row at twice the ensemble's loss. With 1.0 there were more demotions
/// on FORECAST.md's traces, and relWQL was 0.430 instead of 0.429.
const THRESHOLD: f32 = 1.5;

/// A one-sided cumulative sum of how much worse the ensemble with the head was than the ensemble without it.
///
/// Page: *Continuous inspection schemes*, Biometrika 41 (1954): S ← max(0, S + excess − reference), and a change is
/// reported when S exceeds a threshold. No other test finds a change of known size sooner at the same mean run between
/// false alarms (Lorden, *Procedures for reacting to a change in distribution*, Annals of Mathematical Statistics 42, 1971).
///
/// From a demotion on the same sum runs down without the reference, from the threshold, which it does not exceed: the head
/// comes back when it has made good what it was demoted for. Until then it is forecast and judged, but not issued.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Drift {
    sum: f32,
    demoted: bool,
}
state!(Drift { sum, demoted } sound |drift| (0.0..=THRESHOLD).contains(&drift.sum));

impl Drift {
    /// Takes a bin's mean [`excess`]; true if that demotes the head.
    pub(crate) fn settle(&mut self, excess: f64) -> bool {
        let was = self.demoted;
        let reference = if was { 0.0 } else { REFERENCE };
        self.sum = (self.sum + excess as f32 - reference).max(0.0);
        self.demoted = if was { self.sum > 0.0 } else { self.sum > THRESHOLD };
        self.sum = self.sum.min(THRESHOLD);
        self.demoted && !was
    }

    /// Whether the head has been found to hurt and has not made good for it since.
    pub(crate) fn demoted(self) -> bool {
        self.demoted
    }
}

/// How much more was lost with the head than without it, from −1 to 1: a share of the larger loss, or of the usual one
/// where both are below that. A share of the usual loss alone would let a single burst decide.
pub(crate) fn excess(with: f64, without: f64, usual: f64) -> f64 {
    let largest = with.max(without).max(usual);
    if largest > 0.0 { (with - without) / largest } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::Random;

    /// Bins until a demotion of a head that loses `times` as much as the ensemble, whose losses scatter widely, as those
    /// of counts do; `None` if none comes within `most`.
    fn run(drift: &mut Drift, times: f64, most: usize, random: &mut Random) -> Option<usize> {
        (1..=most).find(|_| {
            let without = -libm::log(random.unit().max(1e-9));
            let with = without * times * (0.8 + 0.4 * random.unit());
            drift.settle(excess(with, without, 1.0))
        })
    }

    #[test]
    fn twice_the_loss_demotes_within_minutes() {
        let random = &mut Random::new(1);
        let mut delays: Vec<usize> =
            (0..1000).map(|_| run(&mut Drift::default(), 2.0, 1000, random).unwrap()).collect();
        delays.sort_unstable();
        assert!(delays[500] <= 12, "median {}", delays[500]);
        let steady = (1..).find({
            let mut drift = Drift::default();
            move |_| drift.settle(excess(2.0, 1.0, 1.0))
        });
        assert_eq!(steady, Some(7));
    }

    #[test]
    fn a_head_that_is_no_worse_stays_for_long() {
        let random = &mut Random::new(2);
        let early = (0..100).filter(|_| run(&mut Drift::default(), 1.0, 10_000, random).is_some()).count();
        assert_eq!(early, 0, "of 100 runs of a week");
    }

    #[test]
    fn it_comes_back_when_it_has_made_good_and_not_before() {
        let random = &mut Random::new(3);
        let mut drift = Drift::default();
        run(&mut drift, 2.0, 1000, random).unwrap();
        for _ in 0..1000 {
            drift.settle(excess(1.5, 1.0, 1.0));
            assert!(drift.demoted(), "it still hurts");
        }
        // However long it was out, it is a threshold's worth away from coming back.
        let back = (1..100).find(|_| {
            drift.settle(excess(0.9, 1.0, 1.0));
            !drift.demoted()
        });
        assert!(back.is_some_and(|bins| (15..=16).contains(&bins)), "a tenth better each: {back:?}");
    }

    #[test]
    fn one_burst_does_not_decide() {
        let mut drift = Drift::default();
        assert!(!drift.settle(excess(1e9, 1.0, 1.0)), "however large");
        assert_eq!((excess(0.0, 0.0, 0.0), excess(0.0, 3.0, 1.0), excess(0.0, 0.1, 1.0)), (0.0, -1.0, -0.1));
    }
}
