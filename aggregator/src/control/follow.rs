//! Follows what exists: long polls of the target, back-off while it is away, an early re-read after a conflict.

use std::sync::Arc;
use std::time::Duration;

use prescale_shell::backoff::Backoff;
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;

use crate::target::{Target, TargetError, World};

/// First and longest wait after a failure, real time: a supervisor that restarts is back within a second, and a
/// target that is away for long is asked often enough for its return to be noticed within the time a pod starts in.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(5));
/// A long poll that comes back sooner than this with nothing new comes from a target that does not wait.
const IDLE_POLL: Duration = Duration::from_secs(1);

/// Reads the target's world for ever and sends on what it says, or why it says nothing.
#[derive(Debug)]
pub(super) struct Follower {
    pub(super) target: Arc<Target>,
    pub(super) worlds: mpsc::Sender<Result<World, TargetError>>,
    /// Read anew at once.
    pub(super) again: Arc<Notify>,
}

impl Follower {
    /// Ends when nobody listens any more.
    pub(super) async fn run(self) {
        let mut backoff = Backoff::new(BACKOFF.0, BACKOFF.1, "target");
        let mut revision = None;
        loop {
            let began = Instant::now();
            let read = tokio::select! {
                read = self.target.world(revision) => read,
                () = self.again.notified() => {
                    revision = None;
                    continue;
                }
            };
            let wait = match &read {
                Ok(world) => {
                    backoff.succeeded();
                    let news = revision != Some(world.revision);
                    revision = Some(world.revision);
                    if news { Duration::ZERO } else { IDLE_POLL.saturating_sub(began.elapsed()) }
                }
                Err(_) => {
                    revision = None;
                    backoff.wait()
                }
            };
            if self.worlds.send(read).await.is_err() {
                return;
            }
            tokio::time::sleep(wait).await;
        }
    }
}
