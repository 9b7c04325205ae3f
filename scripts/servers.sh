#!/usr/bin/env bash
# Private servers for tests and the demo: one RabbitMQ and one Redis on free loopback ports, from Debian's packages.
# Nothing under /etc or /var is read or written, no root is needed once the packages are there.
#
# usage: servers.sh start  [DIR] [rabbitmq|redis]   start what is not running; writes DIR/env; data stays in DIR
#        servers.sh stop   [DIR]                    stop exactly what was started there
#        servers.sh clean  [DIR]                    stop, and delete DIR
#        servers.sh status [DIR]
#        servers.sh kill9  DIR rabbitmq|redis       for tests: start brings it back on the same ports
#        servers.sh ctl    DIR ARGS...              rabbitmqctl on the private node
#        servers.sh install                         only install what is missing (root), or say what to install
set -euo pipefail
cd "$(dirname "$0")/.."
command=${1:-help}
dir=${2:-.dev/test}
only=${3:-}
bin=/usr/lib/rabbitmq/bin

fail() { echo "servers.sh: $*" >&2; exit 1; }

have_rabbitmq() { [ -x "$bin/rabbitmq-server" ]; }

install_missing() {
  local missing=()
  have_rabbitmq || missing+=(rabbitmq-server)
  command -v redis-server >/dev/null || missing+=(redis-server)
  command -v redis-cli >/dev/null || missing+=(redis-tools)
  command -v ffmpeg >/dev/null && command -v ffprobe >/dev/null || missing+=(ffmpeg)
  # The worker asks fontconfig which fonts there are.
  command -v fc-list >/dev/null || missing+=(fontconfig)
  [ -e /etc/ssl/certs/ca-certificates.crt ] || missing+=(ca-certificates)
  [ ${#missing[@]} -eq 0 ] && return
  if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    fail "these packages are missing; install them with: sudo apt-get install -y --no-install-recommends ${missing[*]}"
  fi
  echo "installing ${missing[*]}" >&2
  # The packages' own services must not start: ours are private ones. An existing policy is left alone.
  local policy=/usr/sbin/policy-rc.d made=
  [ -e $policy ] || { printf '#!/bin/sh\nexit 101\n' >$policy; chmod 755 $policy; made=1; }
  local ok=1
  { apt-get update -q && DEBIAN_FRONTEND=noninteractive \
      apt-get install -y -q --no-install-recommends "${missing[@]}"; } >&2 || ok=
  [ -z "$made" ] || rm -f $policy
  [ -n "$ok" ] || fail "apt-get could not install ${missing[*]}"
}

taken() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# A free port below the ephemeral range, so that no outgoing connection takes it between now and the bind.
free_port() {
  local port
  for _ in $(seq 200); do
    port=$((20000 + (RANDOM * 32768 + RANDOM) % 12000))
    taken "$port" || { echo "$port"; return; }
  done
  fail "no free port found"
}

# pid file -> whether that process runs and is the program meant (a number may have been given away since)
runs() {
  local pid
  [ -f "$1" ] && pid=$(cat "$1") && [ -n "$pid" ] && [ -r "/proc/$pid/cmdline" ] &&
    tr '\0' ' ' <"/proc/$pid/cmdline" | grep -q -- "$2"
}
rabbitmq_runs() { runs "$dir/rabbitmq/pid" beam; }
redis_runs() { runs "$dir/redis/pid" redis-server; }

# The ports of the last start, if they are still free; else new ones.
choose_ports() { # FILE NAME...
  local file=$1 name again=; shift
  if [ -f "$file" ]; then
    # shellcheck disable=SC1090
    . "$file"
    for name in "$@"; do if [ "$name" != epmd_port ] && taken "${!name}"; then again=1; fi; done
    [ -n "$again" ] || return 0
  fi
  : >"$file"
  for name in "$@"; do printf '%s=%s\n' "$name" "$(free_port)" >>"$file"; done
  # shellcheck disable=SC1090
  . "$file"
}

rabbitmq_env() {
  local d=$dir/rabbitmq
  # shellcheck disable=SC1091
  . "$d/ports"
  export HOME=$d ERL_EPMD_PORT=$epmd_port ERL_EPMD_ADDRESS=127.0.0.1 # the cookie lies in $HOME
  export RABBITMQ_CONF_ENV_FILE=$d/env.conf RABBITMQ_NODENAME=photofinish@localhost RABBITMQ_NODE_IP_ADDRESS=127.0.0.1 \
    RABBITMQ_NODE_PORT=$amqp_port RABBITMQ_DIST_PORT=$dist_port RABBITMQ_MNESIA_BASE=$d/mnesia RABBITMQ_LOG_BASE=$d/log \
    RABBITMQ_CONFIG_FILE=$d/rabbitmq.conf RABBITMQ_ADVANCED_CONFIG_FILE=$d/advanced.config \
    RABBITMQ_ENABLED_PLUGINS_FILE=$d/enabled_plugins RABBITMQ_PID_FILE=$d/pid RABBITMQ_GENERATED_CONFIG_DIR=$d/config \
    RABBITMQ_SCHEMA_DIR=$d/schema RABBITMQ_FEATURE_FLAGS_FILE=$d/feature_flags \
    RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS="-kernel inet_dist_use_interface {127,0,0,1} +S 2:2 +sbwt none +sbwtdcpu none +sbwtdio none"
}

rabbitmq_start() {
  rabbitmq_runs && return
  local d=$dir/rabbitmq
  mkdir -p "$d"
  choose_ports "$d/ports" amqp_port dist_port api_port epmd_port
  if [ ! -f "$d/.erlang.cookie" ]; then
    (umask 077; head -c 20 /dev/urandom | od -An -tx1 | tr -d ' \n' >"$d/.erlang.cookie"); chmod 400 "$d/.erlang.cookie"
  fi
  rabbitmq_env
  : >"$d/env.conf"
  cat >"$d/rabbitmq.conf" <<C
listeners.tcp.1 = 127.0.0.1:$amqp_port
management.tcp.ip = 127.0.0.1
management.tcp.port = $api_port
vm_memory_high_watermark.absolute = 1GiB
disk_free_limit.absolute = 200MB
max_message_size = 4194304
C
  # What a tier had half handed on when the node was killed is handed on again after this; the default is 3 minutes.
  echo '[{rabbit, [{dead_letter_worker_publisher_confirm_timeout, 10000}]}].' >"$d/advanced.config"
  echo '[rabbitmq_management].' >"$d/enabled_plugins"
  rm -f "$d/pid"
  nohup setsid "$bin/rabbitmq-server" >"$d/out" 2>&1 </dev/null 9>&- &
  local i
  for i in $(seq 600); do
    [ -s "$d/pid" ] && taken "$amqp_port" && taken "$api_port" && break
    sleep 0.2
  done
  if ! taken "$amqp_port" || ! "$bin/rabbitmqctl" -q -n "$RABBITMQ_NODENAME" await_startup >/dev/null 9>&-; then
    tail -20 "$d/out" >&2
    fail "RabbitMQ did not start; see $d/out and $d/log"
  fi
}

rabbitmq_stop() {
  [ -f "$dir/rabbitmq/ports" ] || return 0
  (
    rabbitmq_env
    if rabbitmq_runs; then
      timeout 60 "$bin/rabbitmqctl" -q -n "$RABBITMQ_NODENAME" shutdown >/dev/null || kill -9 "$(cat "$dir/rabbitmq/pid")" || :
    fi
    # The node's own name server; it may be gone already.
    epmd -port "$epmd_port" -kill >/dev/null 2>&1 || :
  )
  rm -f "$dir/rabbitmq/pid"
}

redis_start() {
  redis_runs && return
  local d=$dir/redis i
  mkdir -p "$d"
  choose_ports "$d/ports" redis_port
  redis-server --daemonize yes --bind 127.0.0.1 --port "$redis_port" --dir "$d" --pidfile "$d/pid" --logfile "$d/log" \
    --appendonly yes --appendfsync everysec --save "" >/dev/null 9>&-
  for i in $(seq 100); do
    redis-cli -p "$redis_port" ping 2>/dev/null | grep -q PONG && [ -s "$d/pid" ] && return
    sleep 0.05
  done
  fail "Redis did not start; see $d/log"
}

redis_stop() {
  redis_runs || return 0
  local pid
  pid=$(cat "$dir/redis/pid")
  kill "$pid"
  for _ in $(seq 100); do kill -0 "$pid" 2>/dev/null || break; sleep 0.05; done
  rm -f "$dir/redis/pid"
}

write_env() {
  local part=$dir/env.part
  : >"$part"
  if [ -f "$dir/rabbitmq/ports" ]; then
    # shellcheck disable=SC1091
    . "$dir/rabbitmq/ports"
    echo "PHOTOFINISH_TEST_AMQP=amqp://guest:guest@127.0.0.1:$amqp_port" >>"$part"
    echo "PHOTOFINISH_TEST_RABBITMQ_API=http://guest:guest@127.0.0.1:$api_port" >>"$part"
  fi
  if [ -f "$dir/redis/ports" ]; then
    # shellcheck disable=SC1091
    . "$dir/redis/ports"
    echo "PHOTOFINISH_TEST_REDIS=redis://127.0.0.1:$redis_port" >>"$part"
  fi
  mv "$part" "$dir/env"
}

# One start or stop at a time in a directory.
locked() { mkdir -p "$dir"; dir=$(cd "$dir" && pwd); exec 9>"$dir/lock"; flock 9; }

case $command in
  start)
    install_missing
    locked
    [ "$only" = redis ] || rabbitmq_start
    [ "$only" = rabbitmq ] || redis_start
    write_env
    cat "$dir/env"
    ;;
  stop | clean)
    [ -d "$dir" ] || exit 0
    locked
    rabbitmq_stop
    redis_stop
    rm -f "$dir/env"
    if [ "$command" = clean ]; then rm -rf "$dir"; fi
    ;;
  status)
    [ -d "$dir" ] && dir=$(cd "$dir" && pwd)
    rabbitmq_runs && echo "rabbitmq runs, pid $(cat "$dir/rabbitmq/pid")" || echo "rabbitmq does not run"
    redis_runs && echo "redis runs, pid $(cat "$dir/redis/pid")" || echo "redis does not run"
    [ ! -f "$dir/env" ] || cat "$dir/env"
    ;;
  kill9)
    locked
    case $only in
      rabbitmq) rabbitmq_runs || fail "rabbitmq does not run" ;;
      redis) redis_runs || fail "redis does not run" ;;
      *) fail "kill9 DIR rabbitmq|redis" ;;
    esac
    kill -9 "$(cat "$dir/$only/pid")"
    rm -f "$dir/$only/pid"
    # It goes not at once; as long as its ports are taken a start would choose others.
    # shellcheck disable=SC1090
    . "$dir/$only/ports"
    for port in ${amqp_port:-} ${dist_port:-} ${api_port:-} ${redis_port:-}; do
      for _ in $(seq 200); do taken "$port" || break; sleep 0.05; done
    done
    ;;
  ctl)
    dir=$(cd "$dir" && pwd)
    rabbitmq_env
    shift 2
    exec "$bin/rabbitmqctl" -q -n "$RABBITMQ_NODENAME" "$@"
    ;;
  install) install_missing ;;
  *)
    sed -n '2,12p' "$0"
    exit 64
    ;;
esac
