"""Who reaches whom: the network policies, carried out.

Each row of the tables below is a connection; `allowed` decides it as a network plugin would: what no policy selects is
open, what one selects is closed but for what a rule names, and both ends have to agree.
"""

import ipaddress

from overlay import SERVICES, selects

GATEWAY, PROMETHEUS, OTLP, AMQP = ({f"photofinish/{name}": "true"} for name in ("gateway", "prometheus", "otlp", "amqp"))
KEDA, OPERATORS, DNS = ({"kubernetes.io/metadata.name": name} for name in ("keda", "rabbitmq-system", "kube-system"))
STRANGER = {"kubernetes.io/metadata.name": "default"}
DNS_POD = {"k8s-app": "kube-dns"}
PRIVATE = ("10.1.2.3", "172.16.9.9", "192.168.1.1", "169.254.169.254", "127.0.0.1", "100.64.0.1", "fd00::1", "fe80::1",
           "::1", "224.0.0.1", "0.0.0.0")
PUBLIC = ("93.184.216.34", "2606:2800:220:1::1")


class Pod:
    """A pod of the overlay."""

    def __init__(self, labels):
        self.labels, self.namespace = labels, None


class Elsewhere:
    """A pod of another namespace, or an address outside of the cluster."""

    def __init__(self, namespace=None, labels=None, address=None):
        self.namespace, self.labels, self.address = namespace, labels or {}, address


def allowed(overlay, source, target, port, protocol="TCP"):
    """Whether a connection comes about."""
    out = isinstance(source, Elsewhere) or _passes(overlay, source, target, port, protocol, "Egress", "egress", "to")
    return out and (isinstance(target, Elsewhere)
                    or _passes(overlay, target, source, port, protocol, "Ingress", "ingress", "from"))


def _passes(overlay, pod, peer, port, protocol, direction, rules, peers):
    mine = [one["spec"] for one in overlay.all("NetworkPolicy")
            if direction in one["spec"]["policyTypes"] and selects(one["spec"]["podSelector"], pod.labels)]
    if not mine:
        return True
    return any(_named(rule.get("ports"), port, protocol) and any(_is(one, peer) for one in rule.get(peers, [{}]))
               for spec in mine for rule in spec.get(rules) or [])


def _named(ports, port, protocol):
    return not ports or any(one.get("protocol", "TCP") == protocol and one["port"] <= port <= one.get("endPort", one["port"])
                            for one in ports)


def _is(rule, peer):
    if "ipBlock" in rule:
        if getattr(peer, "address", None) is None:
            return False
        address = ipaddress.ip_address(peer.address)
        inside = address in ipaddress.ip_network(rule["ipBlock"]["cidr"])
        return inside and not any(address in ipaddress.ip_network(one) for one in rule["ipBlock"].get("except", []))
    if getattr(peer, "address", None) is not None:
        return False
    if "namespaceSelector" in rule:
        if peer.namespace is None or not selects(rule["namespaceSelector"], peer.namespace):
            return False
    elif rule and peer.namespace is not None:
        return False
    return selects(rule.get("podSelector"), peer.labels)


def ours(name):
    return Pod({"app.kubernetes.io/name": "photofinish", "app.kubernetes.io/component": name})


