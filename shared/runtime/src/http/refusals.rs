//! What is said below the router: to a connection that finds no room, and to bytes that are no request.
//!
//! Guarantee: a whole HTTP/1.1 answer with a problem document, after which the connection is closed.
//! Not for HTTP/2, whose library says the same in frames of its own, without a body.

use std::sync::LazyLock;

use serde_json::json;

/// There is no room for another connection.
pub(super) static FULL: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let detail = "too many connections; come again";
    answer(503, "Service Unavailable", "unavailable", detail, AGAIN)
});
/// One address has as many connections as it may have.
pub(super) static FULL_FOR_ADDRESS: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let detail = "too many connections from this address; use fewer, or come again";
    answer(503, "Service Unavailable", "unavailable", detail, AGAIN)
});
static GARBLED: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let detail = "this is no HTTP request that can be read";
    answer(400, "Bad Request", "malformed", detail, "")
});
static HEAD_TOO_LARGE: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let detail = "the address and headers of a request have at most 64 KiB, and 100 headers";
    let title = "Request Header Fields Too Large";
    answer(431, title, "head_too_large", detail, "")
});
const AGAIN: &str = "retry-after: 5\r\n";

fn answer(status: u16, title: &str, code: &str, detail: &str, headers: &str) -> Vec<u8> {
    let kind = format!("https://photofinish.dev/docs/problems.md#{code}");
    let body =
        json!({"type": kind, "title": title, "status": status, "code": code, "detail": detail});
    let body = body.to_string();
    let length = body.len();
    format!(
        "HTTP/1.1 {status} {title}\r\ncontent-type: application/problem+json\r\n\
         cache-control: no-store\r\n{headers}connection: close\r\ncontent-length: {length}\r\n\r\n{body}"
    )
    .into_bytes()
}

/// What to say in the place of a refusal of the HTTP library's own: a head without a body, written at once.
pub(super) fn instead_of(written: &[u8]) -> Option<&'static [u8]> {
    let status = written.strip_prefix(b"HTTP/1.1 ")?.get(..3)?;
    let refusal: &'static [u8] = match status {
        b"400" => &GARBLED,
        b"414" | b"431" => &HEAD_TOO_LARGE,
        _ => return None,
    };
    let head = std::str::from_utf8(written).ok()?.to_ascii_lowercase();
    let is_bare =
        head.find("\r\n\r\n") == Some(head.len() - 4) && head.contains("\r\ncontent-length: 0\r\n");
    is_bare.then_some(refusal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_is_whole() {
        for (text, status, code) in [
            (&FULL, 503, "unavailable"),
            (&FULL_FOR_ADDRESS, 503, "unavailable"),
            (&GARBLED, 400, "malformed"),
            (&HEAD_TOO_LARGE, 431, "head_too_large"),
        ] {
            let text = std::str::from_utf8(text).unwrap();
            let (head, body) = text.split_once("\r\n\r\n").unwrap();
            assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{head}");
            assert!(head.ends_with(&format!("content-length: {}", body.len())));
            let body: serde_json::Value = serde_json::from_str(body).unwrap();
            assert_eq!(
                (&body["code"], &body["status"]),
                (&code.into(), &status.into())
            );
        }
    }

    #[test]
    fn only_a_bare_refusal_is_replaced() {
        let bare = |status: &str| {
            let head = format!(
                "HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: 0\r\ndate: now\r\n\r\n"
            );
            instead_of(head.as_bytes()).map(<[u8]>::len)
        };
        assert_eq!(bare("431 Too Large"), Some(HEAD_TOO_LARGE.len()));
        assert_eq!(bare("414 URI Too Long"), Some(HEAD_TOO_LARGE.len()));
        assert_eq!(bare("400 Bad Request"), Some(GARBLED.len()));
        assert_eq!(bare("404 Not Found"), None);
        for other in [
            "HTTP/1.1 400 Bad Request\r\ncontent-length: 2\r\n\r\n",
            "HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
            "HTTP/1.1 4",
            "",
        ] {
            assert_eq!(instead_of(other.as_bytes()), None, "{other}");
        }
    }
}
