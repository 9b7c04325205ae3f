"""A worker on RunPod's official SDK whose jobs do nothing."""

import runpod

runpod.serverless.start({"handler": lambda job: {}})
