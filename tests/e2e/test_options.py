"""Every option of every command: it does what it says, or is refused. Where the tracker is, for all that ask one."""
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from sweeps import BIN, Lab, digits, lab, needs, write  # noqa: F401: fixtures
from test_daemons import tiny
from test_tracker_faults import Keys, tcp_endpoint
from wire import endpoint

HERE = Path(__file__).resolve().parent
PROGRAMS = "tracker", "coordinator", "worker"  # theirs are their own rooms'
COMMON = {"--help", "--json", "--tracker", "--keys", "--tracker-key"}  # below, and in test_output.py


def options_of(lab, command):
    """{--option: its letter or None}"""
    text = lab.run(command, "--help").out
    return {f"--{name}": f"-{letter}" if letter else None for letter, name in
            re.findall(r"^  (?:-(\w), |    )--([a-z-]+)", text.split("options:")[1], re.M)}


def test_every_option_is_in_a_test_of_its_command(lab):
    """An option that no test uses may do nothing, and nobody would know."""
    tests = [f.read_text() for f in HERE.glob("*.py")]
    commands = [c for c in re.findall(r"^  ([a-z]+) ", lab.run("--help").out, re.M) if c not in PROGRAMS]
    unused = []
    for command in commands:
        for option, letter in options_of(lab, command).items():
            forms = "|".join(filter(None, (option, letter)))
            used = re.compile(rf'"{command}"[^\n]*(?:\n[^\n]*){{0,6}}?"(?:{forms})\b'
                              rf'|"(?:{forms})\b[^\n]*(?:\n[^\n]*){{0,3}}?"{command}"')
            if option not in COMMON and not any(used.search(t) for t in tests):
                unused.append(f"{command} {option}")
    assert unused == []


# ---- where the tracker is ----

@pytest.fixture
def elsewhere():
    """A home that has nothing, and must stay so."""
    one = Lab()
    yield one
    assert not (one.path / "store").exists(), "a tracker of its own was started"
    one.stop()


def test_every_command_that_asks_a_tracker_can_ask_another(digits, elsewhere):
    run, sweep = digits.result["best"]["run"], digits.result["sweep"]
    where = ["--tracker", endpoint(digits.path, "tracker")]
    asking = {"ls": [], "show": [run], "metrics": [run, "--csv"], "compare": [run, run, "--all"], "audit": [],
              "models": [], "artifacts": [run], "replay": [run]}
    for command, operands in asking.items():
        assert elsewhere.run(command, *operands, *where).out == digits.run(command, *operands).out, command
    assert elsewhere.run("ls", "digits-quick", "--ids", *where).out == digits.run("ls", sweep, "--ids").out
    assert sweep in elsewhere.run("resume", sweep, *where, code=5).err  # it is complete
    nowhere = ["--tracker", "ipc:///nowhere/there.sock"]
    assert "nowhere" in elsewhere.run("ls", *nowhere, code=8).err
    for wrong, word in ([["--keys", "k"], "--tracker"], [["--tracker", "tcp://h:1", "--keys", "k"], "--tracker-key"],
                        [["--tracker", "tcp://h:1", "--keys", "k", "--tracker-key", "short"], "40 characters"]):
        assert word in elsewhere.run("ls", *wrong, code=2).err


def test_who_asks_a_tracker_has_the_options(lab):
    for command in ("ls show metrics compare replay resume cancel export promote models audit artifacts artifact seal "
                    "run submit").split():
        assert {"--tracker", "--keys", "--tracker-key"} <= set(options_of(lab, command)), command


def test_another_account_with_keys(daemons, home, elsewhere):
    keys = Keys(home)
    tracker = daemons("trireme-tracker", "-e", "tcp://127.0.0.1:*", "--keys", keys.secret, "--allowed", keys.allowed)
    public, secret = keys.client("viewer")
    mine = elsewhere.path / "me.secret"
    mine.touch(0o600)
    mine.write_text(f"{public}\n{secret}\n")
    where = ["--tracker", tcp_endpoint(tracker), "--keys", mine, "--tracker-key", keys.public]
    assert elsewhere.run("ls", "--json", *where).json == []
    mine.chmod(0o644)
    assert "chmod 600" in elsewhere.run("ls", *where, code=9).err


