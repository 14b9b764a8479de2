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
    /// Standard deviations between a count and the rate that it proves. At 4.5 a steady Poisson load proves a rate above
    /// its own once in 300,000 looks, so at most once a day over all windows; the sweep finds no cost in it up to 6.
    pub reactive_sigmas: f64,
    /// Pods are added only when the forecast exceeds what the present ones carry by more than so many standard
    /// deviations of the mean over ten seconds: the forecast's level is smoothed from such bins, and on steady noise nine
    /// in ten of its upper quantiles lie within half of one, the farthest of a day one to two away. Where that is at a
    /// whole number of pods, chance adds and drops a pod some fifteen times a day without this and the next. One costs
    /// bursts nothing in the sweep, one and a half misses a little of the full hours.
    pub grow_sigmas: f64,
    /// A pod leaves only when so many of the same would still fit without it: with the other, two neighbouring numbers
    /// of pods are further apart than chance goes in a day. In the sweep half of one costs 0.4 % more pods.
    pub leave_sigmas: f64,
    /// Standard deviations between two neighbouring counts that make a rise. By the sweep following rises nearly halves
    /// the slow requests of bursts. At 4.5 most false alarms on steady noise, one in five days, were of this; at 5 none.
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
            reactive_sigmas: 4.5,
            grow_sigmas: 1.0,
            leave_sigmas: 0.5,
            burst_sigmas: 5.0,
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
        for sigmas in [self.reactive_sigmas, self.grow_sigmas, self.leave_sigmas, self.burst_sigmas] {
            assert!(sigmas >= 0.0 && sigmas.is_finite(), "a multiple of a deviation");
        }
        let longest = self.stabilisation_seconds.max(self.up_period_seconds).max(self.down_period_seconds);
        assert!(longest <= KEPT_SECONDS, "the memory keeps one hour");
    }
}
