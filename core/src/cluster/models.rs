//! How each model does over all workloads.

use std::collections::BTreeMap;

use prescale_models::catalogue::{Card, Part, catalogue};
use prescale_models::{AllWeights, Ensemble, Grid, Level, WeightsKind};

use super::forecasts::Forecasts;
use super::scores::of_ensemble;
use crate::choices::Choices;
use crate::series::Resolution;
use crate::time::Now;
use crate::view::{Model, ModelGrid, ModelScore, Models, Score};

/// The forecast as issued, among the models' names.
const ISSUED: &str = "";

/// What has been seen of one model on one grid.
#[derive(Default)]
struct Seen {
    workloads: usize,
    awake: usize,
    admitted: Option<usize>,
    demoted: Option<usize>,
    loss_ratios: Vec<f64>,
    settled: u64,
    covered: u64,
    largest: Option<usize>,
}

/// By name and the grid's step.
type All = BTreeMap<(&'static str, u32), Seen>;

pub(super) fn models<'a>(
    now: Now,
    workloads: impl Iterator<Item = &'a Forecasts>,
    choices: &Choices,
    weights: &AllWeights,
) -> Models {
    let mut all = All::new();
    for forecasts in workloads {
        let forecasting = forecasts.ensembles().into_iter().filter(|it| it.forecast().is_some());
        forecasting.for_each(|ensemble| look_at(ensemble, &mut all));
    }
    let steps = [Resolution::TenSeconds, Resolution::Minute].map(Resolution::step_seconds);
    let empty = Seen::default();
    let grid = |name, step| all.get(&(name, step)).unwrap_or(&empty).shown(step);
    let model = |card: Card| {
        let runs = |step_seconds| {
            let grid = Grid { step_seconds };
            choices.all().any(|choice| match card.part {
                Part::Expert(kind) => choice.experts(grid).iter().any(|(chosen, _)| *chosen == kind),
                Part::Head(core) => choice.head(grid) == Some(core),
            })
        };
        // They may have been fitted anew since they shipped.
        let fitted = WeightsKind::of(card.name).map(|kind| weights.of(kind).checksum());
        Model {
            name: card.name,
            kind: if matches!(card.part, Part::Head(_)) { "head" } else { "expert" },
            what: card.what,
            source: card.source,
            awake_after: card.awake_after,
            on: choices.all().any(|choice| choice.has(card.name)),
            weights: fitted.or(card.weights).map(|checksum| format!("{checksum:08x}")),
            grids: steps.into_iter().filter(|step| runs(*step)).map(|step| grid(card.name, step)).collect(),
        }
    };
    Models {
        now_unix_ms: now.wall.0,
        issued: steps.into_iter().map(|step| grid(ISSUED, step)).collect(),
        models: catalogue().into_iter().map(model).collect(),
    }
}

/// Adds one workload's grid.
fn look_at(ensemble: &Ensemble, all: &mut All) {
    let step = ensemble.grid().step_seconds;
    let scores = of_ensemble(ensemble);
    let issued = all.entry((ISSUED, step)).or_default();
    issued.add(true, scores.iter().filter_map(|it| it.loss_ratio));
    issued.settled += scores.iter().map(|it| it.settled).sum::<u64>();
    issued.covered += scores.iter().map(|it| it.covered[Level::P95 as usize]).sum::<u64>();

    let names: Vec<&'static str> = scores.first().map_or_else(Vec::new, names_of);
    let of = |name: &'static str| {
        scores.iter().flat_map(|it| &it.models).filter(move |model: &&ModelScore| model.name == name)
    };
    let weight = |name| of(name).map(|model| model.weight).sum::<f64>();
    let largest = names.iter().copied().max_by(|a, b| weight(a).total_cmp(&weight(b)));
    for &name in &names {
        let seen = all.entry((name, step)).or_default();
        seen.add(of(name).any(|model| model.awake), of(name).filter_map(|model| model.loss_ratio));
        seen.settled += of(name).map(|model| model.settled).sum::<u64>();
        seen.covered += of(name).map(|model| model.covered).sum::<u64>();
        *seen.largest.get_or_insert(0) += usize::from(largest == Some(name));
    }
    if let Some(head) = ensemble.head() {
        let seen = all.entry((head.core.name(), step)).or_default();
        seen.add(head.awake, scores.iter().filter_map(|it| it.loss_ratio_with_head));
        *seen.admitted.get_or_insert(0) += usize::from(head.admitted);
        *seen.demoted.get_or_insert(0) += usize::from(head.demoted);
    }
}

fn names_of(score: &Score) -> Vec<&'static str> {
    score.models.iter().map(|model| model.name).collect()
}

impl Seen {
    fn add(&mut self, awake: bool, loss_ratios: impl Iterator<Item = f64>) {
        self.workloads += 1;
        self.awake += usize::from(awake);
        let (sum, count) = loss_ratios.fold((0.0, 0), |(sum, count), ratio| (sum + ratio, count + 1));
        if count > 0 {
            self.loss_ratios.push(sum / f64::from(count));
        }
    }

    fn shown(&self, bin_seconds: u32) -> ModelGrid {
        let mut ratios = self.loss_ratios.clone();
        ratios.sort_unstable_by(f64::total_cmp);
        ModelGrid {
            bin_seconds,
            workloads: self.workloads,
            awake: self.awake,
            admitted: self.admitted,
            demoted: self.demoted,
            scored: ratios.len(),
            loss_ratio: ratios.get(ratios.len() / 2).copied(),
            q95_coverage: (self.settled > 0).then(|| self.covered as f64 / self.settled as f64),
            largest_weight_share: self.largest.map(|largest| largest as f64 / self.workloads as f64),
        }
    }
}

