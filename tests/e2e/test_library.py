"""libtrireme from a C program: compiled with the public header alone, checked over the wire."""
import math
import os
import pathlib
import shutil
import subprocess

import pytest

HERE = pathlib.Path(__file__).resolve().parent
LIBRARIES = ["-lzmq", "-lyaml", "-ljansson", "-lcrypto", "-lm", "-lpthread"]


@pytest.fixture
def example(bin_dir, home):
    """The example, built as a user would build it: header and archive in a folder of their own."""
    archive = bin_dir.parent / "lib" / "libtrireme.a"
    if not archive.exists():
        pytest.skip(f"no {archive}")
    include = home / "include"
    include.mkdir()
    shutil.copy(HERE.parents[1] / "client" / "trireme.h", include)
    program = home / "example"
    sanitizers = os.environ.get("TRIREME_TEST_CFLAGS", "").split()
    subprocess.run([os.environ.get("CC", "gcc"), "-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic",
                    *sanitizers, "-I", str(include), "-o", str(program),
                    str(HERE / "library_example.c"), str(archive), *LIBRARIES], check=True)
    return program


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
    done = subprocess.run([str(example), str(data), "10000"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done
    run = done.stdout.strip()
    check_run(wire, run, True)
    assert wire.get(run=run, path="file.bin") == data.read_bytes()
    assert list((home / "spool").iterdir()) == []


def test_what_was_recorded_without_a_tracker_arrives_later(example, daemons, connect, home):
    first = subprocess.run([str(example), "-", "0"], capture_output=True, text=True, timeout=60)
    assert first.returncode == 0, first
    assert len(list((home / "spool").iterdir())) == 1
    daemons("trireme-tracker")
    second = subprocess.run([str(example), __file__, "10000"], capture_output=True, text=True,
                            timeout=60)
    assert second.returncode == 0, second
    wire = connect()
    check_run(wire, first.stdout.strip(), False)
    check_run(wire, second.stdout.strip(), True)
    assert list((home / "spool").iterdir()) == []
