"""The tracker killed, starved, attacked: what was acknowledged stays, what is wrong gets an answer."""
import json
import multiprocessing
import os
import pathlib
import random
import signal
import struct
import subprocess
import threading
import time

import pytest
import zmq

from curve_raw import RawCurve
from sweeps import ROOT, SANITIZED
from wire import NoAnswer, Wire, WireError, columns, endpoint, ulid

BATCH = 20


def log_batch(run, batch):
    header, frames = columns({"loss": [(batch * BATCH + i, batch, float(batch * BATCH + i))
                                       for i in range(BATCH)]})
    return {"op": "run.log", "run": run, "series": header}, frames


class Stubborn(threading.Thread):
    """A client that sends batch after batch, and each again until it is acknowledged."""

    def __init__(self, where, run, stop):
        super().__init__()
        self.where, self.run_id, self.stop = where, run, stop
        self.acknowledged, self.resent, self.failure = 0, 0, None

    def run(self):
        try:
            wire = Wire(self.where)
            client, batch = ulid(), 0
            while not self.stop.is_set():
                fields, frames = log_batch(self.run_id, batch)
                try:
                    wire.request(frames=frames, timeout_s=1, client=client, seq=batch + 1, **fields)
                except NoAnswer:
                    wire.close()
                    wire = Wire(self.where)
                    self.resent += 1
                    continue
                batch += 1
                self.acknowledged = batch
            wire.close()
        except Exception as failure:  # shown by the test
            self.failure = failure


def check_series(wire, run, acknowledged):
    """Every acknowledged point is there once and in order; at most one batch more."""
    points, _ = wire.metric(run, "loss")
    assert len(points) in (acknowledged * BATCH, (acknowledged + 1) * BATCH)
    assert [p[0] for p in points] == list(range(len(points)))
    assert all(v == float(s) for s, _, v in points)


def test_kill_9_under_load(daemons, home, connect):
    tracker = daemons("trireme-tracker")
    where, stop = endpoint(home, "tracker"), threading.Event()
    wire = connect()
    clients = []
    for _ in range(6):
        run = ulid()
        wire.write("run.create", run=run, experiment="kill")
        clients.append(Stubborn(where, run, stop))
    for client in clients:
        client.start()
    rng = random.Random(7)
    for _ in range(4):
        before = [c.acknowledged for c in clients]
        deadline = time.monotonic() + 120
        while any(c.acknowledged < b + 5 for c, b in zip(clients, before)):
            assert time.monotonic() < deadline and not any(c.failure for c in clients)
            time.sleep(0.005 + 0.01 * rng.random())
        tracker.kill()
        tracker = daemons("trireme-tracker")
    stop.set()
    for client in clients:
        client.join(20)
        assert client.failure is None, client.failure
    assert sum(c.resent for c in clients) > 0
    wire = connect()
    for client in clients:
        check_series(wire, client.run_id, client.acknowledged)


def test_sigterm_answers_what_it_received(daemons, home, connect):
    tracker = daemons("trireme-tracker")
    wire = connect()
    run = ulid()
    wire.write("run.create", run=run, experiment="term")
    for batch in range(300):
        fields, frames = log_batch(run, batch)
        wire.send(frames=frames, **fields)
    wire.receive()
    assert tracker.stop() == 0
    answered = 1
    try:
        while True:
            assert wire.receive(timeout_s=0.5)["ok"]
            answered += 1
    except NoAnswer:
        pass
    daemons("trireme-tracker")
    points, _ = connect().metric(run, "loss")
    assert len(points) == answered * BATCH


def produce(where, run, batches, result):
    with Wire(where) as wire:
        wire.write("run.create", run=run, experiment="many")
        for batch in range(batches):
            fields, frames = log_batch(run, batch)
            op = fields.pop("op")
            wire.write(op, frames, **fields)
    result.put(run)


def test_20_clients_at_once(wire, home):
    context = multiprocessing.get_context("spawn")
    result, runs = context.Queue(), [ulid() for _ in range(20)]
    before = wire.request("stats")
    workers = [context.Process(target=produce, args=(endpoint(home, "tracker"), run, 50, result))
               for run in runs]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0
    for run in runs:
        check_series(wire, run, 50)
    after = wire.request("stats")
    assert after["points"] - before["points"] == 20 * 50 * BATCH
    # 20 clients that wait for their answers share commits
    assert after["commits"] - before["commits"] < 20 * 51


