//! The forecasters, one file each.

mod holt_winters;
mod last;
mod linear;
mod smoothing;

pub use holt_winters::{HoltWinters, HoltWintersFactors};
pub use last::LastValue;
pub use linear::LinearTwoMinutes;
pub use smoothing::TunedSmoothing;

use crate::expert::{Expert, ModelKind};
use crate::forecast::{Grid, Target};

/// A new expert of this kind.
pub fn build(kind: ModelKind, grid: Grid, targets: &[Target]) -> Box<dyn Expert> {
    match kind {
        ModelKind::LastValue => Box::new(LastValue::new(grid)),
        ModelKind::LinearTwoMinutes => Box::new(LinearTwoMinutes::new(grid)),
        ModelKind::TunedSmoothing => Box::new(TunedSmoothing::new(grid, targets)),
        ModelKind::HoltWinters => Box::new(HoltWinters::daily(grid, targets)),
        ModelKind::HourlyHoltWinters => Box::new(HoltWinters::hourly(grid, targets)),
        ModelKind::WeeklyHoltWinters => Box::new(HoltWinters::weekly(grid, targets)),
    }
}
