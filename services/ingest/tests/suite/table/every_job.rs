//! What every job has: its operation, and the fields that all operations share.

use super::{Row, addaudio, bad, caption, good, img2vid};
use serde_json::{Value, json};

pub(super) fn rows() -> Vec<Row> {
    [
        operations(),
        unknown_fields(),
        urgency(),
        receivers(),
        own_data(),
    ]
    .concat()
}

fn operations() -> Vec<Row> {
    let none = json!({});
    let mut rows = vec![
        good("the least img2vid", &img2vid(none.clone())),
        good("the least caption", &caption(none.clone())),
        good("the least addaudio", &addaudio(none.clone())),
        good(
            "the alias add_caption",
            &caption(json!({"operation": "add_caption"})),
        ),
        good(
            "the alias add_audio",
            &addaudio(json!({"operation": "add_audio"})),
        ),
        bad("nothing", &none, &[("/operation", "required")]),
        bad(
            "no operation",
            &caption(json!({"operation": null})),
            &[("/operation", "required")],
        ),
        bad(
            "a number as operation",
            &caption(json!({"operation": 7})),
            &[("/operation", "wrong_type")],
        ),
        bad(
            "an object as operation",
            &caption(json!({"operation": {}})),
            &[("/operation", "wrong_type")],
        ),
    ];
    for name in ["resize", "IMG2VID", " img2vid", "img2vid\0", "imagens", ""] {
        let row = img2vid(json!({"operation": name}));
        rows.push(bad(
            &format!("operation {name:?}"),
            &row,
            &[("/operation", "not_allowed")],
        ));
    }
    for (name, body) in [
        ("an array", json!([])),
        ("null", Value::Null),
        ("a text", json!("img2vid")),
        ("a number", json!(42)),
        ("a truth", json!(true)),
        ("an array of one job", json!([img2vid(json!({}))])),
    ] {
        rows.push(bad(
            &format!("{name} as body"),
            &body,
            &[("", "wrong_type")],
        ));
    }
    rows
}

fn unknown_fields() -> Vec<Row> {
    let unknown = "unknown_field";
    vec![
        bad(
            "a misspelt field",
            &img2vid(json!({"framerate": 30})),
            &[("/framerate", unknown)],
        ),
        bad(
            "an unknown field that is null",
            &img2vid(json!({"colour": null})),
            &[("/colour", unknown)],
        ),
        bad(
            "a field with slash and tilde",
            &img2vid(json!({"a/b~c": 1})),
            &[("/a~1b~0c", unknown)],
        ),
        bad(
            "a field without a name",
            &img2vid(json!({"": 1})),
            &[("/", unknown)],
        ),
        bad(
            "a field in another script",
            &img2vid(json!({"größe": 1, "宽": 2})),
            &[("/größe", unknown), ("/宽", unknown)],
        ),
        bad(
            "pictures in a caption",
            &caption(json!({"images": []})),
            &[("/images", unknown)],
        ),
        bad(
            "a video in img2vid",
            &img2vid(json!({"url_video": "https://e.com/v"})),
            &[("/url_video", unknown)],
        ),
        bad(
            "captions in addaudio",
            &addaudio(json!({"url_srt": "https://e.com/s"})),
            &[("/url_srt", unknown)],
        ),
        bad(
            "skipping in a caption",
            &caption(json!({"on_item_error": "skip"})),
            &[("/on_item_error", unknown)],
        ),
        bad(
            "several faults at once",
            &caption(json!({"url_srt": null, "priority": "now", "deadline_s": 0, "x": 1})),
            &[
                ("/url_srt", "required"),
                ("/priority", "not_allowed"),
                ("/deadline_s", "out_of_range"),
                ("/x", unknown),
            ],
        ),
    ]
}

fn urgency() -> Vec<Row> {
    let mut rows = Vec::new();
    for priority in ["high", "normal", "low"] {
        rows.push(good(
            &format!("priority {priority}"),
            &caption(json!({"priority": priority})),
        ));
    }
    for (value, code) in [
        (json!("urgent"), "not_allowed"),
        (json!("High"), "not_allowed"),
        (json!(1), "wrong_type"),
    ] {
        let name = format!("priority {value}");
        rows.push(bad(
            &name,
            &caption(json!({"priority": value})),
            &[("/priority", code)],
        ));
    }
    for value in [json!(1), json!(86_400), json!(3600.0), Value::Null] {
        let name = format!("deadline_s {value}");
        rows.push(good(&name, &caption(json!({"deadline_s": value}))));
    }
    for (value, code) in [
        (json!(0), "out_of_range"),
        (json!(-5), "out_of_range"),
        (json!(86_401), "out_of_range"),
        (json!(1e300), "out_of_range"),
        (json!(1.5), "wrong_type"),
        (json!("60"), "wrong_type"),
        (json!([60]), "wrong_type"),
    ] {
        let name = format!("deadline_s {value}");
        rows.push(bad(
            &name,
            &caption(json!({"deadline_s": value})),
            &[("/deadline_s", code)],
        ));
    }
    rows
}

fn receivers() -> Vec<Row> {
    let at_length = |length: usize| {
        let url = "https://example.com/";
        format!("{url}{}", "x".repeat(length - url.len()))
    };
    let mut rows = vec![
        good(
            "a webhook",
            &caption(json!({"webhook_url": "https://example.com/hook?a=b#c"})),
        ),
        good("no webhook", &caption(json!({"webhook_url": null}))),
        good(
            "a webhook of 8192 bytes",
            &caption(json!({"webhook_url": at_length(8192)})),
        ),
        bad(
            "a webhook of 8193 bytes",
            &caption(json!({"webhook_url": at_length(8193)})),
            &[("/webhook_url", "out_of_range")],
        ),
    ];
    for (value, code) in [
        (json!(""), "invalid_url"),
        (json!("example.com/hook"), "invalid_url"),
        (json!("mailto:me@example.com"), "invalid_url"),
        (json!(["https://example.com"]), "wrong_type"),
        (json!("http://192.168.1.7/hook"), "address_refused"),
        (json!("http://[::ffff:127.0.0.1]/hook"), "address_refused"),
        (json!("http://2130706433/hook"), "address_refused"),
    ] {
        let name = format!("webhook {value}");
        rows.push(bad(
            &name,
            &caption(json!({"webhook_url": value})),
            &[("/webhook_url", code)],
        ));
    }
    rows
}

fn own_data() -> Vec<Row> {
    // `{"k":"…"}` has 8 bytes besides the text.
    let of_bytes = |bytes: usize| json!({"metadata": {"k": "x".repeat(bytes - 8)}});
    let wide = json!({"metadata": {"k": "é".repeat(8189)}});
    vec![
        good("empty metadata", &caption(json!({"metadata": {}}))),
        good(
            "nested metadata",
            &caption(json!({"metadata": {"a": [1, {"b": null}], "ключ": "値 🎬"}})),
        ),
        good("metadata of 16384 bytes", &caption(of_bytes(16_384))),
        bad(
            "metadata of 16385 bytes",
            &caption(of_bytes(16_385)),
            &[("/metadata", "out_of_range")],
        ),
        bad(
            "metadata of few characters and many bytes",
            &caption(wide),
            &[("/metadata", "out_of_range")],
        ),
        bad(
            "an array as metadata",
            &caption(json!({"metadata": []})),
            &[("/metadata", "wrong_type")],
        ),
        bad(
            "a text as metadata",
            &caption(json!({"metadata": "A-17"})),
            &[("/metadata", "wrong_type")],
        ),
        good("no metadata", &caption(json!({"metadata": null}))),
    ]
}
