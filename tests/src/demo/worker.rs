//! One replica of the demo's service: a process with its own port that holds a slot for a set time per request.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;
use prescale_shell::http::{Request, json};
use prescale_shell::server::{Limits, serve as serve_http};
use prescale_shell::signals::Shutdown;
use tokio::net::TcpSocket;
use tokio::sync::Semaphore;

/// Connections that wait to be accepted; the kernel caps it at `net.core.somaxconn`.
const BACKLOG: u32 = 4_096;
/// A request waits on a connection of its own, so this is also the longest queue: some 20 s of a replica's capacity,
/// beyond what any client waits.
const CONNECTIONS: usize = 4_096;
/// A replica that is told to leave and can't finish within this, real time, ends anyway: Kubernetes' default grace.
const GRACE: Duration = Duration::from_secs(30);

/// How a replica behaves.
#[derive(Args, Clone, Copy, Debug)]
pub struct Behaviour {
    /// Time from the process's start until it serves, milliseconds
    #[arg(long)]
    pub start_up_ms: u64,
    /// Requests served at once; the others wait in order of arrival
    #[arg(long)]
    pub slots: usize,
    /// How long a request holds its slot, milliseconds
    #[arg(long)]
    pub hold_ms: u64,
}

/// Serves until SIGTERM (then finishes what is under way) or until standard input ends (then stops at once: whoever
/// started it is gone). Says `bound PORT` and, after its start-up, `ready` on standard output.
///
/// # Errors
/// The port can't be bound or standard output is closed.
pub async fn serve(behaviour: Behaviour) -> Result<()> {
    end_with_parent();
    let shutdown = Shutdown::on_signals()?;
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).context("binding a port of 127.0.0.1")?;
    say(&format!("bound {}", socket.local_addr()?.port()))?;
    tokio::select! {
        () = tokio::time::sleep(Duration::from_millis(behaviour.start_up_ms)) => {}
        () = shutdown.requested() => return Ok(()),
    }
    let listener = socket.listen(BACKLOG)?;
    say("ready")?;

    let slots = Arc::new(Semaphore::new(behaviour.slots));
    let hold = Duration::from_millis(behaviour.hold_ms);
    let work = move |_: Request| {
        let slots = Arc::clone(&slots);
        async move {
            // Tokio's semaphore is fair: first come, first served.
            let _slot = slots.acquire().await.expect("the semaphore is never closed");
            tokio::time::sleep(hold).await;
            json("{\"served\":true}\n")
        }
    };
    // Idle connections are the load generator's to close: one closed here could meet a request on its way.
    let idle = Duration::from_secs(3_600);
    let limits = Limits { connections: CONNECTIONS, head: idle, drain: GRACE, ..Limits::default() };
    serve_http(listener, work, limits, shutdown).await;
    Ok(())
}

fn say(line: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).context("telling the supervisor")
}

// A thread of its own, so that nothing the replica does can delay it.
fn end_with_parent() {
    std::thread::spawn(|| {
        let mut nothing = [0; 64];
        while matches!(std::io::stdin().read(&mut nothing), Ok(1..)) {}
        std::process::exit(1);
    });
}
