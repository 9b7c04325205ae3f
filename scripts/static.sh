#!/usr/bin/env bash
# Builds the programs that are shipped, each one file that needs no library of the machine it runs on: for musl where
# that target and its compiler are there, else for glibc, linked into it.
#
# usage: static.sh target    the target that is taken
#        static.sh build     builds; nothing is printed but cargo's own messages
#        static.sh install DIR   builds, and copies the programs to DIR
set -euo pipefail
cd "$(dirname "$0")/.."
# Package and program; the emulator and the S3 server are for trials.
programs=(ingest:photofinish-ingest dispatcher:photofinish-dispatcher fetcher:photofinish-fetcher
  notifier:photofinish-notifier worker:photofinish-worker cli:photofinish runpod-sim:runpod-sim kit:photofinish-s3)

target() {
  local host musl
  host=$(rustc -vV | sed -n 's/^host: //p')
  musl=${host/-gnu/-musl}
  if [ "$musl" != "$host" ] && [ -d "$(rustc --print sysroot)/lib/rustlib/$musl" ] && command -v musl-gcc >/dev/null; then
    echo "$musl"
  else
    echo "$host"
  fi
}

build() {
  local arguments=() program
  for program in "${programs[@]}"; do arguments+=(--package "photofinish-${program%%:*}" --bin "${program#*:}"); done
  # With a target named, the flags are for the programs alone, not for what runs while they are built. Without
  # optimisation across crates, as `make bench` measures them: it would generate every dependency anew for each program,
  # four minutes of a processor apiece.
  RUSTFLAGS="${RUSTFLAGS:-} -C target-feature=+crt-static" CARGO_PROFILE_RELEASE_LTO=false CARGO_INCREMENTAL=0 \
    cargo build --locked --release --target "$(target)" "${arguments[@]}"
}

case ${1:-} in
  target) target ;;
  build) build ;;
  install)
    build
    mkdir -p "$2"
    for program in "${programs[@]}"; do
      cp "${CARGO_TARGET_DIR:-target}/$(target)/release/${program#*:}" "$2/"
    done
    ;;
  *) sed -n '2,8p' "$0"; exit 64 ;;
esac
