use super::fields::FAULTS_MAX;
use super::*;
use proptest::prelude::*;
use serde_json::json;

fn good() -> Value {
    json!({
        "operation": "img2vid",
        "images": [
            {"id": "a", "image_url": "https://example.com/1.jpg", "duracao": 3.0},
            {"image_url": "https://example.com/2.jpg", "duration": 2, "motion": "still"}
        ]
    })
}

fn with(changes: &Value) -> Value {
    let mut body = good();
    for (name, value) in changes.as_object().unwrap() {
        body[name] = value.clone();
    }
    body
}

/// The faults as `pointer code`, sorted.
fn faults(body: &Value) -> Vec<String> {
    let errors = parse(body).expect_err(&body.to_string()).errors;
    let mut faults: Vec<String> = errors
        .iter()
        .map(|error| format!("{} {}", error.pointer, error.code))
        .collect();
    faults.sort();
    faults
}

#[test]
fn defaults_are_filled_in() {
    let request = parse(&good()).unwrap();
    let Task::Img2vid(task) = &request.task else {
        panic!("{request:?}")
    };
    assert_eq!(
        (task.frame_rate, task.width, task.height),
        (30.0, 1920, 1080)
    );
    assert_eq!(
        (task.fit, task.on_item_error),
        (Fit::Cover, OnItemError::Fail)
    );
    assert_eq!(
        (request.priority, request.deadline_s),
        (Priority::Normal, 86_400)
    );
    assert_eq!(request.item_ids(), ["a", "image2"]);
    assert_eq!(task.images[0].motion, Motion::ZoomIn);
    assert_eq!(task.images[1].motion, Motion::Still);
    assert!((task.images[1].duration_s - 2.0).abs() < 1e-9);
}

