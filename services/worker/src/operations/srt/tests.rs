use super::*;

fn texts_of(cues: &[Cue]) -> Vec<String> {
    let line = |line: &Vec<Span>| line.iter().map(|span| span.text.as_str()).collect();
    let text = |cue: &Cue| {
        cue.lines
            .iter()
            .map(line)
            .collect::<Vec<String>>()
            .join("|")
    };
    cues.iter().map(text).collect()
}

fn texts(bytes: impl AsRef<[u8]>) -> Vec<String> {
    texts_of(&parse(bytes.as_ref()).unwrap())
}

fn times(srt: &str) -> Vec<(u128, u128)> {
    let cues = parse(srt.as_bytes()).unwrap();
    let millis = |cue: &Cue| (cue.from.as_millis(), cue.to.as_millis());
    cues.iter().map(millis).collect()
}

const PLAIN: &str =
    "1\n00:00:01,000 --> 00:00:02,000\nolá\n\n2\n00:00:03,000 --> 00:00:04,000\nação\n";

fn utf16(text: &str, mark: bool, big: bool) -> Vec<u8> {
    let units = mark
        .then_some(0xFEFF)
        .into_iter()
        .chain(text.encode_utf16());
    let bytes = |unit: u16| {
        if big {
            unit.to_be_bytes()
        } else {
            unit.to_le_bytes()
        }
    };
    units.flat_map(bytes).collect()
}

#[test]
fn every_encoding_and_line_end_reads_the_same() {
    let windows = encoding_rs::WINDOWS_1252.encode(PLAIN).0.into_owned();
    let zoo = [
        PLAIN.as_bytes().to_vec(),
        format!("\u{feff}{PLAIN}").into_bytes(),
        PLAIN.replace('\n', "\r\n").into_bytes(),
        PLAIN.replace('\n', "\r").into_bytes(),
        PLAIN.replace('\n', "\r\r\n").into_bytes(),
        PLAIN.replace('\n', "\u{2028}").into_bytes(),
        windows,
        utf16(PLAIN, true, false),
        utf16(PLAIN, true, true),
        utf16(PLAIN, false, false),
        utf16(PLAIN, false, true),
        format!("{PLAIN}\0\0").into_bytes(),
        PLAIN.trim_end().as_bytes().to_vec(),
        PLAIN
            .replace("1\n00", "00")
            .replace("\n2\n", "\n")
            .into_bytes(),
        PLAIN.replace("\n2\n", "2\n").into_bytes(),
        PLAIN.replace("2\n00", "2\n\n00").into_bytes(),
        PLAIN.replace("2\n00", "2 00").into_bytes(),
        PLAIN.replace("olá\n", "\nolá\n\n").into_bytes(),
        PLAIN.replace("02,000", "02,000 X1:10 X2:20").into_bytes(),
    ];
    for (n, bytes) in zoo.iter().enumerate() {
        assert_eq!(texts(bytes), ["olá", "ação"], "variant {n}");
    }
}

#[test]
fn old_encodings_are_recognised_by_their_letters() {
    use encoding_rs::{BIG5, EUC_KR, GBK, SHIFT_JIS, WINDOWS_1250, WINDOWS_1251};
    use encoding_rs::{WINDOWS_874, WINDOWS_1252, WINDOWS_1254, WINDOWS_1255, WINDOWS_1256};
    let zoo = [
        (WINDOWS_1252, "Où êtes-vous allé ? C’est déjà l’été…"),
        (WINDOWS_1251, "Привет, как дела? Я сегодня не приду."),
        (WINDOWS_1250, "Cześć, jak się masz? Źle śpię, łóżko"),
        (WINDOWS_1254, "Merhaba, nasılsın? Şimdi geliyorum, güneş"),
        (WINDOWS_1255, "שלום עולם, מה שלומך היום?"),
        (WINDOWS_1256, "مرحبا بالعالم كيف حالك اليوم"),
        (WINDOWS_874, "สวัสดีชาวโลก วันนี้อากาศดีมาก"),
        (
            SHIFT_JIS,
            "今日はとても良い天気ですね。明日も晴れるといいな。それでは、また会いましょう。",
        ),
        (GBK, "你好,今天天气很好,我们去公园吧。"),
        (BIG5, "你好,今天天氣很好,我們去公園吧。"),
        (EUC_KR, "안녕하세요 오늘 날씨가 좋네요"),
    ];
    for (encoding, text) in zoo {
        let srt = format!("1\r\n00:00:01,000 --> 00:00:02,000\r\n{text}\r\n");
        let (bytes, _, lost) = encoding.encode(&srt);
        assert!(!lost);
        assert_eq!(texts(&bytes), [text], "{}", encoding.name());
    }
    // UTF-8 with a byte lost stays UTF-8.
    let mut bytes = PLAIN
        .replace("olá", "olá ação é à õ ü í ó ú ê â")
        .into_bytes();
    bytes.pop();
    bytes.push(0xC3);
    assert_eq!(texts(&bytes)[1], "ação");
}

