"""A worker on RunPod's official SDK that does what a job's input says. Files are the only way it is told to go on."""

import asyncio
import os

import runpod


async def gate(path):
    """Waits until a file is there."""
    while not os.path.exists(path):
        await asyncio.sleep(0.02)


def leave(path):
    with open(path, "w", encoding="utf-8"):
        pass


async def handler(job):
    todo = job["input"]
    what = todo.get("what")
    if what == "echo":
        return todo["say"]
    if what == "nothing":
        return {}
    if what == "raise":
        raise ValueError("boom")
    if what == "error":
        return {"error": "bad seed", "partial": 5}
    if what == "refresh":
        return {"refresh_worker": True, "r": 2}
    if what == "progress":
        runpod.serverless.progress_update(job, {"step": 1, "of": "ü"})
        await gate(todo["gate"])
        return {"done": True}
    if what == "wait":
        # The SDK forgets a job-stop that comes before this line.
        leave(todo["gate"] + ".started")
        try:
            await gate(todo["gate"])
        except asyncio.CancelledError:
            leave(todo["gate"] + ".cancelled")
            raise
        return {"waited": todo["gate"]}
    return {"error": f"unknown job: {what}"}


concurrency = int(os.environ.get("INTEROP_CONCURRENCY", "1"))
runpod.serverless.start({"handler": handler, "concurrency_modifier": lambda _now: concurrency})
