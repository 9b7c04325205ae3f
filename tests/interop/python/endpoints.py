"""RunPod's official Python SDK manages endpoints at the emulator."""

import os

import runpod

runpod.api_key = os.environ["RUNPOD_API_KEY"]

template = runpod.create_template(name="worker", image_name="docker.io/someone/worker:1", is_serverless=True)
assert template["imageName"] == "docker.io/someone/worker:1", template
print("held create_template")

made = runpod.create_endpoint(
    name="made-here",
    template_id=template["id"],
    gpu_ids="AMPERE_16",
    workers_min=0,
    workers_max=2,
)
assert made["id"] and made["templateId"] == template["id"], made
print("held create_endpoint")

second = runpod.create_template(name="worker-2", image_name="docker.io/someone/worker:2", is_serverless=True)
changed = runpod.update_endpoint_template(endpoint_id=made["id"], template_id=second["id"])
assert changed["templateId"] == second["id"], changed
print("held update_endpoint_template")

listed = {endpoint["id"] for endpoint in runpod.get_endpoints()}
assert {made["id"], os.environ["INTEROP_ENDPOINT"]} <= listed, listed
print("held get_endpoints")

health = runpod.Endpoint(made["id"]).health()
assert health["jobs"]["inQueue"] == 0, health
print("held the new endpoint answers")
