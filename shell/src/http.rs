//! Small helpers around requests and replies: queries, tokens, common answers.

use bytes::Bytes;
use http_body_util::Full;
pub use hyper::header;
pub use hyper::http::request::Parts;
pub use hyper::{HeaderMap, Method, StatusCode};

/// A request whose body has been read, within the server's limits.
pub type Request = hyper::Request<Bytes>;
/// A whole reply.
pub type Response = hyper::Response<Full<Bytes>>;

/// Media type of the wire's messages.
pub const PROTOBUF: &str = "application/x-protobuf";
/// Media type of the API.
pub const JSON: &str = "application/json";

/// A reply of media type `content_type`.
pub fn reply(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Response {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(content_type));
    response
}

/// One sentence for people, newline added.
pub fn text(status: StatusCode, sentence: &str) -> Response {
    reply(status, "text/plain; charset=utf-8", format!("{sentence}\n"))
}

/// 200 with JSON.
pub fn json(body: impl Into<Bytes>) -> Response {
    reply(StatusCode::OK, JSON, body)
}

/// 200 with a message of the wire.
pub fn protobuf(body: impl Into<Bytes>) -> Response {
    reply(StatusCode::OK, PROTOBUF, body)
}

/// 404.
pub fn not_found() -> Response {
    text(StatusCode::NOT_FOUND, "no such path")
}

/// 405; `allow` names the methods that work, as in `GET, PUT`.
pub fn method_not_allowed(allow: &'static str) -> Response {
    let mut response = text(StatusCode::METHOD_NOT_ALLOWED, &format!("only {allow}"));
    response.headers_mut().insert(header::ALLOW, header::HeaderValue::from_static(allow));
    response
}

/// The token of `authorization: Bearer <token>`.
pub fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// The secret of `authorization: Bearer <secret>`, or the password of `Basic`, which browsers ask people for.
pub fn secret(headers: &HeaderMap) -> Option<String> {
    if let Some(token) = bearer(headers) {
        return Some(token.to_owned());
    }
    let (scheme, pair) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let pair = String::from_utf8(base64(pair.trim().trim_end_matches('='))?).ok()?;
    pair.split_once(':').map(|(_, password)| password.to_owned())
}

/// Decodes RFC 4648's base64 without padding, in the alphabet of headers or in that of URLs and tokens.
pub fn base64(text: &str) -> Option<Vec<u8>> {
    let (mut bits, mut held, mut bytes) = (0u32, 0, Vec::with_capacity(text.len() * 3 / 4));
    for byte in text.bytes() {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(value);
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push((bits >> held) as u8);
            bits &= (1 << held) - 1;
        }
    }
    Some(bytes)
}

/// The value of `name` in a query string, percent-decoded; `None` if absent or no UTF-8.
pub fn query(uri: &hyper::Uri, name: &str) -> Option<String> {
    let pairs = uri.query()?.split('&');
    let value = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, ""))).find(|(key, _)| *key == name)?.1;
    percent_decode(&value.replace('+', " "))
}

/// The path's segments, percent-decoded; `None` if one is no UTF-8.
pub fn segments(uri: &hyper::Uri) -> Option<Vec<String>> {
    uri.path().split('/').skip(1).map(percent_decode).collect()
}

/// `text` as it may stand in a path segment or a query value.
pub fn percent_encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

fn percent_decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        if first == b'%' {
            let digits = std::str::from_utf8(after.get(..2)?).ok()?;
            // `from_str_radix` takes a sign; two hex digits don't have one.
            bytes.push(u8::from_str_radix(digits.strip_prefix('+').map_or(digits, |_| "x"), 16).ok()?);
            rest = &after[2..];
        } else {
            bytes.push(first);
            rest = after;
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_and_segments_are_decoded() {
        let uri: hyper::Uri = "/a%2Fb/c?node=n%C3%B6de+1&revision=7&flag".parse().unwrap();
        assert_eq!(query(&uri, "node").unwrap(), "nöde 1");
        assert_eq!(query(&uri, "revision").unwrap(), "7");
        assert_eq!(query(&uri, "flag").unwrap(), "");
        assert_eq!(query(&uri, "rev"), None);
        assert_eq!(segments(&uri).unwrap(), ["a/b", "c"]);
        for bad in ["%", "%4", "%+1", "%ff", "%zz"] {
            assert_eq!(percent_decode(bad), None, "{bad}");
        }
        assert_eq!(percent_decode(&percent_encode("ä/b c%+")).unwrap(), "ä/b c%+");
    }

    #[test]
    fn only_bearer_tokens_count() {
        let token = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::AUTHORIZATION, value.parse().unwrap());
            bearer(&headers).map(str::to_owned)
        };
        assert_eq!(token("Bearer abc").unwrap(), "abc");
        assert_eq!(token("bearer abc").unwrap(), "abc");
        assert_eq!(token("Basic abc"), None);
        assert_eq!(token("abc"), None);
    }

    #[test]
    fn a_secret_is_a_bearers_or_a_password() {
        let secret = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::AUTHORIZATION, value.parse().unwrap());
            secret(&headers)
        };
        assert_eq!(secret("Bearer abc").as_deref(), Some("abc"));
        // `me:fooba?-`, as a browser writes it; any name does.
        assert_eq!(secret("Basic bWU6Zm9vYmE/LQ==").as_deref(), Some("fooba?-"));
        for bad in ["Basic", "Basic !!", "Basic bWU", "Digest bWU6Zm9vYmE/LQ==", "abc"] {
            assert_eq!(secret(bad), None, "{bad}");
        }
        assert_eq!(base64("Zm9vYmE_LQ").as_deref(), Some(&b"fooba?-"[..]));
    }
}
