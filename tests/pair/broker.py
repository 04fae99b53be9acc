"""What a test does at a broker by hand, with pika.

broker.py PORT USER PASSWORD drain QUEUE...           the ids of the messages of each queue as JSON, taken out
broker.py PORT USER PASSWORD remove-exchange NAME
broker.py PORT USER PASSWORD has-exchange NAME        prints true or false
broker.py PORT USER PASSWORD has-queue NAME           prints true or false
broker.py PORT USER PASSWORD remove-queue NAME
broker.py PORT USER PASSWORD make NAME [LENGTH]       somebody else's queue with a message that has its name as id; of LENGTH at most, where given

The virtual host is that of the variable VHOST, or the default one.
"""
import json
import os
import sys

import pika

port, user, password, command = sys.argv[1:5]
names = sys.argv[5:]
parameters = pika.ConnectionParameters("127.0.0.1", int(port), os.environ.get("VHOST", "/"), credentials=pika.PlainCredentials(user, password))
connection = pika.BlockingConnection(parameters)


def drain(queue):
    channel = connection.channel()
    ids = []
    try:
        while True:
            method, properties, _ = channel.basic_get(queue, auto_ack=True)
            if method is None:
                return ids
            ids.append(properties.message_id)
    except pika.exceptions.ChannelClosedByBroker:
        return ids


def has_exchange(name):
    try:
        connection.channel().exchange_declare(name, passive=True)
        return True
    except pika.exceptions.ChannelClosedByBroker:
        return False


def has_queue(name):
    try:
        connection.channel().queue_declare(name, passive=True)
        return True
    except pika.exceptions.ChannelClosedByBroker:
        return False


if command == "drain":
    print(json.dumps({queue: drain(queue) for queue in names}))
elif command == "remove-exchange":
    connection.channel().exchange_delete(names[0])
elif command == "has-exchange":
    print("true" if has_exchange(names[0]) else "false")
elif command == "has-queue":
    print("true" if has_queue(names[0]) else "false")
elif command == "remove-queue":
    connection.channel().queue_delete(names[0])
elif command == "make":
    channel = connection.channel()
    limits = {"x-max-length": int(names[1])} if len(names) > 1 else None
    channel.queue_declare(names[0], durable=True, arguments=limits)
    properties = pika.BasicProperties(message_id=names[0], delivery_mode=2)
    channel.confirm_delivery()
    channel.basic_publish("", names[0], b"theirs", properties)
else:
    sys.exit(f"{command}?")
connection.close()
