"""The overlays have no fault, and each check can fail: every manifest below is broken in one place, and must be noticed.

Run by the workspace's tests, and by hand: python3 -m unittest discover k8s/tests
"""

import subprocess
import sys
import unittest

import check
import overlay as overlays
import topology  # overlay says where it is

RENDERED = {}


def setUpModule():
    RENDERED.update(overlays.render())


def workload(name, kind="Deployment"):
    def found(one):
        return one.get(kind, name)["spec"]["template"]["spec"]
    return found


def setting(path, value, kind="Deployment", name="ingest"):
    """A change: the value at a path of keys and indexes below an object; ... takes it away."""
    def change(one):
        at = one.get(kind, name)
        *way, last = path
        for key in way:
            at = at[key]
        if value is ...:
            del at[last]
        else:
            at[last] = value
    return change


def config(name, key, value):
    def change(one):
        data = one.get("ConfigMap", name).setdefault("data", {})
        if value is ...:
            del data[key]
        else:
            data[key] = value
    return change


def rename(kind, name, to):
    return setting(("metadata", "name"), to, kind, name)


def gone(kind, name):
    def change(one):
        one.objects.remove(one.get(kind, name))
    return change


POD = ("spec", "template", "spec")
BOX = (*POD, "containers", 0)

# The check that must notice, and what was broken.
BROKEN = [
    ("names.legal", rename("Deployment", "fetcher", "Fetcher")),
    ("names.legal", rename("Service", "ingest", "1ngest")),
    ("names.legal", rename("Queue", "dispatcher.plan", "dispatcher_plan")),
    ("names.legal", rename("StatefulSet", "valkey", "v" * 53)),
    ("names.legal", setting(("metadata", "labels"), {"app.kubernetes.io/name": "x" * 64})),
    ("names.legal", setting(("metadata", "labels"), {"app kubernetes": "x"})),
    ("names.legal", setting((*BOX, "name"), "The_service")),
    ("names.legal", setting((*BOX, "ports", 0, "name"), "administration-port")),
    ("names.unique", lambda one: one.objects.append(one.get("Service", "ingest"))),
    ("names.at_home", setting(("metadata", "namespace"), "default")),
    ("names.at_home", setting(("metadata", "labels"), {}, "Namespace", "photofinish")),
    ("wiring.selectors", setting(("spec", "selector", "matchLabels"), {"app.kubernetes.io/component": "inges"})),
    ("wiring.selectors", setting(("spec", "selector", "matchLabels"), {"app.kubernetes.io/name": "photofinish"})),
    ("wiring.selectors", setting(("spec", "selector"), {"app": "ingest"}, "Service")),
    ("wiring.selectors", setting(("spec", "selector", "matchLabels"), {"app": "x"}, "PodDisruptionBudget")),
    ("wiring.selectors", setting(("spec", "podSelector", "matchLabels"), {"app": "x"}, "NetworkPolicy")),
    ("wiring.selectors", setting(("spec", "egress", 0, "to", 0, "podSelector", "matchLabels"), {"a": "b"}, "NetworkPolicy")),
    ("wiring.selectors", setting((*POD, "topologySpreadConstraints", 0, "labelSelector", "matchLabels"), {"app": "x"})),
    ("wiring.selectors", setting(("spec", "selector", "matchLabels"), {"app": "x"}, "ServiceMonitor", "photofinish")),
    ("wiring.selectors", setting(("spec", "endpoints", 0, "port"), "metrics", "ServiceMonitor", "photofinish")),
    ("wiring.ports", setting(("spec", "ports", 0, "targetPort"), "web", "Service")),
    ("wiring.ports", setting((*BOX, "readinessProbe", "httpGet", "port"), "health")),
    ("wiring.ports", setting(("spec", "ingress", 0, "ports", 0, "port"), 8081, "NetworkPolicy")),
    ("wiring.ports", setting(("spec", "rules", 0, "backendRefs", 0, "port"), 80, "HTTPRoute")),
    ("wiring.references", gone("ExternalSecret", "photofinish-tokens")),
    ("wiring.references", gone("ServiceAccount", "ingest")),
    ("wiring.references", gone("ConfigMap", "notifier")),
    ("wiring.references", gone("PriorityClass", "photofinish-race")),
    ("wiring.references", gone("Certificate", "rabbitmq")),
    ("wiring.references", gone("TriggerAuthentication", "rabbitmq")),
    ("wiring.references", setting((*POD, "volumes", 0, "projected", "sources", 0, "secret", "items", 0, "key"), "uri")),
    ("wiring.references", setting((*BOX, "volumeMounts", 0, "name"), "secret")),
    ("wiring.references", setting(("spec", "secretTargetRef", 0, "key"), "url", "TriggerAuthentication", "rabbitmq")),
    ("wiring.references", setting(("spec", "scaleTargetRef", "name"), "fetch", "ScaledObject", "fetcher")),
    ("settings.variables", config("ingest", "PHOTOFINISH__HTTP__LISTN", "0.0.0.0:8080")),
    ("settings.variables", config("every-service", "PHOTOFINISH__HTTP__LISTEN", "0.0.0.0:8080")),
    ("settings.variables", config("dispatcher", "PHOTOFINISH__RUNPOD__WORKERS_MAX", "three")),
    ("settings.variables", config("every-service", "PHOTOFINISH__BROKER__DECLARE", "no")),
    ("settings.variables", setting((*BOX, "env", 0, "name"), "PHOTOFINISH__BROKER__URI_FILE")),
    ("settings.files", setting((*BOX, "env", 0, "value"), "/run/secrets/broker-url")),
    ("settings.files", config("every-service", "PHOTOFINISH__BROKER__TLS__CA_FILE", "/run/tls/ca.pem")),
    ("settings.confidential", config("every-service", "PHOTOFINISH__BROKER__URL", "amqp://u:p@h/v")),
    ("settings.confidential", setting((*BOX, "env", 0), {"name": "PHOTOFINISH__REDIS__URL", "value": "redis://x"})),
    ("settings.agreement", config("notifier", "PHOTOFINISH__LINKS__PUBLIC_URL", "https://elsewhere.example.com")),
    ("settings.agreement", config("ingest", "PHOTOFINISH__PLAN__SPLIT_OVER", "20")),
    ("settings.agreement", config("dispatcher", "PHOTOFINISH__SIGNALS__PUBLIC_URL", ...)),
    ("settings.agreement", setting(("spec", "hostnames"), ["other.example.com"], "HTTPRoute")),
    ("settings.listening", setting((*BOX, "ports", 0, "containerPort"), 9091)),
    ("settings.listening", setting((*BOX, "ports", 1), ...)),
    ("settings.listening", config("ingest", "PHOTOFINISH__HTTP__LISTEN", "0.0.0.0:80")),
    ("settings.hashed", setting((*BOX, "envFrom", 0, "configMapRef", "name"), "every-service")),
    ("running.ends", setting((*POD, "terminationGracePeriodSeconds"), 40)),
    ("running.ends", setting((*BOX, "lifecycle"), ...)),
    ("running.ends", config("dispatcher", "PHOTOFINISH__RUNTIME__DRAIN_TIMEOUT_S", "60")),
    ("running.ends", config("fetcher", "PHOTOFINISH__FETCHER__SHUTDOWN_GRACE_S", "30")),
    ("running.probes", setting((*BOX, "startupProbe"), ...)),
    ("running.probes", setting((*BOX, "livenessProbe", "httpGet", "path"), "/readyz")),
    ("running.disruptions", setting(("spec", "maxUnavailable"), 0, "PodDisruptionBudget")),
    ("running.disruptions", setting(("spec", "minAvailable"), 1, "PodDisruptionBudget")),
    ("running.disruptions", gone("PodDisruptionBudget", "notifier")),
    ("running.rights", setting((*POD, "securityContext", "runAsUser"), 0)),
    ("running.rights", setting((*POD, "securityContext", "seccompProfile"), ...)),
    ("running.rights", setting((*POD, "automountServiceAccountToken"), ...)),
    ("running.rights", setting((*POD, "hostNetwork"), True)),
    ("running.rights", setting((*BOX, "securityContext", "capabilities"), {"drop": ["ALL"], "add": ["NET_RAW"]})),
    ("running.rights", setting((*BOX, "securityContext", "readOnlyRootFilesystem"), False)),
    ("running.rights", setting((*BOX, "securityContext", "allowPrivilegeEscalation"), ...)),
    ("running.rights", setting((*BOX, "resources", "limits", "memory"), ...)),
    ("running.images", setting((*BOX, "image"), "photofinish/ingest")),
    ("running.images", setting((*BOX, "image"), "photofinish/ingest:latest")),
    ("running.images", setting((*BOX, "image"), "photofinish/ingest:0.0.9")),
    ("running.images", setting(("spec", "image"), "rabbitmq", "RabbitmqCluster", "rabbitmq")),
    ("scaling.triggers", setting(("spec", "triggers", 0, "metadata", "queueName"), "fetcher.watches", "ScaledObject", "fetcher")),
    ("scaling.triggers", setting(("spec", "triggers", 0, "metadata", "queueName"), "dispatcher.submit.high.0", "ScaledObject", "dispatcher")),
    ("scaling.triggers", setting(("spec", "triggers", 0, "metadata", "excludeUnacknowledged"), "true", "ScaledObject", "fetcher")),
    ("scaling.triggers", setting(("spec", "triggers", 0, "metadata", "vhostName"), "/", "ScaledObject", "fetcher")),
    ("scaling.triggers", setting(("spec", "triggers", 1), ..., "ScaledObject", "fetcher")),
    ("scaling.triggers", setting(("spec", "triggers", 1, "metadata", "query"), 'min(photofinish_queue_age{namespace="photofinish",queue="fetcher.watch"})', "ScaledObject", "fetcher")),
    ("scaling.triggers", setting(("spec", "triggers", 1, "metadata", "query"), 'min(photofinish_queue_oldest_seconds{queue="fetcher.watch"})', "ScaledObject", "fetcher")),
    ("scaling.bounds", setting(("spec", "replicas"), 3)),
    ("scaling.bounds", gone("HorizontalPodAutoscaler", "ingest")),
    ("scaling.bounds", setting(("spec", "minReplicaCount"), 1, "ScaledObject", "notifier")),
    ("scaling.bounds", setting(("spec", "maxReplicaCount"), 5, "ScaledObject", "dispatcher")),
    ("scaling.bounds", config("fetcher", "PHOTOFINISH__RUNPOD__STATUS_PER_10S_MAX", "290")),
    ("scaling.bounds", setting(("spec", "behavior", "scaleDown", "stabilizationWindowSeconds"), 0, "HorizontalPodAutoscaler")),
    ("network.holes", gone("NetworkPolicy", "default-deny")),
    ("network.holes", gone("NetworkPolicy", "every-service")),
    ("network.holes", gone("NetworkPolicy", "fetcher-to-workers")),
    ("network.holes", gone("NetworkPolicy", "rabbitmq-from-keda")),
    ("network.holes", setting(("spec", "egress", 0, "to", 0, "ipBlock", "except"), ["10.0.0.0/8"], "NetworkPolicy", "notifier-to-receivers")),
    ("network.holes", setting(("spec", "ingress", 0, "from"), ..., "NetworkPolicy")),
    ("network.holes", setting(("spec", "ingress", 0, "ports"), ..., "NetworkPolicy")),
    ("network.holes", setting(("spec", "ingress", 2, "from"), [{"namespaceSelector": {}}], "NetworkPolicy", "rabbitmq")),
    ("network.holes", setting(("spec", "egress", 0, "ports", 0, "port"), 80, "NetworkPolicy", "https-outside")),
    ("rabbitmq.fields", setting(("spec", "autodelete"), False, "Queue", "dispatcher.plan")),
    ("rabbitmq.fields", setting(("spec", "rabbitmqClusterReference", "name"), "rabbit", "Queue", "dispatcher.plan")),
    ("rabbitmq.fields", setting(("spec", "vhost"), "/", "Queue", "dispatcher.plan")),
    ("rabbitmq.fields", setting(("spec", "tags"), ["admin"], "User", "photofinish-management")),
    ("rabbitmq.fields", gone("User", "photofinish")),
    ("rabbitmq.declared", gone("Queue", "notifier.deliver")),
    ("rabbitmq.declared", gone("Binding", "photofinish.pipeline.to.dispatcher.plan.by.job.accepted")),
    ("rabbitmq.declared", setting(("spec", "arguments", "x-delivery-limit"), 3, "Queue", "notifier.deliver")),
    ("rabbitmq.declared", setting(("spec", "deletionPolicy"), "delete", "Queue", "notifier.deliver")),
    ("rabbitmq.declared", config("every-service", "PHOTOFINISH__BROKER__DECLARE", ...)),
    ("rabbitmq.declared", config("every-service", "PHOTOFINISH__BROKER__LANES", "64")),
    ("rabbitmq.declared", setting(("spec", "replicas"), 1, "RabbitmqCluster", "rabbitmq")),
    ("rabbitmq.permissions", setting(("spec", "permissions", "configure"), ".*", "Permission", "photofinish")),
    ("rabbitmq.permissions", setting(("spec", "permissions", "write"), "^photofinish", "Permission", "photofinish")),
    ("rabbitmq.permissions", setting(("spec", "permissions", "read"), "^ingest", "Permission", "photofinish")),
    ("alerts.runbooks", setting(("spec", "groups", 0, "rules", 0, "alert"), "Unheard", "PrometheusRule", "photofinish")),
    ("alerts.runbooks", setting(("spec", "groups", 0, "rules", 0, "annotations", "runbook_url"), "https://x/y.md", "PrometheusRule", "photofinish")),
    ("alerts.runbooks", setting(("spec", "groups", 0, "rules", 0, "for"), ..., "PrometheusRule", "photofinish")),
    ("alerts.watched", gone("PrometheusRule", "photofinish")),
]


class Overlays(unittest.TestCase):
    maxDiff = None

    def test_no_overlay_has_a_fault(self):
        self.assertEqual([], [fault for one in RENDERED.values() for fault in check.faults(one)])

    def test_every_broken_manifest_is_noticed(self):
        checks = {f"{one.__module__}.{one.__name__}": one for one in check.CHECKS}
        production = RENDERED["production"]
        sound = {name: set(check.faults(production, [one])) for name, one in checks.items()}
        for number, (name, change) in enumerate(BROKEN):
            with self.subTest(check=name, number=number):
                found = check.faults(production.changed(change), [checks[name]])
                self.assertTrue(set(found) - sound[name], "nobody noticed")
        self.assertEqual(set(checks), {name for name, _ in BROKEN}, "a check that was never seen to fail")

    def test_the_topology_is_up_to_date(self):
        program = topology.HERE / "topology.py"
        self.assertEqual(0, subprocess.run([sys.executable, str(program), "check"], check=False).returncode)


if __name__ == "__main__":
    unittest.main()
