// RunPod's official JavaScript client gives our worker an attempt that nobody fetches. Arguments: the SDK, the input.
import fs from "node:fs"

const { default: runpodSdk } = await import(process.argv[2])
const sdk = runpodSdk(process.env.RUNPOD_API_KEY, { baseUrl: process.env.RUNPOD_ENDPOINT_BASE_URL })
const endpoint = sdk.endpoint(process.env.INTEROP_ENDPOINT)

const input = JSON.parse(fs.readFileSync(process.argv[3], "utf-8"))
const answer = await endpoint.runSync({ input }, 90_000)
if (!answer.succeeded || answer.output.kind !== "final") throw new Error(JSON.stringify(answer))
console.log("rescued", answer.output.rescued.length)
