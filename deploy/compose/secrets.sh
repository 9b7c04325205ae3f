#!/usr/bin/env bash
# Makes the secrets of docker-compose.yml, each a file with random content. One that is there stays as it is: the
# sealing key and the token keys must be kept as long as the bucket. Containers read them as their own users, so the
# files may be read by all, and the directory by its owner alone.
#
# usage: secrets.sh [DIR]   default: deploy/compose/secrets
set -euo pipefail
dir=${1:-$(dirname "$0")/secrets}
umask 077
mkdir -p "$dir"
chmod 700 "$dir"

word() { head -c 24 /dev/urandom | od -An -v -tx1 | tr -d ' \n'; }
key() { head -c 32 /dev/urandom | base64 -w0; }
put() { # NAME VALUE
  if [ ! -e "$dir/$1" ]; then
    printf '%s\n' "$2" >"$dir/$1"
    echo "made $dir/$1" >&2
  fi
  chmod 444 "$dir/$1"
}

# The three that hold RabbitMQ's password, and the two that hold Valkey's, are made together.
if [ ! -e "$dir/rabbitmq_user" ]; then
  password=$(word)
  put rabbitmq_user "default_user = photofinish
default_pass = $password"
  rm -f "$dir/broker_url" "$dir/broker_management_url"
  put broker_url "amqp://photofinish:$password@rabbitmq:5672/%2f"
  put broker_management_url "http://photofinish:$password@rabbitmq:15672"
fi
if [ ! -e "$dir/valkey_auth" ]; then
  password=$(word)
  put valkey_auth "requirepass $password"
  rm -f "$dir/redis_url"
  put redis_url "redis://:$password@valkey:6379"
fi
put s3_access_key_id "photofinish"
put s3_secret_access_key "$(word)"
put token_keys "$(key)"
put sealing_key "$(key)"
put operator_key "op_$(word)"
put grafana_admin_password "$(word)"
# The emulator's. Write your account's key over it.
put runpod_api_key "sim-client-key"
