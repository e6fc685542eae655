"""Every op of the tracker, over its wire."""
import hashlib
import json
import math
import random
import struct

import pytest

from wire import WireError, columns, ulid


def refused(code, call, *args, **fields):
    with pytest.raises(WireError) as caught:
        call(*args, **fields)
    assert caught.value.code == code, caught.value
    assert caught.value.message
    return caught.value.message


@pytest.fixture
def run(wire):
    """A fresh run."""
    name = ulid()
    wire.write("run.create", run=name, experiment="e2e", params={"lr": 0.1}, tags={"who": "me"})
    return name


def bits(value):
    return struct.pack("<d", value)


def test_hello_and_stats(wire):
    hello = wire.request("hello")
    assert hello["server"] == "trireme-tracker" and hello["format"] == 2
    assert hello["feed"].startswith("ipc://")
    before = wire.request("stats")
    wire.write("experiment.create", name="x")
    after = wire.request("stats")
    assert after["commits"] == before["commits"] + 1
    assert after["requests"] > before["requests"] and after["meta_bytes"] > 0


def test_experiments(wire, run):
    first = wire.write("experiment.create", name="fashion")
    again = wire.write("experiment.create", name="fashion")
    assert first["experiment"] == "fashion" and again["created_ns"] == first["created_ns"]
    listed = {e["experiment"]: e["runs"] for e in wire.request("experiment.list")["experiments"]}
    assert listed == {"fashion": 0, "e2e": 1}


def test_runs(wire, run):
    wire.write("run.create", run=run, experiment="e2e", params={"lr": 0.1}, tags={"who": "me"})
    got = wire.request("run.get", run=run)["run"]
    assert got["run"] == run and got["experiment"] == "e2e" and got["state"] == "running"
    assert got["params"] == {"lr": 0.1} and got["tags"] == {"who": "me"}
    wire.write("run.update", run=run, params={"hidden": 64}, tags={"who": None, "why": "test"},
               manifest={"seed": 7}, summary={"loss": 0.5})
    refused("conflict", wire.write, "run.update", run=run, params={"lr": 0.2})
    wire.write("run.update", run=run, state="completed", reason="done", manifest={"digest": "x"})
    got = wire.request("run.get", run=run)["run"]
    assert got["params"] == {"lr": 0.1, "hidden": 64} and got["tags"] == {"why": "test"}
    assert got["manifest"] == {"seed": 7, "digest": "x"} and got["summary"] == {"loss": 0.5}
    assert got["state"] == "completed" and got["reason"] == "done" and got["ended_ns"] > 0
    refused("conflict", wire.write, "run.update", run=run, state="running")
    refused("not_found", wire.request, "run.get", run=ulid())


def test_listing_and_prefixes(wire):
    runs = [ulid() for _ in range(25)]
    for i, name in enumerate(runs):
        wire.write("run.create", run=name, experiment="a" if i % 2 else "b")
    seen, after = [], {}
    while True:
        page = wire.request("run.list", limit=7, newest_first=False, **after)
        seen += [r["run"] for r in page["runs"]]
        if not page["more"]:
            break
        after = {"after": seen[-1]}
    assert sorted(seen) == sorted(runs) and len(set(seen)) == 25
    assert len(wire.request("run.list", experiment="a")["runs"]) == 12
    assert wire.request("run.list", state="failed")["runs"] == []
    assert wire.request("run.resolve", prefix=runs[0])["resolved"] == runs[0]
    assert wire.request("run.resolve", prefix=runs[0].lower())["resolved"] == runs[0]
    refused("ambiguous", wire.request, "run.resolve", prefix=runs[0][:2])
    refused("not_found", wire.request, "run.resolve", prefix="7ZZZZZ")


def test_metrics_keep_their_bits(wire, run):
    values = [0.1, -0.0, math.inf, -math.inf, 5e-324, 1.7976931348623157e308, 1 / 3]
    nan = struct.unpack("<d", struct.pack("<Q", 0x7FF8_0000_DEAD_BEEF))[0]
    points = [(i, 10 ** 18 + i, v) for i, v in enumerate(values + [nan])]
    assert wire.log(run, {"loss": points})["points"] == 8
    got, reply = wire.metric(run, "loss")
    assert [(s, t, bits(v)) for s, t, v in got] == [(s, t, bits(v)) for s, t, v in points]
    assert reply["total"] == 8 and reply["sequence"] == 2
    refused("not_found", wire.request, "run.metrics", run=run, key="nothing")
    refused("not_found", wire.log, ulid(), {"loss": [(0, 0, 0.0)]})


def test_ranks_do_not_overwrite_each_other(wire, run):
    for rank in (0, 1, 65535):
        wire.log(run, {"loss": [(0, 1, float(rank))]}, rank=rank)
    for rank in (0, 1, 65535):
        assert wire.metric(run, "loss", rank=rank)[0] == [(0, 1, float(rank))]
    listed = wire.request("run.get", run=run)["run"]["metrics"]
    assert sorted(m["rank"] for m in listed) == [0, 1, 65535]


