//! What the nodes expect, merged: they look every few seconds, and say so with each report.

use crate::expert::{Bin, Expert, ModelKind, VALUE_LIMIT};
use crate::forecast::{Forecast, Grid, Target};
use crate::state::state;

/// Distances of the nodes' forecast that are kept, the nearest ones: an agent has six.
const MOST_LEADS: usize = 8;

/// The medians of the nodes' merged forecast as a curve over time. It hears of the nodes ([`Expert::hear`]) and is awake at a
/// bin only if what it heard last was said at that bin's end, give or take a bin: a forecast from long before is no news,
/// and one from long after was not there when that bin ended.
///
/// The curve is straight between the middles of the nodes' own bins, and flat before the first and beyond the last.
#[derive(Clone, Debug)]
pub struct NodeMerge {
    grid: Grid,
    /// Unix seconds of the end of what the nodes had seen.
    heard: Option<i64>,
    /// Seconds from there to the middle of a bin that they forecast, ascending, and the load in it; so many of them count.
    leads: [f64; MOST_LEADS],
    loads: [f64; MOST_LEADS],
    count: usize,
    /// Unix seconds of the end of the newest bin.
    end: i64,
    last: Option<f64>,
}
state!(NodeMerge { heard, leads, loads, count, end, last } fixed { grid }
    sound |merge| merge.count <= MOST_LEADS);

impl NodeMerge {
    /// Without history.
    pub fn new(grid: Grid) -> Self {
        Self {
            grid,
            heard: None,
            leads: [0.0; MOST_LEADS],
            loads: [0.0; MOST_LEADS],
            count: 0,
            end: 0,
            last: None,
        }
    }

    fn curve(&self, lead: f64) -> f64 {
        let (leads, loads) = (&self.leads[..self.count], &self.loads[..self.count]);
        match leads.iter().position(|at| *at >= lead) {
            None => loads[self.count - 1],
            Some(0) => loads[0],
            Some(next) => {
                let share = (lead - leads[next - 1]) / (leads[next] - leads[next - 1]);
                loads[next - 1] + share * (loads[next] - loads[next - 1])
            }
        }
    }

    /// From the end of what the nodes had seen to the middle of the bin `steps` ahead, seconds.
    fn lead(&self, heard: i64, steps: u32) -> f64 {
        (self.end - heard) as f64 + (f64::from(steps) - 0.5) * f64::from(self.grid.step_seconds)
    }

    /// What was heard at the newest bin's end.
    fn news(&self) -> Option<i64> {
        let near = i64::from(self.grid.step_seconds);
        self.heard.filter(|heard| self.count > 0 && (self.end - heard).abs() <= near)
    }
}

impl Expert for NodeMerge {
    fn kind(&self) -> ModelKind {
        ModelKind::NodeMerge
    }

    fn hear(&mut self, nodes: &Forecast) {
        let step = i64::from(nodes.grid.step_seconds);
        let mut points: Vec<(u32, f64)> = Vec::with_capacity(nodes.points.len());
        for (target, quantiles) in &nodes.points {
            if let Target::At { steps } = *target {
                points.push((steps, quantiles.median().min(VALUE_LIMIT)));
            }
        }
        points.sort_unstable_by_key(|(steps, _)| *steps);
        points.dedup_by_key(|(steps, _)| *steps);
        self.heard = Some(nodes.origin.saturating_add(1).saturating_mul(step));
        self.count = points.len().min(MOST_LEADS);
        for (k, (steps, load)) in points.into_iter().take(MOST_LEADS).enumerate() {
            self.leads[k] = (f64::from(steps) - 0.5) * step as f64;
            self.loads[k] = load;
        }
    }

    fn observe(&mut self, bin: Bin) {
        self.end = bin.index.saturating_add(1).saturating_mul(i64::from(self.grid.step_seconds));
        if let Some(value) = bin.learnable(self.last.unwrap_or(0.0)) {
            self.last = Some(value);
        }
    }

    fn awake(&self) -> bool {
        self.news().is_some()
    }

    fn predict(&self, targets: &[Target], out: &mut [f64]) {
        let Some(heard) = self.news() else { return out.fill(self.last.unwrap_or(0.0)) };
        let furthest = self.leads[self.count - 1];
        for (target, out) in targets.iter().zip(out) {
            *out = match *target {
                Target::At { steps } => self.curve(self.lead(heard, steps)),
                Target::MaxOver { steps } => {
                    let mut most: f64 = 0.0;
                    for ahead in 1..=steps {
                        let lead = self.lead(heard, ahead);
                        most = most.max(self.curve(lead));
                        // Beyond the furthest it is flat.
                        if lead >= furthest {
                            break;
                        }
                    }
                    most
                }
            };
        }
    }

