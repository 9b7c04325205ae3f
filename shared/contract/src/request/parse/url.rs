//! URLs as people paste them: repaired before they are refused.

use super::fields::{Faults, Field};
use ::url::{Position, Url};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use photofinish_model::Code;

/// What is encoded; non-ASCII always is, and what is encoded already is left alone.
const ENCODED: &AsciiSet = &CONTROLS.add(b' ');

/// An http or https URL, repaired.
pub(super) fn url(field: &Field<'_>, faults: &mut Faults) -> Option<String> {
    let Some(text) = field.value.as_str() else {
        faults.wrong_type(&field.pointer, "a text with a URL");
        return None;
    };
    let repaired = repair(text);
    if repaired.is_none() {
        let detail = "must be an http or https URL such as https://example.com/file";
        faults.add(&field.pointer, Code::InvalidUrl, detail);
    }
    repaired
}

/// Trims white space around it, drops line breaks in it, percent-encodes spaces and non-ASCII
/// characters after the host; a host in another script becomes its ASCII form.
fn repair(pasted: &str) -> Option<String> {
    let around = |c: char| c.is_whitespace() || matches!(c, '\u{feff}' | '\u{200b}');
    let text: String = pasted
        .trim_matches(around)
        .chars()
        .filter(|c| !matches!(c, '\t' | '\n' | '\r'))
        .collect();
    let url = Url::parse(&text).ok()?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none_or(str::is_empty) {
        return None;
    }
    // Other spellings (`http:///host`, `\\` for `/`) are read differently by different readers:
    // the parser's own reading is what is kept.
    let Some(begin) = text.find("://").map(|colon| colon + 3) else {
        return Some(url.into());
    };
    let authority_end = text[begin..]
        .find(['/', '?', '#'])
        .map_or(text.len(), |length| begin + length);
    let (head, rest) = text.split_at(authority_end);
    let plain = !head[begin..].is_empty() && !text.contains('\\');
    if !plain {
        return Some(url.into());
    }
    let head = if head.is_ascii() {
        head
    } else {
        &url[..Position::BeforePath]
    };
    Some(format!("{head}{}", utf8_percent_encode(rest, ENCODED)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pasted_urls_are_repaired_and_good_ones_left_alone() {
        let cases = [
            ("https://example.com/a.jpg", "https://example.com/a.jpg"),
            (
                "  https://example.com/a.jpg \n",
                "https://example.com/a.jpg",
            ),
            (
                "\u{feff}https://example.com/a.jpg\u{200b}",
                "https://example.com/a.jpg",
            ),
            (
                "https://example.com/my image.jpg",
                "https://example.com/my%20image.jpg",
            ),
            (
                "https://example.com/my%20image.jpg",
                "https://example.com/my%20image.jpg",
            ),
            (
                "https://example.com/vídeo.mp4?q=ção#é",
                "https://example.com/v%C3%ADdeo.mp4?q=%C3%A7%C3%A3o#%C3%A9",
            ),
            (
                "https://example.com/a\n/b.jpg",
                "https://example.com/a/b.jpg",
            ),
            ("https://exämple.com/ä", "https://xn--exmple-cua.com/%C3%A4"),
            ("HTTP://Example.com", "HTTP://Example.com"),
            (
                "https://b.s3.amazonaws.com/k?X-Amz-Signature=ab%2Fcd&x='a'|b",
                "https://b.s3.amazonaws.com/k?X-Amz-Signature=ab%2Fcd&x='a'|b",
            ),
            ("http:\\\\example.com\\a", "http://example.com/a"),
            ("http:///example.com/a", "http://example.com/a"),
        ];
        for (pasted, expected) in cases {
            assert_eq!(repair(pasted).as_deref(), Some(expected), "{pasted:?}");
            assert_eq!(
                repair(expected).as_deref(),
                Some(expected),
                "again: {expected:?}"
            );
        }
    }

    #[test]
    fn what_is_no_web_address_is_refused() {
        for bad in [
            "",
            " ",
            "example.com/a.jpg",
            "ftp://example.com/a",
            "file:///etc/passwd",
            "http://",
            "https://exa mple.com/",
            "javascript:alert(1)",
            "data:text/plain,x",
            "//x",
        ] {
            assert_eq!(repair(bad), None, "{bad:?}");
        }
    }
}
