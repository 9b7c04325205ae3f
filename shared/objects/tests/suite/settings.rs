//! What a deployment may set about its bucket: TLS, encryption, lifecycle.

use crate::{Outcome, connected, meta, start, tenant, time, upload};
use bytes::Bytes;
use photofinish_kit::{Answer, Authority, Receiver, S3, TlsFront, install_crypto};
use photofinish_model::JobId;
use photofinish_objects::{
    DefaultEncryption, Encryption, Lifecycle, Objects, OutputUpload, Settings,
};
use std::time::Duration;

fn settings(server: &S3, endpoint: String) -> Settings {
    let credentials = server.credentials().clone();
    Settings {
        endpoint,
        bucket: server.bucket().to_owned(),
        access_key_id: credentials.access_key,
        secret_access_key: credentials.secret_key,
        prefix: "media".to_owned(),
        ..Settings::default()
    }
}

/// Every client that we have: of object_store, of our own PUTs, and presigned addresses.
#[tokio::test]
async fn a_bucket_behind_a_private_authority_is_trusted_only_when_it_is_named() -> Outcome {
    install_crypto();
    let (server, authority) = (S3::start().await?, Authority::make()?);
    let front = TlsFront::start(server.addr(), &authority).await?;
    let endpoint = format!("https://localhost:{}", front.addr().port());
    let trusting = Settings {
        ca_pem: Some(std::fs::read(authority.ca())?),
        ..settings(&server, endpoint.clone())
    };
    let objects = Objects::connect(&trusting)?;
    objects.check().await?;
    let (job, body) = (JobId::from_random(1), &b"an output"[..]);
    let stored = upload(&objects, meta(&job, 1, 0, body), body).await?;
    assert_eq!(stored.bytes, 9);
    let now = time("2026-11-22T10:00:00Z");
    objects.try_presigned(Duration::from_mins(1), now).await?;

    let stranger = Objects::connect(&settings(&server, endpoint))?;
    assert!(stranger.check().await.is_err());
    Ok(())
}

/// A server that takes everything and notes it.
async fn asked_for(encryption: Encryption) -> anyhow::Result<Vec<(String, String)>> {
    install_crypto();
    let server = S3::start().await?;
    let noting = Receiver::start().await?;
    noting.always(Answer {
        headers: vec![("etag".to_owned(), "\"1\"".to_owned())],
        ..Answer::default()
    });
    let endpoint = noting.url("").trim_end_matches('/').to_owned();
    let objects = Objects::connect(&Settings {
        encryption,
        ..settings(&server, endpoint)
    })?;
    let (tenant, job) = (tenant(), JobId::from_random(2));
    objects.open(&tenant, &job, 1).await?;
    let body = b"an output";
    let mut upload: OutputUpload = objects.begin_output(meta(&job, 1, 0, body));
    upload.write(Bytes::from_static(body)).await?;
    upload.finish().await?;
    let received = noting.received();
    assert_eq!(received.len(), 2);
    let said = received.iter().map(|put| {
        assert_eq!(put.method, "PUT");
        let header = |name: &str| put.header(name).to_owned();
        (
            header("x-amz-server-side-encryption"),
            header("x-amz-server-side-encryption-aws-kms-key-id"),
        )
    });
    Ok(said.collect())
}

#[tokio::test]
async fn every_put_asks_for_the_encryption_that_is_set() -> Outcome {
    let of = |how: &str, key: &str| vec![(how.to_owned(), key.to_owned()); 2];
    let kms = |key: Option<&str>| Encryption::Kms {
        key_id: key.map(str::to_owned),
    };
    assert_eq!(asked_for(Encryption::Bucket).await?, of("", ""));
    assert_eq!(asked_for(Encryption::Aes256).await?, of("AES256", ""));
    assert_eq!(asked_for(kms(None)).await?, of("aws:kms", ""));
    assert_eq!(asked_for(kms(Some("k1"))).await?, of("aws:kms", "k1"));
    Ok(())
}

#[tokio::test]
async fn the_bucket_is_asked_how_it_encrypts_by_default() -> Outcome {
    let (server, objects) = start().await?;
    // The server of the tests does not know the question.
    let told = objects.default_encryption().await?;
    assert!(matches!(told, DefaultEncryption::NotKnown(_)), "{told:?}");

    let telling = Receiver::start().await?;
    telling.always(Answer {
        body: "<ServerSideEncryptionConfiguration><Rule><ApplyServerSideEncryptionByDefault>\
               <SSEAlgorithm>AES256</SSEAlgorithm></ApplyServerSideEncryptionByDefault></Rule>\
               </ServerSideEncryptionConfiguration>"
            .to_owned(),
        ..Answer::default()
    });
    let endpoint = telling.url("").trim_end_matches('/').to_owned();
    let objects = Objects::connect(&settings(&server, endpoint))?;
    let told = objects.default_encryption().await?;
    assert_eq!(told, DefaultEncryption::Set(Encryption::Aes256));
    let received = telling.received();
    let (method, uri) = (&received[0].method, received[0].uri.to_string());
    assert_eq!(method, "GET");
    assert!(uri.contains("encryption="), "{uri}");
    assert!(uri.contains("X-Amz-Signature="), "{uri}");
    Ok(())
}

#[tokio::test]
async fn rules_are_put_beside_those_that_are_there_and_again_is_harmless() -> Outcome {
    let (server, objects) = start().await?;
    assert_eq!(objects.lifecycle().await?, Lifecycle::Rules(Vec::new()));
    // Of another application, in the same bucket.
    let other = connected(&server, server.endpoint(), &server.credentials().secret_key);
    let mut foreign = other.lifecycle_wanted(Duration::from_hours(24));
    foreign.truncate(1);
    foreign[0].id = "somebody else's".to_owned();
    foreign[0].prefix = "logs/".to_owned();
    other.apply_lifecycle(&foreign).await?;

    let wanted = objects.lifecycle_wanted(Duration::from_hours(25));
    let mut expected = foreign;
    expected.extend(wanted.clone());
    for _ in 0..2 {
        let there = objects.apply_lifecycle(&wanted).await?;
        assert_eq!(there, Lifecycle::Rules(expected.clone()));
        assert_eq!(there.aborts_under(&objects.uploads_prefix()), Some(1));
        assert_eq!(there.expires_under(&objects.rescue_prefix()), Some(2));
        assert_eq!(there.expires_under(&objects.inputs_prefix()), Some(2));
        assert_eq!(there.expires_under(&objects.uploads_prefix()), None);
    }
    Ok(())
}