#[test]
fn a_few_words_of_western_europe_keep_their_accents() {
    // Each one that the detector alone takes for another language.
    let words = [
        "É você?|Até amanhã.|Você está aí?|Três anos atrás|Não!|EDIÇÃO|“Não” – já…",
        "¡NO!|¡Hola!|¿Qué?|Mañana|« Oui »|Où ?|Sì|Così|Über|größer|Tschüß",
    ];
    for word in words.iter().flat_map(|words| words.split('|')) {
        let srt = format!("1\r\n00:00:01,000 --> 00:00:02,000\r\n{word}\r\n");
        let (bytes, _, lost) = encoding_rs::WINDOWS_1252.encode(&srt);
        assert!(!lost);
        assert_eq!(texts(&bytes), [word]);
    }
}

#[test]
fn numbers_that_are_text_stay() {
    let srt = "1\n00:00:01,000 --> 00:00:02,000\n1984\n\n2\n00:00:03,000 --> 00:00:04,000\na\n\nb\n\n3\n00:00:05,000 --> 00:00:06,000\n42";
    assert_eq!(texts(srt), ["1984", "a|b", "42"]);
    let bare = "00:00:01,000 --> 00:00:02,000\n1984\n00:00:03,000 --> 00:00:04,000\n42\n\n00:00:05,000 --> 00:00:06,000\nx";
    assert_eq!(texts(bare), ["1984", "42", "x"]);
    let wrong = "7\n00:00:01,000 --> 00:00:02,000\na\n3\n00:00:03,000 --> 00:00:04,000\nb\n3\n00:00:05,000 --> 00:00:06,000\nc";
    assert_eq!(texts(wrong), ["a", "b", "c"]);
}

#[test]
fn times_are_read_as_people_and_machines_write_them() {
    let same = [
        "00:00:01,500 --> 00:00:02,250",
        "00:00:01.500 --> 00:00:02.250",
        "00:00:01,500-->00:00:02,250",
        "0:0:1,5 --> 0:0:2,25",
        "00:01.5 --> 00:02.25",
        "00:00:01:500 --> 00:00:02:250",
        "00: 00: 01, 500 -> 00: 00: 02, 250",
        "00:00:01,500 - > 00:00:02,250",
        "00:00:01,500 → 00:00:02,250",
        "00:00:01,500 –> 00:00:02,250",
        "00:00:01,500 --&gt; 00:00:02,250",
        "00：00：01，500 --> 00：00：02，250",
        "1 00:00:01,500 --> 00:00:02,250",
        "00:00:01.500000 --> 00:00:02.2500 line:90% position:50%",
    ];
    for line in same {
        assert_eq!(times(&format!("{line}\nx")), [(1500, 2250)], "{line}");
    }
    assert_eq!(times("-00:00:01,000 --> 00:00:02,000\nx"), [(0, 2000)]);
    assert_eq!(
        times("10:00:00,000 --> 999999999:00:00,000\nx"),
        [(36_000_000, 360_000_000)]
    );
    // Said by somebody, not times.
    for line in ["10:30 -> 11:15", "x --> y", "--> 00:01"] {
        let srt = format!("00:00:01,000 --> 00:00:02,000\n{line} and so on");
        assert!(parse(srt.as_bytes()).unwrap().len() == 1, "{line}");
    }
}

#[test]
fn a_broken_time_line_takes_its_text_with_it() {
    let srt = "1\n00:00:01,000 --> 00:00:02,000\na\n\n2\n00:00:0x,000 --> 00:00:04,000\nlost\n\n3\n200:00:00,000 --> 200:00:01,000\nlate\n\n4\n00:00:05,000 --> 00:00:06,000\nb";
    assert_eq!(texts(srt), ["a", "b"]);
}

#[test]
fn cues_are_put_in_order_and_made_to_follow_each_other() {
    let srt = "00:00:05,000 --> 00:00:06,000\nc\n\n00:00:01,000 --> 00:00:03,100\na\n\n00:00:03,000 --> 00:00:05,500\nb\n\n00:00:05,000 --> 00:00:06,000\nc\n";
    // A short overlap goes, a long one stays, a double is one.
    assert_eq!(times(srt), [(1000, 3000), (3000, 5500), (5000, 6000)]);
    assert_eq!(texts(srt), ["a", "b", "c"]);
    let elsewhere = "00:00:01,000 --> 00:00:03,100\na\n\n00:00:03,000 --> 00:00:05,000\n{\\an8}b\n";
    assert_eq!(times(elsewhere), [(1000, 3100), (3000, 5000)]);
    let cue = |n: u32| format!("00:00:00,{n:03} --> 00:01:00,000\nno {n}\n\n");
    let many: String = (0..100).map(cue).collect();
    assert_eq!(parse(many.as_bytes()).unwrap().len(), CUES_AT_ONCE_MAX);
}

