"""RunPod's official client gives our worker an attempt, and fetches as the fetcher does. The argument is the input."""

import hashlib
import json
import os
import pathlib
import sys
import time

import requests
import runpod

runpod.api_key = os.environ["RUNPOD_API_KEY"]
endpoint = runpod.Endpoint(os.environ["INTEROP_ENDPOINT"])
attempt = json.loads(pathlib.Path(sys.argv[1]).read_text(encoding="utf-8"))
headers = {"Authorization": "Bearer " + attempt["output_token"]}

job = endpoint.run({"input": attempt})
fetched = {}
end = time.monotonic() + 90
while job.status() not in ("COMPLETED", "FAILED", "CANCELLED", "TIMED_OUT"):
    assert time.monotonic() < end, "the job does not end"
    announced = job.output() or {}
    for output in announced.get("outputs", []):
        if output["name"] in fetched or job.status() != "IN_PROGRESS":
            continue
        # The last address is the proxy's.
        base = announced["addresses"][-1]["url"] + "/attempts/" + announced["nonce"] + "/outputs/" + output["name"]
        got = requests.get(base, headers=headers, timeout=30)
        got.raise_for_status()
        assert len(got.content) == output["bytes"], output
        assert hashlib.sha256(got.content).hexdigest() == output["sha256"], output
        fetched[output["name"]] = len(got.content)
        assert requests.delete(base, headers=headers, timeout=30).status_code == 204
    time.sleep(0.05)

assert job.status() == "COMPLETED", (job.status(), job.output())
final = job.output()
assert final["kind"] == "final" and not final["errors"], final
assert sorted(fetched) == sorted(output["name"] for output in final["outputs"]), (fetched, final)
print("fetched", len(fetched))

refused = endpoint.run({"input": {"prompt": "a cat"}})
while refused.status() not in ("COMPLETED", "FAILED"):
    assert time.monotonic() < end, "the refusal does not come"
    time.sleep(0.05)
assert refused.status() == "FAILED", refused.status()
error = json.loads(refused._fetch_job()["error"])
assert "unsupported_input" in error["error_type"], error
print("refused", error["error_type"])
