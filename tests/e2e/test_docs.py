"""The papers are true: what they name exists, what they quote is in the code, what the program writes is current."""
import os
import pathlib
import re
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))

import layers  # noqa: E402

LISTED = subprocess.run(["git", "ls-files", "-zco", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True).stdout
PAGES = sorted(n for n in LISTED.split("\0") if n.endswith(".md")) or \
    sorted(str(p.relative_to(ROOT)) for p in ROOT.rglob("*.md") if "build" not in p.parts)
FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.M | re.S)
LINK = re.compile(r"\]\(([^)#:]+)(?:#([\w-]+))?\)")
FILE = re.compile(r"`([\w.-]+(?:/[\w.-]+)+\.(?:c|h|cu|cuh|py|sh|md|yaml|sbatch))`")


def headings(text):
    return {re.sub(r"[^\w\- ]", "", h.lower()).strip().replace(" ", "-")
            for h in re.findall(r"^#+ (.*)$", FENCED.sub("", text), re.M)}


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    text = (ROOT / page).read_text()
    for path, anchor in LINK.findall(FENCED.sub("", text)):
        target = (ROOT / page).parent / path
        assert target.exists(), f"{page}: {path}"
        assert not anchor or anchor in headings(target.read_text()), f"{page}: {path}#{anchor}"


@pytest.mark.parametrize("page", [p for p in PAGES if "decisions/" not in p and p != "CHANGELOG.md"])
def test_files_that_are_named_exist(page):
    """From the root, or from the page's own room. Decisions speak of their own day."""
    room = (ROOT / page).parent
    bases = [ROOT, room, *(p for p in room.iterdir() if p.is_dir())]
    missing = [name for name in FILE.findall((ROOT / page).read_text()) if not re.search(r"NNNN|/x\.\w+$", name)
               and not any((base / name).exists() for base in bases)]
    assert not missing, f"{page}: {missing}"




@pytest.mark.parametrize("room", sorted({layers.room_of(r) for r in layers.USES}))
def test_a_room_names_its_own_files(room):
    """Bare names in a room's README are files of that room, or a library's header."""
    there = {p.name for p in (ROOT / room).rglob("*")}
    named = re.findall(r"(?<![\w*/.])(\w+\.(?:cuh|cu|c|h))\b", (ROOT / room / "README.md").read_text())
    missing = {n for n in named if n not in there and not any(re.fullmatch(p, n) for p in layers.LIBRARIES)}
    assert not missing, missing


def test_design_says_who_includes_whom():
    """The table in DESIGN.md, section 2, is the one that `make layers` checks."""
    rows = re.findall(r"^\| (\w+(?:/\w+)?) \|(.*?)\|(.*?)\|$", (ROOT / "docs/DESIGN.md").read_text(), re.M)
    said = {room: (set(re.findall(r"\w+", uses.split("(")[0])), set(re.findall(r"\w+", folders)))
            for room, uses, folders in rows if room in layers.USES}
    assert set(said) == set(layers.USES)
    for room, (uses, folders) in said.items():
        assert (uses if room != "core" else set()) == layers.USES[room], room
        inner = {f.split("/")[1] for f in layers.INNER if f.startswith(room + "/") and f not in layers.USES}
        assert folders == inner, room


def test_quotations_are_in_the_code():
    """Each block of C in STYLE.md stands, line by line, in one of the files that the page names."""
    text = (ROOT / "docs/STYLE.md").read_text()
    sources = [(ROOT / name).read_text() for name in set(FILE.findall(text)) if name.endswith((".c", ".h"))]
    blocks = [block for language, block in FENCED.findall(text) if language == "c"]
    assert len(blocks) >= 5
    for block in blocks:
        assert any(block in source for source in sources), block


def written(command, bin_dir):
    return subprocess.run([bin_dir / "trireme", command], capture_output=True, text=True, check=True,
                          env={**os.environ, "TRIREME_HOME": "/nonexistent"}).stdout


def test_generated_pages_are_current(bin_dir):
    assert written("wire", bin_dir) == (ROOT / "docs/WIRE.md").read_text(), "run make docs"
    part = re.search(r"^<!-- Written by.*?-->\n(.*)<!-- End. -->$", (ROOT / "docs/SWEEP.md").read_text(), re.M | re.S)
    assert written("keys", bin_dir) == part[1], "run make docs"
