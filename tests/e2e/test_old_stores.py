"""Stores and sweeps that earlier code has recorded (tests/fixtures): they open, go on and answer as they did."""
import hashlib
import json
import re
import subprocess
from pathlib import Path

import pytest

from sweeps import exact_metrics, needs, until

FIXTURES = Path(__file__).resolve().parents[1] / "fixtures"
EXPECTED = json.loads((FIXTURES / "expected.json").read_text())


def open_old(lab, name):
    """The recorded home becomes this lab's; its tracker runs."""
    needs("trireme-tracker", "trireme-coordinator", "trireme-worker")
    subprocess.run(["tar", "-xJf", FIXTURES / f"{name}.tar.xz", "-C", lab.path, "--no-same-owner"], check=True)
    lab.daemon("tracker")
    return EXPECTED[name]


def trials_of(result):
    return [{"trial": t["trial"], "hyperparameters": t["hyperparameters"], "state": t["state"],
             "weights_digest": t["weights_digest"], "metrics": exact_metrics(t["metrics"])}
            for t in sorted(result["trials"], key=lambda t: t["trial"])]


def covers(new, old):
    """Whether `new` says all that `old` said; it may say more."""
    if isinstance(old, dict):
        return isinstance(new, dict) and all(k in new and covers(new[k], v) for k, v in old.items())
    if isinstance(old, list):
        return isinstance(new, list) and len(new) == len(old) and all(map(covers, new, old))
    return new == old


def events_of(lab, sweep):
    events, after = [], 0
    while True:
        page = lab.ask("event.read", sweep=sweep, after=after, limit=500)
        events += page["events"]
        after += len(page["events"])
        if after >= page["last"]:
            return events


def assert_went_on(lab, sweep):
    """The third trial started again from its checkpoint, not from nothing."""
    events = events_of(lab, sweep)
    assert "language" not in events[0]
    starts = [e["step"] for e in events if e["event"] == "trial.started" and e["trial"] == 3]
    assert len(starts) == 2 and starts[0] == 0 and starts[1] >= 800, starts


def test_a_paused_sweep_of_language_1_resumes_and_ends_with_its_bits(lab):
    old = open_old(lab, "interrupted")["paused"]
    result = lab.run("resume", old["sweep"], "--json", "--max-slots", 1).json
    assert result["state"] == "completed"
    assert trials_of(result) == old["trials"]
    assert_went_on(lab, old["sweep"])


def test_a_killed_sweep_of_language_1_is_restored_and_ends_with_its_bits(lab):
    old = open_old(lab, "interrupted")["killed"]
    lab.daemon("coordinator", "--max-slots", 1, "--lease-ms", 1000, "--device", "cpu")

    def over():
        state = lab.ask("sweep.status", "coordinator", sweep=old["sweep"])
        return state["sweep"] if state and state["sweep"]["state"] != "active" else None

    status = until(over, "the end of the restored sweep", 60)
    assert status["state"] == "completed"
    assert trials_of(status) == old["trials"]
    assert_went_on(lab, old["sweep"])


def test_a_sweep_of_language_1_is_told_from_a_new_one(lab, tmp_path):
    """The same configuration, given today, is refused with file and line."""
    old = open_old(lab, "interrupted")["paused"]
    config = next(e["config"] for e in events_of(lab, old["sweep"]) if e["event"] == "sweep.submitted")
    (tmp_path / "again.yaml").write_text(json.dumps(config))
    done = lab.run("preview", tmp_path / "again.yaml", code=2)
    assert "ghost" in done.err and "again.yaml:" in done.err, done


@pytest.fixture
def completed(lab):
    lab.old = open_old(lab, "completed")
    return lab


def test_a_completed_store_answers_as_recorded(completed):
    lab, old = completed, completed.old
    for name, sweep in old["sweeps"].items():
        assert covers(lab.run("show", sweep["sweep"], "--json").json, sweep["show"]), name
        for run, digest in sweep["csv"].items():
            csv = lab.run("metrics", run, "--csv").out
            assert hashlib.sha256(csv.encode()).hexdigest() == digest, csv[:400]
        listed = lab.run("ls", sweep["sweep"], "--json").json
        assert {r["run"] for r in listed} == set(sweep["csv"])
    assert covers(lab.run("show", old["promoted"], "--json").json, old["show"])
    assert covers(lab.run("models", "old", "--json").json, old["models"])
    assert covers(lab.run("audit", "--json").json, old["audit"])


def test_a_completed_run_is_replayed_to_the_bit(completed):
    for ranks in 1, 2:
        replay = completed.run("replay", completed.old["promoted"], "--ranks", ranks, "--json").json
        assert replay["verdict"] == "exact", replay
        assert replay["weights_digest"] == completed.old["replay"]["weights_digest"]
        assert replay["steps"] == completed.old["replay"]["steps"]


def test_a_registered_model_is_exported_as_recorded(completed, tmp_path):
    for form in "safetensors", "onnx":
        completed.run("export", "old@live", "--format", form, "-o", tmp_path)
        digest = hashlib.sha256((tmp_path / f"old.{form}").read_bytes()).hexdigest()
        assert digest == completed.old["export"][f"old.{form}"], form


def test_a_completed_sweep_can_be_looked_at_by_the_coordinator(completed):
    """Its log is fetched when somebody asks, and says what it said."""
    completed.daemon("coordinator", "--max-slots", 1, "--device", "cpu")
    for name, sweep in completed.old["sweeps"].items():
        status = completed.ask("sweep.status", "coordinator", sweep=sweep["sweep"])["sweep"]
        assert status["state"] == "completed", name
        assert trials_of(status) == sweep["trials"]


def test_a_store_of_format_1_is_migrated_once_and_whole(lab):
    """Every record gets its head; what is there then is read and checked, to the last byte, and is format 2 for good."""
    needs("trireme-tracker")
    subprocess.run(["tar", "-xJf", FIXTURES / "completed.tar.xz", "-C", lab.path, "--no-same-owner"], check=True)
    recorded = re.findall(rb"TRIREME\0(....)", (lab.path / "store/meta/data.mdb").read_bytes(), re.S)
    assert {int.from_bytes(v, "little") for v in recorded} == {1}
    for _ in range(2):
        done = lab.run("--check", program="trireme-tracker")
        assert "store-whole" in done.err and "records=" in done.err, done
    lab.daemon("tracker")
    assert lab.ask("hello")["format"] == 2
    assert "chain intact" in lab.run("audit").out
