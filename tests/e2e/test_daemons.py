"""The daemons of a home as commands see them: who starts them, who ends them, whose they are."""
import random
import re
import signal

import pytest

import sweeps
from sweeps import Lab, lab, needs, until, write  # noqa: F401: fixtures


def running_step(one):
    """(trial, step) of the trial that runs; zeros where none does."""
    with one.wire("coordinator", 0.5) as w:
        return sweeps.running_step(w)


def blobs(folder):
    """Two clouds of points, as CSV: a sweep on it takes a blink."""
    rng = random.Random(7)
    rows = [f"{rng.gauss(3 * (i % 2), 1):.3f},{rng.gauss(0, 1):.3f},{i % 2}" for i in range(120)]
    (folder / "d.csv").write_text("a,b,y\n" + "\n".join(rows) + "\n")
    return {"train": {"format": "csv", "file": str(folder / "d.csv"), "header": True, "label": "y",
                      "task": "classify"}, "validation_split": 0.2}


def tiny(folder, *, name="tiny", steps=20, trials=2, slots=1, **more):
    return {"name": name, "hyperparameters": {"lr": {"type": "double", "minval": 0.01, "maxval": 0.1}},
            "searcher": {"name": "random", "max_trials": trials, "metric": "val_error", "max_time": steps,
                         "time_metric": "steps"},
            "resources": {"slots_per_trial": 1, "max_slots": slots}, "data": blobs(folder),
            "model": [{"dense": {"out": 4}}, "relu", {"dense": {"out": 2}}],
            "training": {"loss": "cross_entropy", "optimizer": {"name": "sgd", "lr": "${lr}"},
                         "global_batch_size": 8}, **more}


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """One home for all tests here: two sweeps that have ended, of the same name, and one of another."""
    needs("trireme-coordinator", "trireme-worker")
    one, folder = Lab(), tmp_path_factory.mktemp("daemons")
    one.folder = folder
    one.twins = [one.run("run", write(folder, tiny(folder, name="twin")), "--json").json["sweep"]
                 for _ in range(2)]
    one.alone = one.run("run", write(folder, tiny(folder, name="alone")), "--json").json
    yield one
    one.stop()


# ---- readers ----

def test_readers_at_once_without_a_daemon(home):
    """Each starts a tracker where none runs, and stops it again: all get their answer all the same."""
    children = [home.start("ls", "--ids") for _ in range(8)]
    for child in children:
        done = home.finish(child)
        assert done.code == 0 and len(done.out.split()) >= 3, done
    home.assert_quiet()


# ---- names ----

def test_sweeps_by_name(home):
    sweep = home.alone["sweep"]
    runs = home.run("ls", "alone", "--ids").out.split()
    assert sorted(runs) == sorted(t["run"] for t in home.alone["trials"])
    assert home.run("ls", sweep[:20], "--ids").out.split() == runs
    for command in ("ls", "resume", "cancel"):
        twice = home.run(command, "twin", code=4)
        assert all(s in twice.err for s in home.twins), twice.err
        nobody = home.run(command, "nobody", code=4)
        assert "nobody" in nobody.err and "name" in nobody.err
    assert home.run("resume", "alone", code=5).err  # it is complete: so the name was understood
    home.assert_quiet()


@pytest.mark.parametrize("command", ["metrics", "compare", "replay", "show"])
def test_a_run_that_is_not_there_is_not_found(home, command):
    operands = ["nosuch", "nosuch"] if command == "compare" else ["nosuch"]
    done = home.run(command, *operands, code=4)
    assert "nosuch" in done.err


# ---- whose coordinator ----

def ended(child, home, timeout=60):
    return home.finish(child, timeout)


