//! Who may write: the election by a `coordination.k8s.io` Lease, as a state machine without clock or network.
//!
//! A Lease can't fence, so two things bound what a deposed leader can do: it stops by its own monotonic deadline, counted
//! from before its last renewal was sent, and each write carries the resource version that it was decided on.

use std::time::Duration;

use tokio::time::Instant;

/// How long a Lease lasts after its renewal. A standby sees the last one within [`LOOK`] and takes over when this is
/// over: 7 s at most, so that writes resume within 10 s of a leader's death.
pub(super) const LASTS: Duration = Duration::from_secs(6);
/// Between two renewals: three fit into a Lease, so that one lost renewal costs nothing.
pub(super) const PERIOD: Duration = Duration::from_secs(2);
/// Between two looks of a standby, which reads one object: how late it may see that the leader has renewed.
const LOOK: Duration = Duration::from_secs(1);
/// A leader stops so long before others may take over. Clocks of two machines differ in rate by far less than this over
/// [`LASTS`].
const MARGIN: Duration = Duration::from_secs(1);

/// What the Lease says, as far as the election looks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    /// Empty: given back.
    pub(super) holder: String,
    /// Changes with each renewal.
    pub(super) resource_version: String,
}

/// What to do about the Lease now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Move {
    /// There is none: create it.
    Create,
    /// Write our name over this version; `true` when the holder changes.
    Take { resource_version: String, changes_hands: bool },
    /// Somebody else holds it.
    Wait,
}

/// One candidate's view.
#[derive(Debug)]
pub(super) struct Election {
    name: String,
    // What was seen last and since when it has not changed, by our own clock: no two machines' clocks are compared.
    seen: Option<(Record, Instant)>,
    until: Option<Instant>,
}

impl Election {
    pub(super) fn new(name: String) -> Self {
        Self { name, seen: None, until: None }
    }

    /// A look at the Lease; `None`: there is none.
    pub(super) fn look(&mut self, now: Instant, record: Option<Record>) -> Move {
        let Some(record) = record else {
            self.seen = None;
            return Move::Create;
        };
        let since = match &self.seen {
            Some((known, since)) if *known == record => *since,
            _ => now,
        };
        self.seen = Some((record.clone(), since));
        let ours = record.holder == self.name;
        if !ours {
            self.until = None;
        }
        if ours || record.holder.is_empty() || now.saturating_duration_since(since) >= LASTS {
            Move::Take { resource_version: record.resource_version, changes_hands: !ours }
        } else {
            Move::Wait
        }
    }

    /// Our name was written by a request that was sent at `sent`.
    pub(super) fn took(&mut self, sent: Instant) {
        self.until = Some(sent + LASTS - MARGIN);
    }

    /// How long after a look at `now` to wait for the next. A standby does not sleep past the Lease's end.
    pub(super) fn pause(&self, now: Instant) -> Duration {
        match (self.until, &self.seen) {
            (None, Some((_, since))) => {
                let left = LASTS.saturating_sub(now.saturating_duration_since(*since));
                // Over already, and not ours all the same: somebody was faster, or the server has refused.
                if left.is_zero() { LOOK } else { left.min(LOOK) }
            }
            _ => PERIOD,
        }
    }

    /// Until when we may write; `None`: we may not.
    pub(super) fn until(&self) -> Option<Instant> {
        self.until
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(holder: &str, version: u32) -> Option<Record> {
        Some(Record { holder: holder.into(), resource_version: version.to_string() })
    }

    fn take(version: u32, changes_hands: bool) -> Move {
        Move::Take { resource_version: version.to_string(), changes_hands }
    }

    #[test]
    fn the_first_creates_it_and_renews_it() {
        let (mut it, now) = (Election::new("a".into()), Instant::now());
        assert_eq!(it.look(now, None), Move::Create);
        assert_eq!(it.until(), None);
        it.took(now);
        assert_eq!(it.until(), Some(now + LASTS - MARGIN));
        assert_eq!(it.look(now + PERIOD, record("a", 1)), take(1, false));
    }

    #[test]
    fn a_standby_waits_for_as_long_as_renewals_are_seen_and_then_takes_over() {
        let (mut it, mut now) = (Election::new("b".into()), Instant::now());
        for version in 0..10 {
            assert_eq!(it.look(now, record("a", version)), Move::Wait);
            now += PERIOD;
        }
        let last = now - PERIOD;
        while now - last < LASTS {
            assert_eq!(it.look(now, record("a", 9)), Move::Wait);
            now += PERIOD;
        }
        assert_eq!(it.look(now, record("a", 9)), take(9, true));
        assert_eq!(it.look(now, record("", 10)), take(10, true), "given back: at once");
    }

    #[test]
    fn a_standby_takes_over_seven_seconds_after_the_last_renewal_at_the_latest() {
        for phase in 0..100 {
            let start = Instant::now();
            // The leader renews for the last time at `renewed` and dies.
            let renewed = start + LOOK * phase / 50;
            let (mut it, mut now) = (Election::new("b".into()), start);
            loop {
                let version = u32::from(now >= renewed);
                if it.look(now, record("a", version)) != Move::Wait {
                    break;
                }
                now += it.pause(now);
            }
            assert!(now >= renewed + LASTS, "{phase}: too early, after {:?}", now - renewed);
            assert!(now <= renewed + LASTS + LOOK, "{phase}: after {:?}", now - renewed);
            assert_eq!(it.pause(now), LOOK, "not ours until it is written");
            it.took(now);
            assert_eq!(it.pause(now), PERIOD);
        }
    }

    #[test]
    fn two_never_hold_it_at_the_same_time() {
        // `a` renews for the last time at 0, sees nothing more; `b` looks just before and then every PERIOD.
        let start = Instant::now();
        let (mut a, mut b) = (Election::new("a".into()), Election::new("b".into()));
        a.look(start, None);
        a.took(start);
        // `b` saw that renewal at the earliest when it was sent.
        assert_eq!(b.look(start, record("a", 1)), Move::Wait);
        let mut now = start;
        while b.look(now, record("a", 1)) == Move::Wait {
            now += Duration::from_millis(10);
        }
        assert!(a.until().is_some_and(|until| until + Duration::from_millis(900) < now));
    }

    #[test]
    fn whoever_sees_another_holder_stops_at_once() {
        let (mut it, now) = (Election::new("a".into()), Instant::now());
        it.took(now);
        assert_eq!(it.look(now + PERIOD, record("b", 7)), Move::Wait);
        assert_eq!(it.until(), None);
    }
}
