//! Every error of every model, as metrics on a path of their own: some hundreds of series a workload.

use std::fmt::Error;
use std::sync::Arc;

use prescale_core::view;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::metrics::MetricType;

use super::scores::target;
use super::workloads::{Workloads, names};

/// Renders the errors of the snapshot's workloads.
#[derive(Debug)]
pub(super) struct Models(pub(super) Arc<Workloads>);

type One = fn(&view::Errors) -> Option<f64>;

/// Gauges, each for every workload, target and model that it is known of.
const ERRORS: &[(&str, &str, One)] = &[
    (
        "prescale_aggregator_model_rmse_requests_per_second",
        "Root of the mean squared error of the median; model `issued` is what was planned with, `experts` without the network, \
         `with_head` with it, admitted or not",
        |errors| errors.rmse_rps,
    ),
    ("prescale_aggregator_model_mse", "Mean squared error of the median, in (requests/s)²", |errors| {
        errors.mse
    }),
    ("prescale_aggregator_model_mae_requests_per_second", "Mean absolute error of the median", |errors| {
        errors.mae_rps
    }),
    (
        "prescale_aggregator_model_mape_ratio",
        "Mean absolute error as a share of the outcome; absent while an outcome of 0 is remembered",
        |errors| errors.mape,
    ),
    (
        "prescale_aggregator_model_mase_ratio",
        "Mean absolute error in the mean movement from a bin to the next",
        |errors| errors.mase,
    ),
    (
        "prescale_aggregator_model_wql_ratio",
        "Twice the mean pinball loss over the levels, as a share of the outcomes",
        |errors| errors.wql,
    ),
    (
        "prescale_aggregator_model_q95_coverage_ratio",
        "Share of the outcomes at or below the 95 % quantile",
        |errors| errors.q95_coverage,
    ),
    (
        "prescale_aggregator_model_provisioning_loss_ratio",
        "Shortage above the 90 % quantile, five times, and spare below it, as a share of the outcomes",
        |errors| errors.provisioning_loss,
    ),
];

/// Everyone who has forecast a target.
fn models(score: &view::Score) -> impl Iterator<Item = (&'static str, &view::Errors)> {
    let experts = score.models.iter().map(|model| (model.name, &model.errors));
    let combined = [
        ("issued", Some(&score.errors)),
        ("experts", score.without_head.as_ref()),
        ("with_head", score.with_head.as_ref()),
    ];
    combined.into_iter().filter_map(|(name, errors)| Some((name, errors?))).chain(experts)
}

impl Collector for Models {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        let snapshot = self.0.snapshot();
        for (name, help, error) in ERRORS {
            let mut metric = encoder.encode_descriptor(name, &format!("{help}."), None, MetricType::Gauge)?;
            for workload in &snapshot.workloads {
                for score in &workload.scores {
                    for (model, errors) in models(score) {
                        let Some(value) = error(errors) else { continue };
                        let mut labels = names(workload);
                        labels.extend(target(score));
                        labels.push(("model", model.into()));
                        metric.encode_family(&labels)?.encode_gauge(&value)?;
                    }
                }
            }
        }
        Ok(())
    }
}