#[test]
fn cues_that_show_nothing_are_left_out() {
    let srt = "00:00:02,000 --> 00:00:01,000\nback\n\n00:00:01,000 --> 00:00:01,000\nzero\n\n00:00:01,000 --> 00:00:02,000\n<b></b> &nbsp;\n\n00:00:03,000 --> 00:00:04,000\nshown";
    assert_eq!(texts(srt), ["shown"]);
}

#[test]
fn tags_and_blocks_have_their_effect_or_vanish_and_the_rest_is_text() {
    let srt = "00:00:01,0 --> 00:00:02,50\n{\\an8}a <b>b <I>c</I></b><font color=\"red\" size=20>d<FONT COLOR=#0F0>e</font>f</font>\n1 < 2 <x> {curly} C:\\News {\\pos(1,2)\\i1}g{\\i0}<s>h</s><br/>j<00:00:01.500>k";
    let cues = parse(srt.as_bytes()).unwrap();
    let cue = &cues[0];
    assert_eq!((cue.place, cue.to), (Some(8), Duration::from_millis(2500)));
    assert_eq!(
        texts_of(&cues),
        ["a b cdef|1 < 2 <x> {curly} C:\\News gh|jk"]
    );
    let look = |text: &str| {
        let mut spans = cue.lines.iter().flatten();
        spans.find(|span| span.text == text).unwrap().look
    };
    assert!(look("b ").bold && !look("b ").italic && look("c").bold && look("c").italic);
    let colors = ["d", "e", "f", "a "].map(|text| look(text).color);
    assert_eq!(
        colors,
        [
            Some([255, 0, 0]),
            Some([0, 255, 0]),
            Some([255, 0, 0]),
            None
        ]
    );
    assert!(look("g").italic && look("h").struck && !look("h").italic);
}

#[test]
fn entities_are_characters_and_never_tags() {
    let srt = "00:01 --> 00:02\n&lt;b&gt; Tom &amp; Jerry&#39;s&nbsp;caf&eacute; &#x1F600; R&D; &unknown; AT&T &amp;lt;";
    assert_eq!(
        texts(srt),
        ["<b> Tom & Jerry's\u{a0}café 😀 R&D; &unknown; AT&T &lt;"]
    );
    let unseen = "00:01 --> 00:02\nso\u{ad}ft\u{200b}\u{feff}\tx\u{7}&#0;&#27;\u{fffd}y\u{200f}";
    assert_eq!(texts(unseen), ["soft xy\u{200f}"]);
}

#[test]
fn webvtt_reads_too() {
    let vtt = "WEBVTT - made by x\nKind: captions\n\nSTYLE\n::cue { color: red }\n\nNOTE\nnot shown\n\nintro\n00:01.000 --> 00:02.000 align:start position:0%\n<v Mary><c.yellow>hi</c> <i.loud>there</i>\n\nNOTE hidden\n\n2\n00:00:03.000 --> 00:00:04.000\nbye\n";
    assert_eq!(texts(vtt), ["hi there", "bye"]);
    let cues = parse(vtt.as_bytes()).unwrap();
    assert_eq!(cues[0].lines[0][0].look.color, Some([255, 255, 0]));
}

#[test]
fn what_is_no_srt_is_refused() {
    for bytes in [
        &b""[..],
        b"hello",
        b"ffconcat version 1.0\nfile x.srt",
        b"#EXTM3U\n#EXTINF:2,\nfile:///etc/passwd\n",
        b"1\n00:00 -> 00:01\nx",
        b"[Script Info]\nDialogue: 0,0:00:01.00,0:00:02.00,Default,,0,0,0,,x",
    ] {
        assert_eq!(parse(bytes), Err(SrtError::NoCues));
    }
    assert_eq!(
        parse(&[0x89, b'P', 0, 0, 0, 1, 2, 0, 3, 4, 0, 5]),
        Err(SrtError::NotText)
    );
    let many = "00:00:01,000 --> 00:00:02,000\nx\n\n".repeat(CUES_MAX + 1);
    assert_eq!(parse(many.as_bytes()), Err(SrtError::TooMany));
}
