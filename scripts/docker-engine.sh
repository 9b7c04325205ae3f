#!/usr/bin/env bash
# A Docker engine where none runs, from Debian's packages, with a socket and data of its own below .dev/docker, and
# stand-ins for base images where no registry is reached. Root only.
#
# usage: docker-engine.sh up     start it (installs what is missing); prints the line to `eval`
#        docker-engine.sh env    that line, if it runs; else fails
#        docker-engine.sh bases  make debian:bookworm-slim and rust:1.95-slim-bookworm if they are not there
#        docker-engine.sh down   stop it, and take back its network; the data stays
#        docker-engine.sh clean  the same, and delete the data
set -euo pipefail
cd "$(dirname "$0")/.."
dir=$PWD/.dev/docker
# Sockets have short names.
run=${TMPDIR:-/tmp}/photofinish-docker
export DOCKER_HOST=unix://$run/docker.sock

fail() { echo "docker-engine.sh: $*" >&2; exit 1; }
answers() { docker version >/dev/null 2>&1; }

install_missing() {
  local missing=() command
  for command in dockerd:docker.io docker-compose:docker-compose iptables:iptables debootstrap:debootstrap; do
    command -v "${command%:*}" >/dev/null || missing+=("${command#*:}")
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  # Debian's own service must not start: ours is a private one.
  local policy=/usr/sbin/policy-rc.d made=
  [ -e $policy ] || { printf '#!/bin/sh\nexit 101\n' >$policy; chmod 755 $policy; made=1; }
  { apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${missing[@]}"; } >&2
  [ -z "$made" ] || rm -f $policy
}

up() {
  [ "$(id -u)" = 0 ] || fail "run as root, or start an engine yourself"
  install_missing
  if ! answers; then
    mkdir -p "$dir" "$run"
    nohup setsid dockerd --data-root "$dir/data" --exec-root "$run/exec" --pidfile "$run/pid" -H "$DOCKER_HOST" \
      >"$dir/log" 2>&1 </dev/null &
    for _ in $(seq 150); do answers && break; sleep 0.2; done
    answers || { tail "$dir/log" >&2; fail "the engine did not start"; }
  fi
  env_line
}

env_line() { answers || fail "it does not run"; echo "export DOCKER_HOST=$DOCKER_HOST"; }

down() {
  [ -f "$run/pid" ] || return 0
  local pid
  pid=$(cat "$run/pid")
  kill "$pid" 2>/dev/null || :
  for _ in $(seq 300); do [ -e "$run/pid" ] || break; sleep 0.2; done
  umount "$run/exec/netns/default" 2>/dev/null || :
  ip link del docker0 2>/dev/null || :
  iptables-save | grep -vE 'DOCKER|docker0' | iptables-restore || :
  rm -rf "$run"
}

# The package mirror that this machine uses; $(SITE) is apt's own.
# shellcheck disable=SC2016
mirror() { apt-get indextargets --format '$(SITE)' 'Created-By: Packages' 2>/dev/null | grep -m1 '/debian$'; }
has_image() { docker image inspect "$1" >/dev/null 2>&1; }

bases() {
  local root sysroot
  if ! has_image debian:bookworm-slim; then
    root=$(mktemp -d -p "$dir")
    debootstrap --variant=minbase --include=ca-certificates bookworm "$root/debian" "$(mirror)" >&2
    rm -rf "$root"/debian/{var/cache/apt/archives/*.deb,var/lib/apt/lists/*,usr/share/doc,usr/share/man,usr/share/locale}
    tar -C "$root/debian" --numeric-owner -c . | docker import -c 'CMD ["bash"]' - debian:bookworm-slim >&2
    rm -rf "$root"
  fi
  if ! has_image rust:1.95-slim-bookworm; then
    root=$(mktemp -d -p "$dir")
    sysroot=$(rustc --print sysroot)
    tar -C "$sysroot" --exclude=lib/rustlib/src --exclude=share -cf "$root/toolchain.tar" bin/cargo bin/rustc lib
    cat >"$root/Dockerfile" <<'D'
FROM debian:bookworm-slim
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev && rm -rf /var/lib/apt/lists/*
ADD toolchain.tar /usr/local/
D
    DOCKER_BUILDKIT=0 docker build --quiet --network host -t rust:1.95-slim-bookworm "$root" >&2
    rm -rf "$root"
  fi
}

case ${1:-} in
  up) up ;;
  env) env_line ;;
  bases) bases ;;
  down) down ;;
  clean) down; rm -rf "$dir" ;;
  *) sed -n '2,9p' "$0"; exit 64 ;;
esac
