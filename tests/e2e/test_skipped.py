"""What tests leave out is said, and `make proof` brings what `make test` had to leave out: tools/skipped.py,
tools/run-tests.sh, and the list of unit tests in the Makefile."""
import os
import re
import subprocess
import sys

import pytest

from sweeps import ROOT


def table(folder, *options, **parts):
    for part, rows in parts.items():
        (folder / f"{part}.tsv").write_text("".join("\t".join(map(str, row)) + "\n" for row in rows))
    return subprocess.run([sys.executable, ROOT / "tools/skipped.py", *options, folder], capture_output=True, text=True)


@pytest.mark.parametrize("reason, gpu", [
    ("no GPU: no NVIDIA driver answers", True), ("this machine has a GPU", True), ("compute-sanitizer is not installed", True),
    ("`make standin` has built no GPU backend here", False), ("no stand-ins in /tmp/lib: make standin", False),
    ("not installed: slurmctld", False), ("no root, no namespace: rounds with disks are left out", False)])
def test_only_a_gpu_may_be_missing(tmp_path, reason, gpu):
    done = table(tmp_path, "--gpu-only", unit=[(2, "unit/a/test_a", reason)])
    assert done.returncode == (0 if gpu else 1) and "skipped: 2 tests, and why" in done.stdout
    assert bool(done.stderr) == (not gpu)


def test_nothing_was_skipped(tmp_path):
    assert table(tmp_path, "--gpu-only").stdout == "skipped: nothing\n"


def test_programs_say_what_they_leave_out(tmp_path):
    for name, text in (("good", "echo 'result: 3 of 3'; echo noise"), ("less", "echo 'skipped: no moon'"), ("bad", "echo why; exit 3")):
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    done = subprocess.run([ROOT / "tools/run-tests.sh", *(tmp_path / n for n in ("good", "less", "bad"))], text=True,
                          capture_output=True, env=os.environ | {"SKIPPED": str(tmp_path / "said.tsv"), "V": "0"})
    assert done.returncode == 1 and "\n        3 of 3\n" in done.stdout and "noise" not in done.stdout
    assert "FAIL" in done.stdout and "\nwhy\n" in done.stdout
    assert done.stdout.endswith("2 passed, 1 failed; 1 of their tests skipped\n")
    assert (tmp_path / "said.tsv").read_text() == f"1\t{tmp_path / 'less'}\tno moon\n"


def test_proof_runs_what_needs_a_toolkit():
    """Every unit test that skips without the stand-ins, or without a locale, is one of PROOF_UNITS."""
    listed = subprocess.run(["make", "-s", "--eval=show:; @echo '$(PROOF_UNITS)'", "show"], cwd=ROOT, check=True,
                            capture_output=True, text=True, env={**os.environ, "MAKEFLAGS": ""}).stdout.split()
    needy = {f.stem.removeprefix("test_") for f in ROOT.glob("tests/unit/*/test_*.c")
             if re.search(r'/gpu\.h"|/queue_device\.h"|skipped: no (stand-ins|locale)|`make standin` has', f.read_text())}
    assert len(needy) > 5 and needy <= set(listed), needy - set(listed)
