"""What a test does at a broker by hand, with pika.

broker.py PORT USER PASSWORD drain QUEUE...           the ids of the messages of each queue as JSON, taken out
broker.py PORT USER PASSWORD remove-exchange NAME
broker.py PORT USER PASSWORD has-exchange NAME        prints true or false
"""
import json
import sys

import pika

port, user, password, command = sys.argv[1:5]
names = sys.argv[5:]
parameters = pika.ConnectionParameters("127.0.0.1", int(port), credentials=pika.PlainCredentials(user, password))
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


if command == "drain":
    print(json.dumps({queue: drain(queue) for queue in names}))
elif command == "remove-exchange":
    connection.channel().exchange_delete(names[0])
elif command == "has-exchange":
    print("true" if has_exchange(names[0]) else "false")
else:
    sys.exit(f"{command}?")
connection.close()
