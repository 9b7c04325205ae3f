"""Selectors, ports and references: that what is named is there."""

import functools
import subprocess

import yaml

from overlay import K8S, WORKLOADS, selects, title


def selectors(overlay):
    """Every selector finds the pods that are meant, and no others."""
    pods = list(overlay.pods())
    for one in overlay.all(*WORKLOADS):
        labels = one["spec"]["template"]["metadata"].get("labels", {})
        if not one["spec"]["selector"].get("matchLabels") or not selects(one["spec"]["selector"], labels):
            yield f"{title(one)} does not select its own pods"
        others = [owner for owner, labels, _ in pods if owner != title(one) and selects(one["spec"]["selector"], labels)]
        yield from (f"{title(one)} selects the pods of {owner}" for owner in others)
        for spread in one["spec"]["template"]["spec"].get("topologySpreadConstraints", []):
            if not selects(spread["labelSelector"], labels):
                yield f"{title(one)} does not spread its own pods"
    for one in overlay.all("Service", "PodDisruptionBudget"):
        found = [owner for owner, labels, _ in pods if selects(one["spec"]["selector"], labels)]
        if len(found) != 1:
            yield f"{title(one)} selects {found or 'no pod'}"
    for one in overlay.all("NetworkPolicy"):
        yield from _policy_selectors(one, [labels for _, labels, _ in pods])
    yield from _monitors(overlay, pods)


def _policy_selectors(policy, pods):
    spec = policy["spec"]
    peers = [peer for rule in spec.get("ingress", []) for peer in rule.get("from", [])]
    peers += [peer for rule in spec.get("egress", []) for peer in rule.get("to", [])]
    wanted = [spec["podSelector"]] + [peer["podSelector"] for peer in peers
                                      if "podSelector" in peer and "namespaceSelector" not in peer]
    for selector in wanted:
        if not any(selects(selector, labels) for labels in pods):
            yield f"{title(policy)}: {selector} selects no pod"


def _monitors(overlay, pods):
    for one in overlay.all("ServiceMonitor"):
        found = [service for service in overlay.all("Service")
                 if selects(one["spec"]["selector"], service["metadata"].get("labels", {}))]
        for end in one["spec"]["endpoints"]:
            if not any(port["name"] == end["port"] for service in found for port in service["spec"]["ports"]):
                yield f"{title(one)} finds no Service with a port {end['port']}"
    for one in overlay.all("PodMonitor"):
        found = [pod for _, labels, pod in pods if selects(one["spec"]["selector"], labels)]
        for end in one["spec"]["podMetricsEndpoints"]:
            if not any(end["port"] in _ports(pod) for pod in found):
                yield f"{title(one)} finds no pod with a port {end['port']}"


def _ports(pod):
    """name -> number."""
    return {port["name"]: port["containerPort"] for one in pod["containers"] for port in one.get("ports", [])}


def ports(overlay):
    """Services, probes, routes and policies name ports that are there."""
    pods = list(overlay.pods())
    for one in overlay.all("Service"):
        for _, labels, pod in pods:
            if selects(one["spec"]["selector"], labels):
                wanted = [port.get("targetPort", port["port"]) for port in one["spec"]["ports"]]
                yield from (f"{title(one)}: no port {port} in its pods" for port in wanted
                            if port not in _ports(pod) and port not in _ports(pod).values())
    for owner, _, pod in pods:
        for container in pod["containers"]:
            for kind in ("startupProbe", "livenessProbe", "readinessProbe"):
                probe = container.get(kind, {})
                port = probe.get("httpGet", probe.get("tcpSocket", {})).get("port")
                if port is not None and port not in _ports({"containers": [container]}):
                    yield f"{owner}: {kind} asks port {port}, which is not there"
    for one in overlay.all("NetworkPolicy"):
        there = {port for _, labels, pod in pods if selects(one["spec"]["podSelector"], labels)
                 for port in _ports(pod).values()}
        for rule in one["spec"].get("ingress", []):
            for port in rule.get("ports", []):
                if port["port"] not in there:
                    yield f"{title(one)} lets in to port {port['port']}, which is not there"
    yield from _routes(overlay)


def _routes(overlay):
    backs = []
    for one in overlay.all("HTTPRoute"):
        backs += [(title(one), back["name"], back["port"]) for rule in one["spec"]["rules"] for back in rule["backendRefs"]]
    for one in overlay.all("Ingress"):
        for rule in one["spec"]["rules"]:
            for path in rule["http"]["paths"]:
                service = path["backend"]["service"]
                backs.append((title(one), service["name"], service["port"].get("name", service["port"].get("number"))))
    for owner, name, port in backs:
        service = overlay.get("Service", name)
        if not service or not any(port in (one["port"], one["name"]) for one in service["spec"]["ports"]):
            yield f"{owner} leads to {name}:{port}, which is not there"


