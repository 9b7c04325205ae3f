//! `rediss://` with a certificate on either side.

use crate::Outcome;
use photofinish_jobstore::{Class, JobStore, Settings, TlsFiles};
use photofinish_kit::{Authority, RedisServer, install_crypto};
use secrecy::SecretString;

#[tokio::test]
async fn redis_is_asked_over_tls_and_a_stranger_on_either_side_is_refused() -> Outcome {
    install_crypto();
    let authority = Authority::make()?;
    let server = RedisServer::start_tls(&authority).await?;
    let url = server.tls_url().unwrap();
    let (cert, key) = authority.client();
    let ours = TlsFiles {
        ca_file: authority.ca().display().to_string(),
        cert_file: cert.display().to_string(),
        key_file: key.display().to_string(),
    };
    let store = |tls: TlsFiles| {
        JobStore::connect(&Settings {
            url: SecretString::from(url.as_str()),
            tls,
            ..Settings::default()
        })
    };
    store(ours.clone())?.ping().await?;

    let nobody = TlsFiles {
        cert_file: String::new(),
        key_file: String::new(),
        ..ours.clone()
    };
    for stranger in [TlsFiles::default(), nobody] {
        let error = store(stranger)?.ping().await.unwrap_err();
        assert_eq!(error.class(), Class::Transient, "an operator mends it");
    }
    // Files are read at each connection: what is missing now may be there later.
    let late = TlsFiles {
        ca_file: "/none/ca.crt".to_owned(),
        ..ours
    };
    let error = store(late)?.ping().await.unwrap_err();
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert!(source.contains("/none/ca.crt"), "{source}");
    Ok(())
}