    fn grid(&self) -> Grid {
        self.grid
    }

    fn heap_bytes(&self) -> usize {
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::forecast::Quantiles;

    const GRID: Grid = Grid { step_seconds: 10 };

    /// Nodes on a grid of 5 s, seen up to Unix second `end`.
    fn nodes(end: i64, points: &[(Target, f64)]) -> Forecast {
        let points = points.iter().map(|(target, load)| {
            let quantiles = [0.5 * load, *load, 2.0 * load, 3.0 * load, 4.0 * load];
            (*target, Quantiles::new(quantiles).unwrap())
        });
        Forecast { origin: end / 5 - 1, grid: Grid { step_seconds: 5 }, points: points.collect() }
    }

    fn at(steps: u32) -> Target {
        Target::At { steps }
    }

    fn said(merge: &NodeMerge, targets: &[Target]) -> Vec<f64> {
        let mut out = vec![-1.0; targets.len()];
        merge.predict(targets, &mut out);
        out
    }

    #[test]
    fn it_says_what_the_nodes_say_of_that_time() {
        let mut merge = NodeMerge::new(GRID);
        // The middles of their bins lie 2.5, 27.5 and 117.5 s ahead; in whatever order, and maxima aside.
        let points = [(at(6), 30.0), (Target::MaxOver { steps: 24 }, 900.0), (at(1), 10.0), (at(24), 120.0)];
        merge.hear(&nodes(1000, &points));
        merge.observe(Bin::new(99, 7.0));
        assert!(merge.awake());
        // The middles of ours lie 5, 15, 25 and 115 s ahead.
        let slope = 20.0 / 25.0;
        let expected = [10.0 + 2.5 * slope, 10.0 + 12.5 * slope, 10.0 + 22.5 * slope, 120.0 - 2.5];
        for (target, expected) in [1, 2, 3, 12].map(at).iter().zip(expected) {
            let got = said(&merge, &[*target])[0];
            assert!((got - expected).abs() < 1e-9, "{target:?}: {got}, not {expected}");
        }
        assert_eq!(said(&merge, &[at(13), at(90), Target::MaxOver { steps: 30 }]), [120.0; 3]);
        let falling = [(at(1), 50.0), (at(24), 5.0)];
        merge.hear(&nodes(1000, &falling));
        let first = said(&merge, &[at(1)])[0];
        assert_eq!(said(&merge, &[Target::MaxOver { steps: 6 }]), [first]);
    }

    #[test]
    fn what_was_said_later_counts_from_when_it_was_said() {
        let mut merge = NodeMerge::new(GRID);
        merge.hear(&nodes(1005, &[(at(1), 10.0), (at(11), 60.0)]));
        merge.observe(Bin::new(99, 7.0));
        // The middle of our second bin, 15 s after the bin's end, is 10 s after what the nodes had seen.
        assert!((said(&merge, &[at(2)])[0] - 17.5).abs() < 1e-9);
        assert_eq!(said(&merge, &[at(1)]), [10.0], "before the first it is flat");
    }

    #[test]
    fn it_sleeps_when_the_nodes_are_silent_and_never_says_nothing_comes() {
        let mut merge = NodeMerge::new(GRID);
        merge.observe(Bin::new(98, 7.0));
        assert!(!merge.awake());
        assert_eq!(said(&merge, &[at(1), Target::MaxOver { steps: 3 }]), [7.0; 2]);
        merge.hear(&nodes(1000, &[(at(1), 10.0)]));
        for (index, awake) in [(99, true), (100, true), (101, false), (500, false)] {
            merge.observe(Bin::new(index, 7.0));
            assert_eq!(merge.awake(), awake, "bin {index}");
        }
        assert_eq!(said(&merge, &[at(1)]), [7.0]);
        // Bins that are shown late get no word from after their time.
        merge.hear(&nodes(6000, &[(at(1), 10.0)]));
        for (index, awake) in
            [(501, false), (597, false), (598, true), (599, true), (600, true), (601, false)]
        {
            merge.observe(Bin::missing(index));
            assert_eq!(merge.awake(), awake, "bin {index}");
        }
        // Nodes of whom nobody forecasts, or maxima alone.
        for points in [&[][..], &[(Target::MaxOver { steps: 12 }, 5.0)]] {
            merge.hear(&nodes(6020, points));
            assert!(!merge.awake());
            assert_eq!(said(&merge, &[at(1)]), [7.0]);
        }
    }
}
