//! How the bucket encrypts what is put into it without asking: what workers push and clients upload comes by presigned
//! addresses, which carry no headers. Only read; whoever owns the bucket sets it.

use crate::lifecycle::element;
use crate::{Encryption, Objects, ObjectsError};
use object_store::signer::{HeaderMap, Method};

/// The bucket's own default.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DefaultEncryption {
    /// It encrypts so; [`Encryption::Bucket`]: not at all.
    Set(Encryption),
    /// It was not told: the bucket cannot be asked, or not by us. What it answered.
    NotKnown(String),
}

impl Encryption {
    /// Whether what is encrypted so is encrypted at least as is wanted. A key may be named by its id or its ARN.
    pub fn covers(&self, wanted: &Self) -> bool {
        match (wanted, self) {
            (Self::Bucket, _)
            | (Self::Aes256, Self::Aes256 | Self::Kms { .. })
            | (Self::Kms { key_id: None }, Self::Kms { .. }) => true,
            (
                Self::Kms {
                    key_id: Some(wanted),
                },
                Self::Kms {
                    key_id: Some(there),
                },
            ) => there.ends_with(wanted.as_str()) || wanted.ends_with(there.as_str()),
            (Self::Aes256 | Self::Kms { .. }, _) => false,
        }
    }

    /// In S3's own words.
    pub fn told(&self) -> String {
        match self {
            Self::Bucket => "none".to_owned(),
            Self::Aes256 => "AES256".to_owned(),
            Self::Kms { key_id: None } => "aws:kms".to_owned(),
            Self::Kms { key_id: Some(key) } => format!("aws:kms with {key}"),
        }
    }
}

impl Objects {
    /// How the bucket encrypts what does not ask for it.
    pub async fn default_encryption(&self) -> Result<DefaultEncryption, ObjectsError> {
        let signed = self.bucket_url(Method::GET, "encryption", HeaderMap::new());
        let request = self.http.get(signed.await?);
        let (status, text) = self.ask("ask the encryption of", request).await?;
        if status.is_success() && text.contains("<ServerSideEncryptionConfiguration") {
            return Ok(read(&text));
        }
        if text.contains("ServerSideEncryptionConfigurationNotFound") {
            return Ok(DefaultEncryption::Set(Encryption::Bucket));
        }
        let code = element(&text, "Code").unwrap_or("no reason given");
        Ok(DefaultEncryption::NotKnown(format!("{status}: {code}")))
    }
}

fn read(xml: &str) -> DefaultEncryption {
    let key_id = element(xml, "KMSMasterKeyID").map(str::to_owned);
    DefaultEncryption::Set(match element(xml, "SSEAlgorithm") {
        Some("AES256") => Encryption::Aes256,
        // With two layers, too: `aws:kms:dsse`.
        Some(kms) if kms.starts_with("aws:kms") => Encryption::Kms { key_id },
        Some(other) => return DefaultEncryption::NotKnown(other.to_owned()),
        None => Encryption::Bucket,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kms(key: Option<&str>) -> Encryption {
        Encryption::Kms {
            key_id: key.map(str::to_owned),
        }
    }

    #[test]
    fn a_default_is_enough_or_not() {
        let arn = "arn:aws:kms:eu-central-1:1:key/k1";
        let zoo = [
            (Encryption::Bucket, Encryption::Bucket, true),
            (Encryption::Aes256, Encryption::Bucket, false),
            (Encryption::Aes256, Encryption::Aes256, true),
            (Encryption::Aes256, kms(None), true),
            (kms(None), Encryption::Aes256, false),
            (kms(None), kms(Some("k1")), true),
            (kms(Some("k1")), kms(None), false),
            (kms(Some("k1")), kms(Some(arn)), true),
            (kms(Some(arn)), kms(Some("k1")), true),
            (kms(Some("k2")), kms(Some(arn)), false),
        ];
        for (wanted, there, enough) in zoo {
            assert_eq!(there.covers(&wanted), enough, "{wanted:?} {there:?}");
        }
    }

    #[test]
    fn the_buckets_words_are_read() {
        let of = |inner: &str| {
            read(&format!(
                "<ServerSideEncryptionConfiguration><Rule><ApplyServerSideEncryptionByDefault>{inner}\
                 </ApplyServerSideEncryptionByDefault></Rule></ServerSideEncryptionConfiguration>"
            ))
        };
        let set = DefaultEncryption::Set;
        assert_eq!(
            of("<SSEAlgorithm>AES256</SSEAlgorithm>"),
            set(Encryption::Aes256)
        );
        let key = "<SSEAlgorithm>aws:kms</SSEAlgorithm><KMSMasterKeyID>k1</KMSMasterKeyID>";
        assert_eq!(of(key), set(kms(Some("k1"))));
        assert_eq!(
            of("<SSEAlgorithm>aws:kms:dsse</SSEAlgorithm>"),
            set(kms(None))
        );
        assert_eq!(of(""), set(Encryption::Bucket));
        let other = of("<SSEAlgorithm>rot13</SSEAlgorithm>");
        assert_eq!(other, DefaultEncryption::NotKnown("rot13".to_owned()));
    }
}
