//! The forecasters, one file each.

mod arima;
mod holt_winters;
mod last;
mod linear;
mod node_merge;
mod phase_profile;
mod prophet;
mod quarter_mean;
mod rls_ar;
mod seasonal_naive;
mod smoothing;
mod statuscale;

pub use arima::Arima;
pub use holt_winters::{HoltWinters, HoltWintersFactors};
pub use last::LastValue;
pub use linear::LinearTwoMinutes;
pub use node_merge::NodeMerge;
pub use phase_profile::PhaseProfile;
pub use prophet::Prophet;
pub use quarter_mean::QuarterMean;
pub use rls_ar::RlsAr;
pub use seasonal_naive::SeasonalNaive;
pub use smoothing::TunedSmoothing;
pub use statuscale::{Lines, StatuScale, Status};

use crate::expert::{Expert, ModelKind};
use crate::forecast::{Grid, Target};
use crate::holidays::Holidays;
use crate::hybrid::ProphetLstm;
use crate::trees::{self, PooledTrees};

/// A new expert of this kind; one that was fitted on other workloads beforehand has what ships, and one that
/// [reads holidays](ModelKind::reads_holidays) knows these.
pub fn build(kind: ModelKind, grid: Grid, targets: &[Target], holidays: &Holidays) -> Box<dyn Expert> {
    let prophet = || Prophet::with_holidays(grid, holidays.clone());
    match kind {
        ModelKind::LastValue => Box::new(LastValue::new(grid)),
        ModelKind::LinearTwoMinutes => Box::new(LinearTwoMinutes::new(grid)),
        ModelKind::TunedSmoothing => Box::new(TunedSmoothing::new(grid, targets)),
        ModelKind::HoltWinters => Box::new(HoltWinters::daily(grid, targets)),
        ModelKind::HourlyHoltWinters => Box::new(HoltWinters::hourly(grid, targets)),
        ModelKind::WeeklyHoltWinters => Box::new(HoltWinters::weekly(grid, targets)),
        ModelKind::SeasonalNaiveDay => Box::new(SeasonalNaive::daily(grid)),
        ModelKind::SeasonalNaiveWeek => Box::new(SeasonalNaive::weekly(grid)),
        ModelKind::QuarterMean => Box::new(QuarterMean::new(grid)),
        ModelKind::PhaseProfile => Box::new(PhaseProfile::new(grid)),
        ModelKind::RlsAr => Box::new(RlsAr::new(grid, targets)),
        ModelKind::Arima => Box::new(Arima::new(grid)),
        ModelKind::Prophet => Box::new(prophet()),
        ModelKind::StatuScale => Box::new(StatuScale::new(grid)),
        ModelKind::ProphetLstm => Box::new(ProphetLstm::around(prophet())),
        ModelKind::NodeMerge => Box::new(NodeMerge::new(grid)),
        ModelKind::Trees => Box::new(PooledTrees::new(trees::shipped(), grid, targets)),
    }
}
