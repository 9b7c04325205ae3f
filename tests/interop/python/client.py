"""RunPod's official client against the emulator, whose worker is handler.py: one line for each thing that held."""

import os
import pathlib
import time

import requests
import runpod

runpod.api_key = os.environ["RUNPOD_API_KEY"]
directory = pathlib.Path(os.environ["INTEROP_DIR"])
endpoint = runpod.Endpoint(os.environ["INTEROP_ENDPOINT"])


def held(name, truth, seen=None):
    assert truth, f"{name}: {seen!r}"
    print("held", name)


def until(name, condition):
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, f"not within 60 s: {name}"
        time.sleep(0.05)


job = endpoint.run({"input": {"what": "echo", "say": {"ü": [1, None]}}})
held("run and output", job.output(timeout=60) == {"ü": [1, None]}, job.job_output)
held("status of an ended job", job.status() == "COMPLETED", job.status())

answer = endpoint.run_sync({"input": {"what": "echo", "say": "at once"}}, timeout=60)
held("run_sync", answer == "at once", answer)

job = endpoint.run({"what": "echo", "say": "wrapped"})
held("a bare input is wrapped", job.output(timeout=60) == "wrapped", job.job_output)

job = endpoint.run({"input": {"what": "raise"}})
until("the failed job ends", lambda: job.status() == "FAILED")
held("failed", job.output() is None, job.output())

here, there = directory / "first", directory / "second"
running = endpoint.run({"input": {"what": "wait", "gate": str(here)}})
until("the first job runs", (directory / "first.started").exists)
held("status of a running job", running.status() == "IN_PROGRESS", running.status())
queued = [endpoint.run({"input": {"what": "wait", "gate": str(there)}}) for _ in range(2)]
health = endpoint.health()
held("health counts jobs", health["jobs"]["inProgress"] == 1 and health["jobs"]["inQueue"] == 2, health)
held("health counts workers", health["workers"]["running"] == 1, health)
purged = endpoint.purge_queue()
held("purge_queue", purged == {"removed": 2, "status": "completed"}, purged)
answer = running.cancel()
held("cancel", answer["status"] == "CANCELLED" and answer["id"] == running.job_id, answer)
held("a cancelled job stays so", running.status() == "CANCELLED", running.status())
until("the handler was told", (directory / "first.cancelled").exists)

try:
    runpod.Endpoint(os.environ["INTEROP_ENDPOINT"], api_key="wrong").health()
    held("a wrong key is refused", False)
except RuntimeError as error:
    held("a wrong key is refused", "401" in str(error), error)
try:
    runpod.Endpoint("nobody").health()
    held("an unknown endpoint is a 404", False)
except requests.HTTPError as error:
    held("an unknown endpoint is a 404", error.response.status_code == 404, error)
