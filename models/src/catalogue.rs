//! Every model that the aggregator knows, in a sentence each: what it is, from where, after how much history it speaks.

use crate::expert::ModelKind;
use crate::neural::{CoreKind, shipped_as};
use crate::{hybrid, trees};

/// One model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Card {
    /// Its name in metrics, files and the API.
    pub name: &'static str,
    /// What it is in an ensemble.
    pub part: Part,
    /// What it is.
    pub what: &'static str,
    /// Where it is described first, or best.
    pub source: Option<&'static str>,
    /// What it needs before it is awake.
    pub awake_after: &'static str,
    /// Checksum of the weights that it ships with, if it has any.
    pub weights: Option<u32>,
}

/// What a model is in an ensemble.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// One of the experts.
    Expert(ModelKind),
    /// The head, of which an ensemble has one at most; which network it runs with.
    Head(CoreKind),
}

/// All of them, as [`crate::choice::names`] lists them.
pub fn catalogue() -> Vec<Card> {
    ModelKind::ALL.into_iter().map(expert).chain(CoreKind::ALL.map(head)).collect()
}

fn head(core: CoreKind) -> Card {
    let (what, source) = match core {
        CoreKind::Gru => (
            "a recurrent network trained on many workloads, mixed with the experts while it is shown to help",
            "Wen et al., A Multi-Horizon Quantile Recurrent Forecaster, 2017 (arXiv 1711.11053)",
        ),
        CoreKind::Lstm => (
            "the same with long short-term memory: at most one of these networks",
            "Hochreiter & Schmidhuber, Neural Computation 9(8), 1997",
        ),
        CoreKind::Cnn => (
            "the same with dilated causal convolutions: at most one of these networks",
            "Bai, Kolter & Koltun, 2018 (arXiv 1803.01271)",
        ),
    };
    Card {
        name: core.name(),
        part: Part::Head(core),
        what,
        source: Some(source),
        awake_after: "half an hour; admitted after 500 settled records at the earliest",
        weights: Some(shipped_as(core).checksum()),
    }
}

fn expert(kind: ModelKind) -> Card {
    const BOOK: Option<&str> =
        Some("Hyndman & Athanasopoulos, Forecasting: Principles and Practice, 3rd ed., 2021");
    let (what, source, awake_after) = match kind {
        ModelKind::LastValue => ("the last value", None, "a value"),
        ModelKind::LinearTwoMinutes => {
            ("least squares over the last two minutes, extrapolated", None, "an hour")
        }
        ModelKind::TunedSmoothing => ("exponential smoothing, its factor chosen per target", BOOK, "a value"),
        ModelKind::HoltWinters => ("damped trend, additive daily season", BOOK, "a day"),
        ModelKind::HourlyHoltWinters => ("level and hourly season", BOOK, "an hour"),
        ModelKind::WeeklyHoltWinters => ("level and weekly season of quarter-hours", BOOK, "a week"),
        ModelKind::SeasonalNaiveDay => ("the same bin yesterday", BOOK, "a day"),
        ModelKind::SeasonalNaiveWeek => ("the same bin a week ago", BOOK, "a week"),
        ModelKind::QuarterMean => ("the mean of the last 15 minutes", None, "an hour"),
        ModelKind::PhaseProfile => (
            "a cycle of any length, found by autocorrelation",
            Some("Box et al., Time Series Analysis, 5th ed., 2015, §2.1.5"),
            "two turns of a cycle that stands out by five standard errors",
        ),
        ModelKind::RlsAr => (
            "per distance a regression on recent values and yesterday, by recursive least squares",
            Some("Haykin, Adaptive Filter Theory, 5th ed., 2014, §10.3"),
            "60 settled forecasts of each distance",
        ),
        ModelKind::Arima => (
            "ARIMA(p ≤ 3, d ≤ 1, q ≤ 2), its order by KPSS and AICc",
            Some("Hyndman & Khandakar, Journal of Statistical Software 27(3), 2008"),
            "120 bins",
        ),
        ModelKind::Prophet => (
            "a trend that bends, daily and weekly waves",
            Some("Taylor & Letham, The American Statistician 72(1), 2018"),
            "two days",
        ),
        ModelKind::StatuScale => (
            "steady between lines of resistance and support, or bursting",
            Some("Wen et al., ACM Transactions on Autonomous and Adaptive Systems, 2024 (arXiv 2407.10173)"),
            "20 bins",
        ),
        ModelKind::ProphetLstm => (
            "Prophet's curve, its residual by a small pooled LSTM",
            Some("Zhang, Neurocomputing 50, 2003"),
            "two days",
        ),
        ModelKind::NodeMerge => (
            "what the nodes expect of the next two minutes, merged",
            None,
            "an hour, while the nodes forecast; grids of seconds",
        ),
        ModelKind::Trees => (
            "boosted trees, fitted on many workloads, correct the expert that was nearest lately",
            Some("Ke et al., LightGBM, NIPS 2017; Friedman, Annals of Statistics 29, 2001, §4.3"),
            "an hour",
        ),
    };
    let weights = match kind {
        ModelKind::ProphetLstm => Some(hybrid::shipped().checksum()),
        ModelKind::Trees => Some(trees::shipped().checksum()),
        _ => None,
    };
    Card { name: kind.name(), part: Part::Expert(kind), what, source, awake_after, weights }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::neural::shipped;

    #[test]
    fn every_name_that_can_be_chosen_has_a_card_and_what_was_trained_has_weights() {
        let cards = catalogue();
        let names: Vec<&str> = cards.iter().map(|card| card.name).collect();
        assert_eq!(names, crate::choice::names());
        let trained: Vec<&str> = cards.iter().filter(|it| it.weights.is_some()).map(|it| it.name).collect();
        assert_eq!(trained, ["prophet_lstm", "trees", "gru", "lstm", "cnn"]);
        let gru = cards.iter().find(|it| it.name == "gru").unwrap();
        assert_eq!((gru.part, gru.weights), (Part::Head(CoreKind::Gru), Some(shipped().checksum())));
        let mut weights: Vec<u32> = cards.iter().filter_map(|it| it.weights).collect();
        weights.sort_unstable();
        assert!(weights.windows(2).all(|pair| pair[0] != pair[1]), "{weights:x?}");
    }
}
