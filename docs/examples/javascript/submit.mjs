// Submits a job over AMQP, waits for the answer, and follows the job to its end.
//
//   PHOTOFINISH_AMQP_URL=amqps://acme:password@rabbitmq.example.com/vhost node submit.mjs job.json order-17
//
// Needs `npm install amqplib`. Exit code 0: completed. 1: refused, failed or cancelled.
import { readFile } from 'node:fs/promises';
import { randomUUID } from 'node:crypto';
import amqp from 'amqplib';

const FINAL = new Set(['job.completed', 'job.failed', 'job.cancelled']);
const url = process.env.PHOTOFINISH_AMQP_URL;
const tenant = decodeURIComponent(new URL(url).username);
const [path, key = randomUUID()] = process.argv.slice(2);

const connection = await amqp.connect(url);
const channel = await connection.createConfirmChannel();
// Both queues are there before the job is, so nothing is missed.
const { queue: replies } = await channel.assertQueue('', { exclusive: true });
const { queue: events } = await channel.assertQueue('', { exclusive: true });
await channel.bindQueue(events, 'photofinish.events', `${tenant}.job.#`);

const finish = async (code) => {
  await connection.close();
  process.exit(code);
};

let job;
let newest = 0;
const waiting = [];

const follow = async (message) => {
  const event = JSON.parse(message.content);
  // At least once and in any order: what is not newer than what we have is dropped.
  if (event.subject !== job.id || Number(event.sequence) <= newest) return;
  newest = Number(event.sequence);
  console.log(event.type, `${event.data.progress.items_done}/${event.data.progress.items_total}`);
  if (!FINAL.has(event.type)) return;
  for (const output of event.data.outputs ?? []) console.log(output.item, output.status, output.url ?? '');
  await finish(event.type === 'job.completed' ? 0 : 1);
};

await channel.consume(events, (message) => (job ? follow(message) : waiting.push(message)), { noAck: true });
await channel.consume(replies, async (message) => {
  if (message.properties.correlationId !== key) return;
  const answer = JSON.parse(message.content);
  if (message.properties.type === 'job.rejected') {
    for (const error of answer.errors ?? []) console.error(`${error.pointer}: ${error.detail}`);
    console.error(`refused, ${answer.code}: ${answer.detail}`);
    await finish(1);
  }
  job = answer;
  console.log(job.id, job.status);
  if (['completed', 'failed', 'cancelled'].includes(job.status)) await finish(job.status === 'completed' ? 0 : 1);
  for (const event of waiting) await follow(event);
}, { noAck: true });

channel.publish('photofinish.jobs', 'job.submit', await readFile(path), {
  contentType: 'application/json', persistent: true, mandatory: true,
  messageId: key, userId: tenant, replyTo: replies, correlationId: key,
});
await channel.waitForConfirms();