# ---- no room ----

def fill(wire, run):
    """Writes until the store is full; how many batches were acknowledged."""
    for batch in range(100000):
        header, frames = columns({"loss": [(batch * 1000 + i, i, random.random())
                                           for i in range(1000)]})
        try:
            wire.write("run.log", frames, run=run, series=header)
        except WireError as refusal:
            assert refusal.code == "full", refusal
            return batch
    raise AssertionError("never full")


def check_full(wire, run, batches):
    assert wire.metric(run, "loss", points=10)[1]["total"] == 1000 * batches
    with pytest.raises(WireError) as caught:
        wire.put(run, "a", os.urandom(64 << 20))
    assert caught.value.code == "full"
    assert wire.request("run.get", run=run)["run"]["state"] == "running"


def test_a_full_map_is_said_and_nothing_is_lost(daemons, connect):
    small = {"TRIREME_STORE_META_BYTES": str(2 << 20), "TRIREME_STORE_BLOBS_BYTES": str(4 << 20)}
    tracker = daemons("trireme-tracker", env=small)
    wire, run = connect(), ulid()
    wire.write("run.create", run=run, experiment="full")
    batches = fill(wire, run)
    check_full(wire, run, batches)
    assert tracker.stop() == 0
    daemons("trireme-tracker")  # with room again
    wire = connect()
    assert wire.metric(run, "loss", points=10)[1]["total"] == 1000 * batches
    wire.log(run, {"loss": [(0, 0, 1.0)]})


@pytest.fixture
def small_disk(home):
    """A directory on a filesystem of 8 MiB."""
    path = home / "small"
    path.mkdir(mode=0o700)
    mounted = os.geteuid() == 0 and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m,mode=700", "none", path],
        stderr=subprocess.DEVNULL).returncode == 0
    if not mounted:
        pytest.skip("mounting a small filesystem is not allowed here")
    yield path
    subprocess.run(["umount", "-l", path], check=True)


def test_a_full_disk_is_said_and_nothing_is_lost(daemons, connect, small_disk):
    tracker = daemons("trireme-tracker", "--store", small_disk / "store")
    wire, run = connect(), ulid()
    wire.write("run.create", run=run, experiment="full")
    batches = fill(wire, run)
    check_full(wire, run, batches)
    tracker.kill()
    daemons("trireme-tracker", "--store", small_disk / "store")
    assert connect().metric(run, "loss", points=10)[1]["total"] == 1000 * batches


@pytest.mark.skipif(SANITIZED, reason="a sanitizer wants to be the first library")
def test_a_header_that_cannot_be_written_ends_the_tracker(daemons, connect, home, tmp_path):
    """LMDB refuses everything after that, until it is opened anew: a tracker that stayed would answer nobody."""
    eio = tmp_path / "eio.so"
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", eio, ROOT / "tests/chaos/eio.c", "-ldl"], check=True)
    tracker = daemons("trireme-tracker", env={
        "LD_PRELOAD": str(eio), "EIO_PROGRAM": "trireme-tracker", "EIO_UNDER": str(home), "EIO_BELOW": "8192",
        "EIO_FIRST": "20", "EIO_COUNT": "1", "EIO_ONCE": str(tmp_path / "once")})
    wire, run, acknowledged = connect(), ulid(), 0
    wire.write("run.create", run=run, experiment="torn")
    with pytest.raises((WireError, NoAnswer)):
        for batch in range(40):
            fields, frames = log_batch(run, batch)
            wire.write(frames=frames, **fields)
            acknowledged += 1
    with pytest.raises((WireError, NoAnswer)):
        while True:
            wire.request("run.get", run=run, timeout_s=1)
    assert tracker.process.wait(60) == 12, tracker.errors()
    assert "a header page of the store could not be written" in tracker.errors()
    daemons("trireme-tracker")
    check_series(connect(), run, acknowledged)


# ---- not twice, not newer, not over there ----

def fails_to_start(bin_dir, home, *args, env=None):
    """(exit code, what it said)."""
    done = subprocess.run([str(bin_dir / "trireme-tracker"), "--home", str(home), *map(str, args)],
                          capture_output=True, text=True, timeout=120, env={**os.environ, **(env or {})})
    return done.returncode, done.stderr


