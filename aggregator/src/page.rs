//! The page's files, built into the binary, and the headers that keep it from loading anything else.

use prescale_shell::http::{Response, StatusCode, header, reply};

/// Path, media type, content.
const FILES: &[(&str, &str, &str)] = &[
    ("/", "text/html; charset=utf-8", include_str!("page/index.html")),
    ("/page.css", "text/css; charset=utf-8", include_str!("page/page.css")),
    ("/page.js", "text/javascript; charset=utf-8", include_str!("page/page.js")),
    ("/chart.js", "text/javascript; charset=utf-8", include_str!("page/chart.js")),
    ("/charts.js", "text/javascript; charset=utf-8", include_str!("page/charts.js")),
    ("/comparison.js", "text/javascript; charset=utf-8", include_str!("page/comparison.js")),
    ("/dom.js", "text/javascript; charset=utf-8", include_str!("page/dom.js")),
    ("/panels.js", "text/javascript; charset=utf-8", include_str!("page/panels.js")),
];

/// Only our own files and our own API; nobody may frame it.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The file at `path`, if it is one of the page's.
pub fn file(path: &str) -> Option<Response> {
    let &(_, content_type, content) = FILES.iter().find(|(name, ..)| *name == path)?;
    let mut response = reply(StatusCode::OK, content_type, content);
    let headers = response.headers_mut();
    let mut set = |name, value| headers.insert(name, header::HeaderValue::from_static(value));
    set(header::CONTENT_SECURITY_POLICY, POLICY);
    set(header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    set(header::REFERRER_POLICY, "no-referrer");
    // A new aggregator brings a new page.
    set(header::CACHE_CONTROL, "no-cache");
    Some(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_comes_from_elsewhere() {
        for (name, _, content) in FILES {
            for word in content.split(['"', '\'', '`', '(', ' ']) {
                let outside = ["http:", "https:", "//"].iter().any(|start| word.starts_with(start));
                // The one exception names XML's SVG vocabulary and is never fetched; `//` alone begins a comment.
                let allowed = word == "http://www.w3.org/2000/svg"
                    || word.trim_end() == "//"
                    || word.starts_with("//\n");
                assert!(!outside || allowed, "{name} names {word}");
            }
        }
    }

    #[test]
    fn every_file_that_the_page_names_is_there() {
        for (name, _, content) in FILES {
            let named = content.split('"').filter(|word| word.ends_with(".js") || word.ends_with(".css"));
            for word in named {
                let path = format!("/{}", word.trim_start_matches("./"));
                assert!(file(&path).is_some(), "{name} names {word}");
            }
        }
        assert!(file("/nothing.js").is_none());
    }
}
