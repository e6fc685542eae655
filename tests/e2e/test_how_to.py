"""docs/how-to/ is true: every example is taken out of its page, applied to a copy of the tree, built, and used.

All examples lie in one copy (and must get along there); that each applies alone, too, is checked apart. The copy
begins with the objects of this tree, so that only what an example touches is compiled."""
import os
import pathlib
import re
import shutil
import struct
import subprocess
import sys

import pytest

import sweeps
from sweeps import BIN, ROOT, WireError, write
from wire import ulid

sys.path.insert(0, str(ROOT / "tools"))

import how_to  # noqa: E402

BUILD = BIN.parent
# What an example may touch, tests and docs aside; one file more for each backend.
FILES_MAX = {"add-an-operator": 4, "add-a-searcher": 2, "add-a-wire-op": 3, "add-a-stored-record": 2, "add-a-command": 2,
             "add-a-data-format": 4}
PAGES = {name: how_to.page_of(name) for name in FILES_MAX}


def listed():
    done = subprocess.run(["git", "ls-files", "-zco", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True)
    names = done.stdout.split("\0")[:-1] if done.returncode == 0 else \
        [str(p.relative_to(ROOT)) for p in ROOT.rglob("*") if "build" not in p.relative_to(ROOT).parts]
    return [n for n in names if (ROOT / n).is_file()]


def make(tree, *targets):
    """With the flags that this tree was built with; else everything would be compiled again."""
    env = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "MAKEOVERRIDES")}
    done = subprocess.run(["make", "-j2", "BUILD=build", *sweeps.built_with(), *targets], cwd=tree, capture_output=True,
                          text=True, env=env)
    assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-6000:]}"


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """The tree with all examples in it, built."""
    tree = tmp_path_factory.mktemp("how-to") / "tree"
    for name in listed():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, tree / name)
    (tree / "build").mkdir()
    for part in ("obj", "lib", "bin", "flags", "build_id.c"):
        subprocess.run(["cp", "-a", BUILD / part, tree / "build" / part], check=True)
    for path in (tree / "build/obj").rglob("*.d"):  # its targets are named by where they were made
        made = re.match(r"(.*)/obj/", path.read_text())[1]
        path.write_text(path.read_text().replace(f"{made}/obj/", "build/obj/"))
    if (ROOT / "build/cuda").exists():
        (tree / "build/cuda").symlink_to(ROOT / "build/cuda")
    for page in PAGES.values():
        done = how_to.apply(how_to.patch(page), tree)
        assert done.returncode == 0, f"{page.name} does not apply on top of the others:\n{done.stderr}"
    tests = [f"build/{name[:-2]}" for page in PAGES.values() for name in how_to.files(page)
             if name.startswith("tests/unit/") and name.endswith(".c")]
    if "-gencode" in (BUILD / "flags").read_text():  # that the GPU's part compiles; all of it takes minutes
        tests += ["build/obj/pic/kernels/cuda/activation.o", "build/standin/obj/kernels/cuda/activation.cu.o"]
    make(tree, *(f"build/bin/{p.name}" for p in sorted(BIN.iterdir())), *tests)
    return tree


@pytest.fixture
def house(copy, monkeypatch):
    """lab.run then runs the copy's programs."""
    monkeypatch.setattr(sweeps, "BIN", copy / "build/bin")
    return copy


