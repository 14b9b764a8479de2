//! A small HTTP/1.1 service that does on request what real ones do by accident: the path says what to answer.
//!
//! `/<status>/<bytes>/<manner>`; manners: `length` (Content-Length), `chunked`, `trailer` (chunked with a trailer),
//! `close` (the body ends with the connection), `split` (the head in pieces), `interim` (103 first), `half` (closes
//! in the middle of the body), `hang` (never answers), `upgrade` (101), `none` (status without body or length).

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use anyhow::Result;

/// How a service takes its requests.
#[derive(Clone, Copy, Debug, Default)]
pub struct Manner {
    /// One thread for all connections: requests queue in their sockets.
    pub single: bool,
    /// How long each request occupies its thread.
    pub work: Duration,
}

/// Serves `listener` until the process ends.
///
/// # Errors
/// If the listener fails.
pub fn serve(listener: &TcpListener, manner: Manner) -> Result<()> {
    if manner.single {
        return serve_one_by_one(listener, manner.work);
    }
    loop {
        let (stream, _) = listener.accept()?;
        std::thread::Builder::new().stack_size(128 << 10).spawn(move || {
            // A connection that breaks is the client's business.
            let _ = serve_connection(stream, manner.work);
        })?;
    }
}

fn serve_connection(mut stream: TcpStream, work: Duration) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut input = Vec::new();
    let mut piece = vec![0; 64 << 10];
    loop {
        // What has arrived together is answered together, as pipelining servers do.
        let mut output = Vec::new();
        while let Some((request, used)) = parse(&input) {
            input.drain(..used);
            std::thread::sleep(work);
            if !answer(&mut stream, &mut output, &request)? {
                return Ok(());
            }
        }
        stream.write_all(&output)?;
        let read = stream.read(&mut piece)?;
        if read == 0 {
            return Ok(());
        }
        input.extend_from_slice(&piece[..read]);
        if input.windows(9).any(|window| window == b"100-conti") && parse(&input).is_none() {
            stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
    }
}

fn serve_one_by_one(listener: &TcpListener, work: Duration) -> Result<()> {
    listener.set_nonblocking(true)?;
    let mut connections: Vec<(TcpStream, Vec<u8>)> = Vec::new();
    let mut piece = vec![0; 16 << 10];
    loop {
        let mut idle = true;
        if let Ok((stream, _)) = listener.accept() {
            stream.set_nonblocking(true)?;
            stream.set_nodelay(true)?;
            connections.push((stream, Vec::new()));
            idle = false;
        }
        let mut ended = Vec::new();
        for (index, (stream, input)) in connections.iter_mut().enumerate() {
            match stream.read(&mut piece) {
                Ok(0) => ended.push(index),
                Ok(read) => {
                    input.extend_from_slice(&piece[..read]);
                    while let Some((request, used)) = parse(input) {
                        input.drain(..used);
                        std::thread::sleep(work);
                        let mut output = Vec::new();
                        answer(stream, &mut output, &request)?;
                        stream.write_all(&output)?;
                    }
                    idle = false;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => ended.push(index),
            }
        }
        for index in ended.into_iter().rev() {
            connections.swap_remove(index);
        }
        if idle {
            std::thread::sleep(Duration::from_micros(200));
        }
    }
}

struct Request {
    method: String,
    status: u16,
    bytes: usize,
    manner: String,
    close: bool,
}

/// The first whole request of `input` and its length.
fn parse(input: &[u8]) -> Option<(Request, usize)> {
    let head_end = input.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let head = String::from_utf8_lossy(&input[..head_end]).into_owned();
    let field = |name: &str| {
        head.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim().to_ascii_lowercase())
        })
    };
    let used = if field("transfer-encoding").as_deref() == Some("chunked") {
        head_end + input[head_end..].windows(5).position(|window| window == b"0\r\n\r\n")? + 5
    } else {
        head_end + field("content-length").and_then(|value| value.parse().ok()).unwrap_or(0)
    };
    if input.len() < used {
        return None;
    }
    let mut line = head.lines().next().unwrap_or_default().split(' ');
    let method = line.next().unwrap_or_default().to_owned();
    let mut path = line.next().unwrap_or_default().trim_start_matches('/').split('/');
    let request = Request {
        method,
        status: path.next().and_then(|part| part.parse().ok()).unwrap_or(200),
        bytes: path.next().and_then(|part| part.parse().ok()).unwrap_or(0),
        manner: path.next().unwrap_or("length").to_owned(),
        close: field("connection").as_deref() == Some("close"),
    };
    Some((request, used))
}

/// Appends the answer to `output`, or writes it itself where its manner needs that. `false`: the connection ends.
fn answer(stream: &mut TcpStream, output: &mut Vec<u8>, request: &Request) -> io::Result<bool> {
    let body = vec![b'x'; request.bytes];
    let first = format!("HTTP/1.1 {} Whatever\r\nServer: kernel-test\r\n", request.status);
    let closing = if request.close { "Connection: close\r\n" } else { "" };
    let length = format!("{closing}Content-Length: {}\r\n\r\n", body.len());
    let has_body = request.method != "HEAD";
    match request.manner.as_str() {
        "chunked" | "trailer" => {
            output.extend(format!("{first}{closing}Transfer-Encoding: chunked\r\n\r\n").into_bytes());
            for chunk in body.chunks(1000) {
                output.extend(format!("{:x}\r\n", chunk.len()).into_bytes());
                output.extend(chunk);
                output.extend(b"\r\n");
            }
            let trailer = if request.manner == "trailer" { "Checksum: 1\r\n" } else { "" };
            output.extend(format!("0\r\n{trailer}\r\n").into_bytes());
        }
        "close" => {
            output.extend(format!("{first}Connection: close\r\n\r\n").into_bytes());
            output.extend(body);
            stream.write_all(output)?;
            return Ok(false);
        }
        "split" => {
            stream.write_all(output)?;
            output.clear();
            let whole = [first.as_bytes(), length.as_bytes(), &body].concat();
            for piece in whole.chunks(7) {
                stream.write_all(piece)?;
            }
        }
        "interim" => {
            output.extend(b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n");
            output.extend([first.as_bytes(), length.as_bytes(), &body].concat());
        }
        "half" => {
            output.extend([first.as_bytes(), length.as_bytes(), &body[..body.len() / 2]].concat());
            stream.write_all(output)?;
            return Ok(false);
        }
        "hang" => {
            stream.write_all(output)?;
            output.clear();
            // Until the client goes away.
            let mut rest = [0; 1024];
            while stream.read(&mut rest)? > 0 {}
            return Ok(false);
        }
        "upgrade" => output.extend(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: test\r\n\r\n"),
        "none" => output.extend(format!("{first}\r\n").into_bytes()),
        _ if has_body => output.extend([first.as_bytes(), length.as_bytes(), &body].concat()),
        _ => output.extend([first.as_bytes(), length.as_bytes()].concat()),
    }
    if request.close {
        stream.write_all(output)?;
    }
    Ok(!request.close)
}
