#!/usr/bin/env bash
# RunPod's official SDKs against our emulator and our worker, and the official libraries of Standard Webhooks against
# our signatures, Schemathesis against the OpenAPI document that ingest serves, and the programs of docs/examples.
#
# usage: interop.sh install    get the newest of each (PyPI; npm where node is)
#        interop.sh test       install, build, run the suite
#        interop.sh examples   install, build, run the programs of docs/examples alone
#        interop.sh filter     what of the suite can be run here, for nextest
set -euo pipefail
cd "$(dirname "$0")/.."
dir=.dev/interop

has_node() { command -v node >/dev/null && command -v npm >/dev/null; }

# The example in Go: with the newest library, else with Debian's.
build_go() (
  mkdir -p $dir/go
  cp docs/examples/go/submit.go $dir/go/
  cd $dir/go
  rm -f submit
  [ -f go.mod ] || go mod init photofinish.example/submit 2>/dev/null
  if go get github.com/rabbitmq/amqp091-go@latest 2>/dev/null; then
    go build -o submit submit.go
  else
    GO111MODULE=off GOPATH=/usr/share/gocode go build -o submit submit.go
  fi
)

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
      ls -d $dir/node_modules/{runpod-sdk,standardwebhooks,amqplib} >/dev/null
  fi
  echo "SDKs: runpod $($dir/venv/bin/python -m pip list 2>/dev/null | awk '$1 == "runpod" { print $2 }') (Python)," \
    "$(has_node && node -p "'runpod-sdk ' + require('./$dir/node_modules/runpod-sdk/package.json').version" || echo none) (JavaScript)" >&2
}

filter() {
  local all='package(photofinish-interop)'
  has_node || all+=' and not test(javascript_)'
  [ -x $dir/go/submit ] || all+=' and not test(go_)'
  echo "$all"
}

run() { # FILTER: of nextest, what of the suite
  has_node || echo "### node is not there: what is written in JavaScript is NOT tested ###" >&2
  { command -v go >/dev/null && build_go; } || echo "### Go or its AMQP library is not there: the example in Go is NOT tested ###" >&2
  # As `make test` does, so that nothing is built twice for other features.
  cargo build --workspace --bins --tests
  if cargo nextest --version >/dev/null 2>&1; then
    cargo nextest run --workspace --ignore-default-filter -E "$(filter) and $1"
  else
    local skip=()
    has_node || skip+=(--skip javascript_)
    [ -x $dir/go/submit ] || skip+=(--skip go_)
    cargo test --workspace --test interop -- "${skip[@]}"
  fi
}

case ${1:-test} in
  install) install ;;
  test) install; run 'all()' ;;
  examples) install; run 'test(example)' ;;
  filter) filter ;;
  *) sed -n '5,8p' "$0"; exit 2 ;;
esac
