//! A booster as bytes: safetensors, the nodes of all trees in a row, every number checked on the way in.

use safetensors::tensor::{Dtype, SafeTensorError, SafeTensors, serialize};
use thiserror::Error;

use super::booster::Booster;
use super::grow::Node;
use crate::nn::weights::Tensor;

/// Stands for a regressor in what is no split.
const LEAF: u8 = u8::MAX;

/// The tensors: where the sum begins; nodes of each tree; each node's regressor, first child and value, which is a split's cut
/// or what a leaf adds.
const TENSORS: [(&str, Dtype); 5] = [
    ("base", Dtype::F64),
    ("trees", Dtype::U32),
    ("regressor", Dtype::U8),
    ("child", Dtype::U16),
    ("value", Dtype::F32),
];

/// Why bytes are no booster.
#[derive(Debug, Error)]
pub enum NoBooster {
    /// Not safetensors at all.
    #[error("not a safetensors file: {0}")]
    Format(#[from] SafeTensorError),
    /// A tensor that is not as it must be.
    #[error("tensor {0} is missing, or of another type or length")]
    Tensor(&'static str),
    /// A tensor that no booster has.
    #[error("a booster has no tensor {0}")]
    Unknown(String),
    /// A number that can't be.
    #[error("tree {0} has a child, a regressor or a value that can't be")]
    Tree(usize),
}

fn row<const N: usize>(kind: Dtype, values: impl Iterator<Item = [u8; N]>) -> Tensor {
    let data: Vec<u8> = values.flatten().collect();
    Tensor { kind, shape: vec![data.len() / N], data }
}

/// The booster as a safetensors file; the same booster gives the same bytes.
pub(super) fn save(booster: &Booster) -> Vec<u8> {
    let nodes = || booster.trees.iter().flatten();
    let regressor = |node: &Node| match node {
        Node::Split { feature, .. } => *feature as u8,
        Node::Leaf(_) => LEAF,
    };
    let child = |node: &Node| if let Node::Split { left, .. } = node { *left } else { 0 };
    let value = |node: &Node| match node {
        Node::Split { cut, .. } => *cut,
        Node::Leaf(value) => *value,
    };
    let kinds = TENSORS.map(|(_, kind)| kind);
    let rows = [
        row(kinds[0], std::iter::once(booster.base.to_le_bytes())),
        row(kinds[1], booster.trees.iter().map(|tree| (tree.len() as u32).to_le_bytes())),
        row(kinds[2], nodes().map(|node| [regressor(node)])),
        row(kinds[3], nodes().map(|node| child(node).to_le_bytes())),
        row(kinds[4], nodes().map(|node| value(node).to_le_bytes())),
    ];
    let named = TENSORS.iter().zip(&rows).map(|((name, _), row)| (*name, row));
    serialize(named, None).expect("our own tensors have as many bytes as their shapes say")
}

/// Reads a booster over so many regressors.
///
/// # Errors
/// If anything in the file is not as [`save`] would have written it.
pub(super) fn load(bytes: &[u8], features: usize) -> Result<Booster, NoBooster> {
    let file = SafeTensors::deserialize(bytes)?;
    if let Some(other) = file.names().iter().find(|name| TENSORS.iter().all(|(ours, _)| *name != ours)) {
        return Err(NoBooster::Unknown((*other).to_owned()));
    }
    let base = column::<8>(&file, 0)?.map(f64::from_le_bytes).collect::<Vec<_>>();
    let [base] = base[..] else { return Err(NoBooster::Tensor(TENSORS[0].0)) };
    let counts: Vec<usize> = column(&file, 1)?.map(|it| u32::from_le_bytes(it) as usize).collect();
    let regressors: Vec<u8> = column(&file, 2)?.map(u8::from_le_bytes).collect();
    let children: Vec<u16> = column(&file, 3)?.map(u16::from_le_bytes).collect();
    let values: Vec<f32> = column(&file, 4)?.map(f32::from_le_bytes).collect();
    if !base.is_finite() {
        return Err(NoBooster::Tensor(TENSORS[0].0));
    }
    if counts.iter().sum::<usize>() != regressors.len() {
        return Err(NoBooster::Tensor(TENSORS[1].0));
    }
    for (number, length) in [(3, children.len()), (4, values.len())] {
        if length != regressors.len() {
            return Err(NoBooster::Tensor(TENSORS[number].0));
        }
    }
    let mut nodes = regressors.into_iter().zip(children).zip(values);
    let mut trees = Vec::with_capacity(counts.len());
    for (number, count) in counts.into_iter().enumerate() {
        let mut tree = Vec::with_capacity(count);
        for (at, ((regressor, left), value)) in nodes.by_ref().take(count).enumerate() {
            let child = usize::from(left);
            // Children lie behind their parent, so that every way down ends.
            let sound = value.is_finite()
                && match regressor {
                    LEAF => left == 0,
                    _ => usize::from(regressor) < features && child > at && child + 1 < count,
                };
            if !sound {
                return Err(NoBooster::Tree(number));
            }
            tree.push(match regressor {
                LEAF => Node::Leaf(value),
                _ => Node::Split { feature: u16::from(regressor), cut: value, left },
            });
        }
        if tree.is_empty() {
            return Err(NoBooster::Tree(number));
        }
        trees.push(tree);
    }
    Ok(Booster { base, trees })
}

fn column<const N: usize>(
    file: &SafeTensors<'_>,
    number: usize,
) -> Result<impl Iterator<Item = [u8; N]>, NoBooster> {
    let (name, kind) = TENSORS[number];
    let tensor = file.tensor(name).map_err(|_| NoBooster::Tensor(name))?;
    if tensor.dtype() != kind || tensor.shape().len() != 1 {
        return Err(NoBooster::Tensor(name));
    }
    let values: Vec<[u8; N]> = tensor.data().as_chunks::<N>().0.to_vec();
    Ok(values.into_iter())
}

#[cfg(test)]
mod tests {
    use super::super::{Growth, Objective, Settings};
    use super::*;

    fn booster() -> Booster {
        let rows: Vec<f32> = (0..400_u16).flat_map(|i| [f32::from(i % 20), f32::from(i)]).collect();
        let labels: Vec<f64> = (0..400_u16).map(|i| f64::from(i % 20 * (i / 100))).collect();
        let settings = Settings {
            objective: Objective::Quantile(0.5),
            growth: Growth::LeafWise { leaves: 5 },
            trees: 7,
            rate: 0.3,
            ridge: 1.0,
            least_gain: 0.0,
            least_weight: 5.0,
        };
        Booster::fit(&rows, 2, &labels, &settings)
    }

    #[test]
    fn what_was_saved_is_the_same_booster_and_saves_to_the_same_bytes() {
        let booster = booster();
        let bytes = booster.save();
        let loaded = Booster::load(&bytes, 2).unwrap();
        assert_eq!(loaded, booster);
        assert_eq!((loaded.save(), loaded.checksum()), (bytes, booster.checksum()));
    }

    #[test]
    fn what_is_no_tree_is_refused_and_what_is_read_always_answers() {
        let bytes = booster().save();
        assert!(matches!(Booster::load(&bytes, 1), Err(NoBooster::Tree(_))), "a regressor too many");
        assert!(matches!(Booster::load(&bytes[..60], 2), Err(NoBooster::Format(_))));
        let network = crate::neural::shipped().save();
        assert!(matches!(Booster::load(&network, 2), Err(NoBooster::Unknown(_))));
        let mut refused = 0;
        for bit in 0..8 * bytes.len() {
            let mut changed = bytes.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            match Booster::load(&changed, 2) {
                // Another value, but still trees: every way down ends.
                Ok(other) => assert!(other.predict(&[3.0, 50.0]).is_finite(), "bit {bit}"),
                Err(_) => refused += 1,
            }
        }
        assert!(refused > bytes.len(), "{refused} of {} bits", 8 * bytes.len());
    }
}
