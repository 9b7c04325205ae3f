"""RunPod's official client reads a stream; the worker is generator.py."""

import os

import runpod

runpod.api_key = os.environ["RUNPOD_API_KEY"]
endpoint = runpod.Endpoint(os.environ["INTEROP_ENDPOINT"])

job = endpoint.run({"input": {"chunks": ["a", {"b": 2}, "ü"]}})
seen = list(job.stream())
assert seen == ["a", {"b": 2}, "ü"], seen
print("held stream")
assert job.output(timeout=60) == ["a", {"b": 2}, "ü"], job.output()
print("held aggregate")