def test_two_trackers_on_one_store(tracker, bin_dir, home, wire):
    code, said = fails_to_start(bin_dir, home)
    assert code == 8 and f"{tracker.pid}" in said and str(home) in said
    code, said = fails_to_start(bin_dir, home, "--store", home / "other")
    assert code == 8 and "in use" in said and "tracker.sock" in said
    assert wire.request("hello")["ok"]


def test_a_port_that_is_taken(daemons, bin_dir, home, keys):
    where = "tcp://127.0.0.1:*"
    tracker = daemons("trireme-tracker", "-e", where, "--keys", keys.secret, "--allowed",
                      keys.allowed)
    port = tcp_endpoint(tracker)
    code, said = fails_to_start(bin_dir, home, "--store", home / "s", "--feed",
                                f"ipc://{home}/run/f.sock", "-e", port, "--keys", keys.secret,
                                "--allowed", keys.allowed)
    assert code == 8 and port in said


def test_a_store_of_a_later_format(daemons, bin_dir, home):
    daemons("trireme-tracker").stop()
    data = home / "store" / "meta" / "data.mdb"
    old, new = b"TRIREME\0" + struct.pack("<I", 2), b"TRIREME\0" + struct.pack("<I", 9)
    raw = data.read_bytes()
    assert old in raw  # docs/STORE.md: magic, version
    data.write_bytes(raw.replace(old, new))
    code, said = fails_to_start(bin_dir, home)
    assert code == 6 and "format 9" in said, said


def test_a_damaged_store(daemons, bin_dir, home):
    daemons("trireme-tracker").stop()
    data = home / "store" / "meta" / "data.mdb"
    data.write_bytes(b"\x5a" * len(data.read_bytes()))
    code, said = fails_to_start(bin_dir, home)
    assert code == 6 and "meta" in said


def test_wrong_options(bin_dir, home):
    for args in (["--no-such"], ["--ready-fd", "x"], ["operand"], ["-e", "udp://x"],
                 ["--keys", "/no/such"], ["--log", "/no/such/dir/log"]):
        code, said = fails_to_start(bin_dir, home, *args)
        assert code in (2, 4) and len(said) > 20, (args, code, said)


# ---- hostile messages ----

def test_malformed_messages_get_answers_and_change_nothing(wire, tracker):
    run = ulid()
    wire.write("run.create", run=run, experiment="bad")
    bad = [b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"v":1}', b'{"v":1,"id":"a","op":"no.such"}',
           b'{"v":1,"op":"hello"}', b'{"v":0,"id":"a","op":"hello"}',
           b'{"v":1,"id":"a","op":"hello","extra":1}', b'{"v":1,"id":"a","id":"b","op":"hello"}',
           b'{"v":1,"id":1,"op":"hello"}', b'{"v":1,"id":"' + b"x" * 65 + b'","op":"hello"}',
           b'{"v":1,"id":"a","op":"run.get","run":"short"}', b"[" * 100000,
           b'{"v":1,"id":"a","op":"run.get"}', b'{"v":1,"id":"a","op":"run.list","limit":0}',
           b'{"v":1,"id":"a","op":"group.beat","group":"' + run.encode() + b'"}',
           b'{"v":1,"id":"a","op":"hello"} x', b'{"v":1,"id":"a\\u0000b","op":"hello"}']
    for text in bad:
        reply = wire.raw(text)
        assert reply["ok"] is False and reply["error"]["code"] == "invalid", (text[:80], reply)
        assert reply["error"]["message"]
    reply = wire.raw(b'{"v":2,"id":"later","op":"hello"}')
    assert reply["id"] == "later" and reply["error"]["code"] == "too_new"
    reply = wire.raw(b'{"v":1,"id":"a","op":"hello"}', *[b""] * 40)
    assert reply["ok"] is False
    reply = wire.raw(b'{"v":1,"id":"a","op":"hello","x":"' + b"x" * (5 << 20) + b'"}')
    assert reply["ok"] is False
    reply = wire.raw(b'{"v":1,"id":"a","op":"hello"}', bytes(17 << 20))
    assert reply["ok"] is False
    assert wire.request("run.get", run=run)["run"]["experiment"] == "bad"
    assert tracker.process.poll() is None