def secrets(overlay):
    """name -> keys of every Secret that is there once everything runs: written, made by an operator, or by secrets.sh."""
    made = {one["metadata"]["name"]: set(one.get("data", {})) for one in overlay.all("Secret")}
    for one in overlay.all("ExternalSecret"):
        target, spec = one["spec"]["target"], one["spec"]
        template = target.get("template", {}).get("data", {})
        made[target["name"]] = set(template) or {data["secretKey"] for data in spec["data"]}
    for one in overlay.all("Certificate"):
        made[one["spec"]["secretName"]] = {"tls.crt", "tls.key", "ca.crt"}
    if not overlay.all("ExternalSecret") and overlay.name != "dev":
        made.update(by_hand())
    return made


@functools.cache
def by_hand():
    """name -> keys of what secrets.sh makes."""
    given = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "RUNPOD_API_KEY": "c", "PATH": "/usr/bin:/bin"}
    said = subprocess.run([str(K8S / "secrets.sh"), "somewhere"], env=given, capture_output=True, text=True, check=True)
    return {one["metadata"]["name"]: set(one["data"]) for one in yaml.safe_load_all(said.stdout) if one}


def references(overlay):
    """ConfigMaps, Secrets and their keys, accounts and priorities that are named are there."""
    there = secrets(overlay)
    for owner, name, key in _secret_references(overlay):
        if name not in there:
            yield f"{owner} reads Secret {name}, which nobody makes"
        elif key and key not in there[name]:
            yield f"{owner} reads {key} of Secret {name}, which has {sorted(there[name])}"
    for owner, _, pod in overlay.pods():
        if owner.startswith("RabbitmqCluster"):
            continue
        if not overlay.get("ServiceAccount", pod.get("serviceAccountName", "")):
            yield f"{owner}: its ServiceAccount is not there"
        if "priorityClassName" in pod and not overlay.get("PriorityClass", pod["priorityClassName"]):
            yield f"{owner}: its PriorityClass is not there"
        for container in pod["containers"]:
            for source in container.get("envFrom", []):
                name = source["configMapRef"]["name"]
                if name not in [one["metadata"]["name"] for one in overlay.all("ConfigMap")]:
                    yield f"{owner} reads ConfigMap {name}, which is not there"
        yield from _mounts(overlay, owner, pod)
    for one in overlay.all("HorizontalPodAutoscaler", "ScaledObject"):
        target = one["spec"]["scaleTargetRef"]
        if not overlay.get(target.get("kind", "Deployment"), target["name"]):
            yield f"{title(one)} scales {target['name']}, which is not there"
        for trigger in one["spec"].get("triggers", []):
            name = trigger.get("authenticationRef", {}).get("name")
            if name and not overlay.get("TriggerAuthentication", name):
                yield f"{title(one)}: its authentication is not there"


def _mounts(overlay, owner, pod):
    volumes = {one["name"] for one in pod.get("volumes", [])}
    claims = overlay.get(*owner.split(" ", 1))["spec"].get("volumeClaimTemplates", [])
    volumes |= {one["metadata"]["name"] for one in claims}
    used = {mount["name"] for one in pod["containers"] for mount in one.get("volumeMounts", [])}
    yield from (f"{owner} mounts {name}, which is no volume of it" for name in used - volumes)
    yield from (f"{owner} does not mount its volume {name}" for name in volumes - used)


def _secret_references(overlay):
    """(who, which, which key of it or None)."""
    for owner, _, pod in overlay.pods():
        for container in pod["containers"]:
            for one in container.get("env", []):
                ref = one.get("valueFrom", {}).get("secretKeyRef")
                if ref:
                    yield owner, ref["name"], ref["key"]
        for volume in pod.get("volumes", []):
            sources = [source["secret"] for source in volume.get("projected", {}).get("sources", [])]
            if "secret" in volume:
                sources.append({"name": volume["secret"]["secretName"], "items": volume["secret"].get("items", [])})
            for source in sources:
                yield from ((owner, source["name"], item["key"]) for item in source.get("items", []) or [{"key": None}])
    for one in overlay.all("TriggerAuthentication"):
        yield from ((title(one), ref["name"], ref["key"]) for ref in one["spec"]["secretTargetRef"])
    for one in overlay.all("User"):
        yield from ((title(one), one["spec"]["importCredentialsSecret"]["name"], key) for key in ("username", "password"))
    for one in overlay.all("RabbitmqCluster"):
        if "tls" in one["spec"]:
            yield from ((title(one), one["spec"]["tls"]["secretName"], key) for key in ("tls.crt", "tls.key"))


CHECKS = (selectors, ports, references)
