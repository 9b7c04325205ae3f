//! The programs of docs/examples that speak HTTP, as they stand there.

use crate::bench::{Bench, told};
use photofinish_kit::root;
use serde_json::Value;

const PROGRAMS: [(&str, &str); 2] = [
    ("/usr/bin/bash", "curl.sh"),
    ("/usr/bin/python3", "python/http_client.py"),
];

/// Each submits the examples' job, follows it to its end and prints where its outputs are.
pub(crate) async fn over_http(bench: &Bench) {
    let examples = root().join("docs/examples");
    let job = std::fs::read_to_string(examples.join("job.json")).unwrap();
    let pictures = format!("{}/pictures/00.jpg", bench.site.files.url());
    let job = job.replace("https://example.com/one.jpg", &pictures);
    let job = job.replace("https://example.com/two.jpg", &pictures);
    std::fs::write(bench.path("example.json"), job).unwrap();
    for (program, file) in PROGRAMS {
        let mut command = bench.command(program);
        command.arg(examples.join(file));
        command.args(["example.json", file]);
        let told = told(command).await.well();
        assert_eq!(told.err, "", "{file}");
        assert!(told.out.contains("job.completed"), "{file}: {told:#?}");
        for output in ["image1", "image2"] {
            assert!(told.out.contains(output), "{file}: {told:#?}");
        }
        let id = told.out.split("job_").nth(1).expect("the job's id");
        let id: String = id.chars().take_while(char::is_ascii_alphanumeric).collect();
        let words = ["get", &format!("job_{id}"), "--json"];
        let job: Value = bench.run(&words).await.well().json();
        assert_eq!(job["status"], "completed", "{file}");
        assert_eq!(job["metadata"]["order"], "A-17", "{file}");
    }
}
