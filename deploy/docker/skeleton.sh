#!/usr/bin/env bash
# What decides how the dependencies are built, and nothing else: manifests, the lock file, patched crates, and an empty
# file for each of our own targets. Docker keeps the layer that is built of it until one of these changes.
#
# usage: skeleton.sh DIR
set -euo pipefail
cd "$(dirname "$0")/../.."
to=$1
mkdir -p "$to"
cp -r Cargo.toml Cargo.lock third-party "$to"
for optional in .cargo vendor; do [ ! -d "$optional" ] || cp -r "$optional" "$to"; done
cp --parents scripts/static.sh "$to"

# Cargo finds a target in these places alone; a file deeper down is part of one, and may come and go.
targets=(src/lib.rs src/main.rs "src/bin/*.rs" "src/bin/*/main.rs")
for folder in benches examples tests; do targets+=("$folder/*.rs" "$folder/*/main.rs"); done
find services shared tests -name Cargo.toml | sort | while read -r manifest; do
  cp --parents "$manifest" "$to"
  crate=$(dirname "$manifest")
  for target in "${targets[@]}"; do
    # The pattern is matched in the crate's directory.
    for source in "$crate"/$target; do
      [ -f "$source" ] || continue
      mkdir -p "$to/$(dirname "$source")"
      case $source in
        */src/lib.rs) : >"$to/$source" ;;
        *) echo 'fn main() {}' >"$to/$source" ;;
      esac
    done
  done
done
