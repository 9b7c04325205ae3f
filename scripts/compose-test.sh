#!/usr/bin/env bash
# docker-compose.yml for real: the whole system in containers, the demo's three jobs through both doors, the fetcher
# killed in the middle, every file, hash and webhook checked as the demo checks them, Prometheus asked whether it
# reaches every service; then all of it down. Images that cannot be pulled are made here (deploy/compose/stand-ins).
#
# usage: compose-test.sh          images that are not built yet are built first
#        compose-test.sh config   only reads the files, with every version of compose that is here
#        compose-test.sh kill     what the test does to the fetcher (the test calls it)
set -euo pipefail
cd "$(dirname "$0")/.."
project=photofinish-test
dir=$PWD/.dev/compose
env_file=$dir/env
version=$(sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' Cargo.toml)

fail() { echo "compose-test.sh: $*" >&2; exit 1; }

compose_command() {
  if docker compose version >/dev/null 2>&1; then echo docker compose; else echo docker-compose; fi
}
compose() {
  # shellcheck disable=SC2046
  command $(compose_command) -p "$project" --env-file "$env_file" -f docker-compose.yml -f deploy/compose/local.yml "$@"
}
container() { docker ps -aq --filter "label=com.docker.compose.project=$project" --filter "label=com.docker.compose.service=$1" | head -n 1; }

write_env() {
  mkdir -p "$dir"
  deploy/compose/secrets.sh "$dir/secrets"
  {
    cat deploy/compose/emulator.env
    # Ports that nobody else here has; the bucket's is that of its presigned URLs.
    echo "PHOTOFINISH_SECRETS=$dir/secrets"
    echo "PHOTOFINISH_HTTP_BIND=127.0.0.1:18080"
    echo "PHOTOFINISH_AMQP_BIND=127.0.0.1:15673"
    echo "PHOTOFINISH_PROMETHEUS_BIND=127.0.0.1:19090"
    # Three workers share the test machine's processors.
    echo "BATCH_SIZE=1"
  } >"$env_file"
}

check_config() {
  local file services
  write_env
  for file in "" "-f deploy/compose/local.yml"; do
    # shellcheck disable=SC2086
    for how in "docker-compose" "docker compose"; do
      $how version >/dev/null 2>&1 || continue
      services=$($how --env-file "$env_file" -f docker-compose.yml $file --profile emulator --profile observability --profile cli config --services | sort | paste -sd' ')
      echo "$how reads docker-compose.yml ${file}: $services"
    done
  done
  services=$(docker-compose --version 2>/dev/null || docker compose version) || fail "no compose is installed"
}

stand_ins() {
  local name
  [ "$(docker images -q "photofinish/s3:$version")" ] || scripts/images.sh build s3
  for name in rabbitmq valkey s3 prometheus; do
    [ -z "$(docker images -q "photofinish-stand-in/$name")" ] || continue
    docker build --quiet --network host --build-arg "S3_IMAGE=photofinish/s3:$version" --target "$name" \
      -t "photofinish-stand-in/$name" deploy/compose/stand-ins >/dev/null
  done
}

# Every container with a health check is healthy.
wait_healthy() {
  local unhealthy=
  for _ in $(seq 240); do
    unhealthy=$(docker ps -a --filter "label=com.docker.compose.project=$project" --format '{{.Names}} {{.Status}}' | grep -v '(healthy)' || true)
    [ -n "$unhealthy" ] || return 0
    sleep 0.5
  done
  fail "not healthy: $unhealthy"
}

# kill -9 by Docker, which then leaves the container down; it is started again by hand.
kill_fetcher() {
  local id
  id=$(container fetcher)
  docker kill --signal KILL "$id" >/dev/null
  [ "$(docker inspect --format '{{.State.Running}} {{.State.ExitCode}}' "$id")" = "false 137" ] || fail "the fetcher still runs"
  docker start "$id" >/dev/null
  echo "  the fetcher's container was killed and started again"
  # A crash of its own: the process is killed behind Docker's back, and the restart policy brings it back.
  id=$(container dispatcher)
  kill -9 "$(docker inspect --format '{{.State.Pid}}' "$id")"
  for _ in $(seq 100); do
    [ "$(docker inspect --format '{{.RestartCount}} {{.State.Running}}' "$id")" != "1 true" ] || { echo "  the dispatcher was killed, and Docker started it again"; return; }
    sleep 0.2
  done
  fail "Docker did not start the dispatcher again"
}

# Prometheus reaches each service; waits for two rounds of scraping.
check_prometheus() {
  local up=
  for _ in $(seq 90); do
    up=$(curl -fsS 'http://127.0.0.1:19090/api/v1/query' --data-urlencode 'query=count by (component) (up == 1)' 2>/dev/null |
      grep -oE '"component":"[a-z]+"' | sort -u | wc -l) || up=0
    [ "$up" -lt 4 ] || { echo "Prometheus reaches all four services"; return; }
    sleep 1
  done
  curl -fsS http://127.0.0.1:19090/api/v1/targets?state=active | head -c 2000 >&2
  fail "Prometheus reaches $up of 4 services"
}

# The command line's container, as README has it: a key, then a picture that is uploaded, rendered and fetched by name.
check_cli() {
  local key
  PHOTOFINISH_OPERATOR_KEY=$(cat "$dir/secrets/operator_key")
  export PHOTOFINISH_OPERATOR_KEY
  compose --profile cli run --rm -T cli tenants list | grep -q demo || fail "the command line's container lists no tenant"
  key=$(compose --profile cli run --rm -T cli --json keys create demo | tr -d '\n' | sed -n 's/.*"key": *"\([^"]*\)".*/\1/p')
  mkdir -p "$dir/run/picture"
  ffmpeg -v error -y -f lavfi -i mandelbrot=size=640x360 -frames:v 1 "$dir/run/picture/picture.jpg"
  PHOTOFINISH_API_KEY=$key compose --profile cli run --rm -T -v "$dir/run/picture:/here:ro" cli \
    submit img2vid /here/picture.jpg --duration 1 --watch >"$dir/run/submit.log" 2>&1 ||
    { cat "$dir/run/submit.log" >&2; fail "the command line's container could not have a picture rendered"; }
  echo "the command line's container uploaded a picture and saw its clip done"
}

ours() { echo ingest dispatcher fetcher notifier runpod-sim worker-1 worker-2 worker-3; }

# Nothing that a container started is left dead and unburied: our programs are process 1 there.
check_zombies() {
  local name dead
  for name in $(ours); do
    dead=$(docker top "$(container "$name")" -eo pid,stat,comm | awk 'NR > 1 && $2 ~ /^Z/')
    [ -z "$dead" ] || fail "$name has dead children: $dead"
  done
  echo "no container has dead children"
}

# Each ends by itself, cleanly, within its grace period, with everything else still there.
check_stops() {
  local name id began=$SECONDS
  # shellcheck disable=SC2046
  compose stop --timeout 45 $(ours) >/dev/null 2>&1
  for name in $(ours); do
    id=$(container "$name")
    [ "$(docker inspect --format '{{.State.ExitCode}} {{.State.OOMKilled}}' "$id")" = "0 false" ] ||
      fail "$name did not end cleanly: $(docker inspect --format '{{json .State}}' "$id")"
  done
  echo "all of ours ended with 0, $((SECONDS - began)) s after they were told to"
}

down() {
  local status=$?
  if [ $status -ne 0 ]; then
    mkdir -p "$dir/logs"
    for id in $(docker ps -aq --filter "label=com.docker.compose.project=$project"); do
      docker logs "$id" >"$dir/logs/$(docker inspect --format '{{.Name}}' "$id" | tr -d /).log" 2>&1 || :
    done
    echo "the containers' logs lie in $dir/logs" >&2
  fi
  compose down --volumes --timeout 45 --remove-orphans >/dev/null 2>&1 || :
  exit $status
}

run() {
  local name gateway began=$SECONDS
  if scripts/docker-engine.sh env >/dev/null 2>&1; then
    eval "$(scripts/docker-engine.sh env)"
  elif ! docker version >/dev/null 2>&1; then
    eval "$(scripts/docker-engine.sh up)"
  fi
  for name in ingest dispatcher fetcher notifier cli runpod-sim worker; do
    [ "$(docker images -q "photofinish/$name:$version")" ] || scripts/images.sh build "$name"
    made=$(docker image inspect --format '{{index .Config.Labels "org.opencontainers.image.revision"}}' "photofinish/$name:$version")
    [ "$made" = "$(git rev-parse HEAD)" ] || echo "photofinish/$name is of ${made:-no revision}, not of HEAD: make images" >&2
  done
  docker buildx version >/dev/null 2>&1 || export DOCKER_BUILDKIT=0
  stand_ins
  cargo build --quiet -p photofinish-demo
  check_config
  trap down EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM
  compose down --volumes --remove-orphans >/dev/null 2>&1 || :
  compose --profile emulator --profile observability up -d --no-build rabbitmq valkey s3 ingest dispatcher fetcher notifier \
    runpod-sim worker-1 worker-2 worker-3 prometheus
  wait_healthy
  echo "everything is healthy after $((SECONDS - began)) s"
  gateway=$(docker network inspect --format '{{(index .IPAM.Config 0).Gateway}}' "${project}_default")
  target/debug/photofinish-demo containers --dir "$dir/run" --ingest http://127.0.0.1:18080 --amqp 127.0.0.1:15673 \
    --s3 http://127.0.0.1:7070 --s3-name s3 --secrets "$dir/secrets" --own-address "$gateway" \
    --on-the-way "$PWD/scripts/compose-test.sh" --on-the-way kill
  check_prometheus
  check_cli
  [ -z "$(docker ps -a --filter "label=com.docker.compose.project=$project" --format '{{.Status}}' | grep -vF '(healthy)' || true)" ] ||
    fail "something is unhealthy at the end"
  check_zombies
  check_stops
  echo "the compose file holds; $((SECONDS - began)) s in all"
}

case ${1:-run} in
  run) run ;;
  config) check_config ;;
  kill) kill_fetcher ;;
  *) sed -n '2,9p' "$0"; exit 64 ;;
esac
