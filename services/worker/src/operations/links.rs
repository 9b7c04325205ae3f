//! Share links: the address of the file behind a page that people share.
//!
//! Nouns: a [`Link`] is where a file is really fetched from, and whose page it may be instead.
//!
//! Guarantee: pure; no address is called here, and what is not understood stays as it is.

use photofinish_outbound::Url;

/// Where Google Drive gives files, large ones included.
const DRIVE: &str = "https://drive.usercontent.google.com/download";
const DRIVE_HOSTS: [&str; 3] = [
    "drive.google.com",
    "docs.google.com",
    "drive.usercontent.google.com",
];
const DROPBOX_HOSTS: [&str; 2] = ["www.dropbox.com", "dropbox.com"];
/// The longest page that is looked at for what it wants.
pub const PAGE_BYTES_MAX: u64 = 512 * 1024;

/// Where a file is fetched from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Link {
    /// From here.
    Direct(String),
    /// From Google Drive, here.
    Drive(String),
    /// From nowhere: it is a folder or a document of Google's, not a file.
    NoFile,
}

/// What a page of Google Drive's, which came in a file's place, means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DrivePage {
    /// The file is too large to be looked at for viruses; it is here.
    Confirm(String),
    /// Too many people fetched it today.
    Quota,
    /// It is not shared with everyone.
    Private,
}

/// Where the file of an address that people paste really is.
pub fn resolve(text: &str) -> Link {
    let direct = || Link::Direct(text.to_owned());
    let Ok(url) = Url::parse(text) else {
        return direct();
    };
    let host = url.host_str().unwrap_or_default();
    if DRIVE_HOSTS.contains(&host) {
        drive(&url).unwrap_or_else(direct)
    } else if DROPBOX_HOSTS.contains(&host) {
        dropbox(url)
    } else {
        direct()
    }
}

fn drive(url: &Url) -> Option<Link> {
    let parts: Vec<&str> = url
        .path_segments()?
        .filter(|part| !part.is_empty())
        .collect();
    if parts.contains(&"folders") {
        return Some(Link::NoFile);
    }
    let documents = ["document", "spreadsheets", "presentation", "forms"];
    if parts.first().is_some_and(|first| documents.contains(first)) {
        return Some(Link::NoFile);
    }
    // /file/d/{id}/view, also as /file/u/0/d/{id} and /a/{domain}/file/d/{id}
    let behind_d = parts.iter().position(|&part| part == "d");
    let in_path = behind_d
        .filter(|_| parts.contains(&"file"))
        .and_then(|at| parts.get(at + 1).map(|&id| id.to_owned()));
    let asked = |name: &str| {
        let mut pairs = url.query_pairs();
        pairs.find_map(|(key, value)| (key == name).then(|| value.into_owned()))
    };
    let takes_id = ["open", "uc", "download"];
    let in_query = parts
        .last()
        .filter(|last| takes_id.contains(last))
        .and_then(|_| asked("id"));
    let id = in_path.or(in_query).filter(|id| !id.is_empty())?;
    let mut direct = Url::parse(DRIVE).ok()?;
    direct
        .query_pairs_mut()
        .append_pair("id", &id)
        .append_pair("export", "download")
        .append_pair("confirm", "t");
    if let Some(key) = asked("resourcekey") {
        direct.query_pairs_mut().append_pair("resourcekey", &key);
    }
    Some(Link::Drive(direct.into()))
}

/// `dl=0` shows a page, `dl=1` gives the file.
fn dropbox(mut url: Url) -> Link {
    let shared = ["/s/", "/scl/fi/", "/sh/", "/scl/fo/"];
    if !shared.iter().any(|prefix| url.path().starts_with(prefix)) {
        return Link::Direct(url.into());
    }
    let kept: Vec<(String, String)> = url
        .query_pairs()
        .filter(|(name, _)| name != "dl" && name != "raw")
        .map(|(name, value)| (name.into_owned(), value.into_owned()))
        .collect();
    url.query_pairs_mut()
        .clear()
        .extend_pairs(kept)
        .append_pair("dl", "1");
    Link::Direct(url.into())
}

/// What a page of Google Drive's wants; `from` is where it came from.
pub fn drive_page(page: &str, from: &str) -> DrivePage {
    if let Some(to) = confirmation(page, from) {
        return DrivePage::Confirm(to);
    }
    let page = page.to_lowercase();
    if page.contains("quota exceeded") || page.contains("too many users have viewed") {
        return DrivePage::Quota;
    }
    DrivePage::Private
}

/// The address that the button "Download anyway" leads to: the form's, with its hidden fields.
fn confirmation(page: &str, from: &str) -> Option<String> {
    let form = page
        .split("<form")
        .find(|form| form.contains("download-form"))?;
    let form = form.split("</form>").next()?;
    let target = Url::parse(from)
        .ok()?
        .join(&attribute(form, "action")?)
        .ok()?;
    let ours = Url::parse(from).ok()?;
    let known = target
        .host_str()
        .is_some_and(|host| DRIVE_HOSTS.contains(&host));
    if !known && target.host_str() != ours.host_str() {
        return None;
    }
    let mut target = target;
    for field in form.split("<input").skip(1) {
        let field = field.split('>').next().unwrap_or_default();
        if let (Some(name), Some(value)) = (attribute(field, "name"), attribute(field, "value")) {
            target.query_pairs_mut().append_pair(&name, &value);
        }
    }
    Some(target.into())
}

