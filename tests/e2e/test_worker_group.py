"""A worker group against a coordinator made of forty lines of Python, and replay of what it left."""
import contextlib
import gzip
import json
import os
import pathlib
import signal
import socket
import subprocess
import time

import pytest
import zmq

from wire import endpoint, ulid

FASHION = pathlib.Path("/usr/share/datasets/fashion-mnist")
MPI_ENV = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
           "OMPI_MCA_btl_vader_single_copy_mechanism": "none", "OMPI_MCA_pml": "ob1",
           "OMPI_MCA_btl": "self,vader"}

pytestmark = pytest.mark.skipif(not FASHION.exists(), reason="dataset-fashion-mnist is missing")


def config(seed=5, max_time=2, time_metric="epochs", **training):
    return {
        "seed": seed, "experiment_seed": 1, "virtual_shards": 8, "time_metric": time_metric,
        "max_time": max_time, "metric": "val_error",
        "data": {"train": {"format": "idx",
                           "images": str(FASHION / "t10k-images-idx3-ubyte.gz"),
                           "labels": str(FASHION / "t10k-labels-idx1-ubyte.gz")},
                 "validation_split": 0.2, "transforms": [{"scale": 0.00392156862745098}]},
        "model": [{"dense": {"out": 32}}, "relu", {"dropout": 0.1}, {"dense": {"out": 10}}],
        "training": {"loss": "cross_entropy", "global_batch_size": 64,
                     "optimizer": {"name": "adamw", "lr": 0.002}, **training},
        "checkpoint": {"every": 1 if time_metric == "epochs" else 20}, "digest_every": 50,
    }


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Coordinator:
    """Answers what a group says; keeps every message with the time it came."""

    def __init__(self, home):
        (home / "run").mkdir(mode=0o700, exist_ok=True)
        self.where = endpoint(home, "fake")
        self.context = zmq.Context()
        self.verdicts = {}
        self.keep = True
        self.said = []
        self.peer = None
        self.open()

    def open(self):
        self.socket = self.context.socket(zmq.ROUTER)
        self.socket.linger = 0
        self.socket.bind(self.where)

    def close(self):
        self.socket.close()
        self.context.term()

    def restart(self):
        self.socket.close()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.where[len("ipc://"):])
        self.peer = None
        self.open()

    def answer(self, message):
        op = message["op"]
        if op == "group.hello":
            return {"beat_ms": 50, "lease_ms": 5000, "keep": self.keep}
        if op == "trial.report":
            return self.verdicts.get(message["units"], {"verdict": "continue", "until": 1e6})
        return {}

    def listen(self, timeout_s):
        """One message, or None."""
        if not self.socket.poll(timeout_s * 1000):
            return None
        peer, *frames = self.socket.recv_multipart()
        message = json.loads(frames[0])
        if "op" not in message:
            return None
        self.peer = peer
        message["at"] = time.monotonic()
        self.said.append(message)
        reply = {"id": message["id"], "ok": True, **self.answer(message)}
        self.socket.send_multipart([peer, json.dumps(reply).encode()])
        return message

    def until(self, op, timeout_s=120, **fields):
        end = time.monotonic() + timeout_s
        while time.monotonic() < end:
            m = self.listen(0.1)
            if m and m["op"] == op and all(m.get(k) == v for k, v in fields.items()):
                return m
        raise AssertionError(f"no {op}; heard {[m['op'] for m in self.said][-20:]}")

    def dismiss(self, timeout_s=120):
        end = time.monotonic() + timeout_s
        while self.said[-1]["op"] != "group.bye":
            assert time.monotonic() < end, "the group does not leave"
            if self.listen(0.1):
                self.tell("group.exit")

    def tell(self, op, **fields):
        self.socket.send_multipart([self.peer, json.dumps({"v": 1, "op": op, **fields}).encode()])


