//! Regime classifier: what kind of load a workload has.

use std::sync::LazyLock;

use crate::expert::ModelKind;
use crate::season::of_centred;

/// Bins that are looked at: an hour of minutes.
pub const BINS: usize = 60;

/// Of fewer nothing is said: the tree was fitted on no shorter series.
pub const LEAST_BINS: usize = 12;

/// Kinds of load.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Regime {
    /// Hardly a request a bin.
    Idle,
    /// A level, with the noise of counting and some more.
    Steady,
    /// Rising or falling throughout.
    Trending,
    /// Bursts at random times.
    Bursty,
    /// Bursts at regular times: timers, crons, pollers.
    CronLike,
}

impl Regime {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Idle, Self::Steady, Self::Trending, Self::Bursty, Self::CronLike];

    /// The name in files and in the API.
    pub fn name(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Steady => "steady",
            Self::Trending => "trending",
            Self::Bursty => "bursty",
            Self::CronLike => "cron-like",
        }
    }
}

/// By how much a regime moves the starting weights of the hourly season and of the regression, at most: sixth roots of 8 and
/// of ¼. The regimes' own best were found on a grid from ¼ to 8 times the common weights; a third of the way there, in the
/// logarithm, a trace that was left out lost 2 %, a sixth of the way under 1 % (`docs/models/regime.md`).
const MORE: f64 = 1.41;
const LESS: f64 = 0.79;

impl Regime {
    /// What an expert's starting weight is multiplied by, when a workload's first hour was of this kind.
    pub(crate) fn leaning(self, kind: ModelKind) -> f64 {
        let (hour, regression) = match self {
            Self::Idle | Self::Bursty | Self::CronLike => (MORE, LESS),
            Self::Steady => (LESS, LESS),
            Self::Trending => (1.0, LESS),
        };
        match kind {
            ModelKind::HourlyHoltWinters => hour,
            ModelKind::RlsAr => regression,
            _ => 1.0,
        }
    }
}

/// What the tree asks about.
pub const FEATURES: usize = 6;

/// Their names, as the tree's file spells them.
pub const FEATURE_NAMES: [&str; FEATURES] = ["requests", "zeros", "trend", "variation", "peak", "cycle"];

/// Features of consecutive bins in requests/s, the oldest first, on a grid of `step_seconds`.
///
/// `requests`: ln(1 + mean count a bin). `zeros`: share of empty bins. `trend`: the correlation of value and time,
/// without its sign. `variation`: standard deviation over mean. `peak`: the largest value over the mean. `cycle`: the
/// highest autocorrelation of the changes at a lag that fits in twice, each weighed up by the share of products it has.
pub fn features(values: &[f64], step_seconds: u32) -> [f64; FEATURES] {
    let n = values.len().max(1) as f64;
    let mean = values.iter().sum::<f64>() / n;
    let variance = values.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>() / n;
    let (middle, mut with_time, mut time) = ((n - 1.0) / 2.0, 0.0, 0.0);
    for (i, value) in values.iter().enumerate() {
        let from_middle = i as f64 - middle;
        with_time += from_middle * (value - mean);
        time += from_middle * from_middle;
    }
    let spread = libm::sqrt(time * variance * n);
    let trend = if spread > 0.0 { (with_time / spread).abs() } else { 0.0 };
    let over_mean = |value: f64| if mean > 0.0 { value / mean } else { 0.0 };
    let zeros = values.iter().filter(|v| **v == 0.0).count() as f64 / n;
    let largest = values.iter().copied().fold(0.0, f64::max);
    let changes = values.len().saturating_sub(1);
    let change = |i: usize| values[i + 1] - values[i];
    let drift = (0..changes).map(change).sum::<f64>() / changes.max(1) as f64;
    let lags = of_centred(changes, |i| change(i) - drift, changes / 2);
    let weighed = |(lag, height): (usize, f64)| height * changes as f64 / (changes - lag) as f64;
    let cycle = lags.enumerate().skip(2).map(weighed).fold(0.0, f64::max);
    let requests = libm::log1p(mean * f64::from(step_seconds));
    [requests, zeros, trend, over_mean(libm::sqrt(variance)), over_mean(largest), cycle]
}

/// A node of the tree, in the order in which it is read: what is below follows at once, the rest at an index.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Node {
    Leaf(Regime),
    /// Feature, threshold, and where those go that are not below it.
    Split(usize, f64, usize),
}

/// The tree as data: a line a node, "feature < threshold" or a regime; those below the threshold first.
///
/// Fitted by linfa-trees on series of a seeded generator; `models/tests/regime.rs` fits it anew and compares.
pub const TREE: &str = include_str!("../weights/regime.txt");

/// The regime of a workload that showed `values` (requests/s, the oldest first).
pub fn classify(values: &[f64], step_seconds: u32) -> Regime {
    decide(&features(values, step_seconds))
}

/// What the tree makes of features.
pub fn decide(features: &[f64; FEATURES]) -> Regime {
    static NODES: LazyLock<Vec<Node>> = LazyLock::new(|| parse(TREE));
    let mut at = 0;
    loop {
        match NODES[at] {
            Node::Leaf(regime) => return regime,
            Node::Split(feature, threshold, otherwise) => {
                at = if features[feature] < threshold { at + 1 } else { otherwise };
            }
        }
    }
}

fn parse(text: &str) -> Vec<Node> {
    fn subtree<'a>(lines: &mut impl Iterator<Item = &'a str>, nodes: &mut Vec<Node>) {
        let line = lines.next().expect("a test reads the shipped tree");
        if let Some(regime) = Regime::ALL.into_iter().find(|r| r.name() == line) {
            nodes.push(Node::Leaf(regime));
            return;
        }
        let split = line.split_once(" < ").and_then(|(name, threshold)| {
            Some((FEATURE_NAMES.iter().position(|n| *n == name)?, threshold.parse().ok()?))
        });
        let (feature, threshold) = split.expect("a test reads the shipped tree");
        let at = nodes.len();
        nodes.push(Node::Split(feature, threshold, 0));
        subtree(lines, nodes);
        nodes[at] = Node::Split(feature, threshold, nodes.len());
        subtree(lines, nodes);
    }
    let mut nodes = Vec::new();
    subtree(&mut text.lines().map(str::trim), &mut nodes);
    nodes
}
