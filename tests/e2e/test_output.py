"""What is printed: whether it arrived, what of it a terminal would obey, refusals as JSON."""
import json
import os
import re
import subprocess

import pytest

from sweeps import BIN, digits, lab, needs  # noqa: F401: fixtures

PROGRAMS = "trireme trireme-tracker trireme-coordinator trireme-worker trireme-export".split()


# ---- closed standard streams ----

def run_closed(one, *args, closed, program="trireme"):
    """One command with these descriptors closed; its exit code."""
    def close():
        for fd in closed:
            os.close(fd)
    return subprocess.run([str(BIN / program), *map(str, args)], env=one.env, preexec_fn=close, timeout=240,
                          stdin=subprocess.DEVNULL).returncode


@pytest.mark.parametrize("closed", [(2,), (0, 1, 2)])
def test_a_tracker_with_closed_streams_keeps_its_store(lab, closed):
    """Its store, not its log, had descriptor 2: the log's lines were written over the first page."""
    def close():
        for fd in closed:
            os.close(fd)
    run = "0" * 26
    for round in range(2):
        child = subprocess.Popen([str(BIN / "trireme-tracker")], env=lab.env, preexec_fn=close)
        lab.children.append(child)
        with lab.wire() as tracker:
            if round == 0:
                tracker.request("run.create", run=run, experiment="kept")
            assert tracker.request("run.get", run=run)["run"]["experiment"] == "kept"
        fds = {int(f): os.readlink(f"/proc/{child.pid}/fd/{f}") for f in os.listdir(f"/proc/{child.pid}/fd")}
        assert all(fds[fd] == "/dev/null" for fd in closed), fds
        child.terminate()
        assert child.wait(30) == 0


@pytest.mark.parametrize("program", PROGRAMS)
def test_closed_standard_output_is_an_error(lab, program):
    needs(program)
    assert run_closed(lab, "--help", closed=[1], program=program) == 12
    assert run_closed(lab, "--help", closed=[0, 2], program=program) == 0


# ---- standard output that fails ----

def into(one, target, *args, program="trireme"):
    with open(target, "wb") as out:
        done = subprocess.run([str(BIN / program), *map(str, args)], env=one.env, stdout=out, timeout=240,
                              stderr=subprocess.PIPE, stdin=subprocess.DEVNULL)
    return done.returncode, done.stderr.decode()


def to_nobody(one, *args, program="trireme"):
    """Into a pipe whose reader has left: the exit code and what was said about it."""
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run([str(BIN / program), *map(str, args)], env=one.env, stdout=write, timeout=240,
                          stderr=subprocess.PIPE, stdin=subprocess.DEVNULL)
    os.close(write)
    return done.returncode, done.stderr


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_full_disk_is_no_help(lab, program):
    needs(program)
    for option in ("--help", "--version"):
        if option == "--version" and program == "trireme-export":
            continue
        code, err = into(lab, "/dev/full", option, program=program)
        assert code == 7 and "standard output" in err, (program, option, code, err)


def test_the_worker_tells_devices_to_somebody(lab):
    """On a full disk 7, to a reader that has left 0, as text and as JSON."""
    for more in ([], ["--json"]):
        code, err = into(lab, "/dev/full", "--devices", *more, program="trireme-worker")
        assert code == 7 and "standard output" in err, (more, code, err)
        assert to_nobody(lab, "--devices", *more, program="trireme-worker") == (0, b"")


def test_every_answer_fails_on_a_full_disk(digits):
    run, name = digits.result["best"]["run"], digits.result["sweep"]
    for args in (["ls"], ["ls", "--ids"], ["ls", name], ["ls", "--json"], ["show", run], ["metrics", run],
                 ["metrics", run, "--csv"], ["compare", run, run], ["models"], ["audit"], ["keys"], ["wire"],
                 ["completion", "bash"], ["version"], ["replay", run], ["replay", run, "--json"]):
        code, err = into(digits, "/dev/full", *args)
        assert code == 7 and "standard output" in err, (args, code, err)


def test_a_reader_that_leaves_has_what_it_wanted(digits):
    run = digits.result["best"]["run"]
    for args in (["wire"], ["ls", "--json"], ["metrics", run, "--csv"]):
        assert to_nobody(digits, *args) == (0, b""), args


# ---- refusals as JSON ----

def test_refusals_are_json_where_json_is_asked_for(lab, tmp_path):
    bad = tmp_path / "bad.yaml"
    bad.write_text("name: x\nsercher: {}\n")
    done = lab.run("preview", bad, "--json", code=2)
    error = json.loads(done.out)["error"]
    assert error["code"] == "invalid" and "sercher" in error["message"]
    assert error["file"] == str(bad) and error["line"] == 2 and error["column"] == 1
    for args in (["ls", "--bogus"], ["show", "nosuch"], ["metrics"], ["run", tmp_path / "none.yaml"],
                 ["resume", "0" * 26], ["compare", "a"], ["status"], ["audit", "more"]):
        done = lab.run(*args, "--json", code=None)
        assert done.code != 0 and done.err.startswith("trireme: "), (args, done)
        assert set(json.loads(done.out)) == {"error"}, (args, done)
        assert lab.run(*args, code=done.code).out == "", args