class Group:
    def __init__(self, bin_dir, home, coordinator, ranks=1):
        self.coordinator = coordinator
        self.log = open(home / "group.log", "ab")
        command = [str(bin_dir / "trireme-worker"), "--coordinator", coordinator.where,
                   "--tracker", endpoint(home, "tracker")]
        if ranks > 1:
            command = ["mpirun", "--oversubscribe", "--bind-to", "none", "-n", str(ranks)] + command
        self.process = subprocess.Popen(command, stdout=self.log, stderr=self.log,
                                        env={**os.environ, **MPI_ENV, "TRIREME_LAUNCH": "abc"},
                                        start_new_session=True)
        self.hello = coordinator.until("group.hello")

    def end(self):
        if self.process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(120)
        self.log.close()


@pytest.fixture
def coordinator(home):
    c = Coordinator(home)
    yield c
    c.close()


@pytest.fixture
def group(bin_dir, home, tracker, coordinator):
    groups = []

    def start(ranks=1):
        groups.append(Group(bin_dir, home, coordinator, ranks))
        return groups[-1]

    yield start
    for one in groups:
        one.end()


@pytest.fixture
def assign(wire, coordinator):
    """Creates a run as the coordinator would and gives it to the group."""
    sweep = ulid()
    epochs = iter(range(1, 100))

    def go(settings, until=None, resume=()):
        run = ulid()
        wire.write("run.create", run=run, experiment="e2e", config=settings)
        lease = {"sweep": sweep, "trial": 1, "run": run, "epoch": next(epochs)}
        coordinator.tell("trial.assign", lease=lease, config=settings, resume=list(resume),
                         until=until if until is not None else settings["max_time"])
        return lease

    return go


@pytest.fixture
def replay(bin_dir, home):
    def go(run, *options, ranks=1):
        command = [str(bin_dir / "trireme-worker"), "--replay", run, "--tracker",
                   endpoint(home, "tracker"), "--json", *map(str, options)]
        if ranks > 1:
            command = ["mpirun", "--oversubscribe", "--bind-to", "none", "-n", str(ranks)] + command
        done = subprocess.run(command, capture_output=True, text=True, timeout=400,
                              env={**os.environ, **MPI_ENV})
        return done.returncode, json.loads(done.stdout) if done.stdout else done.stderr

    return go


def test_two_trials_warm(group, coordinator, assign, wire, replay):
    one = group()
    assert one.hello["ranks"] == 1 and one.hello["launch"] == "abc"
    first = assign(config())
    assert coordinator.until("trial.started")["step"] == 0
    done = coordinator.until("trial.done")
    assert done["state"] == "completed" and done["lease"] == first and done["step"] == 250
    assert done["metrics"]["val_error"] < 0.4
    second = assign(config(seed=6))
    started = coordinator.until("trial.started")
    print("warm start", (started["at"] - done["at"]) * 1000, "ms")
    assert started["at"] - done["at"] < 0.5
    again = coordinator.until("trial.done")
    assert again["lease"] == second and again["weights_digest"] != done["weights_digest"]
    run = wire.request("run.get", run=first["run"])["run"]
    assert {a["path"] for a in run["artifacts"]} == {"checkpoint.safetensors", "model.safetensors",
                                                     "trace/000000.bin"}
    assert run["summary"]["weights_digest"] == done["weights_digest"]
    assert run["manifest"]["ranks"] == 1 and run["manifest"]["data"]["train"] == 8000
    assert {m["key"]: m["count"] for m in run["metrics"]} == {
        "train_loss": 250, "val_loss": 2, "val_error": 2, "samples_per_s": 2, "mfu": 2,
        "memory_bytes": 2, "lr": 2}
    reports = [m for m in coordinator.said if m["op"] == "trial.report"]
    assert [m["units"] for m in reports] == [1, 2, 1, 2]
    for ranks in 1, 2:
        code, verdict = replay(first["run"], ranks=ranks)
        assert code == 0 and verdict == {
            "run": first["run"], "verdict": "exact", "ranks": ranks, "steps": 250,
            "weights_digest": done["weights_digest"], "first_divergent_step": None,
            "reason": None}, verdict
    coordinator.dismiss()  # nobody listened during the replays: the group may have a new address
    assert one.process.wait(120) == 0


