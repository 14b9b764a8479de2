//! Boosting: trees in a row, each on the slopes that the ones before it left.

use super::fitting::Fitting;
use super::grow::Node;
use super::saved::{self, NoBooster};

/// What is minimised.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Objective {
    /// ½ (y − ŷ)²: the mean.
    Squared,
    /// Pinball loss at this level, between 0 and 1: the quantile.
    ///
    /// Its second derivative is 0; as in LightGBM and XGBoost 1 stands in for it while a tree grows, and each leaf then
    /// takes the quantile of its own rows' residuals (Friedman: *Greedy Function Approximation*, Annals of Statistics 29
    /// (2001), §4.3, for the median).
    Quantile(f64),
}

/// Which leaf is split next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Growth {
    /// Level by level, as XGBoost.
    DepthWise {
        /// Levels of splits.
        depth: u32,
    },
    /// The leaf that gains most, as LightGBM.
    LeafWise {
        /// Leaves of a tree.
        leaves: u32,
    },
}

/// How a booster is fitted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// What is minimised.
    pub objective: Objective,
    /// Which leaf is split next, and until when.
    pub growth: Growth,
    /// Trees.
    pub trees: usize,
    /// Share of each tree's answer that is added.
    pub rate: f64,
    /// λ, drawn towards 0 with the weight of this many rows.
    pub ridge: f64,
    /// The least gain of a split; 0 for any.
    pub least_gain: f64,
    /// The least weight (rows) of a leaf.
    pub least_weight: f64,
}

/// A fitted sum of trees. Deterministic: no randomness at all.
#[derive(Clone, Debug, PartialEq)]
pub struct Booster {
    pub(super) base: f64,
    pub(super) trees: Vec<Vec<Node>>,
}

impl Booster {
    /// Fits `labels` (one a row, finite) on `rows` (`features` values each; NaN counts as the least value).
    ///
    /// # Panics
    /// If there is no row, or labels and rows differ in number.
    pub fn fit(rows: &[f32], features: usize, labels: &[f64], settings: &Settings) -> Self {
        let mut fitting = Fitting::new(rows, features, labels, *settings);
        while fitting.step(rows, labels) {}
        fitting.finish()
    }

    /// The prediction for one row.
    pub fn predict(&self, row: &[f32]) -> f64 {
        let mut sum = self.base;
        for nodes in &self.trees {
            let mut at = 0;
            sum += loop {
                match nodes[at] {
                    Node::Leaf(value) => break f64::from(value),
                    // NaN goes left, as in training.
                    Node::Split { feature, cut, left } => {
                        at = usize::from(left) + usize::from(row[usize::from(feature)] > cut);
                    }
                }
            };
        }
        sum
    }

    /// How often each regressor splits, for explanation.
    pub fn splits(&self, features: usize) -> Vec<usize> {
        let mut counts = vec![0; features];
        for node in self.trees.iter().flatten() {
            if let Node::Split { feature, .. } = node {
                counts[usize::from(*feature)] += 1;
            }
        }
        counts
    }

    /// Leaves of each tree.
    pub fn leaves(&self) -> impl Iterator<Item = usize> + '_ {
        self.trees.iter().map(|nodes| nodes.iter().filter(|n| matches!(n, Node::Leaf(_))).count())
    }

    /// As a safetensors file.
    pub fn save(&self) -> Vec<u8> {
        saved::save(self)
    }

    /// Reads a safetensors file of a booster over so many regressors.
    ///
    /// # Errors
    /// [`NoBooster`], if the file holds anything else.
    pub fn load(bytes: &[u8], features: usize) -> Result<Self, NoBooster> {
        saved::load(bytes, features)
    }

    /// Tells one booster from another.
    pub fn checksum(&self) -> u32 {
        crc32fast::hash(&self.save())
    }

    /// Bytes on the heap.
    pub fn heap_bytes(&self) -> usize {
        self.trees.iter().map(|nodes| std::mem::size_of_val(&**nodes)).sum()
    }
}

/// The quantile with linear interpolation between order statistics (Hyndman & Fan, *Sample Quantiles in Statistical
/// Packages*, American Statistician 50 (1996), type 7, as numpy and LightGBM).
pub(super) fn quantile(values: &mut [f64], level: f64) -> f64 {
    let position = level * (values.len() - 1) as f64;
    let below = position as usize;
    let (_, &mut low, above) = values.select_nth_unstable_by(below, f64::total_cmp);
    let high = above.iter().copied().fold(f64::INFINITY, f64::min);
    if high.is_finite() { low + (position - below as f64) * (high - low) } else { low }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_interpolate() {
        let mut values = [4.0, 1.0, 3.0, 2.0];
        for (level, expected) in [(0.0, 1.0), (0.5, 2.5), (0.9, 3.7), (1.0, 4.0)] {
            assert!((quantile(&mut values, level) - expected).abs() < 1e-12, "{level}");
        }
    }

    #[test]
    fn a_leaf_wise_tree_has_its_leaves_and_a_depth_wise_one_its_depth() {
        let rows: Vec<f32> = (0..256_u16).map(f32::from).collect();
        let labels: Vec<f64> = rows.iter().map(|x| f64::from(x * x)).collect();
        let settings = Settings {
            objective: Objective::Squared,
            growth: Growth::LeafWise { leaves: 7 },
            trees: 3,
            rate: 0.5,
            ridge: 0.0,
            least_gain: 0.0,
            least_weight: 1.0,
        };
        let leaf_wise = Booster::fit(&rows, 1, &labels, &settings);
        assert_eq!(leaf_wise.leaves().collect::<Vec<_>>(), [7, 7, 7]);
        let settings = Settings { growth: Growth::DepthWise { depth: 3 }, ..settings };
        let depth_wise = Booster::fit(&rows, 1, &labels, &settings);
        assert_eq!(depth_wise.leaves().collect::<Vec<_>>(), [8, 8, 8]);
        // The steep end is split finer by the one, all ends evenly by the other.
        assert_ne!(leaf_wise, depth_wise);
        let heavy = Booster::fit(&rows, 1, &labels, &Settings { least_weight: 100.0, ..settings });
        assert_eq!(heavy.leaves().collect::<Vec<_>>(), [2, 2, 2], "256 rows make two leaves of 100");
    }
}
