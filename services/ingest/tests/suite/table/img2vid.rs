//! Pictures to clips.

use super::{Row, bad, good, image, img2vid, picture, with};
use serde_json::{Value, json};

pub(super) fn rows() -> Vec<Row> {
    [
        lists(),
        ids(),
        addresses(),
        durations(),
        frames(),
        motions(),
        errors(),
    ]
    .concat()
}

fn lists() -> Vec<Row> {
    let many = |count: usize| vec![picture(); count];
    let list = |value: Value| img2vid(json!({"images": value}));
    vec![
        good("1000 pictures", &list(json!(many(1000)))),
        bad(
            "1001 pictures",
            &list(json!(many(1001))),
            &[("/images", "out_of_range")],
        ),
        bad(
            "no pictures",
            &list(json!([])),
            &[("/images", "out_of_range")],
        ),
        bad(
            "no list of pictures",
            &list(Value::Null),
            &[("/images", "required")],
        ),
        bad(
            "an object of pictures",
            &list(picture()),
            &[("/images", "wrong_type")],
        ),
        bad(
            "a text as pictures",
            &list(json!("https://example.com/a.jpg")),
            &[("/images", "wrong_type")],
        ),
        bad(
            "pictures that are none",
            &list(json!([7, null, picture(), []])),
            &[
                ("/images/0", "wrong_type"),
                ("/images/1", "wrong_type"),
                ("/images/3", "wrong_type"),
            ],
        ),
        bad(
            "an empty picture",
            &list(json!([{}])),
            &[
                ("/images/0/image_url", "required"),
                ("/images/0/duracao", "required"),
            ],
        ),
        bad(
            "a misspelt field of a picture",
            &image(json!({"url": "x"})),
            &[("/images/0/url", "unknown_field")],
        ),
    ]
}

fn ids() -> Vec<Row> {
    let pair = |one: Value, two: Value| {
        img2vid(
            json!({"images": [with(picture(), json!({"id": one})), with(picture(), json!({"id": two}))]}),
        )
    };
    let twice = &[("/images/1/id", "duplicate_id")];
    vec![
        good("an id of 1 character", &image(json!({"id": "a"}))),
        good(
            "an id of 128 characters",
            &image(json!({"id": "i".repeat(128)})),
        ),
        bad(
            "an id of 129 characters",
            &image(json!({"id": "i".repeat(129)})),
            &[("/images/0/id", "out_of_range")],
        ),
        good(
            "an id of 128 wide characters",
            &image(json!({"id": "🎬".repeat(128)})),
        ),
        bad(
            "an empty id",
            &image(json!({"id": ""})),
            &[("/images/0/id", "out_of_range")],
        ),
        bad(
            "a number as id",
            &image(json!({"id": 42})),
            &[("/images/0/id", "wrong_type")],
        ),
        good("an id that is null", &image(json!({"id": null}))),
        good(
            "an id that is a path",
            &image(json!({"id": "../a b/ç?#%2e\u{0}\n"})),
        ),
        bad("an id twice", &pair(json!("a"), json!("a")), twice),
        bad(
            "an id that another has by default",
            &pair(json!("image2"), Value::Null),
            twice,
        ),
        good("ids that differ in case", &pair(json!("a"), json!("A"))),
        good(
            "ids that differ in form",
            &pair(json!("\u{e9}"), json!("e\u{301}")),
        ),
    ]
}

