//! What captions look like: ink where it must be, none elsewhere, in every script.

use std::ops::Range;
use std::path::Path;

use photofinish_contract::request::{CaptionStyle, Position};
use photofinish_kit::SAMPLES;
use photofinish_model::Code;
use photofinish_worker::error::Halt;
use photofinish_worker::operations::Made;
use photofinish_worker::operations::ass::{self, Page};
use photofinish_worker::operations::caption::{CaptionJob, caption};
use photofinish_worker::operations::fonts::Fonts;
use photofinish_worker::operations::inputs::Inputs;
use photofinish_worker::operations::progress::Progress;
use photofinish_worker::operations::srt;
use photofinish_worker::operations::video::Desk;
use tokio_util::sync::CancellationToken;

use crate::support::{Server, ffmpeg, studio};

/// A difference of luma that is ink and not the encoder's noise.
const INK: u8 = 40;

/// Burns captions into a video; the result is `out.mp4` in the directory.
pub(crate) async fn burn(
    dir: &Path,
    video: &[u8],
    captions: &[u8],
    style: &CaptionStyle,
) -> Result<Made, Halt> {
    let (server, studio, stop) = (Server::start().await, studio(), CancellationToken::new());
    let desk = Desk {
        studio: &studio,
        inputs: &Inputs::default(),
        dir,
        stop: &stop,
        progress: &Progress::default(),
    };
    let job = CaptionJob {
        url_video: &server.put("v", video.to_vec()),
        url_srt: &server.put("s", captions.to_vec()),
        style,
    };
    Box::pin(caption(desk, job, &dir.join("out.mp4"))).await
}

/// A grey video of two frames a second.
fn grey(dir: &Path, (width, height): (usize, usize), seconds: usize) -> Vec<u8> {
    ffmpeg(
        dir,
        &format!(
            "-f lavfi -i color=gray:s={width}x{height}:r=2:d={seconds} -c:v libx264 -preset ultrafast \
             -pix_fmt yuv420p grey.mp4"
        ),
    );
    std::fs::read(dir.join("grey.mp4")).unwrap()
}

/// One cue a second, each with its text.
fn one_a_second(texts: &[&str]) -> String {
    let cue = |(n, text): (usize, &&str)| {
        format!("00:00:{n:02},000 --> 00:00:{:02},000\n{text}\n\n", n + 1)
    };
    texts.iter().enumerate().map(cue).collect()
}

/// Where ink is in a frame.
#[derive(Clone, PartialEq)]
pub(crate) struct Ink {
    width: usize,
    height: usize,
    dark: Vec<bool>,
}

impl Ink {
    fn count(&self, columns: Range<usize>, rows: Range<usize>) -> usize {
        let row = |y: usize| &self.dark[y * self.width..][columns.clone()];
        rows.map(|y| row(y).iter().filter(|dark| **dark).count())
            .sum()
    }

    pub(crate) fn all(&self) -> usize {
        self.count(0..self.width, 0..self.height)
    }

    /// Left, right, top and bottom of the ink.
    pub(crate) fn bounds(&self) -> (Range<usize>, Range<usize>) {
        let columns: Vec<usize> = (0..self.width)
            .filter(|&x| self.count(x..x + 1, 0..self.height) > 0)
            .collect();
        let rows: Vec<usize> = (0..self.height)
            .filter(|&y| self.count(0..self.width, y..y + 1) > 0)
            .collect();
        let range = |v: &[usize]| v.first().map_or(0..0, |first| *first..v[v.len() - 1] + 1);
        (range(&columns), range(&rows))
    }

    /// Rows of ink of the part that stands apart at the left, or at the right.
    fn outermost(&self, left: bool) -> Range<usize> {
        let (columns, _) = self.bounds();
        let has = |x: &usize| self.count(*x..*x + 1, 0..self.height) > 0;
        let part: Vec<usize> = if left {
            columns.take_while(has).collect()
        } else {
            columns.rev().take_while(has).collect()
        };
        let (low, high) = (part.iter().min().unwrap(), part.iter().max().unwrap());
        let rows: Vec<usize> = (0..self.height)
            .filter(|&y| self.count(*low..high + 1, y..y + 1) > 0)
            .collect();
        rows[0]..rows[rows.len() - 1] + 1
    }
}

/// The ink of each frame of a video against plain grey.
pub(crate) fn inks(dir: &Path, file: &str, (width, height): (usize, usize)) -> Vec<Ink> {
    let luma = ffmpeg(
        dir,
        &format!("-i {file} -map 0:v -f rawvideo -pix_fmt gray -"),
    );
    let frames = luma.chunks_exact(width * height);
    let ink = |frame: &[u8]| Ink {
        width,
        height,
        dark: frame.iter().map(|luma| luma.abs_diff(126) > INK).collect(),
    };
    frames.map(ink).collect()
}

