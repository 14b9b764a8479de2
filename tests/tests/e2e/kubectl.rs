//! kubectl as a user calls it, namespaces that go with their tests, waiting, and watches with the time of each line.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Between two looks at a condition.
const LOOK: Duration = Duration::from_millis(100);

/// What kubectl says.
///
/// # Panics
/// If it refuses.
pub fn kubectl(arguments: &[&str]) -> String {
    try_kubectl(arguments).unwrap_or_else(|said| panic!("kubectl {}: {said}", arguments.join(" ")))
}

/// What kubectl says, or why it refuses.
pub fn try_kubectl(arguments: &[&str]) -> Result<String, String> {
    output(Command::new("kubectl").args(arguments))
}

/// What a command prints, or what it prints as its errors.
pub fn output(command: &mut Command) -> Result<String, String> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

/// `kubectl` with `manifest` on its standard input.
///
/// # Panics
/// If it refuses.
pub fn feed(arguments: &[&str], manifest: &str) {
    let mut command = Command::new("kubectl");
    command.args(arguments).args(["-f", "-"]).stdin(Stdio::piped()).stdout(Stdio::null());
    let mut child = command.spawn().expect("kubectl is on the path: `cargo xtask e2e`");
    let mut input = child.stdin.take().expect("its input is piped");
    input.write_all(manifest.as_bytes()).expect("kubectl reads its input");
    drop(input);
    let status = child.wait().expect("a child can be waited for");
    // kubectl has said why; the manifest may hold a key.
    assert!(status.success(), "kubectl {} refuses its input", arguments.join(" "));
}

/// Looks until there is something.
///
/// # Panics
/// After `seconds`, with what was seen last.
pub fn wait<T>(what: &str, seconds: u64, mut look: impl FnMut() -> Result<T, String>) -> T {
    let end = Instant::now() + Duration::from_secs(seconds);
    loop {
        match look() {
            Ok(found) => return found,
            Err(last) => assert!(Instant::now() < end, "{what}: not within {seconds} s; last: {last}"),
        }
        std::thread::sleep(LOOK);
    }
}

/// Sleeps until then; not at all if that is over.
pub fn sleep_until(at: Instant) {
    std::thread::sleep(at.saturating_duration_since(Instant::now()));
}

/// A namespace of one test, gone with it.
#[derive(Debug)]
pub struct Namespace(pub String);

impl Namespace {
    /// Makes it, by a name that nobody else has; one that an earlier run has left goes first.
    pub fn new(name: &str) -> Self {
        let name = format!("prescale-e2e-{name}");
        wait("a namespace", 60, || try_kubectl(&["create", "namespace", &name]));
        Self(name)
    }

    /// kubectl in it.
    pub fn kubectl(&self, arguments: &[&str]) -> String {
        kubectl(&[&["--namespace", &self.0], arguments].concat())
    }

    /// Applies a manifest in it.
    pub fn apply(&self, manifest: &str) {
        feed(&["apply", "--namespace", &self.0], manifest);
    }

    /// Waits until `what` has rolled out.
    ///
    /// # Panics
    /// After two minutes, with what the API server says of its pods.
    pub fn roll_out(&self, what: &str) {
        roll_out(&self.0, what);
    }

    /// Sets annotations (`name=value`, or `name-`) of ours on a Deployment.
    pub fn annotate(&self, deployment: &str, annotations: &[&str]) {
        let named: Vec<String> = annotations.iter().map(|it| format!("prescale.dev/{it}")).collect();
        let named: Vec<&str> = named.iter().map(String::as_str).collect();
        self.kubectl(&[&["annotate", "--overwrite", "deployment", deployment], named.as_slice()].concat());
    }

