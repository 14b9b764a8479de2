//! Which models make the cluster ensemble, by name; and what there is to choose from.

use thiserror::Error;

use crate::expert::ModelKind;
use crate::forecast::Grid;
use crate::holidays::Holidays;
use crate::neural::CoreKind;

/// On grids finer than this only the level, the day and the hour are forecast: within the few minutes that such a grid
/// looks ahead a week's shape hardly moves, the regression gains nothing, and the head 0.1 % for half as much memory
/// again (FORECAST.md's three traces of 10 s).
const COARSE_SECONDS: u32 = 60;

/// The models of a cluster ensemble. The default is what `docs/models/ensemble.md` is measured with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// In [`ModelKind::ALL`]'s order, so that the order in which they are named changes nothing.
    experts: Vec<ModelKind>,
    head: Option<CoreKind>,
    holidays: Holidays,
}

/// Why a list of names is no choice.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Unfit {
    /// No model has this name.
    #[error("{name:?} is no model; there are {}", names().join(", "))]
    Unknown {
        /// What was said.
        name: String,
    },
    /// A model is named twice.
    #[error("{name} is named twice")]
    Twice {
        /// Which one.
        name: &'static str,
    },
    /// Two heads.
    #[error("{one} and {other} are both heads, and an ensemble has one: leave one out")]
    TwoHeads {
        /// The one.
        one: &'static str,
        /// The other.
        other: &'static str,
    },
    /// Smoothing is not among them.
    #[error(
        "tuned_smoothing must be among the models: it alone forecasts from the first minute on, on every grid"
    )]
    NoSmoothing,
}

/// Every name that can be chosen.
pub fn names() -> Vec<&'static str> {
    ModelKind::ALL.into_iter().map(ModelKind::name).chain(CoreKind::ALL.map(CoreKind::name)).collect()
}

impl Default for Choice {
    /// Beside the regression the last value and the line through the last two minutes only cost: without them 0.467
    /// instead of 0.469; what the others would gain is in `docs/models/experts.md`.
    fn default() -> Self {
        use ModelKind::{HoltWinters, HourlyHoltWinters, RlsAr, TunedSmoothing, WeeklyHoltWinters};
        let experts = vec![TunedSmoothing, HoltWinters, HourlyHoltWinters, WeeklyHoltWinters, RlsAr];
        Self { experts, head: Some(CoreKind::Gru), holidays: Holidays::default() }
    }
}

impl Choice {
    /// The models of these names, in any order.
    ///
    /// # Errors
    /// [`Unfit`], a sentence that says what would be right.
    pub fn of<'a>(named: impl IntoIterator<Item = &'a str>) -> Result<Self, Unfit> {
        let (mut experts, mut head) = (Vec::new(), None::<CoreKind>);
        for name in named {
            if let Some(core) = CoreKind::of(name) {
                match head.replace(core) {
                    None => continue,
                    Some(one) if one == core => return Err(Unfit::Twice { name: core.name() }),
                    Some(one) => return Err(Unfit::TwoHeads { one: one.name(), other: core.name() }),
                }
            }
            let kind = ModelKind::ALL.into_iter().find(|kind| kind.name() == name);
            let kind = kind.ok_or_else(|| Unfit::Unknown { name: name.to_owned() })?;
            if experts.contains(&kind) {
                return Err(Unfit::Twice { name: kind.name() });
            }
            experts.push(kind);
        }
        if !experts.contains(&ModelKind::TunedSmoothing) {
            return Err(Unfit::NoSmoothing);
        }
        experts.sort_by_key(|kind| ModelKind::ALL.iter().position(|it| it == kind));
        Ok(Self { experts, head, holidays: Holidays::default() })
    }

    /// The same models, with these holidays.
    pub fn with_holidays(self, holidays: Holidays) -> Self {
        Self { holidays, ..self }
    }

    /// What holidays its models may know of.
    pub fn holidays(&self) -> &Holidays {
        &self.holidays
    }

    /// Whether any of its models knows of holidays.
    pub fn reads_holidays(&self) -> bool {
        self.experts.iter().any(|kind| kind.reads_holidays())
    }

    /// Their names, the head's last.
    pub fn names(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.experts.iter().map(|kind| kind.name()).chain(self.head.map(CoreKind::name))
    }

    /// Whether the model of this name is one of them, on whatever grid.
    pub fn has(&self, name: &str) -> bool {
        self.names().any(|it| it == name)
    }

    /// The experts of this grid, each with the weight to start from.
    pub fn experts(&self, grid: Grid) -> Vec<(ModelKind, f64)> {
        let here = self.experts.iter().filter(|kind| runs_on(**kind, grid));
        here.map(|&kind| (kind, prior(kind))).collect()
    }

    /// The head of this grid, by what reads the series in it; `None` where the grid or the choice has none.
    pub fn head(&self, grid: Grid) -> Option<CoreKind> {
        self.head.filter(|_| grid.step_seconds >= COARSE_SECONDS)
    }
}

