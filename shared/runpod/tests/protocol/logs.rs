//! Log lines name their job as RunPod's log page looks for it: `requestId`.

use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};

use photofinish_runpod::worker::{Job, JobContext, JobOutcome};
use serde_json::{Value, json};

use crate::server::Server;
use crate::working::{Working, give, in_turn, job, quick};

/// What was logged.
#[derive(Debug, Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lines.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Lines {
    fn with(&self, message: &str) -> Vec<Value> {
        let lines = self.0.lock().unwrap().clone();
        let lines = String::from_utf8(lines).unwrap();
        let lines = lines
            .lines()
            .map(|line| serde_json::from_str(line).unwrap());
        lines
            .filter(|line: &Value| line["message"] == message)
            .collect()
    }
}

#[tokio::test]
async fn lines_carry_the_id_of_the_job_as_request_id() {
    let lines = Lines::default();
    let writer = lines.clone();
    // As the runtime sets it up.
    let subscriber = tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_span_list(false)
        .with_writer(move || writer.clone())
        .finish();
    let _here = tracing::subscriber::set_default(subscriber);
    let jobs = json!([job("a"), job("b")]);
    let server = Server::start(in_turn("job-take", vec![give(&jobs)])).await;
    let logging = |job: Job, _: JobContext| async move {
        tracing::info!("the handler's own");
        JobOutcome::done(json!(job.id))
    };
    let _working = Working::start(&server, quick(), logging);
    server.count("job-done", 2).await;
    let ids = |lines: &[Value], pointer: &str| -> Vec<String> {
        let ids = lines.iter().map(|line| line.pointer(pointer).unwrap());
        ids.map(|id| id.as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(ids(&lines.with("job taken"), "/requestId"), ["a", "b"]);
    let own = lines.with("the handler's own");
    assert_eq!(ids(&own, "/span/requestId"), ["a", "b"]);
}
