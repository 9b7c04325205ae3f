// A webhook receiver: verifies Standard Webhooks signatures, refuses old ones, and drops what it has seen.
//
//   PHOTOFINISH_WEBHOOK_SECRET=whsec_… node receiver.mjs 8000
//
// Nothing but node. Answer quickly (15 s at most) with 2xx, and work afterwards.
import { createHmac, timingSafeEqual } from 'node:crypto';
import { createServer } from 'node:http';

const TOLERANCE_S = 300;

// Whether one of the signatures is ours and the message is fresh.
export const isGenuine = (secret, headers, body, now = Date.now() / 1000) => {
  const { 'webhook-id': id, 'webhook-timestamp': timestamp, 'webhook-signature': signatures = '' } = headers;
  if (!id || !/^\d+$/.test(timestamp ?? '') || Math.abs(now - Number(timestamp)) > TOLERANCE_S) return false;
  const key = Buffer.from(secret.replace(/^whsec_/, ''), 'base64');
  const wanted = createHmac('sha256', key).update(`${id}.${timestamp}.`).update(body).digest();
  // Several while a secret is being rotated.
  return signatures.split(' ').some((part) => {
    const given = Buffer.from(part.replace(/^v1,/, ''), 'base64');
    return part.startsWith('v1,') && given.length === wanted.length && timingSafeEqual(given, wanted);
  });
};

// A real one keeps both in its database.
const seen = new Set();
const newest = new Map();

const server = createServer(async (request, response) => {
  const pieces = [];
  for await (const piece of request) pieces.push(piece);
  const body = Buffer.concat(pieces);
  if (!isGenuine(process.env.PHOTOFINISH_WEBHOOK_SECRET, request.headers, body)) {
    response.writeHead(401).end();
    return;
  }
  response.writeHead(204).end();
  const event = JSON.parse(body);
  if (seen.has(request.headers['webhook-id'])) return;
  seen.add(request.headers['webhook-id']);
  const subject = event.data.id;
  if (event.sequence <= (newest.get(subject) ?? -1)) return;
  newest.set(subject, event.sequence);
  console.log(event.type, subject, event.sequence);
});
server.listen(Number(process.argv[2] ?? 8000), '127.0.0.1', () => console.log('listening', server.address().port));
