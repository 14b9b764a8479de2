//! A raised minimum of somebody else's scaler: it names its original, what we set, and when it ends.
//!
//! It ends by itself only while someone looks: the aggregator (any replica that holds the Lease, also after a restart)
//! puts the original back at the end, and the chart's pre-delete hook does so before an uninstall.

use std::fmt;
use std::str::FromStr;

use crate::time::Wall;

/// Carries a [`Floor`] on the HPA or ScaledObject, beside the minimum that it explains.
pub const FLOOR_ANNOTATION: &str = "prescale.dev/floor";
/// A floor ends so long after its last renewal, seconds: the HPA's default stabilisation of 300 s for scaling in, twice,
/// since it is renewed after half of it.
pub const FLOOR_SECONDS: i64 = 600;

/// What we have made of a scaler's minimum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Floor {
    /// The minimum before; `None`: it stated none.
    pub before: Option<u32>,
    /// The minimum that we set.
    pub set: u32,
    /// Its end.
    pub until: Wall,
}

/// What to do with a floor that stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// Nothing yet.
    AsItIs,
    /// Write this minimum and this annotation.
    Write(Floor),
    /// Put the original back; the annotation goes.
    Restore,
    /// Somebody has set another minimum: theirs stays, only the annotation goes.
    LetGo,
}

impl Floor {
    /// The minimum that would stand without us, where `min_replicas` stands now.
    pub fn original(&self, min_replicas: u32) -> u32 {
        // Whoever wrote another number meant it.
        if min_replicas == self.set { self.before.unwrap_or(1) } else { min_replicas }
    }
}

impl fmt::Display for Floor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.before {
            Some(before) => write!(f, "before={before}")?,
            None => f.write_str("before=unset")?,
        }
        write!(f, " set={} until={}", self.set, self.until.unix_seconds())
    }
}

/// The text is no floor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("want `before=N set=N until=UNIX_SECONDS`")]
pub struct NoFloor;

impl FromStr for Floor {
    type Err = NoFloor;

    fn from_str(text: &str) -> Result<Self, NoFloor> {
        let mut words = text.split(' ');
        let mut next = |key: &str| words.next()?.strip_prefix(key)?.strip_prefix('=').map(str::to_owned);
        let mut read = || {
            let before = match next("before")?.as_str() {
                "unset" => None,
                number => Some(number.parse().ok()?),
            };
            let (set, until): (u32, i64) = (next("set")?.parse().ok()?, next("until")?.parse().ok()?);
            Some(Self { before, set, until: Wall(until.checked_mul(1000)?) })
        };
        let floor = read().ok_or(NoFloor)?;
        if words.next().is_some() { Err(NoFloor) } else { Ok(floor) }
    }
}

/// The floor to write for `replicas` pods, where `stated` is the minimum that the scaler states now.
pub fn raise(now: Wall, stated: Option<u32>, standing: Option<Floor>, replicas: u32) -> Floor {
    let before = match standing {
        Some(floor) if stated == Some(floor.set) => floor.before,
        // None of ours, or somebody has changed it since: what stands is the original.
        _ => stated,
    };
    Floor { before, set: replicas, until: ends(now) }
}

/// What becomes of a standing floor. `need`: the most replicas that were needed since its last renewal, what is in
/// force where that is not known; `None` where the workload is no longer ours to raise.
pub fn keep(now: Wall, stated: Option<u32>, floor: Floor, need: Option<u32>) -> Kept {
    if stated != Some(floor.set) {
        return Kept::LetGo;
    }
    let Some(need) = need else { return Kept::Restore };
    if floor.until.0 - now.0 > FLOOR_SECONDS * 1000 / 2 {
        return Kept::AsItIs;
    }
    if need <= floor.before.unwrap_or(1) {
        return Kept::Restore;
    }
    // Only down: raising is the plan's to decide.
    Kept::Write(Floor { set: need.min(floor.set), until: ends(now), ..floor })
}

fn ends(now: Wall) -> Wall {
    Wall((now.unix_seconds() + FLOOR_SECONDS) * 1000)
}