def test_boundary_and_verdict(group, coordinator, assign, wire):
    group(ranks=2)
    coordinator.verdicts[2] = {"verdict": "continue", "until": 3}
    coordinator.verdicts[3] = {"verdict": "stop", "reason": "rung 1: 3rd of 4"}
    lease = assign(config(max_time=5), until=2)
    done = coordinator.until("trial.done")
    assert done["state"] == "stopped" and done["units"] == 3
    assert done["reason"] == "rung 1: 3rd of 4"
    boundaries = [m["units"] for m in coordinator.said if m.get("boundary")]
    assert boundaries == [2, 3]
    summary = wire.request("run.get", run=lease["run"])["run"]["summary"]
    assert summary["steps"] == 375 and summary["weights_digest"] == done["weights_digest"]


def test_cancel(group, coordinator, assign):
    group(ranks=2)
    lease = assign(config(max_time=1000))
    coordinator.until("trial.started")
    coordinator.tell("trial.cancel", lease=lease, state="cancelled", reason="enough")
    done = coordinator.until("trial.done")
    assert (done["state"], done["reason"]) == ("cancelled", "enough")
    assign(config())
    assert coordinator.until("trial.done")["state"] == "completed"


def artifacts(wire, lease):
    return {a["path"]: a["size"] for a in wire.request("run.get", run=lease["run"])["run"]["artifacts"]}


def rising(max_time, every, keep="best"):
    """A trial whose metric counts the wrong way round: its best evaluation is its first one."""
    return {**config(max_time=max_time, time_metric="steps", eval_every=every), "language": 3, "metric": "val_loss",
            "smaller_is_better": False, "metric_of": "last" if keep == "last" else "best", "checkpoint": {"every": every, "keep": keep}}


def header(data):
    length = int.from_bytes(data[:8], "little")
    return json.loads(data[8:8 + length]), data[8 + length:]


def test_best_and_last(group, coordinator, assign, wire, replay):
    """What `checkpoint.keep` keeps, what the summary says of it, and that replay compares it."""
    group()
    kept = {"best": ["best.safetensors"], "last": [],
            "all": ["best.safetensors"] + [f"checkpoints/{step:012}.safetensors" for step in (20, 40)]}
    for keep, more in kept.items():
        lease = assign(rising(60, 20, keep))
        done = coordinator.until("trial.done")
        assert done["state"] == "completed", done
        assert set(artifacts(wire, lease)) == {"checkpoint.safetensors", "model.safetensors", "trace/000000.bin", *more}
        summary = wire.request("run.get", run=lease["run"])["run"]["summary"]
        losses = [m["metrics"]["val_loss"] for m in coordinator.said if m["op"] == "trial.report"][-3:]
        assert losses[0] > max(losses[1:]), losses
        best = summary["best"]
        assert (best["step"], best["metric"], best["value"]) == (20, "val_loss", losses[0])
        assert best["weights_digest"] != summary["weights_digest"]
        assert summary["metrics"]["val_loss"] == losses[2]  # the last, as ever
    data = wire.get(run=lease["run"], path="best.safetensors")
    head, weights = header(data)
    about = head["__metadata__"]
    assert float(about.pop("value")) == losses[0]
    assert about == {"run": lease["run"], "step": "20", "metric": "val_loss"}
    assert head.keys() == header(wire.get(run=lease["run"], path="model.safetensors"))[0].keys()
    checkpoint, state = header(wire.get(run=lease["run"], path="checkpoints/000000000020.safetensors"))
    assert state.startswith(weights) and checkpoint["__metadata__"]["best_step"] == "20"
    for options, digest in ((("--until", 20), best["weights_digest"]), ((), summary["weights_digest"])):
        code, verdict = replay(lease["run"], *options)
        assert code == 0 and verdict["weights_digest"] == digest, verdict
    for path, step, options in (("best.safetensors", 20, ()), ("checkpoints/000000000040.safetensors", 40, ("--until", 40))):
        data = wire.get(run=lease["run"], path=path)
        at = len(data) - len(header(data)[1]) + 4  # within the first weights
        wire.put(lease["run"], path, data[:at] + bytes([data[at] ^ 1]) + data[at + 1:])
        code, verdict = replay(lease["run"], *options)
        wire.put(lease["run"], path, data)
        assert code == 3 and verdict["first_divergent_step"] == step and path in verdict["reason"], verdict


