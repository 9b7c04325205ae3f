//! What the operator is told of the bucket: its lifecycle rules, and whether a URL that we sign
//! opens anything.

use crate::{Objects, ObjectsError};
use jiff::Timestamp;
use object_store::path::Path;
use object_store::signer::{Method, SignedUrlOptions, Signer as _};
use reqwest::StatusCode;
use std::time::Duration;

/// How long a signed question may be asked.
const SIGNED_FOR: Duration = Duration::from_secs(60);
/// Bytes of an answer that are read.
const ANSWER_BYTES_MAX: usize = 256 * 1024;

/// What the bucket says of its lifecycle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lifecycle {
    /// Its rules that are in force; none is an empty list.
    Rules(Vec<LifecycleRule>),
    /// It was not told: the bucket cannot be asked, or not by us. What it answered.
    NotKnown(String),
}

/// A rule that is in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LifecycleRule {
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
        let (bucket, options) = (
            Path::default(),
            SignedUrlOptions::new().with_query([("lifecycle", "")]),
        );
        let store = self.store();
        let signed = store.signed_url_opts(Method::GET, &bucket, SIGNED_FOR, &options);
        let url = self.call("sign", &bucket, signed).await?;
        let (status, text) = self.ask("ask the lifecycle of", url).await?;
        if status.is_success() && text.contains("<LifecycleConfiguration") {
            return Ok(Lifecycle::Rules(rules(&text)));
        }
        if text.contains("NoSuchLifecycleConfiguration") {
            return Ok(Lifecycle::Rules(Vec::new()));
        }
        let code = element(&text, "Code").unwrap_or("no reason given");
        Ok(Lifecycle::NotKnown(format!("{status}: {code}")))
    }

    /// Where uploads in parts are begun, as a lifecycle rule has to cover it.
    pub fn uploads_prefix(&self) -> String {
        self.keys.covered("")
    }

    /// Where workers push to, as a lifecycle rule has to cover it.
    pub fn rescue_prefix(&self) -> String {
        self.keys.covered("_rescue")
    }

    /// Signs a URL of the public endpoint for so long and opens it, as a client would; the
    /// object behind it is there once [`Objects::check`] went well.
    pub async fn try_presigned(&self, ttl: Duration, now: Timestamp) -> Result<(), ObjectsError> {
        let key = self.keys.check();
        let (url, _until) = self.presign_get(key.as_ref(), ttl, now).await?;
        let url = reqwest::Url::parse(&url).map_err(|_| ObjectsError::Name(key.to_string()))?;
        let (status, text) = self.ask("open a presigned URL of", url).await?;
        if status.is_success() {
            return Ok(());
        }
        Err(ObjectsError::Refused {
            doing: "open a presigned URL of",
            key: key.to_string(),
            status: status.as_u16(),
            said: element(&text, "Code").unwrap_or_default().to_owned(),
        })
    }

    async fn ask(
        &self,
        doing: &'static str,
        url: reqwest::Url,
    ) -> Result<(StatusCode, String), ObjectsError> {
        let failed = |source: reqwest::Error| ObjectsError::Http {
            doing,
            key: "the bucket".to_owned(),
            source: source.without_url(),
        };
        let answer = self.http.get(url).timeout(self.request_timeout());
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

/// Rules that are in force, out of the bucket's XML: its elements have neither attributes nor
/// mixed content.
fn rules(xml: &str) -> Vec<LifecycleRule> {
    let mut rest = xml;
    let mut rules = Vec::new();
    while let Some(rule) = element(rest, "Rule") {
        let at = rest.find("</Rule>").map_or(rest.len(), |at| at + 7);
        rest = &rest[at..];
        if element(rule, "Status") != Some("Enabled") {
            continue;
        }
        let days = |outer: &str, inner: &str| element(element(rule, outer)?, inner)?.parse().ok();
        let filter = element(rule, "Filter").unwrap_or_default();
        rules.push(LifecycleRule {
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
fn element<'a>(xml: &'a str, name: &str) -> Option<&'a str> {
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    let from = xml.find(&open)? + open.len();
    let to = xml[from..].find(&close)? + from;
    Some(xml[from..to].trim())
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
}
