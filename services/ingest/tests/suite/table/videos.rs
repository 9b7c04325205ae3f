//! Captions and audio.

use super::{Row, addaudio, bad, caption, good, style};
use serde_json::{Value, json};

pub(super) fn rows() -> Vec<Row> {
    [sources(), numbers(), looks(), timings()].concat()
}

fn sources() -> Vec<Row> {
    let private = "http://192.168.0.1/v.mp4";
    vec![
        bad(
            "a caption of nothing",
            &caption(json!({"url_video": null})),
            &[("/url_video", "required")],
        ),
        bad(
            "a caption without captions",
            &caption(json!({"url_srt": null})),
            &[("/url_srt", "required")],
        ),
        bad(
            "a caption of a number",
            &caption(json!({"url_video": 1})),
            &[("/url_video", "wrong_type")],
        ),
        bad(
            "captions from a disk",
            &caption(json!({"url_srt": "C:\\s.srt"})),
            &[("/url_srt", "invalid_url")],
        ),
        bad(
            "captions from inside",
            &caption(json!({"url_srt": private})),
            &[("/url_srt", "address_refused")],
        ),
        bad(
            "audio without audio",
            &addaudio(json!({"url_audio": null})),
            &[("/url_audio", "required")],
        ),
        bad(
            "audio without a video",
            &addaudio(json!({"url_video": null})),
            &[("/url_video", "required")],
        ),
        bad(
            "audio from inside",
            &addaudio(json!({"url_audio": private, "url_video": private})),
            &[
                ("/url_audio", "address_refused"),
                ("/url_video", "address_refused"),
            ],
        ),
        good(
            "a video pasted with spaces",
            &caption(json!({"url_video": " https://example.com/my video.mp4\n"})),
        ),
    ]
}

fn numbers() -> Vec<Row> {
    let mut rows = Vec::new();
    for (field, least, most) in [
        ("size", 1.0, 50.0),
        ("outline_width", 0.0, 100.0),
        ("margin", 0.0, 50.0),
    ] {
        let at: &'static str = match field {
            "size" => "/style/size",
            "margin" => "/style/margin",
            _ => "/style/outline_width",
        };
        for value in [least, most] {
            rows.push(good(
                &format!("{field} {value}"),
                &style(json!({field: value})),
            ));
        }
        for value in [least - 0.1, most + 0.1] {
            let row = style(json!({field: value}));
            rows.push(bad(
                &format!("{field} {value}"),
                &row,
                &[(at, "out_of_range")],
            ));
        }
        rows.push(bad(
            &format!("a text as {field}"),
            &style(json!({field: "5%"})),
            &[(at, "wrong_type")],
        ));
    }
    rows
}

#[expect(clippy::too_many_lines, reason = "a table")]
fn looks() -> Vec<Row> {
    let mut rows = vec![
        good("a style of nothing", &style(json!({}))),
        good("no style", &style(Value::Null)),
        good(
            "a whole style",
            &style(
                json!({"font": "Noto Sans", "size": 5, "color": "#ffcc00", "outline_color": "#000000",
            "outline_width": 10, "background": "#00000080", "bold": true, "italic": false, "uppercase": true,
            "position": "top_left", "margin": 4}),
            ),
        ),
        bad(
            "a list of styles",
            &style(json!([])),
            &[("/style", "wrong_type")],
        ),
        bad(
            "an unknown style",
            &style(json!({"weight": 700})),
            &[("/style/weight", "unknown_field")],
        ),
        good(
            "a font of 128 characters",
            &style(json!({"font": "ф".repeat(128)})),
        ),
        bad(
            "a font of 129 characters",
            &style(json!({"font": "ф".repeat(129)})),
            &[("/style/font", "out_of_range")],
        ),
        bad(
            "a font without a name",
            &style(json!({"font": ""})),
            &[("/style/font", "out_of_range")],
        ),
        bad(
            "bold as a text",
            &style(json!({"bold": "yes"})),
            &[("/style/bold", "wrong_type")],
        ),
        bad(
            "italic as a number",
            &style(json!({"italic": 1})),
            &[("/style/italic", "wrong_type")],
        ),
        bad(
            "uppercase as a list",
            &style(json!({"uppercase": [true]})),
            &[("/style/uppercase", "wrong_type")],
        ),
        bad(
            "a place that is none",
            &style(json!({"position": "center"})),
            &[("/style/position", "not_allowed")],
        ),
        bad(
            "a place as a number",
            &style(json!({"position": 5})),
            &[("/style/position", "wrong_type")],
        ),
    ];
    for colour in [
        "#fff", "#ffcc0", "#ffcc000", "#gg0000", "ffcc00", "red", "", "#ffcc00 ",
    ] {
        let row = style(json!({"color": colour}));
        rows.push(bad(
            &format!("color {colour:?}"),
            &row,
            &[("/style/color", "not_allowed")],
        ));
    }
    let wrong = style(json!({"outline_color": 0, "background": null}));
    rows.push(bad(
        "a number as colour",
        &wrong,
        &[("/style/outline_color", "wrong_type")],
    ));
    for up in ["top", "middle", "bottom"] {
        for across in ["left", "center", "right"] {
            let place = format!("{up}_{across}");
            rows.push(good(
                &format!("position {place}"),
                &style(json!({"position": place})),
            ));
        }
    }
    rows
}

fn timings() -> Vec<Row> {
    vec![
        good("timing auto", &addaudio(json!({"timing": "auto"}))),
        good("timing reencode", &addaudio(json!({"timing": "reencode"}))),
        bad(
            "timing fast",
            &addaudio(json!({"timing": "fast"})),
            &[("/timing", "not_allowed")],
        ),
        bad(
            "timing true",
            &addaudio(json!({"timing": true})),
            &[("/timing", "wrong_type")],
        ),
        bad(
            "timing of a caption",
            &caption(json!({"timing": "auto"})),
            &[("/timing", "unknown_field")],
        ),
    ]
}
