#!/usr/bin/env python3
"""Renders every overlay and looks for what no schema finds. Needs kubectl and PyYAML; no network, no cluster.

usage: check.py [OVERLAY...]
"""

import sys

import alerts
import names
import network
import overlay as overlays
import rabbitmq
import running
import scaling
import settings
import wiring

CHECKS = [check for module in (names, wiring, settings, running, scaling, network, rabbitmq, alerts)
          for check in module.CHECKS]


def faults(overlay, checks=None):
    """What is wrong, a line each."""
    return [f"{overlay.name}: {check.__module__}.{check.__name__}: {fault}"
            for check in checks or CHECKS for fault in check(overlay)]


def main(which):
    rendered = overlays.render(tuple(which)) if which else overlays.render()
    found = [fault for one in rendered.values() for fault in faults(one)]
    print("\n".join(found), file=sys.stderr)
    if found:
        sys.exit(f"{len(found)} faults")
    print(f"{len(CHECKS)} checks of {', '.join(rendered)}: no fault")


if __name__ == "__main__":
    main(sys.argv[1:])
