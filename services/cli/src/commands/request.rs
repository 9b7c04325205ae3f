//! A job request from what was typed, or from a JSON file.
//!
//! Nouns: a *draft* is the request's body and the places in it that name local files. Whether a request is good, the
//! service says; here only what it cannot know is checked: files, and flags that do not fit together.

use crate::args::RequestArgs;
use crate::error::CliError;
use crate::settings::file::nearest;
use serde_json::{Map, Value, json};
use std::io::Read as _;
use std::path::{Path, PathBuf};

/// Names of operations as they can be typed, and as they are.
const OPERATIONS: [(&str, &str); 5] = [
    ("img2vid", "img2vid"),
    ("caption", "caption"),
    ("add_caption", "caption"),
    ("addaudio", "addaudio"),
    ("add_audio", "addaudio"),
];

/// A request that may name local files yet.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Draft {
    /// The request.
    pub(crate) body: Value,
    /// Places in the body (JSON pointers) and the files that belong there.
    pub(crate) files: Vec<(String, PathBuf)>,
}

/// The draft of what was typed.
pub(crate) fn read(args: &RequestArgs) -> Result<Draft, CliError> {
    let operation = OPERATIONS.iter().find(|(name, _)| *name == args.what);
    let mut draft = match operation {
        Some((_, operation)) => typed(operation, args)?,
        None => of_file(args)?,
    };
    if let Some(body) = draft.body.as_object_mut() {
        set_common(body, args);
    }
    Ok(draft)
}

/// Addresses in the place of local files, for an estimate: nobody calls them.
pub(crate) fn stand_ins(draft: &mut Draft) {
    for (pointer, _) in draft.files.drain(..) {
        if let Some(place) = draft.body.pointer_mut(&pointer) {
            *place = json!("https://local-file.invalid/");
        }
    }
}

fn typed(operation: &str, args: &RequestArgs) -> Result<Draft, CliError> {
    only_its_flags(operation, args)?;
    let body = match operation {
        "img2vid" => img2vid(args)?,
        "caption" => {
            let [video, captions] = two(args, "a video and its captions (.srt)")?;
            let mut body = json!({"operation": operation, "url_video": video, "url_srt": captions});
            let style = style(args);
            if !style.is_empty() {
                body["style"] = Value::Object(style);
            }
            body
        }
        _ => {
            let [video, sound] = two(args, "a video and its sound")?;
            let mut body = json!({"operation": operation, "url_video": video, "url_audio": sound});
            if let Some(timing) = &args.timing {
                body["timing"] = json!(timing);
            }
            body
        }
    };
    let files = local(&body, Path::new(""), true)?;
    Ok(Draft { body, files })
}

fn img2vid(args: &RequestArgs) -> Result<Value, CliError> {
    let count = args.inputs.len();
    if count == 0 {
        return Err(CliError::Usage(
            "img2vid needs pictures: photofinish submit img2vid a.jpg b.jpg --duration 3"
                .to_owned(),
        ));
    }
    let one_or_each = |given: usize, flag: &str| {
        if given <= 1 || given == count {
            return Ok(());
        }
        Err(CliError::Usage(format!(
            "{flag} is there {given} times for {count} pictures: give it once for all, or once for each"
        )))
    };
    one_or_each(args.duration.len(), "--duration")?;
    one_or_each(args.motion.len(), "--motion")?;
    let images: Vec<Value> = args
        .inputs
        .iter()
        .enumerate()
        .map(|(place, input)| {
            let mut image = json!({"image_url": input});
            if let Some(duration) = args.duration.get(place).or(args.duration.first()) {
                image["duration"] = json!(duration);
            }
            if args.motion.len() > 1 {
                image["motion"] = json!(args.motion[place]);
            }
            image
        })
        .collect();
    if args.duration.is_empty() {
        return Err(CliError::Usage(
            "say how many seconds each clip lasts: --duration 3".to_owned(),
        ));
    }
    let mut body = json!({"operation": "img2vid", "images": images});
    if let [motion] = args.motion.as_slice() {
        body["motion"] = json!(motion);
    }
    let numbers = [
        ("frame_rate", args.frame_rate),
        ("width", args.width),
        ("height", args.height),
    ];
    for (name, number) in numbers {
        if let Some(number) = number {
            body[name] = json!(number);
        }
    }
    for (name, word) in [("fit", &args.fit), ("on_item_error", &args.on_item_error)] {
        if let Some(word) = word {
            body[name] = json!(word);
        }
    }
    Ok(body)
}

fn two<'a>(args: &'a RequestArgs, what: &str) -> Result<[&'a String; 2], CliError> {
    let inputs: Vec<&String> = args.inputs.iter().collect();
    <[&String; 2]>::try_from(inputs).map_err(|given| {
        CliError::Usage(format!(
            "{} needs {what}; {} input(s) were given",
            args.what,
            given.len()
        ))
    })
}

