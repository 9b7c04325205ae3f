#!/usr/bin/env bash
# Writes everything that is generated from the code.
set -euo pipefail
cd "$(dirname "$0")/.."
cargo run --quiet -p photofinish-e2e --bin generate
