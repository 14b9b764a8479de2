//! A fit in pieces: cut points regressor by regressor, then trees leaf by leaf.

use super::booster::{Booster, Objective, Settings, quantile};
use super::cuts::Cuts;
use super::grow::{Ground, Growing, Node};

/// A fit in progress. Of 40,000 rows each step is some milliseconds: the longest adds up one histogram of all of them.
pub struct Fitting {
    settings: Settings,
    features: usize,
    cuts: Cuts,
    /// Buckets, row by row.
    codes: Vec<u8>,
    /// What the base and the trees so far say of each row, and the derivatives of the loss there.
    predictions: Vec<f64>,
    slopes: Vec<(f64, f64)>,
    growing: Option<Growing>,
    booster: Booster,
}

impl Fitting {
    /// As [`Booster::fit`], which takes all steps at once.
    ///
    /// # Panics
    /// If there is no row, or labels and rows differ in number.
    pub fn new(rows: &[f32], features: usize, labels: &[f64], settings: Settings) -> Self {
        assert!(!labels.is_empty() && labels.len() * features == rows.len(), "a label for every row");
        let base = match settings.objective {
            Objective::Squared => labels.iter().sum::<f64>() / labels.len() as f64,
            Objective::Quantile(level) => quantile(&mut labels.to_vec(), level),
        };
        Self {
            settings,
            features,
            cuts: Cuts::default(),
            codes: vec![0; rows.len()],
            predictions: vec![base; labels.len()],
            slopes: Vec::with_capacity(labels.len()),
            growing: None,
            booster: Booster { base, trees: Vec::with_capacity(settings.trees) },
        }
    }

    /// Does a piece of work on the rows and labels that it was begun with; false when all is done.
    pub fn step(&mut self, rows: &[f32], labels: &[f64]) -> bool {
        if self.cuts.features() < self.features {
            self.cuts.add(rows, self.features, &mut self.codes);
            return true;
        }
        if self.booster.trees.len() == self.settings.trees {
            return false;
        }
        let Some(mut growing) = self.growing.take() else {
            self.slope(labels);
            self.growing = Some(Growing::new(&self.ground(), &self.settings));
            return true;
        };
        if growing.step(&self.ground(), &self.settings) {
            self.growing = Some(growing);
        } else {
            self.add(growing, labels);
        }
        true
    }

    /// What has been fitted so far.
    pub fn so_far(&self) -> &Booster {
        &self.booster
    }

    /// What has been fitted.
    pub fn finish(self) -> Booster {
        self.booster
    }

    fn ground(&self) -> Ground<'_> {
        Ground { cuts: &self.cuts, codes: &self.codes, slopes: &self.slopes }
    }

    fn slope(&mut self, labels: &[f64]) {
        self.slopes.clear();
        self.slopes.extend(self.predictions.iter().zip(labels).map(|(prediction, label)| {
            match self.settings.objective {
                Objective::Squared => (prediction - label, 1.0),
                Objective::Quantile(level) if prediction >= label => (1.0 - level, 1.0),
                Objective::Quantile(level) => (-level, 1.0),
            }
        }));
    }

    /// Adds a share of a tree that has grown.
    fn add(&mut self, growing: Growing, labels: &[f64]) {
        let mut grown = growing.grown(&self.ground(), &self.settings);
        let predictions = &mut self.predictions;
        for (node, rows) in &grown.leaves {
            if let Objective::Quantile(level) = self.settings.objective {
                let mut residuals: Vec<f64> =
                    rows.iter().map(|r| labels[*r as usize] - predictions[*r as usize]).collect();
                grown.nodes[*node] = Node::Leaf(quantile(&mut residuals, level) as f32);
            }
            let Node::Leaf(value) = &mut grown.nodes[*node] else { continue };
            *value = (f64::from(*value) * self.settings.rate) as f32;
            for row in rows {
                predictions[*row as usize] += f64::from(*value);
            }
        }
        self.booster.trees.push(grown.nodes);
    }
}