def test_what_the_tracker_refuses_fails_the_trial(group, coordinator, assign, wire):
    """A run that it does not know: nothing of it can be stored, and nobody hears that it completed."""
    group()
    lease = {"sweep": ulid(), "trial": 1, "run": ulid(), "epoch": 1}
    settings = config(max_time=40, time_metric="steps")
    coordinator.tell("trial.assign", lease=lease, config=settings, resume=[], until=40)
    done = coordinator.until("trial.done")
    assert (done["state"], done["code"]) == ("failed", "not_found"), done
    assert "manifest could not be stored" in done["reason"] and lease["run"] in done["reason"], done
    assign(settings)
    assert coordinator.until("trial.done")["state"] == "completed"


def test_chunks_of_a_trace(group, coordinator, assign, wire, replay):
    """A long run writes each step of its trace once or twice, not once a checkpoint; a resumed attempt has all of it."""
    settings = {**rising(4600, 400), "model": [{"dense": {"out": 10}}], "digest_every": 1000}
    settings["training"]["global_batch_size"] = 8
    one = group()
    assign(settings)
    undisturbed = coordinator.until("trial.done")
    assert undisturbed["state"] == "completed", undisturbed
    lost = assign(settings)
    while "trace/000001.bin" not in artifacts(wire, lost):
        coordinator.listen(0.01)
    one.process.send_signal(signal.SIGKILL)
    one.process.wait(10)
    coordinator.peer = None
    group()
    resumed = assign(settings, resume=[lost["run"]])
    assert coordinator.until("trial.started")["step"] == 4400
    done = coordinator.until("trial.done")
    assert done["weights_digest"] == undisturbed["weights_digest"]
    kept = artifacts(wire, resumed)
    assert [kept[f"trace/{n:06}.bin"] for n in range(2)] == [104 + 4096 * 4 + 72 * 4, 104 + 504 * 4 + 72]
    assert artifacts(wire, lost)["checkpoint.safetensors"] < 3 * 4 * 7850 + 4096  # weights, two slots, and no trace
    runs = [wire.request("run.get", run=lease["run"])["run"] for lease in (lost, resumed)]
    assert runs[1]["summary"]["best"]["step"] == 400 and runs[1]["manifest"]["resumed_from"]["run"] == lost["run"]
    best = [wire.get(run=run["run"], path="best.safetensors") for run in runs]
    assert best[0] == best[1]
    # A checkpoint without what lies beside it is passed over: from the start the bits are the same.
    wire.put(lost["run"], "trace/000000.bin", wire.get(run=lost["run"], path="trace/000001.bin"))
    assign(settings, resume=[lost["run"]])
    assert coordinator.until("trial.started")["step"] == 0
    assert coordinator.until("trial.done")["weights_digest"] == undisturbed["weights_digest"]
    code, verdict = replay(resumed["run"], ranks=2)
    assert code == 0 and verdict["steps"] == 4600, verdict


