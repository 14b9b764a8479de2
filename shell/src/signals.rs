//! SIGTERM and SIGINT become one future; a second signal ends the process at once.

use std::process;

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// Resolves when the process shall stop; clones share the same instant.
#[derive(Clone, Debug)]
pub struct Shutdown(watch::Receiver<bool>);

/// Sets off a [`Shutdown`] by hand.
#[derive(Debug)]
pub struct Trigger(watch::Sender<bool>);

impl Trigger {
    /// Stop now.
    pub fn fire(&self) {
        self.0.send_replace(true);
    }
}

impl Shutdown {
    /// One that only its trigger sets off; dropping the trigger sets it off too.
    pub fn manual() -> (Trigger, Self) {
        let (sender, receiver) = watch::channel(false);
        (Trigger(sender), Self(receiver))
    }

    /// One that SIGTERM or SIGINT sets off. A second signal exits at once with 128 + its number, as a shell would
    /// report it.
    ///
    /// # Errors
    /// When the handlers can't be installed.
    pub fn on_signals() -> anyhow::Result<Self> {
        let mut term = signal(SignalKind::terminate()).context("can't handle SIGTERM")?;
        let mut int = signal(SignalKind::interrupt()).context("can't handle SIGINT")?;
        let (trigger, shutdown) = Self::manual();
        tokio::spawn(async move {
            for first in [true, false] {
                let (name, number) = tokio::select! {
                    _ = term.recv() => ("SIGTERM", 15),
                    _ = int.recv() => ("SIGINT", 2),
                };
                if first {
                    tracing::info!("stopping: {name} (again to stop at once)");
                    trigger.fire();
                } else {
                    tracing::warn!("stopped at once: second signal, {name}");
                    process::exit(128 + number);
                }
            }
        });
        Ok(shutdown)
    }

    /// Waits until it is time to stop; at once if it is already.
    pub async fn requested(&self) {
        // An error means that the trigger is gone: nobody could stop us any more, so stop.
        let _ = self.0.clone().wait_for(|stop| *stop).await;
    }

    /// Whether it is time to stop.
    pub fn is_requested(&self) -> bool {
        *self.0.borrow()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_clone_hears_of_it() {
        let (trigger, shutdown) = Shutdown::manual();
        let clone = shutdown.clone();
        assert!(!clone.is_requested());
        trigger.fire();
        clone.requested().await;
        shutdown.requested().await;
        assert!(shutdown.is_requested());
    }

    #[tokio::test]
    async fn a_lost_trigger_stops_too() {
        let (trigger, shutdown) = Shutdown::manual();
        drop(trigger);
        shutdown.requested().await;
    }
}
