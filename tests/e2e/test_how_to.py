"""docs/how-to/ is true: every example is taken out of its page, applied to a copy of the tree, built, and used.

All examples lie in one copy (and must get along there); that each applies alone, too, is checked apart. The copy
begins with the objects of this tree, so that only what an example touches is compiled."""
import json
import os
import pathlib
import re
import shutil
import struct
import subprocess
import sys

import pytest

import sweeps
from sweeps import BIN, ROOT, write

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
    flags = (BUILD / "flags").read_text()
    sanitizer = re.search(r"-fsanitize=(\S+)", flags)
    options = ["BUILD=build", f"WERROR={int('-Werror' in flags)}", f"CUDA={int('-gencode' in flags)}",
               f"SAN={sanitizer[1] if sanitizer else ''}"]
    env = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "MAKEOVERRIDES")}
    done = subprocess.run(["make", "-j2", *options, *targets], cwd=tree, capture_output=True, text=True, env=env)
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
    if (ROOT / "build/cuda").exists():
        (tree / "build/cuda").symlink_to(ROOT / "build/cuda")
    for page in PAGES.values():
        done = how_to.apply(how_to.patch(page), tree)
        assert done.returncode == 0, f"{page.name} does not apply on top of the others:\n{done.stderr}"
    tests = [f"build/{name[:-2]}" for page in PAGES.values() for name in how_to.files(page)
             if name.startswith("tests/unit/")]
    make(tree, *(f"build/bin/{p.name}" for p in sorted(BIN.iterdir())), *tests)
    return tree


@pytest.fixture
def house(copy, monkeypatch):
    """lab.run then runs the copy's programs."""
    monkeypatch.setattr(sweeps, "BIN", copy / "build/bin")
    return copy


def run_unit_tests(tree, page):
    names = [n for n in how_to.files(PAGES[page]) if n.startswith("tests/unit/") and n.endswith(".c")]
    assert names, f"{page} has no unit test"
    for name in names:
        done = subprocess.run([tree / "build" / name[:-2]], cwd=tree, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "[  PASSED  ]" in done.stdout + done.stderr


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
    """Formatted, and within the layers."""
    changed = {n for page in PAGES.values() for n in how_to.files(page)}
    c_files = [n for n in changed if n.endswith((".c", ".h", ".cu", ".cuh"))]
    if shutil.which("clang-format-14"):
        done = subprocess.run(["clang-format-14", "--dry-run", "-Werror", *c_files], cwd=copy, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    for tool in ("layers.py", "sizes.py"):
        done = subprocess.run([sys.executable, copy / "tools" / tool, copy], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout
