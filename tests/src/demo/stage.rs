//! What all runs of one demo share: the service, its load, the measured capacity, the machine's directories.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use prescale_core::world::{Mode, WorkloadId, WorkloadSettings};

use super::calibrate::Capacity;
use super::cgroup::Groups;
use super::options::Options;
use super::supervisor::Deployment;
use super::week::Week;
use super::worker::Behaviour;

/// A request's answer takes this long in a slot: a call to a database and a little templating.
const HOLD: Duration = Duration::from_millis(40);
/// With [`HOLD`], a worker's capacity is some 190 requests/s: a dozen workers carry the peak.
const SLOTS: usize = 8;
/// From a pod's start to its first answer, on the compressed clock: a service on a JVM or with caches to fill, its
/// image on the node. At a speed of 60 this is a real second, in which a burst queues up more than the objective.
const START_UP: Duration = Duration::from_secs(60);
/// A request over this, real time, is slow: five times what an idle worker needs.
pub const OBJECTIVE: Duration = Duration::from_millis(200);
/// Never fewer replicas: one may fail.
const MIN_REPLICAS: u32 = 2;
/// Never more: above what the HPA at 50 % wants at the highest peak of any seed.
const MAX_REPLICAS: u32 = 32;
/// Spare capacity that Prescale is told to keep beyond its forecast, so that it plans pods to 79 % of what they can serve:
/// where the sweep of `docs/decisions/plan-constants.md` stands. A user whose pods take a minute to start and who knows of
/// bursts that nothing foretells has only this against them.
const HEADROOM: f64 = 0.2;
/// Everyone starts with what the middle HPA would have at the first minute's load.
const START_UTILISATION: f64 = 0.65;

/// The demo's fixed part.
#[derive(Debug)]
pub struct Stage {
    /// The command line.
    pub options: Options,
    /// The load.
    pub week: Week,
    /// When requests arrive, from the live start.
    pub arrivals: Vec<Duration>,
    /// Our control groups.
    pub groups: Groups,
    /// Our temporary files.
    pub files: PathBuf,
}

impl Stage {
    /// Draws the load.
    ///
    /// # Errors
    /// A program is missing.
    pub fn new(options: Options, groups: Groups, files: PathBuf) -> Result<Self> {
        let week = Week::new(options.seed, options.duration.mul_f64(options.speed));
        let arrivals = week.arrivals(options.duration, options.speed);
        let stage = Self { options, week, arrivals, groups, files };
        ensure!(
            stage.options.object.is_file(),
            "no eBPF object at {}: `cargo xtask build-ebpf` makes it",
            stage.options.object.display()
        );
        for name in ["prescale-agent", "prescale-aggregator", "demo_worker", "demo_guard"] {
            stage.program(name)?;
        }
        Ok(stage)
    }

    /// The path of a program.
    ///
    /// # Errors
    /// It is not there.
    pub fn program(&self, name: &str) -> Result<PathBuf> {
        let path = self.options.bin_dir.join(name);
        let path = path.canonicalize();
        path.with_context(|| {
            format!("no {name} in {}: `cargo xtask demo` builds it", self.options.bin_dir.display())
        })
    }

    /// Where the aggregator listens, which is where the page is; a free port of 127.0.0.1 when nobody looks.
    ///
    /// # Errors
    /// No port is free.
    pub fn page_address(&self) -> Result<SocketAddr> {
        if !self.options.headless {
            return Ok(self.options.listen);
        }
        // Free a moment ago: should somebody take it until the aggregator does, the aggregator says so.
        let free = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("finding a free port")?;
        Ok(free.local_addr()?)
    }

    /// The file of finished runs that the page compares.
    pub fn comparison(&self) -> PathBuf {
        self.files.join("comparison.json")
    }

    /// A pod's start-up in real time.
    pub fn start_up(&self) -> Duration {
        self.options.compressed(START_UP)
    }

    /// The service, scaled by Prescale in [`Mode::Full`], only watched in [`Mode::Observe`].
    pub fn deployment(&self, mode: Mode, capacity: Option<Capacity>) -> Result<Deployment> {
        Ok(Deployment {
            id: WorkloadId { namespace: "demo".to_owned(), name: "web".to_owned() },
            settings: WorkloadSettings {
                mode,
                min_replicas: MIN_REPLICAS,
                max_replicas: MAX_REPLICAS,
                rps_per_pod: capacity.map(|capacity| capacity.within_objective_rps),
                slo_seconds: Some(OBJECTIVE.as_secs_f64()),
                headroom: HEADROOM,
                paused: false,
            },
            program: self.program("demo_worker")?,
            behaviour: Behaviour {
                start_up_ms: self.start_up().as_millis() as u64,
                slots: SLOTS,
                hold_ms: HOLD.as_millis() as u64,
            },
        })
    }

    /// Replicas that every policy but the static one starts with.
    pub fn start_replicas(&self, capacity: Capacity) -> u32 {
        let first_minute = self.week.rate_at(self.week.live_starts() + 30.0);
        let needed = (first_minute / (START_UTILISATION * capacity.saturated_rps)).ceil() as u32;
        needed.clamp(MIN_REPLICAS, MAX_REPLICAS)
    }

    /// What the demo is about to do, for people.
    pub fn introduction(&self, capacity: Capacity) -> String {
        let burst = self.week.recurring().gain.max(self.week.new_burst().gain);
        // Utilisation u before, u·(1 + gain) after: what is over 1 queues up for as long as a start takes.
        let queued_ms = |utilisation: f64| {
            let overload = (utilisation * (1.0 + burst) - 1.0).max(0.0);
            overload * self.start_up().as_secs_f64() * 1e3
        };
        format!(
            "seed {}, {} requests in {} s per run; every clock runs {} times as fast: a start-up of {} s takes {:.1} s\n\
             a worker carries {:.0} requests/s at most ({} slots, {} ms each), {:.0} within the objective of {} ms; a \
             request costs it {:.2} ms of CPU\n\
             a burst of +{:.0} % queues up {:.0} ms during one start-up at a utilisation of 65 %, {:.0} ms at 80 %",
            self.options.seed,
            self.arrivals.len(),
            self.options.duration.as_secs(),
            self.options.speed,
            START_UP.as_secs(),
            self.start_up().as_secs_f64(),
            capacity.saturated_rps,
            SLOTS,
            HOLD.as_millis(),
            capacity.within_objective_rps,
            OBJECTIVE.as_millis(),
            capacity.cpu_per_request.as_secs_f64() * 1e3,
            burst * 100.0,
            queued_ms(0.65),
            queued_ms(0.8),
        )
    }
}
