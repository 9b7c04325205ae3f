"""A rendered overlay: its objects, and what the pods among them read.

Guarantee: what is found here is what `kubectl apply -k` would send, since kubectl renders it.
Not for judging any of it: that is what the checks are for, each of which takes an overlay and yields the faults it finds.
"""

import functools
import os
import pathlib
import pickle
import re
import shutil
import subprocess
import sys

import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
K8S = ROOT / "k8s"
sys.path.insert(0, str(K8S))  # topology.py
OVERLAYS = ("dev", "staging", "production")
# Production with what it leaves out.
EVERYTHING = "everything"
SERVICES = ("ingest", "dispatcher", "fetcher", "notifier")
WORKLOADS = ("Deployment", "StatefulSet")
CLUSTER_SCOPED = ("Namespace", "PriorityClass")
# Ports of the pods that the RabbitMQ Cluster Operator makes.
RABBITMQ_PORTS = {"amqp": 5672, "management": 15672, "prometheus": 15692, "epmd": 4369, "distribution": 25672}
RABBITMQ_TLS_PORTS = {"amqps": 5671, "management-tls": 15671, "prometheus-tls": 15691}
# Kustomize 5: components, and labels that do not touch selectors.
KUBECTL_MIN = (1, 27)


def kubectl():
    """kubectl of the machine, else the one that `scripts/k8s-test.sh tools` fetched."""
    own = ROOT / ".dev/k8s/venv/bin/kubectl"
    for found in (os.environ.get("KUBECTL"), shutil.which("kubectl"), str(own) if own.exists() else None):
        if found and _version(found) >= KUBECTL_MIN:
            return found
    raise SystemExit("no kubectl of 1.27 or newer; get one with: scripts/k8s-test.sh tools")


def _version(program):
    said = subprocess.run([program, "version", "--client"], capture_output=True, text=True, check=False).stdout
    found = re.search(r'v(\d+)\.(\d+)', said)
    return tuple(map(int, found.groups())) if found else (0, 0)


class Overlay:
    """The objects of one overlay, by kind and name."""

    def __init__(self, name, objects):
        self.name = name
        self.objects = objects
        self._frozen = None
        self._index()

    def _index(self):
        self._by_kind = {}
        for one in self.objects:
            self._by_kind.setdefault(one["kind"], []).append(one)

    def changed(self, change):
        """A copy that `change` was done to."""
        self._frozen = self._frozen or pickle.dumps(self.objects)
        other = Overlay(self.name, pickle.loads(self._frozen))
        change(other)
        other._index()
        return other

    def all(self, *kinds):
        return [one for kind in kinds for one in self._by_kind.get(kind, [])]

    def get(self, kind, name):
        """The object; for what kustomize generated the name without its hash will do."""
        hashed = re.compile(re.escape(name) + r"(-[a-z0-9]{10})?")
        for one in self.all(kind):
            if one["metadata"]["name"] == name or (
                kind in ("ConfigMap", "Secret") and hashed.fullmatch(one["metadata"]["name"])
            ):
                return one
        return None

    @property
    def namespace(self):
        return self.all("Namespace")[0]["metadata"]["name"]

    def pods(self):
        """(owner's kind and name, labels, pod spec) of every pod, those of RabbitMQ's operator included."""
        for one in self.all(*WORKLOADS):
            template = one["spec"]["template"]
            yield title(one), template["metadata"].get("labels", {}), template["spec"]
        for one in self.all("RabbitmqCluster"):
            ports = dict(RABBITMQ_PORTS)
            if "tls" in one["spec"]:
                ports.update(RABBITMQ_TLS_PORTS)
            container = {"name": "rabbitmq", "image": one["spec"].get("image", ""),
                         "ports": [{"name": name, "containerPort": port} for name, port in ports.items()]}
            labels = {"app.kubernetes.io/name": one["metadata"]["name"], "app.kubernetes.io/component": "rabbitmq"}
            yield title(one), labels, {"containers": [container]}

    def container(self, service):
        """The one container of a service of ours."""
        return self.get("Deployment", service)["spec"]["template"]["spec"]["containers"][0]

    def environment(self, container):
        """name -> value of what a container is told; None where a Secret has it."""
        told = {}
        for source in container.get("envFrom", []):
            config = self.get("ConfigMap", source.get("configMapRef", {}).get("name", ""))
            told.update(config.get("data", {}) if config else {})
        for one in container.get("env", []):
            told[one["name"]] = one.get("value")
        return told


def title(one):
    return f"{one['kind']} {one['metadata']['name']}"


def selects(selector, labels):
    """Whether a label selector (or the plain map of a Service) takes these labels."""
    selector = selector or {}
    plain = selector.get("matchLabels", {}) if set(selector) <= {"matchLabels", "matchExpressions"} else selector
    if any(labels.get(key) != value for key, value in plain.items()):
        return False
    for one in selector.get("matchExpressions", []) if plain is not selector else []:
        there, values = labels.get(one["key"]), one.get("values", [])
        fits = {"In": there in values, "NotIn": there not in values, "Exists": there is not None,
                "DoesNotExist": there is None}
        if not fits[one["operator"]]:
            return False
    return True


@functools.cache
def render(names=(*OVERLAYS, EVERYTHING)):
    """All overlays at once, each by a kubectl of its own. Whoever changes one takes a copy: `changed`."""
    program = kubectl()
    running = {
        name: subprocess.Popen([program, "kustomize", str(K8S / ("tests" if name == EVERYTHING else "overlays") / name)], stdout=subprocess.PIPE, text=True)
        for name in names
    }
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    overlays = {}
    for name, process in running.items():
        text, _ = process.communicate()
        if process.returncode:
            raise SystemExit(f"overlay {name} cannot be rendered")
        overlays[name] = Overlay(name, [one for one in yaml.load_all(text, Loader=loader) if one])
    return overlays
