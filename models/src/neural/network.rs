//! The whole network: what reads a series, and the head that answers per target.

use crate::nn::weights::{self, WeightsError};
use crate::nn::{Parameters, Random, Real, Visit, VisitMut};

use super::core::{Core, CoreKind};
use super::frame::INPUTS;
use super::head::Head;

/// Sizes of a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NetworkSettings {
    /// What reads the series.
    pub core: CoreKind,
    /// Its units.
    pub hidden: usize,
    /// Units of the head's hidden layer.
    pub head: usize,
}

impl NetworkSettings {
    /// 32 units, as FORECAST.md's measured GRU.
    pub fn of(core: CoreKind) -> Self {
        Self { core, hidden: 32, head: 32 }
    }
}

/// A network, or the gradient of one.
#[derive(Clone, Debug, PartialEq)]
pub struct Network<T> {
    settings: NetworkSettings,
    pub(super) core: Core<T>,
    pub(super) head: Head<T>,
}

impl<T: Real> Network<T> {
    /// An untrained network: its head starts as an online ensemble of the frame's simple forecasts.
    pub fn random(settings: NetworkSettings, random: &mut Random) -> Self {
        Self {
            settings,
            core: Core::random(settings.core, INPUTS, settings.hidden, random),
            head: Head::random(settings.hidden, settings.head, random),
        }
    }

    /// All zero: an empty gradient.
    pub fn zeros(settings: NetworkSettings) -> Self {
        Self {
            settings,
            core: Core::zeros(settings.core, INPUTS, settings.hidden),
            head: Head::zeros(settings.hidden, settings.head),
        }
    }

    /// Its sizes.
    pub fn settings(&self) -> NetworkSettings {
        self.settings
    }
}

impl Network<f32> {
    /// The weights as a safetensors file.
    pub fn save(&self) -> Vec<u8> {
        weights::save(self)
    }

    /// A checksum of all weights: recurrent state that one network made means nothing to another.
    pub fn checksum(&self) -> u32 {
        let mut hasher = crc32fast::Hasher::new();
        self.visit("", &mut |_, _, values| values.iter().for_each(|v| hasher.update(&v.to_le_bytes())));
        hasher.finalize()
    }

    /// Reads a safetensors file.
    ///
    /// # Errors
    /// If the file doesn't hold exactly the tensors of a network of these sizes.
    pub fn load(settings: NetworkSettings, bytes: &[u8]) -> Result<Self, WeightsError> {
        let mut network = Self::zeros(settings);
        weights::load(&mut network, bytes)?;
        Ok(network)
    }
}

impl<T: Real> Parameters<T> for Network<T> {
    fn visit(&self, prefix: &str, visit: &mut Visit<'_, T>) {
        self.core.visit(&format!("{prefix}core."), visit);
        self.head.visit(&format!("{prefix}head."), visit);
    }

    fn visit_mut(&mut self, prefix: &str, visit: &mut VisitMut<'_, T>) {
        self.core.visit_mut(&format!("{prefix}core."), visit);
        self.head.visit_mut(&format!("{prefix}head."), visit);
    }
}
