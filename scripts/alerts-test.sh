#!/usr/bin/env bash
# Alerts and dashboards, tried with a real Prometheus (Debian's package, installed if it is missing and we are root).
#   scripts/alerts-test.sh rules        the rules are valid; each alert fires when it must, and only then
#   scripts/alerts-test.sh dashboards   the whole product at work, scraped: every panel's query must show something
set -euo pipefail
cd "$(dirname "$0")/.."

need() { # PROGRAM PACKAGE
  command -v "$1" >/dev/null && return
  if [ "$(id -u)" != 0 ]; then
    echo "$1 is missing: install Debian's package $2" >&2
    exit 1
  fi
  DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "$2" >/dev/null
}

rules() {
  promtool check rules deploy/monitoring/rules.yaml
  promtool test rules deploy/monitoring/tests/alerts.yaml
}

# With the programs of `make test`, or with those of another profile: `programs=target/demo`.
dashboards() {
  local programs=${programs:-target/debug}
  if [ ! -x "$programs/photofinish-demo" ]; then
    echo "no programs in $programs: run \`make test\`, or \`make demo-build\` and set programs=target/demo" >&2
    exit 1
  fi
  python3 deploy/monitoring/tests/dashboards.py "$programs"
}

case "${1:-rules}" in
rules)
  need promtool prometheus
  rules
  ;;
dashboards)
  need prometheus prometheus
  need ffmpeg ffmpeg
  dashboards
  ;;
*)
  echo "usage: scripts/alerts-test.sh rules|dashboards" >&2
  exit 2
  ;;
esac
