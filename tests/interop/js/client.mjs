// RunPod's official JavaScript client against the emulator, whose worker is handler.py. The argument is the SDK.
import fs from "node:fs"
import path from "node:path"

const { default: runpodSdk } = await import(process.argv[2])
const sdk = runpodSdk(process.env.RUNPOD_API_KEY, { baseUrl: process.env.RUNPOD_ENDPOINT_BASE_URL })
const endpoint = sdk.endpoint(process.env.INTEROP_ENDPOINT)

function held(name, truth, seen) {
  if (!truth) throw new Error(`${name}: ${JSON.stringify(seen)}`)
  console.log("held", name)
}

async function until(name, condition) {
  const end = Date.now() + 60_000
  for (;;) {
    const found = await condition()
    if (found) return found
    if (Date.now() > end) throw new Error(`not within 60 s: ${name}`)
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
}

const ended = (id) =>
  until(`${id} ends`, async () => {
    const status = await endpoint.status(id)
    return status.completed && status
  })

let job = await endpoint.run({ input: { what: "echo", say: { "ü": [1, null] } } })
held("run", job.status === "IN_QUEUE" && job.id, job)
let status = await ended(job.id)
held("status", status.succeeded && status.output["ü"][0] === 1 && status.executionTime >= 0, status)

const sync = await endpoint.runSync({ input: { what: "echo", say: "at once" } }, 60_000)
held("runSync", sync.succeeded && sync.output === "at once", sync)

job = await endpoint.run({ input: { what: "raise" } })
status = await ended(job.id)
held("failed", status.status === "FAILED" && !status.succeeded && status.error.includes("boom"), status)

const gate = path.join(process.env.INTEROP_DIR, "js")
const running = await endpoint.run({ input: { what: "wait", gate } })
await until("it runs", () => fs.existsSync(`${gate}.started`))
await endpoint.run({ input: { what: "wait", gate } })
const health = await endpoint.health()
held("health", health.jobs.inProgress === 1 && health.jobs.inQueue === 1, health)
const purged = await endpoint.purgeQueue()
held("purgeQueue", purged.removed === 1 && purged.status === "completed", purged)
const cancelled = await endpoint.cancel(running.id)
held("cancel", cancelled.status === "CANCELLED", cancelled)
await until("the handler was told", () => fs.existsSync(`${gate}.cancelled`))