def test_a_long_series_is_thinned_but_keeps_its_extremes(wire, run):
    rng = random.Random(3)
    values = [rng.random() for _ in range(30000)]
    values[12345], values[20000] = 99.0, -99.0
    for at in range(0, 30000, 5000):
        wire.log(run, {"loss": [(i, i, values[i]) for i in range(at, at + 5000)]})
    got, reply = wire.metric(run, "loss")
    assert [v for _, _, v in got] == values and reply["total"] == 30000
    thin, reply = wire.metric(run, "loss", points=200)
    assert 2 <= len(thin) <= 200 and reply["total"] == 30000
    assert thin[0][0] == 0 and thin[-1][0] == 29999
    assert max(v for _, _, v in thin) == 99.0 and min(v for _, _, v in thin) == -99.0
    assert [s for s, _, _ in wire.metric(run, "loss", after_step=29990)[0]] == list(
        range(29991, 30000))


def test_columns_must_fit_their_header(wire, run):
    header, frames = columns({"loss": [(0, 0, 1.0), (1, 1, 2.0)]})
    for bad in ([], frames[:2], [*frames[:2], frames[2][:8]], [frames[0] + b"x", *frames[1:]],
                [*frames, b""]):
        refused("invalid", wire.write, "run.log", bad, run=run, series=header)
    assert wire.request("run.get", run=run)["run"]["metrics"] == []


def test_artifacts(wire, run):
    data = random.Random(1).randbytes(3_000_000)
    digest = wire.put(run, "model/weights.bin", data)
    assert wire.put(run, "again.bin", data) == digest
    assert wire.put(run, "empty", b"") == hashlib.sha256(b"").hexdigest()
    assert wire.get(run=run, path="model/weights.bin") == data
    assert wire.get(digest=digest) == data
    assert wire.get(run=run, path="empty") == b""
    part = wire.request("artifact.get", run=run, path="again.bin", offset=1_500_000, length=10)
    assert part.frames[0] == data[1_500_000:1_500_010]
    listed = {a["path"]: a["size"] for a in wire.request("run.get", run=run)["run"]["artifacts"]}
    assert listed == {"model/weights.bin": 3_000_000, "again.bin": 3_000_000, "empty": 0}
    wire.write("artifact.delete", run=run, path="model/weights.bin")
    refused("not_found", wire.request, "artifact.get", run=run, path="model/weights.bin")
    assert wire.get(run=run, path="again.bin") == data
    for path in ("../x", "/x", "a//b", "", "a/../b"):
        refused("invalid", wire.put, run, path, b"x")


def test_an_interrupted_artifact_goes_on_where_it_stopped(wire, tracker, daemons, connect, run):
    data = random.Random(2).randbytes(5_000_000)
    digest = hashlib.sha256(data).hexdigest()
    about = {"run": run, "path": "big", "size": len(data), "digest": digest}
    begun = wire.write("artifact.begin", **about)
    assert not begun["complete"] and begun["offset"] == 0
    chunk = begun["chunk"]
    for i in range(2):
        wire.write("artifact.chunk", [data[i * chunk:(i + 1) * chunk]], digest=digest,
                   offset=i * chunk)
    refused("conflict", wire.write, "artifact.commit", run=run, path="big", digest=digest)
    tracker.kill()
    daemons("trireme-tracker")
    again = connect()
    assert again.write("artifact.begin", **about)["offset"] == 2 * chunk
    assert again.put(run, "big", data) == digest
    assert again.get(run=run, path="big") == data


def test_wrong_bytes_are_refused(wire, run):
    digest = hashlib.sha256(b"right").hexdigest()
    wire.write("artifact.begin", run=run, path="a", size=5, digest=digest)
    wire.write("artifact.chunk", [b"wrong"], digest=digest, offset=0)
    refused("corrupt", wire.write, "artifact.commit", run=run, path="a", digest=digest)
    refused("not_found", wire.request, "artifact.get", run=run, path="a")
    assert wire.put(run, "a", b"right") == digest


def test_sweeps_and_events(wire):
    sweep = ulid()
    wire.write("sweep.create", sweep=sweep, name="s", config={"name": "s", "x": [1, 2]})
    for _ in range(2):
        got = wire.write("event.append", sweep=sweep, first=1, events=[{"a": 1}, {"b": 2}])
        assert got["last"] == 2
    assert wire.write("event.append", sweep=sweep, first=2, events=[{"b": 2}, {"c": 3}])["last"] == 3
    refused("conflict", wire.write, "event.append", sweep=sweep, first=5, events=[{"e": 5}])
    read = wire.request("event.read", sweep=sweep)
    assert read["events"] == [{"a": 1}, {"b": 2}, {"c": 3}]
    assert read["first"] == 1 and read["last"] == 3
    read = wire.request("event.read", sweep=sweep, after=1, limit=1)
    assert read["events"] == [{"b": 2}] and read["first"] == 2 and read["last"] == 3
    wire.write("sweep.update", sweep=sweep, state="completed", summary={"best": 0.1})
    got = wire.request("sweep.get", sweep=sweep)["sweep"]
    assert got["state"] == "completed" and got["config"] == {"name": "s", "x": [1, 2]}
    assert got["summary"] == {"best": 0.1}
    assert [s["sweep"] for s in wire.request("sweep.list", state="completed")["sweeps"]] == [sweep]
    assert wire.request("run.resolve", kind="sweep", prefix=sweep[:20])["resolved"] == sweep


