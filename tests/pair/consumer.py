"""Consumes queues of a broker with pika until it is told to stop; writes each message as a line of JSON.

consumer.py HOST PORT USER PASSWORD OUT QUEUE...   ends when its standard input is closed; connects again when the broker restarts.
"""
import json
import os
import select
import sys
import time

import pika

host, port, user, password, out = sys.argv[1:6]
queues = sys.argv[6:]


def told_to_stop():
    ready, _, _ = select.select([sys.stdin], [], [], 0)
    return bool(ready) and sys.stdin.buffer.raw.read(1) in (b"", None)


def consume(lines):
    parameters = pika.ConnectionParameters(host, int(port), credentials=pika.PlainCredentials(user, password), heartbeat=30)
    connection = pika.BlockingConnection(parameters)
    channel = connection.channel()
    channel.basic_qos(prefetch_count=500)

    def on_message(ch, method, properties, body):
        envelope = json.loads(body)
        line = {
            "queue": method.consumer_tag,
            "key": method.routing_key,
            "exchange": method.exchange,
            "id": properties.message_id,
            "redelivered": method.redelivered,
            "type": envelope["type"],
            "body": envelope["body"],
        }
        lines.write(json.dumps(line) + "\n")
        lines.flush()
        ch.basic_ack(method.delivery_tag)

    for queue in queues:
        # As the platform's documents say: durable, for everybody, kept. Another kind is refused by the broker.
        channel.queue_declare(queue, durable=True, exclusive=False, auto_delete=False)
        channel.basic_consume(queue, on_message, consumer_tag=queue)
    while not told_to_stop():
        connection.process_data_events(time_limit=0.2)
    connection.close()


with open(out, "a", encoding="utf-8") as lines:
    while True:
        try:
            consume(lines)
            break
        except (pika.exceptions.AMQPError, OSError):
            if told_to_stop():
                break
            time.sleep(0.2)
