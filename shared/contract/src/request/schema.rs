//! The job request as JSON Schema 2020-12: what a client may write, aliases and repairs included.
//!
//! Written beside the parser because the parser walks a value by hand; a property test compares the two. A field that
//! is null counts as not given, so every optional field may be null.
//!
//! Not for: what JSON Schema cannot say (ids unique in a job, bytes of `metadata`, addresses that may not be called);
//! the descriptions say it.

use super::{ITEMS_MAX, METADATA_BYTES_MAX};
use serde_json::{Value, json};

/// The schema of a job request, without references to anything outside.
pub fn schema() -> Value {
    json!({
        "title": "JobRequest",
        "description": "A job: one schema through every door. Unknown fields are refused.",
        "oneOf": [img2vid(), caption(), addaudio()],
        "examples": [example_img2vid(), example_caption(), example_addaudio()],
    })
}

/// The example of `img2vid`.
pub fn example_img2vid() -> Value {
    json!({"operation": "img2vid", "frame_rate": 30,
        "images": [{"id": "image1", "image_url": "https://example.com/image.jpg", "duracao": 3.0}],
        "webhook_url": "https://example.com/hook", "priority": "normal", "deadline_s": 3600,
        "on_item_error": "fail", "metadata": {"order": "A-17"}})
}

/// The example of `caption`.
pub fn example_caption() -> Value {
    json!({"operation": "caption", "url_video": "https://example.com/video.mp4",
        "url_srt": "https://example.com/subtitles.srt"})
}

/// The example of `addaudio`.
pub fn example_addaudio() -> Value {
    json!({"operation": "addaudio", "url_video": "https://example.com/video.mp4",
        "url_audio": "https://example.com/audio.mp3"})
}

fn img2vid() -> Value {
    let own = json!({
        "images": {"type": "array", "minItems": 1, "maxItems": ITEMS_MAX, "items": image(),
            "description": "The pictures, in the order of the outputs; each id once."},
        "frame_rate": number("Frames per second.", 1.0, 120.0, Some(30.0)),
        "width": edge("Pixels, even.", 1920),
        "height": edge("Pixels, even.", 1080),
        "fit": word("How a picture of another shape is fitted: filled and cropped, with bars, or distorted.",
            &["cover", "contain", "stretch"], "cover"),
        "motion": motion("The camera's way over every picture that names none of its own."),
        "on_item_error": word(
            "`fail`: the first item that fails for good ends the job. `skip`: the good items are delivered.",
            &["fail", "skip"], "fail"),
    });
    task("Img2vidRequest", &["img2vid"], own, &["images"])
}

fn caption() -> Value {
    let own = json!({
        "url_video": url("The video."),
        "url_srt": url("The captions, SubRip."),
        "style": style(),
    });
    let names = ["caption", "add_caption"];
    task("CaptionRequest", &names, own, &["url_video", "url_srt"])
}

fn addaudio() -> Value {
    let own = json!({
        "url_video": url("The video."),
        "url_audio": url("The audio that the video is fitted to."),
        "timing": word("`auto`: new timestamps where that gives a sound file, else a new encoding.",
            &["auto", "reencode"], "auto"),
    });
    let names = ["addaudio", "add_audio"];
    task("AddaudioRequest", &names, own, &["url_video", "url_audio"])
}

/// One operation: its own fields and those of every job.
fn task(title: &str, names: &[&str], own: Value, required: &[&str]) -> Value {
    let mut fields = json!({
        "operation": {"type": "string", "enum": names, "description": "What is to be done."},
        "webhook_url": nullable(url("An extra receiver for this job alone, signed with the tenant's own secret.")),
        "priority": word("How urgently.", &["high", "normal", "low"], "normal"),
        "deadline_s": {"type": ["integer", "null"], "minimum": 1, "maximum": 86_400, "default": 86_400,
            "description": "Seconds from the acceptance of the run to its deadline."},
        "metadata": {"type": ["object", "null"], "additionalProperties": true,
            "description": format!("Echoed in every status and event; at most {METADATA_BYTES_MAX} bytes as JSON.")},
    });
    if let (Some(fields), Value::Object(own)) = (fields.as_object_mut(), own) {
        fields.extend(own);
    }
    let required: Vec<&str> = ["operation"].iter().chain(required).copied().collect();
    json!({"title": title, "type": "object", "properties": fields, "required": required,
        "additionalProperties": false})
}

