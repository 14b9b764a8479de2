//! Growing one tree from gradients and second-order weights: histograms, gains, leaf by leaf.

use super::booster::{Growth, Settings};
use super::cuts::{BUCKETS, Cuts};

/// Gains that differ by less than this share are equal: sums of 100,000 rows are exact to 10⁻¹¹.
const ROUNDING: f64 = 1e-10;

/// A node of a tree, flat: children by position.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Node {
    /// Rows whose `feature` is at most `cut` go left.
    Split {
        /// Which regressor.
        feature: u16,
        /// The largest value that goes left.
        cut: f32,
        /// Position of the left child; the right one follows it.
        left: u16,
    },
    /// What is added to the prediction.
    Leaf(f32),
}

/// What a tree is grown on.
pub(super) struct Ground<'a> {
    pub cuts: &'a Cuts,
    /// Buckets, row by row.
    pub codes: &'a [u8],
    /// First and second derivative of the loss at each row's present prediction.
    pub slopes: &'a [(f64, f64)],
}

/// Sums of both derivatives per bucket, regressor by regressor.
type Histogram = Vec<(f64, f64)>;

#[derive(Clone, Copy)]
struct Split {
    gain: f64,
    feature: usize,
    /// The last bucket that goes left.
    bucket: usize,
}

/// A leaf that may still be split.
struct Open {
    node: usize,
    depth: u32,
    rows: std::ops::Range<usize>,
    histogram: Histogram,
    best: Option<Split>,
}

/// A grown tree and, per leaf, its position and the rows in it.
pub(super) struct Grown {
    pub nodes: Vec<Node>,
    pub leaves: Vec<(usize, Vec<u32>)>,
}

/// A tree that grows leaf by leaf; grown, its leaves hold −Σg / (Σh + λ).
///
/// The gain of a split is ½ [G_L² / (H_L + λ) + G_R² / (H_R + λ) − G² / (H + λ)] (Chen, Guestrin: *XGBoost*, KDD 2016,
/// eq. 7). Depth-wise growth splits level by level; leaf-wise always the leaf with the largest gain (Ke et al.:
/// *LightGBM*, NIPS 2017, §2.1). Of two children only the smaller one's histogram is added up, the other's is the
/// difference to the parent's (the same, §3).
pub(super) struct Growing {
    rows: Vec<u32>,
    nodes: Vec<Node>,
    open: Vec<Open>,
    leaves: Vec<(usize, std::ops::Range<usize>)>,
}

impl Growing {
    /// One leaf that holds every row.
    pub(super) fn new(ground: &Ground<'_>, settings: &Settings) -> Self {
        let count = ground.slopes.len();
        let rows: Vec<u32> = (0..count as u32).collect();
        let histogram = add_up(ground, &rows);
        let best = best_split(ground.cuts, &histogram, settings);
        let open = vec![Open { node: 0, depth: 0, rows: 0..count, histogram, best }];
        Self { rows, nodes: vec![Node::Leaf(0.0)], open, leaves: Vec::new() }
    }

    /// Looks at one leaf and splits it, where that gains anything; false when the tree is grown.
    pub(super) fn step(&mut self, ground: &Ground<'_>, settings: &Settings) -> bool {
        let Self { rows, nodes, open, leaves } = self;
        let features = ground.cuts.features();
        let (most_depth, most_leaves) = match settings.growth {
            // 16 levels make 65,536 leaves, as many as positions can count; nobody needs more than 10.
            Growth::DepthWise { depth } => (depth.min(12), usize::MAX),
            Growth::LeafWise { leaves } => (u32::MAX, leaves.clamp(1, 4096) as usize),
        };
        if open.len() + leaves.len() >= most_leaves {
            return false;
        }
        let next = match settings.growth {
            Growth::DepthWise { .. } => (!open.is_empty()).then_some(0),
            Growth::LeafWise { .. } => largest_gain(open),
        };
        let Some(next) = next else { return false };
        let mut leaf = open.remove(next);
        let split = leaf.best.filter(|_| leaf.depth < most_depth);
        let Some(split) = split else {
            leaves.push((leaf.node, leaf.rows));
            return true;
        };
        let middle = partition(ground, &mut rows[leaf.rows.clone()], split, features) + leaf.rows.start;
        let (left, right) = (leaf.rows.start..middle, middle..leaf.rows.end);
        let smaller = if left.len() <= right.len() { left.clone() } else { right.clone() };
        let small = add_up(ground, &rows[smaller.clone()]);
        // The parent's histogram becomes the larger child's.
        for (all, part) in leaf.histogram.iter_mut().zip(&small) {
            all.0 -= part.0;
            all.1 -= part.1;
        }
        let (left_sums, right_sums) =
            if smaller == left { (small, leaf.histogram) } else { (leaf.histogram, small) };
        let at = nodes.len();
        let cut = ground.cuts.of_feature(split.feature)[split.bucket];
        nodes[leaf.node] = Node::Split { feature: split.feature as u16, cut, left: at as u16 };
        for (node, rows, histogram) in [(at, left, left_sums), (at + 1, right, right_sums)] {
            nodes.push(Node::Leaf(0.0));
            let best = best_split(ground.cuts, &histogram, settings);
            open.push(Open { node, depth: leaf.depth + 1, rows, histogram, best });
        }
        true
    }

