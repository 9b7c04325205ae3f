#!/usr/bin/env bash
# The AMQP tests against a RabbitMQ newer than the Debian under this machine has, without containers: Debian's packages
# of a newer suite are unpacked into a folder and run in a chroot with a mount namespace of their own. Needs root, and
# once 80 MB from Debian's mirror. Loopback only.
#
# usage: rabbitmq4.sh fetch trixie|forky    4.0 or 4.3 into .dev/rabbitmq-SUITE
#        rabbitmq4.sh test [trixie|forky]   fetch if it is not there, start, run what speaks AMQP: the suites of broker
#                                           and ingest, and whole jobs through both doors; stop. Both, if none is named
set -euo pipefail
cd "$(dirname "$0")/.."
suite=${2:-}
root=$PWD/.dev/rabbitmq-$suite
node=photofinish4

fail() { echo "rabbitmq4.sh: $*" >&2; exit 1; }
mirror() { apt-get indextargets --format '$(SITE)' 'Created-By: Packages' 2>/dev/null | head -1; }
taken() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }
free_port() { # LEAST: of the thousand ports from there
  local port
  for _ in $(seq 200); do port=$(($1 + RANDOM % 1000)); taken "$port" || { echo "$port"; return; }; done
  fail "no free port found"
}

fetch() {
  [ ! -x "$root/usr/lib/rabbitmq/bin/rabbitmq-server" ] || return 0
  [ "$(id -u)" = 0 ] || fail "run as root: a chroot needs it"
  local apt=$root.apt link deb options
  mkdir -p "$root" "$apt"/{etc/apt/apt.conf.d,etc/apt/preferences.d,state/lists/partial,cache/archives/partial}
  : >"$apt/status"
  echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $(mirror) $suite main" >"$apt/etc/apt/sources.list"
  options=(-o Dir::Etc="$apt/etc/apt" -o Dir::State="$apt/state" -o Dir::State::status="$apt/status" -o Dir::Cache="$apt/cache"
    -o APT::Sandbox::User=root -o Dir::Etc::trustedparts=/etc/apt/trusted.gpg.d)
  apt-get "${options[@]}" -q update
  apt-get "${options[@]}" -q -y install --no-install-recommends --download-only \
    rabbitmq-server dash bash coreutils sed grep mawk debianutils hostname procps findutils gzip
  for link in bin sbin lib lib64; do mkdir -p "$root/usr/$link"; [ -e "$root/$link" ] || ln -s "usr/$link" "$root/$link"; done
  for deb in "$apt"/cache/archives/*.deb; do dpkg-deb --fsys-tarfile "$deb" | tar -x --keep-directory-symlink -C "$root"; done
  ln -sf dash "$root/usr/bin/sh"
  ln -sf mawk "$root/usr/bin/awk"
  mkdir -p "$root"/{proc,dev,tmp,srv,etc}
  cp /etc/hosts /etc/passwd /etc/group "$root/etc/"
  rm -rf "$apt"
}

inside() { # COMMAND...
  unshare -m sh -c 'root=$1; shift; mount -t proc proc "$root/proc"; mount --bind /dev "$root/dev"; exec chroot "$root" "$@"' \
    sh "$root" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME="/srv/$node" LANG=C.UTF-8 HOSTNAME=localhost \
    ERL_EPMD_PORT="$epmd_port" ERL_EPMD_ADDRESS=127.0.0.1 RABBITMQ_NODENAME="$node@localhost" RABBITMQ_DIST_PORT="$dist_port" \
    RABBITMQ_MNESIA_BASE="/srv/$node/mnesia" RABBITMQ_LOG_BASE="/srv/$node/log" RABBITMQ_CONFIG_FILE="/srv/$node/rabbitmq.conf" \
    RABBITMQ_ENABLED_PLUGINS_FILE="/srv/$node/enabled_plugins" RABBITMQ_PID_FILE="/srv/$node/pid" \
    RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS='+S 2:2 +sbwt none +sbwtdcpu none +sbwtdio none -kernel inet_dist_use_interface {127,0,0,1}' "$@"
}

start() {
  local data=$root/srv/$node
  amqp_port=$(free_port 21000) api_port=$(free_port 22000) dist_port=$(free_port 23000) epmd_port=$(free_port 24000)
  rm -rf "$data"
  mkdir -p "$data"/{mnesia,log}
  cat >"$data/rabbitmq.conf" <<C
listeners.tcp.1 = 127.0.0.1:$amqp_port
loopback_users = none
management.tcp.ip = 127.0.0.1
management.tcp.port = $api_port
disk_free_limit.absolute = 50MB
C
  echo '[rabbitmq_management].' >"$data/enabled_plugins"
  inside /usr/lib/rabbitmq/bin/rabbitmq-server >"$data/out" 2>&1 &
  trap stop EXIT
  for _ in $(seq 300); do
    if taken "$amqp_port" && taken "$api_port"; then return; fi
    sleep 0.2
  done
  tail "$data/out" >&2
  fail "RabbitMQ did not start"
}

stop() {
  inside /usr/lib/rabbitmq/bin/rabbitmqctl -q -n "$node@localhost" shutdown || :
  inside /usr/bin/epmd -kill >/dev/null 2>&1 || :
}

run() {
  scripts/servers.sh start .dev/test redis >/dev/null
  start
  echo "RabbitMQ $(ls "$root/usr/lib/rabbitmq/lib" | sed -n 's/^rabbitmq_server-//p') on port $amqp_port"
  export PHOTOFINISH_TEST_AMQP=amqp://guest:guest@127.0.0.1:$amqp_port
  export PHOTOFINISH_TEST_RABBITMQ_API=http://guest:guest@127.0.0.1:$api_port
  # Tests that start and kill nodes of their own start this machine's.
  cargo nextest run -p photofinish-broker -E 'not test(faults)'
  cargo nextest run -p photofinish-ingest \
    -E 'test(amqp) or test(crowd) or test(table) or test(anything) or test(jobs) or test(limits) or test(tenants)'
  cargo build --bins --package=photofinish-{ingest,dispatcher,fetcher,notifier,worker,runpod-sim,kit}
  cargo nextest run -p photofinish-e2e -E 'binary(main_job)'
}

case ${1:-}/$suite in
  fetch/trixie | fetch/forky) fetch ;;
  test/trixie | test/forky) fetch; run ;;
  test/) for suite in trixie forky; do scripts/rabbitmq4.sh test $suite; done ;;
  *) sed -n '2,9p' "$0"; exit 64 ;;
esac
