//! Whether the head takes part: only while it is shown to help this workload.

use crate::nn::Random;
use crate::packed::Signed;
use crate::state::state;

/// Records that a verdict looks back on, as issue 5 asks.
const SETTLED: usize = 500;

/// Records between two verdicts: a tenth of what they look at.
const BETWEEN: usize = 50;

/// Means drawn per verdict: the 5 % quantile of 200 is the tenth smallest.
const DRAWS: usize = 200;

/// How many of the drawn means lie outside a 90 % interval, at each end.
const TAIL: usize = DRAWS / 20;

/// What a verdict was made of.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Verdict {
    /// The mean gain over the records, the last 500 of a head, and its 90 % interval's ends.
    pub mean: f64,
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}
state!(Verdict { mean, low, high });

/// The gains that a head brought, and the verdict on them.
///
/// A record is what the ensemble lost without the head less what it lost with it, relative to its usual loss. The head
/// comes in when the mean of the last 500 records is above zero with its whole 90 % interval, and goes when it is below
/// zero in the same way; in between what was stays. Looking every 50 records admits a head that makes no difference
/// now and then: that costs nothing, and one that hurts is seen by the same test.
///
/// Künsch: *The jackknife and the bootstrap for general stationary observations*, Annals of Statistics 17 (1989): the
/// moving-block bootstrap. Forecasts of neighbouring origins err together; whole blocks are drawn so that this stays.
#[derive(Clone, Debug)]
pub struct Admission {
    /// A ring.
    gains: Box<[Signed]>,
    settled: u64,
    block: usize,
    admitted: bool,
    verdict: Option<Verdict>,
    random: Random,
}
state!(Admission { gains, settled, admitted, verdict, random } fixed { block });

impl Admission {
    /// For records whose errors overlap for `reach` records: blocks are twice that, and at most a tenth of all.
    pub fn new(reach: usize) -> Self {
        Self {
            gains: vec![Signed::UNKNOWN; SETTLED].into(),
            settled: 0,
            block: (2 * reach).clamp(5, SETTLED / 10),
            admitted: false,
            verdict: None,
            random: Random::new(reach as u64),
        }
    }

    /// Takes a record.
    pub fn settle(&mut self, gain: f64) {
        self.gains[(self.settled % SETTLED as u64) as usize] = Signed::new(gain as f32);
        self.settled += 1;
        if self.settled >= SETTLED as u64 && self.settled.is_multiple_of(BETWEEN as u64) {
            self.judge();
        }
    }

    /// Whether the head takes part.
    pub fn admitted(&self) -> bool {
        self.admitted
    }

    /// Records so far.
    pub fn settled(&self) -> u64 {
        self.settled
    }

    /// The last verdict's numbers; `None` before the first.
    pub fn verdict(&self) -> Option<Verdict> {
        self.verdict
    }

    /// Bytes on the heap.
    pub fn heap_bytes(&self) -> usize {
        std::mem::size_of_val(&*self.gains)
    }

    fn judge(&mut self) {
        // Sums of the gains before each, oldest first, so that no block spans the ring's seam.
        let oldest = (self.settled % SETTLED as u64) as usize;
        let mut sums = [0.0_f64; SETTLED + 1];
        for i in 0..SETTLED {
            let gain = self.gains[(oldest + i) % SETTLED].get().unwrap_or(0.0);
            sums[i + 1] = sums[i] + f64::from(gain);
        }
        let verdict = interval(&sums, self.block, &mut self.random);
        self.verdict = Some(verdict);
        if verdict.low > 0.0 {
            self.admitted = true;
        } else if verdict.high < 0.0 {
            self.admitted = false;
        }
    }
}

/// The mean of a series of gains and the ends of its 90 % moving-block bootstrap interval, from the running `sums` of the
/// gains (one more than gains, the first 0); `block` is at most the number of gains.
pub(crate) fn interval(sums: &[f64], block: usize, random: &mut Random) -> Verdict {
    let count = sums.len() - 1;
    let blocks = count.div_ceil(block);
    let mut means = [0.0_f64; DRAWS];
    for mean in &mut means {
        let mut total = 0.0;
        for _ in 0..blocks {
            let from = random.below(count - block + 1);
            total += sums[from + block] - sums[from];
        }
        *mean = total / (blocks * block) as f64;
    }
    means.sort_unstable_by(f64::total_cmp);
    Verdict { mean: sums[count] / count as f64, low: means[TAIL], high: means[DRAWS - 1 - TAIL] }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gains of this mean amid noise of ±1.
    fn settle(admission: &mut Admission, gain: f64, count: usize, random: &mut Random) {
        for _ in 0..count {
            admission.settle(gain + 2.0 * random.unit() - 1.0);
        }
    }

    #[test]
    fn a_head_that_helps_comes_in_and_one_that_hurts_goes() {
        let (mut admission, random) = (Admission::new(5), &mut Random::new(1));
        settle(&mut admission, 0.3, SETTLED - 1, random);
        assert!(!admission.admitted(), "not before {SETTLED} forecasts are settled");
        settle(&mut admission, 0.3, BETWEEN, random);
        assert!(admission.admitted());
        let verdict = admission.verdict().unwrap();
        assert!(verdict.low < verdict.mean && verdict.mean < verdict.high, "{verdict:?}");
        settle(&mut admission, -0.3, SETTLED, random);
        assert!(!admission.admitted());
    }

    #[test]
    fn chance_alone_admits_rarely() {
        let admitted = (0..100)
            .filter(|seed| {
                let (mut admission, random) = (Admission::new(5), &mut Random::new(*seed));
                settle(&mut admission, 0.0, SETTLED, random);
                admission.admitted()
            })
            .count();
        // 5 of 100 are expected; a binomial count exceeds 14 once in ten thousand.
        assert!(admitted <= 14, "{admitted} of 100 admitted by chance");
    }

    #[test]
    fn errors_that_come_in_runs_are_no_more_evidence_than_their_runs() {
        // Runs of 25 equal gains: 20 independent ones in 500. Drawn one by one they would look like 500.
        let admitted = (0..100)
            .filter(|seed| {
                let (mut admission, random) = (Admission::new(25), &mut Random::new(1000 + *seed));
                for _ in 0..SETTLED / 25 {
                    let gain = 2.0 * random.unit() - 1.0;
                    (0..25).for_each(|_| admission.settle(gain));
                }
                admission.admitted()
            })
            .count();
        // Ten blocks make a rough interval: a few more than 5 of 100. Single draws would admit some 35.
        assert!(admitted <= 20, "{admitted} of 100 admitted by chance");
    }

    #[test]
    fn no_verdict_keeps_what_was() {
        let (mut admission, random) = (Admission::new(5), &mut Random::new(3));
        settle(&mut admission, 0.3, SETTLED, random);
        assert!(admission.admitted());
        for _ in 0..SETTLED {
            admission.settle(0.0);
        }
        assert!(admission.admitted(), "no difference is no reason");
    }
}
