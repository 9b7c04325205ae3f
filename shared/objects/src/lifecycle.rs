//! What the operator is told of the bucket, and may have us change: its lifecycle rules; and whether
//! a URL that we sign opens anything.
//!
//! Guarantee: rules that are not ours are put back as they were read, or nothing is put at all.

use crate::store::CHECK;
use crate::{Objects, ObjectsError};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use md5::{Digest as _, Md5};
use object_store::path::Path;
use object_store::signer::{HeaderMap, HeaderValue, Method, SignedUrlOptions, Signer as _};
use reqwest::StatusCode;
use reqwest::header::{CONTENT_TYPE, HeaderName};
use std::fmt::Write as _;
use std::time::Duration;

/// The setting's name.
const LIFECYCLE: &str = "lifecycle";
/// How long a signed question may be asked.
const SIGNED_FOR: Duration = Duration::from_secs(60);
/// Bytes of an answer that are read: S3 takes a thousand rules.
const ANSWER_BYTES_MAX: usize = 2 * 1024 * 1024;
/// Days after which an upload in parts that nobody finished is aborted.
const ABORT_DAYS: u32 = 1;
/// Days after which what workers pushed is deleted: no run lasts for longer than one.
const RESCUE_DAYS: u32 = 2;
/// The names of our rules begin so.
const OURS: &str = "photofinish-";
const DAY: Duration = Duration::from_hours(24);

/// What the bucket says of its lifecycle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lifecycle {
    /// Its rules that are in force; none is an empty list.
    Rules(Vec<LifecycleRule>),
    /// It was not told: the bucket cannot be asked, or not by us. What it answered.
    NotKnown(String),
}

/// A rule that is in force.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LifecycleRule {
    /// Its name; may be empty.
    pub id: String,
    /// Keys that begin so; empty: all.
    pub prefix: String,
    /// Only objects with certain tags or sizes.
    pub narrowed: bool,
    /// Days after which an upload in parts that is not finished is aborted.
    pub abort_days: Option<u32>,
    /// Days after which an object is deleted.
    pub expire_days: Option<u32>,
}

impl Lifecycle {
    /// Days after which what nobody finished is aborted under a prefix; nothing: never.
    pub fn aborts_under(&self, prefix: &str) -> Option<u32> {
        self.soonest(prefix, |rule| rule.abort_days)
    }

    /// Days after which everything is deleted under a prefix; nothing: never.
    pub fn expires_under(&self, prefix: &str) -> Option<u32> {
        self.soonest(prefix, |rule| rule.expire_days)
    }

    fn soonest(&self, prefix: &str, days: impl Fn(&LifecycleRule) -> Option<u32>) -> Option<u32> {
        let Self::Rules(rules) = self else {
            return None;
        };
        let covering = rules
            .iter()
            .filter(|rule| !rule.narrowed && prefix.starts_with(&rule.prefix));
        covering.filter_map(days).min()
    }
}

impl Objects {
    /// The bucket's lifecycle rules.
    pub async fn lifecycle(&self) -> Result<Lifecycle, ObjectsError> {
        Ok(match self.lifecycle_xml().await? {
            Ok(text) => Lifecycle::Rules(rules(&text)),
            Err(why) => Lifecycle::NotKnown(why),
        })
    }

    /// The bucket's own words; empty when it has no rules, else why it does not tell.
    async fn lifecycle_xml(&self) -> Result<Result<String, String>, ObjectsError> {
        let url = self.bucket_url(Method::GET, LIFECYCLE, HeaderMap::new());
        let request = self.http.get(url.await?);
        let (status, text) = self.ask("ask the lifecycle of", request).await?;
        if status.is_success() && text.contains("<LifecycleConfiguration") {
            return Ok(Ok(text));
        }
        if text.contains("NoSuchLifecycleConfiguration") {
            return Ok(Ok(String::new()));
        }
        let code = element(&text, "Code").unwrap_or("no reason given");
        Ok(Err(format!("{status}: {code}")))
    }

