"""A client of Trireme's wire, written from docs/WIRE.md alone: ZeroMQ, JSON and little-endian columns."""
import hashlib
import itertools
import json
import os
import random
import struct
import time

import zmq

ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


def ulid():
    """26 characters of Crockford's base 32: 48 bits of milliseconds, 80 bits at random."""
    number = (time.time_ns() // 1_000_000) << 80 | random.getrandbits(80)
    return "".join(ALPHABET[number >> shift & 31] for shift in range(125, -1, -5))


def endpoint(home, name):
    """Where a daemon listens: home/run/NAME.sock, or below /tmp where that is too long."""
    path = os.path.join(home, "run", name + ".sock")
    if len(path) > 107:
        digest = hashlib.sha256(str(home).encode()).hexdigest()[:16]
        path = f"/tmp/trireme-{os.getuid()}-{digest}/{name}.sock"
    return "ipc://" + path


class WireError(Exception):
    """A refusal: {"ok": false, "error": {"code", "message"}}."""

    def __init__(self, code, message):
        super().__init__(f"{code}: {message}")
        self.code, self.message = code, message


class NoAnswer(Exception):
    pass


class Reply(dict):
    """The header of a reply, with its further frames."""

    def __init__(self, header, frames):
        super().__init__(header)
        self.frames = frames


class Wire:
    """One connection. `request` asks and waits; `send` and `receive` pipeline."""

    def __init__(self, where, server_key=None, pair=None, timeout_s=60):
        self.context = zmq.Context()
        self.socket = self.context.socket(zmq.DEALER)
        self.socket.linger = 0
        if server_key is not None:
            self.socket.curve_serverkey = server_key.encode()
            self.socket.curve_publickey, self.socket.curve_secretkey = (k.encode() for k in pair)
        self.socket.connect(where)
        self.timeout_s = timeout_s
        self.ids = itertools.count(1)
        self.client = ulid()
        self.seqs = itertools.count(1)

    def close(self):
        self.socket.close()
        self.context.term()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def send(self, op, frames=(), **fields):
        """Sends without waiting; the id of the request."""
        header = {"v": 1, "id": f"w{next(self.ids)}", "op": op, **fields}
        self.socket.send_multipart([json.dumps(header).encode(), *frames])
        return header["id"]

    def receive(self, timeout_s=None):
        """The next reply, a refusal included, as it came."""
        if not self.socket.poll(int(1000 * (timeout_s or self.timeout_s))):
            raise NoAnswer("no answer")
        header, *frames = self.socket.recv_multipart()
        return Reply(json.loads(header), frames)

    def raw(self, *frames, timeout_s=None):
        """Sends frames as they are and takes the next reply."""
        self.socket.send_multipart(list(frames))
        return self.receive(timeout_s)

    def request(self, op, frames=(), timeout_s=None, **fields):
        asked = self.send(op, frames, **fields)
        while True:
            reply = self.receive(timeout_s)
            if reply["id"] == asked:
                break
        if not reply["ok"]:
            raise WireError(reply["error"]["code"], reply["error"]["message"])
        return reply

    def write(self, op, frames=(), **fields):
        """A request that may be sent again: with (client, seq)."""
        return self.request(op, frames, client=self.client, seq=next(self.seqs), **fields)

    def log(self, run, series, rank=None, **fields):
        """`series`: {key: [(step, time_ns, value), …]}."""
        header, frames = columns(series)
        if rank is not None:
            fields["rank"] = rank
        return self.write("run.log", frames, run=run, series=header, **fields)

    def metric(self, run, key, **fields):
        """[(step, time_ns, value), …] and the reply."""
        reply = self.request("run.metrics", run=run, key=key, **fields)
        n = reply["count"]
        steps, times, values = (reply.frames if reply.frames else (b"", b"", b""))
        return list(zip(struct.unpack(f"<{n}q", steps), struct.unpack(f"<{n}q", times),
                        struct.unpack(f"<{n}d", values))), reply

    def put(self, run, path, data):
        """An artifact, chunk by chunk."""
        digest = hashlib.sha256(data).hexdigest()
        begun = self.write("artifact.begin", run=run, path=path, size=len(data), digest=digest)
        if not begun["complete"]:
            at = begun["offset"]
            while at < len(data):
                part = data[at:at + begun["chunk"]]
                at = self.write("artifact.chunk", [part], digest=digest, offset=at)["offset"]
        self.write("artifact.commit", run=run, path=path, digest=digest)
        return digest

    def get(self, **which):
        data, size = b"", None
        while size is None or len(data) < size:
            reply = self.request("artifact.get", offset=len(data), **which)
            size = reply["size"]
            data += reply.frames[0] if reply.frames else b""
        assert hashlib.sha256(data).hexdigest() == reply["digest"]
        return data


def columns(series):
    """The list of stretches, and the three columns of all of them."""
    points = [p for stretch in series.values() for p in stretch]
    n = len(points)
    frames = [struct.pack(f"<{n}q", *(p[0] for p in points)),
              struct.pack(f"<{n}q", *(p[1] for p in points)),
              struct.pack(f"<{n}d", *(p[2] for p in points))]
    return [{"key": k, "count": len(v)} for k, v in series.items()], frames


class Feed:
    """A subscription to the live feed."""

    def __init__(self, where, *topics):
        self.context = zmq.Context()
        self.socket = self.context.socket(zmq.SUB)
        self.socket.linger = 0
        for topic in topics:
            self.socket.subscribe(topic)
        self.socket.connect(where)

    def close(self):
        self.socket.close()
        self.context.term()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def next(self, timeout_s=60):
        """(topic, header, frames); None when nothing comes in time."""
        if not self.socket.poll(int(1000 * timeout_s)):
            return None
        topic, header, *frames = self.socket.recv_multipart()
        return topic.decode(), json.loads(header), frames
