//! Networks as bytes: safetensors, with every name, shape and value checked on the way in.

use std::borrow::Cow;

use safetensors::tensor::{Dtype, SafeTensorError, SafeTensors, View, serialize};
use thiserror::Error;

use super::parameters::Parameters;

/// Why bytes are not the weights of this network.
#[derive(Debug, Error)]
pub enum WeightsError {
    /// Not safetensors at all.
    #[error("not a safetensors file: {0}")]
    Format(#[from] SafeTensorError),
    /// The network has a tensor that the file lacks.
    #[error("the file has no tensor {0}")]
    Missing(String),
    /// The file has a tensor that the network lacks.
    #[error("the network has no tensor {0}")]
    Unknown(String),
    /// A tensor of another shape.
    #[error("tensor {name} is {found:?}, the network wants {wanted:?}")]
    Shape {
        /// Which tensor.
        name: String,
        /// Its shape in the file.
        found: Vec<usize>,
        /// Its shape in the network.
        wanted: Vec<usize>,
    },
    /// A tensor of another type than F32.
    #[error("tensor {name} is {found}, only F32 is read")]
    Type {
        /// Which tensor.
        name: String,
        /// Its type in the file.
        found: Dtype,
    },
    /// A value is NaN or infinite.
    #[error("tensor {0} holds a value that is not finite")]
    NotFinite(String),
}

/// A tensor to be written; values little-endian.
pub(crate) struct Tensor {
    pub(crate) kind: Dtype,
    pub(crate) shape: Vec<usize>,
    pub(crate) data: Vec<u8>,
}

impl View for &Tensor {
    fn dtype(&self) -> Dtype {
        self.kind
    }
    fn shape(&self) -> &[usize] {
        &self.shape
    }
    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(&self.data)
    }
    fn data_len(&self) -> usize {
        self.data.len()
    }
}

/// The network as a safetensors file; the same weights give the same bytes.
pub fn save(network: &impl Parameters<f32>) -> Vec<u8> {
    let mut tensors = Vec::new();
    network.visit("", &mut |name, shape, values| {
        let data = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        tensors.push((name.to_owned(), Tensor { kind: Dtype::F32, shape: shape.to_vec(), data }));
    });
    let views = tensors.iter().map(|(name, tensor)| (name.as_str(), tensor));
    serialize(views, None).expect("our own tensors have as many bytes as their shapes say")
}

/// Reads weights into `network`, which gives the names and shapes.
///
/// # Errors
/// If anything in the file is not exactly what the network wants; `network` may be half read then.
pub fn load(network: &mut impl Parameters<f32>, bytes: &[u8]) -> Result<(), WeightsError> {
    let file = SafeTensors::deserialize(bytes)?;
    let mut left: std::collections::BTreeSet<&str> = file.names().into_iter().collect();
    let mut outcome = Ok(());
    network.visit_mut("", &mut |name, shape, values| {
        left.remove(name);
        if outcome.is_ok() {
            outcome = read(&file, name, shape, values);
        }
    });
    outcome?;
    match left.first() {
        Some(name) => Err(WeightsError::Unknown((*name).to_owned())),
        None => Ok(()),
    }
}

fn read(file: &SafeTensors<'_>, name: &str, shape: &[usize], values: &mut [f32]) -> Result<(), WeightsError> {
    let tensor = file.tensor(name).map_err(|_| WeightsError::Missing(name.to_owned()))?;
    if tensor.dtype() != Dtype::F32 {
        return Err(WeightsError::Type { name: name.to_owned(), found: tensor.dtype() });
    }
    if tensor.shape() != shape {
        let (found, wanted) = (tensor.shape().to_vec(), shape.to_vec());
        return Err(WeightsError::Shape { name: name.to_owned(), found, wanted });
    }
    for (value, bytes) in values.iter_mut().zip(tensor.data().as_chunks::<4>().0) {
        *value = f32::from_le_bytes(*bytes);
        if !value.is_finite() {
            return Err(WeightsError::NotFinite(name.to_owned()));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::{Adam, AdamSettings, Dense, Gru, GruTape, Random};
    use super::*;

    #[test]
    fn what_was_saved_is_read_back_and_saves_to_the_same_bytes() {
        let gru = Gru::<f32>::random(3, 4, &mut Random::new(1));
        let bytes = save(&gru);
        let mut read = Gru::zeros(3, 4);
        load(&mut read, &bytes).unwrap();
        assert_eq!(read, gru);
        assert_eq!(save(&read), bytes);
    }

    #[test]
    fn a_seed_gives_these_very_bytes_even_after_training() {
        let mut gru = Gru::<f32>::random(3, 4, &mut Random::new(1));
        let xs: Vec<f32> = super::super::testing::noise(60, 2).iter().map(|x| *x as f32).collect();
        let (mut tape, mut adam) = (GruTape::new(4), Adam::new(gru.count(), AdamSettings::default()));
        for _ in 0..5 {
            let steps = gru.forward(&xs, &mut tape);
            let mut gradient = Gru::zeros(3, 4);
            gru.backward(&xs, &mut tape, &mut vec![0.1; steps * 4], &mut gradient, None);
            adam.step(&mut gru, &gradient, 0.01);
        }
        // FNV-1a of the file: a change of the generator, an initialisation, an order of summation, a transcendental
        // function or the format shows here, and so does a machine that computes differently.
        let hash = save(&gru)
            .iter()
            .fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(*b)).wrapping_mul(0x0100_0000_01b3));
        assert_eq!(hash, 0x53a5_fed3_1c56_3e90, "{hash:#x}");
    }

    #[test]
    fn what_does_not_fit_is_an_error_that_says_what() {
        let bytes = save(&Dense::<f32>::zeros(3, 4));
        let into = |network: &mut dyn FnMut(&[u8]) -> Result<(), WeightsError>, bytes: &[u8]| {
            network(bytes).unwrap_err().to_string()
        };
        let mut wide = |bytes: &[u8]| load(&mut Dense::<f32>::zeros(3, 5), bytes);
        assert_eq!(into(&mut wide, &bytes), "tensor weight is [3, 4], the network wants [3, 5]");
        let mut gru = |bytes: &[u8]| load(&mut Gru::<f32>::zeros(3, 5), bytes);
        assert_eq!(into(&mut gru, &bytes), "the file has no tensor input");
        assert!(into(&mut wide, &bytes[..40]).starts_with("not a safetensors file"));
        let mut bad = Dense::<f32>::zeros(3, 5);
        bad.fill(f32::INFINITY);
        assert_eq!(into(&mut wide, &save(&bad)), "tensor weight holds a value that is not finite");
    }
}