fn addresses() -> Vec<Row> {
    let mut rows = Vec::new();
    for url in [
        "HTTP://EXAMPLE.com:8080/a",
        " \n\thttps://example.com/a.jpg\r\n ",
        "\u{feff}https://example.com/a.jpg\u{200b}",
        "https://example.com/my picture.jpg",
        "https://example.com/my%20picture.jpg",
        "https://example.com/vídeo/日本.jpg?q=ção#é",
        "https://exämple.com/a",
        "https://b.s3.amazonaws.com/k?X-Amz-Signature=ab%2Fcd&x='a'|b",
        "http:\\\\example.com\\a",
        "https://[2606:4700::1111]/a.jpg",
    ] {
        rows.push(good(
            &format!("picture at {url:?}"),
            &image(json!({"image_url": url})),
        ));
    }
    for url in [
        "",
        " ",
        "example.com/a.jpg",
        "//example.com/a.jpg",
        "ftp://example.com/a.jpg",
        "file:///etc/passwd",
        "javascript:alert(1)",
        "data:image/png;base64,AA",
        "https://",
        "https://exa mple.com/",
    ] {
        let row = image(json!({"image_url": url}));
        rows.push(bad(
            &format!("picture at {url:?}"),
            &row,
            &[("/images/0/image_url", "invalid_url")],
        ));
    }
    for url in [
        "http://127.0.0.1/a",
        "http://127.1/a",
        "http://0x7f.0.0.1/a",
        "http://10.0.0.1/a",
        "http://[::1]/a",
        "http://169.254.169.254/latest/meta-data",
        "http://0.0.0.0/a",
        "https://user:secret@example.com/a",
    ] {
        let row = image(json!({"image_url": url}));
        rows.push(bad(
            &format!("picture at {url:?}"),
            &row,
            &[("/images/0/image_url", "address_refused")],
        ));
    }
    let at = "/images/0/image_url";
    rows.push(bad(
        "a picture nowhere",
        &image(json!({"image_url": null})),
        &[(at, "required")],
    ));
    rows.push(bad(
        "a picture at a number",
        &image(json!({"image_url": 5})),
        &[(at, "wrong_type")],
    ));
    rows
}

fn durations() -> Vec<Row> {
    let mut rows = Vec::new();
    for seconds in [json!(0.1), json!(600), json!(600.0), json!(3)] {
        rows.push(good(
            &format!("duracao {seconds}"),
            &image(json!({"duracao": seconds})),
        ));
    }
    for (seconds, code) in [
        (json!(0.099), "out_of_range"),
        (json!(600.001), "out_of_range"),
        (json!(0), "out_of_range"),
        (json!(-3), "out_of_range"),
        (json!("3"), "wrong_type"),
        (json!(true), "wrong_type"),
    ] {
        let row = image(json!({"duracao": seconds}));
        rows.push(bad(
            &format!("duracao {seconds}"),
            &row,
            &[("/images/0/duracao", code)],
        ));
    }
    rows.push(good(
        "the alias duration",
        &image(json!({"duracao": null, "duration": 2.5})),
    ));
    let both = image(json!({"duration": 2.0}));
    rows.push(bad(
        "duracao and duration",
        &both,
        &[("/images/0/duration", "conflicting_fields")],
    ));
    let neither = image(json!({"duracao": null, "duration": null}));
    rows.push(bad(
        "neither duracao nor duration",
        &neither,
        &[("/images/0/duracao", "required")],
    ));
    let wrong = image(json!({"duracao": null, "duration": 601}));
    rows.push(bad(
        "duration 601",
        &wrong,
        &[("/images/0/duration", "out_of_range")],
    ));
    rows
}

fn frames() -> Vec<Row> {
    let mut rows = Vec::new();
    let good_values = [
        ("frame_rate", json!(1)),
        ("frame_rate", json!(120)),
        ("frame_rate", json!(23.976)),
        ("frame_rate", Value::Null),
        ("width", json!(64)),
        ("width", json!(3840)),
        ("width", json!(640.0)),
        ("height", json!(64)),
        ("height", json!(3840)),
        ("height", Value::Null),
        ("fit", json!("cover")),
        ("fit", json!("contain")),
        ("fit", json!("stretch")),
        ("fit", Value::Null),
    ];
    for (field, value) in good_values {
        rows.push(good(
            &format!("{field} {value}"),
            &img2vid(json!({field: value})),
        ));
    }
    for (at, value, code) in [
        ("/frame_rate", json!(0.99), "out_of_range"),
        ("/frame_rate", json!(120.01), "out_of_range"),
        ("/frame_rate", json!("30"), "wrong_type"),
        ("/width", json!(62), "out_of_range"),
        ("/width", json!(3842), "out_of_range"),
        ("/width", json!(65), "out_of_range"),
        ("/width", json!(64.5), "wrong_type"),
        ("/width", json!("1920"), "wrong_type"),
        ("/height", json!(63), "out_of_range"),
        ("/height", json!(3841), "out_of_range"),
        ("/height", json!(-1080), "out_of_range"),
        ("/height", json!({}), "wrong_type"),
        ("/fit", json!("fill"), "not_allowed"),
        ("/fit", json!(3), "wrong_type"),
    ] {
        let field = &at[1..];
        rows.push(bad(
            &format!("{field} {value}"),
            &img2vid(json!({field: value})),
            &[(at, code)],
        ));
    }
    rows
}