def test_a_flood_of_noise(wire, home, tracker):
    """Random bytes and cut messages from several sockets, while an honest client works."""
    rng = random.Random(11)
    good = json.dumps({"v": 1, "id": "a", "op": "run.list", "limit": 5}).encode()
    noisy = [Wire(endpoint(home, "tracker")) for _ in range(4)]
    run = ulid()
    wire.write("run.create", run=run, experiment="flood")
    for batch in range(100):
        for other in noisy:
            for _ in range(10):
                text = bytearray(good)
                for _ in range(rng.randrange(4)):
                    text[rng.randrange(len(text))] = rng.randrange(256)
                frames = [rng.randbytes(rng.randrange(100)) for _ in range(rng.randrange(4))]
                other.socket.send_multipart([bytes(text[:rng.randrange(1, len(text) + 1)]), *frames])
        fields, frames = log_batch(run, batch)
        op = fields.pop("op")
        wire.write(op, frames, **fields)
    check_series(wire, run, 100)
    for other in noisy:
        other.close()
    assert tracker.process.poll() is None


def test_a_client_that_does_not_read_its_answers(wire, home):
    """It only hurts itself."""
    deaf = Wire(endpoint(home, "tracker"))
    deaf.socket.rcvhwm = 1
    run = ulid()
    wire.write("run.create", run=run, experiment="deaf")
    for _ in range(20000):
        try:
            deaf.socket.send_multipart(
                [json.dumps({"v": 1, "id": "x", "op": "run.get", "run": run}).encode()],
                zmq.DONTWAIT)
        except zmq.Again:
            break
    assert wire.request("run.get", run=run)["run"]["run"] == run
    deaf.close()
    assert wire.request("run.get", run=run)["run"]["run"] == run


def total_of(wire, run):
    """Points of `loss`; none while none has been logged."""
    try:
        return wire.metric(run, "loss")[1]["total"]
    except WireError as e:
        assert e.code == "not_found"
        return 0


def test_a_client_that_vanishes(wire, home):
    run = ulid()
    wire.write("run.create", run=run, experiment="gone")
    for batch in range(50):
        fields, frames = log_batch(run, batch)
        with Wire(endpoint(home, "tracker")) as brief:
            brief.socket.linger = 60000
            brief.send(frames=frames, **fields)
    deadline = time.monotonic() + 120
    while total_of(wire, run) < 50 * BATCH:
        assert time.monotonic() < deadline
        time.sleep(0.01)


# ---- who gets in ----

class Keys:
    def __init__(self, home):
        self.directory = home / "keys"
        self.directory.mkdir(mode=0o700)
        self.allowed = home / "allowed"
        self.allowed.mkdir(mode=0o700)
        self.public, secret = (k.decode() for k in zmq.curve_keypair())
        self.secret = self.directory / "server.secret"
        self.secret.write_text(f"{self.public}\n{secret}\n")
        self.secret.chmod(0o600)

    def client(self, role=None):
        """A pair; let in with this role."""
        pair = tuple(k.decode() for k in zmq.curve_keypair())
        if role:
            (self.allowed / f"{role}.public").write_text(f"{pair[0]} {role} somebody\n")
        return pair


@pytest.fixture
def keys(home):
    return Keys(home)


def refusal(wire, op, **fields):
    with pytest.raises(WireError) as caught:
        wire.request(op, **fields)
    return caught.value.code


def tcp_endpoint(tracker):
    """The port it found, from its log."""
    for word in tracker.errors().split():
        if word.startswith("endpoint=tcp://"):
            return word[len("endpoint="):]
    raise AssertionError(tracker.errors())


def test_tcp_without_keys_is_refused(bin_dir, home):
    code, said = fails_to_start(bin_dir, home, "-e", "tcp://127.0.0.1:*")
    assert code == 9 and "keygen" in said
    code, said = fails_to_start(bin_dir, home, "--feed", "tcp://127.0.0.1:*")
    assert code == 9 and "keygen" in said


def test_secret_keys_that_others_may_read_are_refused(bin_dir, home, keys):
    keys.secret.chmod(0o644)
    code, said = fails_to_start(bin_dir, home, "-e", "tcp://127.0.0.1:*", "--keys", keys.secret,
                                "--allowed", keys.allowed)
    assert code == 9 and "chmod" in said


