//! An isolation forest: how few random cuts part a point from a sample of the past.

use crate::nn::Random;

/// Trees, and points that each is grown on. The paper's 100 trees of 256 points would hold 400 KB a workload; its figures 4
/// and 5 show that 64 points suffice where anomalies are few, and that path lengths settle well below 100 trees.
const TREES: usize = 30;
const SAMPLE: usize = 64;

/// ⌈log₂ 64⌉: the paper's limit, beyond which only usual points are parted.
const DEPTH: usize = 6;

/// Nodes of a full tree of that depth.
const NODES: usize = (1 << (DEPTH + 1)) - 1;

/// A cut: below `at` in this dimension to the left. A leaf has no dimension, and `at` is the length that is added there.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Node {
    dimension: u8,
    at: f32,
}

const LEAF: u8 = u8::MAX;

/// Liu, Ting, Zhou: *Isolation Forest*, ICDM 2008, algorithms 1 to 3, over points of `D` dimensions.
///
/// Our own and not the crate `extended-isolation-forest`, whose constructor takes no seed: it draws from the thread's
/// generator, and this crate has no ambient randomness. The axis-parallel original is enough for six dimensions that are
/// scaled alike.
#[derive(Clone, Debug, PartialEq)]
pub struct Forest<const D: usize> {
    /// Tree by tree; the children of node n are 2n + 1 and 2n + 2.
    nodes: Vec<Node>,
}

impl<const D: usize> Forest<D> {
    /// Grows a forest; the same points and seed give the same forest.
    ///
    /// # Panics
    /// Without points.
    pub fn grow(points: &[[f32; D]], random: &mut Random) -> Self {
        assert!(!points.is_empty(), "a forest needs points");
        let mut nodes = vec![Node { dimension: LEAF, at: 0.0 }; TREES * NODES];
        let mut order: Vec<usize> = (0..points.len()).collect();
        for tree in nodes.chunks_exact_mut(NODES) {
            // The first of a random order: a sample without replacement (Fisher, Yates 1938).
            let sample = SAMPLE.min(points.len());
            for i in 0..sample {
                order.swap(i, i + random.below(points.len() - i));
            }
            cut(tree, 0, 0, points, &mut order[..sample], random);
        }
        Self { nodes }
    }

    /// Between 0 and 1: about ½ for a usual point, towards 1 the fewer cuts part it from the sample (eq. 2).
    pub fn score(&self, point: &[f32; D]) -> f64 {
        let mut length = 0.0;
        for tree in self.nodes.chunks_exact(NODES) {
            let mut node = 0;
            while tree[node].dimension != LEAF {
                let left = point[usize::from(tree[node].dimension)] < tree[node].at;
                node = 2 * node + if left { 1 } else { 2 };
                length += 1.0;
            }
            length += f64::from(tree[node].at);
        }
        libm::exp2(-length / TREES as f64 / average_length(SAMPLE))
    }
}

fn cut<const D: usize>(
    tree: &mut [Node],
    node: usize,
    depth: usize,
    points: &[[f32; D]],
    sample: &mut [usize],
    random: &mut Random,
) {
    let range = |dimension: usize| {
        let values = sample.iter().map(|i| points[*i][dimension]);
        values.fold((f32::MAX, f32::MIN), |(least, most), v| (least.min(v), most.max(v)))
    };
    // Only a dimension in which they differ can part them.
    let apart: Vec<usize> = (0..D).filter(|d| range(*d).0 < range(*d).1).collect();
    if depth == DEPTH || sample.len() < 2 || apart.is_empty() {
        tree[node] = Node { dimension: LEAF, at: average_length(sample.len()) as f32 };
        return;
    }
    let dimension = apart[random.below(apart.len())];
    let (least, most) = range(dimension);
    let at = least + (most - least) * random.unit() as f32;
    // A cut at the least value itself would leave nothing below.
    let at = if at > least { at } else { most };
    tree[node] = Node { dimension: dimension as u8, at };
    sample.sort_unstable_by(|a, b| points[*a][dimension].total_cmp(&points[*b][dimension]));
    let below = sample.partition_point(|i| points[*i][dimension] < at);
    let (left, right) = sample.split_at_mut(below);
    cut(tree, 2 * node + 1, depth + 1, points, left, random);
    cut(tree, 2 * node + 2, depth + 1, points, right, random);
}

/// The average length of an unsuccessful search in a binary tree of so many points (eq. 1).
fn average_length(points: usize) -> f64 {
    if points < 2 {
        return 0.0;
    }
    let n = points as f64;
    let harmonic: f64 = (1..points).map(|i| 1.0 / i as f64).sum();
    2.0 * harmonic - 2.0 * (n - 1.0) / n
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cloud(random: &mut Random, count: usize) -> Vec<[f32; 2]> {
        let mut normal = || ((0..12).map(|_| random.unit()).sum::<f64>() - 6.0) as f32;
        (0..count).map(|_| [normal(), normal()]).collect()
    }

    #[test]
    fn what_lies_apart_scores_high_and_the_middle_low() {
        let points = cloud(&mut Random::new(1), 256);
        let forest = Forest::grow(&points, &mut Random::new(2));
        let (middle, apart) = (forest.score(&[0.0, 0.0]), forest.score(&[8.0, -8.0]));
        assert!(middle < 0.5 && apart > 0.65, "{middle}, {apart}");
        // The paper's measure: of usual points few score above 0.6.
        let usual = cloud(&mut Random::new(3), 500);
        let high = usual.iter().filter(|point| forest.score(point) > 0.6).count();
        assert!(high < 50, "{high} of 500");
        assert_eq!(forest, Forest::grow(&points, &mut Random::new(2)), "a seed gives one forest");
    }

    #[test]
    fn paths_are_as_long_as_scikit_learns() {
        let mut draw = crate::nn::reference::noise(7);
        let mut sum = || (0..6).map(|_| draw()).sum::<f64>() as f32;
        let points: Vec<[f32; 2]> = (0..256).map(|_| [sum(), sum()]).collect();
        // 6,000 trees there and here: a mean path is known to some 0.03.
        let forests: Vec<_> = (0..200).map(|seed| Forest::grow(&points, &mut Random::new(seed))).collect();
        // By `tests/reference/networks.py`.
        for (probe, expected) in
            [([0.0, 0.0], 9.771), ([2.0, 1.0], 7.307), ([5.0, -3.0], 4.141), ([9.0, 9.0], 3.722)]
        {
            let lengths =
                forests.iter().map(|forest| -libm::log2(forest.score(&probe)) * average_length(SAMPLE));
            let length = lengths.sum::<f64>() / forests.len() as f64;
            assert!((length - expected).abs() < 0.1, "{probe:?}: {length} instead of {expected}");
        }
    }

    #[test]
    fn equal_points_are_not_parted() {
        let forest = Forest::grow(&[[1.0, 2.0]; 40], &mut Random::new(1));
        assert!(forest.score(&[1.0, 2.0]) <= 0.6);
        assert!((average_length(2) - 1.0).abs() < 1e-12, "two points are parted by one cut");
        // 2 H(63) − 2 · 63/64 in Python's fractions.
        assert!((average_length(64) - 7.487781807).abs() < 1e-8, "{}", average_length(64));
    }
}
