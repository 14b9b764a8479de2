//! Clients that know what they sent and got: a plain one, h2load, and raw connections.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// What a client saw.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Seen {
    /// Whole responses, by status class 0 to 5.
    pub classes: [u64; 6],
    /// Sum of their latencies, first byte of the request written to last byte of the response read.
    pub latency: Duration,
}

impl Seen {
    /// All responses.
    pub fn responses(&self) -> u64 {
        self.classes.iter().sum()
    }

    /// The mean latency in seconds.
    pub fn mean_seconds(&self) -> f64 {
        self.latency.as_secs_f64() / self.responses() as f64
    }
}

/// Sends `count` requests to each of `paths` in turn, over `connections` connections at once; one connection per
/// request unless `keep_alive`.
///
/// # Panics
/// If a connection or a response fails.
pub fn load(address: SocketAddr, connections: usize, count: u64, paths: &[&str], keep_alive: bool) -> Seen {
    let share = |index: u64| count / connections as u64 + u64::from(index < count % connections as u64);
    at_once(connections, |index| {
        let paths = paths.iter().copied().cycle().take(share(index as u64) as usize);
        one_by_one(address, paths, keep_alive)
    })
}

/// Sends requests to `path` over as many kept connections until `ended`, or for a minute.
///
/// # Panics
/// If a connection or a response fails.
pub fn load_until(address: SocketAddr, connections: usize, path: &str, ended: &AtomicBool) -> Seen {
    let end = Instant::now() + Duration::from_secs(60);
    let going = || !ended.load(Ordering::Relaxed) && Instant::now() < end;
    at_once(connections, |_| one_by_one(address, std::iter::repeat(path).take_while(|_| going()), true))
}

/// What the clients of all connections saw.
fn at_once(connections: usize, client: impl Fn(usize) -> Seen + Sync) -> Seen {
    let mut total = Seen::default();
    std::thread::scope(|scope| {
        let client = &client;
        let threads: Vec<_> = (0..connections).map(|index| scope.spawn(move || client(index))).collect();
        for thread in threads {
            let seen = thread.join().expect("a client does not panic");
            for (sum, class) in total.classes.iter_mut().zip(seen.classes) {
                *sum += class;
            }
            total.latency += seen.latency;
        }
    });
    total
}

fn one_by_one<'a>(address: SocketAddr, paths: impl Iterator<Item = &'a str>, keep_alive: bool) -> Seen {
    let mut seen = Seen::default();
    let mut connection = None;
    let closing = if keep_alive { "" } else { "Connection: close\r\n" };
    for path in paths {
        let mut stream = connection.take().unwrap_or_else(|| Raw::connect(address));
        let begin = Instant::now();
        stream.write(format!("GET {path} HTTP/1.1\r\nHost: test\r\n{closing}\r\n").as_bytes());
        let status = stream.response();
        seen.latency += begin.elapsed();
        seen.classes[usize::from(status / 100).min(5)] += 1;
        connection = keep_alive.then_some(stream);
    }
    seen
}

/// A connection that a test writes to as it likes.
pub struct Raw {
    stream: TcpStream,
    input: Vec<u8>,
}

impl Raw {
    /// Connects.
    ///
    /// # Panics
    /// If that fails.
    pub fn connect(address: SocketAddr) -> Self {
        let stream =
            TcpStream::connect(address).unwrap_or_else(|error| panic!("connecting to {address}: {error}"));
        stream.set_nodelay(true).expect("an open socket takes options");
        stream.set_read_timeout(Some(Duration::from_secs(10))).expect("an open socket takes options");
        Self { stream, input: Vec::new() }
    }

    /// Writes all of `bytes`.
    pub fn write(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("the connection takes bytes");
    }

    /// Reads one response with its body by Content-Length, chunks or the connection's end; returns its status.
    pub fn response(&mut self) -> u16 {
        self.response_to("GET")
    }