/// The ink of each text, drawn in its own second.
async fn drawn(texts: &[&str], style: &CaptionStyle, size: (usize, usize)) -> Vec<Ink> {
    let dir = tempfile::tempdir().unwrap();
    let video = grey(dir.path(), size, texts.len());
    let srt = one_a_second(texts);
    burn(dir.path(), &video, srt.as_bytes(), style)
        .await
        .unwrap();
    let inks = inks(dir.path(), "out.mp4", size);
    assert_eq!(inks.len(), 2 * texts.len());
    inks.into_iter().skip(1).step_by(2).collect()
}

pub(crate) fn large() -> CaptionStyle {
    CaptionStyle {
        size: Some(10.0),
        ..CaptionStyle::default()
    }
}

const SIZE: (usize, usize) = (640, 360);

#[tokio::test]
async fn six_scripts_are_drawn_where_they_belong_and_not_as_boxes() {
    let texts = SAMPLES.map(|(_, text)| text);
    let drawn = drawn(&texts, &large(), SIZE).await;
    // The same number of boxes, drawn by a file that claims that there is a font for them.
    let dir = tempfile::tempdir().unwrap();
    let fonts = Fonts::parse("True\tFalse\tNoto Sans\t\t\t20-10ffff\n");
    let boxes = texts.map(|text| "\u{2fe0}".repeat(text.chars().filter(|c| *c != ' ').count()));
    let boxes: Vec<&str> = boxes.iter().map(String::as_str).collect();
    let cues = srt::parse(one_a_second(&boxes).as_bytes()).unwrap();
    let page = Page {
        width: 640,
        height: 360,
        fonts: &fonts,
    };
    std::fs::write(
        dir.path().join("boxes.ass"),
        ass::file(&cues, &large(), page),
    )
    .unwrap();
    grey(dir.path(), SIZE, texts.len());
    ffmpeg(
        dir.path(),
        "-i grey.mp4 -vf ass=boxes.ass -preset ultrafast boxes.mp4",
    );
    let boxes = inks(dir.path(), "boxes.mp4", SIZE);
    for (n, (script, _)) in SAMPLES.iter().enumerate() {
        let (ink, boxes) = (&drawn[n], &boxes[2 * n + 1]);
        let (columns, rows) = ink.bounds();
        assert!(ink.all() > 2000, "{script}: {}", ink.all());
        assert!(rows.start > 250 && rows.end <= 350, "{script}: {rows:?}");
        assert!(
            columns.start > 30 && columns.end < 610,
            "{script}: {columns:?}"
        );
        assert!(
            columns.start.abs_diff(640 - columns.end) < 20,
            "{script}: {columns:?}"
        );
        assert!(boxes.all() > 2000, "boxes: {}", boxes.all());
        let apart = ink
            .dark
            .iter()
            .zip(&boxes.dark)
            .filter(|(a, b)| a != b)
            .count();
        assert!(
            apart > ink.all() / 4,
            "{script} looks like boxes: {apart} of {}",
            ink.all()
        );
    }
}

#[tokio::test]
async fn letters_join_and_marks_stand_as_their_script_has_it() {
    // With a joiner that forbids it between them they do not: shaping is at work.
    let pairs = [
        ("سلام", "س\u{200c}ل\u{200c}ا\u{200c}م"),
        ("क्ष", "क\u{94d}\u{200c}ष"),
    ];
    for (joined, apart) in pairs {
        let ink = drawn(&[joined, apart], &large(), SIZE).await;
        let widths = ink
            .iter()
            .map(|ink| ink.bounds().0.len())
            .collect::<Vec<_>>();
        assert!(widths[1] > widths[0] + 3, "{joined}: {widths:?}");
    }
    // Thai marks stand above their letters and take no room of their own.
    let thai = drawn(&["กก", "ก\u{e34}ก\u{e49}"], &large(), SIZE).await;
    let [(plain, low), (marked, high)] = [0, 1].map(|n| thai[n].bounds());
    assert!(
        plain.len().abs_diff(marked.len()) < 4,
        "{plain:?} {marked:?}"
    );
    assert!(high.len() > low.len() + 3, "{low:?} {high:?}");
}

