"""How pods live: probes, ends, disruption, rights, images."""

import re

from overlay import SERVICES, WORKLOADS, selects, title
from settings import known

# What is left of a grace period when everything has taken its longest: the cut-off, the last traces, the exit.
SPARE_S = 5


def ends(overlay):
    """A pod has longer to end than its program takes; ingest goes on serving until nobody is led to it any more."""
    programs = known()
    for name in SERVICES:
        pod = overlay.get("Deployment", name)["spec"]["template"]["spec"]
        told = overlay.environment(pod["containers"][0])
        setting = "PHOTOFINISH__RUNTIME__DRAIN_TIMEOUT_S"
        drain = float(told.get(setting, programs[name][setting]))
        waits = _waits(pod["containers"][0])
        if pod["terminationGracePeriodSeconds"] < waits + drain + SPARE_S:
            yield f"{name} is killed while it drains: {waits} s before SIGTERM and {drain} s of drain"
        if name == "ingest" and waits < 5:
            yield "ingest stops to listen while it is still sent connections"
        if name == "fetcher":
            setting = "PHOTOFINISH__FETCHER__SHUTDOWN_GRACE_S"
            if float(told.get(setting, programs[name][setting])) >= drain:
                yield "the fetcher finishes pulls for longer than it drains"


def _waits(container):
    """Seconds before SIGTERM."""
    command = container.get("lifecycle", {}).get("preStop", {}).get("exec", {}).get("command", [])
    if not command:
        return 0.0
    program, verb, seconds = command
    assert verb == "wait" and program.startswith("/photofinish-"), command
    return float(seconds)


def probes(overlay):
    """Up, alive and ready are asked of every pod; of ours: alive is the process alone, ready is what it stands on."""
    for owner, _, pod in overlay.pods():
        if owner.startswith("RabbitmqCluster"):
            continue
        for container in pod["containers"]:
            for kind in ("startupProbe", "livenessProbe", "readinessProbe"):
                if kind not in container:
                    yield f"{owner} has no {kind}"
    for name in SERVICES:
        container = overlay.container(name)
        paths = {kind: container.get(kind, {}).get("httpGet", {}).get("path")
                 for kind in ("startupProbe", "livenessProbe", "readinessProbe")}
        if list(paths.values()) != ["/healthz", "/healthz", "/readyz"]:
            yield f"{name}: {paths}"


def disruptions(overlay):
    """Every pod of production has a budget; no budget stops the drain of a node."""
    budgets = overlay.all("PodDisruptionBudget")
    for one in budgets:
        if one["spec"].get("maxUnavailable") in (None, 0, "0%") or "minAvailable" in one["spec"]:
            yield f"{title(one)} can stop the drain of a node"
    if overlay.name == "dev":
        return
    for owner, labels, _ in overlay.pods():
        if len([one for one in budgets if selects(one["spec"]["selector"], labels)]) != 1:
            yield f"{owner} has no budget of its own"


def rights(overlay):
    """The restricted profile of pod security and more: no token, no root file system that can be written, limits."""
    for one in overlay.all(*WORKLOADS):
        pod = one["spec"]["template"]["spec"]
        context = pod.get("securityContext", {})
        if not context.get("runAsNonRoot") or context.get("runAsUser", 0) < 10000:
            yield f"{title(one)} may run as root, or as a user of its node"
        if context.get("seccompProfile", {}).get("type") != "RuntimeDefault":
            yield f"{title(one)} has no seccomp profile"
        if pod.get("automountServiceAccountToken", True) or pod.get("enableServiceLinks", True):
            yield f"{title(one)} is given a token, or variables that it did not ask for"
        if any(pod.get(key) for key in ("hostNetwork", "hostPID", "hostIPC")):
            yield f"{title(one)} shares its node's namespaces"
        if any("hostPath" in volume for volume in pod.get("volumes", [])):
            yield f"{title(one)} mounts its node's files"
        for container in pod["containers"] + pod.get("initContainers", []):
            context = container.get("securityContext", {})
            if context.get("allowPrivilegeEscalation", True) or context.get("privileged", False):
                yield f"{title(one)} may gain rights"
            if context.get("capabilities") != {"drop": ["ALL"]}:
                yield f"{title(one)} keeps capabilities"
            if not context.get("readOnlyRootFilesystem"):
                yield f"{title(one)} may write to its image"
            for kind in ("requests", "limits"):
                if set(container.get("resources", {}).get(kind, {})) != {"cpu", "memory"}:
                    yield f"{title(one)} has no {kind} for processor and memory"


def images(overlay):
    """Images outside of trials are pinned, and all of ours are of one version."""
    ours = set()
    for owner, _, pod in overlay.pods():
        for container in pod["containers"]:
            name, _, tag = container["image"].rpartition("/")[2].partition(":")
            if "@sha256:" not in container["image"] and (not tag or tag in ("latest", "main")):
                yield f"{owner}: image {container['image']} is not pinned"
            if overlay.name != "dev" and tag == "dev":
                yield f"{owner}: image {container['image']} is a trial's"
            if re.search(r"(^|/)photofinish/", container["image"]) and "@" not in container["image"]:
                ours.add(tag)
    if len(ours) > 1:
        yield f"our images are of several versions: {sorted(ours)}"


CHECKS = (ends, probes, disruptions, rights, images)
