"""Names, labels and namespaces: what the API server refuses, though every schema takes it."""

import re

from overlay import CLUSTER_SCOPED, title

SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
SERVICE = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?")
PORT = re.compile(r"(?=.*[a-z])[a-z0-9]([a-z0-9]|-(?!-))*[a-z0-9]|[a-z]")
CONFIG_KEY = re.compile(r"[-._a-zA-Z0-9]+")
# The names of a StatefulSet's pods and of their revisions are labels.
LONGEST = {"StatefulSet": 52, "Deployment": 47, "Service": 63, "Namespace": 63}


def legal(overlay):
    """Every name is one that Kubernetes takes."""
    for one in overlay.objects:
        name = one["metadata"]["name"]
        pattern = {"Service": SERVICE, "Namespace": LABEL}.get(one["kind"], SUBDOMAIN)
        if not pattern.fullmatch(name) or len(name) > LONGEST.get(one["kind"], 253):
            yield f"{title(one)}: no legal name"
        for key, value in one["metadata"].get("labels", {}).items():
            yield from _label(title(one), key, value)
        for key in one.get("data", {}) if one["kind"] in ("ConfigMap", "Secret") else ():
            if not CONFIG_KEY.fullmatch(key):
                yield f"{title(one)}: {key!r} is no legal key"
        for port in one["spec"].get("ports", []) if one["kind"] == "Service" else ():
            yield from _port(title(one), port["name"])
    for owner, labels, pod in overlay.pods():
        for key, value in labels.items():
            yield from _label(owner, key, value)
        names = [one["name"] for one in pod["containers"] + pod.get("volumes", [])]
        yield from (f"{owner}: {name!r} is no legal name" for name in names if not LABEL.fullmatch(name) or len(name) > 63)
        for container in pod["containers"]:
            for port in container.get("ports", []):
                yield from _port(owner, port["name"])


def _label(owner, key, value):
    prefix, _, name = key.rpartition("/")
    if not isinstance(value, str) or not VALUE.fullmatch(value) or len(value) > 63:
        yield f"{owner}: label {key} has an illegal value"
    if not name or not VALUE.fullmatch(name) or len(name) > 63 or (prefix and not SUBDOMAIN.fullmatch(prefix)):
        yield f"{owner}: {key!r} is no legal label"


def _port(owner, name):
    if not PORT.fullmatch(name) or (len(name) > 15 and not owner.startswith("RabbitmqCluster")):
        yield f"{owner}: {name!r} is no legal name of a port"


def unique(overlay):
    """Nothing is there twice."""
    seen = set()
    for one in overlay.objects:
        key = (one["apiVersion"].split("/")[0], one["kind"], one["metadata"]["name"])
        if key in seen:
            yield f"{title(one)} is there twice"
        seen.add(key)


def at_home(overlay):
    """Everything lies in the overlay's own namespace, which demands the restricted pod security of whatever runs in it."""
    for one in overlay.objects:
        if one["kind"] not in CLUSTER_SCOPED and one["metadata"].get("namespace") != overlay.namespace:
            yield f"{title(one)} is not in {overlay.namespace}"
    labels = overlay.all("Namespace")[0]["metadata"].get("labels", {})
    for mode in ("enforce", "audit", "warn"):
        if labels.get(f"pod-security.kubernetes.io/{mode}") != "restricted":
            yield f"the namespace does not {mode} restricted pods"


CHECKS = (legal, unique, at_home)