#[tokio::test]
async fn a_line_ends_where_its_script_ends_it() {
    let texts = ["Hello friend.", "שלום עולם.", "مرحبا بك.", "זה MP4 חדש."];
    let style = CaptionStyle {
        size: Some(15.0),
        // Without one the full stop stands apart.
        outline_width: Some(0.0),
        ..CaptionStyle::default()
    };
    let inks = drawn(&texts, &style, SIZE).await;
    for (text, ink) in texts.iter().zip(&inks) {
        let (_, rows) = ink.bounds();
        let stop = |left| {
            let part = ink.outermost(left);
            part.len() * 2 < rows.len() && part.start > rows.start + rows.len() / 3
        };
        let leftwards = !text.starts_with('H');
        assert!(stop(leftwards) && !stop(!leftwards), "{text}");
    }
}

#[tokio::test]
async fn long_lines_end_within_the_frame() {
    let texts = [
        "今日はとても良い天気ですね。明日も晴れるといいなと思っています、そして明後日も同じように晴れてほしい。",
        "สวัสดีชาวโลกวันนี้อากาศดีมากและฉันหวังว่าพรุ่งนี้จะดีเช่นกันเพราะเราจะไปเที่ยวทะเลด้วยกันและวันนี้อากาศดีมากพรุ่งนี้จะดีเช่นกัน",
        "https://example.com/averyveryverylongaddresswithoutanyspacesinitatallwhichgoesonandon",
        "A line of many words that is longer than any picture of this width could ever hold in one row",
        "هذا سطر طويل جدا من الكلمات العربية التي لا يمكن أن تكون في صف واحد من الصورة أبدا",
    ];
    for size in [(640, 360), (180, 320), (128, 72)] {
        let style = CaptionStyle {
            size: Some(if size.0 > size.1 { 10.0 } else { 5.0 }),
            ..CaptionStyle::default()
        };
        let inks = drawn(&texts, &style, size).await;
        for (text, ink) in texts.iter().zip(&inks) {
            let (columns, rows) = ink.bounds();
            let room = size.0 / 50;
            assert!(
                columns.start >= room && columns.end <= size.0 - room,
                "{size:?} {text}: {columns:?}"
            );
            let one = style.size.unwrap() / 100.0 * size.1 as f64;
            assert!(rows.len() as f64 > 1.5 * one, "{size:?} {text}: {rows:?}");
        }
    }
}

#[tokio::test]
async fn captions_stand_in_nine_places_and_never_on_each_other() {
    let cues = (1..=9).map(|place| format!("00:00:00,000 --> 00:00:01,000\n{{\\an{place}}}xx"));
    let cues: Vec<String> = cues.collect();
    let second = "00:00:01,000 --> 00:00:02,000\nbelow\n\n00:00:01,400 --> 00:00:02,000\nabove\n\n";
    let dir = tempfile::tempdir().unwrap();
    let video = grey(dir.path(), SIZE, 2);
    let srt = format!("{}\n\n{second}", cues.join("\n\n"));
    burn(dir.path(), &video, srt.as_bytes(), &large())
        .await
        .unwrap();
    let inks = inks(dir.path(), "out.mp4", SIZE);
    for (y, rows) in [0..120, 120..240, 240..360].into_iter().enumerate() {
        for (x, columns) in [0..213, 213..427, 427..640].into_iter().enumerate() {
            assert!(
                inks[1].count(columns, rows.clone()) > 200,
                "column {x} row {y}"
            );
        }
    }
    // The one that came later stands above the one that was there, which has not moved.
    let (one, both) = (&inks[2], &inks[3]);
    assert_eq!(one.bounds().1.end, both.bounds().1.end);
    assert!(both.bounds().1.len() > one.bounds().1.len() + 20);
    let top = style(Some(Position::TopLeft));
    let styled = drawn(&["x"], &top, SIZE).await;
    let (columns, rows) = styled[0].bounds();
    assert!(columns.end < 213 && rows.end < 120, "{columns:?} {rows:?}");
}

fn style(position: Option<Position>) -> CaptionStyle {
    CaptionStyle {
        position,
        ..large()
    }
}

