#!/usr/bin/env bash
# The bill of materials of one program as CycloneDX 1.6: every crate that is linked into it or runs while it is built,
# with version, licence, checksum and package URL, read from cargo and Cargo.lock. The same tree gives the same bytes.
#
# usage: sbom.sh PACKAGE [PROGRAM]   for example: sbom.sh photofinish-ingest
set -euo pipefail
cd "$(dirname "$0")/.."
package=$1
program=${2:-$1}
target=$(scripts/static.sh target)
version=$(sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' Cargo.toml)

cargo tree --locked --package "$package" --edges normal,build --target "$target" --prefix none --no-dedupe \
  --format '{p}|{l}' | sort -u | awk -v program="$program" -v version="$version" '
  function quoted(text) { gsub(/\\/, "\\\\", text); gsub(/"/, "\\\"", text); return "\"" text "\"" }
  # Cargo.lock first: the checksum of each crate and version.
  FILENAME != "-" {
    if ($1 == "name") { name = $3; gsub(/"/, "", name) }
    if ($1 == "version") { crate = $3; gsub(/"/, "", crate); crate = name " " crate }
    if ($1 == "checksum") { sum = $3; gsub(/"/, "", sum); checksums[crate] = sum }
    next
  }
  FNR == 1 {
    print "{"
    print "  \"bomFormat\": \"CycloneDX\", \"specVersion\": \"1.6\", \"version\": 1,"
    print "  \"metadata\": {\"component\": {\"type\": \"application\", \"bom-ref\": " quoted(program "@" version) ","
    print "    \"name\": " quoted(program) ", \"version\": " quoted(version) ","
    print "    \"licenses\": [{\"license\": {\"id\": \"Apache-2.0\"}}]}},"
    print "  \"components\": ["
  }
  {
    split($0, parts, "|"); split(parts[1], words, " ")
    name = words[1]; number = substr(words[2], 2)
    if (name == "" || (name " " number) in seen) next
    seen[name " " number] = 1
    ours = parts[1] ~ /\(\//
    line = "    {\"type\": \"library\", \"bom-ref\": " quoted(name "@" number) ", \"name\": " quoted(name) ", \"version\": " quoted(number)
    if (parts[2] != "") { gsub(/\//, " OR ", parts[2]); line = line ", \"licenses\": [{\"expression\": " quoted(parts[2]) "}]" }
    if ((name " " number) in checksums) line = line ", \"hashes\": [{\"alg\": \"SHA-256\", \"content\": " quoted(checksums[name " " number]) "}]"
    if (!ours) line = line ", \"purl\": " quoted("pkg:cargo/" name "@" number)
    if (before != "") print before ","
    before = line "}"
  }
  END { print before; print "  ]"; print "}" }' Cargo.lock -