    /// Waits for an Event on `object` with this reason whose text holds all of `words`; its text.
    ///
    /// # Panics
    /// After `seconds`, with the Events that there are.
    pub fn event(&self, object: &str, reason: &str, words: &[&str], seconds: u64) -> String {
        let fields = format!("involvedObject.name={object}");
        let path = r#"jsonpath={range .items[*]}{.reason}{" "}{.message}{"\n"}{end}"#;
        wait(&format!("Event {reason} on {}/{object} with {words:?}", self.0), seconds, || {
            let events = self.kubectl(&["get", "events", "--field-selector", &fields, "-o", path]);
            let fits = |line: &&str| line.starts_with(reason) && words.iter().all(|word| line.contains(word));
            events.lines().find(fits).map(str::to_owned).ok_or(events.clone())
        })
    }

    /// A field of an object by its path, empty where it is absent.
    pub fn field(&self, object: &str, path: &str) -> String {
        self.kubectl(&["get", object, "-o", &format!("jsonpath={{{path}}}")])
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = try_kubectl(&["delete", "namespace", &self.0, "--wait=false"]);
    }
}

/// Waits until `what` in `namespace` has rolled out.
///
/// # Panics
/// After two minutes, with what the API server says of its pods.
pub fn roll_out(namespace: &str, what: &str) {
    if let Err(said) = try_kubectl(&["rollout", "status", what, "--timeout=120s", "--namespace", namespace]) {
        let say = |words: &[&str]| {
            try_kubectl(&[words, &["--namespace", namespace]].concat()).unwrap_or_else(|it| it)
        };
        let (pods, events) = (say(&["get", "pods", "-o", "wide"]), say(&["get", "events"]));
        let logs = say(&["logs", what, "--tail=20"]);
        panic!("{namespace}: {what} does not come up: {said}\n{pods}\n{events}\n{logs}");
    }
}

/// A watch of the API server: each line as it arrives. One that breaks is begun anew; it ends with its test.
#[derive(Debug)]
pub struct Watch {
    // `None` once it shall end.
    child: Arc<Mutex<Option<Child>>>,
    lines: Arc<Mutex<Vec<(Instant, String)>>>,
}

impl Watch {
    /// `kubectl get` with these arguments and `--watch`, one line for each state by this jsonpath.
    pub fn start(arguments: &[&str], path: &str) -> Self {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let known = Arc::clone(&lines);
        Self::call(arguments, path, lines, move |line| {
            known.lock().unwrap_or_else(PoisonError::into_inner).push((Instant::now(), line));
        })
    }

    /// The same; each line goes to `told` instead.
    pub fn tell(arguments: &[&str], path: &str, told: impl FnMut(String) + Send + 'static) -> Self {
        Self::call(arguments, path, Arc::default(), told)
    }

    fn call(
        arguments: &[&str],
        path: &str,
        lines: Arc<Mutex<Vec<(Instant, String)>>>,
        mut told: impl FnMut(String) + Send + 'static,
    ) -> Self {
        let mut command = Command::new("kubectl");
        command.arg("get").args(arguments).args(["--watch", "-o"]).arg(format!("jsonpath={path}{{\"\\n\"}}"));
        command.stdout(Stdio::piped()).stderr(Stdio::null());
        let mut start = move || {
            let mut child = command.spawn().expect("kubectl is on the path: `cargo xtask e2e`");
            let output = BufReader::new(child.stdout.take().expect("its output is piped"));
            (child, output)
        };
        let (child, mut output) = start();
        let child = Arc::new(Mutex::new(Some(child)));
        let running = Arc::clone(&child);
        std::thread::spawn(move || {
            loop {
                // What has no such field is no state of the object: how an API server under load says that it breaks off.
                for line in output.lines().map_while(Result::ok).filter(|line| !line.is_empty()) {
                    told(line);
                }
                std::thread::sleep(LOOK);
                let mut running = running.lock().unwrap_or_else(PoisonError::into_inner);
                let Some(ended) = running.as_mut() else { break };
                let _ = ended.wait();
                let (child, next) = start();
                *running = Some(child);
                output = next;
            }
        });
        Self { child, lines }
    }

    /// What came so far.
    pub fn lines(&self) -> Vec<(Instant, String)> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(mut child) = child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
