"""What the sweep tests share: a home with all its processes, small data, small sweeps.

    lab                         a TRIREME_HOME of its own; every process below it carries a mark in its
                                environment, so that none can hide from lab.processes()
    lab.run("run", file)        one command to its end
    lab.start("run", file)      one that goes on; lab.stop() ends whatever is left
    lab.wire("tracker")         docs/WIRE.md, with pyzmq

Nothing here waits by sleeping for a guess: `until` polls a condition with a deadline.
"""
import contextlib
import gzip
import json
import os
import re
import shutil
import signal
import struct
import subprocess
import tempfile
import time
import uuid
from pathlib import Path

import pytest

from wire import NoAnswer, Wire, WireError, endpoint

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(os.environ.get("TRIREME_BIN") or ROOT / "build" / "bin")
CONFIGS = ROOT / "configs"
FASHION = Path(os.environ.get("FASHION_MNIST") or "/usr/share/datasets/fashion-mnist")
SANITIZED = "san-" in str(BIN) or bool(os.environ.get("TRIREME_SANITIZED"))
# Deadlines say "for ever", they measure nothing: a machine may have much else to do. Sanitized programs are slower still.
PATIENCE = 24 if SANITIZED else 4


SPEED = "samples_per_s", "mfu", "exchange_share", "memory_bytes"  # metrics of the machine, not of the run


def exact_metrics(metrics):
    return {k: v for k, v in metrics.items() if k not in SPEED}


def needs(*programs):
    """Skips where an executable has not been built (a partial tree)."""
    for p in programs:
        if not (BIN / p).exists():
            pytest.skip(f"{p} is not built in {BIN}")


def until(condition, what, timeout=20):
    """The condition's first true value."""
    deadline = time.monotonic() + timeout * PATIENCE
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {timeout * PATIENCE} s in vain for: {what}")
        time.sleep(0.01)


def built_with():
    """The variables of make by which this tree was built; others would compile everything again."""
    flags = (BIN.parent / "flags").read_text()
    sanitizer = re.search(r"-fsanitize=(\S+)", flags)
    return [f"CUDA={int('-gencode' in flags)}", f"WERROR={int('-Werror' in flags)}", f"SAN={sanitizer[1] if sanitizer else ''}"]


# ---- a lab: a home and its processes ----

class Done:
    def __init__(self, code, out, err):
        self.code, self.out, self.err = code, out, err

    @property
    def json(self):
        return json.loads(self.out)

    def __repr__(self):
        return f"exit code {self.code}\n--- stdout\n{self.out[-4000:]}\n--- stderr\n{self.err[-4000:]}"


class Process:
    """A live process of a home, as /proc shows it."""

    def __init__(self, pid, argv, environ):
        self.pid, self.argv, self.environ = pid, argv, environ
        self.name = Path(argv[0]).name if argv else ""

    @property
    def rank(self):
        value = self.environ.get("OMPI_COMM_WORLD_RANK")
        return int(value) if value is not None else None

    def __repr__(self):
        return f"{self.pid}:{' '.join(self.argv)[:120]}"