def test_resume_on_other_ranks(group, coordinator, assign, wire, replay):
    one = group(ranks=1)
    assign(rising(120, 20))
    undisturbed = coordinator.until("trial.done")
    slow = rising(120, 20)
    lost = assign(slow)
    coordinator.until("trial.started")
    while not any(a["path"] == "checkpoint.safetensors"
                  for a in wire.request("run.get", run=lost["run"])["run"]["artifacts"]):
        coordinator.listen(0.01)
    one.process.send_signal(signal.SIGKILL)
    one.process.wait(120)
    coordinator.peer = None
    group(ranks=2)
    resumed = assign(slow, resume=[ulid(), lost["run"]])
    assert coordinator.until("trial.started")["step"] in (20, 40, 60, 80, 100)
    done = coordinator.until("trial.done")
    assert done["weights_digest"] == undisturbed["weights_digest"]
    manifest = wire.request("run.get", run=resumed["run"])["run"]["manifest"]
    assert manifest["resumed_from"]["run"] == lost["run"] and manifest["ranks"] == 2
    code, verdict = replay(resumed["run"])
    assert code == 0 and verdict["steps"] == 120, verdict
    summary = wire.request("run.get", run=resumed["run"])["run"]["summary"]
    assert summary["best"]["step"] == 20  # of the attempt before: its weights came along
    assert header(wire.get(run=resumed["run"], path="best.safetensors"))[0]["__metadata__"]["step"] == "20"
    code, verdict = replay(resumed["run"], "--until", 20)
    assert code == 0 and verdict["weights_digest"] == summary["best"]["weights_digest"], verdict


def test_sigterm_is_preemption(group, coordinator, assign, wire):
    one = group(ranks=1)
    lease = assign(config(max_time=1000))
    coordinator.until("trial.started")
    one.process.send_signal(signal.SIGTERM)
    done = coordinator.until("trial.done")
    assert done["state"] == "preempted"
    coordinator.until("group.bye")
    assert one.process.wait(120) == 0
    paths = [a["path"] for a in wire.request("run.get", run=lease["run"])["run"]["artifacts"]]
    assert "checkpoint.safetensors" in paths
    group(ranks=1)
    assign(config(max_time=1000), resume=[lease["run"]])
    assert coordinator.until("trial.started")["step"] == done["step"]


def test_coordinator_restarts(group, coordinator, assign):
    group(ranks=1)
    lease = assign(config(max_time=20))
    coordinator.until("trial.started")
    coordinator.restart()
    again = coordinator.until("group.hello")
    assert again["lease"] == lease
    done = coordinator.until("trial.done")
    assert done["state"] == "completed" and done["lease"] == lease


def test_lost_lease_is_dropped(group, coordinator, assign, wire):
    group(ranks=2)
    lease = assign(config(max_time=1000))
    coordinator.until("trial.started")
    coordinator.keep = False
    coordinator.restart()
    coordinator.until("group.hello", lease=lease)
    coordinator.keep = True
    while "lease" in coordinator.until("group.beat"):
        pass  # it leaves the trial after the step under way; until then it takes no other
    assign(config())
    done = coordinator.until("trial.done")
    assert done["lease"] != lease and done["state"] == "completed"
    run = wire.request("run.get", run=lease["run"])["run"]
    assert "model.safetensors" not in [a["path"] for a in run["artifacts"]]
    assert "weights_digest" not in (run.get("summary") or {})


@pytest.mark.parametrize("change, code, words", [
    ({"model": [{"dense": {"out": 7}}]}, "invalid", "7 outputs, the data has 10 classes"),
    ({"virtual_shards": 1}, "invalid", "2 ranks do not divide virtual_shards (1)"),
    ({"virtual_shards": 6}, "invalid", "must be a power of two"),
    ({"device": "cuda"}, "unavailable", "cuda"),
    ({"colour": 3}, "invalid", "unknown key 'colour'"),
])
def test_bad_trials_fail_with_words(group, coordinator, assign, change, code, words):
    group(ranks=2)
    assign({**config(), **change})
    done = coordinator.until("trial.done")
    assert done["state"] == "failed" and done["code"] == code and words in done["reason"], done
    assign(config(max_time=1))
    assert coordinator.until("trial.done")["state"] == "completed"


def test_not_finite_names_the_layer(group, coordinator, assign, replay):
    group(ranks=2)
    settings = config(optimizer={"name": "sgd", "lr": 1e6})
    settings["model"] = [{"dense": {"out": 32}}, "relu", {"dense": {"out": 10}}]
    settings["data"]["transforms"] = [{"scale": 1e30}]
    lease = assign(settings)
    done = coordinator.until("trial.done")
    assert done["state"] == "failed" and done["code"] == "nonfinite", done
    assert "is not finite" in done["reason"] and "model[" in done["reason"]
    code, verdict = replay(lease["run"])
    assert (code, verdict["verdict"]) == (0, "exact"), verdict