def test_submit_asks_the_tracker_of_its_coordinator(lab, elsewhere, tmp_path):
    """And `status` asks none: the coordinator has all that it shows."""
    needs("trireme-coordinator", "trireme-worker")
    lab.daemon("tracker")
    where = ["--tracker", endpoint(lab.path, "tracker")]
    elsewhere.daemon("coordinator", "--max-slots", "1", *where)
    assert elsewhere.run("status", "--json").json["sweeps"] == []
    done = elsewhere.run("submit", write(tmp_path, tiny(tmp_path)), "--wait", "--quiet", *where)
    assert "rank" in done.out and "completed" in done.out, done


# ---- the rest ----

def test_submit_takes_set_and_quiet(lab, tmp_path):
    needs("trireme-coordinator", "trireme-worker")
    lab.daemon("tracker")
    lab.daemon("coordinator", "--max-slots", "1")
    done = lab.run("submit", write(tmp_path, tiny(tmp_path)), "--wait", "--quiet", "--set", "name=other",
                   "--set", "searcher.max_trials=1")
    assert "running" not in done.err and "rank" in done.out
    assert [s["name"] for s in lab.run("ls", "--json").json] == ["other"]
    refused = lab.run("submit", write(tmp_path, tiny(tmp_path)), "--set", "searcher.max_trials=-1", code=2).err
    assert "--set searcher.max_trials=-1" in refused
    for bad in ("searcher.max_trials=-1", "searcher.max_trials=[1", "name=", "noequals", "model.9.dense.out=1"):
        refused = lab.run("preview", write(tmp_path, tiny(tmp_path)), "--set", "name=a", "--set", bad, code=2).err
        assert refused.count(f"--set {bad}: ") == 1, refused


def test_export_takes_a_name(digits, tmp_path):
    needs("trireme-export")
    digits.run("export", digits.result["best"]["run"], "-f", "safetensors", "-o", tmp_path, "--name", "mine")
    assert {"mine.safetensors", "mine.json"} <= {p.name for p in tmp_path.iterdir()}


def test_promote_finds_its_operands_between_options(digits, tmp_path):
    """SWEEP/TRIAL is looked for where the operand is, whatever stands before it."""
    needs("trireme-export")
    sweep = digits.result["sweep"]
    for i, before in enumerate((["-j"], ["--no-json", "-f", "safetensors"], ["--name=m", "--json"], ["--"])):
        out = [] if before == ["--"] else ["-o", tmp_path / str(i)]
        args = [*out, *before, f"{sweep}/1"] if out else ["-o", tmp_path / str(i), *before, f"{sweep}/1"]
        digits.run("export", *args)
        assert list((tmp_path / str(i)).iterdir()), before
    assert "--formt" in digits.run("export", f"{sweep}/1", "--formt", "onnx", code=2).err


@pytest.mark.skipif(os.geteuid() != 0, reason="becoming another user needs root")
def test_a_home_that_may_not_be_looked_into():
    """Nobody can say what runs there: denied, by every command that wants to know."""
    home = Path(tempfile.mkdtemp())
    try:
        (home / "run").mkdir()
        os.chown(home / "run", 65534, 65534)
        os.chown(home, 65534, 65534)
        for closed in (home / "run", home):
            closed.chmod(0)
            for command in (["status"], ["ls"], ["cancel", "x"]):
                done = subprocess.run([BIN / "trireme", *command], env=os.environ | {"TRIREME_HOME": str(home)},
                                      capture_output=True, text=True, user=65534, group=65534, extra_groups=[])
                assert done.returncode == 9 and str(closed) in done.stderr, (command, done)
    finally:
        shutil.rmtree(home)
