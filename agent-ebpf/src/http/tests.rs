//! Framing against messages whose ends are known, whole and cut into pieces anywhere.

extern crate std;

use std::string::String;
use std::vec::Vec;

use super::*;

/// What a driver sees: (event, offset after it).
fn drive(input: &[u8], response: bool, heads: &[bool]) -> Vec<(Event, usize)> {
    let mut framer = Framer::default();
    let mut events = Vec::new();
    let mut answered = 0;
    let mut skip = 0u64;
    for (index, &byte) in input.iter().enumerate() {
        let mut event = if skip > 0 {
            skip -= 1;
            if skip == 0 { framer.skipped() } else { Event::None }
        } else {
            framer.step(byte, response)
        };
        if event == Event::Response {
            events.push((event, framer.status as usize));
            if (100..200).contains(&framer.status) {
                framer.reset();
                continue;
            }
            event = framer.begin_response_body(heads.get(answered).copied().unwrap_or(false));
            answered += 1;
        }
        match event {
            Event::None => {}
            Event::Skip => skip = framer.length,
            Event::Malformed => {
                events.push((event, index + 1));
                return events;
            }
            _ => events.push((event, index + 1)),
        }
    }
    events
}

fn requests(input: &[u8]) -> (usize, Vec<usize>) {
    let events = drive(input, false, &[]);
    let starts = events.iter().filter(|(event, _)| *event == Event::Request).count();
    (starts, events.iter().filter(|(event, _)| *event == Event::End).map(|&(_, at)| at).collect())
}

const GET: &str = "GET /a?b HTTP/1.1\r\nHost: x\r\nAccept: */*\r\n\r\n";
const POST: &str = "POST / HTTP/1.1\r\ncontent-LENGTH:  5 \r\n\r\nGET /";
const CHUNKED_POST: &str = "PUT / HTTP/1.1\r\nTransfer-Encoding: gzip, Chunked\r\n\r\n4;x=y\r\nGET \r\na\r\n0123456789\r\n0\r\nT: v\r\n\r\n";

#[test]
fn requests_end_where_they_end() {
    let input = [GET, POST, GET, CHUNKED_POST, "\r\n", GET].concat();
    let mut ends = Vec::new();
    let mut at = 0;
    for (message, gap) in [(GET, 0), (POST, 0), (GET, 0), (CHUNKED_POST, 0), (GET, 2)] {
        at += message.len() + gap;
        ends.push(at);
    }
    assert_eq!(requests(input.as_bytes()), (5, ends));
}

#[test]
fn a_body_that_looks_like_a_request_is_none() {
    let body = GET.repeat(3);
    let input = std::format!("POST / HTTP/1.0\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    assert_eq!(requests(input.as_bytes()), (1, [input.len()].into()));
}

#[test]
fn responses_are_framed_by_what_was_asked_and_said() {
    let input = "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n\
                 HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc\
                 HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n\
                 HTTP/1.1 204 No Content\r\n\r\n\
                 HTTP/1.1 304 Not Modified\r\nContent-Length: 99\r\n\r\n\
                 HTTP/1.1 404 Not Found\r\nTransfer-Encoding: chunked\r\nX: y\r\n\r\n0\r\n\r\n\
                 HTTP/1.0 503 Service Unavailable\r\nConnection: close\r\n\r\nuntil the end";
    // The second answers a HEAD.
    let events = drive(input.as_bytes(), true, &[false, true]);
    let statuses: Vec<usize> =
        events.iter().filter(|(event, _)| *event == Event::Response).map(|&(_, status)| status).collect();
    assert_eq!(statuses, [103, 200, 200, 204, 304, 404, 503]);
    assert_eq!(events.iter().filter(|(event, _)| *event == Event::End).count(), 5);
}

#[test]
fn what_is_no_http_is_malformed_or_named() {
    for input in [
        "\x16\x03\x01\x02",
        "SSH-2.0-OpenSSH_9.2\r\n",
        "EHLO mail\r\n",
        "get / HTTP/1.1\r\n",
        "GET /\r\n\r\n",
        "GET / HTTP/2.0\r\n",
        "BREW /pot HTTP/1.1\r\n",
        "POST / HTTP/1.1\r\nContent-Length: 5, 5\r\n",
        "POST / HTTP/1.1\r\nContent-Length: \r\n",
        "POST / HTTP/1.1\r\nContent-Length: 1234567890123456789\r\n",
        "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
        "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1234567890123456\r\n",
        "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n\r\n",
    ] {
        let events = drive(input.as_bytes(), false, &[]);
        assert_eq!(events.last().map(|last| last.0), Some(Event::Malformed), "{input:?}: {events:?}");
    }
    let preface = drive(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", false, &[]);
    assert_eq!(preface.first().map(|first| first.0), Some(Event::Http2));
    for input in ["HTTP/1.1 2x0 OK\r\n", "HTTP/2 200\r\n", "ICY 200 OK\r\n", "<html>"] {
        let events = drive(input.as_bytes(), true, &[]);
        assert_eq!(events.last().map(|last| last.0), Some(Event::Malformed), "{input:?}");
    }
}

#[test]
fn a_head_without_end_is_given_up() {
    let mut input = String::from("GET / HTTP/1.1\r\n");
    while input.len() < HEAD_LIMIT as usize {
        input.push_str("X-Long: yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy\r\n");
    }
    input.push_str("X: y\r\n");
    let events = drive(input.as_bytes(), false, &[]);
    assert_eq!(events.last(), Some(&(Event::Malformed, HEAD_LIMIT as usize + 1)));
}

#[test]
fn the_place_of_the_length_is_remembered() {
    let head = "HTTP/1.1 200 OK\r\nServer: x\r\nContent-Length: 1234\r\nDate: now\r\n\r\n";
    let mut framer = Framer::default();
    for &byte in head.as_bytes() {
        framer.step(byte, true);
    }
    assert_eq!(&head[framer.length_at as usize..framer.length_end as usize], "1234");
    assert_eq!((framer.length, framer.head_bytes as usize), (1234, head.len()));
}
