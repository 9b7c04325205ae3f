#!/usr/bin/env bash
# RunPod's official SDKs against our emulator and our worker, and the official libraries of Standard Webhooks against
# our signatures, and Schemathesis against the OpenAPI document that ingest serves.
#
# usage: interop.sh install    get the newest Python SDK (PyPI) and, where node is, the JavaScript SDK (npm)
#        interop.sh test       install, build, run the suite
set -euo pipefail
cd "$(dirname "$0")/.."
dir=.dev/interop
package=photofinish-interop

has_node() { command -v node >/dev/null && command -v npm >/dev/null; }

# Debian's python3 without python3-venv leaves half of one behind.
make_venv() { python3 -m venv $dir/venv >/dev/null 2>&1 || { rm -rf $dir/venv; return 1; }; }

install() {
  mkdir -p $dir
  if [ ! -x $dir/venv/bin/python ] && ! make_venv; then
    if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
      echo "python3 with venv is missing; install it with: sudo apt-get install -y python3-venv" >&2
      exit 1
    fi
    { apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends python3-venv; } >&2
    make_venv
  fi
  # Newest each time, unless the network is away and one is there already.
  $dir/venv/bin/python -m pip install --quiet --disable-pip-version-check --upgrade runpod standardwebhooks schemathesis pika jsonschema ||
    $dir/venv/bin/python -c 'import runpod, standardwebhooks, schemathesis, pika, jsonschema'
  if has_node; then
    npm install --silent --no-audit --no-fund --prefix $dir runpod-sdk@latest standardwebhooks@latest amqplib@latest ||
      [ -d $dir/node_modules/runpod-sdk -a -d $dir/node_modules/standardwebhooks -a -d $dir/node_modules/amqplib ]
  fi
  echo "SDKs: runpod $($dir/venv/bin/python -m pip list 2>/dev/null | awk '$1 == "runpod" { print $2 }') (Python)," \
    "$(has_node && node -p "'runpod-sdk ' + require('./$dir/node_modules/runpod-sdk/package.json').version" || echo none) (JavaScript)" >&2
}

run() {
  local filter=() skip=()
  if ! has_node; then
    echo "############################################################" >&2
    echo "# node is not there: RunPod's JavaScript SDK is NOT tested. " >&2
    echo "############################################################" >&2
    filter=(-E 'not test(javascript_)')
    skip=(--skip javascript_)
  fi
  # As `make test` does, so that nothing is built twice for other features.
  cargo build --workspace --bins --tests
  if cargo nextest --version >/dev/null 2>&1; then
    cargo nextest run --workspace --ignore-default-filter --test interop "${filter[@]}"
  else
    cargo test --workspace --test interop -- "${skip[@]}"
  fi
}

case ${1:-test} in
  install) install ;;
  test) install; run ;;
  *) sed -n '5,8p' "$0"; exit 2 ;;
esac