#[cfg(test)]
mod tests {
    use prescale_models::Choice;

    use super::*;
    use crate::time::{Mono, Wall};
    use crate::units::RequestsPerSecond;

    const NOW: Now = Now { mono: Mono(1), wall: Wall(1_700_000_000_000) };

    /// Two days of minutes of this load.
    fn with_history(choice: &Choice, load: impl Fn(i64) -> f64) -> Forecasts {
        let history: Vec<_> = (0..2880)
            .map(|minute| {
                let at = NOW.wall.unix_seconds() / 60 * 60 - (2880 - minute) * 60;
                (Wall(at * 1000), RequestsPerSecond::new(load(minute)).unwrap())
            })
            .collect();
        let mut forecasts = Forecasts::new(choice, &AllWeights::shipped());
        forecasts.replay(&history, &crate::series::Series::new(), &AllWeights::shipped());
        forecasts
    }

    fn of<'a>(models: &'a Models, name: &str) -> &'a Model {
        models.models.iter().find(|it| it.name == name).unwrap()
    }

    #[test]
    fn every_model_is_listed_with_what_it_does_where_it_runs() {
        let choice = Choice::default();
        // A daily wave; a load that jumps about a level; and one that is idle.
        let wave = |minute: i64| 100.0 + 50.0 * libm::sin(minute as f64 / 1440.0 * std::f64::consts::TAU);
        let jumps = |minute: i64| 50.0 + (minute * 7919 % 101) as f64;
        let all = [with_history(&choice, wave), with_history(&choice, jumps), with_history(&choice, |_| 0.0)];
        let models = models(NOW, all.iter(), &choice.clone().into(), &AllWeights::shipped());

        let on: Vec<&str> = models.models.iter().filter(|it| it.on).map(|it| it.name).collect();
        assert_eq!(on, choice.names().collect::<Vec<_>>());
        assert!(models.models.iter().all(|it| it.on != it.grids.is_empty()));
        let grids = |name| of(&models, name).grids.iter().map(|it| it.bin_seconds).collect::<Vec<_>>();
        assert_eq!((grids("tuned_smoothing"), grids("gru")), (vec![10, 60], vec![60]));

        let [fast, slow] = models.issued[..] else { panic!("two grids: {:?}", models.issued) };
        // Minutes are not shown to the grid of 10 s.
        assert_eq!((fast.workloads, fast.loss_ratio, fast.q95_coverage), (0, None, None));
        // The idle one's last value was never wrong: it has no ratio.
        assert_eq!((slow.workloads, slow.scored), (3, 2));
        assert!(slow.loss_ratio.is_some_and(|it| (0.01..1.0).contains(&it)), "{slow:?}");
        assert!(slow.q95_coverage.is_some_and(|it| (0.9..=1.0).contains(&it)), "{slow:?}");

        let minutes = |name| *of(&models, name).grids.last().unwrap();
        assert_eq!((minutes("holt_winters").awake, minutes("holt_winters_week").awake), (3, 0));
        assert_eq!(minutes("holt_winters_week").scored, 0);
        let shares: f64 = on.iter().filter_map(|name| minutes(name).largest_weight_share).sum();
        assert!((shares - 1.0).abs() < 1e-9, "one of them leads each workload: {shares}");
        let gru = minutes("gru");
        assert_eq!((gru.awake, gru.q95_coverage, gru.largest_weight_share), (3, None, None));
        assert!(gru.admitted.is_some() && gru.loss_ratio.is_some(), "{gru:?}");
        assert!(gru.demoted.is_some() && minutes("holt_winters").demoted.is_none());
        assert_eq!(of(&models, "gru").weights.as_ref().map(String::len), Some(8));
        assert_eq!(of(&models, "tuned_smoothing").weights, None);
    }

    #[test]
    fn what_was_not_chosen_neither_runs_nor_reads_the_others_state() {
        let few = Choice::of(["tuned_smoothing", "holt_winters"]).unwrap();
        let noise = |minute: i64| 50.0 + (minute * 7919 % 101) as f64;
        let forecasts = with_history(&few, noise);
        let models = models(NOW, [&forecasts].into_iter(), &few.clone().into(), &AllWeights::shipped());
        let on: Vec<&str> = models.models.iter().filter(|it| it.on).map(|it| it.name).collect();
        assert_eq!(on, ["tuned_smoothing", "holt_winters"]);
        assert!(forecasts.ensembles().iter().all(|it| it.head().is_none()));
        let saved = forecasts.save();
        assert!(Forecasts::restored(&saved, &few, &AllWeights::shipped()).is_ok());
        assert!(
            Forecasts::restored(&saved, &Choice::default(), &AllWeights::shipped()).is_err(),
            "state of another choice"
        );
        let default = with_history(&Choice::default(), noise).save();
        assert!(
            Forecasts::restored(&default, &few, &AllWeights::shipped()).is_err(),
            "and the other way round"
        );
        let experts = || Choice::default().names().filter(|name| *name != "gru").collect::<Vec<_>>();
        for other in ["lstm", "cnn"] {
            let headed = Choice::of(experts().into_iter().chain([other])).unwrap();
            let read = |saved, choice: &Choice| Forecasts::restored(saved, choice, &AllWeights::shipped());
            assert!(read(&default, &headed).is_err(), "the state of a gru, by {other}");
            let saved = with_history(&headed, noise).save();
            assert!(read(&saved, &Choice::default()).is_err() && read(&saved, &headed).is_ok(), "{other}");
        }
    }
}
