"""Whatever ends a home, and whoever in it was killed or stopped before: nothing of it runs afterwards,
nothing lies about, and `resume` goes on at once from what was acknowledged."""
import os
import signal
from pathlib import Path

import pytest

from sweeps import GRID_STEPS, grid, needs, until, wait_for_step, write

KILL, STOP, INT, HUP = signal.SIGKILL, signal.SIGSTOP, signal.SIGINT, signal.SIGHUP
KEEPER = "trireme-keeper"
RANK_0, RANK_1 = ("trireme-worker", 0), ("trireme-worker", 1)

# What is done to whom; the last one is the command itself. One of them in every test run, the rest as proof.
SHORT = [[(KILL, "trireme")]]
LONG = [[(signo, who), (KILL, "trireme")] for signo in (KILL, STOP)
        for who in ("trireme-coordinator", "trireme-tracker", KEEPER, "mpirun", RANK_0, RANK_1)]
LONG += [[(signo, who), (INT, "trireme")] for signo in (KILL, STOP)
         for who in ("trireme-coordinator", "trireme-tracker", KEEPER, "mpirun", RANK_0, RANK_1)]
LONG += [
    [(HUP, "trireme")],
    [(KILL, "trireme-coordinator"), (KILL, "trireme-tracker"), (KILL, "trireme")],
    [(KILL, "trireme"), (KILL, "trireme-coordinator")],
    [(KILL, "trireme"), (KILL, "trireme-tracker")],
    [(STOP, KEEPER), (STOP, "mpirun"), (STOP, RANK_0), (KILL, "trireme")],
    [(STOP, KEEPER), (KILL, "trireme-coordinator"), (KILL, "trireme")],
    [(KILL, KEEPER), (KILL, "trireme-coordinator"), (KILL, "trireme")],
    [(STOP, "trireme-tracker"), (STOP, "trireme-coordinator"), (KILL, "trireme")],
    [(STOP, "trireme-tracker"), (STOP, RANK_0), (INT, "trireme")],
]


def what_is_left(lab):
    """Files of groups that outlived their group."""
    left = list((lab.path / "cache").glob("*.spool")) + list((lab.path / "run").glob("group-*"))
    launches = {p.name for p in Path("/dev/shm").glob("trireme-*")}
    tokens = {line.split("token=")[1].split()[0] for line in lab.logs().splitlines() if "token=" in line}
    pids = {line.split("pid=")[1].split()[0] for line in lab.logs().splitlines() if " launch pid=" in line}
    assert pids, "no group was launched"
    return left + [n for n in launches if any(t in n for t in tokens)]


def signal_to(lab, child, signo, who):
    if who == "trireme":
        os.kill(child.pid, signo)
        return
    name, rank = who if isinstance(who, tuple) else (who, None)
    lab.kill(name, rank, signo)


def idents(combination):
    return "+".join(f"{signal.Signals(s).name[3:]}-{w if isinstance(w, str) else f'rank{w[1]}'}"
                    for s, w in combination)


def check_end(lab, small, combination):
    needs("trireme-coordinator", "trireme-worker")
    file = write(lab.path, grid(small))
    child = lab.start("run", file, "--json")
    wait_for_step(lab, 400)
    for signo, who in combination:
        signal_to(lab, child, signo, who)
    lab.finish(child, 40)
    lab.assert_quiet(15)
    return what_is_left(lab)


@pytest.mark.parametrize("combination", SHORT, ids=idents)
def test_nothing_is_left(lab, small, combination):
    assert not check_end(lab, small, combination)


@pytest.mark.proof
@pytest.mark.parametrize("combination", LONG, ids=idents)
def test_nothing_runs_on(lab, small, combination):
    """Undelivered spools may stay where the tracker was killed or had to leave first: they are delivered by
    the next coordinator. It also removes the files of a group where nobody was left to do so."""
    left = [x for x in check_end(lab, small, combination) if not str(x).endswith(".spool")]
    if {(KILL, KEEPER), (KILL, "trireme-coordinator")} <= set(combination):
        lab.daemon("tracker")
        lab.daemon("coordinator", "--max-slots", "2")
        left = [x for x in left if (Path("/dev/shm") / x).exists()]
    assert not left, left


def test_resume_at_once(lab, small):
    """Right after `kill -9` of the command, while its daemons leave: `resume` waits for them, and goes on
    from a checkpoint, not from the first step."""
    needs("trireme-coordinator", "trireme-worker")
    file = write(lab.path, grid(small))
    child = lab.start("run", file, "--json")
    wait_for_step(lab, 800)
    sweep = lab.ask("coordinator.status", "coordinator")["sweeps"][0]["sweep"]
    os.kill(child.pid, KILL)
    resumed = lab.start("resume", sweep, "--json", "--no-check")
    lab.finish(child, 20)

    def second_attempt():
        runs = (lab.ask("run.list", timeout_s=0.5, sweep=sweep, limit=100) or {"runs": []})["runs"]
        again = [r for r in runs if r["attempt"] == 2 and r["trial"] == 1]
        run = (lab.ask("run.get", timeout_s=0.5, run=again[0]["run"]) or {"run": {}})["run"] if again else {}
        return (run.get("manifest") or {}).get("resumed_from")

    came_from = until(second_attempt, "the second attempt", 60)
    assert 0 < came_from["step"] < GRID_STEPS, came_from
    os.kill(resumed.pid, HUP)
    done = lab.finish(resumed, 40)
    assert done.code == 11, done
    lab.assert_quiet(15)


@pytest.mark.proof
def test_a_group_that_never_says_hello(lab, small):
    """Said within half a minute, with the log to read; the sweep does not wait for ever in silence."""
    needs("trireme-coordinator", "trireme-worker")
    deaf = lab.path / "deaf"
    deaf.write_text("#!/bin/sh\nexec sleep 1000\n")
    deaf.chmod(0o755)
    log = lab.path / "coordinator.txt"
    lab.daemon("tracker")
    lab.daemon("coordinator", "--max-slots", "2", "--worker", deaf, "--log", log)
    lab.start("submit", write(lab.path, grid(small)), "--no-check")
    line = until(lambda: next((s for s in log.read_text().splitlines() if "no_hello" in s), None), "a line", 45)
    assert " error " in line and "group-1.log" in line, line
