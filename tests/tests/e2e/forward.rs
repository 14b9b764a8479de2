//! Port-forwards, the way to an aggregator's page that NOTES.txt names: opened once, and again when they break.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Longest wait for bytes: a standing API server forwards nothing.
const PATIENCE: Duration = Duration::from_secs(5);

static OPEN: Mutex<Option<HashMap<String, Forward>>> = Mutex::new(None);

struct Forward {
    child: Child,
    port: u16,
}

impl Drop for Forward {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Forward {
    fn open(namespace: &str, pod: &str, port: u16) -> Result<Self, String> {
        let mut command = Command::new("kubectl");
        command.args(["port-forward", "--namespace", namespace, &format!("pod/{pod}"), &format!(":{port}")]);
        command.stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().map_err(|error| error.to_string())?;
        let mut line = String::new();
        let mut said = BufReader::new(child.stdout.take().ok_or("its output is piped")?);
        let read = said.read_line(&mut line);
        // `Forwarding from 127.0.0.1:45231 -> 8080`.
        let found = line.split_once("127.0.0.1:").and_then(|(_, rest)| rest.split(' ').next()?.parse().ok());
        // A line for each connection follows, which somebody must read.
        std::thread::spawn(move || std::io::copy(&mut said, &mut std::io::sink()));
        match found {
            Some(port) => Ok(Self { child, port }),
            None => {
                drop(Self { child, port: 0 });
                Err(format!("port-forward to {pod}: {read:?} {line:?}"))
            }
        }
    }

    fn get(&self, path: &str) -> std::io::Result<Vec<u8>> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        write!(stream, "GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        Ok(answer)
    }
}

/// What `pod` answers on `port`.
pub fn get(namespace: &str, pod: &str, port: u16, path: &str) -> Result<String, String> {
    let mut all = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
    let open = all.get_or_insert_default();
    if !open.contains_key(pod) {
        open.insert(pod.to_owned(), Forward::open(namespace, pod, port)?);
    }
    let answer = open[pod].get(path).map_err(|error| error.to_string());
    let text = answer.and_then(|bytes| String::from_utf8(bytes).map_err(|error| error.to_string()));
    let body = text.and_then(|text| match text.split_once("\r\n\r\n") {
        Some((head, body)) if head.starts_with("HTTP/1.1 200") => Ok(body.to_owned()),
        Some((head, body)) if head.starts_with("HTTP/1.1") => Err(body.to_owned()),
        _ => Err(String::new()),
    });
    // Whatever is wrong, a new one may mend it; a refusal costs no more than that.
    body.inspect_err(|_| drop(open.remove(pod)))
}

/// Closes all of them.
pub fn close() {
    OPEN.lock().unwrap_or_else(PoisonError::into_inner).take();
}
