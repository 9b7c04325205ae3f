//! Schemathesis against a real ingest: it makes calls from the served OpenAPI document, good and bad, and holds every
//! answer against what the document says.

use crate::house::{House, OPERATOR};
use photofinish_interop::tool;
use tokio::process::Command;

/// What an answer must never be: a fault of ours, or something that the document does not know.
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,\
    response_headers_conformance,response_schema_conformance,allow_header_conformance";
/// Seconds for the tenant's calls, and for the operator's.
const BUDGET_S: &str = "25";

#[tokio::test(flavor = "multi_thread")]
async fn no_call_is_answered_otherwise_than_the_document_says() {
    let house = House::open().await;
    let (base, key) = (&house.base, house.key.as_str());
    for (key, which) in [(key, "--exclude-tag"), (OPERATOR, "--include-tag")] {
        let answer = Command::new(tool("venv/bin/schemathesis").unwrap())
            .args(["run", &format!("{base}/openapi.json"), which, "admin"])
            .args(["--header", &format!("Authorization: Bearer {key}")])
            .args([
                "--checks",
                CHECKS,
                "--max-time",
                BUDGET_S,
                "--max-examples",
                "20",
            ])
            .args([
                "--phases",
                "examples,coverage,fuzzing",
                "--seed",
                "1",
                "--no-color",
            ])
            .output()
            .await
            .unwrap();
        let told = String::from_utf8_lossy(&answer.stdout);
        assert!(
            answer.status.success(),
            "{told}{}",
            String::from_utf8_lossy(&answer.stderr)
        );
    }
}
