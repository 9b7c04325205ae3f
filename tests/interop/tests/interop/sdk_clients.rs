//! The official clients on our emulator.

use std::path::Path;

use photofinish_interop::{House, python, script, tool};

const SDK_OF_JAVASCRIPT: &str = "node_modules/runpod-sdk/dist/src/index.js";

async fn house(program: &str) -> House {
    let python = python().unwrap();
    let program = script(program);
    House::start(
        &[&python.to_string_lossy(), "-u", &program.to_string_lossy()],
        &[],
    )
    .await
    .unwrap()
}

fn held(said: &str) -> usize {
    said.lines()
        .filter(|line| line.starts_with("held "))
        .count()
}

#[tokio::test]
async fn python_client_does_all_it_can() {
    let house = house("python/handler.py").await;
    let client = script("python/client.py");
    let said = house
        .script(&python().unwrap(), &[&client.to_string_lossy()])
        .await
        .unwrap();
    assert_eq!(held(&said), 13, "{said}");
}

#[tokio::test]
async fn python_client_reads_a_stream() {
    let house = house("python/generator.py").await;
    let client = script("python/stream.py");
    let said = house
        .script(&python().unwrap(), &[&client.to_string_lossy()])
        .await
        .unwrap();
    assert_eq!(held(&said), 2, "{said}");
}

#[tokio::test]
async fn python_sdk_manages_endpoints() {
    let house = house("python/handler.py").await;
    let client = script("python/endpoints.py");
    let said = house
        .script(&python().unwrap(), &[&client.to_string_lossy()])
        .await
        .unwrap();
    assert_eq!(held(&said), 5, "{said}");
}

#[tokio::test]
async fn javascript_client_does_all_it_can() {
    let house = house("python/handler.py").await;
    let (client, sdk) = (script("js/client.mjs"), tool(SDK_OF_JAVASCRIPT).unwrap());
    let args = [&*client.to_string_lossy(), &*sdk.to_string_lossy()];
    let said = house.script(Path::new("node"), &args).await.unwrap();
    assert_eq!(held(&said), 7, "{said}");
}

#[tokio::test]
async fn javascript_client_reads_a_stream() {
    let house = house("python/generator.py").await;
    let (client, sdk) = (script("js/stream.mjs"), tool(SDK_OF_JAVASCRIPT).unwrap());
    let args = [&*client.to_string_lossy(), &*sdk.to_string_lossy()];
    let said = house.script(Path::new("node"), &args).await.unwrap();
    assert_eq!(held(&said), 1, "{said}");
}