    /// Signs a question after, or a change of, a setting of the bucket.
    pub(crate) async fn bucket_url(
        &self,
        method: Method,
        setting: &'static str,
        signed_headers: HeaderMap,
    ) -> Result<reqwest::Url, ObjectsError> {
        let (bucket, mut options) = (
            Path::default(),
            SignedUrlOptions::new().with_query([(setting, "")]),
        );
        options.signed_headers = signed_headers;
        let store = self.store();
        let signed = store.signed_url_opts(method, &bucket, SIGNED_FOR, &options);
        self.call("sign", &bucket, signed).await
    }

    /// The rules that a deployment wants whose clients' inputs are kept for so long.
    pub fn lifecycle_wanted(&self, inputs_kept: Duration) -> Vec<LifecycleRule> {
        let days = inputs_kept.as_secs().div_ceil(DAY.as_secs()).max(1);
        let rule = |name: &str, prefix| LifecycleRule {
            id: format!("{OURS}{name}"),
            prefix,
            ..LifecycleRule::default()
        };
        let uploads = LifecycleRule {
            abort_days: Some(ABORT_DAYS),
            ..rule("uploads", self.uploads_prefix())
        };
        let rescue = LifecycleRule {
            expire_days: Some(RESCUE_DAYS),
            ..rule("rescue", self.rescue_prefix())
        };
        let inputs = LifecycleRule {
            expire_days: u32::try_from(days).ok(),
            ..rule("inputs", self.inputs_prefix())
        };
        vec![uploads, rescue, inputs]
    }

    /// Puts these rules of ours in the place of those of ours that are there, beside all others;
    /// gives what the bucket says afterwards.
    pub async fn apply_lifecycle(
        &self,
        wanted: &[LifecycleRule],
    ) -> Result<Lifecycle, ObjectsError> {
        let there = match self.lifecycle_xml().await? {
            Ok(there) => there,
            Err(why) => return Ok(Lifecycle::NotKnown(why)),
        };
        let Some(others) = others(&there) else {
            let why = "its rules are written in a way that is not known".to_owned();
            return Ok(Lifecycle::NotKnown(why));
        };
        let body = document(&others, wanted);
        // S3 takes rules only with a checksum of the body.
        let md5 = STANDARD.encode(Md5::digest(body.as_bytes()));
        let md5 = HeaderValue::try_from(md5).map_err(|_| ObjectsError::Name(String::new()))?;
        let mut headers = HeaderMap::new();
        headers.insert(HeaderName::from_static("content-md5"), md5);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/xml"));
        let url = self.bucket_url(Method::PUT, LIFECYCLE, headers.clone());
        let request = self.http.put(url.await?).headers(headers).body(body);
        let (status, text) = self.ask("put the lifecycle of", request).await?;
        if !status.is_success() {
            let code = element(&text, "Code").unwrap_or("no reason given");
            return Ok(Lifecycle::NotKnown(format!("{status}: {code}")));
        }
        self.lifecycle().await
    }

    /// Where uploads in parts are begun, as a lifecycle rule has to cover it.
    pub fn uploads_prefix(&self) -> String {
        self.keys.covered("")
    }

    /// Where workers push to, as a lifecycle rule has to cover it.
    pub fn rescue_prefix(&self) -> String {
        self.keys.covered("_rescue")
    }

    /// Where clients upload inputs to, as a lifecycle rule has to cover it.
    pub fn inputs_prefix(&self) -> String {
        self.keys.covered("_uploads")
    }

