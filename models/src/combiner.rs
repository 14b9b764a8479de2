//! The online combiner: AdaHedge with forgetting, a prior and sleeping experts.

use crate::state::state;

/// No weight falls below e^−60: that keeps every expert able to come back, and the normalisation safe when the leaders
/// sleep. Most experts are down there most of the time, and then cost no exponential.
const LEAST: (f64, f32) = (-60.0, 8.756_511e-27);

/// AdaHedge over a handful of experts, in several games at once: one per quantile, say.
///
/// De Rooij, van Erven, Grünwald, Koolen: *Follow the Leader If You Can, Hedge If You Must*, JMLR 15 (2014), §2: the
/// learning rate is ln K over the cumulative mixability gap Δ, so it needs no range and no horizon. Its regret against
/// any expert is at most 2 Δ, and that at most B = √(Σ s² ln K) + S (4/3 ln K + 2), where s is the range of a round's
/// losses and S the largest (Theorem 8 with the variance bounded by s²/4). That is for equal prior weights, all awake, and
/// nothing forgotten; what is done here moves the bound as follows.
///
/// **A prior.** Against an expert of prior weight π the regret is at most ½ (1 + ln(1/π) / ln K) B. The proof's bound on Δ
/// asks nothing of the prior; its bound on the mix loss is −ln Σ π e^(−ηL) / η ≤ L + ln(1/π) / η, which falls as η grows for
/// any prior (their Lemma 2), and ln(1/π) / η is ln(1/π) / ln K times a Δ. Of the cluster ensemble's five priors, 4 : 4 : 1 :
/// 1 : 1, the factor is 0.81 and 1.24. Leaning from π to π′ later adds the largest ln(π′/π) over the experts to ln(1/π′):
/// what the mix loss jumps by, at most.
///
/// **Forgetting** multiplies cumulative losses and gap by β a round. The same recursions then bound Σ β^(T−t) (own loss −
/// expert's loss) by the same B, with β^(2(T−t)) s² in the sum; to within a share 1 − β of it, as the gap of a round is
/// measured at the learning rate of before its forgetting.
///
/// **A sleeping expert** is charged what the combination suffered (Freund, Schapire, Singer, Warmuth: *Using and combining
/// predictors that specialize*, STOC 1997, §2; Chernov, Vovk: *Prediction with expert evaluators' advice*, ALT 2009), so
/// that waking up costs it nothing and gains it nothing: the rounds that it sleeps in drop out of the regret against it, and s
/// is the range of those that are awake.
#[derive(Clone, Debug)]
pub struct Combiner {
    /// Game by game.
    standings: Box<[Standing]>,
    /// Each game's cumulative mixability gap.
    gaps: Box<[f32]>,
    log_prior: Box<[f32]>,
}
state!(Combiner { standings, gaps, log_prior });

/// `f32` is exact enough for weights, and there are many of these.
#[derive(Clone, Copy, Debug)]
struct Standing {
    /// Remembered loss above the best expert's.
    loss: f32,
    weight: f32,
}
state!(Standing { loss, weight });

impl Combiner {
    /// Experts with these prior weights (positive; they are normalised) in so many games.
    pub fn new(prior: &[f64], games: usize) -> Self {
        let mut new = Self {
            standings: vec![Standing { loss: 0.0, weight: 0.0 }; prior.len() * games].into(),
            gaps: vec![0.0; games].into(),
            log_prior: vec![0.0; prior.len()].into(),
        };
        new.believe(prior);
        new
    }

    /// Sets the prior weights anew; what was lost since still counts.
    pub fn believe(&mut self, prior: &[f64]) {
        let total: f64 = prior.iter().sum();
        for (log, prior) in self.log_prior.iter_mut().zip(prior) {
            *log = libm::log(prior / total) as f32;
        }
        (0..self.gaps.len()).for_each(|game| self.refresh(game));
    }

    /// Multiplies the prior weights; what was lost since still counts.
    pub fn lean(&mut self, factors: impl Iterator<Item = f64>) {
        let prior: Vec<f64> = self
            .log_prior
            .iter()
            .zip(factors)
            .map(|(log, factor)| libm::exp((*log).into()) * factor)
            .collect();
        self.believe(&prior);
    }

