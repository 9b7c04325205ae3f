//! From a body as a client wrote it to a canonical request, or to every fault at once.
//!
//! The body is walked as a JSON value, because a deserialiser stops at the first fault.

mod fields;
mod rules;
mod url;

use super::{
    Addaudio, Caption, CaptionStyle, Fit, ITEMS_MAX, Image, Img2vid, JobRequest, Motion, Position,
    Task, Timing, View,
};
use crate::problem::ProblemError;
use fields::{Faults, Fields, at};
use photofinish_model::{Code, OnItemError, Operation, Priority};
use serde_json::Value;
use std::collections::HashSet;

/// Why a body is no job request: every fault at once (the first 1000 of them).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestFault {
    /// Each fault with its place; at least one.
    pub errors: Vec<ProblemError>,
}

const COMMON: [&str; 5] = [
    "operation",
    "webhook_url",
    "priority",
    "deadline_s",
    "metadata",
];
const IMG2VID: [&str; 7] = [
    "images",
    "frame_rate",
    "width",
    "height",
    "fit",
    "motion",
    "on_item_error",
];
const CAPTION: [&str; 3] = ["url_video", "url_srt", "style"];
const ADDAUDIO: [&str; 3] = ["url_video", "url_audio", "timing"];

/// Default seconds from acceptance to the deadline.
const DEADLINE_S: u32 = 86_400;
/// Default frames per second.
const FRAME_RATE: f64 = 30.0;
/// Characters of an item's id at most.
const ID_CHARS_MAX: usize = 128;
/// Characters of a font's name at most.
const FONT_CHARS_MAX: usize = 128;

/// Makes a request canonical, or names every fault.
pub fn parse(body: &Value) -> Result<JobRequest, RequestFault> {
    let mut faults = Faults::default();
    let request = match Fields::of(body, String::new(), &mut faults) {
        Some(fields) => request(&fields, &mut faults),
        None => None,
    };
    match request {
        Some(request) if faults.is_empty() => Ok(request),
        Some(_) | None => Err(RequestFault {
            errors: faults.into_errors(),
        }),
    }
}

fn request(body: &Fields<'_>, faults: &mut Faults) -> Option<JobRequest> {
    let operation = operation(body, faults);
    let own: &[&str] = match operation {
        Some(Operation::Img2vid) => &IMG2VID,
        Some(Operation::Caption) => &CAPTION,
        Some(Operation::Addaudio) => &ADDAUDIO,
        None => &[],
    };
    // Without an operation nobody knows which fields are its own: those of any are let pass.
    let known = |name: &str| {
        let any = IMG2VID.iter().chain(&CAPTION).chain(&ADDAUDIO);
        COMMON.contains(&name)
            || own.contains(&name)
            || (operation.is_none() && any.clone().any(|known| *known == name))
    };
    body.refuse_unknown(known, operation.map(Operation::as_str), faults);
    let webhook_url = body
        .get("webhook_url")
        .and_then(|value| url::url(&value, faults));
    let priority = body.word("priority", &PRIORITIES, faults);
    let deadline_s = body.get("deadline_s").and_then(|value| {
        rules::whole(&value, 1, u64::from(DEADLINE_S), faults).map(|whole| whole as u32)
    });
    let metadata = body
        .get("metadata")
        .and_then(|value| rules::metadata(&value, faults));
    let task = match operation? {
        Operation::Img2vid => Task::Img2vid(img2vid(body, faults)?),
        Operation::Caption => Task::Caption(caption(body, faults)?),
        Operation::Addaudio => Task::Addaudio(addaudio(body, faults)?),
    };
    Some(JobRequest {
        task,
        webhook_url,
        priority: priority.unwrap_or_default(),
        deadline_s: deadline_s.unwrap_or(DEADLINE_S),
        metadata,
    })
}

const OPERATIONS: [(&str, Operation); 5] = [
    ("img2vid", Operation::Img2vid),
    ("caption", Operation::Caption),
    ("addaudio", Operation::Addaudio),
    ("add_caption", Operation::Caption),
    ("add_audio", Operation::Addaudio),
];
const PRIORITIES: [(&str, Priority); 3] = [
    ("high", Priority::High),
    ("normal", Priority::Normal),
    ("low", Priority::Low),
];
const ON_ITEM_ERROR: [(&str, OnItemError); 2] =
    [("fail", OnItemError::Fail), ("skip", OnItemError::Skip)];