def test_models_aliases_and_the_audit_chain(wire, run):
    card = {"weights": "0" * 64, "metrics": {"val_error": 0.1}}
    refused("conflict", wire.write, "model.promote", name="m", run=run, actor="me", card=card)
    wire.write("run.update", run=run, state="completed")
    one = wire.write("model.promote", name="m", run=run, actor="me", card=card, alias="live")
    two = wire.write("model.promote", name="m", run=run, actor="me", card=card, comment="better")
    assert (one["version"], two["version"]) == (1, 2)
    assert wire.request("model.get", name="m", alias="live")["model"]["version"] == 1
    assert wire.request("model.get", name="m")["model"]["version"] == 2
    moved = wire.write("model.alias", name="m", alias="live", version=2, actor="you")
    got = wire.request("model.get", name="m", alias="live")["model"]
    assert got["version"] == 2 and got["run"] == run and got["card"] == card
    assert [m["name"] for m in wire.request("model.list")["models"]] == ["m"]
    audit = wire.request("audit.list")
    assert audit["head"] == moved["audit"] and len(audit["records"]) == 3
    previous = "0" * 64
    for record in audit["records"]:
        assert record["previous"] == previous
        digest = record.pop("digest")
        text = json.dumps(record, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        assert hashlib.sha256(text.encode()).hexdigest() == digest
        previous = digest
    refused("not_found", wire.request, "model.get", name="nobody")


def test_a_resend_is_answered_and_not_applied_twice(wire, connect, run):
    header, frames = columns({"loss": [(0, 0, 1.0)]})
    again = {"run": run, "series": header, "client": "c", "seq": 1}
    for where in (wire, wire, connect()):
        assert where.request("run.log", frames, **again)["points"] == 1
    assert wire.metric(run, "loss")[0] == [(0, 0, 1.0)]
    refused("invalid", wire.request, "run.log", frames, run=run, series=header, client="c")


def test_a_read_sees_the_writes_before_it(wire, run):
    """All of them on their way at once, over one connection."""
    header, frames = columns({"loss": [(0, 0, 1.0)] * 10})
    expected = {}
    for i in range(200):
        wire.send("run.log", frames, run=run, series=header, client=wire.client, seq=i + 1000)
        if i % 10 == 9:
            expected[wire.send("run.metrics", run=run, key="loss")] = 10 * (i + 1)
    for _ in range(220):
        reply = wire.receive()
        assert reply["ok"], reply
        if reply["id"] in expected:
            assert reply["total"] >= expected.pop(reply["id"])
    assert not expected


def test_live_feed_snapshot_and_deltas(wire, feed, run):
    live = feed(f"run.{run}")
    step, seen = 0, None
    while seen is None:  # until the subscription has arrived
        wire.log(run, {"loss": [(step, step, float(step))]})
        step += 1
        seen = live.next(0.05)
    curve, snapshot = wire.metric(run, "loss")
    last = snapshot["sequence"]
    for _ in range(20):
        wire.log(run, {"loss": [(step, step, float(step))], "other": [(step, step, 0.0)]})
        step += 1
    wire.write("run.update", run=run, state="completed", reason="enough")
    states = []
    while not states:
        topic, delta, frames = live.next()
        assert topic == f"run.{run}" and delta["topic"] == topic and delta["v"] == 1
        if delta["sequence"] <= last:
            continue
        assert delta["sequence"] == last + 1
        last += 1
        if delta["op"] == "run.state":
            states.append((delta["state"], delta["reason"]))
            continue
        count = delta["series"][0]["count"]
        assert delta["series"][0]["key"] == "loss" and delta["rank"] == 0
        curve += zip(struct.unpack(f"<{count}q", frames[0][:8 * count]),
                     struct.unpack(f"<{count}q", frames[1][:8 * count]),
                     struct.unpack(f"<{count}d", frames[2][:8 * count]))
    assert states == [("completed", "enough")]
    whole, snapshot = wire.metric(run, "loss")
    assert curve == whole and snapshot["sequence"] == last


def test_a_slow_subscriber_finds_the_gap(wire, feed, run):
    live = feed(f"run.{run}")
    header, frames = columns({"loss": [(0, 0, 0.0)] * 4000})
    seen = None
    while seen is None:
        wire.log(run, {"loss": [(0, 0, 0.0)]})
        seen = live.next(0.05)
    last = seen[1]["sequence"]
    live.socket.close()  # a subscriber that is away while much is written
    for i in range(50):
        wire.write("run.log", frames, run=run, series=header)
    late = feed(f"run.{run}")
    seen = None
    while seen is None:
        wire.log(run, {"loss": [(0, 0, 0.0)]})
        seen = late.next(0.05)
    assert seen[1]["sequence"] > last + 1
    total = wire.metric(run, "loss", points=10)[1]
    assert total["sequence"] >= seen[1]["sequence"] and total["total"] >= 50 * 4000
