//! Which worker takes the next request: the ready one with the fewest in flight, in turn among equals. The same for
//! every policy (what Envoy calls least-request with a full scan, nginx least_conn).

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::client::Connection;

/// The ready workers.
#[derive(Debug, Default)]
pub struct Balancer {
    backends: Mutex<Vec<Arc<Backend>>>,
    turn: AtomicUsize,
}

/// One ready worker and the idle connections to it.
#[derive(Debug)]
pub struct Backend {
    address: SocketAddr,
    in_flight: AtomicUsize,
    // `None` once the worker leaves: connections that come back are closed.
    idle: Mutex<Option<Vec<Connection>>>,
    emptied: Notify,
}

/// A request under way to a worker; dropping it is its end.
#[derive(Debug)]
pub struct Lease(Arc<Backend>);

impl Balancer {
    /// A worker that serves from now on.
    pub fn join(&self, address: SocketAddr) -> Arc<Backend> {
        let backend = Arc::new(Backend {
            address,
            in_flight: AtomicUsize::new(0),
            idle: Mutex::new(Some(Vec::new())),
            emptied: Notify::new(),
        });
        lock(&self.backends).push(Arc::clone(&backend));
        backend
    }

    /// No new request goes to `backend`; returns when the last one under way has ended and its connections are closed.
    pub async fn leave(&self, backend: &Arc<Backend>) {
        lock(&self.backends).retain(|other| !Arc::ptr_eq(other, backend));
        lock(&backend.idle).take();
        // `in_flight` grows only under the lock of `backends`, so it only falls from here.
        while backend.in_flight.load(Ordering::Acquire) > 0 {
            backend.emptied.notified().await;
        }
    }

    /// The worker for the next request, if one is ready.
    pub fn pick(&self) -> Option<Lease> {
        let backends = lock(&self.backends);
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let chosen = (0..backends.len())
            .map(|offset| &backends[(turn + offset) % backends.len()])
            .min_by_key(|backend| backend.in_flight.load(Ordering::Relaxed))?;
        chosen.in_flight.fetch_add(1, Ordering::Relaxed);
        Some(Lease(Arc::clone(chosen)))
    }

    /// Requests under way to the ready workers.
    pub fn in_flight(&self) -> usize {
        lock(&self.backends).iter().map(|backend| backend.in_flight.load(Ordering::Relaxed)).sum()
    }
}

impl Lease {
    /// An idle connection, or a new one.
    ///
    /// # Errors
    /// Whatever the kernel says to the new one.
    pub async fn connection(&self) -> std::io::Result<Connection> {
        let idle = lock(&self.0.idle).as_mut().and_then(Vec::pop);
        match idle {
            Some(connection) => Ok(connection),
            None => Connection::open(self.0.address).await,
        }
    }

    /// Keeps `connection` for a later request, unless the worker leaves.
    pub fn keep(&self, connection: Connection) {
        if let Some(idle) = lock(&self.0.idle).as_mut() {
            idle.push(connection);
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if self.0.in_flight.fetch_sub(1, Ordering::Release) == 1 {
            self.0.emptied.notify_one();
        }
    }
}

// A panic elsewhere leaves these lists whole: every change is one push, pop or take.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    #[test]
    fn the_least_busy_takes_the_next_and_equals_take_turns() {
        let balancer = Balancer::default();
        assert!(balancer.pick().is_none());
        for port in 1..=3 {
            balancer.join(address(port));
        }
        let mut held: Vec<Lease> = (0..6).map(|_| balancer.pick().unwrap()).collect();
        assert!(
            lock(&balancer.backends).iter().all(|backend| backend.in_flight.load(Ordering::Relaxed) == 2)
        );
        let freed = held.remove(0).0.address;
        assert_eq!(balancer.pick().unwrap().0.address, freed);
    }

    #[tokio::test(flavor = "current_thread")]
    async fn leaving_waits_for_the_last_request_and_takes_no_new_one() {
        let balancer = Balancer::default();
        let backend = balancer.join(address(1));
        let lease = balancer.pick().unwrap();
        let mut leaving = Box::pin(balancer.leave(&backend));
        let waits =
            tokio::select! { biased; () = &mut leaving => false, () = std::future::ready(()) => true };
        assert!(waits, "left with a request in flight");
        assert!(balancer.pick().is_none());
        drop(lease);
        leaving.await;
    }
}