const FITS: [(&str, Fit); 3] = [
    ("cover", Fit::Cover),
    ("contain", Fit::Contain),
    ("stretch", Fit::Stretch),
];
const TIMINGS: [(&str, Timing); 2] = [("auto", Timing::Auto), ("reencode", Timing::Reencode)];
const MOTIONS: [(&str, Motion); 7] = [
    ("zoom_in", Motion::ZoomIn),
    ("zoom_out", Motion::ZoomOut),
    ("pan_left", Motion::PanLeft),
    ("pan_right", Motion::PanRight),
    ("pan_up", Motion::PanUp),
    ("pan_down", Motion::PanDown),
    ("still", Motion::Still),
];
const POSITIONS: [(&str, Position); 9] = [
    ("top_left", Position::TopLeft),
    ("top_center", Position::TopCenter),
    ("top_right", Position::TopRight),
    ("middle_left", Position::MiddleLeft),
    ("middle_center", Position::MiddleCenter),
    ("middle_right", Position::MiddleRight),
    ("bottom_left", Position::BottomLeft),
    ("bottom_center", Position::BottomCenter),
    ("bottom_right", Position::BottomRight),
];

fn operation(body: &Fields<'_>, faults: &mut Faults) -> Option<Operation> {
    body.require(
        "operation",
        "name what is to be done: img2vid, caption or addaudio",
        faults,
    )?;
    body.word("operation", &OPERATIONS, faults)
}

fn img2vid(body: &Fields<'_>, faults: &mut Faults) -> Option<Img2vid> {
    let frame_rate = body
        .get("frame_rate")
        .and_then(|v| rules::number(&v, 1.0, 120.0, faults));
    let width = body
        .get("width")
        .and_then(|value| rules::edge(&value, faults));
    let height = body
        .get("height")
        .and_then(|value| rules::edge(&value, faults));
    let fit = body.word("fit", &FITS, faults);
    let on_item_error = body.word("on_item_error", &ON_ITEM_ERROR, faults);
    let motion = body
        .get("motion")
        .and_then(|value| motion(value, faults))
        .unwrap_or_default();
    let images = images(body, motion, faults)?;
    Some(Img2vid {
        frame_rate: frame_rate.unwrap_or(FRAME_RATE),
        width: width.unwrap_or(1920),
        height: height.unwrap_or(1080),
        fit: fit.unwrap_or_default(),
        on_item_error: on_item_error.unwrap_or_default(),
        images,
    })
}

fn images(body: &Fields<'_>, motion: Motion, faults: &mut Faults) -> Option<Vec<Image>> {
    let list = body.require("images", "list the pictures of the job", faults)?;
    let Some(rows) = list.value.as_array() else {
        faults.wrong_type(&list.pointer, "an array of objects");
        return None;
    };
    if rows.is_empty() || rows.len() > ITEMS_MAX {
        let detail = format!("a job has 1 to {ITEMS_MAX} images, not {}", rows.len());
        faults.add(&list.pointer, Code::OutOfRange, detail);
        return None;
    }
    let mut ids = HashSet::new();
    let mut images = Vec::with_capacity(rows.len());
    for (place, row) in rows.iter().enumerate() {
        let Some(fields) = Fields::of(row, at(&list.pointer, place), faults) else {
            continue;
        };
        let image = image(&fields, place, motion, faults);
        if !ids.insert(image.0.clone()) {
            let detail = format!("another image of this job has the id {:?}", image.0);
            faults.add(&at(&fields.pointer, "id"), Code::DuplicateId, detail);
        }
        images.extend(image.1);
    }
    Some(images)
}

/// The id that the image has in any case, and the image if it is whole.
fn image(
    row: &Fields<'_>,
    place: usize,
    motion_of_job: Motion,
    faults: &mut Faults,
) -> (String, Option<Image>) {
    let known = ["id", "image_url", "duracao", "duration", "motion"];
    row.refuse_unknown(|name| known.contains(&name), None, faults);
    let id = row
        .get("id")
        .and_then(|value| rules::text(&value, ID_CHARS_MAX, faults));
    let id = id.unwrap_or_else(|| format!("image{}", place + 1));
    let image_url = row
        .require("image_url", "say where the picture is", faults)
        .and_then(|value| url::url(&value, faults));
    let duration_s = duration(row, faults);
    let motion = match row.get("motion") {
        Some(value) => motion(value, faults),
        None => Some(motion_of_job),
    };
    let image = image_url
        .zip(duration_s)
        .zip(motion)
        .map(|((image_url, duration_s), motion)| Image {
            id: id.clone(),
            image_url,
            duration_s,
            motion,
        });
    (id, image)
}

