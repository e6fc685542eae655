"""Tests in two lanes: what runs, fails and is left out is told as if they had run one after the other."""
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sweeps import ROOT

HERE = Path(__file__).parent
FILES = {
    "test_a.py": """import pytest

@pytest.mark.proof
def test_long(): pass

@pytest.mark.parametrize("n", range(3))
def test_short(n): assert n != FAILS

def test_left_out(): pytest.skip("no such thing")
""",
    "test_b.py": """import pytest

def test_by_name(): pass

@pytest.mark.proof
def test_longer(): pass

@pytest.mark.skip(reason="one GPU")
def test_marked(): pass
""",
    "test_c.py": "import pytest\npytest.skip('another machine', allow_module_level=True)\n"}


def run_pytest(folder, *options):
    env = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")} | {"SKIPPED": str(folder / "skipped.tsv")}
    done = subprocess.run([sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", folder, folder, "-m",
                           "not proof", "-k", "not by_name", *options], capture_output=True, text=True, env=env, cwd=folder)
    counts = re.search(r"^(.*) in \d", done.stdout, re.M)
    assert counts, done.stdout + done.stderr
    return done.returncode, counts[1].strip("= "), (folder / "skipped.tsv").read_text()


@pytest.mark.parametrize("fails", [None, 1])
def test_lanes_tell_the_same(tmp_path, fails):
    pytest.importorskip("xdist", reason="pytest-xdist is not installed")
    for name in "conftest.py", "sweeps.py", "wire.py":
        shutil.copy2(HERE / name, tmp_path / name)
    for name, text in FILES.items():
        (tmp_path / name).write_text(text.replace("FAILS", str(fails)))
    alone, lanes = run_pytest(tmp_path), run_pytest(tmp_path, "-n", "2", "--dist", "loadfile")
    assert lanes == alone
    code, counts, left_out = alone
    assert code == (1 if fails else 0)
    assert counts == ("1 failed, 2 passed" if fails else "3 passed") + ", 3 skipped, 3 deselected"
    assert sorted(line.split("\t", 1)[0] + line.rsplit("\t", 1)[1] for line in left_out.splitlines()) == \
        ["1another machine", "1long, or needs what `make proof` brings", "1long, or needs what `make proof` brings",
         "1no such thing", "1one GPU"]


PROGRAMS = {"good": "true", "bad": "echo what went wrong; exit 3", "slow": "sleep 60", "killed": "kill -9 $$",
            "skips": "echo '[  SKIPPED ] a'; echo '[  SKIPPED ] b'; echo '[  SKIPPED ] a'; echo 'skipped: no locale'"}


@pytest.mark.parametrize("lanes", ["1", "2", "9"])
def test_programs_are_all_counted(tmp_path, lanes):
    for name, text in PROGRAMS.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    env = os.environ | {"LANES": lanes, "SKIPPED": str(tmp_path / "left/out.tsv")}

    def run(*names, **more):
        return subprocess.run([ROOT / "tools/run-tests.sh", *(tmp_path / n for n in names)], env=env | more,
                              capture_output=True, text=True)

    good = run("good", "skips", "good")
    assert good.returncode == 0 and "\n3 passed, 0 failed; 2 of their tests skipped\n" in good.stdout, good
    assert (tmp_path / "left/out.tsv").read_text() == f"2\t{tmp_path}/skips\tno locale\n"
    done = run("bad", "good", "killed", "skips", "missing")
    assert done.returncode == 1 and done.stdout.endswith("\n2 passed, 3 failed; 2 of their tests skipped\n"), done
    assert f"  FAIL  {tmp_path}/bad (exit code 3)\nwhat went wrong\n" in done.stdout
    assert re.search(rf"  FAIL  {tmp_path}/killed \(exit code 137\)\n", done.stdout), done.stdout
    done = run("slow", TEST_TIMEOUT="1")
    assert done.returncode == 1 and f"  FAIL  {tmp_path}/slow (exit code 124)\n" in done.stdout, done
    assert run().returncode == 2
