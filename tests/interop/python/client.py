"""A client made of pypomelo's protocol classes and a plain socket, or one with TLS.

pypomelo's own network client needs a tornado of its time. Its classes read no flag bit but the
kind and the route code, so nothing may come compressed. Messages are JSON objects.
"""

import json
import socket
import ssl
from urllib.parse import urlsplit

from pypomelo.message import Message
from pypomelo.protocol import Protocol


class Client:
    """One connection. Whoever waits on it also answers the beats that come meanwhile."""

    def __init__(self, url):
        self.beats = 0
        self.kicked = False
        self.pushes = []
        self.replies = {}
        self._id = 0
        self._socket = connected(urlsplit(url))
        self._send(Protocol.syc("socket", "1.1.1", {"age": 30}))
        reply = self._receive()
        assert reply.proto_type == Protocol.PROTO_TYPE_SYC, reply.proto_type
        self.handshake = json.loads(reply.data)
        self._codes = self.handshake["sys"]["dict"]
        self._routes = {code: route for route, code in self._codes.items()}
        self._send(Protocol.ack())

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._socket.close()

    def ask(self, route, body):
        """Only writes the request; gives its id."""
        self._id += 1
        self._say(Message.request(route, self._id, body))
        return self._id

    def request(self, route, body=None):
        """The body of the reply, be it an error or not: the classes do not tell."""
        number = self.ask(route, body or {})
        return self.reply(number)

    def reply(self, number):
        while number not in self.replies:
            self.handle_packet()
        return self.replies.pop(number)

    def notify(self, route, body=None):
        self._say(Message.notify(route, body or {}))

    def handle_packet(self):
        """Waits for one packet; fails when the connection has ended."""
        packet = self._receive()
        if packet.proto_type == Protocol.PROTO_TYPE_HEARTBEAT:
            self.beats += 1
            self._send(Protocol.heartbeat())
        elif packet.proto_type == Protocol.PROTO_TYPE_DATA:
            self._handle_message(Message.decode(self._routes, None, packet.data))
        elif packet.proto_type == Protocol.PROTO_TYPE_FIN:
            self.kicked = True
        else:
            raise AssertionError(f"a packet of type {packet.proto_type}")

    def _handle_message(self, message):
        if message.msg_type == Message.MSG_TYPE_PUSH:
            self.pushes.append((message.route, message.body))
        else:
            assert message.msg_type == Message.MSG_TYPE_RESPONSE, message.msg_type
            assert message.msg_id not in self.replies, f"{message.msg_id} is answered twice"
            self.replies[message.msg_id] = message.body

    def _say(self, message):
        self._send(Protocol(Protocol.PROTO_TYPE_DATA, message.encode(self._codes, None)))

    def _send(self, packet):
        self._socket.sendall(packet.pack())

    def _receive(self):
        packet = Protocol.unpack(self._read(4))
        while not packet.completed():
            packet.append(self._read(packet.length - len(packet.data)))
        return packet

    def _read(self, bytes_max):
        """Some bytes for a body, all of them for a header."""
        chunk = self._socket.recv(bytes_max)
        while chunk and bytes_max == 4 and len(chunk) < 4:
            chunk += self._socket.recv(4 - len(chunk))
        if not chunk:
            raise EOFError("the connection has ended")
        return chunk


def connected(url):
    plain = socket.create_connection((url.hostname, url.port), PATIENCE_SECONDS)
    if url.scheme == "tcp":
        return plain
    # With the TLS that old phones have. Whom to trust is for the environment to say.
    trust = ssl.create_default_context()
    trust.maximum_version = ssl.TLSVersion.TLSv1_2
    return trust.wrap_socket(plain, server_hostname=url.hostname)


PATIENCE_SECONDS = 10
