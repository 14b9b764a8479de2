//! HTTP/1.x framing, one byte at a time: where messages begin and end, and nothing else.
//!
//! The same code runs in the kernel (inside `bpf_loop`) and in this file's tests. It holds its whole state in
//! [`Framer`], so that heads and chunk sizes may be split over segments anywhere. RFC 9112, sections 2 to 7.

/// The state between two bytes of one direction of a connection. All zero: before a message.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Framer {
    /// Content-Length, then the size of the chunk being read.
    pub length: u64,
    /// FNV-1a of the token being read; header names and codings lower-cased.
    hash: u64,
    /// One of [`phase`].
    pub phase: u32,
    /// Bytes of the head so far.
    pub head_bytes: u32,
    /// [`seen`] bits of this message.
    pub seen: u32,
    /// A response's status, three digits.
    pub status: u32,
    /// Where in the head the digits of Content-Length begin; 0: no such header.
    pub length_at: u32,
    /// Where in the head they end.
    pub length_end: u32,
    /// Position in the line, or number of digits read.
    column: u32,
    /// Keeps the size a multiple of eight.
    unused: u32,
}

/// What the next byte belongs to.
pub mod phase {
    #![allow(missing_docs, reason = "named by what is being read")]
    pub const START: u32 = 0;
    pub const FIRST_TOKEN: u32 = 1;
    pub const FIRST_LINE: u32 = 2;
    pub const NAME: u32 = 3;
    pub const VALUE: u32 = 4;
    pub const VALUE_LENGTH: u32 = 5;
    pub const VALUE_CODING: u32 = 6;
    /// A body of known length: the caller skips it.
    pub const BODY: u32 = 7;
    pub const CHUNK_SIZE: u32 = 8;
    pub const CHUNK_EXTENSION: u32 = 9;
    pub const CHUNK_END: u32 = 10;
    pub const TRAILER: u32 = 11;
    /// A body that only the end of the connection ends, or one that could not be followed.
    pub const UNTIL_CLOSE: u32 = 12;
}

/// What a message has been seen to be.
pub mod seen {
    /// Transfer-Encoding ends with `chunked`.
    pub const CHUNKED: u32 = 1;
    /// A valid Content-Length.
    pub const LENGTH: u32 = 2;
    /// The request is a HEAD.
    pub const HEAD: u32 = 4;
    /// The request is a CONNECT.
    pub const CONNECT: u32 = 8;
}

/// What a byte completed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Event {
    /// Nothing yet.
    None,
    /// A valid request line: there is a request.
    Request,
    /// A response's head: the caller decides with [`Framer::begin_response_body`] what follows.
    Response,
    /// The body's size became known, the caller skips [`Framer::length`] bytes.
    Skip,
    /// The message is complete; the framer is back at [`phase::START`].
    End,
    /// This is no HTTP/1.x message, or one past a limit.
    Malformed,
    /// The preface of HTTP/2.
    Http2,
}

/// Heads beyond this are given up: no server in wide use accepts as much (nginx 32 KB, Apache 8 KB a line).
pub const HEAD_LIMIT: u32 = 128 * 1024;

/// Digits of a length: 10^18 bytes are enough, and u64 can't overflow.
const LENGTH_DIGITS: u32 = 18;
/// Hexadecimal digits of a chunk's size: below 2^60.
const CHUNK_DIGITS: u32 = 15;

const fn hash_of(name: &[u8]) -> u64 {
    let mut hash = 0;
    let mut i = 0;
    while i < name.len() {
        hash = hash_step(hash, name[i]);
        i += 1;
    }
    hash
}

/// FNV-1a without its offset, so that an empty token is 0; 64 bits, so that no header meets another by chance.
#[inline(always)]
const fn hash_step(hash: u64, byte: u8) -> u64 {
    (hash ^ byte as u64).wrapping_mul(0x0100_0000_01b3)
}

const HTTP_1_0: u64 = hash_of(b"HTTP/1.0");
const HTTP_1_1: u64 = hash_of(b"HTTP/1.1");
const CONTENT_LENGTH: u64 = hash_of(b"content-length");
const TRANSFER_ENCODING: u64 = hash_of(b"transfer-encoding");
const CHUNKED: u64 = hash_of(b"chunked");
const PRI: u64 = hash_of(b"PRI");
const HEAD: u64 = hash_of(b"HEAD");
const CONNECT: u64 = hash_of(b"CONNECT");

