//! What Events have told of the refusals of each workload, what is due to be told, and when one that failed is tried again.
//!
//! Pure in time: the caller passes the instant and writes the Events.

use std::collections::BTreeMap;
use std::time::Duration;

use prescale_core::standing::Refusal;
use prescale_shell::backoff::Backoff;
use tokio::time::Instant;

use super::objects::Key;

/// An API server keeps Events for an hour (`--event-ttl`); told again before that, one is always there to be read.
const AGAIN: Duration = Duration::from_secs(55 * 60);
/// First and longest wait after an Event that was not taken. Whatever forbids it (a quota, a webhook, a namespace that
/// ends) is mended by a person in minutes at best, and ten thousand workloads in such a namespace are then some twenty
/// calls a second, which take what nobody else wants ([`super::pace::Pace::spare`]).
const BACKOFF: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(600));

/// Of every workload that is refused something.
#[derive(Debug, Default)]
pub(super) struct Telling(BTreeMap<Key, Told>);

#[derive(Debug)]
struct Told {
    refusals: Vec<(Refusal, Instant)>,
    backoff: Backoff,
    not_before: Option<Instant>,
}

impl Telling {
    /// A workload stands refused `refusals`: those that are due. What it is no longer refused is forgotten.
    pub(super) fn due(&mut self, now: Instant, key: &Key, refusals: &[Refusal]) -> Vec<Refusal> {
        if refusals.is_empty() {
            self.0.remove(key);
            return Vec::new();
        }
        let told = self.0.entry(key.clone()).or_insert_with(|| Told {
            refusals: Vec::new(),
            backoff: Backoff::new(BACKOFF.0, BACKOFF.1, &format!("{}/{}", key.id.namespace, key.id.name)),
            not_before: None,
        });
        told.refusals.retain(|(refusal, at)| refusals.contains(refusal) && now < *at + AGAIN);
        if told.not_before.is_some_and(|at| now < at) {
            return Vec::new();
        }
        let untold = |it: &&Refusal| !told.refusals.iter().any(|(known, _)| known == *it);
        refusals.iter().filter(untold).cloned().collect()
    }

    /// The Event of this refusal is there.
    pub(super) fn told(&mut self, now: Instant, key: &Key, refusal: Refusal) {
        if let Some(told) = self.0.get_mut(key) {
            told.refusals.push((refusal, now));
            told.backoff.succeeded();
            told.not_before = None;
        }
    }

    /// It was not taken: whether that is the first time since one was, which is worth a word.
    pub(super) fn failed(&mut self, now: Instant, key: &Key) -> bool {
        let Some(told) = self.0.get_mut(key) else { return false };
        told.not_before = Some(now + told.backoff.wait());
        told.backoff.failures() == 1
    }

    /// Forgets all but these workloads.
    pub(super) fn keep(&mut self, known: impl Fn(&Key) -> bool) {
        self.0.retain(|key, _| known(key));
    }
}

#[cfg(test)]
mod tests {
    use prescale_core::world::{Mode, WorkloadId};

    use super::*;
    use crate::target::kubernetes::objects::Kind;

    fn key(name: &str) -> Key {
        Key { id: WorkloadId { namespace: "shop".into(), name: name.into() }, kind: Kind::Deployment }
    }

    #[test]
    fn each_refusal_is_told_once_and_again_before_its_event_expires() {
        let (mut telling, begin, web) = (Telling::default(), Instant::now(), key("web"));
        let both = [Refusal::NoMaximum(Mode::Full), Refusal::NameTaken];
        assert_eq!(telling.due(begin, &web, &both), both);
        telling.told(begin, &web, both[0].clone());
        assert_eq!(telling.due(begin, &web, &both), both[1..], "the other one is not told yet");
        telling.told(begin, &web, both[1].clone());
        assert_eq!(telling.due(begin + AGAIN - Duration::from_secs(1), &web, &both), []);
        assert_eq!(telling.due(begin + AGAIN, &web, &both), both);

        // What was mended and is refused anew is told anew.
        telling.told(begin + AGAIN, &web, both[0].clone());
        assert_eq!(telling.due(begin + AGAIN, &web, &[]), []);
        assert_eq!(telling.due(begin + AGAIN, &web, &both[..1]), both[..1]);
    }

    #[test]
    fn a_workload_whose_events_fail_is_tried_less_and_less_and_keeps_no_other_back() {
        let (mut telling, begin, refused) = (Telling::default(), Instant::now(), [Refusal::NameTaken]);
        let (mut tries, mut words) = (Vec::new(), 0);
        for second in 0..7200 {
            let now = begin + Duration::from_secs(second);
            if !telling.due(now, &key("web"), &refused).is_empty() {
                tries.push(second);
                words += usize::from(telling.failed(now, &key("web")));
            }
        }
        assert_eq!(words, 1, "said once");
        assert!(tries.len() < 40 && tries.windows(2).all(|pair| pair[1] - pair[0] <= 600), "{tries:?}");
        let now = begin + Duration::from_secs(7200);
        assert_eq!(telling.due(now, &key("api"), &refused), refused);
        telling.told(now, &key("api"), Refusal::NameTaken);

        // Once one is taken, the next failure is worth a word again.
        telling.told(now, &key("web"), Refusal::NameTaken);
        let later = now + AGAIN;
        assert_eq!(telling.due(later, &key("web"), &refused), refused);
        assert!(telling.failed(later, &key("web")));
        telling.keep(|known| *known == key("web"));
        assert!(!telling.failed(later, &key("api")), "forgotten");
    }
}
