//! How the forecasts have done, as metrics. For four of the fifteen targets, so that a workload adds 49 series at most.

use prescale_core::view;

use super::workloads::{Labels, Many, ManyCounts, flag};

/// Those of the largest load until then, which pods are sized for: the shortest and the longest that is common on each
/// grid. Seconds ahead and of the grid; the API shows all.
const SHOWN: [(u32, u32); 4] = [(60, 10), (300, 10), (300, 60), (3600, 60)];

/// Of `covered`, in the order of the levels: the band from 10 % to 90 % and what pods are sized by.
const QUANTILES: [(usize, &str); 3] = [(0, "0.1"), (2, "0.9"), (3, "0.95")];

fn shown(workload: &view::Workload) -> impl Iterator<Item = &view::Score> {
    let is_shown = |it: &&view::Score| it.max_over && SHOWN.contains(&(it.horizon_seconds, it.bin_seconds));
    workload.scores.iter().filter(is_shown)
}

pub(super) fn target(score: &view::Score) -> Labels<'static> {
    vec![
        ("target", if score.max_over { "max_over" } else { "at" }.into()),
        ("horizon_seconds", score.horizon_seconds.to_string().into()),
        ("bin_seconds", score.bin_seconds.to_string().into()),
    ]
}

/// Gauges.
pub(super) const FAMILIES: &[(&str, &str, Many)] = &[
    (
        "prescale_aggregator_forecast_loss_ratio",
        "Mean pinball loss of a forecast in those of the last value, below 1 is better; forecaster `issued` is what was \
         planned with, `experts` without the network, `with_head` with it, admitted or not",
        |w, add| {
            for score in shown(w) {
                let of = [
                    ("issued", score.loss_ratio),
                    (
                        "experts",
                        score.loss_ratio_without_head.filter(|_| score.loss_ratio_with_head.is_some()),
                    ),
                    ("with_head", score.loss_ratio_with_head),
                ];
                for (forecaster, ratio) in of.into_iter().filter_map(|(name, ratio)| Some((name, ratio?))) {
                    let mut labels = target(score);
                    labels.push(("forecaster", forecaster.into()));
                    add(labels, ratio);
                }
            }
        },
    ),
    (
        "prescale_aggregator_forecast_error_ratio",
        "Mean absolute error of the median in those of the last value",
        |w, add| shown(w).for_each(|it| it.error_ratio.into_iter().for_each(|ratio| add(target(it), ratio))),
    ),
    (
        "prescale_aggregator_expert_loss_ratio",
        "Mean pinball loss of each expert while awake, in those of the last value",
        |w, add| {
            for score in shown(w) {
                for model in &score.models {
                    if let Some(ratio) = model.loss_ratio {
                        let mut labels = target(score);
                        labels.push(("model", model.name.into()));
                        add(labels, ratio);
                    }
                }
            }
        },
    ),
    ("prescale_aggregator_head_admitted", "1 while the network takes part in what is issued", |w, add| {
        for head in &w.heads {
            add(grid(head), flag(head.admitted));
        }
    }),
    (
        "prescale_aggregator_head_gain_ratio",
        "What the network would have gained, in the experts' usual loss: the mean and the ends of its 90 % interval",
        |w, add| {
            for head in &w.heads {
                let interval = head.gain_interval;
                let of = [
                    ("mean", head.gain),
                    ("low", interval.map(|[low, _]| low)),
                    ("high", interval.map(|[_, high]| high)),
                ];
                for (bound, gain) in of.into_iter().filter_map(|(bound, gain)| Some((bound, gain?))) {
                    let mut labels = grid(head);
                    labels.push(("bound", bound.into()));
                    add(labels, gain);
                }
            }
        },
    ),
];

/// Counters: what the first two grew by over any span is the coverage in it.
pub(super) const COUNTERS: &[(&str, &str, ManyCounts)] = &[
    ("prescale_aggregator_forecasts_settled", "Forecasts settled against a measured outcome", |w, add| {
        shown(w).for_each(|score| add(target(score), score.settled));
    }),
    (
        "prescale_aggregator_forecasts_covered",
        "Of these, those whose outcome was at or below the quantile",
        |w, add| {
            for score in shown(w) {
                for (level, quantile) in QUANTILES {
                    let mut labels = target(score);
                    labels.push(("quantile", quantile.into()));
                    add(labels, score.covered[level]);
                }
            }
        },
    ),
    (
        "prescale_aggregator_head_demotions",
        "Times that the network's part in what is issued was ended within minutes, as it had begun to hurt",
        |w, add| w.heads.iter().for_each(|head| add(grid(head), head.demotions.into())),
    ),
];

fn grid(head: &view::Head) -> Labels<'static> {
    vec![("bin_seconds", head.bin_seconds.to_string().into())]
}
