use super::*;

fn texts(bytes: &[u8]) -> Vec<String> {
    parse(bytes)
        .unwrap()
        .iter()
        .map(|cue| {
            let line = |line: &Vec<Span>| line.iter().map(|span| span.text.as_str()).collect();
            cue.lines
                .iter()
                .map(line)
                .collect::<Vec<String>>()
                .join("|")
        })
        .collect()
}

const PLAIN: &str =
    "1\n00:00:01,000 --> 00:00:02,000\nolá\n\n2\n00:00:03,000 --> 00:00:04,000\nação\n";

fn utf16(text: &str, mark: bool, big: bool) -> Vec<u8> {
    let units = mark
        .then_some(0xFEFF)
        .into_iter()
        .chain(text.encode_utf16());
    units
        .flat_map(|unit| {
            if big {
                unit.to_be_bytes()
            } else {
                unit.to_le_bytes()
            }
        })
        .collect()
}

#[test]
fn every_encoding_and_line_end_reads_the_same() {
    let windows: Vec<u8> = PLAIN
        .chars()
        .map(|c| u8::try_from(u32::from(c)).unwrap())
        .collect();
    let zoo = [
        PLAIN.as_bytes().to_vec(),
        format!("\u{feff}{PLAIN}").into_bytes(),
        PLAIN.replace('\n', "\r\n").into_bytes(),
        PLAIN.replace('\n', "\r").into_bytes(),
        windows,
        utf16(PLAIN, true, false),
        utf16(PLAIN, true, true),
        utf16(PLAIN, false, false),
        utf16(PLAIN, false, true),
        PLAIN.trim_end().as_bytes().to_vec(),
        PLAIN
            .replace("1\n00", "00")
            .replace("\n2\n", "\n")
            .into_bytes(),
        PLAIN.replace(',', ".").into_bytes(),
        PLAIN.replace("02,000", "02,000 X1:10 X2:20").into_bytes(),
        format!("WEBVTT\n\n{PLAIN}").into_bytes(),
    ];
    for (n, bytes) in zoo.iter().enumerate() {
        assert_eq!(texts(bytes), ["olá", "ação"], "variant {n}");
    }
}

#[test]
fn numbers_that_are_text_stay() {
    let srt = "1\n00:00:01,000 --> 00:00:02,000\n1984\n\n2\n00:00:03,000 --> 00:00:04,000\na\n\nb\n\n3\n00:00:05,000 --> 00:00:06,000\n42";
    assert_eq!(texts(srt.as_bytes()), ["1984", "a|b", "42"]);
}

#[test]
fn tags_style_and_unknown_ones_are_text() {
    let cues = parse(
        "00:00:01,0 --> 00:00:02,50\n{\\an8}a <b>b <i>c</i></b><font color=\"red\">d</font>\n1 < 2 <x>"
            .as_bytes(),
    )
    .unwrap();
    let cue = &cues[0];
    assert_eq!((cue.place, cue.to), (Some(8), Duration::from_millis(2500)));
    let first = &cue.lines[0];
    assert_eq!(first[0].text, "a ");
    assert!(first[1].bold && !first[1].italic && first[2].bold && first[2].italic);
    assert!(
        first
            .last()
            .is_some_and(|span| span.text == "d" && !span.bold)
    );
    assert_eq!(cue.lines[1][0].text, "1 < 2 <x>");
}

#[test]
fn what_is_no_srt_is_refused() {
    for bytes in [
        &b""[..],
        b"hello",
        b"ffconcat version 1.0\nfile x.srt",
        b"1\n00:00 -> 00:01\nx",
    ] {
        assert_eq!(parse(bytes), Err(SrtError::NoCues));
    }
    assert_eq!(
        parse(&[0x89, b'P', 0, 0, 0, 1, 2, 0, 3, 4, 0, 0]),
        Err(SrtError::NotText)
    );
    let many = "00:00:01,000 --> 00:00:02,000\nx\n\n".repeat(CUES_MAX + 1);
    assert_eq!(parse(many.as_bytes()), Err(SrtError::TooMany));
}

#[test]
fn cues_that_show_nothing_are_left_out() {
    let srt = "00:00:02,000 --> 00:00:01,000\nback\n\n00:00:01,000 --> 00:00:02,000\n<b></b>\n\n00:00:03,000 --> 00:00:04,000\nshown";
    assert_eq!(texts(srt.as_bytes()), ["shown"]);
}
