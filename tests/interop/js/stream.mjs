// RunPod's official JavaScript client reads a stream; the worker is generator.py. The argument is the SDK.
const { default: runpodSdk } = await import(process.argv[2])
const sdk = runpodSdk(process.env.RUNPOD_API_KEY, { baseUrl: process.env.RUNPOD_ENDPOINT_BASE_URL })
const endpoint = sdk.endpoint(process.env.INTEROP_ENDPOINT)

const job = await endpoint.run({ input: { chunks: ["a", { b: 2 }, "ü"] } })
const seen = []
for await (const chunk of endpoint.stream(job.id)) seen.push(chunk.output)
if (JSON.stringify(seen) !== JSON.stringify(["a", { b: 2 }, "ü"])) throw new Error(JSON.stringify(seen))
console.log("held stream")
