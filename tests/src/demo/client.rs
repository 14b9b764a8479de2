//! One keep-alive HTTP/1.1 connection of the load generator, with exact knowledge of what was sent.

use std::net::SocketAddr;

use anyhow::{Context, Result, bail};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// The request that every arrival sends; one segment, so that "written whole" is one write.
const REQUEST: &[u8] =
    b"GET /work HTTP/1.1\r\nhost: demo\r\nuser-agent: prescale-demo\r\naccept: */*\r\n\r\n";
/// The workers' answers are some 150 bytes; anything over this is not theirs.
const LARGEST_RESPONSE: usize = 16 * 1024;

/// An established connection with no request under way.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

/// A response's head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// The server will close the connection.
    pub closes: bool,
}

impl Connection {
    /// Connects.
    ///
    /// # Errors
    /// Whatever the kernel says.
    pub async fn open(address: SocketAddr) -> std::io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: Vec::with_capacity(512) })
    }

    /// Writes one request whole. It counts as sent from here on.
    ///
    /// # Errors
    /// Whatever the kernel says: the request was not sent.
    pub async fn send(&mut self) -> std::io::Result<()> {
        self.stream.write_all(REQUEST).await
    }

    /// Reads one response to its last byte.
    ///
    /// # Errors
    /// The connection ended first, or what came is no response that a worker sends.
    pub async fn receive(&mut self) -> Result<Response> {
        self.buffer.clear();
        loop {
            if let Some((response, length)) = parse(&self.buffer)? {
                if self.buffer.len() > length {
                    bail!("{} bytes after the response", self.buffer.len() - length);
                }
                if self.buffer.len() == length {
                    return Ok(response);
                }
            }
            if self.buffer.len() > LARGEST_RESPONSE {
                bail!("a response of more than {LARGEST_RESPONSE} bytes");
            }
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                bail!("the worker closed the connection before its response ended");
            }
        }
    }
}

/// The head and the whole message's length, once the head is complete.
fn parse(bytes: &[u8]) -> Result<Option<(Response, usize)>> {
    let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else { return Ok(None) };
    let head = std::str::from_utf8(&bytes[..end]).context("a head that is no text")?;
    let mut lines = head.split("\r\n");
    let status = lines
        .next()
        .and_then(|line| line.strip_prefix("HTTP/1.1 "))
        .and_then(|rest| rest.get(..3))
        .and_then(|code| code.parse().ok())
        .with_context(|| format!("no HTTP/1.1 status line in {head:?}"))?;
    let mut response = Response { status, closes: false };
    let mut length = None;
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse::<usize>().ok();
        } else if name.eq_ignore_ascii_case("connection") {
            response.closes = value.trim().eq_ignore_ascii_case("close");
        }
    }
    let length = length.with_context(|| format!("no content-length in {head:?}"))?;
    Ok(Some((response, end + 4 + length)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_gives_status_length_and_whether_it_closes() {
        let whole = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nconnection: close\r\n\r\nok";
        assert_eq!(parse(whole).unwrap(), Some((Response { status: 200, closes: true }, whole.len())));
        assert_eq!(parse(&whole[..20]).unwrap(), None);
        assert!(parse(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
        assert!(parse(b"SSH-2.0\r\ncontent-length: 0\r\n\r\n").is_err());
    }
}