def test_tcp_with_curve_and_roles(daemons, home, keys, connect):
    tracker = daemons("trireme-tracker", "-e", "tcp://127.0.0.1:*", "-e",
                      endpoint(home, "tracker"), "--keys", keys.secret, "--allowed", keys.allowed)
    where, run = tcp_endpoint(tracker), ulid()
    connect().write("run.create", run=run, experiment="tcp")

    submitter = connect(where=where, server_key=keys.public, pair=keys.client("submitter"))
    assert submitter.log(run, {"loss": [(0, 0, 1.0)]})["points"] == 1
    viewer = connect(where=where, server_key=keys.public, pair=keys.client("viewer"))
    assert viewer.metric(run, "loss")[0] == [(0, 0, 1.0)]
    for op, fields in {"event.append": {"sweep": ulid(), "first": 1, "events": []},
                       "sweep.create": {"sweep": ulid(), "name": "s", "config": {}}}.items():
        assert refusal(submitter, op, **fields) == "denied", op
    with pytest.raises(WireError) as caught:
        viewer.log(run, {"loss": [(1, 1, 1.0)]})
    assert caught.value.code == "denied"

    # The coordinator's own: the runs of a sweep. A worker writes them while they run, never their state.
    sweep, trial = ulid(), ulid()
    coordinator = connect(where=where, server_key=keys.public, pair=keys.client("coordinator"))
    coordinator.write("sweep.create", sweep=sweep, name="s", config={})
    coordinator.write("event.append", sweep=sweep, first=1, events=[{"event": "x"}])
    coordinator.write("run.create", run=trial, experiment="s", sweep=sweep, trial=1, attempt=1, state="running")
    worker = connect(where=where, server_key=keys.public, pair=keys.client("worker"))
    worker.log(trial, {"loss": [(0, 0, 1.0)]})
    worker.put(trial, "model.safetensors", b"weights")
    worker.write("run.update", run=trial, manifest={"a": 1}, summary={"b": 2})
    assert refusal(worker, "run.update", run=trial, state="completed") == "denied"
    assert refusal(worker, "run.update", run=run, summary={"b": 2}) == "denied"
    assert refusal(submitter, "run.update", run=trial, state="completed") == "denied"
    assert refusal(submitter, "run.update", run=trial, summary={"b": 3}) == "denied"
    submitter.write("run.update", run=trial, tags={"note": "mine"})
    coordinator.write("run.update", run=trial, state="completed")
    with pytest.raises(WireError) as caught:
        worker.log(trial, {"loss": [(1, 1, 1.0)]})
    assert caught.value.code == "conflict"
    admin = connect(where=where, server_key=keys.public, pair=keys.client("admin"))
    assert admin.log(run, {"loss": [(1, 1, 2.0)]})["points"] == 1

    stranger = connect(where=where, server_key=keys.public, pair=keys.client(), timeout_s=0.7)
    with pytest.raises(NoAnswer):
        stranger.request("hello")
    plain = connect(where=where, timeout_s=0.7)
    with pytest.raises(NoAnswer):
        plain.request("hello")
    assert viewer.metric(run, "loss")[1]["total"] == 2


def test_a_key_that_is_taken_back_loses_its_connection(daemons, home, keys, connect):
    tracker = daemons("trireme-tracker", "-e", "tcp://127.0.0.1:*", "--keys", keys.secret, "--allowed", keys.allowed)
    where = tcp_endpoint(tracker)
    pairs = [keys.client(role) for role in ("submitter", "viewer")]
    key = pairs[0][0]
    gone, again, stays = (connect(where=where, server_key=keys.public, pair=pair, timeout_s=0.5)
                          for pair in (pairs[0], *pairs))
    for wire in (gone, again, stays):
        wire.timeout_s = 20
        wire.request("hello")
    (keys.allowed / "submitter.public").unlink()
    gone.timeout_s = 0.5
    deadline = time.monotonic() + 60
    while True:  # what was asked before the look is still answered
        assert time.monotonic() < deadline
        try:
            gone.request("hello")
        except NoAnswer:
            break
    assert stays.request("hello")["server"] == "trireme-tracker"
    assert "its key was taken back" in tracker.errors()
    while not (records := stays.request("audit.list")["records"]):
        assert time.monotonic() < deadline
    assert [(r["actor"], r["action"], r["subject"]) for r in records] == [
        ("trireme-tracker", "revoke", "somebody")]
    details = records[0]["details"]
    assert (details["key"], details["role"], details["connections"]) == (key, "submitter", 2)
    assert "2 connections of this submitter ended" in details["comment"]
    assert refusal(stays, "audit.revoked", actor="x", key=key, role="viewer", connections=1) == "denied"