def holes(overlay):
    """Exactly the needed holes: every way that is needed is open, and the ways that would do harm are shut."""
    if overlay.name == "dev":
        return
    rabbitmq = Pod({"app.kubernetes.io/name": "rabbitmq", "app.kubernetes.io/component": "rabbitmq"})
    valkey = Pod({"app.kubernetes.io/name": "valkey"})
    tls = bool(overlay.all("Certificate"))
    amqp, management, figures = (5671, 15671, 15691) if tls else (5672, 15672, 15692)
    dns = Elsewhere(DNS, DNS_POD)
    needed = [("the gateway to ingest", Elsewhere(GATEWAY), ours("ingest"), 8080),
              ("ingest to RabbitMQ's management", ours("ingest"), rabbitmq, management),
              ("tenants to RabbitMQ", Elsewhere(AMQP), rabbitmq, amqp),
              ("the operators to RabbitMQ", Elsewhere(OPERATORS), rabbitmq, 15672),
              ("Prometheus to RabbitMQ", Elsewhere(PROMETHEUS), rabbitmq, figures),
              ("RabbitMQ to itself", rabbitmq, rabbitmq, 25672),
              ("RabbitMQ to itself", rabbitmq, rabbitmq, 4369)]
    if overlay.all("ScaledObject"):
        needed.append(("KEDA to RabbitMQ", Elsewhere(KEDA), rabbitmq, management))
    refused = [("a stranger to ingest", Elsewhere(STRANGER), ours("ingest"), 8080),
               ("the gateway to ingest's admin port", Elsewhere(GATEWAY), ours("ingest"), 9090),
               ("a stranger to RabbitMQ", Elsewhere(STRANGER), rabbitmq, amqp),
               ("tenants to RabbitMQ's management", Elsewhere(AMQP), rabbitmq, management),
               ("the gateway to RabbitMQ", Elsewhere(GATEWAY), rabbitmq, amqp),
               ("RabbitMQ to the internet", rabbitmq, Elsewhere(address=PUBLIC[0]), 443),
               ("Valkey to the internet", valkey, Elsewhere(address=PUBLIC[0]), 443),
               ("any pod of the namespace to the internet", Pod({"run": "shell"}), Elsewhere(address=PUBLIC[0]), 443),
               ("any pod of the namespace to Valkey", Pod({"run": "shell"}), valkey, 6379)]
    for name in SERVICES:
        pod = ours(name)
        needed += [(f"{name} to names", pod, dns, 53), (f"{name} to RabbitMQ", pod, rabbitmq, amqp),
                   (f"{name} to Valkey", pod, valkey, 6379), (f"{name} to traces", pod, Elsewhere(OTLP), 4318),
                   (f"Prometheus to {name}", Elsewhere(PROMETHEUS), pod, 9090)]
        needed += [(f"{name} to S3 or RunPod", pod, Elsewhere(address=one), 443) for one in PUBLIC]
        refused += [(f"a stranger to {name}'s admin port", Elsewhere(STRANGER), pod, 9090),
                    (f"{name} to ingest", pod, ours("ingest"), 8080), (f"{name} to a stranger", pod, Elsewhere(STRANGER), 80)]
        refused += [(f"{name} to {one}", pod, Elsewhere(address=one), port) for one in PRIVATE for port in (80, 443, 8080)]
        if name != "ingest":
            refused.append((f"{name} to RabbitMQ's management", pod, rabbitmq, management))
        if tls:
            refused += [(f"{name} to RabbitMQ without TLS", pod, rabbitmq, port) for port in (5672, 15672)]
        if name in ("ingest", "dispatcher"):
            refused += [(f"{name} to any port outside", pod, Elsewhere(address=one), port) for one in PUBLIC
                        for port in (22, 25, 80, 8080)]
    for one in PUBLIC:
        needed += [("the fetcher to a worker", ours("fetcher"), Elsewhere(address=one), 30123),
                   ("the notifier to a receiver", ours("notifier"), Elsewhere(address=one), 80),
                   ("the notifier to a receiver", ours("notifier"), Elsewhere(address=one), 8443)]
        refused.append(("the fetcher to ports of systems", ours("fetcher"), Elsewhere(address=one), 22))
    yield from (f"{what} (port {port}) is shut" for what, source, target, port in needed
                if not allowed(overlay, source, target, port))
    yield from (f"{what} (port {port}) is open" for what, source, target, port in refused
                if allowed(overlay, source, target, port))
    if not allowed(overlay, ours("ingest"), dns, 53, "UDP"):
        yield "names cannot be looked up over UDP"


CHECKS = (holes,)
