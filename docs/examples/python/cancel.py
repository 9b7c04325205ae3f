"""Cancels a job over AMQP and prints the answer.

    PHOTOFINISH_AMQP_URL=… python cancel.py job_0123…

Needs `pip install pika`. Exit code 1: refused, such as `job_finished` when it is too late.
"""

import json
import os
import sys

import pika

# RabbitMQ's direct reply-to: answers come back on this channel without a queue.
DIRECT = "amq.rabbitmq.reply-to"


def main():
    parameters = pika.URLParameters(os.environ["PHOTOFINISH_AMQP_URL"])
    with pika.BlockingConnection(parameters) as connection:
        channel = connection.channel()
        answers = []
        take = lambda _channel, _method, properties, body: answers.append((properties.type, json.loads(body)))
        channel.basic_consume(DIRECT, take, auto_ack=True)
        channel.basic_publish(
            "photofinish.jobs",
            "job.cancel",
            json.dumps({"id": sys.argv[1]}),
            pika.BasicProperties(
                content_type="application/json",
                delivery_mode=pika.DeliveryMode.Persistent.value,
                user_id=parameters.credentials.username,
                reply_to=DIRECT,
                correlation_id=sys.argv[1],
            ),
        )
        connection.process_data_events(time_limit=60)
        if not answers:
            sys.exit("no answer within a minute; it is safe to ask again")
        kind, answer = answers[0]
        if kind == "job.rejected":
            sys.exit(f"{answer['code']}: {answer['detail']}")
        print(kind, answer["id"], answer["status"])


if __name__ == "__main__":
    main()
