#!/usr/bin/env bash
# Measures everything, one bench after the other; results in target/bench/results.json. Names of benches may be given.
set -euo pipefail
cd "$(dirname "$0")/.."
dir=.dev/test
packages=()
for name in worker fetcher interop e2e stand-in runpod-sim kit ingest dispatcher notifier; do
  packages+=(--package "photofinish-$name")
done
benches=(worker_protocol ken_burns addaudio fetch race load webhooks)
[ $# -gt 0 ] && benches=("$@")

case " ${benches[*]} " in *" worker_protocol "*) scripts/interop.sh install ;; esac
cargo build --profile bench "${packages[@]}" --bins
cargo bench --no-run "${packages[@]}" "${benches[@]/#/--bench=}"

if [ "$(scripts/servers.sh status $dir | grep -c ' runs, pid')" -lt 2 ]; then
  trap 'scripts/servers.sh clean $dir' EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM
fi
scripts/servers.sh start $dir
for bench in "${benches[@]}"; do
  cargo bench "${packages[@]}" --bench "$bench"
done
