"""kill -9 in the middle of a sweep: of a rank, of mpirun, of each daemon, of the command itself.

Every time: the sweep finishes; what the tracker acknowledged is there; no run is left running; and
the grid has the bits of the undisturbed sweep, step by step, whatever attempt took the step.
"""
import os
import re
import signal
import struct
import threading
import time

import pytest

from sweeps import bits_of, needs, running_step, sweep, until, wait_for_step, write
from wire import NoAnswer, Wire, WireError, columns, endpoint, ulid


class Bystander(threading.Thread):
    """A client that logs to a run of its own all the while and keeps account of what was acknowledged.

    It resends what got no answer under the same (client, seq), as docs/WIRE.md says.
    """

    def __init__(self, lab):
        super().__init__(daemon=True)
        self.lab, self.run_id, self.client = lab, ulid(), ulid()
        self.seq, self.step, self.resent = 0, 0, 0
        self.acknowledged, self.error, self.wire = {}, None, None
        self.ending = threading.Event()

    def ask(self, op, frames=(), **fields):
        """Until it is answered, over as many connections as that takes."""
        self.seq += 1
        while True:
            if self.wire is None:
                self.wire = Wire(endpoint(self.lab.path, "tracker"), timeout_s=1)
            try:
                return self.wire.request(op, frames, client=self.client, seq=self.seq, **fields)
            except NoAnswer:
                self.resent += 1
                self.hang_up()
            except WireError as e:
                if e.code not in ("full", "unavailable", "busy"):
                    raise
            if self.ending.is_set():
                raise NoAnswer("the end")

    def hang_up(self):
        if self.wire is not None:
            self.wire.close()
            self.wire = None

    def run(self):
        try:
            self.ask("run.create", run=self.run_id, experiment="bystander")
            while not self.ending.is_set():
                points = [(self.step + i, time.time_ns(), (self.step + i) * 1.25) for i in range(5)]
                header, frames = columns({"x": points})
                self.ask("run.log", frames, run=self.run_id, series=header)
                self.acknowledged.update((s, v) for s, _, v in points)
                self.step += 5
        except NoAnswer:
            pass
        except Exception as e:
            self.error = e
        finally:
            self.hang_up()

    def check(self):
        """After the sweep, with a tracker up: everything is there, once."""
        assert self.error is None, self.error
        with self.lab.wire() as w:
            w.write("run.update", run=self.run_id, state="completed")
            points, _ = w.metric(self.run_id, "x")
        steps = [s for s, _, _ in points]
        assert len(steps) == len(set(steps)), "a resend was applied twice"
        stored = {s: v for s, _, v in points}
        missing = {s for s, v in self.acknowledged.items() if stored.get(s) != v}
        assert not missing, f"{len(missing)} acknowledged points are gone: {sorted(missing)[:10]}"
        assert len(self.acknowledged) >= 50, "the bystander hardly got to say anything"


def curves(w, sweep_id):
    """{point: {key: {step: bits}}} over all attempts; where two attempts took a step, they agree."""
    found = {}
    runs = w.request("run.list", sweep=sweep_id, limit=1000)["runs"]
    for run in sorted(runs, key=lambda r: r["attempt"]):
        point = found.setdefault(str(sorted(run["params"].items())), {})
        for key in ("train_loss", "val_loss", "val_error"):
            try:
                points, _ = w.metric(run["run"], key, rank=0)
            except WireError as e:
                assert e.code == "not_found"
                continue
            curve = point.setdefault(key, {})
            for step, _, value in points:
                bits = struct.pack("<d", value)
                assert curve.setdefault(step, bits) == bits, (run["run"], key, step)
    return found


@pytest.fixture(scope="module")
def undisturbed(reference):
    reference.daemon("tracker")
    with reference.wire() as w:
        return curves(w, reference.result["sweep"])


def check(lab, result, reference, undisturbed):
    assert result["state"] == "completed"
    assert bits_of(result) == bits_of(reference.result)
    if not lab.processes("trireme-tracker"):
        lab.daemon("tracker")
    with lab.wire() as w:
        runs = w.request("run.list", sweep=result["sweep"], limit=1000)["runs"]
        states = {r["run"]: r["state"] for r in runs}
        assert not {"running", "queued"} & set(states.values()), states
        for t in result["trials"]:
            assert states[t["run"]] == "completed"
        assert curves(w, result["sweep"]) == undisturbed
    return runs


@pytest.fixture
def chaos(lab, reference):
    """A sweep that is in its second trial's middle, with a bystander."""
    needs("trireme-coordinator", "trireme-worker")
    child = lab.start("run", reference.file, "--json")
    bystander = Bystander(lab)
    until(lambda: lab.processes("trireme-tracker"), "a tracker")
    bystander.start()
    yield lab, child, bystander
    bystander.ending.set()
    bystander.join(30)


