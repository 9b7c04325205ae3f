#!/usr/bin/env bash
# A rolling upgrade with real processes: an older version of the services and this one at the same time, service by
# service, while jobs flow; then one service back, and forth again. Every law of the chaos suite must hold for each job.
#
# usage: upgrade-test.sh [REVISION | DIR]          REVISION: a tag or commit that is built (once) in a worktree of its own
#        upgrade-test.sh --record OUT [REVISION | DIR]   only write examples of what the older version says and keeps
# Without an argument: what was built last under .dev/upgrade, else the newest tag, else the commit before this one.
set -euo pipefail
cd "$(dirname "$0")/.."

record=()
if [ "${1:-}" = --record ]; then
  record=(--record "$2")
  shift 2
fi
programs=(photofinish-{ingest,dispatcher,fetcher,notifier} stand-in-worker)
keep=.dev/upgrade
mkdir -p $keep

from=${1:-}
if [ -z "$from" ]; then
  from=$(find $keep -mindepth 2 -maxdepth 2 -name photofinish-ingest -printf '%T@ %h\n' 2>/dev/null | sort -n | tail -n 1 | cut -d' ' -f2-)
fi
[ -n "$from" ] || from=$(git describe --tags --abbrev=0 2>/dev/null || git rev-parse HEAD~1)
if [ ! -d "$from" ]; then
  revision=$(git rev-parse --short "$from^{commit}")
  from=$keep/$revision
  if [ ! -x "$from/photofinish-ingest" ]; then
    tree=$keep/$revision.tree
    git worktree add --force --detach "$tree" "$revision"
    trap 'git worktree remove --force "$tree"' EXIT
    packages=(ingest dispatcher fetcher notifier stand-in)
    (cd "$tree" && cargo build --target-dir ../target "${packages[@]/#/--package=photofinish-}" --bins)
    mkdir -p "$from"
    cp "${programs[@]/#/$keep/target/debug/}" "$from"
  fi
fi

cargo build --bins --package=photofinish-{chaos,kit,runpod-sim,stand-in,ingest,dispatcher,fetcher,notifier}
if [ "$(scripts/servers.sh status .dev/test | grep -c ' runs, pid')" -lt 2 ]; then
  stop=1
fi
scripts/servers.sh start .dev/test >/dev/null
echo "from $from"
status=0
target/debug/photofinish-upgrade --from "$from" "${record[@]}" || status=$?
[ -z "${stop:-}" ] || scripts/servers.sh clean .dev/test
exit $status