def run_tests(tree, page):
    """The tests that the page brings along."""
    names = [n for n in how_to.files(PAGES[page]) if re.search(r"^tests/(unit|e2e)/(.*/)?test_\w+\.(c|py)$", n)]
    assert names, f"{page} has no test"
    env = {**os.environ, "TRIREME_BIN": str(tree / "build/bin")}
    for name in names:
        command = [tree / "build" / name[:-2]] if name.endswith(".c") else \
            [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", name]
        done = subprocess.run(command, cwd=tree, env=env, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stdout + done.stderr
        assert re.search(r"PASSED|passed|^skipped: `make standin`", done.stdout + done.stderr)


# ---- the pages ----

def test_every_page_is_tried():
    assert set(how_to.PAGES.glob("add-*.md")) == set(PAGES.values())


@pytest.mark.parametrize("page", PAGES)
def test_applies_alone(page):
    patch = how_to.patch(PAGES[page])
    assert patch, "no patch in the page"
    done = how_to.apply(patch, ROOT, "--check")
    assert done.returncode == 0, f"{done.stderr}\ntry: tools/how_to.py {page} --refresh"


@pytest.mark.parametrize("page", PAGES)
def test_files_touched(page):
    """New files count, too."""
    files = how_to.files(PAGES[page])
    assert len(files) == len(set(files)), "one block for each file"
    code = [f for f in files if not f.startswith(("tests/", "docs/")) and not f.endswith("README.md")]
    backends = [f for f in code if re.match(r"kernels/(cpu|cuda)/", f)]
    assert len({f.split("/")[1] for f in backends}) == len(backends), "one file for each backend"
    assert len(code) - len(backends) <= FILES_MAX[page], code


def test_examples_keep_the_style(copy):
    """Formatted, within the layers, small, and what docs/STYLE.md asks."""
    changed = {n for page in PAGES.values() for n in how_to.files(page)}
    c_files = [n for n in changed if n.endswith((".c", ".h", ".cu", ".cuh"))]
    if shutil.which("clang-format-14"):
        done = subprocess.run(["clang-format-14", "--dry-run", "-Werror", *c_files], cwd=copy, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    for tool in ("layers.py", "sizes.py", "style.py"):
        done = subprocess.run([sys.executable, copy / "tools" / tool, copy], capture_output=True, text=True)
        wrong = [line for line in done.stdout.split("\n") if line.split(":")[0] in changed]
        assert not wrong, wrong


# ---- what they add ----

@pytest.mark.parametrize("page", PAGES)
def test_its_own_tests_pass(page, copy):
    run_tests(copy, page)


def test_command(house, lab):
    assert lab.run("where").out == f"{lab.path}\n"
    assert lab.run("--help").out.count("  where ") == 1


def test_data_format(house, lab, tmp_path):
    """The digits of a CSV file as rows of floats: the same trial, to the bit."""
    rows = [[(7 * i + 3 * k) % 11 / 10 for k in range(4)] + [i % 3] for i in range(240)]
    (tmp_path / "rows.f32").write_bytes(b"".join(struct.pack("<5f", *row) for row in rows))
    (tmp_path / "rows.csv").write_text("\n".join(",".join(map(str, row)) for row in rows) + "\n")
    digests = []
    for train in ({"format": "f32", "file": "rows.f32", "shape": [4]},
                  {"format": "csv", "file": "rows.csv", "header": False, "label": 4}):
        config = sweeps.sweep(tmp_path, model=[{"dense": {"out": 3}}], batch=16)
        config["data"] = {"dir": str(tmp_path), "validation_split": 0.2, "train": train}
        result = lab.run("run", write(tmp_path, config), "--json", "-q").json
        digests.append(result["trials"][0]["weights_digest"])
    assert digests[0] == digests[1]
    config["data"]["train"] = {"format": "f32", "file": "rows.f32"}
    done = lab.run("preview", write(tmp_path, config), code=2)
    assert re.search(r"sweep.yaml:\d+:\d+: .*shape", done.err), done


def test_searcher(house, lab, small, tmp_path):
    """Some trials are stopped half-way, with the reason; a coordinator that lives again agrees."""
    config = sweeps.sweep(small, steps=20, lr="${lr}", hyperparameters={"lr": {"type": "log", "minval": 1e-5, "maxval": 0.5}},
                          searcher={"name": "median", "max_trials": 8})
    result = lab.run("run", write(tmp_path, config), "--json", "-q").json
    states = [t["state"] for t in result["trials"]]
    assert len(states) == 8 and set(states) == {"completed", "stopped"}, states
    lab.daemon("tracker")
    with lab.wire() as w:
        events = [e for e in w.request("event.read", sweep=result["sweep"])["events"] if e["event"] == "trial.verdict"]
    assert {e["reason"].split(":")[0] for e in events if e["verdict"] == "stop"} == {"median"}
    assert [e["trial"] for e in events if e["verdict"] == "stop"] == \
        [t["trial"] for t in result["trials"] if t["state"] == "stopped"]


def test_wire_op(house, lab):
    lab.daemon("tracker")
    with lab.wire() as w:
        assert w.request("run.count")["runs"] == 0
        for i in range(3):
            w.write("run.create", run=ulid(), experiment=f"e{i % 2}")
        assert w.request("run.count")["runs"] == 3
        assert w.request("run.count", experiment="e0")["runs"] == 2
        with pytest.raises(WireError, match="invalid"):
            w.request("run.count", experiment=7)


def test_stored_record(house, lab):
    """It is there after a restart, and after kill -9."""
    run = ulid()
    tracker = lab.daemon("tracker")
    with lab.wire() as w:
        w.write("run.create", run=run, experiment="e", state="queued")
        w.write("run.update", run=run, state="running")
        w.write("run.update", run=run, state="completed")
    tracker.kill()
    tracker.wait()
    lab.daemon("tracker")
    with lab.wire() as w:
        history = w.request("run.get", run=run)["run"]["history"]
    assert [h["state"] for h in history] == ["queued", "running", "completed"]
    assert 0 < history[0]["time_ns"] <= history[1]["time_ns"] <= history[2]["time_ns"]


def test_operator(house, lab, small, tmp_path):
    """Trains, repeats to the bit on other ranks, and is exported."""
    config = sweeps.sweep(small, model=[{"dense": {"out": 16}}, "softsign", {"dense": {"out": 10}}])
    run = lab.run("run", write(tmp_path, config), "--json", "-q").json["best"]["run"]
    assert lab.run("replay", run, "--ranks", 2, "--json").json["verdict"] == "exact"
    lab.run("export", run, "--format", "onnx", "-o", tmp_path)
    model = next(tmp_path.rglob("*.onnx")).read_bytes()
    assert b"Softsign" in model


def test_references_follow(house):
    """`make docs` knows what was added, without a line written for it."""
    make(house, "docs")
    assert "run.count" in (house / "docs/WIRE.md").read_text()
    keys = (house / "docs/SWEEP.md").read_text()
    for word in ("softsign", "median", "f32"):
        assert word in keys, word
