use super::*;
use crate::output::tests::Shared;
use photofinish_kit::{Answer, Received, Receiver, install_crypto};
use serde_json::json;

/// A service and its store in one; an address of it holds for so long.
async fn service(hours: i64) -> (Receiver, Client) {
    install_crypto();
    let service = Receiver::start().await.unwrap();
    let end = now() + SignedDuration::from_hours(hours);
    let target = json!({"id": "u", "put_url": service.url("/put?signature=s"),
        "put_url_expires_at": end, "url": "https://store.example/u", "url_expires_at": end});
    // The answer to a PUT is not read, so it may be the same.
    service.always(Answer {
        status: 201,
        body: target.to_string(),
        ..Answer::default()
    });
    let client = Client::new(&service.url("/").parse().unwrap(), "key").unwrap();
    (service, client)
}

fn draft(files: &[&Path]) -> Draft {
    let images: Vec<_> = files
        .iter()
        .map(|_| json!({"image_url": "local"}))
        .collect();
    let places = files.iter().enumerate();
    Draft {
        body: json!({"images": images}),
        files: places
            .map(|(n, path)| (format!("/images/{n}/image_url"), path.to_path_buf()))
            .collect(),
    }
}

async fn up(client: &Client, files_of: &[&Path], home: &Path) -> Result<Draft, CliError> {
    let mut draft = draft(files_of);
    let output = Output::into_writer(Box::new(Shared::default()), true);
    files(client, &mut draft, Some(home.to_owned()), &output).await?;
    Ok(draft)
}

fn puts(service: &Receiver) -> Vec<Received> {
    let calls = service.received().into_iter();
    calls.filter(|call| call.method == "PUT").collect()
}

#[tokio::test]
async fn each_content_goes_up_once_and_is_remembered() {
    let (service, client) = service(24).await;
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (dir.path().join("a.jpg"), dir.path().join("b.jpg"));
    std::fs::write(&a, "picture").unwrap();
    std::fs::write(&b, "picture").unwrap();
    let draft = up(&client, &[&a, &b], dir.path()).await.unwrap();
    for image in draft.body["images"].as_array().unwrap() {
        assert_eq!(image["image_url"], "https://store.example/u");
    }
    let sent = puts(&service);
    assert_eq!(sent.len(), 1, "one content, one upload");
    assert_eq!(sent[0].body, "picture");
    assert_eq!(sent[0].header("content-length"), "7");
    assert_eq!(
        sent[0].header("authorization"),
        "",
        "our key went to the store"
    );
    up(&client, &[&a], dir.path()).await.unwrap();
    assert_eq!(puts(&service).len(), 1, "uploaded again");
    let other = Client::new(client.base(), "another tenant's key").unwrap();
    up(&other, &[&a], dir.path()).await.unwrap();
    assert_eq!(
        puts(&service).len(),
        2,
        "another tenant's address was taken"
    );
}

#[tokio::test]
async fn an_address_that_ends_before_the_job_may_is_not_taken_again() {
    let (service, client) = service(11).await;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a.jpg");
    std::fs::write(&file, "picture").unwrap();
    up(&client, &[&file], dir.path()).await.unwrap();
    up(&client, &[&file], dir.path()).await.unwrap();
    assert_eq!(puts(&service).len(), 2);
}

#[tokio::test]
async fn a_broken_upload_is_tried_again_and_a_wrong_file_is_not() {
    let (service, client) = service(24).await;
    let target = |path: &str| Answer {
        status: 201,
        body: json!({"put_url": service.url(path), "url": "https://store.example/u",
            "url_expires_at": now() + SignedDuration::from_hours(24)})
        .to_string(),
        ..Answer::default()
    };
    service.script([target("/put"), Answer::status(503), target("/put")]);
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a.jpg");
    std::fs::write(&file, "picture").unwrap();
    up(&client, &[&file], dir.path()).await.unwrap();
    assert_eq!(puts(&service).len(), 2);
    std::fs::write(&file, "").unwrap();
    let error = up(&client, &[&file], dir.path()).await.unwrap_err();
    assert_eq!(error.exit_code(), 64);
    assert!(error.to_string().contains("the file is empty"), "{error}");
}
