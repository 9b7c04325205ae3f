//! One page of a LIST, as S3 answers it: keys in order, those with the delimiter behind the prefix folded into one.

use std::collections::BTreeMap;
use std::time::SystemTime;

use s3s::dto::{
    CommonPrefix, ListObjectsInput, ListObjectsOutput, ListObjectsV2Input, ListObjectsV2Output,
    Object, Timestamp,
};

/// Keys of a page at most, as S3 has it.
const KEYS_MAX: usize = 1000;

/// What a LIST says of an object.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry {
    pub(super) bytes: u64,
    pub(super) modified: SystemTime,
}

enum Line {
    Object(Entry),
    Folder,
}

/// The page that is asked for, of all objects whose keys begin with the prefix; others may be among them.
pub(super) fn page(
    input: ListObjectsV2Input,
    found: BTreeMap<String, Entry>,
) -> ListObjectsV2Output {
    let prefix = input.prefix.clone().unwrap_or_default();
    let after = input
        .continuation_token
        .clone()
        .max(input.start_after.clone());
    let room = input.max_keys.and_then(|keys| usize::try_from(keys).ok());
    let room = room.unwrap_or(KEYS_MAX).min(KEYS_MAX);
    let mut lines = BTreeMap::new();
    for (key, entry) in found {
        let Some(rest) = key.strip_prefix(&prefix) else {
            continue;
        };
        let delimiter = input.delimiter.as_deref().filter(|text| !text.is_empty());
        let folder = delimiter.and_then(|text| rest.find(text).map(|at| at + text.len()));
        match folder {
            Some(end) => lines.insert(format!("{prefix}{}", &rest[..end]), Line::Folder),
            None => lines.insert(key, Line::Object(entry)),
        };
    }
    if let Some(after) = &after {
        lines.retain(|name, _| name > after);
    }
    let more = lines.len() > room;
    let (mut contents, mut folders, mut last) = (Vec::new(), Vec::new(), None);
    for (name, line) in lines.into_iter().take(room) {
        last = Some(name.clone());
        match line {
            Line::Object(entry) => contents.push(Object {
                key: Some(name),
                last_modified: Some(Timestamp::from(entry.modified)),
                size: i64::try_from(entry.bytes).ok(),
                ..Object::default()
            }),
            Line::Folder => folders.push(CommonPrefix { prefix: Some(name) }),
        }
    }
    ListObjectsV2Output {
        key_count: i32::try_from(contents.len() + folders.len()).ok(),
        max_keys: i32::try_from(room).ok(),
        is_truncated: Some(more),
        next_continuation_token: last.filter(|_| more),
        contents: Some(contents).filter(|all| !all.is_empty()),
        common_prefixes: Some(folders).filter(|all| !all.is_empty()),
        continuation_token: input.continuation_token,
        delimiter: input.delimiter,
        encoding_type: input.encoding_type,
        name: Some(input.bucket),
        prefix: input.prefix,
        start_after: input.start_after,
        ..ListObjectsV2Output::default()
    }
}

/// The same in the words of the first version of LIST.
pub(super) fn page_v1(
    input: ListObjectsInput,
    found: BTreeMap<String, Entry>,
) -> ListObjectsOutput {
    let page = page(input.into(), found);
    ListObjectsOutput {
        contents: page.contents,
        common_prefixes: page.common_prefixes,
        delimiter: page.delimiter,
        encoding_type: page.encoding_type,
        name: page.name,
        prefix: page.prefix,
        max_keys: page.max_keys,
        is_truncated: page.is_truncated,
        next_marker: page.next_continuation_token,
        ..ListObjectsOutput::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn objects(keys: &[&str]) -> BTreeMap<String, Entry> {
        let entry = Entry {
            bytes: 1,
            modified: SystemTime::UNIX_EPOCH,
        };
        keys.iter().map(|key| ((*key).to_owned(), entry)).collect()
    }

    /// Everything that a client sees that asks page after page.
    fn all(keys: &[&str], prefix: &str, delimiter: Option<&str>, keys_max: i32) -> Vec<String> {
        let (mut seen, mut token) = (Vec::new(), None);
        loop {
            let input = ListObjectsV2Input {
                prefix: Some(prefix.to_owned()),
                delimiter: delimiter.map(str::to_owned),
                max_keys: Some(keys_max),
                continuation_token: token,
                ..ListObjectsV2Input::default()
            };
            let page = page(input, objects(keys));
            seen.extend(
                page.contents
                    .into_iter()
                    .flatten()
                    .filter_map(|object| object.key),
            );
            let folders = page.common_prefixes.into_iter().flatten();
            seen.extend(folders.filter_map(|folder| folder.prefix));
            token = page.next_continuation_token;
            if token.is_none() {
                seen.sort();
                return seen;
            }
        }
    }

    #[test]
    fn pages_together_are_the_whole() {
        let keys = ["a/1", "a/2", "a/b/3", "a/b/4", "a/c/5", "ab/6"];
        for keys_max in [1, 2, 3, 1000] {
            assert_eq!(all(&keys, "a/", None, keys_max), keys[..5]);
            let here = all(&keys, "a/", Some("/"), keys_max);
            assert_eq!(here, ["a/1", "a/2", "a/b/", "a/c/"]);
            assert_eq!(all(&keys, "a", Some("/"), keys_max), ["a/", "ab/"]);
            assert!(all(&keys, "x", None, keys_max).is_empty());
        }
    }
}
