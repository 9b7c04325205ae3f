#!/usr/bin/env bash
# Writes the man pages of the command line into a directory.
set -euo pipefail
dir=$(realpath -m "${1:-target/man}")
cd "$(dirname "$0")/.."
cargo run --quiet -p photofinish-cli --bin photofinish -- man --out "$dir"
