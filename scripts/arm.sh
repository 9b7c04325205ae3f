#!/usr/bin/env bash
# The renderer's inner loops on an emulated ARM: NEON against the plain loop. Not part of `make test`: it builds for
# another processor.
#
# Needs the compiler's target aarch64-unknown-linux-gnu (rustup target add …), a linker for it and qemu:
#   apt-get install gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user
set -euo pipefail
cd "$(dirname "$0")/.."
for program in aarch64-linux-gnu-gcc qemu-aarch64; do
  command -v $program >/dev/null || { echo "$program is missing; see the head of $0" >&2; exit 1; }
done
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER="qemu-aarch64 -L /usr/aarch64-linux-gnu"
cargo test --package photofinish-render --lib --target aarch64-unknown-linux-gnu "$@"
