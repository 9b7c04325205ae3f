//! `amqps://` with a certificate on either side.

use photofinish_broker::{Outgoing, Route, Settings, Target, TlsFiles, WorkQueue};
use photofinish_kit::{Authority, Rabbit, RabbitTls, wait_for};

use crate::rig::{Process, SOON, settings};

fn secured(url: &str, authority: &Authority) -> Settings {
    let (cert, key) = authority.client();
    Settings {
        tls: TlsFiles {
            ca_file: authority.ca().display().to_string(),
            cert_file: cert.display().to_string(),
            key_file: key.display().to_string(),
        },
        ..settings(url)
    }
}

#[tokio::test]
async fn messages_go_over_tls_and_a_stranger_on_either_side_is_refused() -> anyhow::Result<()> {
    photofinish_kit::install_crypto();
    let authority = Authority::make()?;
    let (rabbit, tls) = (Rabbit::fresh().await?, RabbitTls::open(&authority).await?);
    let url = tls.url_of(&rabbit);
    let process = Process::launch(&secured(&url, &authority))?;
    process.ready().await?;
    let outgoing = Outgoing::new(Target::Pipeline(Route::JobCommand), "over tls");
    process.broker.publisher().publish(outgoing).await?;
    let held = wait_for(SOON, "the message", || async {
        process.broker.get(WorkQueue::Plan).await.ok().flatten()
    });
    held.await?
        .settle(photofinish_broker::Disposition::Ack)
        .await;
    assert_eq!(process.drain().await, 0);

    // Who signed the broker's certificate is not trusted; and the broker trusts nobody without one.
    let strangers = [
        (settings(&url), "certificate"),
        (
            Settings {
                tls: TlsFiles {
                    ca_file: authority.ca().display().to_string(),
                    ..TlsFiles::default()
                },
                ..settings(&url)
            },
            "",
        ),
    ];
    for (settings, why) in strangers {
        let process = Process::launch(&settings)?;
        let told = wait_for(SOON, "the refusal is told", || async {
            let failing = process.health.failing();
            let told = failing.into_iter().find(|(_, told)| told != "starting");
            told.map(|(_, told)| told)
        });
        let told = told.await?.to_lowercase();
        assert!(told.contains(why), "{told}");
        assert!(!process.broker.ready());
        process.drain().await;
    }
    Ok(())
}