fn style(args: &RequestArgs) -> Map<String, Value> {
    let texts = [
        ("font", &args.font),
        ("color", &args.text_color),
        ("outline_color", &args.outline_color),
        ("background", &args.background),
        ("position", &args.position),
    ];
    let numbers = [
        ("size", args.size),
        ("outline_width", args.outline_width),
        ("margin", args.margin),
    ];
    let flags = [
        ("bold", args.bold),
        ("italic", args.italic),
        ("uppercase", args.uppercase),
    ];
    let mut style = Map::new();
    style.extend(
        texts
            .into_iter()
            .filter_map(|(name, text)| Some((name.to_owned(), json!(text.as_ref()?)))),
    );
    style.extend(
        numbers
            .into_iter()
            .filter_map(|(name, number)| Some((name.to_owned(), json!(number?)))),
    );
    let set = flags.into_iter().filter(|(_, set)| *set);
    style.extend(set.map(|(name, _)| (name.to_owned(), json!(true))));
    style
}

/// Flags of another operation, or of any beside a file, would silently count for nothing.
fn only_its_flags(operation: &str, args: &RequestArgs) -> Result<(), CliError> {
    let img2vid = !args.duration.is_empty()
        || !args.motion.is_empty()
        || args.frame_rate.is_some()
        || args.width.is_some()
        || args.height.is_some()
        || args.fit.is_some()
        || args.on_item_error.is_some();
    let given = [
        ("img2vid", img2vid),
        ("caption", !style(args).is_empty()),
        ("addaudio", args.timing.is_some()),
    ];
    match given.iter().find(|(of, given)| *given && *of != operation) {
        None => Ok(()),
        Some((of, _)) => Err(CliError::Usage(format!(
            "a flag for {of} was given with {operation} (`photofinish submit --help` sorts them)"
        ))),
    }
}

/// Flags that fit any job go over what the file says.
fn set_common(body: &mut Map<String, Value>, args: &RequestArgs) {
    for (name, word) in [
        ("priority", &args.priority),
        ("webhook_url", &args.webhook_url),
    ] {
        if let Some(word) = word {
            body.insert(name.to_owned(), json!(word));
        }
    }
    if let Some(seconds) = args.deadline {
        body.insert("deadline_s".to_owned(), json!(seconds));
    }
    if !args.metadata.is_empty() {
        let metadata = body.get("metadata").and_then(Value::as_object);
        let mut metadata = metadata.cloned().unwrap_or_default();
        let pairs = args.metadata.iter();
        metadata.extend(pairs.map(|(key, value)| (key.clone(), json!(value))));
        body.insert("metadata".to_owned(), Value::Object(metadata));
    }
}

/// The request as it lies in a file: its relative paths are seen from there.
fn of_file(args: &RequestArgs) -> Result<Draft, CliError> {
    let file = Path::new(&args.what);
    if let Some(stray) = args.inputs.first() {
        let names: Vec<&str> = OPERATIONS.iter().map(|(name, _)| *name).collect();
        let meant = nearest(&args.what, &names);
        let meant = meant.map(|near| format!(": did you mean {near}?"));
        return Err(CliError::Usage(format!(
            "{} is no operation, so {stray} is one word too many{}",
            args.what,
            meant.unwrap_or_default()
        )));
    }
    only_its_flags("a file", args)?;
    let names: Vec<&str> = OPERATIONS.iter().map(|(name, _)| *name).collect();
    if let (Some(near), false) = (nearest(&args.what, &names), file.exists()) {
        return Err(CliError::Usage(format!(
            "{} is neither an operation nor a file: did you mean {near}?",
            args.what
        )));
    }
    let mut bytes = Vec::new();
    let (path, read) = if file == Path::new("-") {
        let read = std::io::stdin().lock().read_to_end(&mut bytes).map(drop);
        (PathBuf::from("standard input"), read)
    } else {
        let read = std::fs::read(file).map(|read| bytes = read);
        (file.to_owned(), read)
    };
    if let Err(source) = read {
        return Err(CliError::Request { path, source });
    }
    let body: Value =
        serde_json::from_slice(&bytes).map_err(|source| CliError::NotJson { path, source })?;
    let files = local(&body, file.parent().unwrap_or(Path::new("")), false)?;
    Ok(Draft { body, files })
}

/// The places of a body that name local files. What was typed and is neither an address nor a file is refused here;
/// what a file says so is left to the service to judge.
fn local(body: &Value, beside: &Path, strict: bool) -> Result<Vec<(String, PathBuf)>, CliError> {
    let mut places: Vec<String> = ["/url_video", "/url_srt", "/url_audio"]
        .map(str::to_owned)
        .to_vec();
    let images = body["images"].as_array().map_or(0, Vec::len);
    places.extend((0..images).map(|place| format!("/images/{place}/image_url")));
    let mut files = Vec::new();
    for pointer in places {
        let Some(text) = body.pointer(&pointer).and_then(Value::as_str) else {
            continue;
        };
        if is_address(text) {
            continue;
        }
        let path = beside.join(text.strip_prefix("file://").unwrap_or(text));
        if path.is_file() {
            files.push((pointer, path));
        } else if strict || text.starts_with("file://") {
            let source = std::fs::metadata(&path).err();
            let source = source.unwrap_or_else(|| std::io::ErrorKind::IsADirectory.into());
            return Err(CliError::Request { path, source });
        }
    }
    Ok(files)
}

fn is_address(text: &str) -> bool {
    let text = text.trim().to_ascii_lowercase();
    text.starts_with("http://") || text.starts_with("https://")
}

#[cfg(test)]
#[path = "request_tests.rs"]
mod tests;
