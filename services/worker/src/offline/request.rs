//! The job request of a job by hand: from a file or standard input to work.
//!
//! Guarantee: the path of a file is taken where a URL is wanted, as whoever tries this first has
//! files and no web server. Only here: a request that came over the network never names files.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use photofinish_contract::attempt_input::{PictureItem, Work};
use photofinish_contract::request::{self, JobRequest, Task, frame_count};
use serde_json::Value;
use url::Url;

use super::OfflineError;

/// Files of this machine, by the addresses that stand for them.
pub(crate) type Local = BTreeMap<String, PathBuf>;

/// A name that no resolver ever answers (RFC 6761).
const PLACEHOLDER: &str = "http://local.invalid";
const STDIN: &str = "-";
/// What some editors write before UTF-8; no part of JSON.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// A job as it was read.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) work: Work,
    pub(super) local: Local,
}

/// Reads a job from a file, or from standard input.
pub(super) fn read(path: &Path) -> Result<Job, OfflineError> {
    let fault = |source| OfflineError::Read {
        path: path.to_owned(),
        source,
    };
    let mut text = Vec::new();
    let dir = if path == Path::new(STDIN) {
        std::io::stdin().read_to_end(&mut text).map_err(fault)?;
        PathBuf::from(".")
    } else {
        text = std::fs::read(path).map_err(fault)?;
        path.parent().unwrap_or(Path::new("")).join(".")
    };
    let text = text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(&text);
    let mut body: Value = serde_json::from_slice(text).map_err(|source| OfflineError::NotJson {
        path: path.to_owned(),
        source,
    })?;
    if let Some(inner) = body.get_mut("input") {
        body = inner.take();
    }
    let local = localise(&mut body, &dir)?;
    let request = request::parse(&body).map_err(OfflineError::Refused)?;
    Ok(Job {
        work: work_of(&request),
        local,
    })
}

/// Replaces paths of files by addresses that stand for them.
fn localise(body: &mut Value, dir: &Path) -> Result<Local, OfflineError> {
    let mut local = Local::new();
    for name in ["url_video", "url_srt", "url_audio"] {
        if let Some(value) = body.get_mut(name) {
            replace(value, &format!("/{name}"), dir, &mut local)?;
        }
    }
    let images = body.get_mut("images").and_then(Value::as_array_mut);
    for (n, image) in images.into_iter().flatten().enumerate() {
        if let Some(value) = image.get_mut("image_url") {
            replace(value, &format!("/images/{n}/image_url"), dir, &mut local)?;
        }
    }
    Ok(local)
}

fn replace(
    value: &mut Value,
    pointer: &str,
    dir: &Path,
    local: &mut Local,
) -> Result<(), OfflineError> {
    let Some(text) = value.as_str().map(str::trim) else {
        // The parser says what is wrong with it.
        return Ok(());
    };
    let path = match Url::parse(text) {
        Ok(url) if url.scheme() == "file" => url.to_file_path().ok(),
        // A colon in its name makes a file look like an address.
        Ok(_) if !dir.join(text).is_file() => return Ok(()),
        Err(_) if text.is_empty() => return Ok(()),
        Ok(_) | Err(_) => Some(dir.join(text)),
    };
    let file = path.and_then(|path| path.canonicalize().ok());
    let file = file.filter(|file| file.is_file());
    let file = file.ok_or_else(|| OfflineError::NoFile {
        pointer: pointer.to_owned(),
        text: text.to_owned(),
        dir: dir.canonicalize().unwrap_or_else(|_| dir.to_owned()),
    })?;
    let known = local.iter().find(|(_, known)| **known == file);
    let url = match known {
        Some((url, _)) => url.clone(),
        None => format!("{PLACEHOLDER}/{}", local.len()),
    };
    local.insert(url.clone(), file);
    *value = Value::String(url);
    Ok(())
}

/// The whole job as one part.
fn work_of(request: &JobRequest) -> Work {
    match &request.task {
        Task::Img2vid(task) => Work::Img2vid {
            frame_rate: task.frame_rate,
            width: task.width,
            height: task.height,
            fit: task.fit,
            items: (0..)
                .zip(&task.images)
                .map(|(index, image)| PictureItem {
                    index,
                    item: image.id.clone(),
                    image_url: image.image_url.clone(),
                    frames: frame_count(image.duration_s, task.frame_rate),
                    motion: image.motion,
                })
                .collect(),
        },
        Task::Caption(task) => Work::Caption {
            url_video: task.url_video.clone(),
            url_srt: task.url_srt.clone(),
            style: task.style.clone(),
        },
        Task::Addaudio(task) => Work::Addaudio {
            url_video: task.url_video.clone(),
            url_audio: task.url_audio.clone(),
            timing: task.timing,
        },
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn job(dir: &Path, body: &Value) -> Result<Job, OfflineError> {
        let path = dir.join("job.json");
        std::fs::write(&path, body.to_string()).unwrap();
        read(&path)
    }

    #[test]
    fn paths_stand_where_urls_are_wanted_relative_to_the_jobs_file() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("a b.png"), "x").unwrap();
        std::fs::write(dir.path().join("at-12:30.png"), "x").unwrap();
        let file = Url::from_file_path(dir.path().join("a b.png")).unwrap();
        let body = json!({"input": {"operation": "img2vid", "images": [
            {"image_url": "a b.png", "duration": 1},
            {"image_url": file.as_str(), "duration": 1},
            {"image_url": "https://example.com/a.png", "duration": 1},
            {"image_url": "at-12:30.png", "duration": 1},
        ]}});
        let job = job(dir.path(), &body).unwrap();
        let Work::Img2vid { items, .. } = &job.work else {
            panic!("{job:?}");
        };
        assert_eq!(items[0].image_url, items[1].image_url, "one file");
        assert_eq!(items[2].image_url, "https://example.com/a.png");
        assert_eq!(job.local.len(), 2);
        assert!(job.local[&items[3].image_url].ends_with("at-12:30.png"));
        assert!(job.local[&items[0].image_url].ends_with("a b.png"));
    }

    #[test]
    fn a_byte_order_mark_is_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("job.json");
        std::fs::write(&path, "\u{feff}{\"operation\": 7}").unwrap();
        let error = read(&path).unwrap_err();
        assert!(matches!(error, OfflineError::Refused(_)), "{error}");
    }

    #[test]
    fn what_is_neither_a_url_nor_a_file_is_named() {
        let dir = tempfile::tempdir().unwrap();
        for text in [
            "missing.mp4",
            "file:///missing.mp4",
            ".",
            "example.com/a.mp4",
        ] {
            let body = json!({"operation": "caption", "url_video": text, "url_srt": "http://x/s"});
            let error = job(dir.path(), &body).unwrap_err().to_string();
            assert!(
                error.starts_with("/url_video: ") && error.contains(text),
                "{error}"
            );
        }
    }

    #[test]
    fn a_request_without_files_is_left_to_the_parser() {
        let dir = tempfile::tempdir().unwrap();
        let body = json!({"operation": "caption", "url_video": "ftp://x/y", "url_srt": 7});
        let error = job(dir.path(), &body).unwrap_err();
        let OfflineError::Refused(fault) = error else {
            panic!("{error}");
        };
        assert_eq!(fault.errors.len(), 2);
    }
}
