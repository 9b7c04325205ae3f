#!/usr/bin/env bash
# The Secrets of an overlay without the External Secrets Operator, with fresh random keys, on standard output:
#
#   AWS_ACCESS_KEY_ID=… AWS_SECRET_ACCESS_KEY=… RUNPOD_API_KEY=… k8s/secrets.sh photofinish | kubectl create -f -
#
# The argument is the namespace. `create`, never `apply`: keys that are there already are kept, since what they have sealed
# could not be read with others. Keep a copy of photofinish-sealing and photofinish-tokens elsewhere.
set -euo pipefail
namespace=${1:?usage: k8s/secrets.sh NAMESPACE}

key() { head -c 32 /dev/urandom | base64; }
word() { head -c 24 /dev/urandom | od -An -tx1 | tr -d ' \n'; }

secret() { # NAME KEY=VALUE...
  echo "---"
  echo "apiVersion: v1"
  echo "kind: Secret"
  echo "metadata: {name: $1, namespace: $namespace, labels: {app.kubernetes.io/part-of: photofinish, rabbitmq.com/topology-operator: \"true\"}}"
  echo "data:"
  shift
  local pair
  for pair in "$@"; do
    echo "  ${pair%%=*}: $(printf %s "${pair#*=}" | base64 | tr -d '\n')"
  done
}

rabbitmq=$(word) management=$(word) keda=$(word) redis=$(word)
secret photofinish-rabbitmq username=photofinish "password=$rabbitmq" \
  "url=amqps://photofinish:$rabbitmq@rabbitmq:5671/photofinish"
secret photofinish-rabbitmq-management username=photofinish-management "password=$management" \
  "url=https://photofinish-management:$management@rabbitmq:15671"
secret photofinish-rabbitmq-keda username=photofinish-keda "password=$keda" tls=enable \
  "host=https://photofinish-keda:$keda@rabbitmq.$namespace.svc:15671/photofinish"
secret photofinish-redis "url=rediss://:$redis@valkey:6379" "conf=requirepass $redis"
secret photofinish-s3 "access-key-id=${AWS_ACCESS_KEY_ID:?of the bucket}" \
  "secret-access-key=${AWS_SECRET_ACCESS_KEY:?of the bucket}"
secret photofinish-tokens "keys=$(key)"
secret photofinish-sealing "key=$(key)"
secret photofinish-operator "key=op_$(word)"
secret photofinish-runpod "api-key=${RUNPOD_API_KEY:?of the RunPod account}"