def test_a_coordinator_of_somebody_else(home):
    """Whose slots are used, what cannot be met, how many trials; leaving is not the sweep's end."""
    home.daemon("tracker")
    coordinator = home.daemon("coordinator", "--max-slots", "1")
    file = write(home.folder, tiny(home.folder, name="long", steps=10_000_000, trials=3), "long.yaml")
    for option in (["--max-slots", "2"], ["--launch", "mpirun"]):
        done = home.run("run", file, *option, code=5)
        assert option[0] in done.err and str(coordinator.pid) in done.err
    child = home.start("run", file)
    sweep = until(lambda: home.run("ls", "long", "--ids", code=None).code == 0 and
                  [s["sweep"] for s in home.run("ls", "--json").json if s["name"] == "long"], "the sweep")[0]

    def running():
        listed = [s for s in home.run("ls", "--json").json if s["sweep"] == sweep][0]
        return listed["summary"].get("running") == 1 and listed
    listed = until(running, "a running trial")
    assert listed["summary"]["planned"] == 3 and listed["summary"]["finished"] == 0
    assert re.search(r"long +active .* 0/3 ", home.run("ls").out)
    child.send_signal(signal.SIGINT)
    done = ended(child, home)
    assert done.code == 11 and "detached" in done.err and f"trireme cancel {sweep}" in done.err
    assert f"process {coordinator.pid}" in done.err and "slots" in done.err
    assert home.run("status").out.count("active") == 1

    # The coordinator stops: a command that waits for the sweep says how to go on.
    waiting = home.start("submit", write(home.folder, tiny(home.folder, name="second", steps=10_000_000),
                                         "second.yaml"), "--wait", "--json")
    second = until(lambda: [s["sweep"] for s in home.run("ls", "--json").json if s["name"] == "second"],
                   "the second sweep")[0]
    home.ask("coordinator.status", "coordinator")
    home.run("cancel", sweep)
    until(lambda: any(t["state"] == "running" for t in
                      home.ask("sweep.status", "coordinator", sweep=second)["sweep"]["trials"]),
          "a running trial of the second sweep")
    coordinator.send_signal(signal.SIGTERM)
    assert coordinator.wait(60) == 0
    done = ended(waiting, home)
    assert done.code == 11 and "paused" in done.err and f"trireme resume {second}" in done.err, done
    assert done.json["state"] == "paused"
    child = home.start("resume", second, "--json", "--quiet")  # its coordinator is ours
    until(lambda: home.ask("coordinator.status", "coordinator", 0.3), "the coordinator of resume")
    child.send_signal(signal.SIGINT)
    done = ended(child, home)
    assert done.code == 11 and f"trireme resume {second}" in done.err and "running" not in done.err


# ---- the end of a command ----

@pytest.mark.parametrize("signo", [signal.SIGHUP, signal.SIGKILL])
def test_resume_right_after_the_command_has_gone(lab, tmp_path, signo):
    """Its daemons leave in an order in which states are stored, and `resume` waits for them. (It got exit code 8,
    or began again at the first step.)"""
    needs("trireme-coordinator", "trireme-worker")
    config = tiny(tmp_path, name="gone", steps=10_000_000, trials=1, checkpoint={"every": 100})
    child = lab.start("run", write(tmp_path, config))
    until(lambda: lab.ask("coordinator.status", "coordinator", 0.3), "a coordinator")
    step = until(lambda: running_step(lab)[1] > 2000 and running_step(lab)[1], "step 2,000", 60)
    child.send_signal(signo)
    if signo != signal.SIGKILL:
        assert ended(child, lab).code == 11
    child.wait(60)
    again = lab.start("resume", "gone")

    def attempts():
        """Both, the older one first; over the wire: a command would start a tracker where none is for a moment."""
        listed = (lab.ask("run.list", timeout_s=0.5, newest_first=False) or {"runs": []})["runs"]
        return [r["run"] for r in listed] if len(listed) == 2 else None
    first, second = until(attempts, "a second attempt", 60)
    begun = until(lambda: (lab.ask("run.get", run=second) or {"run": {}})["run"].get("manifest"), "its manifest", 60)
    again.send_signal(signal.SIGINT)
    assert ended(again, lab).code == 11
    assert lab.run("show", first, "--json").json["state"] == "preempted"
    assert begun["resumed_from"]["step"] >= step // 2 > 0, begun
    lab.assert_quiet()
