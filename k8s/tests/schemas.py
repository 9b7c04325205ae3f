#!/usr/bin/env python3
"""Every object of every overlay against Kubernetes' own schemas, the oldest and the newest that kubernetes-validate has,
strictly: an unknown field is an error. What is not Kubernetes' own goes into a file for schemas.mjs.

usage: schemas.py CUSTOM.json    (with the packages kubernetes-validate and PyYAML; scripts/k8s-test.sh has them)
"""

import json
import pathlib
import sys

import kubernetes_validate

import overlay as overlays
import rabbitmq

# The packages on npm that have the schemas of operators; RabbitMQ's are nowhere, see rabbitmq.py.
# What the component recent-kubernetes is for.
RECENT = "1.27.0"
ELSEWHERE = ("keda.sh/", "monitoring.coreos.com/", "external-secrets.io/", "cert-manager.io/", "gateway.networking.k8s.io/")


def main(custom_file):
    versions = kubernetes_validate.utils.all_versions()
    found, custom, count = [], [], 0
    for one in overlays.render().values():
        oldest = RECENT if one.name == overlays.EVERYTHING else versions[0]
        for thing in one.objects:
            where = f"{one.name}: {overlays.title(thing)}"
            if thing["apiVersion"].startswith(ELSEWHERE):
                custom.append({"where": where, "object": thing})
            elif thing["apiVersion"].startswith("rabbitmq.com/"):
                if thing["kind"] not in rabbitmq.FIELDS:
                    found.append(f"{where}: no schema")
            else:
                count += 1
                found += [fault for version in (oldest, versions[-1]) for fault in faults(where, thing, version)]
    pathlib.Path(custom_file).write_text(json.dumps(custom))
    print("\n".join(found), file=sys.stderr)
    if found:
        sys.exit(f"{len(found)} objects are not as Kubernetes wants them")
    print(f"{count} objects are valid for Kubernetes {versions[0]} and {versions[-1]}; {len(custom)} are others'")


def faults(where, thing, version):
    try:
        kubernetes_validate.validate(thing, version, strict=True)
    except kubernetes_validate.ValidationError as error:
        yield f"{where}, Kubernetes {version}: {'.'.join(map(str, error.path))}: {error.message}"
    except kubernetes_validate.SchemaNotFoundError as error:
        yield f"{where}: {error.message}"


if __name__ == "__main__":
    main(*sys.argv[1:])