fn motions() -> Vec<Row> {
    let view = |zoom: f64, x: f64, y: f64| json!({"zoom": zoom, "x": x, "y": y});
    let way = |to: Value| img2vid(json!({"motion": {"from": view(1.0, 0.5, 0.5), "to": to}}));
    let mut rows = Vec::new();
    for name in [
        "zoom_in",
        "zoom_out",
        "pan_left",
        "pan_right",
        "pan_up",
        "pan_down",
        "still",
    ] {
        rows.push(good(
            &format!("motion {name}"),
            &img2vid(json!({"motion": name})),
        ));
    }
    rows.extend([
        good("motion of one picture", &image(json!({"motion": "still"}))),
        good("a way at its least", &way(view(1.0, 0.0, 0.0))),
        good("a way at its most", &way(view(4.0, 1.0, 1.0))),
        bad("zoom 0.99", &way(view(0.99, 0.5, 0.5)), &[("/motion/to/zoom", "out_of_range")]),
        bad("zoom 4.01", &way(view(4.01, 0.5, 0.5)), &[("/motion/to/zoom", "out_of_range")]),
        bad("x beyond", &way(view(1.0, 1.01, 0.5)), &[("/motion/to/x", "out_of_range")]),
        bad("y before", &way(view(1.0, 0.5, -0.01)), &[("/motion/to/y", "out_of_range")]),
        bad("a view that is empty", &way(json!({})),
            &[("/motion/to/zoom", "required"), ("/motion/to/x", "required"), ("/motion/to/y", "required")]),
        bad("a view with more", &way(json!({"zoom": 1, "x": 0, "y": 0, "z": 0})), &[("/motion/to/z", "unknown_field")]),
        bad("a view that is none", &way(json!(2)), &[("/motion/to", "wrong_type")]),
        bad("a way to nowhere", &img2vid(json!({"motion": {"from": view(1.0, 0.0, 0.0)}})), &[("/motion/to", "required")]),
        bad("a way with more", &image(json!({"motion": {"from": view(1.0, 0.0, 0.0), "to": view(1.0, 0.0, 0.0), "via": 1}})),
            &[("/images/0/motion/via", "unknown_field")]),
        bad("motion spin", &img2vid(json!({"motion": "spin"})), &[("/motion", "not_allowed")]),
        bad("motion of a picture spin", &image(json!({"motion": "spin"})), &[("/images/0/motion", "not_allowed")]),
        bad("motion 3", &img2vid(json!({"motion": 3})), &[("/motion", "wrong_type")]),
        bad("motion list", &img2vid(json!({"motion": ["still"]})), &[("/motion", "wrong_type")]),
    ]);
    rows
}

fn errors() -> Vec<Row> {
    let at = "/on_item_error";
    vec![
        good(
            "on_item_error fail",
            &img2vid(json!({"on_item_error": "fail"})),
        ),
        good(
            "on_item_error skip",
            &img2vid(json!({"on_item_error": "skip"})),
        ),
        bad(
            "on_item_error ignore",
            &img2vid(json!({"on_item_error": "ignore"})),
            &[(at, "not_allowed")],
        ),
        bad(
            "on_item_error false",
            &img2vid(json!({"on_item_error": false})),
            &[(at, "wrong_type")],
        ),
    ]
}