#[tokio::test]
async fn every_field_of_a_style_shows() {
    let plain = drawn(&["Hello"], &large(), SIZE).await.remove(0);
    let with = async |change: &dyn Fn(&mut CaptionStyle)| {
        let mut style = large();
        change(&mut style);
        drawn(&["Hello"], &style, SIZE).await.remove(0)
    };
    let bounds = |ink: &Ink| (ink.bounds().0.len(), ink.bounds().1.len());
    let (width, height) = bounds(&plain);
    let twice = with(&|style| style.size = Some(20.0)).await;
    assert!(bounds(&twice).0.abs_diff(2 * width) < 8 && bounds(&twice).1.abs_diff(2 * height) < 8);
    let bold = with(&|style| style.bold = Some(true)).await;
    assert!(bounds(&bold).0 > width, "bold");
    let italic = with(&|style| style.italic = Some(true)).await;
    assert!(italic != plain, "italic");
    let upper = with(&|style| style.uppercase = Some(true)).await;
    assert!(bounds(&upper).0 > width + 10, "uppercase");
    let edge = with(&|style| style.outline_width = Some(20.0)).await;
    assert!(bounds(&edge).0 > width + 6, "outline width");
    let high = with(&|style| style.margin = Some(40.0)).await;
    assert!(high.bounds().1.end < 230, "margin");
    let serif = with(&|style| style.font = Some("noto SERIF".to_owned())).await;
    assert!(serif != plain, "font");
    // Text and edge in the grey of the picture, and a box around them.
    let unseen = with(&|style| {
        style.color = Some("#7e7e7e".to_owned());
        style.outline_color = Some("#7e7e7e".to_owned());
    });
    assert_eq!(unseen.await.all(), 0, "colours");
    let boxed = with(&|style| {
        style.color = Some("#000000".to_owned());
        style.background = Some("#000000c0".to_owned());
    });
    let boxed = boxed.await;
    let (columns, rows) = boxed.bounds();
    assert_eq!(
        boxed.count(columns.clone(), rows.clone()),
        columns.len() * rows.len(),
        "box"
    );
    assert!(rows.len() > height && columns.len() > width);
}

#[tokio::test]
async fn pictures_and_emoji_are_drawn_in_one_colour_or_left_out() {
    let texts = [
        "x😀x",
        "x❤\u{fe0f}x",
        "x♪x",
        "x👍🏽x",
        "x\u{1fae0}x",
        "xx",
        "x\u{2fe0}x",
    ];
    let inks = drawn(&texts, &large(), SIZE).await;
    let none = &inks[5];
    for n in 0..4 {
        let more = inks[n].all() - none.all();
        assert!(more > 100, "{}: {more}", texts[n]);
        assert!(inks[n].bounds().0.len() > none.bounds().0.len() + 10);
    }
    // Too new for the font, and not assigned at all: no box stands for them.
    assert!(inks[4] == *none && inks[6] == *none);
}

fn fault(made: Result<Made, Halt>) -> (Code, bool, String) {
    match made {
        Err(Halt::Fault(fault)) => (fault.fault.code, fault.permanent, fault.fault.detail),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_font_or_letters_that_are_not_here_are_said() {
    let dir = tempfile::tempdir().unwrap();
    let video = grey(dir.path(), (128, 72), 1);
    let style = CaptionStyle {
        font: Some("Comic Sans MS".to_owned()),
        ..CaptionStyle::default()
    };
    let made = burn(dir.path(), &video, b"00:00 --> 00:01\nx", &style).await;
    let (code, permanent, detail) = fault(made);
    assert_eq!((code, permanent), (Code::FontMissing, true));
    assert!(
        detail.contains("Comic Sans MS") && detail.contains("Noto Sans"),
        "{detail}"
    );
    // Khitan, for which there is no free font yet.
    let srt = "00:00 --> 00:01\nx \u{18b00}\u{18b01}".as_bytes();
    let made = burn(dir.path(), &video, srt, &CaptionStyle::default()).await;
    let (code, permanent, detail) = fault(made);
    assert_eq!((code, permanent), (Code::FontMissing, true));
    assert!(detail.contains("U+18B00, Khitan_Small_Script"), "{detail}");
    assert!(!dir.path().join("out.mp4").exists());
}

#[tokio::test]
async fn cues_beyond_the_end_change_neither_length_nor_effort() {
    let dir = tempfile::tempdir().unwrap();
    let video = grey(dir.path(), (128, 72), 2);
    let srt = "10:00:00,000 --> 20:00:00,000\nnever\n\n00:00:01,000 --> 99999:00:00,000\nxxxx\n";
    let begun = std::time::Instant::now();
    let made = burn(dir.path(), &video, srt.as_bytes(), &large())
        .await
        .unwrap();
    assert!((made.duration_s - 2.0).abs() < 0.01, "{made:?}");
    assert!(begun.elapsed().as_secs() < 10);
    let inks = inks(dir.path(), "out.mp4", (128, 72));
    let shown: Vec<bool> = inks.iter().map(|ink| ink.all() > 0).collect();
    assert_eq!(shown, [false, false, true, true]);
}
