//! The README says everything that can be told to the emulator.

use clap::CommandFactory as _;

use super::*;

const README: &str = include_str!("../../README.md");

#[test]
fn every_flag_is_in_the_readme() {
    let command = Config::command();
    let flags = command.get_arguments().filter_map(clap::Arg::get_long);
    let missing: Vec<&str> = flags
        .filter(|flag| !matches!(*flag, "help" | "version"))
        .filter(|flag| !README.contains(&format!("`--{flag}")))
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[tokio::test]
async fn every_call_of_the_control_api_in_the_readme_is_there() {
    let bench = Bench::bare(&[]).await;
    let paths = README.split('`').filter_map(|code| {
        let (_, path) = code.split_once(" /_sim/")?;
        Some(path.split(' ').next().unwrap_or_default())
    });
    let mut seen = 0;
    for path in paths {
        let path = format!("/_sim/{}", path.replace("{id}", "nobody"));
        // Neither is answered 404 by the router, which has no body.
        let answer = bench
            .http
            .request(reqwest::Method::OPTIONS, bench.url(&path));
        assert_eq!(answer.send().await.unwrap().status(), 405, "{path}");
        seen += 1;
    }
    assert!(seen >= 9, "{seen}");
    bench.sim.stop().await;
}
