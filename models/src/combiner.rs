//! The online combiner: AdaHedge with forgetting, a prior and sleeping experts.

/// AdaHedge over a handful of experts.
///
/// De Rooij, van Erven, Grünwald, Koolen: *Follow the Leader If You Can, Hedge If You Must*, JMLR 15 (2014), §2: the
/// learning rate is ln K over the cumulative mixability gap, so it needs no range and no horizon. Without forgetting
/// its regret against the best expert is at most √(Σ s² ln K) + S (4/3 ln K + 2), where s is the range of a round's
/// losses and S the largest (Theorem 8 with the variance bounded by s²/4).
///
/// Forgetting multiplies cumulative losses and gap by a factor a round, so that the bound holds over the remembered
/// past. A sleeping expert is charged what the combination suffered (Freund, Schapire, Singer, Warmuth: *Using and
/// combining predictors that specialize*, STOC 1997, §2), so that waking up costs it nothing and gains it nothing.
#[derive(Clone, Debug)]
pub struct Combiner {
    losses: Vec<f64>,
    log_prior: Vec<f64>,
    gap: f64,
    keep: f64,
    weights: Vec<f32>,
    log_count: f64,
}

impl Combiner {
    /// Experts with these prior weights (positive; they are normalised), keeping `keep` of the past each round.
    pub fn new(prior: &[f64], keep: f64) -> Self {
        let total: f64 = prior.iter().sum();
        let mut new = Self {
            losses: vec![0.0; prior.len()],
            log_prior: prior.iter().map(|p| libm::log(p / total)).collect(),
            gap: 0.0,
            keep,
            weights: vec![0.0; prior.len()],
            log_count: libm::log((prior.len().max(2)) as f64),
        };
        new.refresh();
        new
    }

    /// The weights if all were awake; they sum to one.
    pub fn weights(&self) -> &[f32] {
        &self.weights
    }

    /// The combination of `values` over the experts in `awake` (a bit each). `None` if all sleep.
    pub fn combine(&self, values: impl Iterator<Item = f64>, awake: u32) -> Option<f64> {
        let (mut sum, mut total) = (0.0, 0.0);
        for (i, value) in values.enumerate() {
            if awake >> i & 1 == 1 {
                sum += f64::from(self.weights[i]) * value;
                total += f64::from(self.weights[i]);
            }
        }
        (total > 0.0).then(|| sum / total)
    }

    /// Charges the experts in `awake` with `losses` (finite; sleeping entries are ignored).
    pub fn update(&mut self, losses: &[f64], awake: u32) {
        let is_awake = |i: usize| awake >> i & 1 == 1;
        let (mut mean, mut total, mut least) = (0.0, 0.0, f64::INFINITY);
        for (i, &loss) in losses.iter().enumerate().filter(|(i, _)| is_awake(*i)) {
            mean += f64::from(self.weights[i]) * loss;
            total += f64::from(self.weights[i]);
            least = least.min(loss);
        }
        if total <= 0.0 {
            return;
        }
        mean /= total;
        // The mix loss −ln Σ w e^(−ηℓ) / η, taken relative to the least loss to stay in range.
        let eta = self.eta();
        let mix = if eta.is_finite() {
            let mut sum = 0.0;
            for (i, &loss) in losses.iter().enumerate().filter(|(i, _)| is_awake(*i)) {
                sum += f64::from(self.weights[i]) / total * libm::exp(-eta * (loss - least));
            }
            least - libm::log(sum.max(f64::MIN_POSITIVE)) / eta
        } else {
            least
        };
        self.gap = self.gap * self.keep + (mean - mix).max(0.0);
        for (i, cumulative) in self.losses.iter_mut().enumerate() {
            *cumulative = *cumulative * self.keep + if is_awake(i) { losses[i] } else { mean };
        }
        self.refresh();
    }

    fn eta(&self) -> f64 {
        if self.gap > 0.0 { self.log_count / self.gap } else { f64::INFINITY }
    }

    fn refresh(&mut self) {
        let least = self.losses.iter().copied().fold(f64::INFINITY, f64::min);
        for loss in &mut self.losses {
            *loss -= least;
        }
        let eta = self.eta();
        let mut total = 0.0_f32;
        for ((weight, &loss), &log_prior) in self.weights.iter_mut().zip(&self.losses).zip(&self.log_prior) {
            let exponent = if loss == 0.0 { 0.0 } else { -eta * loss };
            // A floor keeps every expert able to come back, and the normalisation safe when the leaders sleep.
            *weight = libm::exp((exponent + log_prior).max(-60.0)) as f32;
            total += *weight;
        }
        for weight in &mut self.weights {
            *weight /= total;
        }
    }

    /// Bytes on the heap.
    pub fn heap_bytes(&self) -> usize {
        self.losses.len() * (8 + 8 + 4)
    }
}