def test_replay_finds_what_differs(group, coordinator, assign, wire, replay, tmp_path):
    for name in "images-idx3", "labels-idx1":
        source = FASHION / f"t10k-{name}-ubyte.gz"
        (tmp_path / source.name).write_bytes(source.read_bytes())
    settings = config(max_time=30, time_metric="steps")
    settings["data"]["train"] = {
        "format": "idx", "images": str(tmp_path / "t10k-images-idx3-ubyte.gz"),
        "labels": str(tmp_path / "t10k-labels-idx1-ubyte.gz")}
    group()
    lease = assign(settings)
    coordinator.until("trial.done")
    run = lease["run"]
    code, verdict = replay(run, "--until", 10)
    assert (code, verdict["steps"]) == (0, 10)
    # a run with one loss that is one bit off, and without a trace
    points, _ = wire.metric(run, "train_loss")
    forged = ulid()
    wire.write("run.create", run=forged, experiment="e2e", config=settings)
    wire.log(forged, {"train_loss": [(s, t, v * (1 + 2**-52) if s == 17 else v)
                                     for s, t, v in points]})
    code, verdict = replay(forged)
    assert code == 3 and verdict["verdict"] == "diverged" and verdict["first_divergent_step"] == 17
    assert "step 17" in verdict["reason"] and "are the same as then" in verdict["reason"]
    # other labels
    labels = tmp_path / "t10k-labels-idx1-ubyte.gz"
    raw = bytearray(gzip.decompress(labels.read_bytes()))
    raw[100] = (raw[100] + 1) % 10
    labels.write_bytes(gzip.compress(bytes(raw)))
    code, verdict = replay(run)
    assert code == 5 and verdict["verdict"] == "refused" and verdict["steps"] == 0
    assert "data files have changed" in verdict["reason"]
    labels.unlink()
    code, verdict = replay(run)
    assert code == 4 and verdict["verdict"] == "refused"
    code, words = replay(ulid())
    assert code == 4


def test_initial_weights_travel_with_the_run(group, coordinator, assign, wire, replay, tmp_path):
    group()
    first = assign(config(max_time=10, time_metric="steps"))
    coordinator.until("trial.done")
    start = tmp_path / "start.safetensors"
    start.write_bytes(wire.get(run=first["run"], path="model.safetensors"))
    second = assign(config(max_time=10, time_metric="steps", initial_weights=str(start)))
    done = coordinator.until("trial.done")
    assert done["state"] == "completed", done
    start.unlink()
    code, verdict = replay(second["run"], ranks=2)
    assert (code, verdict["verdict"]) == (0, "exact"), verdict


def test_replay_over_tcp_needs_keys(bin_dir, home, daemons, tmp_path):
    """Refused without keys; with them the tracker answers that it does not know the run."""
    keys = tmp_path / "keys"
    for name in "server", "me":
        subprocess.run([bin_dir / "trireme", "keygen", "--name", name, "-o", keys], check=True,
                       capture_output=True)
    port = free_port()
    daemons("trireme-tracker", "--endpoint", f"tcp://127.0.0.1:{port}", "--keys",
            keys / "server.secret", "--allowed", keys)
    command = [bin_dir / "trireme-worker", "--replay", ulid(), "--tracker",
               f"tcp://127.0.0.1:{port}"]
    bare = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert bare.returncode == 9 and "keygen" in bare.stderr
    server = (keys / "server.public").read_text().split()[0]
    known = subprocess.run([*command, "--keys", keys / "me.secret", "--tracker-key", server],
                           capture_output=True, text=True, timeout=240)
    assert known.returncode == 4, known
    (keys / "me.secret").chmod(0o644)
    loose = subprocess.run([*command, "--keys", keys / "me.secret", "--tracker-key", server],
                           capture_output=True, text=True, timeout=240)
    assert loose.returncode == 9 and "chmod 600" in loose.stderr
