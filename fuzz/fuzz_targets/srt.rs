//! Any bytes as a caption file: parsed, then written as the file that libass draws. The same
//! properties stand in the worker's suite (`operations::srt::properties`), for fewer bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use photofinish_contract::request::CaptionStyle;
use photofinish_worker::operations::ass::{self, Page};
use photofinish_worker::operations::fonts::Fonts;
use photofinish_worker::operations::srt::{self, CUES_MAX, TIME_MAX};

fuzz_target!(|bytes: &[u8]| {
    let Ok(cues) = srt::parse(bytes) else { return };
    assert!(cues.len() <= CUES_MAX && cues.is_sorted_by_key(|cue| cue.from));
    for cue in &cues {
        assert!(cue.from < cue.to && cue.to <= TIME_MAX);
        let spans = cue.lines.iter().flatten();
        assert!(spans.clone().count() > 0);
        assert!(
            !spans
                .flat_map(|span| span.text.chars())
                .any(char::is_control)
        );
    }
    let fonts = Fonts::parse("True\tFalse\tNoto Sans\t\t\t20-10ffff\n");
    let page = Page {
        width: 128,
        height: 72,
        fonts: &fonts,
    };
    let style = CaptionStyle {
        uppercase: Some(bytes.len() % 2 == 0),
        ..CaptionStyle::default()
    };
    let file = ass::file(&cues, &style, page);
    let dialogues = file.lines().filter(|line| line.starts_with("Dialogue: 0,"));
    assert_eq!(dialogues.count(), cues.len());
    assert!(!file.chars().any(|c| c.is_control() && c != '\n'));
    let lines = file
        .split_once("[Events]\n")
        .map_or(0, |(_, events)| events.lines().count());
    assert_eq!(lines, cues.len() + 1);
});