/// The value of an attribute in a tag, with the one entity that addresses have.
fn attribute(tag: &str, name: &str) -> Option<String> {
    let rest = tag.split(&format!(" {name}=\"")).nth(1)?;
    Some(rest.split('"').next()?.replace("&amp;", "&"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn share_links_become_the_address_of_the_file() {
        let drive =
            "https://drive.usercontent.google.com/download?id=1AbC_d-9&export=download&confirm=t";
        let keyed = format!("{drive}&resourcekey=0-xY");
        let cases = [
            (
                "https://drive.google.com/file/d/1AbC_d-9/view?usp=sharing",
                drive,
            ),
            ("https://drive.google.com/file/d/1AbC_d-9", drive),
            ("https://drive.google.com/file/d/1AbC_d-9/preview", drive),
            ("https://drive.google.com/file/u/0/d/1AbC_d-9/edit", drive),
            (
                "https://drive.google.com/a/firm.example/file/d/1AbC_d-9/view",
                drive,
            ),
            ("https://docs.google.com/file/d/1AbC_d-9/edit", drive),
            ("https://drive.google.com/open?id=1AbC_d-9", drive),
            (
                "https://drive.google.com/uc?export=download&id=1AbC_d-9",
                drive,
            ),
            ("https://docs.google.com/uc?id=1AbC_d-9", drive),
            (drive, drive),
            (
                "https://drive.google.com/file/d/1AbC_d-9/view?resourcekey=0-xY&usp=x",
                &keyed,
            ),
        ];
        for (shared, file) in cases {
            assert_eq!(resolve(shared), Link::Drive(file.to_owned()), "{shared}");
        }
        let direct = [
            (
                "https://www.dropbox.com/s/ab1/my%20film.mp4?dl=0",
                "https://www.dropbox.com/s/ab1/my%20film.mp4?dl=1",
            ),
            (
                "https://www.dropbox.com/scl/fi/ab1/film.mp4?rlkey=k&dl=0",
                "https://www.dropbox.com/scl/fi/ab1/film.mp4?rlkey=k&dl=1",
            ),
            (
                "https://www.dropbox.com/s/ab1/film.mp4",
                "https://www.dropbox.com/s/ab1/film.mp4?dl=1",
            ),
            (
                "https://example.com/file/d/1AbC/view?dl=0",
                "https://example.com/file/d/1AbC/view?dl=0",
            ),
            (
                "https://drive.google.com.evil.example/file/d/1/view",
                "https://drive.google.com.evil.example/file/d/1/view",
            ),
            ("https://drive.google.com/", "https://drive.google.com/"),
            ("not a url", "not a url"),
        ];
        for (given, file) in direct {
            assert_eq!(resolve(given), Link::Direct(file.to_owned()), "{given}");
        }
        for nothing in [
            "https://drive.google.com/drive/folders/1AbC?usp=sharing",
            "https://drive.google.com/drive/u/0/folders/1AbC",
            "https://docs.google.com/document/d/1AbC/edit",
            "https://docs.google.com/spreadsheets/d/1AbC/edit",
        ] {
            assert_eq!(resolve(nothing), Link::NoFile, "{nothing}");
        }
    }

    #[test]
    fn a_page_in_the_files_place_is_understood() {
        let from = "https://drive.usercontent.google.com/download?id=1&export=download";
        let page = |action: &str| {
            format!(
                "<!DOCTYPE html><html><p>Google Drive can't scan this file for viruses.</p>\
                 <form id=\"download-form\" action=\"{action}\" method=\"get\">\
                 <input type=\"submit\" id=\"uc-download-link\" value=\"Download anyway\"/>\
                 <input type=\"hidden\" name=\"id\" value=\"1\"><input type=\"hidden\" name=\"confirm\" value=\"t\">\
                 <input type=\"hidden\" name=\"uuid\" value=\"a-b\"></form></html>"
            )
        };
        let file = "https://drive.usercontent.google.com/download?id=1&confirm=t&uuid=a-b";
        let action = "https://drive.usercontent.google.com/download";
        assert_eq!(
            drive_page(&page(action), from),
            DrivePage::Confirm(file.to_owned())
        );
        // Nothing leads away from Google.
        assert_eq!(
            drive_page(&page("https://evil.example/x"), from),
            DrivePage::Private
        );
        let full =
            "<html>Sorry, too many users have viewed or downloaded this file recently.</html>";
        assert_eq!(drive_page(full, from), DrivePage::Quota);
        assert_eq!(drive_page("<html>Sign in</html>", from), DrivePage::Private);
    }
}
