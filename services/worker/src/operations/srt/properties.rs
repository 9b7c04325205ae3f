//! What holds for any bytes at all; the fuzz target holds the same.

use photofinish_contract::request::CaptionStyle;
use proptest::prelude::*;

use super::super::ass::{self, Page};
use super::super::fonts::Fonts;
use super::*;

/// Bytes that look like captions more often than chance has them.
fn captions() -> impl Strategy<Value = Vec<u8>> {
    let pieces = prop_oneof![
        Just("00:00:01,000 --> 00:00:02,000\n".to_owned()),
        Just("99:59:59,999 --> 999999999:00:00\n".to_owned()),
        Just("-00:00:01:5->00:00:01,2 X1:0\r\n".to_owned()),
        Just("\n\n12\n".to_owned()),
        Just("WEBVTT\n\n".to_owned()),
        Just("<b><font color=#f00>{\\an8}&#x7d;&nbsp;\\N{".to_owned()),
        "\\PC{0,20}\n",
        "[0-9:,.<>{}\\\\/&;# -]{0,20}",
    ];
    let text = proptest::collection::vec(pieces, 0..30).prop_map(|pieces| pieces.concat());
    prop_oneof![
        8 => text.clone().prop_map(String::into_bytes),
        1 => text.prop_map(|text| text.encode_utf16().flat_map(u16::to_le_bytes).collect()),
        1 => proptest::collection::vec(any::<u8>(), 0..200),
    ]
}

/// Every property, also the fuzz target's.
fn holds(bytes: &[u8]) {
    let Ok(cues) = parse(bytes) else { return };
    assert!(cues.len() <= CUES_MAX);
    assert!(cues.is_sorted_by_key(|cue| cue.from));
    for cue in &cues {
        assert!(cue.from < cue.to && cue.to <= TIME_MAX);
        assert!(cue.place.is_none_or(|place| (1..=9).contains(&place)));
        let spans = cue.lines.iter().flatten();
        let chars = spans.flat_map(|span| span.text.chars());
        assert!(!chars.clone().any(char::is_control));
        assert!((1..=2000).contains(&chars.count()));
        let shown = |other: &&Cue| other.from <= cue.from && other.to > cue.from;
        assert!(cues.iter().filter(shown).count() <= CUES_AT_ONCE_MAX);
    }
    let fonts = Fonts::parse("True\tFalse\tNoto Sans\t\t\t20-10ffff\n");
    let page = Page {
        width: 128,
        height: 72,
        fonts: &fonts,
    };
    let file = ass::file(&cues, &CaptionStyle::default(), page);
    let (head, events) = file.split_once("[Events]\n").unwrap();
    let events: Vec<&str> = events.lines().skip(1).collect();
    assert_eq!(events.len(), cues.len());
    assert!(events.iter().all(|line| line.starts_with("Dialogue: 0,")));
    assert!(!head.contains("Dialogue"));
    assert!(!file.chars().any(|c| c.is_control() && c != '\n'));
    // The only commands are ours.
    let ours = ["{\\an", "{\\b0", "{\\b1", "{\\fscx0} {\\fscx}"];
    for (at, _) in file.match_indices('{') {
        let escaped = file[..at].ends_with('\\');
        assert!(
            escaped || file[..at].ends_with("} ") || ours.iter().any(|c| file[at..].starts_with(c))
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_give_ordered_bounded_cues_and_one_event_each(bytes in captions()) {
        holds(&bytes);
    }
}
