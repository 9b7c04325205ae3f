#!/usr/bin/env bash
# Runs every test of the workspace. Servers that are not running are started, and stopped again in the end.
# With CI set also those of RunPod's SDKs (`make interop`), which wait more than they work, beside the others.
set -euo pipefail
cd "$(dirname "$0")/.."
dir=.dev/test

# Captions are drawn with fonts of the machine.
scripts/fonts.sh
# Manifests are rendered and looked through.
scripts/k8s-test.sh tools
sdks=
if [ -n "${CI:-}" ]; then
  scripts/interop.sh install &
  sdks=$!
fi

# Tests start the services as processes of their own. Together with the tests, or the crates that tests ask more
# features of would be built twice. Benches are not run, but must build.
cargo build --workspace --all-targets
[ -z "$sdks" ] || wait "$sdks"

if [ "$(scripts/servers.sh status $dir | grep -c ' runs, pid')" -lt 2 ]; then
  trap 'scripts/servers.sh clean $dir' EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM
fi
scripts/servers.sh start $dir

if cargo nextest --version >/dev/null 2>&1; then
  which=()
  if [ -n "$sdks" ]; then
    which=(--profile ci --ignore-default-filter
      -E "not package(photofinish-interop) or ($(scripts/interop.sh filter))")
  fi
  cargo nextest run --workspace "${which[@]}" || {
    code=$?
    # What the broker said of itself: memory and disk alarms, and parts of it that crashed.
    grep -hE 'alarm|Supervisor|CRASH' $dir/rabbitmq/log/*.log | tail -n 20
    df -h . | tail -n 1
    exit $code
  } >&2
  cargo test --workspace --doc --quiet
else
  # One at a time: tests that measure memory want a process of their own. The SDKs of others are `make interop`'s.
  cargo test --workspace --exclude photofinish-interop -- --test-threads=1
fi
