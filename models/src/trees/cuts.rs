//! Cut points: every regressor in at most 64 buckets, so that a split is found by adding up histograms.

/// Buckets of a regressor. LightGBM and XGBoost take 255; 64 keep a histogram of all regressors in the second-level
/// cache and leave a bucket 1.6 % of the rows.
pub const BUCKETS: usize = 64;

/// Rows that cut points are chosen from, evenly spaced over all: a percentile of 20,000 is known to 0.1 %.
const SAMPLE: usize = 20_000;

/// Ascending cut points per regressor: a value belongs to bucket k if it is above exactly k of them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Cuts(Vec<Vec<f32>>);

impl Cuts {
    /// Chooses the next regressor's cut points half-way between neighbouring values, evenly over the rows' ranks, and writes its
    /// bucket of each row to `codes`; up to [`BUCKETS`] different values each get a bucket of their own.
    ///
    /// Both `rows` and `codes` have `features` entries a row.
    pub fn add(&mut self, rows: &[f32], features: usize, codes: &mut [u8]) {
        let feature = self.features();
        let count = rows.len() / features;
        let step = count.div_ceil(SAMPLE).max(1);
        let mut values: Vec<f32> =
            (0..count).step_by(step).map(|row| rows[row * features + feature]).collect();
        values.sort_unstable_by(f32::total_cmp);
        let cuts = chosen(&values);
        for (row, codes) in rows.chunks_exact(features).zip(codes.chunks_exact_mut(features)) {
            // At most BUCKETS cuts, so a count fits a byte.
            codes[feature] = cuts.partition_point(|cut| row[feature] > *cut) as u8;
        }
        self.0.push(cuts);
    }

    /// How many regressors there are.
    pub fn features(&self) -> usize {
        self.0.len()
    }

    /// The cut points of one.
    pub fn of_feature(&self, feature: usize) -> &[f32] {
        &self.0[feature]
    }
}

/// Cut points for these values, which ascend.
fn chosen(values: &[f32]) -> Vec<f32> {
    let mut distinct = values.to_vec();
    distinct.dedup();
    let middle = |pair: &[f32]| pair[0] + (pair[1] - pair[0]) / 2.0;
    if distinct.len() <= BUCKETS {
        return distinct.windows(2).map(middle).collect();
    }
    // A value that fills several buckets gets one: the next begins above it.
    let ranks = (1..BUCKETS).map(|k| values[k * values.len() / BUCKETS - 1]);
    let above = ranks.map(|value| distinct.partition_point(|v| *v <= value));
    let mut cuts: Vec<f32> =
        above.filter(|i| *i < distinct.len()).map(|i| middle(&distinct[i - 1..=i])).collect();
    cuts.dedup();
    cuts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_values_get_a_bucket_each_and_many_share_evenly() {
        let rows: Vec<f32> = (0..6400_u16)
            .flat_map(|i| [f32::from(i % 3), f32::from(i), f32::from((i / 3200) * (i % 90))])
            .collect();
        let (mut cuts, mut codes) = (Cuts::default(), vec![0; rows.len()]);
        (0..3).for_each(|_| cuts.add(&rows, 3, &mut codes));
        assert_eq!(cuts.of_feature(0), [0.5, 1.5]);
        assert_eq!(cuts.of_feature(1).len(), BUCKETS - 1);
        assert_eq!(cuts.of_feature(2)[0], 0.5, "half of the rows are zero: they have a bucket of their own");
        let mut counts = [0; BUCKETS];
        for row in codes.chunks_exact(3) {
            counts[usize::from(row[1])] += 1;
        }
        assert!(counts.iter().all(|c| (95..=105).contains(c)), "{counts:?}");
    }
}
