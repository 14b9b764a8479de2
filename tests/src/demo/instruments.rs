//! The agent and the aggregator of one run: started as a cluster would, read over HTTP, stopped with SIGTERM.

use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, anyhow, bail, ensure};
use prescale_core::world::WorkloadId;
use prescale_shell::client::{Client, Limits};
use prescale_shell::http::StatusCode;
use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;
use tokio::process::Child;

use super::cgroup::{self, Groups};
use super::stage::Stage;
use super::supervisor::NODE;

/// Bins of the imported history, seconds of the compressed clock: the grid that the aggregator forecasts on.
const HISTORY_STEP: u32 = 10;
/// Between two looks at something that has no event to wait for, real time.
const LOOK: Duration = Duration::from_millis(50);
/// Both binaries stop within seconds: the agent sends a last report, the aggregator answers what is under way.
const STOP_LIMIT: Duration = Duration::from_secs(15);
/// Lines of a failed program's log that are shown.
const LOG_LINES: usize = 12;

/// The running pair.
#[derive(Debug)]
pub struct Instruments {
    aggregator: Program,
    agent: Program,
    client: Client,
    workload: String,
    counter: String,
    started: Instant,
    first_forecast: OnceLock<Duration>,
}

// What the demo reads of `core::view::Workload`.
#[derive(Deserialize)]
struct View {
    pods: Vec<PodView>,
    forecast: Option<serde_json::Value>,
}

#[derive(Deserialize)]
struct PodView {
    state: String,
}

impl Instruments {
    /// Starts both for run number `run`. The compressed clock shows the week's live start at `starts`; the replicas of
    /// `target` are whom to measure and scale.
    ///
    /// # Errors
    /// A file can't be written or a program can't be started.
    pub fn start(
        stage: &Stage,
        run: usize,
        target: SocketAddr,
        id: &WorkloadId,
        starts: Instant,
    ) -> Result<Self> {
        let clock = clock_flags(stage, starts)?;
        let history = stage.files.join(format!("history-{run}.csv"));
        std::fs::write(&history, history_csv(stage, id)).context("writing the history")?;
        let token = stage.files.join("token");
        std::fs::write(&token, token_text()?).context("writing the token")?;

        let page = stage.page_address()?;
        let mut command = Program::command(stage, "aggregator", run, "prescale-aggregator", Groups::add)?;
        command.command.args(["--listen", &page.to_string(), "--target", &format!("local={target}")]);
        command.command.arg("--token-file").arg(&token).arg("--history").arg(&history);
        command.command.arg("--comparison").arg(stage.comparison()).args(&clock);
        let aggregator = command.start()?;
        let started = Instant::now();

        let mut command = Program::command(stage, "agent", run, "prescale-agent", Groups::add_with_memory)?;
        command.command.args(["--node", NODE, "--aggregator", &format!("http://{page}")]);
        command.command.arg("--token-file").arg(&token).arg("--object").arg(&stage.options.object);
        command.command.args(["--listen", "127.0.0.1:0"]).args(&clock);
        let agent = command.start()?;

        let WorkloadId { namespace, name } = id;
        Ok(Self {
            aggregator,
            agent,
            client: Client::new(&page.to_string(), Limits::default())?,
            workload: format!("/api/v1/workloads/{namespace}/{name}"),
            counter: "prescale_aggregator_requests_started_total{".to_owned(),
            started,
            first_forecast: OnceLock::new(),
        })
    }

