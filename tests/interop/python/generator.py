"""A worker on RunPod's official SDK that streams."""

import runpod


def handler(job):
    for chunk in job["input"]["chunks"]:
        if chunk == "raise":
            raise ValueError("mid")
        yield chunk


runpod.serverless.start({"handler": handler, "return_aggregate_stream": True})
