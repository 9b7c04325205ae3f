#!/usr/bin/env bash
# Writes everything that is generated from the code.
set -euo pipefail
cd "$(dirname "$0")/.."
cargo run --quiet -p photofinish-e2e --bin generate
# What runs Photofinish with the operators of RabbitMQ, from what was just written.
k8s/topology.py write