    /// Waits until the agent measures `pods` pods and the aggregator shows them.
    ///
    /// # Errors
    /// They don't by `deadline`, or a program has ended; the end of its log is in the error.
    pub async fn ready(&self, pods: usize, deadline: Instant) -> Result<()> {
        loop {
            self.check()?;
            let state = match self.view().await {
                Ok(view) => {
                    let measured = view.pods.iter().filter(|pod| pod.state == "measured").count();
                    if measured == pods {
                        return Ok(());
                    }
                    format!("{measured} of {pods} pods are measured")
                }
                Err(error) => format!("{error:#}"),
            };
            if Instant::now() >= deadline {
                bail!(
                    "agent and aggregator were not ready in time: {state}\n{}{}",
                    self.aggregator.log_end(),
                    self.agent.log_end()
                );
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Whether both still run.
    ///
    /// # Errors
    /// One has ended; the end of its log is in the error.
    pub fn check(&self) -> Result<()> {
        self.aggregator.check()?;
        self.agent.check()
    }

    /// Real time from the aggregator's start to the first answer with a forecast; looks until there was one.
    ///
    /// # Errors
    /// The aggregator does not answer.
    pub async fn first_forecast(&self) -> Result<Option<Duration>> {
        if self.first_forecast.get().is_none() {
            self.view().await?;
        }
        Ok(self.first_forecast.get().copied())
    }

    /// Requests that the kernel saw start, over all pods that are or were.
    ///
    /// # Errors
    /// The aggregator does not answer.
    pub async fn counted(&self) -> Result<u64> {
        let text = self.get("/metrics").await?;
        let value = text.lines().find(|line| line.starts_with(&self.counter));
        // No series before the first pod was measured.
        let Some(line) = value else { return Ok(0) };
        let number = line.rsplit_once(' ').and_then(|(_, value)| value.parse::<f64>().ok());
        number.map(|number| number as u64).with_context(|| format!("the aggregator's metrics say {line:?}"))
    }

    /// Waits until the kernel's count is `sent`; returns the last count if it does not get there.
    ///
    /// # Errors
    /// The aggregator does not answer.
    pub async fn settled(&self, sent: u64) -> Result<u64> {
        // The agent reports each second of the compressed clock; a report that failed is sent again with the next.
        let deadline = Instant::now() + Duration::from_secs(5);
        loop {
            let counted = self.counted().await?;
            if counted == sent || Instant::now() >= deadline {
                return Ok(counted);
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Memory of the agent's own control group now, inactive file pages left out.
    ///
    /// # Errors
    /// The group is gone.
    pub fn agent_memory_bytes(&self, groups: &Groups) -> Result<u64> {
        groups.memory_bytes(&self.agent.group)
    }

    /// CPU time that the agent has used.
    ///
    /// # Errors
    /// The group is gone.
    pub fn agent_cpu(&self, groups: &Groups) -> Result<Duration> {
        groups.cpu_time(&self.agent.group)
    }

    /// Stops the agent and gives the aggregator back: it may go on showing its page.
    ///
    /// # Errors
    /// The agent did not end well.
    pub async fn stop_agent(self) -> Result<Program> {
        self.agent.stop().await?;
        Ok(self.aggregator)
    }

    async fn view(&self) -> Result<View> {
        let view: View =
            serde_json::from_str(&self.get(&self.workload).await?).context("the aggregator's API")?;
        if view.forecast.is_some() {
            self.first_forecast.get_or_init(|| self.started.elapsed());
        }
        Ok(view)
    }

    async fn get(&self, path: &str) -> Result<String> {
        let reply = self.client.get(path).await.map_err(|failure| anyhow!("the aggregator: {failure}"))?;
        let body = String::from_utf8_lossy(reply.body()).into_owned();
        ensure!(
            reply.status() == StatusCode::OK,
            "the aggregator answers {path} with {}: {body}",
            reply.status()
        );
        Ok(body)
    }
}

fn clock_flags(stage: &Stage, starts: Instant) -> Result<Vec<String>> {
    let until = starts.saturating_duration_since(Instant::now());
    let epoch = SystemTime::now().duration_since(UNIX_EPOCH).context("the machine's clock")? + until;
    let origin_ms = (stage.week.live_starts() * 1e3) as i64;
    Ok([
        ("--clock-speed", stage.options.speed.to_string()),
        ("--clock-epoch-ms", epoch.as_millis().to_string()),
        ("--clock-origin-ms", origin_ms.to_string()),
    ]
    .into_iter()
    .flat_map(|(flag, value)| [flag.to_owned(), value])
    .collect())
}

// The six days up to the live start. The aggregator reads it some seconds earlier; what is measured until then, idle
// replicas, adds nothing to bins that history has filled.
fn history_csv(stage: &Stage, id: &WorkloadId) -> String {
    use std::fmt::Write;
    let mut csv = "namespace,workload,unix_seconds,requests_per_second\n".to_owned();
    for (at, rps) in stage.week.history(HISTORY_STEP, stage.options.speed) {
        let _ = writeln!(csv, "{},{},{at},{rps:.3}", id.namespace, id.name);
    }
    csv
}

// A secret that only this demo's agent and aggregator know.
fn token_text() -> Result<String> {
    use std::io::Read;
    let mut bytes = [0; 16];
    File::open("/dev/urandom")
        .and_then(|mut file| file.read_exact(&mut bytes))
        .context("reading /dev/urandom")?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// One of the two binaries, running.
#[derive(Debug)]
pub struct Program {
    name: &'static str,
    // Whoever only wants to know whether it still runs has to reap it for that.
    process: Mutex<Child>,
    group: String,
    directories: Vec<PathBuf>,
    log: PathBuf,
}

// A program about to be started.
struct Starting {
    name: &'static str,
    command: tokio::process::Command,
    group: String,
    directories: Vec<PathBuf>,
    log: PathBuf,
}

impl Program {
    fn command(
        stage: &Stage,
        kind: &str,
        run: usize,
        name: &'static str,
        add: fn(&Groups, &str) -> Result<Vec<PathBuf>>,
    ) -> Result<Starting> {
        let group = format!("{kind}-{run}");
        let directories = add(&stage.groups, &group)?;
        let mut command = tokio::process::Command::from(cgroup::command(&directories, &stage.program(name)?));
        let log = stage.files.join(format!("{group}.log"));
        let file = File::create(&log).with_context(|| format!("making {}", log.display()))?;
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(file).kill_on_drop(true);
        Ok(Starting { name, command, group, directories, log })
    }

    fn check(&self) -> Result<()> {
        match self.process.lock().unwrap_or_else(PoisonError::into_inner).try_wait()? {
            None => Ok(()),
            Some(status) => bail!("{} has ended ({status}):\n{}", self.name, self.log_end()),
        }
    }

    fn log_end(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let last = &lines[lines.len().saturating_sub(LOG_LINES)..];
        last.iter().map(|line| format!("  {}: {line}\n", self.name)).collect()
    }

    /// SIGTERM, and waits.
    ///
    /// # Errors
    /// It does not end in time or not with success.
    pub async fn stop(mut self) -> Result<()> {
        self.check()?;
        let process = self.process.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(pid) = process.id().and_then(|pid| Pid::from_raw(pid as i32)) {
            // It may end by itself in between; the status then tells.
            let _ = kill_process(pid, Signal::TERM);
        }
        let ended = tokio::time::timeout(STOP_LIMIT, process.wait()).await;
        let name = self.name;
        let status =
            ended.map_err(|_| anyhow!("{name} still runs {} s after SIGTERM", STOP_LIMIT.as_secs()))??;
        ensure!(status.success(), "{name} ended with {status}:\n{}", self.log_end());
        self.directories.iter().try_for_each(|directory: &PathBuf| cgroup::remove_empty(Path::new(directory)))
    }
}

impl Starting {
    fn start(mut self) -> Result<Program> {
        let process = self.command.spawn().with_context(|| format!("starting {}", self.name))?;
        let Self { name, group, directories, log, .. } = self;
        Ok(Program { name, process: Mutex::new(process), group, directories, log })
    }
}