#[inline(always)]
fn is_method(hash: u64) -> bool {
    const GET: u64 = hash_of(b"GET");
    const POST: u64 = hash_of(b"POST");
    const PUT: u64 = hash_of(b"PUT");
    const DELETE: u64 = hash_of(b"DELETE");
    const OPTIONS: u64 = hash_of(b"OPTIONS");
    const PATCH: u64 = hash_of(b"PATCH");
    const TRACE: u64 = hash_of(b"TRACE");
    // WebDAV and what caches and search engines use.
    const PROPFIND: u64 = hash_of(b"PROPFIND");
    const PROPPATCH: u64 = hash_of(b"PROPPATCH");
    const MKCOL: u64 = hash_of(b"MKCOL");
    const COPY: u64 = hash_of(b"COPY");
    const MOVE: u64 = hash_of(b"MOVE");
    const LOCK: u64 = hash_of(b"LOCK");
    const UNLOCK: u64 = hash_of(b"UNLOCK");
    const REPORT: u64 = hash_of(b"REPORT");
    const PURGE: u64 = hash_of(b"PURGE");
    const QUERY: u64 = hash_of(b"QUERY");
    matches!(
        hash,
        GET | HEAD
            | POST
            | PUT
            | DELETE
            | OPTIONS
            | PATCH
            | TRACE
            | CONNECT
            | PROPFIND
            | PROPPATCH
            | MKCOL
            | COPY
            | MOVE
            | LOCK
            | UNLOCK
            | REPORT
            | PURGE
            | QUERY
    )
}

#[inline(always)]
fn lower(byte: u8) -> u8 {
    if byte.is_ascii_uppercase() { byte | 0x20 } else { byte }
}

impl Framer {
    /// Back to before a message.
    #[inline(always)]
    pub fn reset(&mut self) {
        self.length = 0;
        self.hash = 0;
        self.phase = phase::START;
        self.head_bytes = 0;
        self.seen = 0;
        self.status = 0;
        self.length_at = 0;
        self.length_end = 0;
        self.column = 0;
    }

    /// Takes one byte of a message that is no body; `response` tells the direction and never changes.
    #[inline(always)]
    pub fn step(&mut self, byte: u8, response: bool) -> Event {
        if self.phase < phase::BODY {
            self.head_bytes += 1;
            if self.head_bytes > HEAD_LIMIT {
                return Event::Malformed;
            }
        }
        match self.phase {
            phase::START => {
                // Empty lines before a request are to be ignored (RFC 9112, 2.2).
                if byte == b'\r' || byte == b'\n' {
                    self.head_bytes = 0;
                    return Event::None;
                }
                self.phase = phase::FIRST_TOKEN;
                self.hash = hash_step(0, byte);
                // TLS and most other protocols show in the first byte.
                if byte.is_ascii_uppercase() { Event::None } else { Event::Malformed }
            }
            phase::FIRST_TOKEN => self.first_token(byte, response),
            phase::FIRST_LINE => self.first_line(byte, response),
            phase::NAME => self.name(byte, response),
            phase::VALUE => {
                if byte == b'\n' {
                    self.begin_line();
                }
                Event::None
            }
            phase::VALUE_LENGTH => self.value_length(byte),
            phase::VALUE_CODING => self.value_coding(byte),
            phase::CHUNK_SIZE => self.chunk_size(byte),
            phase::CHUNK_EXTENSION => {
                if byte == b'\n' {
                    return self.begin_chunk();
                }
                Event::None
            }
            phase::CHUNK_END => {
                if byte == b'\n' {
                    self.begin_chunk_size();
                }
                Event::None
            }
            phase::TRAILER => {
                if byte == b'\n' {
                    if self.column == 0 {
                        self.reset();
                        return Event::End;
                    }
                    self.column = 0;
                } else if byte != b'\r' {
                    self.column = 1;
                }
                Event::None
            }
            _ => Event::Malformed,
        }
    }

    #[inline(always)]
    fn first_token(&mut self, byte: u8, response: bool) -> Event {
        if byte != b' ' {
            self.hash = hash_step(self.hash, byte);
            // The longest method has 9 letters, a version 8.
            return if self.head_bytes <= 9 && byte > b' ' { Event::None } else { Event::Malformed };
        }
        let token = self.hash;
        self.phase = phase::FIRST_LINE;
        self.hash = 0;
        self.column = 0;
        if response {
            return if token == HTTP_1_1 || token == HTTP_1_0 { Event::None } else { Event::Malformed };
        }
        if token == HEAD {
            self.seen |= seen::HEAD;
        }
        if token == CONNECT {
            self.seen |= seen::CONNECT;
        }
        if token == PRI {
            return Event::Http2;
        }
        if is_method(token) { Event::None } else { Event::Malformed }
    }

    #[inline(always)]
    fn first_line(&mut self, byte: u8, response: bool) -> Event {
        if response {
            if self.column < 3 {
                let digit = byte.wrapping_sub(b'0');
                if digit > 9 {
                    return Event::Malformed;
                }
                self.status = self.status * 10 + u32::from(digit);
                self.column += 1;
            } else if byte == b'\n' {
                self.begin_line();
            }
            return Event::None;
        }
        match byte {
            b'\n' => {
                let version = self.hash;
                self.begin_line();
                if version == HTTP_1_1 || version == HTTP_1_0 { Event::Request } else { Event::Malformed }
            }
            b' ' => {
                self.hash = 0;
                Event::None
            }
            b'\r' => Event::None,
            _ => {
                self.hash = hash_step(self.hash, byte);
                Event::None
            }
        }
    }

