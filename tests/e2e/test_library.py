"""libtrireme from a C program: compiled with the public header alone, checked over the wire."""
import math
import os
import pathlib
import shutil
import subprocess

import pytest
import zmq

from wire import endpoint

HERE = pathlib.Path(__file__).resolve().parent
LIBRARIES = ["-lzmq", "-lyaml", "-ljansson", "-lcrypto", "-lm", "-lpthread"]


@pytest.fixture
def build(bin_dir, home):
    """build("x.c"): a program, built as a user would: header and archive in a folder of their own."""
    archive = bin_dir.parent / "lib" / "libtrireme.a"
    if not archive.exists():
        pytest.skip(f"no {archive}")
    include = home / "include"
    include.mkdir()
    shutil.copy(HERE.parents[1] / "client" / "trireme.h", include)
    sanitizers = os.environ.get("TRIREME_TEST_CFLAGS", "").split()

    def make(source):
        program = home / source.removesuffix(".c")
        subprocess.run([os.environ.get("CC", "gcc"), "-std=c99", "-Wall", "-Wextra", "-Werror",
                        "-pedantic", *sanitizers, "-I", str(include), "-o", str(program),
                        str(HERE / source), str(archive), *LIBRARIES], check=True)
        return program

    return make


@pytest.fixture
def example(build):
    return build("library_example.c")


def check_run(wire, run, with_file):
    got = wire.request("run.get", run=run)["run"]
    assert got["state"] == "completed" and got["reason"] == "all steps done"
    assert got["params"] == {"lr": 0.1, "hidden": 64, "act": "relu"} and got["tags"] == {"who": "you"}
    assert got["name"] == "first" and got["experiment"] == "library"
    loss, _ = wire.metric(run, "loss")
    assert [(s, v) for s, _, v in loss] == [(i, 1.0 / (i + 1)) for i in range(10000)]
    error, _ = wire.metric(run, "error")
    assert len(error) == 100 and math.isnan(error[0][2])
    assert wire.get(run=run, path="notes.txt") == b"it works"
    assert with_file == any(a["path"] == "file.bin" for a in got["artifacts"])


def test_a_c_program_records_itself(example, wire, home):
    data = home / "data"
    data.write_bytes(os.urandom(5_000_000))
    done = subprocess.run([str(example), str(data), "10000"], capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done
    run = done.stdout.strip()
    check_run(wire, run, True)
    assert wire.get(run=run, path="file.bin") == data.read_bytes()
    assert list((home / "spool").iterdir()) == []


def test_what_was_recorded_without_a_tracker_arrives_later(example, daemons, connect, home):
    first = subprocess.run([str(example), "-", "0"], capture_output=True, text=True, timeout=240)
    assert first.returncode == 0, first
    assert len(list((home / "spool").iterdir())) == 1
    daemons("trireme-tracker")
    second = subprocess.run([str(example), __file__, "10000"], capture_output=True, text=True,
                            timeout=240)
    assert second.returncode == 0, second
    wire = connect()
    check_run(wire, first.stdout.strip(), False)
    check_run(wire, second.stdout.strip(), True)
    assert list((home / "spool").iterdir()) == []


def test_a_program_outlives_its_trackers(build, daemons, connect):
    """The tracker is killed three times while a program logs; nothing is lost, nothing doubled."""
    tracker = daemons("trireme-tracker")
    pusher = subprocess.Popen([str(build("library_pusher.c")), "8000"], stdout=subprocess.PIPE,
                              text=True)
    run, said = pusher.stdout.readline().strip(), 0
    for line in pusher.stdout:
        said = int(line)
        if said in (1000, 3000, 5000):
            tracker.kill()
            tracker = daemons("trireme-tracker")
            assert connect().metric(run, "loss")[1]["total"] >= said
    assert pusher.wait(60) == 0 and said == 8000
    wire = connect()
    points, _ = wire.metric(run, "loss")
    assert [(s, v) for s, _, v in points] == [(i, float(i)) for i in range(8000)]
    assert wire.request("run.get", run=run)["run"]["state"] == "completed"


def test_a_program_far_away(build, daemons, connect, home):
    """Over tcp, with keys; and what it hears without them."""
    (home / "allowed").mkdir(mode=0o700)
    server, mine = zmq.curve_keypair(), zmq.curve_keypair()
    secret = home / "server.secret"
    secret.write_bytes(server[0] + b"\n" + server[1] + b"\n")
    secret.chmod(0o600)
    (home / "allowed" / "me.public").write_bytes(mine[0] + b" submitter me\n")
    tracker = daemons("trireme-tracker", "-e", endpoint(home, "tracker"), "-e", "tcp://127.0.0.1:*",
                      "--keys", secret, "--allowed", home / "allowed")
    where = next(w for w in tracker.errors().split() if w.startswith("endpoint=tcp://"))[9:]
    pusher = build("library_pusher.c")
    keys = {"PUSHER_SERVER_KEY": server[0].decode(), "PUSHER_PUBLIC_KEY": mine[0].decode(),
            "PUSHER_SECRET_KEY": mine[1].decode()}
    done = subprocess.run([str(pusher), "1000"], env={**os.environ, "PUSHER_ENDPOINT": where, **keys},
                          capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done
    assert connect().metric(done.stdout.split()[0], "loss")[1]["total"] == 1000
    done = subprocess.run([str(pusher), "10"], env={**os.environ, "PUSHER_ENDPOINT": where},
                          capture_output=True, text=True, timeout=240)
    assert done.returncode == 1 and "keygen" in done.stderr


def test_a_bad_item_is_refused_at_its_call_and_spoils_nothing(build, daemons, connect):
    """One metric name that is not UTF-8 cost all points of all metrics, and the run stayed open."""
    program = build("library_names.c")
    daemons("trireme-tracker")
    done = subprocess.run([str(program)], capture_output=True, timeout=60)
    assert done.returncode == 0, done
    run, *calls = done.stdout.decode(errors="replace").splitlines()
    for call in calls:
        name, code, why = call.split(" ", 2)
        assert code != "0" and why, call
        assert code == ("9" if name == "metric-257" else "1"), call
    assert len(calls) == 26
    wire = connect()
    got = wire.request("run.get", run=run)["run"]
    assert got["state"] == "completed" and got["params"] == {"lr": 0.5}
    loss, _ = wire.metric(run, "loss")
    assert [(s, v) for s, _, v in loss] == [(i, 1.0 / (i + 1)) for i in range(1000)]
    assert {m["key"] for m in got["metrics"]} == {"loss"} | {f"m{i}" for i in range(255)}
    assert [a["path"] for a in got["artifacts"]] == ["good"]
