"""RabbitMQ's resources: what the services declare is there, and its user may do what the services do, and no more.

The operators' own schemas are in no package registry; FIELDS lists what of them is used here, so that a typo fails.
"""

import functools
import json
import re

from overlay import SERVICES, title
import topology

CLUSTER = {"rabbitmqClusterReference"}
FIELDS = {
    "RabbitmqCluster": {"replicas", "image", "terminationGracePeriodSeconds", "resources", "persistence", "rabbitmq",
                        "affinity", "override", "tls", "tolerations", "service"},
    "Vhost": CLUSTER | {"name", "deletionPolicy", "tags", "tracing", "defaultQueueType"},
    "User": CLUSTER | {"tags", "importCredentialsSecret"},
    "Permission": CLUSTER | {"vhost", "user", "userReference", "permissions"},
    "Exchange": CLUSTER | {"name", "vhost", "type", "durable", "autoDelete", "arguments"},
    "Queue": CLUSTER | {"name", "vhost", "type", "durable", "autoDelete", "arguments", "deleteIfUnused", "deleteIfEmpty",
                        "deletionPolicy"},
    "Binding": CLUSTER | {"vhost", "source", "destination", "destinationType", "routingKey", "arguments"},
}
REQUIRED = {
    "RabbitmqCluster": {"replicas"}, "Vhost": CLUSTER | {"name"}, "User": CLUSTER | {"importCredentialsSecret"},
    "Permission": CLUSTER | {"vhost", "permissions", "userReference"}, "Exchange": CLUSTER | {"name", "type"},
    "Queue": CLUSTER | {"name"}, "Binding": CLUSTER | {"source", "destination", "destinationType"},
}
TAGS = {"management", "policymaker", "monitoring", "administrator"}


@functools.cache
def definitions():
    return json.loads(topology.DEFINITIONS.read_text())


def fields(overlay):
    """No resource has a field that its operator does not know, or lacks one that it wants."""
    for one in overlay.objects:
        if not one["apiVersion"].startswith("rabbitmq.com/"):
            continue
        spec, kind = set(one["spec"]), one["kind"]
        if one["apiVersion"] != "rabbitmq.com/v1beta1" or kind not in FIELDS:
            yield f"{title(one)}: no kind of the operators'"
            continue
        yield from (f"{title(one)}: no field {name}" for name in spec - FIELDS[kind])
        yield from (f"{title(one)}: {name} is missing" for name in REQUIRED[kind] - spec)
        if not set(one["spec"].get("tags", [])) <= TAGS:
            yield f"{title(one)}: no tags of RabbitMQ's"
        cluster = one["spec"].get("rabbitmqClusterReference", {}).get("name")
        if kind != "RabbitmqCluster" and not overlay.get("RabbitmqCluster", cluster or ""):
            yield f"{title(one)}: the cluster {cluster} is not there"
        reference = one["spec"].get("userReference", {}).get("name")
        if reference and not overlay.get("User", reference):
            yield f"{title(one)}: the user {reference} is not there"
        if "vhost" in one["spec"] and one["spec"]["vhost"] not in [each["spec"]["name"] for each in overlay.all("Vhost")]:
            yield f"{title(one)}: the virtual host {one['spec']['vhost']} is not there"


def declared(overlay):
    """Everything that the services declare is there, as they would declare it; then they declare nothing themselves."""
    if not overlay.all("RabbitmqCluster"):
        return
    given = definitions()
    kinds = {"Exchange": given["exchanges"], "Queue": given["queues"]}
    for kind, wanted in kinds.items():
        made = {one["spec"]["name"]: one["spec"] for one in overlay.all(kind)}
        if set(made) != {one["name"] for one in wanted}:
            yield f"{kind}: {sorted(set(made) ^ {one['name'] for one in wanted})[:3]} are on one side only"
            continue
        for one in wanted:
            spec = made[one["name"]]
            arguments = dict(spec.get("arguments", {}))
            if kind == "Queue":
                arguments["x-queue-type"] = spec.get("type", "classic")
                if spec.get("deletionPolicy") != "retain":
                    yield f"Queue {one['name']} goes with its resource, messages and all"
            if arguments != one["arguments"] or not spec.get("durable"):
                yield f"{kind} {one['name']} is not as the services expect it"
    def shape(one):
        return one["source"], one["destination"], one.get("routing_key", one.get("routingKey"))
    if {shape(one["spec"]) for one in overlay.all("Binding")} != {shape(one) for one in given["bindings"]}:
        yield "the bindings are not those of the services"
    for name in SERVICES:
        told = overlay.environment(overlay.container(name))
        if told.get("PHOTOFINISH__BROKER__DECLARE") != "false":
            yield f"{name} would declare what it may not"
        if told.get("PHOTOFINISH__BROKER__LANES", "32") != "32":
            yield f"{name}: the topology has 32 lanes"
    if overlay.all("RabbitmqCluster")[0]["spec"]["replicas"] < 3:
        yield "a queue that is not on three members is lost with one of them"


def permissions(overlay):
    """The services' user may publish and consume, and make nothing but queues of single processes."""
    one = overlay.get("Permission", "photofinish")
    if one is None:
        return
    given = definitions()
    may = {kind: re.compile(pattern).search for kind, pattern in one["spec"]["permissions"].items()}
    own = [f"photofinish.{what}.{'0af1' * 8}" for what in ("signals", "listener")]
    queues = [each["name"] for each in given["queues"]]
    exchanges = [each["name"] for each in given["exchanges"]]
    yield from (f"the services may not consume {name}" for name in (*queues, *own) if not may["read"](name))
    yield from (f"the services may not publish to {name}" for name in (*exchanges, *own, "amq.default")
                if not may["write"](name))
    yield from (f"the services may not make {name}" for name in own if not may["configure"](name))
    yield from (f"the services may make or delete {name}" for name in (*queues, *exchanges, "strange", "amq.default")
                if may["configure"](name))
    yield from (f"the services may touch {name}" for name in ("acme.inbox", "amq.gen-abc")
                if may["read"](name) or may["write"](name))


CHECKS = (fields, declared, permissions)