@pytest.mark.proof
def test_a_message_without_an_end_does_not_fill_the_memory(daemons, home, keys, connect):
    """A viewer's key, parts without a last one: the connection is ended, and others are served."""
    pair, others = keys.client("viewer"), keys.client("submitter")
    tracker = daemons("trireme-tracker", "-e", "tcp://127.0.0.1:*", "--keys", keys.secret, "--allowed", keys.allowed)
    where = tcp_endpoint(tracker)
    other = connect(where=where, server_key=keys.public, pair=others)
    hostile, sent, block = RawCurve(where, keys.public, pair), 0, bytes(8 << 20)
    with pytest.raises(OSError):
        while sent < 2 << 30:
            hostile.part(block)
            sent += len(block)
    status = pathlib.Path(f"/proc/{tracker.pid}/status").read_text()
    peak = int(status.split("VmHWM:")[1].split()[0]) >> 10
    assert peak < 900, f"{peak} MiB of memory after {sent >> 20} MiB of one message"
    assert other.request("hello")["server"] == "trireme-tracker"
    assert "too many bytes without the end of a message" in tracker.errors()


def test_the_sockets_belong_to_their_owner_alone(tracker, home):
    assert (home / "run").stat().st_mode & 0o777 == 0o700
    assert (home / "run" / "tracker.sock").stat().st_mode & 0o077 == 0


def test_artifacts_in_a_directory(daemons, connect, home):
    daemons("trireme-tracker", "--artifact-store", home / "bytes")
    wire, run = connect(), ulid()
    wire.write("run.create", run=run, experiment="files")
    data = os.urandom(2_500_000)
    digest = wire.put(run, "a", data)
    assert wire.get(run=run, path="a") == data
    files = [p for p in (home / "bytes").rglob("*") if p.is_file()]
    assert any(digest in str(p).replace("/", "") for p in files)
    victim = next(p for p in files if p.stat().st_size == len(data))
    victim.write_bytes(data[:100] + b"\x00\x01" + data[102:])
    with pytest.raises((WireError, AssertionError)):
        wire.get(run=run, path="a")


def test_interrupt_ends_it_cleanly(daemons):
    tracker = daemons("trireme-tracker")
    tracker.process.send_signal(signal.SIGINT)
    assert tracker.process.wait(10) == 0


def limited(bin_dir, home, limits, *options):
    """The tracker's end, and its log, where it does not get far enough to serve."""
    command = f"ulimit {limits}; exec \"$@\""
    done = subprocess.run(["sh", "-c", command, "sh", bin_dir / "trireme-tracker", "--home", home,
                           *options], capture_output=True, text=True, timeout=60)
    return done.returncode, done.stderr


def test_limits_that_are_too_low_are_named(bin_dir, home):
    code, log = limited(bin_dir, home, "-n 20")
    assert code == 9 and "limit of 20 open descriptors" in log and "ulimit -n" in log
    ended = subprocess.run(["sh", "-c", f"ulimit -n 32; exec {bin_dir}/trireme-coordinator --launch none"], timeout=60,
                           env={**os.environ, "TRIREME_HOME": str(home)}, capture_output=True, text=True)
    assert ended.returncode == 9 and "limit of 32 open descriptors" in ended.stderr, ended
    if not os.environ.get("TRIREME_TEST_CFLAGS"):  # sanitized programs take an address space of their own
        code, log = limited(bin_dir, home, "-v 4000000", "--map-size", "64")
        assert code != 0 and "65536 MiB" in log and "--map-size" in log


def test_a_check_tells_whole_from_damaged(daemons, connect, bin_dir, home):
    tracker = daemons("trireme-tracker")
    wire, run = connect(), ulid()
    wire.write("run.create", run=run, experiment="check")
    digest = wire.put(run, "a", os.urandom(1_500_000))
    tracker.process.send_signal(signal.SIGTERM)
    assert tracker.process.wait(30) == 0
    code, log = limited(bin_dir, home, "-c 0", "--check")
    assert code == 0 and "artifacts=1 bytes=1500000" in log
    blobs = home / "store" / "blobs" / "data.mdb"
    data = bytearray(blobs.read_bytes())
    data[len(data) - 300_000] ^= 1
    blobs.write_bytes(data)
    code, log = limited(bin_dir, home, "-c 0", "--check")
    assert code == 6 and digest in log and "restore a backup" in log