    /// The tree as far as it has grown.
    pub(super) fn grown(self, ground: &Ground<'_>, settings: &Settings) -> Grown {
        let Self { rows, mut nodes, open, mut leaves } = self;
        leaves.extend(open.into_iter().map(|leaf| (leaf.node, leaf.rows)));
        let leaves: Vec<(usize, Vec<u32>)> =
            leaves.into_iter().map(|(node, range)| (node, rows[range].to_vec())).collect();
        for (node, rows) in &leaves {
            let (g, h) = rows.iter().fold((0.0, 0.0), |(g, h), row| {
                let slope = ground.slopes[*row as usize];
                (g + slope.0, h + slope.1)
            });
            nodes[*node] = Node::Leaf((-g / (h + settings.ridge).max(f64::MIN_POSITIVE)) as f32);
        }
        Grown { nodes, leaves }
    }
}

/// The open leaf whose split gains most, the first of equals; `None` if none can be split.
fn largest_gain(open: &[Open]) -> Option<usize> {
    let gain = |leaf: &Open| leaf.best.map_or(0.0, |split| split.gain);
    let mut best: Option<usize> = None;
    for (i, leaf) in open.iter().enumerate() {
        if leaf.best.is_some() && best.is_none_or(|b| gain(leaf) > gain(&open[b])) {
            best = Some(i);
        }
    }
    best
}

fn add_up(ground: &Ground<'_>, rows: &[u32]) -> Histogram {
    let features = ground.cuts.features();
    let mut histogram = vec![(0.0, 0.0); features * (BUCKETS + 1)];
    for &row in rows {
        let (g, h) = ground.slopes[row as usize];
        let codes = &ground.codes[row as usize * features..][..features];
        for (sums, code) in histogram.chunks_exact_mut(BUCKETS + 1).zip(codes) {
            let sum = &mut sums[usize::from(*code)];
            sum.0 += g;
            sum.1 += h;
        }
    }
    histogram
}

fn best_split(cuts: &Cuts, histogram: &Histogram, settings: &Settings) -> Option<Split> {
    let mut best: Option<Split> = None;
    let (g, h) = histogram[..BUCKETS + 1].iter().fold((0.0, 0.0), |a, b| (a.0 + b.0, a.1 + b.1));
    let worth = |g: f64, h: f64| g * g / (h + settings.ridge);
    for (feature, sums) in histogram.chunks_exact(BUCKETS + 1).enumerate() {
        let (mut left_g, mut left_h) = (0.0, 0.0);
        for (bucket, sum) in sums[..cuts.of_feature(feature).len()].iter().enumerate() {
            left_g += sum.0;
            left_h += sum.1;
            let (right_g, right_h) = (g - left_g, h - left_h);
            // Differences of sums are off by rounding; a child of nothing has a weight of about 0.
            if left_h < settings.least_weight * (1.0 - 1e-9) || right_h < settings.least_weight * (1.0 - 1e-9)
            {
                continue;
            }
            let gain = 0.5 * (worth(left_g, left_h) + worth(right_g, right_h) - worth(g, h));
            // Of equals the first wins, and a node without anything to gain is left whole, whatever rounding says.
            let rounding = ROUNDING * (worth(left_g, left_h) + worth(right_g, right_h));
            let least = best.map_or(settings.least_gain, |best| best.gain);
            if gain > least + rounding {
                best = Some(Split { gain, feature, bucket });
            }
        }
    }
    best
}

/// Brings the rows that go left to the front, in their order; returns how many.
fn partition(ground: &Ground<'_>, rows: &mut [u32], split: Split, features: usize) -> usize {
    let goes_left =
        |row: u32| usize::from(ground.codes[row as usize * features + split.feature]) <= split.bucket;
    let right: Vec<u32> = rows.iter().copied().filter(|row| !goes_left(*row)).collect();
    let mut left = 0;
    for i in 0..rows.len() {
        if goes_left(rows[i]) {
            rows[left] = rows[i];
            left += 1;
        }
    }
    rows[left..].copy_from_slice(&right);
    left
}
