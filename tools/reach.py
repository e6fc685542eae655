"""Which test reaches which line: what mutants.py asks, so that a change is put before those tests alone.

The tree is built once with counters (gcc --coverage) in its folder build/reach; each unit test, simulation, fuzz program
and end-to-end test writes its counts to a folder of its own. What a killed process counted is lost, and what a daemon
counted that several tests share goes to the first of them. As a plugin of pytest (-p reach) it opens those folders.
"""
import collections
import json
import os
import pathlib
import shutil
import subprocess
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
PYTHON = "/usr/bin/python3"
# A worker ends with _exit, past all handlers: it must count first.
COUNTED = """#include <stdlib.h>
#include <unistd.h>
extern void __gcov_dump(void);
#define _exit(code) (__gcov_dump(), _exit(code))
"""


class Reach:
    """Of a tree (a copy that is not changed meanwhile): seconds of each test, and the tests of a line."""

    def __init__(self, tree):
        self.tree, self.home = tree, tree / "build" / "reach"
        self.index = self.home / "tests.json"
        if not self.index.exists():
            self.count()
        self.tests = json.loads(self.index.read_text())  # {folder: [kind, name, seconds, passed]}
        self.files = {}

    def programs(self, file, line):
        """[(seconds, program)] of unit tests, simulation and fuzz, the shortest first."""
        return self.asked("program", file, line)

    def nodes(self, file, line):
        """[(seconds, node)] of end-to-end tests, the shortest first."""
        return self.asked("e2e", file, line)

    def nodes_of(self, file):
        return sorted((s, n) for kind, n, s, passed in self.tests.values() if kind == "e2e" and passed and n.startswith(file))

    def known(self):
        return {name for _, name, _, _ in self.tests.values()}

    def asked(self, kind, file, line):
        lines = self.lines(file)
        while line > 0 and str(line) not in lines:
            line -= 1  # the statement began further up
        found = (self.tests[f] for f in lines.get(str(line), []))
        return sorted((seconds, name) for k, name, seconds, passed in found if k == kind and passed)

    def lines(self, file):
        """{line: [folder]} of a source file."""
        if file not in self.files:
            kept = self.home / "lines" / f"{file}.json"
            if not kept.exists():
                kept.parent.mkdir(parents=True, exist_ok=True)
                kept.write_text(json.dumps(self.read(file)))
            self.files[file] = json.loads(kept.read_text())
        return self.files[file]

    def read(self, file):
        part = pathlib.Path("build/reach/out/obj") / file[:-2]
        lines = collections.defaultdict(set)
        with tempfile.TemporaryDirectory() as d:
            for folder in self.tests:
                data = pathlib.Path(f"{self.home / 'counts' / folder}{self.tree}") / f"{part}.gcda"
                if data.exists():
                    os.symlink(data, f"{d}/{folder}.gcda")
                    os.symlink(self.tree / f"{part}.gcno", f"{d}/{folder}.gcno")
            names = sorted(n for n in os.listdir(d) if n.endswith(".gcda"))
            for i in range(0, len(names), 200):
                out = subprocess.run(["gcov", "-t", "-j", *names[i:i + 200]], cwd=d, capture_output=True, text=True).stdout
                for one in map(json.loads, out.splitlines()):
                    folder = one["data_file"].removesuffix(".gcda")
                    for f in one["files"]:
                        if f["file"] in (file, str(self.tree / file)):
                            for l in f["lines"]:
                                lines[l["line_number"]] |= {folder} if l["count"] else set()
        return {line: sorted(folders) for line, folders in lines.items()}

    # -- once --
    def count(self):
        print("reach: building with counters", flush=True)
        shutil.rmtree(self.home, ignore_errors=True)
        self.home.mkdir(parents=True)
        header = self.home / "counted.h"
        header.write_text(COUNTED)
        # atomic counters would be 20 times slower; a count that threads lose is not the only one
        flags = f"--coverage -fprofile-update=single -fprofile-abs-path -O1 -U_FORTIFY_SOURCE -include {header}"
        env = {k: v for k, v in os.environ.items() if not k.startswith(("TRIREME_", "MAKE", "MFLAGS", "GCOV"))}
        done = subprocess.run(["make", "-s", "-j2", "BUILD=build/reach/out", "CUDA=0", f"CFLAGS={flags}", "LDFLAGS=--coverage",
                               "build", "unit-exes", "sim-exes", "fuzz-exes"], cwd=self.tree, env=env)
        if done.returncode != 0:
            raise SystemExit("reach: the tree does not build with counters")
        tests = {}
        for exe in sorted(self.home.glob("out/tests/*/*/*")):
            if exe.suffix == "" and exe.parts[-3] in ("unit", "sim", "fuzz"):
                folder, start = f"p{len(tests)}", time.monotonic()
                code = run([exe], self.tree, {**env, "GCOV_PREFIX": str(self.home / "counts" / folder)}, 600)
                name = "build/" + str(exe.relative_to(self.home / "out"))
                tests[folder] = ["program", name, round(time.monotonic() - start, 2), code == 0]
        print(f"reach: {len(tests)} programs; end-to-end tests next", flush=True)
        files = sorted(str(f.relative_to(self.tree)) for f in self.tree.glob("tests/e2e/test_*.py"))
        lanes = [(lane, files[int(lane == "f")::2]) for lane in "ef"]
        command = [PYTHON, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "reach", "-m", "not proof"]
        env |= {"PYTHONPATH": str(HERE), "REACH": str(self.home), "TRIREME_BIN": str(self.home / "out" / "bin"),
                "TRIREME_SANITIZED": "1"}
        children = [subprocess.Popen([*command, *part], cwd=self.tree, env={**env, "REACH_LANE": lane}, stdout=subprocess.DEVNULL)
                    for lane, part in lanes]
        for child in children:
            child.wait()
        for lane, _ in lanes:
            for line in (self.home / f"{lane}.jsonl").read_text().splitlines():
                folder, *test = json.loads(line)
                tests[folder] = ["e2e", *test]
        self.index.write_text(json.dumps(tests, indent=0))


def run(command, cwd, env, limit):
    try:
        return subprocess.run(command, cwd=cwd, env=env, timeout=limit, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode
    except subprocess.TimeoutExpired:
        return 124


# ---- the plugin ----

class Now:
    """The test that runs."""
    number, folder, began, passed = 0, "", 0.0, True


def pytest_runtest_logstart(nodeid):
    Now.number += 1
    Now.folder, Now.began, Now.passed = f"{os.environ['REACH_LANE']}{Now.number}", time.monotonic(), True
    os.environ["GCOV_PREFIX"] = f"{os.environ['REACH']}/counts/{Now.folder}"


def pytest_runtest_logreport(report):
    Now.passed = Now.passed and report.passed


def pytest_runtest_logfinish(nodeid):
    with open(f"{os.environ['REACH']}/{os.environ['REACH_LANE']}.jsonl", "a") as out:
        print(json.dumps([Now.folder, nodeid, round(time.monotonic() - Now.began, 2), Now.passed]), file=out)
