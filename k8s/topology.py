#!/usr/bin/env python3
"""Exchanges, queues and bindings as resources of RabbitMQ's Messaging Topology Operator.

deploy/rabbitmq/definitions.json, which is generated from what the services declare, is the source; so the resources are
what the services expect, and a test fails when they drift.

usage: topology.py write    write components/rabbitmq-operator/topology.yaml
       topology.py check    say whether it is up to date
"""

import json
import pathlib
import re
import sys

HERE = pathlib.Path(__file__).resolve().parent
DEFINITIONS = HERE.parent / "deploy/rabbitmq/definitions.json"
TARGET = HERE / "components/rabbitmq-operator/topology.yaml"
CLUSTER = "rabbitmq"
VHOST = "photofinish"
HEAD = "# Made by k8s/topology.py from deploy/rabbitmq/definitions.json; do not edit.\n"


def resource(kind, name, spec):
    """One document. The values are JSON, which is YAML, too."""
    lines = [
        "apiVersion: rabbitmq.com/v1beta1",
        f"kind: {kind}",
        f"metadata: {{name: {name}}}",
        "spec:",
    ]
    common = {"vhost": VHOST, "rabbitmqClusterReference": {"name": CLUSTER}}
    lines += [f"  {key}: {json.dumps(value)}" for key, value in {**spec, **common}.items()]
    return "\n".join(lines) + "\n"


def exchange(given):
    spec = {"name": given["name"], "type": given["type"], "durable": given["durable"], "autoDelete": given["auto_delete"]}
    if given["arguments"]:
        spec["arguments"] = given["arguments"]
    return resource("Exchange", given["name"], spec)


def queue(given):
    arguments = dict(given["arguments"])
    spec = {
        "name": given["name"],
        "type": arguments.pop("x-queue-type"),
        "durable": given["durable"],
        "autoDelete": given["auto_delete"],
        "arguments": arguments,
        # What is in flight lies nowhere else: a resource that is deleted by mistake takes no message with it.
        "deletionPolicy": "retain",
    }
    return resource("Queue", given["name"], spec)


def binding(given):
    # One word for each of the three, so that no two bindings share a name.
    key = re.sub(r"[^a-z0-9.-]+", "all", given["routing_key"]) or "any"
    name = f"{given['source']}.to.{given['destination']}.by.{key}"
    spec = {
        "source": given["source"],
        "destination": given["destination"],
        "destinationType": given["destination_type"],
        "routingKey": given["routing_key"],
    }
    if given["arguments"]:
        spec["arguments"] = given["arguments"]
    return resource("Binding", name, spec)


def topology():
    given = json.loads(DEFINITIONS.read_text())
    made = [exchange(one) for one in given["exchanges"]]
    made += [queue(one) for one in given["queues"]]
    made += [binding(one) for one in given["bindings"]]
    return HEAD + "---\n".join(made)


def main(words):
    if words == ["write"]:
        TARGET.write_text(topology())
    elif words == ["check"]:
        if not TARGET.exists() or TARGET.read_text() != topology():
            sys.exit(f"{TARGET.relative_to(HERE.parent)} is out of date: k8s/topology.py write")
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
