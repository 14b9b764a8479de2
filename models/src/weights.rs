//! Weights that are fitted on many workloads at once and shared by all of them: the heads' networks, and the boosted trees.

use std::sync::Arc;

use thiserror::Error;

use crate::expert::ModelKind;
use crate::neural::{self, CoreKind, Network, NetworkSettings};
use crate::nn::weights::WeightsError;
use crate::trees::{self, Booster, FEATURES, NoBooster};

/// What weights are of. Those of the hybrid only ship: nothing fits them anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum WeightsKind {
    /// A head's network.
    Network(CoreKind),
    /// The expert that corrects others.
    Trees,
}

impl WeightsKind {
    /// All.
    pub const ALL: [Self; 4] = [
        Self::Network(CoreKind::Gru),
        Self::Network(CoreKind::Lstm),
        Self::Network(CoreKind::Cnn),
        Self::Trees,
    ];

    /// The one of this name.
    pub fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// The name of the model that runs with them.
    pub fn name(self) -> &'static str {
        match self {
            Self::Network(core) => core.name(),
            Self::Trees => ModelKind::Trees.name(),
        }
    }

    /// Where it stands among [`WeightsKind::ALL`].
    pub fn index(self) -> usize {
        match self {
            Self::Network(core) => core as usize,
            Self::Trees => CoreKind::ALL.len(),
        }
    }

    /// Those that ship with Prescale.
    pub fn shipped(self) -> Weights {
        match self {
            Self::Network(core) => neural::shipped_as(core).into(),
            Self::Trees => trees::shipped().into(),
        }
    }

    /// Reads a safetensors file.
    ///
    /// # Errors
    /// [`NoWeights`], if the file holds anything else.
    pub fn load(self, bytes: &[u8]) -> Result<Weights, NoWeights> {
        Ok(match self {
            Self::Network(core) => Arc::new(Network::load(NetworkSettings::of(core), bytes)?).into(),
            Self::Trees => Arc::new(Booster::load(bytes, FEATURES)?).into(),
        })
    }

    /// The fingerprint of the features and the fit that the shipped weights belong to, which is this code's (without the
    /// seconds that it takes to make it): tests compare them.
    pub fn code(self) -> &'static str {
        let sidecar = match self {
            Self::Network(CoreKind::Gru) => include_str!("../weights/gru.json"),
            Self::Network(CoreKind::Lstm) => include_str!("../weights/lstm.json"),
            Self::Network(CoreKind::Cnn) => include_str!("../weights/cnn.json"),
            Self::Trees => include_str!("../weights/trees.json"),
        };
        let (_, rest) = sidecar.split_once("\"code\": \"").expect("a test reads it");
        rest.split_once('"').expect("a test reads it").0
    }
}

/// Why bytes are no weights of this kind.
#[derive(Debug, Error)]
pub enum NoWeights {
    /// No network's.
    #[error(transparent)]
    Network(#[from] WeightsError),
    /// No booster's.
    #[error(transparent)]
    Trees(#[from] NoBooster),
}

/// Weights of one kind.
#[derive(Clone, Debug, PartialEq)]
pub enum Weights {
    /// A head's network.
    Network(Arc<Network<f32>>),
    /// The trees.
    Trees(Arc<Booster>),
}

impl From<Arc<Network<f32>>> for Weights {
    fn from(network: Arc<Network<f32>>) -> Self {
        Self::Network(network)
    }
}

impl From<Arc<Booster>> for Weights {
    fn from(booster: Arc<Booster>) -> Self {
        Self::Trees(booster)
    }
}

impl Weights {
    /// What they are of.
    pub fn kind(&self) -> WeightsKind {
        match self {
            Self::Network(network) => WeightsKind::Network(network.settings().core),
            Self::Trees(_) => WeightsKind::Trees,
        }
    }

    /// As a safetensors file; the same weights give the same bytes.
    pub fn save(&self) -> Vec<u8> {
        match self {
            Self::Network(network) => network.save(),
            Self::Trees(booster) => booster.save(),
        }
    }

    /// Tells them from others.
    pub fn checksum(&self) -> u32 {
        match self {
            Self::Network(network) => network.checksum(),
            Self::Trees(booster) => booster.checksum(),
        }
    }
}

/// The weights that forecasters run with, of each kind one.
#[derive(Clone, Debug, PartialEq)]
pub struct AllWeights {
    networks: [Arc<Network<f32>>; 3],
    trees: Arc<Booster>,
}

impl AllWeights {
    /// Those that ship.
    pub fn shipped() -> Self {
        Self { networks: CoreKind::ALL.map(neural::shipped_as), trees: trees::shipped() }
    }

    /// Those of this kind.
    pub fn of(&self, kind: WeightsKind) -> Weights {
        match kind {
            WeightsKind::Network(core) => Arc::clone(self.network(core)).into(),
            WeightsKind::Trees => Arc::clone(&self.trees).into(),
        }
    }

    /// The head's network of this kind.
    pub fn network(&self, core: CoreKind) -> &Arc<Network<f32>> {
        &self.networks[core as usize]
    }

    /// Takes others in the place of those of their kind.
    pub fn set(&mut self, weights: Weights) {
        match weights {
            Weights::Network(network) => {
                let core = network.settings().core;
                self.networks[core as usize] = network;
            }
            Weights::Trees(booster) => self.trees = booster,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_has_its_place_and_reads_its_own_bytes_alone() {
        for (place, kind) in WeightsKind::ALL.into_iter().enumerate() {
            assert_eq!((kind.index(), WeightsKind::of(kind.name())), (place, Some(kind)));
            let shipped = kind.shipped();
            assert_eq!((shipped.kind(), AllWeights::shipped().of(kind)), (kind, shipped.clone()));
            for reader in WeightsKind::ALL {
                match reader.load(&shipped.save()) {
                    Ok(read) => assert!(reader == kind && read == shipped, "{reader:?} reads {kind:?}"),
                    Err(error) => assert!(reader != kind, "{kind:?}: {error}"),
                }
            }
        }
    }
}
