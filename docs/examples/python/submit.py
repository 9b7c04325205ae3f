"""Submits a job over AMQP, waits for the answer, and follows the job to its end.

    PHOTOFINISH_AMQP_URL=amqps://acme:password@rabbitmq.example.com/vhost python submit.py job.json order-17

The second argument is the idempotency key: run it again with the same, and it is the same job. Needs `pip install pika`.
Exit code 0: completed. 1: refused, failed or cancelled.
"""

import json
import os
import sys
import uuid

import pika

FINAL = {"job.completed", "job.failed", "job.cancelled"}


def queue_of_ones_own(channel):
    """An exclusive queue that RabbitMQ names; it goes with the connection."""
    return channel.queue_declare("", exclusive=True).method.queue


def submit(channel, tenant, body, key, reply_to):
    """Publishes one job. With confirms on, this returns when the broker has it, and raises otherwise."""
    channel.basic_publish(
        "photofinish.jobs",
        "job.submit",
        body,
        pika.BasicProperties(
            content_type="application/json",
            delivery_mode=pika.DeliveryMode.Persistent.value,
            message_id=key,
            user_id=tenant,
            reply_to=reply_to,
            correlation_id=key,
        ),
        mandatory=True,
    )


def main():
    path, key = sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else str(uuid.uuid4())
    parameters = pika.URLParameters(os.environ["PHOTOFINISH_AMQP_URL"])
    tenant = parameters.credentials.username
    with open(path, "rb") as file:
        body = file.read()
    with pika.BlockingConnection(parameters) as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        # Both queues are there before the job is, so nothing is missed.
        replies, events = queue_of_ones_own(channel), queue_of_ones_own(channel)
        channel.queue_bind(events, "photofinish.events", f"{tenant}.job.#")
        submit(channel, tenant, body, key, replies)
        for _method, properties, answer in channel.consume(replies, auto_ack=True, inactivity_timeout=60):
            if properties is None:
                sys.exit("no answer within a minute; the job is safe: run this again with the same key")
            if properties.correlation_id == key:
                break
        channel.cancel()
        answer = json.loads(answer)
        if properties.type == "job.rejected":
            for error in answer.get("errors", []):
                print(f"{error['pointer']}: {error['detail']}", file=sys.stderr)
            sys.exit(f"refused, {answer['code']}: {answer['detail']}")
        print(f"{answer['id']} {answer['status']}", flush=True)
        sys.exit(0 if follow(channel, events, answer) == "completed" else 1)


def follow(channel, events, job):
    """Prints what happens to the job; returns its final status."""
    if job["status"] in ("completed", "failed", "cancelled"):
        return job["status"]
    newest = 0
    for method, _properties, body in channel.consume(events):
        event = json.loads(body)
        channel.basic_ack(method.delivery_tag)
        # At least once and in any order: what is not newer than what we have is dropped.
        if event["subject"] != job["id"] or int(event["sequence"]) <= newest:
            continue
        newest = int(event["sequence"])
        progress = event["data"]["progress"]
        print(f"{event['type']} {progress['items_done']}/{progress['items_total']}", flush=True)
        if event["type"] in FINAL:
            for output in event["data"].get("outputs") or []:
                print(f"{output['item']} {output['status']} {output.get('url', '')}")
            return event["data"]["status"]


if __name__ == "__main__":
    main()
