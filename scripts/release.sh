#!/usr/bin/env bash
# A release of the version in Cargo.toml: static programs, packed so that the same programs give the same archives, with
# a bill of materials each and checksums, in target/dist. What was packed is unpacked and run at the end.
#
# usage: release.sh                   builds for this machine's kind (musl where it is there, else glibc, linked in)
#        release.sh --programs DIR    packs programs that are built already (scripts/static.sh install DIR)
set -euo pipefail
cd "$(dirname "$0")/.."
version=$(sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' Cargo.toml)
target=$(scripts/static.sh target)
dist=target/dist
# The time of the commit, so that the clock of the machine is in no archive.
epoch=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 0)}

fail() { echo "release.sh: $*" >&2; exit 1; }

# Archive, then what is in it; the emulator is for trials.
archives=(
  "photofinish-services:photofinish-ingest photofinish-dispatcher photofinish-fetcher photofinish-notifier"
  "photofinish-worker:photofinish-worker"
  "photofinish-cli:photofinish"
  "runpod-sim:runpod-sim"
)
declare -A package=([photofinish]=photofinish-cli)

pack() { # NAME PROGRAM...
  local name=$1 root program; shift
  root=$stage/$name-$version
  mkdir -p "$root"
  for program in "$@"; do
    [ -x "$programs/$program" ] || fail "$programs/$program is not there"
    install -m 755 "$programs/$program" "$root/$program"
    scripts/sbom.sh "${package[$program]:-${program/#runpod-sim/photofinish-runpod-sim}}" "$program" >"$root/$program.cdx.json"
    cp "$root/$program.cdx.json" "$dist/$program-$version.cdx.json"
  done
  install -m 644 LICENSE CHANGELOG.md "$root/"
  case $name in
    photofinish-services) install -m 644 docs/config.md docs/problems.md deploy/rabbitmq/definitions.json "$root/" ;;
    photofinish-worker) install -m 644 docs/fonts.md deploy/runpod/endpoint.toml "$root/" ;;
    photofinish-cli)
      "$root/photofinish" man --out "$root/man" >/dev/null
      mkdir -p "$root/completions"
      for shell in bash zsh fish; do "$root/photofinish" completions "$shell" >"$root/completions/photofinish.$shell"; done
      ;;
  esac
  tar -C "$stage" --sort=name --mtime="@$epoch" --owner=0 --group=0 --numeric-owner --mode=u+rw,go=u-w --format=gnu -c "$name-$version" |
    gzip -9n >"$dist/$name-$version-$target.tar.gz"
}

verify() {
  local archive program said
  (cd "$dist" && sha256sum --quiet --check SHA256SUMS)
  mkdir "$stage/unpacked"
  for archive in "$dist"/*.tar.gz; do tar -C "$stage/unpacked" -xzf "$archive"; done
  for program in $(printf '%s\n' "${archives[@]#*:}"); do
    program=$(find "$stage/unpacked" -name "$program" -type f -perm -u+x)
    # Nothing of the machine is needed: an empty environment will do.
    said=$(env -i "$program" --version)
    [[ $said == *"$version"* ]] || fail "$program says $said, not $version"
    ! ldd "$program" 2>/dev/null | grep -q '=>' || fail "$program needs libraries of the machine"
  done
}

grep -qF "$version" CHANGELOG.md || fail "CHANGELOG.md does not name $version"
mkdir -p "$dist"
find "$dist" -maxdepth 1 -type f -delete
if [ "${1:-}" = --programs ]; then
  programs=$2
else
  programs=$dist/programs
  scripts/static.sh install "$programs"
fi
stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT
for archive in "${archives[@]}"; do
  # shellcheck disable=SC2086
  pack "${archive%%:*}" ${archive#*:}
done
(cd "$dist" && sha256sum -- *.tar.gz *.cdx.json >SHA256SUMS)
verify
(cd "$dist" && ls -l -- *.tar.gz && echo "SHA256SUMS: $(wc -l <SHA256SUMS) files, checked; every program was unpacked and run")
