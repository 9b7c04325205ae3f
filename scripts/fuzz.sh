#!/usr/bin/env bash
# Runs each fuzz target for a bounded time: scripts/fuzz.sh [seconds, default 60] [target …, default all]
# A find is written to fuzz/artifacts/<target>/ and makes this fail; what was learnt stays in target/fuzz/corpus.
set -euo pipefail
cd "$(dirname "$0")/.."
version=0.13.2
tools=.dev/tools/cargo-fuzz-$version
seconds=${1:-60}
shift || true
targets=("${@:-}")
[ -n "${targets[0]}" ] || targets=(srt request)

[ -x "$tools/bin/cargo-fuzz" ] ||
  cargo install --quiet --locked cargo-fuzz --version "$version" --root "$tools"
export PATH="$PWD/$tools/bin:$PATH"
# The coverage that the fuzzer is led by asks for the compiler's unstable flags, and no other compiler.
export RUSTC_BOOTSTRAP=1

for target in "${targets[@]}"; do
  corpus=target/fuzz/corpus/$target
  mkdir -p "$corpus"
  cargo fuzz run --sanitizer none --target-dir target/fuzz "$target" "$corpus" "fuzz/seeds/$target" -- \
    -max_total_time="$seconds" -max_len=4096 -timeout=10 -rss_limit_mb=1024 -print_final_stats=1
done
