// A webhook as our signer made it, held against the official library. Arguments: the library, JSON.
import assert from "node:assert/strict";
import { pathToFileURL } from "node:url";

const { Webhook, WebhookVerificationError } = (await import(pathToFileURL(process.argv[2]))).default;
const { headers, body, secrets, other } = JSON.parse(process.argv[3]);

for (const secret of secrets) {
  assert.deepEqual(new Webhook(secret).verify(body, headers), JSON.parse(body));
  console.log("held: a receiver that has this secret accepts");
}
assert.throws(() => new Webhook(other).verify(body, headers), WebhookVerificationError);
console.log("held: another secret is refused");
assert.throws(() => new Webhook(secrets[0]).verify(body + " ", headers), WebhookVerificationError);
console.log("held: another body is refused");
const at = new Date(Number(headers["webhook-timestamp"]) * 1000);
const signed = new Webhook(secrets[0]).sign(headers["webhook-id"], at, body);
assert.equal(headers["webhook-signature"].split(" ")[0], signed);
console.log("held: the library signs as we do");
