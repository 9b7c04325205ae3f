use super::super::srt;
use super::*;

fn fonts() -> Fonts {
    Fonts::parse(
        "True\tFalse\tNoto Sans\tNoto Sans\tNotoSans\t20-7e a0-17f 3000-9fff e01-e5b 2060 2764\n",
    )
}

fn made(srt: &str, style: &CaptionStyle) -> String {
    let fonts = fonts();
    let page = Page {
        width: 1920,
        height: 1080,
        fonts: &fonts,
    };
    file(&srt::parse(srt.as_bytes()).unwrap(), style, page)
}

fn event(text: &str) -> String {
    let out = made(
        &format!("1\n00:00:01,000 --> 00:00:02,500\n{text}\n"),
        &CaptionStyle::default(),
    );
    let event = out.lines().last().unwrap();
    let text = event.strip_prefix("Dialogue: 0,0:00:01.00,0:00:02.50,Default,,0,0,0,,");
    text.unwrap().to_owned()
}

#[test]
fn text_is_never_a_command() {
    assert_eq!(
        event("a {pos(0,0)} b\\N c \\{ d, e"),
        "a \\{pos(0,0)\\} b\\\u{2060}N c \\\u{2060}\\{ d, e"
    );
    assert_eq!(
        event("{\\an8\\pos(1,1)}<b>x</b>&#10;y&#123;\\b1}"),
        "{\\an8}{\\b1\\i0\\u0\\s0}x\\N{\\b0\\i0\\u0\\s0}y\\{\\\u{2060}b1\\}"
    );
}

#[test]
fn colours_and_looks_come_and_go() {
    assert_eq!(
        event("<font color=\"#ffcc00\">x<i>y</i></font>z"),
        "{\\b0\\i0\\u0\\s0\\c&H00CCFF&}x{\\b0\\i1\\u0\\s0}y{\\b0\\i0\\u0\\s0\\c}z"
    );
}

#[test]
fn styles_stay_in_their_fields() {
    let style = CaptionStyle {
        font: Some("Evil,12\nDialogue: x".to_owned()),
        color: Some("#11223380".to_owned()),
        background: Some("not a colour".to_owned()),
        bold: Some(true),
        position: Some(Position::TopRight),
        uppercase: Some(true),
        ..CaptionStyle::default()
    };
    let out = made("00:01 --> 00:02\nhi <i>there</i> straße\n", &style);
    let line = out.lines().find(|line| line.starts_with("Style:")).unwrap();
    assert_eq!(line.split(',').count(), 23, "{line}");
    assert!(
        line.starts_with("Style: Default,Noto Sans,54.00,&H7F332211,"),
        "{line}"
    );
    let events = out.lines().filter(|line| line.starts_with("Dialogue:"));
    assert_eq!(events.count(), 1);
    assert!(
        out.contains("HI {\\b1\\i1\\u0\\s0}THERE{\\b1\\i0\\u0\\s0} STRASSE"),
        "{out}"
    );
}

#[test]
fn lines_without_spaces_may_end_between_words_and_short_ones_stay_whole() {
    assert!(!event("今日は良い天気ですね。").contains("fscx"));
    let long = "今日はとても良い天気ですね。「明日も」".repeat(4);
    let text = event(&long);
    assert!(text.contains("今{\\fscx0} {\\fscx}日"), "{text}");
    // Nothing begins a line that must not.
    assert!(!text.contains("{\\fscx}。") && !text.contains("{\\fscx}」"));
    assert_eq!(text.replace(BREAK, ""), long);
    let thai = event(&"สวัสดีชาวโลกวันนี้อากาศดีมาก".repeat(4));
    assert!(thai.contains("สวัสดี{\\fscx0} {\\fscx}ชาว"), "{thai}");
    let word = event(&"x".repeat(200));
    assert_eq!(word.matches(BREAK).count(), 199);
    let words = event(&"word ".repeat(100));
    assert!(!words.contains("fscx"));
}

#[test]
fn brackets_are_pairs_where_two_directions_meet() {
    // As Unicode's rule N0 has it; L and R stand for the marks.
    let cases = [
        ("אב (MP4)! 50%", "אב R(RMP4R)R! 50%"),
        ("(אב: ab) 20 ג", "R(Rאב: abR)R 20 ג"),
        ("ab (אב) 5 cd", "ab L(LאבL)L 5 cd"),
        ("אב ab (20) ג", "אב ab L(L20L)L ג"),
        ("אב {[ab] ג}", "אב R\\{RR[RabR]R גR\\}R"),
        ("אב (!) ab) (", "אב (!) ab) ("),
        ("ab (cd) 5", "ab (cd) 5"),
        ("אב (ג) 5", "אב (ג) 5"),
    ];
    let fonts = Fonts::parse("True\tFalse\tNoto Sans\t\t\t20-7e 5d0-5ea\n");
    let page = Page {
        width: 1920,
        height: 1080,
        fonts: &fonts,
    };
    for (text, wanted) in cases {
        let cues = srt::parse(format!("00:01 --> 00:02\n{text}").as_bytes()).unwrap();
        let out = file(&cues, &CaptionStyle::default(), page);
        let text = out.lines().last().unwrap().rsplit(",,").next().unwrap();
        let shown = text.replace('\u{200e}', "L").replace('\u{200f}', "R");
        assert_eq!(shown, wanted);
    }
}

#[test]
fn the_model_of_words_is_asked_only_so_much() {
    let wrapper = wrap::Wrapper::new(1000.0, 50.0);
    let words = "สวัสดีชาวโลก".repeat(4);
    assert!(!wrapper.breaks(&words).is_empty());
    assert!(wrapper.breaks(&"ก".repeat(100_000)).is_empty());
    assert!(!wrapper.breaks(&words).is_empty());
}

#[test]
fn letters_that_cannot_be_drawn_are_named_and_symbols_left_out() {
    let fonts = fonts();
    let cues = srt::parse("00:01 --> 00:02\naб😀\u{2764}\u{fe0f}в б\u{301}".as_bytes()).unwrap();
    assert_eq!(missing(&cues, &fonts), ['б', 'в']);
    assert_eq!(
        event("ok \u{2764}\u{fe0f} 👍🏽 👩\u{200d}👧 \u{200f}.\u{202a}"),
        "ok \u{2764}  \u{200d} \u{200f}.\u{202a}"
    );
}