    fn standings(&self, game: usize) -> &[Standing] {
        let experts = self.log_prior.len();
        &self.standings[game * experts..][..experts]
    }

    /// The weights in a game if all were awake; they sum to one.
    pub fn weights(&self, game: usize) -> impl Iterator<Item = f64> + '_ {
        self.standings(game).iter().map(|s| f64::from(s.weight))
    }

    /// The combination of `values` over the experts in `awake` (a bit each). `None` if all sleep.
    pub fn combine(&self, game: usize, values: impl Iterator<Item = f64>, awake: u32) -> Option<f64> {
        let (mut sum, mut total) = (0.0, 0.0);
        for (i, (standing, value)) in self.standings(game).iter().zip(values).enumerate() {
            if awake >> i & 1 == 1 {
                sum += f64::from(standing.weight) * value;
                total += f64::from(standing.weight);
            }
        }
        (total > 0.0).then(|| sum / total)
    }

    /// Charges the experts in `awake` with `losses` (finite; sleeping entries are ignored), after a share of the game's past
    /// was forgotten.
    pub fn update(&mut self, game: usize, losses: &[f64], awake: u32, forget: f32) {
        let is_awake = |i: usize| awake >> i & 1 == 1;
        let present = || self.standings(game).iter().zip(losses).enumerate().filter(|(i, _)| is_awake(*i));
        let (mut mean, mut total, mut least) = (0.0, 0.0, f64::INFINITY);
        for (_, (standing, &loss)) in present() {
            mean += f64::from(standing.weight) * loss;
            total += f64::from(standing.weight);
            least = least.min(loss);
        }
        if total <= 0.0 {
            return;
        }
        mean /= total;
        // The mix loss −ln Σ w e^(−ηℓ) / η, taken relative to the least loss to stay in range.
        let eta = self.eta(game);
        let mix = if eta.is_finite() {
            let sum: f64 = present()
                .map(|(_, (s, loss))| f64::from(s.weight) / total * libm::exp(-eta * (loss - least)))
                .sum();
            least - libm::log(sum.max(f64::MIN_POSITIVE)) / eta
        } else {
            least
        };
        let gap = &mut self.gaps[game];
        let keep = 1.0 - f64::from(forget);
        *gap = (f64::from(*gap) * keep + (mean - mix).max(0.0)) as f32;
        let experts = self.log_prior.len();
        for (i, standing) in self.standings[game * experts..][..experts].iter_mut().enumerate() {
            let charged = if is_awake(i) { losses[i] } else { mean };
            standing.loss = (f64::from(standing.loss) * keep + charged) as f32;
        }
        self.refresh(game);
    }

    fn eta(&self, game: usize) -> f64 {
        let gap = f64::from(self.gaps[game]);
        if gap > 0.0 { libm::log(self.log_prior.len().max(2) as f64) / gap } else { f64::INFINITY }
    }

    fn refresh(&mut self, game: usize) {
        let (eta, experts) = (self.eta(game), self.log_prior.len());
        let standings = &mut self.standings[game * experts..][..experts];
        let least = standings.iter().map(|s| s.loss).fold(f32::INFINITY, f32::min);
        let mut total = 0.0_f32;
        for (standing, log_prior) in standings.iter_mut().zip(&self.log_prior) {
            standing.loss -= least;
            let exponent = if standing.loss == 0.0 { 0.0 } else { -eta * f64::from(standing.loss) };
            let exponent = exponent + f64::from(*log_prior);
            standing.weight = if exponent > LEAST.0 { libm::exp(exponent) as f32 } else { LEAST.1 };
            total += standing.weight;
        }
        for standing in standings {
            standing.weight /= total;
        }
    }

    /// Bytes on the heap.
    pub fn heap_bytes(&self) -> usize {
        std::mem::size_of_val(&*self.standings)
            + std::mem::size_of_val(&*self.gaps)
            + std::mem::size_of_val(&*self.log_prior)
    }
}
