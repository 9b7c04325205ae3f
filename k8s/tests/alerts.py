"""Alerts: each has a runbook, and its link leads there."""

import re

from overlay import ROOT, title

RUNBOOKS = ROOT / "docs/runbooks"


def runbooks(overlay):
    """Every alert's runbook is there, under the alert's own name, and every runbook has its alert."""
    named = set()
    for one in overlay.all("PrometheusRule"):
        for group in one["spec"]["groups"]:
            for rule in group["rules"]:
                if "alert" not in rule:
                    continue
                page = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "-", rule["alert"]).lower() + ".md"
                named.add(page)
                url = rule.get("annotations", {}).get("runbook_url", "")
                if not url.endswith(f"/{page}"):
                    yield f"{title(one)}: alert {rule['alert']} does not lead to {page}"
                if not (RUNBOOKS / page).exists():
                    yield f"{title(one)}: alert {rule['alert']} has no runbook"
                if not {"severity"} <= set(rule.get("labels", {})) or "for" not in rule:
                    yield f"{title(one)}: alert {rule['alert']} has no severity, or pages at once"
    if named:
        there = {page.name for page in RUNBOOKS.glob("*.md")} - {"README.md"}
        yield from (f"runbook {page} belongs to no alert" for page in sorted(there - named))


def watched(overlay):
    """Production is watched, and whoever watches may page."""
    if overlay.name == "production" and not (overlay.all("PrometheusRule")
                                             and overlay.all("ServiceMonitor", "PodMonitor")):
        yield "production is not watched"


CHECKS = (runbooks, watched)