    /// The same for a request with the method `method`.
    ///
    /// # Panics
    /// If the connection ends first, or nothing comes for ten seconds.
    pub fn response_to(&mut self, method: &str) -> u16 {
        loop {
            let head_end = self.until(|input| find(input, b"\r\n\r\n")) + 4;
            let head = String::from_utf8_lossy(&self.input[..head_end]).to_ascii_lowercase();
            self.input.drain(..head_end);
            let status: u16 = head[9..12].parse().expect("a status has three digits");
            if (100..200).contains(&status) && status != 101 {
                continue;
            }
            if method == "HEAD" || status == 101 || status == 204 || status == 304 {
                return status;
            }
            if let Some((_, rest)) = head.split_once("content-length: ") {
                let length = rest.split("\r\n").next().and_then(|digits| digits.parse().ok());
                let length: usize = length.expect("a length is a number");
                self.until(|input| (input.len() >= length).then_some(0));
                self.input.drain(..length);
            } else if head.contains("chunked") {
                let end = self.until(|input| {
                    find(input, b"\r\n0\r\n")
                        .and_then(|at| find(&input[at + 3..], b"\r\n\r\n").map(|end| at + 3 + end + 4))
                });
                self.input.drain(..end);
            } else {
                self.stream.read_to_end(&mut self.input).expect("the connection ends in order");
                self.input.clear();
            }
            return status;
        }
    }

    /// Reads one head, an interim one too; returns its status.
    ///
    /// # Panics
    /// As [`Raw::response_to`].
    pub fn head_only(&mut self) -> u16 {
        let end = self.until(|input| find(input, b"\r\n\r\n")) + 4;
        let status = String::from_utf8_lossy(&self.input[9..12]).parse().expect("a status has three digits");
        self.input.drain(..end);
        status
    }

    /// Reads until the connection ends, however.
    pub fn drain(&mut self) {
        let mut rest = Vec::new();
        // A reset ends it too.
        let _ = self.stream.read_to_end(&mut rest);
    }

    /// Ends the connection with a reset.
    pub fn reset(self) {
        let socket = socket2::SockRef::from(&self.stream);
        socket.set_linger(Some(Duration::ZERO)).expect("an open socket takes options");
    }

    fn until(&mut self, found: impl Fn(&[u8]) -> Option<usize>) -> usize {
        let mut piece = vec![0; 64 << 10];
        loop {
            if let Some(at) = found(&self.input) {
                return at;
            }
            let read = self.stream.read(&mut piece).expect("the service answers within ten seconds");
            assert!(
                read > 0,
                "the service closed the connection; last input: {:?}",
                self.input.escape_ascii().to_string()
            );
            self.input.extend_from_slice(&piece[..read]);
        }
    }
}

/// Waiting for services that don't say when they are ready.
pub mod until_listening {
    use std::net::{TcpListener, TcpStream};
    use std::time::{Duration, Instant};

    /// A port on loopback that nobody uses now.
    ///
    /// # Panics
    /// If there is none.
    pub fn free_port() -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        listener.local_addr().expect("it is bound").port()
    }

    /// Waits until something listens on `port` of the address `host`.
    ///
    /// # Panics
    /// After ten seconds.
    pub fn wait(host: &str, port: u16) {
        let end = Instant::now() + Duration::from_secs(10);
        while let Err(error) = TcpStream::connect((host, port)) {
            assert!(Instant::now() < end, "nothing listens on {host} port {port}: {error}");
            std::thread::yield_now();
        }
    }
}

fn find(input: &[u8], what: &[u8]) -> Option<usize> {
    input.windows(what.len()).position(|window| window == what)
}

/// Runs `h2load --h1` and returns what it counted by status class.
///
/// # Panics
/// If it is not installed, or any request failed.
pub fn h2load(url: &str, requests: u64, options: &[&str]) -> [u64; 6] {
    let mut command = Command::new("h2load");
    command.args(["--h1", "-t1", "-n", &requests.to_string()]).args(options).arg(url);
    let output = command.output().expect("h2load (package nghttp2-client) is installed");
    let text = String::from_utf8_lossy(&output.stdout);
    let line = |start: &str| text.lines().find(|line| line.starts_with(start)).unwrap_or_default().to_owned();
    let done = line("requests:");
    assert!(done.contains(&format!(" {requests} done")), "h2load: {done:?}\n{text}");
    assert!(done.contains(" 0 errored"), "h2load: {done:?}");
    let mut classes = [0; 6];
    for part in line("status codes:").trim_start_matches("status codes:").split(',') {
        let mut words = part.split_whitespace();
        let (count, class) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let class: usize = class[..1].parse().expect("a class begins with its digit");
        classes[class] = count.parse().expect("a number");
    }
    classes
}
