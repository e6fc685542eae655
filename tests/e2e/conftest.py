"""Fixtures: a home of its own for each test, daemons that are started and stopped, wires to them.

The marker `proof` is for what takes long or needs what few machines have: `make test` leaves it out, `make proof`
runs it; and those with the marker `toolkit`, which `make test` skips where no CUDA toolkit is. What was left out, and
why, goes to the file $SKIPPED, of which tools/skipped.py makes a table.
"""
import collections
import os
import pathlib
import select
import shutil
import signal
import subprocess
import tempfile

import pytest

from sweeps import digits, lab, reference, small  # noqa: F401: fixtures
from wire import Feed, Wire, endpoint

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]


def pytest_configure(config):
    config.addinivalue_line("markers", "slow: more than ten seconds")
    config.addinivalue_line("markers", "proof: left out by make test, run by make proof")
    config.addinivalue_line("markers", "toolkit: needs the stand-ins, which need CUDA's headers; make proof brings them")
    LEFT_OUT.clear()
    os.environ.setdefault("MALLOC_PERTURB_", "173")  # fresh and freed memory is not zero by chance
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # under nohup it is ignored, and commands respect that


# ---- what was left out: {(file, reason): how many} ----

LEFT_OUT = collections.Counter()
LONG = "long, or needs what `make proof` brings"


def is_lane(config):
    """One of the processes among which pytest-xdist shares out the files; the one that you started hears of every
    report of theirs, but not of what they deselected."""
    return hasattr(config, "workeroutput")


def pytest_deselected(items):
    """Of `-m "not proof"` alone: what -k leaves out was chosen by hand."""
    if items and "not proof" in items[0].config.option.markexpr:
        for item in items:
            if item.get_closest_marker("proof"):
                LEFT_OUT[(item.nodeid.split("::")[0], LONG)] += 1
    if items and is_lane(items[0].config):
        output = items[0].config.workeroutput
        output["deselected"] = output.get("deselected", 0) + len(items)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node):
    """A lane has ended. Each collects all files and leaves out the same: the first one to end is believed."""
    output = getattr(node, "workeroutput", None) or {}
    stats = node.config.pluginmanager.getplugin("terminalreporter").stats
    if "deselected" in output and "deselected" not in stats:
        stats["deselected"] = [None] * output["deselected"]
        LEFT_OUT.update({(name, LONG): count for name, count in output["long"]})


def pytest_runtest_logreport(report):
    if report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        LEFT_OUT[(report.nodeid.split("::")[0], reason.removeprefix("Skipped: "))] += 1


pytest_collectreport = pytest_runtest_logreport  # a module that skips itself


def pytest_sessionfinish(session):
    where = os.environ.get("SKIPPED")
    if is_lane(session.config):
        session.config.workeroutput["long"] = [(name, n) for (name, reason), n in LEFT_OUT.items() if reason == LONG]
    elif where:
        os.makedirs(os.path.dirname(where), exist_ok=True)
        with open(where, "w") as out:
            for (name, reason), count in sorted(LEFT_OUT.items()):
                print(count, name, " ".join(reason.split()), sep="\t", file=out)


@pytest.fixture(scope="session")
def bin_dir():
    """Where the executables are: $TRIREME_BIN, or build/bin."""
    path = pathlib.Path(os.environ.get("TRIREME_BIN", REPOSITORY / "build" / "bin"))
    if not (path / "trireme-tracker").exists():
        pytest.fail(f"no executables in {path}: run make first")
    return path


@pytest.fixture
def home(monkeypatch):
    """A temporary TRIREME_HOME, short enough for the path of a socket."""
    path = tempfile.mkdtemp(prefix="trireme-e2e-")
    monkeypatch.setenv("TRIREME_HOME", path)
    yield pathlib.Path(path)
    shutil.rmtree(path, ignore_errors=True)


class Daemon:
    """A process that writes a byte to --ready-fd when it is ready."""

    def __init__(self, program, *args, env=None, log=None, timeout_s=120, wait=True):
        ready, write = os.pipe()
        os.set_inheritable(write, True)
        self.log = pathlib.Path(log) if log else None
        out = open(self.log, "ab") if self.log else subprocess.PIPE
        self.process = subprocess.Popen(
            [str(program), *map(str, args), "--ready-fd", str(write)], pass_fds=[write],
            stdout=subprocess.DEVNULL, stderr=out, env={**os.environ, **(env or {})})
        os.close(write)
        if self.log:
            out.close()
        try:
            if wait:
                readable, _, _ = select.select([ready], [], [], timeout_s)
                if not readable or os.read(ready, 1) == b"":
                    self.kill()
                    raise RuntimeError(f"{program} did not get ready: {self.errors()}")
        finally:
            os.close(ready)

    @property
    def pid(self):
        return self.process.pid

    def errors(self):
        if self.log:
            return self.log.read_text(errors="replace")
        return self.process.stderr.read().decode(errors="replace")

    def stop(self, timeout_s=120):
        """SIGTERM; the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout_s)

    def kill(self):
        """SIGKILL, and waits until it is gone."""
        if self.process.poll() is None:
            self.process.kill()
        return self.process.wait(120)


@pytest.fixture
def daemons(bin_dir, home):
    """daemons("trireme-tracker", …) starts one with --home; all are stopped at the end."""
    started = []

    def start(name, *args, **options):
        options.setdefault("log", home / f"{name}.log")
        daemon = Daemon(bin_dir / name, "--home", home, *args, **options)
        started.append(daemon)
        return daemon

    yield start
    for daemon in reversed(started):
        try:
            daemon.stop()
        except subprocess.TimeoutExpired:
            daemon.kill()


@pytest.fixture
def tracker(daemons):
    """A running tracker."""
    return daemons("trireme-tracker")


@pytest.fixture
def connect(home):
    """connect() is a Wire to the tracker, connect("coordinator") to another daemon."""
    wires = []

    def make(name="tracker", where=None, **options):
        wires.append(Wire(where or endpoint(home, name), **options))
        return wires[-1]

    yield make
    for wire in wires:
        wire.close()


@pytest.fixture
def wire(tracker, connect):
    """A Wire to a running tracker."""
    return connect()


@pytest.fixture
def feed(home):
    """feed("run.") subscribes to the tracker's live feed."""
    feeds = []

    def make(*topics, where=None):
        feeds.append(Feed(where or endpoint(home, "feed"), *topics))
        return feeds[-1]

    yield make
    for one in feeds:
        one.close()