fn image() -> Value {
    let seconds = |what: &str| json!({"type": ["number", "null"], "minimum": 0.1, "maximum": 600, "description": what});
    let given = |name: &str| json!({"required": [name], "properties": {name: {"type": "number"}}});
    json!({
        "type": "object",
        "properties": {
            "id": {"type": ["string", "null"], "minLength": 1, "maxLength": 128,
                "description": "Unique in the job; `image{n}` when it is not given."},
            "image_url": url("Where the picture is."),
            "duracao": seconds("Seconds of the clip; this or `duration`."),
            "duration": seconds("The same under its other name."),
            "motion": motion("The camera's way over this picture."),
        },
        "required": ["image_url"],
        "oneOf": [given("duracao"), given("duration")],
        "additionalProperties": false,
    })
}

fn motion(what: &str) -> Value {
    let names = [
        "zoom_in",
        "zoom_out",
        "pan_left",
        "pan_right",
        "pan_up",
        "pan_down",
        "still",
    ];
    json!({
        "description": what, "default": "zoom_in",
        "oneOf": [
            {"type": "string", "enum": names},
            {"type": "object", "properties": {"from": view(), "to": view()}, "required": ["from", "to"],
                "additionalProperties": false},
            {"type": "null"},
        ],
    })
}

fn view() -> Value {
    let part = |what: &str, min: f64, max: f64| json!({"type": "number", "minimum": min, "maximum": max, "description": what});
    json!({
        "type": "object",
        "properties": {
            "zoom": part("1 shows everything.", 1.0, 4.0),
            "x": part("The centre of the view, from the left.", 0.0, 1.0),
            "y": part("The centre of the view, from the top.", 0.0, 1.0),
        },
        "required": ["zoom", "x", "y"],
        "additionalProperties": false,
    })
}

fn style() -> Value {
    let places = [
        "top_left",
        "top_center",
        "top_right",
        "middle_left",
        "middle_center",
        "middle_right",
        "bottom_left",
        "bottom_center",
        "bottom_right",
    ];
    let colour = |what: &str| json!({"type": ["string", "null"], "pattern": "^#([0-9A-Fa-f]{6}|[0-9A-Fa-f]{8})$", "description": what});
    let flag = |what: &str| json!({"type": ["boolean", "null"], "description": what});
    json!({
        "type": ["object", "null"],
        "description": "How the captions look.",
        "properties": {
            "font": {"type": ["string", "null"], "minLength": 1, "maxLength": 128, "description": "The font family."},
            "size": number("Percent of the video's height.", 1.0, 50.0, Some(5.0)),
            "color": colour("`#rrggbb` or `#rrggbbaa`."),
            "outline_color": colour("`#rrggbb` or `#rrggbbaa`."),
            "outline_width": number("Percent of the text's size.", 0.0, 100.0, None),
            "background": colour("`#rrggbb` or `#rrggbbaa`: a box behind the text."),
            "bold": flag("Bold."),
            "italic": flag("Italic."),
            "uppercase": flag("All in capitals."),
            "position": word("Where the text stands.", &places, "bottom_center"),
            "margin": number("Percent of the video's height between text and edge.", 0.0, 50.0, None),
        },
        "additionalProperties": false,
    })
}

/// A URL as a person pastes it. No `format`: what is refused is decided after the repair.
fn url(what: &str) -> Value {
    json!({"type": "string", "description": format!("{what} http or https; white space around it is trimmed, \
        spaces and non-ASCII characters are percent-encoded.")})
}

fn nullable(mut schema: Value) -> Value {
    schema["type"] = json!([schema["type"], "null"]);
    schema
}

fn number(what: &str, min: f64, max: f64, default: Option<f64>) -> Value {
    let mut schema =
        json!({"type": ["number", "null"], "minimum": min, "maximum": max, "description": what});
    if let Some(default) = default {
        schema["default"] = default.into();
    }
    schema
}

fn edge(what: &str, default: u32) -> Value {
    json!({"type": ["integer", "null"], "minimum": 64, "maximum": 3840, "multipleOf": 2, "default": default,
        "description": what})
}

fn word(what: &str, words: &[&str], default: &str) -> Value {
    let mut all: Vec<Value> = words.iter().map(|word| json!(word)).collect();
    all.push(Value::Null);
    json!({"type": ["string", "null"], "enum": all, "default": default, "description": what})
}
