//! The plan's constants, each with its reason; the simulator sweeps them.

use prescale_models::Level;

use super::memory::KEPT_SECONDS;

/// The plan's constants. Seconds are of the caller's clock. "The sweep" is `docs/decisions/plan-constants.md`.
#[derive(Clone, Debug, PartialEq)]
pub struct Rules {
    /// Quantile of the largest load over the lead time that is planned for.
    ///
    /// By the newsvendor rule the level is `cost of a slow request ÷ (that + cost of spare capacity for it)`: 0.95
    /// says that being late costs 19 times as much as the pod's idle time. Stated headroom comes on top.
    pub level: Level,
    /// Standard deviations between a count and the rate that it proves. With 3, a steady Poisson load proves a rate
    /// above its own once in 740 looks, and by then the forecast's margin must be used up too. The sweep finds no
    /// difference from 2 to 5.
    pub reactive_sigmas: f64,
    /// Standard deviations between two neighbouring counts that make a rise. By the sweep following rises nearly halves
    /// the slow requests of bursts; at 4.5 steady noise raises a false alarm at most once a day, at 3 fifteen times.
    pub burst_sigmas: f64,
    /// Growth per arrival of new pods while demand can't be counted: doubling finds any demand in a logarithmic number
    /// of lead times and is what the ramp allows anyway. The sweep, whose demand can be counted, finds no difference.
    pub censored_growth: f64,
    /// How long a need is remembered before pods may go: hysteresis against a forecast that wavers. By the sweep
    /// anything from 0 to 120 s lies on one frontier; a minute spares a sixth to a third of the changes.
    pub stabilisation_seconds: f64,
    /// How far beyond the lead time a scale-in looks: a pod that is dropped and needed back sooner than this costs
    /// its start for nothing. By the sweep a minute costs 2 % more than none and spares up to a third of the changes.
    pub look_ahead_seconds: f64,
    /// Growth per period, as a factor: the HPA's default of +100 % …
    pub up_factor: f64,
    /// … or as pods, whichever is more: the HPA's default of 4 …
    pub up_pods: u32,
    /// … per 15 s. A user who trusts the HPA's rate gains speed from the forecast alone.
    pub up_period_seconds: f64,
    /// Shrinkage per period, as a share: the sweep finds no cost in it, and a wrong forecast then drops a quarter …
    pub down_share: f64,
    /// … or as pods, whichever is more …
    pub down_pods: u32,
    /// … per period.
    pub down_period_seconds: f64,
    /// How long a workload must have been measured before it may shrink: the HPA's stabilisation window, which a
    /// restarted controller also waits out in effect.
    pub warm_up_seconds: f64,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            level: Level::P95,
            reactive_sigmas: 3.0,
            burst_sigmas: 4.5,
            censored_growth: 2.0,
            stabilisation_seconds: 60.0,
            look_ahead_seconds: 60.0,
            up_factor: 2.0,
            up_pods: 4,
            up_period_seconds: 15.0,
            down_share: 0.25,
            down_pods: 1,
            down_period_seconds: 30.0,
            warm_up_seconds: 300.0,
        }
    }
}

impl Rules {
    /// The most replicas that a period may end with.
    pub fn up_limit(&self, start: u32) -> u32 {
        let grown = (f64::from(start) * self.up_factor).floor() as u32;
        grown.max(start.saturating_add(self.up_pods))
    }

    /// The fewest replicas that a period may end with.
    pub fn down_limit(&self, start: u32) -> u32 {
        let leaving = (f64::from(start) * self.down_share).floor() as u32;
        start.saturating_sub(leaving.max(self.down_pods))
    }

    /// # Panics
    /// If a constant would break a law of the plan; they come from our own code.
    pub fn assert_valid(&self) {
        assert!(self.up_factor >= 1.0 && self.censored_growth >= 1.0, "growth must not shrink");
        assert!((0.0..=1.0).contains(&self.down_share), "a share is 0 to 1");
        assert!(self.reactive_sigmas >= 0.0 && self.reactive_sigmas.is_finite());
        let longest = self.stabilisation_seconds.max(self.up_period_seconds).max(self.down_period_seconds);
        assert!(longest <= KEPT_SECONDS, "the memory keeps one hour");
    }
}