def quiet_down(bystander):
    """Lets the bystander stop between two requests."""
    bystander.ending.set()
    bystander.join(30)
    assert not bystander.is_alive()


@pytest.mark.parametrize("victim, rank", [("trireme-worker", 1), ("trireme-worker", 0), ("mpirun", None),
                                          ("trireme-coordinator", None), ("trireme-tracker", None)])
def test_kill(chaos, reference, undisturbed, victim, rank):
    lab, child, bystander = chaos
    trial = wait_for_step(lab, 600, trial=2)
    killed = lab.kill(victim, rank)
    done = lab.finish(child, 90)
    quiet_down(bystander)
    assert done.code == 0, done
    runs = check(lab, done.json, reference, undisturbed)
    bystander.check()
    if victim in ("trireme-worker", "mpirun"):
        again = next(r["trial"] for r in runs if r["attempt"] == 2)
        assert again >= trial and len(runs) == 5, "one trial was tried once more, the others not"
        lost = next(r for r in runs if r["trial"] == again and r["attempt"] == 1)
        assert lost["state"] in ("failed", "preempted") and lost["reason"], lost
    else:
        assert "starting it again" in done.err
    assert killed not in {p.pid for p in lab.processes()}


def test_kill_the_command(chaos, reference, undisturbed):
    """What the command had started ends with it. `trireme resume` takes the sweep up, on another number of
    ranks: the same bits."""
    lab, child, bystander = chaos
    wait_for_step(lab, 600, trial=2)
    sweep_id = lab.ask("coordinator.status", "coordinator")["sweeps"][0]["sweep"]
    os.kill(child.pid, signal.SIGKILL)
    child.wait(20)
    lab.assert_quiet(20)
    done = lab.run("resume", sweep_id, "--slots-per-trial", "1", "--json", timeout=90)
    quiet_down(bystander)
    check(lab, done.json, reference, undisturbed)
    bystander.check()


def test_kill_everything_at_once(chaos, reference, undisturbed):
    """As a power cut does."""
    lab, child, bystander = chaos
    wait_for_step(lab, 600, trial=2)
    sweep_id = lab.ask("coordinator.status", "coordinator")["sweeps"][0]["sweep"]
    for p in lab.processes():
        try:
            os.kill(p.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
    child.wait(20)
    lab.assert_quiet(20)
    done = lab.run("resume", sweep_id, "--json", timeout=90)
    quiet_down(bystander)
    check(lab, done.json, reference, undisturbed)
    bystander.check()


def test_restarts_are_counted(lab, small, tmp_path):
    """A trial whose group dies again and again fails after max_restarts, and says so; the rest goes on."""
    needs("trireme-coordinator", "trireme-worker")
    config = sweep(small, steps=10_000_000, max_restarts=1)
    child = lab.start("run", write(tmp_path, config), "--json")
    killed = set()

    def kill_a_new_one():
        if running_step(coordinator)[1] > 3:
            for p in lab.processes("trireme-worker"):
                if p.pid not in killed:
                    os.kill(p.pid, signal.SIGKILL)
                    killed.add(p.pid)
        return child.poll() is not None or len(killed) >= 2

    with lab.wire("coordinator") as coordinator:
        until(kill_a_new_one, "two groups to be killed", 40)
    done = lab.finish(child, 60)
    assert done.code == 1, done
    trial = done.json["trials"][0]
    assert trial["state"] == "failed" and trial["attempt"] == 2
    assert re.search(r"restart|attempt|killed|lost|ended", trial["reason"]), trial["reason"]


def test_a_stopped_group_loses_its_lease(lab, reference, undisturbed):
    """SIGSTOP: no beat, no end. The lease runs out, another group takes the trial, and what the first one
    says when it wakes up is refused."""
    needs("trireme-coordinator", "trireme-worker")
    lab.daemon("tracker")
    lab.daemon("coordinator", "--max-slots", "2", "--lease-ms", "2000")
    child = lab.start("submit", reference.file, "--wait", "--json")
    wait_for_step(lab, 600, trial=2)
    frozen = lab.processes("trireme-worker") + lab.processes("mpirun")
    for p in frozen:
        os.kill(p.pid, signal.SIGSTOP)
    try:
        first = {p.pid for p in frozen}
        until(lambda: {p.pid for p in lab.processes("trireme-worker")} - first or child.poll() is not None,
              "another group", 60)
    finally:
        for p in frozen:
            try:
                os.kill(p.pid, signal.SIGCONT)
            except ProcessLookupError:
                pass
    done = lab.finish(child, 90)
    assert done.code == 0, done
    check(lab, done.json, reference, undisturbed)