impl std::fmt::Display for Choice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.names().collect::<Vec<_>>().join(","))
    }
}

/// Whether a model takes part on this grid where it is chosen.
fn runs_on(kind: ModelKind, grid: Grid) -> bool {
    use ModelKind::{HoltWinters, HourlyHoltWinters, NodeMerge, TunedSmoothing};
    match kind {
        TunedSmoothing | HoltWinters | HourlyHoltWinters => true,
        // Nodes look two minutes ahead.
        NodeMerge => grid.step_seconds < COARSE_SECONDS,
        _ => grid.step_seconds >= COARSE_SECONDS,
    }
}

/// The smoothers are rarely far off.
fn prior(kind: ModelKind) -> f64 {
    match kind {
        ModelKind::TunedSmoothing | ModelKind::HoltWinters => 0.4,
        _ => 0.1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_make_a_choice_in_any_order_and_wrong_ones_a_sentence() {
        let default: Vec<&str> = Choice::default().names().collect();
        assert_eq!(Choice::of(default.iter().rev().copied()), Ok(Choice::default()));
        let few = Choice::of(["holt_winters_week", "tuned_smoothing"]).unwrap();
        let on = |step_seconds| few.experts(Grid { step_seconds }).iter().map(|it| it.0.name()).collect();
        let (seconds, minutes): (Vec<_>, Vec<_>) = (on(10), on(60));
        assert_eq!(seconds, ["tuned_smoothing"]);
        assert_eq!(minutes, ["tuned_smoothing", "holt_winters_week"]);
        let heads = |choice: &Choice| [10, 60].map(|step_seconds| choice.head(Grid { step_seconds }));
        assert_eq!(heads(&few), [None, None]);
        assert_eq!(heads(&Choice::default()), [None, Some(CoreKind::Gru)]);
        for core in CoreKind::ALL {
            let chosen = Choice::of([core.name(), "tuned_smoothing"]).unwrap();
            assert_eq!(heads(&chosen), [None, Some(core)]);
            assert_eq!(chosen.to_string(), format!("tuned_smoothing,{}", core.name()));
        }

        let wrong = |names: &[&str]| Choice::of(names.iter().copied()).unwrap_err().to_string();
        let said = wrong(&["tuned_smoothing", "grru"]);
        assert!(said.contains("\"grru\"") && names().iter().all(|name| said.contains(name)), "{said}");
        assert!(wrong(&[]).contains("tuned_smoothing") && wrong(&["gru"]).contains("tuned_smoothing"));
        assert!(wrong(&["tuned_smoothing", "tuned_smoothing"]).contains("twice"));
        assert!(wrong(&["gru", "tuned_smoothing", "gru"]).contains("twice"));
        assert!(wrong(&["lstm", "tuned_smoothing", "gru"]).starts_with("lstm and gru are both heads"));
    }
}
