use super::*;
use clap::CommandFactory as _;

fn parse(line: &str) -> Result<Args, clap::Error> {
    Args::try_parse_from(std::iter::once("photofinish").chain(line.split_whitespace()))
}

#[test]
fn the_definition_is_sound() {
    Args::command().debug_assert();
}

#[test]
fn every_command_parses() {
    for line in [
        "submit job.json",
        "submit - --idempotency-key A-17 --watch --json",
        "submit img2vid a.jpg b.jpg --duration 3 --motion zoom_in --watch --fetch out",
        "submit --priority high caption v.mp4 s.srt --size 6 --bold --deadline 2h",
        "submit addaudio v.mp4 a.mp3 --metadata order=A-17 --webhook-url https://x.example -q",
        "estimate job.json",
        "estimate img2vid a.jpg --duration 2",
        "get job_1",
        "list --status running --operation img2vid --metadata order=A-17 --limit 5",
        "list --all",
        "watch job_1 --fetch here",
        "cancel job_1",
        "retry job_1 --json --watch",
        "fetch job_1 --out here",
        "outputs list job_1 --all",
        "outputs delete job_1 --yes",
        "deliveries --job job_1 --status failed",
        "deliveries list --endpoint whe_1 --limit 3",
        "deliveries show dlv_1",
        "deliveries replay dlv_1",
        "deliveries replay --endpoint whe_1 --since 2026-11-22T10:00:00Z --status failed",
        "webhooks list",
        "webhooks create https://example.com/hook --event job.completed --event job.failed",
        "webhooks create https://example.com/hook --calls-per-s 20",
        "webhooks update whe_1 --receiver https://example.com/hook2",
        "webhooks update whe_1 --calls-per-s default",
        "webhooks enable whe_1 --replay-since 2026-11-22T10:00:00Z",
        "webhooks disable whe_1",
        "webhooks rotate-secret whe_1 --overlap 2h",
        "webhooks test whe_1",
        "webhooks delete whe_1",
        "tenants create acme --requests-per-s 5 --keep-outputs 30d",
        "tenants list --limit 3",
        "tenants set acme --cost-per-day-usd default",
        "tenants amqp-user acme --remove",
        "tenants delete-job acme job_1 --yes",
        "keys create acme --description CI",
        "keys create --operator",
        "keys list acme",
        "keys revoke acme --key 0a1b2c",
        "dead list --queue rejected --limit 10",
        "dead drop m1 --yes",
        "audit --limit 3",
        "doctor --json",
        "rebuild --json",
        "bucket lifecycle --apply",
        "config --profile production",
        "completions zsh",
        "man --out here",
        "endpoint diff",
        "endpoint --file e.toml apply --yes --json",
        "endpoint health --id ep1",
        "endpoint jobs a b --cancel",
        "endpoint rollout --image o/w:2 --timeout 60",
        "endpoint delete --confirm worker --now",
        "endpoint list",
        "endpoint pause ep1",
        "--url http://host:1 --api-key k get job_1",
    ] {
        assert!(parse(line).is_ok(), "{line}: {:?}", parse(line).err());
    }
}

#[test]
fn wrong_commands_are_usage_errors() {
    for line in [
        "",
        "submit",
        "submit job.json --quiet --json",
        "submit img2vid a.jpg --duration three",
        "submit job.json --deadline soon",
        "fetch job_1",
        "list --metadata order",
        "list --limit 0",
        "list --limit 1 --all",
        "keys create",
        "keys create acme --operator",
        "keys revoke acme",
        "tenants set acme --requests-per-s some",
        "deliveries replay",
        "deliveries replay --endpoint whe_1",
        "deliveries replay dlv_1 --status failed",
        "webhooks update whe_1 --event a --all-events",
        "webhooks create https://example.com/hook --calls-per-s 0",
        "completions tcsh",
        "endpoint",
        "endpoint jobs --cancel",
        "endpoint rollout",
    ] {
        let error = parse(line).unwrap_err();
        assert!(error.use_stderr(), "{line}");
    }
}

#[test]
fn values_arrive_where_they_belong() {
    let args = parse("submit - --idempotency-key A-17 --watch").unwrap();
    let Command::Submit(submit) = args.command else {
        panic!("not a submit")
    };
    assert_eq!(submit.idempotency_key.as_deref(), Some("A-17"));
    assert!(submit.watch);
    let args = parse("--url http://host:1 webhooks create https://example.com/hook").unwrap();
    let told = args.url.as_deref();
    assert_eq!(told, Some("http://host:1"), "a receiver is not the service");
    let args = parse("list --metadata a=b=c").unwrap();
    let Command::List(list) = args.command else {
        panic!("not a list")
    };
    assert_eq!(list.metadata, [("a".to_owned(), "b=c".to_owned())]);
}

#[test]
fn durations_are_read() {
    for (text, wanted) in [
        ("90", 90),
        ("90s", 90),
        ("15m", 900),
        ("2h", 7200),
        ("7d", 604_800),
    ] {
        assert_eq!(seconds(text), Ok(wanted));
    }
    for text in ["", "h", "-1", "1.5h", "1w", "99999999999999999d", "1é"] {
        assert!(seconds(text).is_err(), "{text}");
    }
}