    /// Signs two URLs of the public endpoint and uses them: puts an object as a worker would, and
    /// for so long opens it as a client would. The object is that of [`Objects::check`].
    pub async fn try_presigned(&self, ttl: Duration, now: Timestamp) -> Result<(), ObjectsError> {
        let key = self.keys.check();
        let put = self.presign_put(&key, SIGNED_FOR).await?;
        let request = self.http.put(put).body(CHECK);
        self.try_one("put to a presigned URL of", &key, request)
            .await?;
        let (get, _until) = self.presign_get(key.as_ref(), ttl, now).await?;
        let request = self.http.get(get);
        self.try_one("open a presigned URL of", &key, request).await
    }

    async fn try_one(
        &self,
        doing: &'static str,
        key: &Path,
        request: reqwest::RequestBuilder,
    ) -> Result<(), ObjectsError> {
        let (status, text) = self.ask(doing, request).await?;
        if status.is_success() {
            return Ok(());
        }
        Err(ObjectsError::Refused {
            doing,
            key: key.to_string(),
            status: status.as_u16(),
            said: element(&text, "Code").unwrap_or_default().to_owned(),
        })
    }

    pub(crate) async fn ask(
        &self,
        doing: &'static str,
        request: reqwest::RequestBuilder,
    ) -> Result<(StatusCode, String), ObjectsError> {
        let failed = |source: reqwest::Error| ObjectsError::Http {
            doing,
            key: "the bucket".to_owned(),
            source: source.without_url(),
        };
        let answer = request.timeout(self.request_timeout());
        let mut answer = answer.send().await.map_err(failed)?;
        let status = answer.status();
        let mut text = Vec::new();
        while let Some(piece) = answer.chunk().await.map_err(failed)? {
            text.extend_from_slice(&piece);
            if text.len() > ANSWER_BYTES_MAX {
                break;
            }
        }
        Ok((status, String::from_utf8_lossy(&text).into_owned()))
    }
}

/// The rules of the bucket's XML, each without its own tag: its elements have neither attributes
/// nor mixed content.
fn texts(xml: &str) -> Vec<&str> {
    let mut rest = xml;
    let mut texts = Vec::new();
    while let Some(rule) = element(rest, "Rule") {
        let at = rest.find("</Rule>").map_or(rest.len(), |at| at + 7);
        rest = &rest[at..];
        texts.push(rule);
    }
    texts
}

/// The rules that are not ours, as they were read; nothing if one of them was not understood.
fn others(xml: &str) -> Option<Vec<&str>> {
    let texts = texts(xml);
    let ours = |rule: &&str| element(rule, "ID").is_some_and(|id| id.starts_with(OURS));
    (texts.len() == xml.matches("<Rule").count())
        .then(|| texts.into_iter().filter(|rule| !ours(rule)).collect())
}

fn document(others: &[&str], wanted: &[LifecycleRule]) -> String {
    let mut xml = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\
        <LifecycleConfiguration xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">"
        .to_owned();
    for rule in others {
        let _infallible = write!(xml, "<Rule>{rule}</Rule>");
    }
    for rule in wanted {
        let (id, prefix) = (escaped(&rule.id), escaped(&rule.prefix));
        let _infallible = write!(
            xml,
            "<Rule><ID>{id}</ID><Filter><Prefix>{prefix}</Prefix></Filter><Status>Enabled</Status>"
        );
        if let Some(days) = rule.expire_days {
            let _infallible = write!(xml, "<Expiration><Days>{days}</Days></Expiration>");
        }
        if let Some(days) = rule.abort_days {
            let name = "AbortIncompleteMultipartUpload";
            let days = format!("<DaysAfterInitiation>{days}</DaysAfterInitiation>");
            let _infallible = write!(xml, "<{name}>{days}</{name}>");
        }
        xml.push_str("</Rule>");
    }
    xml.push_str("</LifecycleConfiguration>");
    xml
}

