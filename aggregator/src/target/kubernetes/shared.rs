//! What the target's tasks share: the client, what is known, who may write, and the one way to call the API.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use kube::Client;
use prescale_core::Wall;
use prescale_core::world::WorkloadId;
use tokio::sync::watch;
use tokio::time::Instant;

use super::model::Model;
use super::pace::Pace;
use super::telling::Telling;

/// Longest wait for an answer: the lead of a forecast is tens of seconds, and a write that takes longer is better
/// decided anew.
pub(super) const ANSWER: Duration = Duration::from_secs(5);

pub(super) struct Shared {
    pub(super) client: Client,
    /// Our name in the Lease and in Events.
    pub(super) name: String,
    /// Where our Lease is.
    pub(super) namespace: String,
    pub(super) pace: Pace,
    model: Mutex<Model>,
    revision: watch::Sender<u64>,
    pub(super) state: Mutex<State>,
}

/// Small things that change.
#[derive(Debug, Default)]
pub(super) struct State {
    /// Until when we may write.
    pub(super) leads_until: Option<Instant>,
    /// Since when the API does not answer, and why not.
    pub(super) down: Option<(Instant, String)>,
    /// What keeps a list from being read, by its name: shown until the first world.
    pub(super) trouble: BTreeMap<String, String>,
    /// The most replicas that were needed since the last renewal of a floor, where one stands.
    pub(super) needs: BTreeMap<WorkloadId, Option<u32>>,
    /// Refusals that Events have told.
    pub(super) telling: Telling,
    /// What the last failed write of each workload said, told once.
    pub(super) failures: BTreeMap<WorkloadId, String>,
}

impl Shared {
    pub(super) fn new(client: Client, name: String, namespace: String) -> Self {
        // Above those of any earlier life, since changes come less than once a microsecond.
        let revision = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros() as u64;
        let pace = Pace::new(Instant::now(), &name);
        Self {
            client,
            name,
            namespace,
            pace,
            model: Mutex::new(Model::new(revision)),
            revision: watch::Sender::new(revision),
            state: Mutex::default(),
        }
    }

    /// Reads the model.
    pub(super) fn read<T>(&self, read: impl FnOnce(&Model) -> T) -> T {
        read(&self.model.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Changes the model, and tells whoever waits for changes.
    pub(super) fn change<T>(&self, change: impl FnOnce(&mut Model) -> T) -> T {
        let mut model = self.model.lock().unwrap_or_else(PoisonError::into_inner);
        let result = change(&mut model);
        let revision = model.revision();
        drop(model);
        self.revision.send_if_modified(|known| std::mem::replace(known, revision) != revision);
        result
    }

    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.revision.subscribe()
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Until when we may write, if we may.
    pub(super) fn leads_until(&self) -> Option<Instant> {
        self.state().leads_until.filter(|until| Instant::now() < *until)
    }

    /// A call at our pace, within [`ANSWER`].
    pub(super) async fn call<T>(
        &self,
        call: impl Future<Output = Result<T, kube::Error>>,
    ) -> Result<T, CallError> {
        self.pace.turn().await;
        let result = match tokio::time::timeout(ANSWER, call).await {
            Ok(answer) => answer.map_err(CallError::Api),
            Err(_) => Err(CallError::Late),
        };
        self.pace.heard(Instant::now(), result.as_ref().map(drop));
        result
    }
}

/// Why a call brought nothing.
#[derive(Debug, thiserror::Error)]
pub(super) enum CallError {
    #[error("{}", short(.0))]
    Api(kube::Error),
    #[error("no answer within {} s", ANSWER.as_secs())]
    Late,
}

impl CallError {
    /// The API's status, if it was one.
    pub(super) fn status(&self) -> Option<u16> {
        match self {
            Self::Api(kube::Error::Api(status)) => Some(status.code),
            _ => None,
        }
    }
}

/// kube's own text repeats the whole status.
pub(super) fn short(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => format!("{} ({})", status.message, status.code),
        other => format!("{other:#}"),
    }
}

/// The time of floors and Leases.
pub(super) fn wall() -> Wall {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Wall(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}
