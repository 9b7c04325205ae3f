"""What grows with what: that autoscalers look at queues and figures that exist, and never outgrow what RunPod takes."""

import functools
import json
import re

from overlay import ROOT, SERVICES, title
from settings import known

DEFINITIONS = ROOT / "deploy/rabbitmq/definitions.json"
METRICS = ROOT / "docs/metrics.md"
# Calls in 10 s that RunPod takes of an endpoint from all processes together, by the setting that is each one's share.
RUNPOD_TAKES = {"dispatcher": ("PHOTOFINISH__RUNPOD__RUN_PER_10S_MAX", 1000),
                "fetcher": ("PHOTOFINISH__RUNPOD__STATUS_PER_10S_MAX", 2000)}
REPLICAS_MIN = {"everything": 3, "production": 3, "staging": 2, "dev": 1}


@functools.cache
def queues():
    return {one["name"] for one in json.loads(DEFINITIONS.read_text())["queues"]}


@functools.cache
def metrics():
    """The names of all metrics, off the document that a test holds against the code."""
    return set(re.findall(r"\bphotofinish_[a-z0-9_]+", METRICS.read_text()))


def triggers(overlay):
    """KEDA counts messages in hand, too; looks at queues that are declared, and at the lag of each of them."""
    for one in overlay.all("ScaledObject"):
        depth, lag = set(), set()
        for trigger in one["spec"]["triggers"]:
            told = trigger["metadata"]
            if trigger["type"] == "rabbitmq":
                depth.add(told["queueName"])
                if told["queueName"] not in queues():
                    yield f"{title(one)}: nobody declares the queue {told['queueName']}"
                if not told["queueName"].startswith(f"{one['metadata']['name']}.") or ".submit." in told["queueName"]:
                    yield f"{title(one)}: what waits in {told['queueName']} does not wait for it"
                if told.get("protocol") != "http" or told.get("excludeUnacknowledged") != "false":
                    yield f"{title(one)} does not count what is in hand"
                if told["vhostName"] not in [host["spec"]["name"] for host in overlay.all("Vhost")]:
                    yield f"{title(one)}: the virtual host {told['vhostName']} is not there"
            else:
                lag.update(re.findall(r'queue="([^"]+)"', told["query"]))
                names = set(re.findall(r"\bphotofinish_[a-z0-9_]+", told["query"]))
                yield from (f"{title(one)}: nobody measures {name}" for name in names - metrics())
                if f'namespace="{overlay.namespace}"' not in told["query"]:
                    yield f"{title(one)} asks for figures of another namespace"
        if not depth or depth != lag:
            yield f"{title(one)} grows with the depth of {sorted(depth)} and the lag of {sorted(lag)}"


def bounds(overlay):
    """Enough replicas, a slow way down, nobody else's hand on their number, and RunPod's limits kept by all together."""
    programs = known()
    scalers = {one["spec"]["scaleTargetRef"]["name"]: one for one in overlay.all("ScaledObject", "HorizontalPodAutoscaler")}
    if overlay.name == "production" and set(scalers) != set(SERVICES):
        yield f"only {sorted(scalers)} grow"
    for name in SERVICES:
        deployment = overlay.get("Deployment", name)["spec"]
        least = most = deployment.get("replicas")
        scaler = scalers.get(name)
        if scaler:
            spec = scaler["spec"]
            least = spec.get("minReplicas", spec.get("minReplicaCount"))
            most = spec.get("maxReplicas", spec.get("maxReplicaCount"))
            if "replicas" in deployment:
                yield f"{name}: each apply would set back what {title(scaler)} decided"
            behaviour = spec.get("behavior") or spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
            if behaviour["scaleDown"].get("stabilizationWindowSeconds", 0) < 300:
                yield f"{title(scaler)} goes up and down with every wave"
        if least is None or least < REPLICAS_MIN[overlay.name]:
            yield f"{name}: {least} are too few for {overlay.name}"
        if name in RUNPOD_TAKES and most is not None:
            setting, takes = RUNPOD_TAKES[name]
            share = int(overlay.environment(overlay.container(name)).get(setting, programs[name][setting]))
            surge = deployment["strategy"]["rollingUpdate"]["maxSurge"]
            if (most + surge) * share > takes:
                yield f"{most} and {surge} of {name} ask RunPod {share} times in 10 s each: it takes {takes}"


CHECKS = (triggers, bounds)