#[test]
fn every_field_arrives() {
    let path = json!({"from": {"zoom": 1, "x": 0.5, "y": 0.5}, "to": {"zoom": 4, "x": 0, "y": 1}});
    let request = parse(&with(&json!({
        "frame_rate": 29.97, "width": 1080, "height": 1920.0, "fit": "contain", "motion": path,
        "webhook_url": " https://example.com/hook ", "priority": "high", "deadline_s": 60,
        "on_item_error": "skip", "metadata": {"order": "A-17"}
    })))
    .unwrap();
    let Task::Img2vid(task) = &request.task else {
        panic!("{request:?}")
    };
    assert_eq!(
        (task.width, task.height, task.fit),
        (1080, 1920, Fit::Contain)
    );
    let to = View {
        zoom: 4.0,
        x: 0.0,
        y: 1.0,
    };
    assert!(matches!(task.images[0].motion, Motion::Path { to: found, .. } if found == to));
    assert_eq!(
        task.images[1].motion,
        Motion::Still,
        "the image's own motion counts"
    );
    assert_eq!(
        request.webhook_url.as_deref(),
        Some("https://example.com/hook")
    );
    assert_eq!((request.priority, request.deadline_s), (Priority::High, 60));
    assert_eq!(request.metadata.unwrap()["order"], "A-17");

    let caption = parse(&json!({
        "operation": "add_caption", "url_video": "https://e.com/v.mp4", "url_srt": "https://e.com/s",
        "style": {"font": "Inter", "size": 6, "color": "#FFcc00", "outline_color": "#000000",
            "outline_width": 8, "background": "#00000080", "bold": true, "italic": false,
            "uppercase": true, "position": "top_left", "margin": 4.5}
    }))
    .unwrap();
    let Task::Caption(task) = caption.task else {
        panic!("no caption")
    };
    assert_eq!(task.style.position, Some(Position::TopLeft));
    assert_eq!(
        (task.style.bold, task.style.background.as_deref()),
        (Some(true), Some("#00000080"))
    );

    let addaudio = parse(&json!({
        "operation": "add_audio", "url_video": "https://e.com/v", "url_audio": "https://e.com/a",
        "timing": "reencode", "webhook_url": null
    }))
    .unwrap();
    assert_eq!(addaudio.operation(), Operation::Addaudio);
    assert_eq!(addaudio.item_ids(), ["video"]);
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn every_rule_has_its_code_and_place() {
    let cases = [
        (json!([]), vec![" wrong_type"]),
        (json!({}), vec!["/operation required"]),
        (
            json!({"operation": "resize"}),
            vec!["/operation not_allowed"],
        ),
        (json!({"operation": 7}), vec!["/operation wrong_type"]),
        (json!({"operation": "img2vid"}), vec!["/images required"]),
        (with(&json!({"images": []})), vec!["/images out_of_range"]),
        (with(&json!({"images": {}})), vec!["/images wrong_type"]),
        (with(&json!({"images": [3]})), vec!["/images/0 wrong_type"]),
        (
            with(&json!({"frame_rate": 0.5})),
            vec!["/frame_rate out_of_range"],
        ),
        (
            with(&json!({"frame_rate": "30"})),
            vec!["/frame_rate wrong_type"],
        ),
        (with(&json!({"width": 1921})), vec!["/width out_of_range"]),
        (with(&json!({"width": 62})), vec!["/width out_of_range"]),
        (with(&json!({"height": 3842})), vec!["/height out_of_range"]),
        (with(&json!({"height": 99.5})), vec!["/height wrong_type"]),
        (with(&json!({"fit": "squash"})), vec!["/fit not_allowed"]),
        (
            with(&json!({"motion": "spin"})),
            vec!["/motion not_allowed"],
        ),
        (with(&json!({"motion": 1})), vec!["/motion wrong_type"]),
        (
            with(&json!({"motion": {"from": {"zoom": 5, "x": 0, "y": 0}}})),
            vec!["/motion/from/zoom out_of_range", "/motion/to required"],
        ),
        (
            with(&json!({"priority": "urgent"})),
            vec!["/priority not_allowed"],
        ),
        (
            with(&json!({"deadline_s": 0})),
            vec!["/deadline_s out_of_range"],
        ),
        (
            with(&json!({"deadline_s": 86_401})),
            vec!["/deadline_s out_of_range"],
        ),
        (
            with(&json!({"deadline_s": -1e300})),
            vec!["/deadline_s out_of_range"],
        ),
        (
            with(&json!({"on_item_error": "ignore"})),
            vec!["/on_item_error not_allowed"],
        ),
        (with(&json!({"metadata": []})), vec!["/metadata wrong_type"]),
        (
            with(&json!({"metadata": {"x": "y".repeat(17_000)}})),
            vec!["/metadata out_of_range"],
        ),
        (
            with(&json!({"webhook_url": "ftp://x/y"})),
            vec!["/webhook_url invalid_url"],
        ),
        (
            with(&json!({"url_video": "https://e.com"})),
            vec!["/url_video unknown_field"],
        ),
        (with(&json!({"a/b~c": 1})), vec!["/a~1b~0c unknown_field"]),
        (
            json!({"operation": "caption", "url_video": "https://e.com/v", "url_srt": "x",
            "style": {"size": 0, "color": "red", "bold": "yes", "position": "left", "shadow": 1}}),
            vec![
                "/style/bold wrong_type",
                "/style/color not_allowed",
                "/style/position not_allowed",
                "/style/shadow unknown_field",
                "/style/size out_of_range",
                "/url_srt invalid_url",
            ],
        ),
        (
            json!({"operation": "addaudio", "timing": "fast"}),
            vec![
                "/timing not_allowed",
                "/url_audio required",
                "/url_video required",
            ],
        ),
        (
            json!({"operation": "addaudio", "url_video": "https://e.com/v", "images": [],
            "url_audio": "https://e.com/a", "on_item_error": "fail"}),
            vec!["/images unknown_field", "/on_item_error unknown_field"],
        ),
    ];
    for (body, expected) in cases {
        assert_eq!(faults(&body), expected, "{body}");
    }
}

#[test]
fn all_faults_of_all_images_are_named_at_once() {
    let body = with(&json!({"nonsense": 1, "images": [
        {"id": "", "image_url": "nowhere", "duracao": 0},
        {"id": "x", "image_url": "https://e.com/x", "duracao": 1, "duration": 1},
        {"id": "x", "image_url": "https://e.com/x", "duracao": 601, "extra": true},
        {"id": "image5", "image_url": 7},
        {"image_url": "https://e.com/x", "duracao": 1, "id": null}
    ]}));
    assert_eq!(
        faults(&body),
        [
            "/images/0/duracao out_of_range",
            "/images/0/id out_of_range",
            "/images/0/image_url invalid_url",
            "/images/1/duration conflicting_fields",
            "/images/2/duracao out_of_range",
            "/images/2/extra unknown_field",
            "/images/2/id duplicate_id",
            "/images/3/duracao required",
            "/images/3/image_url wrong_type",
            "/images/4/id duplicate_id",
            "/nonsense unknown_field",
        ]
    );
    let many = json!({"operation": "img2vid", "images": vec![json!({}); 1000]});
    assert_eq!(parse(&many).unwrap_err().errors.len(), FAULTS_MAX);
}

/// A canonical request as a client would write it.
fn as_written(request: &JobRequest) -> Value {
    let mut body = serde_json::to_value(request).unwrap();
    if let Some(images) = body["images"].as_array_mut() {
        for image in images {
            let row = image.as_object_mut().unwrap();
            let duration = row.remove("duration_s").unwrap();
            row.insert("duracao".to_owned(), duration);
            if let Some(path) = row["motion"].get("path").cloned() {
                row.insert("motion".to_owned(), path);
            }
        }
    }
    body
}

fn any_json() -> impl Strategy<Value = Value> {
    let names = prop::sample::select(vec![
        "operation",
        "images",
        "image_url",
        "duracao",
        "duration",
        "id",
        "motion",
        "from",
        "to",
        "zoom",
        "x",
        "style",
        "size",
        "color",
        "metadata",
        "width",
        "url_video",
        "odd",
    ]);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "\\PC{0,12}".prop_map(Value::from),
        prop::sample::select(vec![
            "img2vid",
            "caption",
            "addaudio",
            "https://e.com/ä b",
            "still"
        ])
        .prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 64, 8, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::btree_map(names.clone().prop_map(str::to_owned), inner, 0..8)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn any_json_is_a_request_or_has_faults(body in any_json()) {
        match parse(&body) {
            Ok(request) => prop_assert_eq!(parse(&as_written(&request)), Ok(request)),
            Err(fault) => prop_assert!(!fault.errors.is_empty()),
        }
    }

    #[test]
    fn a_canonical_request_stays_as_it_is(
        count in 1usize..20,
        duration in 0.1f64..600.0,
        rate in 1.0f64..120.0,
        half in 32u32..1920,
        zoom in 1.0f64..4.0,
        id in "\\PC{1,40}",
    ) {
        let images: Vec<Value> = (0..count).map(|n| json!({
            "id": format!("{n}{id}"), "image_url": format!("https://e.com/{id} {n}"),
            "duration": duration,
            "motion": {"from": {"zoom": zoom, "x": 0.25, "y": 1}, "to": {"zoom": 1, "x": 0, "y": 0}}
        })).collect();
        let body = json!({"operation": "img2vid", "images": images, "frame_rate": rate,
            "width": half * 2, "fit": "stretch", "on_item_error": "skip", "priority": "low"});
        let request = parse(&body);
        prop_assert!(request.is_ok(), "{:?}", request);
        let request = request.unwrap();
        prop_assert_eq!(parse(&as_written(&request)), Ok(request));
    }
}
