//! A trace's load as a few nodes would see it, and what they forecast together.

use prescale_core::merge::merged_forecast;
use prescale_core::node::{LocalForecast, local_ensemble};
use prescale_models::nn::Random;
use prescale_models::{Bin, Ensemble, Forecast, Grid};

/// A Deployment's pods on three nodes, one each: what one node sees is then a third, and all noise of it.
const NODES: usize = 3;

/// What the nodes know of chance; the same for every trace.
const SEED: u64 = 1;

/// Requests of a bin that are dealt out one by one; of what is beyond, each cell has its equal part, which chance hardly
/// changes.
const DEALT: f64 = 10_000.0;

/// The nodes of one workload, a pod each: every request of a bin goes to any of them, in any of their own bins that it
/// spans, by a seed. Each runs the agent's ensemble; together they say what `core` makes of their reports.
pub(super) struct Nodes {
    seconds: f64,
    /// The nodes' bins in one of ours.
    parts: i64,
    nodes: Vec<Ensemble>,
    random: Random,
}

impl Nodes {
    /// Nodes that have seen nothing; `None` where bins are not of seconds, or do not hold whole bins of the nodes.
    pub(super) fn new(grid: Grid) -> Option<Self> {
        let nodes: Vec<Ensemble> = (0..NODES).map(|_| local_ensemble()).collect();
        let own = nodes[0].grid().step_seconds;
        let fits = grid.step_seconds < 60 && grid.step_seconds.is_multiple_of(own);
        fits.then(|| Self {
            seconds: f64::from(own),
            parts: i64::from(grid.step_seconds / own),
            nodes,
            random: Random::new(SEED),
        })
    }

    /// What they expect together once they have seen the bin's requests; they hear nothing of a bin that is missing.
    pub(super) fn observe(&mut self, bin: Bin) -> Option<Forecast> {
        let count = bin.value? * self.seconds * self.parts as f64;
        let cells = self.nodes.len() * self.parts as usize;
        let dealt = count.min(DEALT).floor();
        let mut counts = vec![(count - dealt) / cells as f64; cells];
        for _ in 0..dealt as usize {
            counts[self.random.below(cells)] += 1.0;
        }
        for (node, counts) in self.nodes.iter_mut().zip(counts.chunks(self.parts as usize)) {
            for (part, count) in (0..).zip(counts) {
                node.observe(Bin::new(bin.index * self.parts + part, count / self.seconds));
            }
        }
        let said = self.nodes.iter().filter_map(Ensemble::forecast);
        let said: Vec<_> =
            said.map(|forecast| LocalForecast { pods: 1, forecast: forecast.clone() }).collect();
        merged_forecast(said.iter(), NODES)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prescale_models::Target;

    #[test]
    fn together_they_see_the_whole_load_in_their_own_bins() {
        let mut nodes = Nodes::new(Grid { step_seconds: 10 }).unwrap();
        // 200,000.5 requests a bin: more than are dealt, and no whole number.
        let mut said = None;
        for index in 100..140 {
            said = nodes.observe(Bin::new(index, 20_000.05));
        }
        let said = said.unwrap();
        assert_eq!((said.grid.step_seconds, said.origin), (5, 2 * 139 + 1));
        let median = said.get(Target::At { steps: 6 }).unwrap().median();
        assert!((median - 20_000.05).abs() < 20.0, "{median}");
        assert!(
            Nodes::new(Grid { step_seconds: 60 }).is_none()
                && Nodes::new(Grid { step_seconds: 12 }).is_none()
        );
    }

    #[test]
    fn a_seed_deals_alike_and_each_node_has_its_own_noise() {
        let run = || {
            let mut nodes = Nodes::new(Grid { step_seconds: 10 }).unwrap();
            let said: Vec<_> = (0..50).map(|index| nodes.observe(Bin::new(index, 2.0))).collect();
            let own: Vec<_> = nodes.nodes.iter().map(|node| node.forecast().cloned()).collect();
            (said, own)
        };
        let (said, own) = run();
        assert_eq!((said, own.clone()), run());
        assert!(own[0] != own[1] && own[1] != own[2]);
    }
}