class Lab:
    def __init__(self):
        self.path = Path(tempfile.mkdtemp(prefix="trireme-lab-"))  # short: sockets lie below it
        self.mark = uuid.uuid4().hex
        self.children = []
        self.env = {k: v for k, v in os.environ.items() if not k.startswith(("TRIREME_", "OMPI_"))}
        self.env |= {"TRIREME_HOME": str(self.path), "TRIREME_TEST_MARK": self.mark,
                     "OMP_NUM_THREADS": "1", "LC_ALL": "C.UTF-8"}

    # -- commands --
    def start(self, *args, program="trireme", **popen):
        popen.setdefault("stdout", subprocess.PIPE)
        popen.setdefault("stderr", subprocess.PIPE)
        child = subprocess.Popen([str(BIN / program), *map(str, args)], env=self.env,
                                 stdin=subprocess.DEVNULL, start_new_session=True, text=True, **popen)
        self.children.append(child)
        return child

    def finish(self, child, timeout=120):
        try:
            out, err = child.communicate(timeout=timeout * PATIENCE)
        except subprocess.TimeoutExpired:
            child.kill()
            out, err = child.communicate()
            raise AssertionError(f"{child.args} did not end in {timeout * PATIENCE} s\n{out}\n{err}\n"
                                 f"{self.logs()}") from None
        return Done(child.returncode, out, err)

    def run(self, *args, code=0, timeout=120, **more):
        """One command; `code` is the exit code it must have (None: any)."""
        done = self.finish(self.start(*args, **more), timeout)
        assert code is None or done.code == code, f"trireme {args}: {done!r}\n{self.logs()}"
        return done

    # -- daemons that stay --
    def daemon(self, name, *args):
        """`trireme NAME`, until stop(); returns when it answers."""
        child = self.start(name, *args, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        op = "hello" if name == "tracker" else "coordinator.status"

        def answers():
            assert child.poll() is None, f"{name} ended with {child.returncode}\n{self.logs()}"
            return self.ask(op, name, 0.3)

        until(answers, f"an answer of the {name}")
        return child

    @contextlib.contextmanager
    def wire(self, name="tracker", timeout_s=10):
        w = Wire(endpoint(self.path, name), timeout_s=timeout_s * PATIENCE)
        try:
            yield w
        finally:
            w.close()

    def ask(self, op, server="tracker", timeout_s=10, **fields):
        """One request, one answer; None where none comes (the server is away, or refuses)."""
        with self.wire(server, timeout_s) as w, contextlib.suppress(NoAnswer, WireError):
            return w.request(op, **fields)
        return None

    # -- what is there --
    def processes(self, name=None, rank=None):
        """Every live process that carries this home's mark."""
        found, needle = [], f"TRIREME_TEST_MARK={self.mark}".encode()
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            try:
                environ = (entry / "environ").read_bytes().split(b"\0")
                argv = (entry / "cmdline").read_bytes().split(b"\0")[:-1]
            except OSError:
                continue
            if needle not in environ or not argv:  # a zombie has neither
                continue
            table = dict(e.decode(errors="replace").split("=", 1) for e in environ if b"=" in e)
            p = Process(int(entry.name), [a.decode(errors="replace") for a in argv], table)
            if (name is None or p.name == name) and (rank is None or p.rank == rank):
                found.append(p)
        return found

    def kill(self, name, rank=None, signo=signal.SIGKILL):
        """Kills one process of that name; it must be there. With STOP: until it stands still, for the kernel wakes
        what its parent leaves behind only if it has stopped by then."""
        found = until(lambda: self.processes(name, rank), f"a process {name} (rank {rank})")
        os.kill(found[0].pid, signo)
        if signo == signal.SIGSTOP:
            tasks = Path(f"/proc/{found[0].pid}/task")
            until(lambda: all((t / "stat").read_text().rpartition(")")[2].split()[0] == "T" for t in tasks.iterdir()),
                  f"{name} to stop")
        return found[0].pid

    def assert_quiet(self, timeout=10):
        """No process of this home is left."""
        until(lambda: not self.processes(), f"the end of {self.processes()}", timeout)

    def logs(self):
        text = ""
        for log in sorted((self.path / "log").glob("*")) if (self.path / "log").is_dir() else []:
            with contextlib.suppress(OSError):
                text += f"--- {log.name}\n{log.read_text(errors='replace')[-3000:]}\n"
        return text

    def stop(self):
        for child in reversed(self.children):  # a tracker goes last
            if child.poll() is None:
                child.terminate()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    child.wait(10 * PATIENCE)
        deadline = time.monotonic() + 10 * PATIENCE
        while self.processes() and time.monotonic() < deadline:
            for child in self.children:
                child.poll()
            time.sleep(0.02)
        left = self.processes()
        for p in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(p.pid, signal.SIGKILL)
        for child in self.children:
            child.wait()
            for pipe in (child.stdout, child.stderr):
                if pipe is not None:
                    pipe.close()
        shutil.rmtree(self.path, ignore_errors=True)
        return left


@pytest.fixture
def lab():
    """A fresh home; nothing of it may outlive the test."""
    one = Lab()
    yield one
    logs = one.logs()
    left = one.stop()
    assert not left, f"left behind: {left}\n{logs}"


# ---- data ----

def idx(path, array_shape, payload):
    """Writes an IDX file of unsigned bytes."""
    path.write_bytes(struct.pack(">HBB", 0, 8, len(array_shape)) +
                     b"".join(struct.pack(">I", n) for n in array_shape) + payload)


@pytest.fixture(scope="session")
def small(tmp_path_factory):
    """The first 2,000 of Fashion-MNIST's test images, as images.idx and labels.idx."""
    if not (FASHION / "t10k-images-idx3-ubyte.gz").exists():
        pytest.skip(f"no Fashion-MNIST in {FASHION} (apt install dataset-fashion-mnist)")
    d, n = tmp_path_factory.mktemp("data"), 2000
    with gzip.open(FASHION / "t10k-images-idx3-ubyte.gz") as f:
        idx(d / "images.idx", (n, 28, 28), f.read(16 + n * 784)[16:])
    with gzip.open(FASHION / "t10k-labels-idx1-ubyte.gz") as f:
        idx(d / "labels.idx", (n,), f.read(8 + n)[8:])
    return d


# ---- sweep files ----

MLP = [{"dense": {"out": 16}}, "relu", {"dropout": 0.1}, {"dense": {"out": 10}}]
CNN = [{"conv2d": {"out": 4, "kernel": 3, "padding": "same", "stride": 2}}, "batch_norm", "relu",
       {"max_pool": 2}, "flatten", {"dropout": 0.2}, {"dense": {"out": 10}}]


def sweep(data, *, name="small", steps=40, model=None, lr=0.05, batch=64, shards=8, slots=1,
          max_slots=None, searcher=None, hyperparameters=None, **more):
    """A sweep as Python sees it; JSON is YAML. Further keys replace whole sections."""
    config = {
        "name": name,
        "hyperparameters": hyperparameters or {},
        "searcher": {"name": "single", "metric": "val_error", "max_time": steps,
                     "time_metric": "steps", **(searcher or {})},
        "resources": {"slots_per_trial": slots, "max_slots": max_slots or slots},
        "reproducibility": {"experiment_seed": 5, "virtual_shards": shards},
        "data": {"dir": str(data), "validation_split": 0.2,
                 "train": {"format": "idx", "images": "images.idx", "labels": "labels.idx"},
                 "transforms": [{"scale": 1 / 255}, {"normalize": "fit"}]},
        "model": model or MLP,
        "training": {"loss": "cross_entropy", "optimizer": {"name": "adamw", "lr": lr},
                     "global_batch_size": batch},
        "digest_every": 10,
    }
    return config | more


# Four points, by which every kind of disturbance is judged. Long enough to be hit in the middle: half
# a second a trial on one core.
GRID_STEPS = 3600


def grid(data, **more):
    return sweep(data, name="grid", steps=GRID_STEPS, slots=2, max_slots=2, lr="${lr}",
                 model=[{"dense": {"out": 64}}, "${act}", {"dropout": 0.1}, {"dense": {"out": 10}}],
                 searcher={"name": "grid"},
                 hyperparameters={"lr": {"type": "log", "minval": 1e-3, "maxval": 1e-2, "count": 2},
                                  "act": {"type": "categorical", "vals": ["relu", "tanh"]}},
                 checkpoint={"every": 200}, digest_every=100,
                 training={"loss": "cross_entropy", "optimizer": {"name": "adamw", "lr": "${lr}"},
                           "global_batch_size": 64, "eval_every": 200}, **more)


def write(directory, config, name="sweep.yaml"):
    path = Path(directory) / name
    path.write_text(json.dumps(config, indent=1))
    return path


def by_point(result):
    """{hyperparameters as text: trial} of a `run --json`."""
    return {json.dumps(t["hyperparameters"], sort_keys=True): t for t in result["trials"]}


def bits_of(result):
    """What two sweeps must agree in: point → (state, digest, final metrics)."""
    metrics = lambda t: exact_metrics(t["metrics"])
    return {p: (t["state"], t["weights_digest"], metrics(t)) for p, t in by_point(result).items()}


def running_step(w):
    """(trial, step) of the trial that is furthest among those that run; (0, 0) where none does. `w` is a wire to
    the coordinator, who may be away."""
    try:
        sweeps = w.request("coordinator.status", timeout_s=0.5)["sweeps"]
        active = [s["sweep"] for s in sweeps if s["state"] == "active"]
        if not active:
            return 0, 0
        trials = w.request("sweep.status", timeout_s=0.5, sweep=active[-1])["sweep"]["trials"]
    except (NoAnswer, WireError):
        return 0, 0
    return max(((t["trial"], t.get("step") or 0) for t in trials if t["state"] == "running"),
               key=lambda t: t[1], default=(0, 0))


def wait_for_step(lab, step, trial=1):
    """Until a trial from `trial` on has passed `step`: the middle of a sweep. Its number."""
    with lab.wire("coordinator") as w:
        def passed():
            number, at = running_step(w)
            return number if number >= trial and at > step else 0
        return until(passed, f"step {step} of trial {trial} or a later one", 60)


# ---- done once, looked at by many ----

@pytest.fixture(scope="session")
def reference(tmp_path_factory, small):
    """The grid, undisturbed: its lab and result. Left without processes."""
    needs("trireme-coordinator", "trireme-worker")
    one = Lab()
    one.file = write(tmp_path_factory.mktemp("reference"), grid(small))
    one.result = one.run("run", one.file, "--json").json
    assert [t["state"] for t in one.result["trials"]] == ["completed"] * 4, one.result
    yield one
    one.stop()


@pytest.fixture(scope="session")
def digits():
    """configs/digits-quick.yaml as shipped, finished; a tracker stays up for those who look."""
    needs("trireme-coordinator", "trireme-worker")
    one = Lab()
    done = one.run("run", CONFIGS / "digits-quick.yaml", "--json")
    one.result, one.progress = done.json, done.err
    one.daemon("tracker")
    yield one
    one.stop()
