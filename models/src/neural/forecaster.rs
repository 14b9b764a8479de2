//! The forecaster: one workload's frame and state, and the network that it shares with all others.

use std::sync::{Arc, OnceLock};

use crate::expert::{Bin, VALUE_LIMIT};
use crate::forecast::{Grid, Target};
use crate::state::{Loader, Saver, State, Unreadable};

use super::core::CoreKind;
use super::frame::Frame;
use super::head::Scratch;
use super::network::{Network, NetworkSettings};

/// The network that ships with Prescale as the ensemble's head: a start until the cluster's own history has trained a better
/// one.
pub fn shipped() -> Arc<Network<f32>> {
    shipped_as(CoreKind::Gru)
}

/// The shipped network of this kind.
///
/// Trained by `cargo xtask train --core …` on the training parts of the published traces; the JSON file beside the weights
/// says on what.
pub fn shipped_as(core: CoreKind) -> Arc<Network<f32>> {
    static SHIPPED: [OnceLock<Arc<Network<f32>>>; 3] = [OnceLock::new(), OnceLock::new(), OnceLock::new()];
    let bytes: &[u8] = match core {
        CoreKind::Gru => include_bytes!("../../weights/gru.safetensors"),
        CoreKind::Lstm => include_bytes!("../../weights/lstm.safetensors"),
        CoreKind::Cnn => include_bytes!("../../weights/cnn.safetensors"),
    };
    let network = SHIPPED[core as usize].get_or_init(|| {
        let network = Network::load(NetworkSettings::of(core), bytes);
        Arc::new(network.expect("a test reads the shipped weights"))
    });
    Arc::clone(network)
}

/// What a step works on lies on the stack: enough for 64 units of either kind.
const SCRATCH: usize = 8 * 64;

/// One workload's neural forecasts: recursive, some microseconds a bin, nothing allocated after the start.
#[derive(Clone, Debug)]
pub struct Neural {
    network: Arc<Network<f32>>,
    /// The network's checksum.
    weights: u32,
    frame: Frame,
    grid: Grid,
    state: Vec<f32>,
    head: Scratch<f32>,
    quantiles: Vec<[f64; 5]>,
    bins: u64,
}

impl State for Neural {
    fn save(&self, out: &mut Saver) {
        let Self { network, weights, frame, grid: _, state, head: _, quantiles, bins } = self;
        out.note(network.settings().core.name());
        weights.save(out);
        frame.save(out);
        state.save(out);
        quantiles.save(out);
        bins.save(out);
    }

    fn load(&mut self, from: &mut Loader<'_>) -> Result<(), Unreadable> {
        let mut weights = 0_u32;
        weights.load(from)?;
        self.frame.load(from)?;
        self.state.load(from)?;
        self.quantiles.load(from)?;
        self.bins.load(from)?;
        if weights != self.weights {
            self.warm_up_anew();
        }
        Ok(())
    }
}

impl Neural {
    /// Bins that fill the state and the candidates' errors: half an hour of minutes, as `FORECAST.md` says that only
    /// smoothing is useful before.
    const WARM_UP_SECONDS: u64 = 1800;

    /// A forecaster of `targets` with this network.
    ///
    /// # Panics
    /// If the network has more than 64 units: networks are our own code's.
    pub fn new(network: Arc<Network<f32>>, grid: Grid, targets: &[Target]) -> Self {
        assert!(network.core.scratch() <= SCRATCH, "networks of at most 64 units");
        Self {
            frame: Frame::new(grid, targets),
            grid,
            state: vec![0.0; network.core.state_len()],
            head: network.head.scratch(),
            quantiles: vec![[0.0; 5]; targets.len()],
            bins: 0,
            weights: network.checksum(),
            network,
        }
    }

    /// Goes on with another network of the same sizes. What the frame knows of the series is no network's; the recurrent
    /// state is, and fills anew: it sleeps for as long as at its start.
    ///
    /// # Panics
    /// If the sizes differ: networks are our own code's.
    pub fn change(&mut self, network: Arc<Network<f32>>) {
        assert_eq!(network.settings(), self.network.settings(), "a network of other sizes");
        let weights = network.checksum();
        if weights != self.weights {
            self.warm_up_anew();
        }
        (self.network, self.weights) = (network, weights);
    }

    fn warm_up_anew(&mut self) {
        self.state.fill(0.0);
        self.bins = 0;
    }

    /// Takes the next bin, already [`Bin::sane`], and forecasts anew.
    pub fn observe(&mut self, bin: Bin) {
        if !self.frame.observe(bin) {
            return;
        }
        self.bins += 1;
        let network = &self.network;
        let mut scratch = [0.0; SCRATCH];
        let scratch = &mut scratch[..network.core.scratch()];
        network.core.step(self.frame.inputs(), &mut self.state, scratch);
        let output = &self.state[..network.settings().hidden];
        let seconds = f64::from(self.grid.step_seconds);
        for (target, quantiles) in self.quantiles.iter_mut().enumerate() {
            let outlook = self.frame.look(target);
            let view = self.frame.view(target, &outlook);
            let scaled = network.head.forward(output, &view, &mut self.head);
            for (quantile, scaled) in quantiles.iter_mut().zip(scaled) {
                let count = view.base + view.scale * f64::from(scaled);
                // A bin of unheard-of size may overflow the f32 inside; the base is always finite.
                let count = if count.is_finite() { count } else { view.base };
                *quantile = (count / seconds).clamp(0.0, VALUE_LIMIT);
            }
        }
    }

    /// Whether the state has warmed up.
    pub fn awake(&self) -> bool {
        self.bins * u64::from(self.grid.step_seconds) >= Self::WARM_UP_SECONDS
    }

    /// Quantiles per target, ascending, in the series' unit.
    pub fn quantiles(&self) -> &[[f64; 5]] {
        &self.quantiles
    }

    /// The grid.
    pub fn grid(&self) -> Grid {
        self.grid
    }

    /// What reads the series.
    pub fn core(&self) -> CoreKind {
        self.network.settings().core
    }

    /// Bytes on the heap of this workload alone; the network is shared.
    pub fn heap_bytes(&self) -> usize {
        self.frame.heap_bytes()
            + self.state.len() * 4
            + self.head.heap_bytes()
            + self.quantiles.len() * size_of::<[f64; 5]>()
    }
}