/// `duracao` and its alias `duration`: exactly one of them.
fn duration(row: &Fields<'_>, faults: &mut Faults) -> Option<f64> {
    let value = match (row.get("duracao"), row.get("duration")) {
        (Some(_), Some(alias)) => {
            let detail = "give duracao or duration, not both";
            faults.add(&alias.pointer, Code::Conflicting, detail);
            return None;
        }
        (Some(value), None) | (None, Some(value)) => value,
        (None, None) => row.require("duracao", "say how many seconds the clip lasts", faults)?,
    };
    rules::number(&value, 0.1, 600.0, faults)
}

fn motion(value: fields::Field<'_>, faults: &mut Faults) -> Option<Motion> {
    if value.value.is_string() {
        return fields::word(&value, &MOTIONS, faults);
    }
    if !value.value.is_object() {
        faults.wrong_type(
            &value.pointer,
            "the name of a motion, or an object with from and to",
        );
        return None;
    }
    let path = Fields::of(value.value, value.pointer, faults)?;
    path.refuse_unknown(|name| ["from", "to"].contains(&name), None, faults);
    let from = path
        .require("from", "give the first view", faults)
        .and_then(|v| view(v, faults));
    let to = path
        .require("to", "give the last view", faults)
        .and_then(|v| view(v, faults));
    Some(Motion::Path {
        from: from?,
        to: to?,
    })
}

fn view(value: fields::Field<'_>, faults: &mut Faults) -> Option<View> {
    let view = Fields::of(value.value, value.pointer, faults)?;
    view.refuse_unknown(|name| ["zoom", "x", "y"].contains(&name), None, faults);
    let mut part = |name, min, max| {
        view.require(name, "a view has zoom, x and y", faults)
            .and_then(|value| rules::number(&value, min, max, faults))
    };
    let (zoom, x, y) = (
        part("zoom", 1.0, 4.0),
        part("x", 0.0, 1.0),
        part("y", 0.0, 1.0),
    );
    Some(View {
        zoom: zoom?,
        x: x?,
        y: y?,
    })
}

fn caption(body: &Fields<'_>, faults: &mut Faults) -> Option<Caption> {
    let url_video = body
        .require("url_video", "say where the video is", faults)
        .and_then(|value| url::url(&value, faults));
    let url_srt = body
        .require("url_srt", "say where the captions are", faults)
        .and_then(|value| url::url(&value, faults));
    let style = match body.get("style") {
        Some(value) => style(value, faults),
        None => Some(CaptionStyle::default()),
    };
    Some(Caption {
        url_video: url_video?,
        url_srt: url_srt?,
        style: style?,
    })
}

fn style(value: fields::Field<'_>, faults: &mut Faults) -> Option<CaptionStyle> {
    const KNOWN: [&str; 11] = [
        "font",
        "size",
        "color",
        "outline_color",
        "outline_width",
        "background",
        "bold",
        "italic",
        "uppercase",
        "position",
        "margin",
    ];
    let style = Fields::of(value.value, value.pointer, faults)?;
    style.refuse_unknown(|name| KNOWN.contains(&name), None, faults);
    let font = style
        .get("font")
        .and_then(|v| rules::text(&v, FONT_CHARS_MAX, faults));
    let mut number = |name, min, max| {
        style
            .get(name)
            .and_then(|v| rules::number(&v, min, max, faults))
    };
    let size = number("size", 1.0, 50.0);
    let outline_width = number("outline_width", 0.0, 100.0);
    let margin = number("margin", 0.0, 50.0);
    let mut colour = |name| {
        style
            .get(name)
            .and_then(|value| rules::colour(&value, faults))
    };
    let (color, outline_color, background) = (
        colour("color"),
        colour("outline_color"),
        colour("background"),
    );
    let mut flag = |name| {
        style
            .get(name)
            .and_then(|value| rules::flag(&value, faults))
    };
    let (bold, italic, uppercase) = (flag("bold"), flag("italic"), flag("uppercase"));
    let position = style.word("position", &POSITIONS, faults);
    Some(CaptionStyle {
        font,
        size,
        color,
        outline_color,
        outline_width,
        background,
        bold,
        italic,
        uppercase,
        position,
        margin,
    })
}

fn addaudio(body: &Fields<'_>, faults: &mut Faults) -> Option<Addaudio> {
    let url_video = body
        .require("url_video", "say where the video is", faults)
        .and_then(|value| url::url(&value, faults));
    let url_audio = body
        .require("url_audio", "say where the audio is", faults)
        .and_then(|value| url::url(&value, faults));
    let timing = body.word("timing", &TIMINGS, faults).unwrap_or_default();
    Some(Addaudio {
        url_video: url_video?,
        url_audio: url_audio?,
        timing,
    })
}

#[cfg(test)]
mod tests;
