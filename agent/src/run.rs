//! The agent's life: start, one loop, a clean stop.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use prescale_core::node::{Node, NodeSettings, OwnUse};
use prescale_core::wire::NodeReport;
use prescale_shell::client::Access;
use prescale_shell::clock::Clock;
use prescale_shell::http::{Request, Response, not_found};
use prescale_shell::server::{self, Limits};
use prescale_shell::signals::Shutdown;
use prescale_shell::token::TokenFile;
use prescale_shell::{admin, http};
use tokio::sync::mpsc;

use crate::args::Args;
use crate::cgroup;
use crate::kernel::Kernel;
use crate::metrics::registry;
use crate::own::OwnFiles;
use crate::pods::Pods;
use crate::push::Fleet;
use crate::shared::Shared;
use crate::watch::Watcher;

/// Between two looks for directories of pods that are wanted and not there, of the agent's clock: a small part of a
/// second's blindness, and a look beside known pods costs one directory.
const LOOK: Duration = Duration::from_millis(250);
/// Real time that the last report may take at the stop; a kubelet kills after 30 s.
const LAST_REPORT: Duration = Duration::from_secs(2);

/// Runs the agent until `shutdown`.
///
/// # Errors
/// One sentence for whatever keeps it from starting.
pub async fn run(args: Args, shutdown: Shutdown) -> anyhow::Result<()> {
    let clock = args.clock.start();
    let token = args.token_file.clone().map(TokenFile::open).transpose()?;
    let access = Access { token, trust: args.trust.open(&args.aggregator)? };
    let root = cgroup::root(args.cgroup_root.as_deref())?;
    let object = args.object()?;
    let boot_id =
        std::fs::read_to_string("/proc/sys/kernel/random/boot_id").context("can't read the boot id")?;
    let settings = NodeSettings {
        node: args.node.clone(),
        boot_id: boot_id.trim().to_owned(),
        agent_start: clock.now().wall,
    };
    let shared = Arc::new(Shared::new(clock, Node::new(settings)));
    let watcher = Watcher::new(&args.aggregator, &access, clock, &args.node, Arc::clone(&shared))?;
    let fleet = Fleet::new(&args.aggregator, access, clock, &args.node, Arc::clone(&shared))?;
    let listener = server::bind(args.listen).await?;
    let max_pods = usize::from(args.max_pods);
    let kernel = Kernel::load(&object, max_pods)?;
    tracing::info!(
        node = args.node,
        aggregators = args.aggregator.join(" "),
        cgroups = %root.display(),
        object = %object.display(),
        listen = %listener.local_addr().unwrap_or(args.listen),
        "prescale-agent {}", env!("CARGO_PKG_VERSION")
    );

    let serving =
        tokio::spawn(server::serve(listener, endpoints(&shared), Limits::default(), shutdown.clone()));
    // One list under way, one in hand: a newer one waits with the aggregator.
    let (lists, incoming) = mpsc::channel(1);
    let watching = tokio::spawn(watcher.run(lists));
    let pods = Pods::new(kernel, root, max_pods, Arc::clone(&shared));
    let mut agent = Agent { clock, shared, pods, fleet, own: OwnFiles::find() };
    agent.work(&args, incoming, &shutdown).await;
    watching.abort();
    agent.stop().await;
    serving.await.context("the admin server failed")
}

fn endpoints(shared: &Arc<Shared>) -> impl server::Handler + use<> {
    let registry = Arc::new(registry(shared));
    let shared = Arc::clone(shared);
    move |request: Request| {
        let (registry, shared) = (Arc::clone(&registry), Arc::clone(&shared));
        async move { answer(&request, &registry, &shared) }
    }
}

fn answer(request: &Request, registry: &prometheus_client::registry::Registry, shared: &Shared) -> Response {
    let known = admin::answer(request, || registry, || shared.readiness());
    known.unwrap_or_else(|| match request.uri().path() {
        "/" => http::text(http::StatusCode::OK, "prescale-agent: /metrics /healthz /readyz"),
        _ => not_found(),
    })
}

struct Agent {
    clock: Clock,
    shared: Arc<Shared>,
    pods: Pods,
    fleet: Fleet,
    own: OwnFiles,
}

impl Agent {
    async fn work(
        &mut self,
        args: &Args,
        mut lists: mpsc::Receiver<prescale_core::wire::WatchList>,
        shutdown: &Shutdown,
    ) {
        let mut polls = self.clock.interval(args.poll());
        let mut looks = self.clock.interval(LOOK);
        loop {
            tokio::select! {
                // In this order: a stop first, then what others wait for.
                biased;
                () = shutdown.requested() => return,
                _ = polls.tick() => self.poll(),
                Some(list) = lists.recv() => self.pods.watch(self.clock.now(), list),
                Some(named) = self.fleet.replies.recv() => self.fleet.retarget(&named),
                _ = looks.tick(), if self.pods.is_missing_some() => self.pods.look(self.clock.now()),
            }
        }
    }

    fn poll(&mut self) {
        let started = Instant::now();
        self.pods.look(self.clock.now());
        let readings = self.pods.read();
        let own = self.own_use();
        let report = self.shared.node().tick(self.clock.now(), readings, own);
        if let Some(report) = report {
            self.publish(&report);
        }
        self.shared.metrics.polled(started.elapsed().as_secs_f64(), self.pods.directories_read());
    }

    fn publish(&mut self, report: &NodeReport) {
        self.fleet.publish(report.sequence, report.encode());
    }

    fn own_use(&self) -> OwnUse {
        let cost = self.own.look();
        self.shared.set_own(cost);
        OwnUse { cpu_ns: cost.cpu_ns, memory_bytes: cost.cgroup_bytes.unwrap_or(cost.resident_bytes) }
    }

    /// A last reading and a last report; the programs come off before the report's time is up.
    async fn stop(mut self) {
        let readings = self.pods.read();
        let own = self.own_use();
        let report = self.shared.node().finish(self.clock.now(), readings, own);
        self.publish(&report);
        drop(self.pods);
        self.fleet.finish(LAST_REPORT).await;
        tracing::info!("stopped");
    }
}