    #[inline(always)]
    fn begin_line(&mut self) {
        self.phase = phase::NAME;
        self.hash = 0;
        self.column = 0;
    }

    #[inline(always)]
    fn name(&mut self, byte: u8, response: bool) -> Event {
        match byte {
            b'\n' => {
                // A line without a colon is tolerated, an empty one ends the head.
                if self.column > 0 {
                    self.begin_line();
                    return Event::None;
                }
                if response { Event::Response } else { self.begin_request_body() }
            }
            b'\r' => Event::None,
            b':' => {
                self.column = 0;
                self.phase = if self.hash == CONTENT_LENGTH {
                    phase::VALUE_LENGTH
                } else if self.hash == TRANSFER_ENCODING {
                    phase::VALUE_CODING
                } else {
                    phase::VALUE
                };
                self.hash = 0;
                Event::None
            }
            _ => {
                self.hash = hash_step(self.hash, lower(byte));
                self.column = 1;
                Event::None
            }
        }
    }

    #[inline(always)]
    fn value_length(&mut self, byte: u8) -> Event {
        if byte == b'\n' {
            let digits = self.column;
            self.begin_line();
            self.seen |= seen::LENGTH;
            return if digits > 0 { Event::None } else { Event::Malformed };
        }
        if byte == b' ' || byte == b'\t' || byte == b'\r' {
            return Event::None;
        }
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 || self.column >= LENGTH_DIGITS {
            return Event::Malformed;
        }
        if self.column == 0 {
            self.length = 0;
            self.length_at = self.head_bytes - 1;
        }
        self.length = self.length * 10 + u64::from(digit);
        self.length_end = self.head_bytes;
        self.column += 1;
        Event::None
    }

    #[inline(always)]
    fn value_coding(&mut self, byte: u8) -> Event {
        match byte {
            b'\n' => {
                // Only the last coding frames the message.
                if self.hash == CHUNKED {
                    self.seen |= seen::CHUNKED;
                }
                self.begin_line();
            }
            b' ' | b'\t' | b'\r' => {}
            b',' => self.hash = 0,
            _ => self.hash = hash_step(self.hash, lower(byte)),
        }
        Event::None
    }

    #[inline(always)]
    fn begin_request_body(&mut self) -> Event {
        if self.seen & seen::CHUNKED != 0 {
            self.begin_chunk_size();
            return Event::None;
        }
        if self.seen & seen::LENGTH != 0 && self.length > 0 {
            self.phase = phase::BODY;
            return Event::Skip;
        }
        self.reset();
        Event::End
    }

    /// After [`Event::Response`] of a final response: what follows its head. `bodiless`: the request was a HEAD.
    #[inline(always)]
    pub fn begin_response_body(&mut self, bodiless: bool) -> Event {
        if bodiless || self.status == 204 || self.status == 304 {
            self.reset();
            return Event::End;
        }
        if self.seen & seen::CHUNKED != 0 {
            self.begin_chunk_size();
            return Event::None;
        }
        if self.seen & seen::LENGTH == 0 {
            self.phase = phase::UNTIL_CLOSE;
            return Event::None;
        }
        if self.length == 0 {
            self.reset();
            return Event::End;
        }
        self.phase = phase::BODY;
        Event::Skip
    }

    #[inline(always)]
    fn begin_chunk_size(&mut self) {
        self.phase = phase::CHUNK_SIZE;
        self.length = 0;
        self.column = 0;
    }

    #[inline(always)]
    fn chunk_size(&mut self, byte: u8) -> Event {
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            b'A'..=b'F' => byte - b'A' + 10,
            b'\n' => return self.begin_chunk(),
            b'\r' | b' ' => return Event::None,
            b';' => {
                self.phase = phase::CHUNK_EXTENSION;
                return Event::None;
            }
            _ => return Event::Malformed,
        };
        if self.column >= CHUNK_DIGITS {
            return Event::Malformed;
        }
        self.length = (self.length << 4) | u64::from(digit);
        self.column += 1;
        Event::None
    }

    #[inline(always)]
    fn begin_chunk(&mut self) -> Event {
        if self.column == 0 {
            return Event::Malformed;
        }
        self.column = 0;
        if self.length == 0 {
            self.phase = phase::TRAILER;
            return Event::None;
        }
        self.phase = phase::CHUNK_END;
        Event::Skip
    }

    /// After the skipped bytes: the end of the message, if they were a body of known length.
    #[inline(always)]
    pub fn skipped(&mut self) -> Event {
        if self.phase == phase::BODY {
            self.reset();
            return Event::End;
        }
        Event::None
    }
}

#[cfg(test)]
mod tests;