/// Rules that are in force.
fn rules(xml: &str) -> Vec<LifecycleRule> {
    let mut rules = Vec::new();
    for rule in texts(xml) {
        if element(rule, "Status") != Some("Enabled") {
            continue;
        }
        let days = |outer: &str, inner: &str| element(element(rule, outer)?, inner)?.parse().ok();
        let filter = element(rule, "Filter").unwrap_or_default();
        rules.push(LifecycleRule {
            id: unescaped(element(rule, "ID").unwrap_or_default()),
            prefix: unescaped(element(rule, "Prefix").unwrap_or_default()),
            narrowed: ["<Tag>", "<ObjectSize"]
                .iter()
                .any(|by| filter.contains(by)),
            abort_days: days("AbortIncompleteMultipartUpload", "DaysAfterInitiation"),
            expire_days: days("Expiration", "Days"),
        });
    }
    rules
}

/// What stands between `<name>` and `</name>`, the first time.
pub(crate) fn element<'a>(xml: &'a str, name: &str) -> Option<&'a str> {
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    let from = xml.find(&open)? + open.len();
    let to = xml[from..].find(&close)? + from;
    Some(xml[from..to].trim())
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

fn unescaped(text: &str) -> String {
    text.replace("&lt;", "<")
        .replace("&gt;", ">")
        .replace("&quot;", "\"")
        .replace("&apos;", "'")
        .replace("&amp;", "&")
}

#[cfg(test)]
mod tests {
    use super::*;

    const XML: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
        <LifecycleConfiguration xmlns="http://s3.amazonaws.com/doc/2006-03-01/">
        <Rule><ID>a</ID><Filter><Prefix>media/_rescue/</Prefix></Filter><Status>Enabled</Status>
          <Expiration><Days>7</Days></Expiration></Rule>
        <Rule><ID>b</ID><Filter><Prefix></Prefix></Filter><Status>Enabled</Status>
          <AbortIncompleteMultipartUpload><DaysAfterInitiation>2</DaysAfterInitiation>
          </AbortIncompleteMultipartUpload></Rule>
        <Rule><ID>c</ID><Filter><And><Prefix>media/</Prefix><Tag><Key>k</Key><Value>v</Value></Tag></And></Filter>
          <Status>Enabled</Status><Expiration><Days>1</Days></Expiration></Rule>
        <Rule><ID>d</ID><Prefix>media/</Prefix><Status>Disabled</Status>
          <Expiration><Days>1</Days></Expiration></Rule>
        </LifecycleConfiguration>"#;

    #[test]
    fn rules_in_force_are_read_and_cover_what_begins_so() {
        let lifecycle = Lifecycle::Rules(rules(XML));
        assert_eq!(lifecycle.aborts_under("media/"), Some(2));
        assert_eq!(lifecycle.expires_under("media/_rescue/"), Some(7));
        assert_eq!(
            lifecycle.expires_under("media/"),
            None,
            "narrowed, disabled"
        );
        assert_eq!(lifecycle.expires_under("other/_rescue/"), None);
        assert_eq!(
            Lifecycle::Rules(rules("<nonsense><Rule>")).aborts_under(""),
            None
        );
        assert_eq!(Lifecycle::NotKnown(String::new()).aborts_under(""), None);
    }

    #[test]
    fn what_is_not_ours_stays_word_for_word_and_what_is_not_understood_is_left_alone() {
        let wanted = [LifecycleRule {
            id: "photofinish-rescue".to_owned(),
            prefix: "a&b/_rescue/".to_owned(),
            expire_days: Some(2),
            ..LifecycleRule::default()
        }];
        let once = document(&others(XML).unwrap(), &wanted);
        let twice = document(&others(&once).unwrap(), &wanted);
        assert_eq!(once, twice, "ours are replaced");
        assert_eq!(texts(&once).len(), 5);
        assert_eq!(texts(&once)[..4], texts(XML)[..], "the disabled one, too");
        let read = Lifecycle::Rules(rules(&once));
        assert_eq!(read.expires_under("a&b/_rescue/"), Some(2));
        assert_eq!(others(""), Some(Vec::new()));
        assert_eq!(others("<Rule x=\"y\"><ID>b</ID></Rule>"), None);
    }
}
