"""A bare client of ZMTP 3 with CURVE (ZeroMQ RFCs 23 and 26): sends what no ZeroMQ library would."""
import ctypes
import ctypes.util
import os
import socket
import struct

import zmq
import zmq.utils.z85

sodium = ctypes.CDLL(ctypes.util.find_library("sodium") or "libsodium.so.23")


def pair():
    public, secret = ctypes.create_string_buffer(32), ctypes.create_string_buffer(32)
    sodium.crypto_box_keypair(public, secret)
    return public.raw, secret.raw


def box(message, nonce, public, secret):
    out = ctypes.create_string_buffer(len(message) + 16)
    assert sodium.crypto_box_easy(out, message, ctypes.c_ulonglong(len(message)), nonce, public, secret) == 0
    return out.raw


def unbox(message, nonce, public, secret):
    out = ctypes.create_string_buffer(len(message) - 16)
    assert sodium.crypto_box_open_easy(out, message, ctypes.c_ulonglong(len(message)), nonce, public, secret) == 0
    return out.raw


class RawCurve:
    """Connected and let in; `part` sends one frame of a message, with more to come."""

    def __init__(self, where, server_key, keys):
        host, port = where[len("tcp://"):].rsplit(":", 1)
        self.socket = socket.create_connection((host, int(port)), timeout=60)
        server = zmq.utils.z85.decode(server_key)
        mine, my_secret = (zmq.utils.z85.decode(k) for k in keys)
        transient, self.secret = pair()
        self.socket.sendall(b"\xff" + bytes(8) + b"\x7f\x03\x00" + b"CURVE".ljust(20, b"\0") + bytes(32))
        self.take(64)
        self.count = 0
        self.command(b"\x05HELLO\x01\x00" + bytes(72) + transient + self.number() +
                     box(bytes(64), b"CurveZMQHELLO---" + self.last, server, self.secret))
        welcome = self.reply()
        assert welcome.startswith(b"\x07WELCOME"), welcome
        opened = unbox(welcome[24:], b"WELCOME-" + welcome[8:24], server, self.secret)
        self.server, cookie = opened[:32], opened[32:]
        vouch = os.urandom(16)
        vouched = vouch + box(transient + server, b"VOUCH---" + vouch, self.server, my_secret)
        about = b"\x0bSocket-Type" + struct.pack(">I", 6) + b"DEALER"
        self.command(b"\x08INITIATE" + cookie + self.number() +
                     box(mine + vouched + about, b"CurveZMQINITIATE" + self.last, self.server, self.secret))
        assert self.reply().startswith(b"\x05READY")

    def number(self):
        self.count += 1
        self.last = struct.pack(">Q", self.count)
        return self.last

    def take(self, n):
        got = b""
        while len(got) < n:
            part = self.socket.recv(n - len(got))
            if not part:
                raise ConnectionResetError
            got += part
        return got

    def command(self, body):
        head = struct.pack(">BB", 4, len(body)) if len(body) < 256 else struct.pack(">BQ", 6, len(body))
        self.socket.sendall(head + body)

    def reply(self):
        flags, = self.take(1)
        size = struct.unpack(">Q", self.take(8))[0] if flags & 2 else self.take(1)[0]
        return self.take(size)

    def part(self, data):
        body = b"\x07MESSAGE" + self.number() + box(b"\x01" + data, b"CurveZMQMESSAGEC" + self.last,
                                                   self.server, self.secret)
        self.socket.sendall(struct.pack(">BQ", 2, len(body)) + body)
