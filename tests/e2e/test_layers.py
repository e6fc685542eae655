"""`make layers`, `circles`, `sizes` and `style` refuse what they are there to refuse: violations planted in trees of
their own. Who may include whom is written here once more, by hand, so that a wrong table is noticed."""
import os
import pathlib
import re
import shutil
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
TOOLS = ROOT / "tools"
sys.path.insert(0, str(TOOLS))

import layers  # noqa: E402
import sizes  # noqa: E402

# folder: what it may include beside itself. Whatever is not named here is refused.
MAY = """
core              :
wire              : core
spec              : core
kernels           : core spec kernels/host kernels/graph kernels/run kernels/cpu kernels/cuda
kernels/host      : core spec
kernels/graph     : core spec kernels/host
kernels/run       : core spec kernels/host kernels/graph
kernels/cpu       : core spec kernels/host kernels/graph kernels/run
kernels/cuda      : core spec kernels/graph kernels/run
client            : core wire client/cli
client/cli        : core wire spec
tracker           : core wire tracker/map tracker/series tracker/blobs tracker/ops tracker/server
tracker/map       : core wire
tracker/series    : core wire tracker/map
tracker/blobs     : core wire tracker/map
tracker/ops       : core wire tracker/map tracker/series tracker/blobs
tracker/server    : core wire tracker/map tracker/ops
coordinator       : core wire spec coordinator/search coordinator/state coordinator/decide coordinator/shell
coordinator/search: core wire spec
coordinator/state : core wire spec coordinator/search
coordinator/decide: core wire spec coordinator/search coordinator/state
coordinator/shell : core wire spec coordinator/search coordinator/state coordinator/decide
worker            : core wire spec kernels/host kernels/graph kernels/run worker/world worker/data worker/train worker/group
worker/world      : core wire spec kernels/host kernels/graph kernels/run
worker/data       : core wire spec kernels/host kernels/graph kernels/run
worker/train      : core wire spec kernels/host kernels/graph kernels/run worker/world worker/data
worker/group      : core wire spec kernels/host kernels/graph kernels/run worker/world worker/data worker/train
serving           : core wire spec kernels/host kernels/graph kernels/run serving/export
serving/export    : core wire spec kernels/host kernels/graph kernels/run
"""
TABLE = {line.split(":")[0].strip(): set(line.split(":")[1].split()) for line in MAY.strip().split("\n")}
FOLDERED = {place.split("/")[0] for place in TABLE if "/" in place}
PLACES = [place for place in TABLE if place not in FOLDERED]  # a header beside the folders is its room's own


def run(tool, *arguments):
    return subprocess.run([sys.executable, TOOLS / tool, *map(str, arguments)], capture_output=True, text=True)


def plant(root, files):
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


# ---- layers ----

@pytest.mark.parametrize("suffix", [".c", ".h", ".cu", ".cuh"])
def test_every_folder_against_every_other(suffix, tmp_path):
    """Each file includes a header of every place, one a line; what is refused is what MAY does not name."""
    text = "".join(f'#include "{place}/some.h"\n' for place in PLACES)
    plant(tmp_path, {f"{folder}/from{suffix}": text for folder in TABLE})
    done = run("layers.py", tmp_path)
    refused = re.findall(r"^(.*)/from\.\w+:(\d+): .* may not include ", done.stdout, re.M)
    want = {(folder, place) for folder in TABLE for place in PLACES
            if place != folder and place not in TABLE[folder]}
    assert {(folder, PLACES[int(line) - 1]) for folder, line in refused} == want
    assert done.returncode == 1 and len(done.stdout.splitlines()) == len(refused) + 1, done.stdout


def test_tables_are_of_this_tree():
    """The folders of the tree, the Makefile's lists and the tool's table say the same; nothing runs in a circle."""
    tree = {str(p.parent.relative_to(ROOT)) for room in layers.USES for p in (ROOT / room.split("/")[0]).rglob("*.[ch]")}
    assert tree - FOLDERED == set(TABLE) - FOLDERED
    makefile = (ROOT / "Makefile").read_text()
    for room in {place.split("/")[0] for place in TABLE}:
        uses = re.search(rf"^{room}_uses\s*:= (.*)$", makefile, re.M)
        assert set(uses[1].split() if uses else []) == {p.split("/")[0] for p in TABLE[room]} - {room}, room
    order, left = set(), {place: TABLE[place] - {place} for place in TABLE if place not in FOLDERED}
    while left:
        free = {place for place, uses in left.items() if uses <= order}
        assert free, f"a circle among {sorted(left)}"
        order |= free
        left = {place: uses for place, uses in left.items() if place not in free}


PLANTED = {
    "a library outside its file": ("core/a.c", "#include <zmq.h>", "<zmq.h> belongs in wire/net.c"),
    "a library in quotes": ("core/a.c", '#include "zmq.h"', "<zmq.h> belongs in wire/net.c"),
    "a library's folder in quotes": ("wire/a.c", '#include "openssl/sha.h"', "<openssl/sha.h> belongs in core/hash.c"),
    "CUDA on the CPU": ("kernels/cpu/a.c", "#include <cuda_runtime.h>", "belongs in kernels/cuda/"),
    "MPI in the trainer": ("worker/train/a.c", "#include <mpi.h>", "belongs in worker/world/world.c"),
    "not from the root": ("worker/a.c", '#include "world.h"', "not written from the root"),
    "up and down again": ("kernels/run/a.c", '#include "core/../tracker/ops/store.h"', "not written from the root"),
    "from here": ("kernels/run/a.c", '#include "./tracker/ops/store.h"', "not written from the root"),
    "ours in angle brackets": ("kernels/run/a.c", "#include <tracker/ops/store.h>", "write it in quotes"),
    "a source": ("worker/data/a.c", '#include "worker/data/csv.c"', "is not a header"),
    "a macro": ("core/a.c", "#define X <zmq.h>\n#include X", "cannot be read here"),
    "a continued line": ("kernels/run/a.c", '#include \\\n  "tracker/ops/store.h"', "may not include tracker"),
    "a comment in between": ("kernels/run/a.c", '# /* */ include /* */ "tracker/ops/store.h"', "may not include tracker"),
    "a digraph": ("kernels/run/a.c", '%:include "tracker/ops/store.h"', "may not include tracker"),
    "private to another folder": ("worker/train/a.c", '#include "worker/data/data_private.h"', "is private to worker/data/"),
    "private to another room": ("worker/train/a.c", '#include "wire/net_private.h"', "is private to wire/"),
    "private, beside its folder": ("tracker/a.c", '#include "tracker/ops/store_private.h"', "is private to tracker/ops/"),
    "a folder nobody lists": ("kernels/tpu/a.c", "", "kernels/tpu is not listed"),
    "a folder too deep": ("kernels/cpu/avx/a.c", "", "kernels/cpu/avx is not listed"),
    "another suffix": ("kernels/cpu/a.inc", "", "a source ends in"),
}


@pytest.mark.parametrize("what", PLANTED)
def test_planted_include(what, tmp_path):
    name, text, words = PLANTED[what]
    plant(tmp_path, {name: text + "\n"})
    done = run("layers.py", tmp_path)
    assert done.returncode == 1 and words in done.stdout and done.stdout.startswith(name + ":"), done


def test_clean_includes(tmp_path):
    plant(tmp_path, {
        "wire/net.c": '#include "wire/net.h"\n#include <zmq.h>\n#include "wire/net_private.h"\n',
        "kernels/cuda/a.cu": '#include <cuda_runtime.h>\n#include "kernels/cuda/launch.cuh"\n',
        "core/a.c": '// #include "wire/net.h"\n/*\n#include "wire/net.h"\n*/\nchar s[] = "/*";\n#include <stdio.h>\n'})
    done = run("layers.py", tmp_path)
    assert done.returncode == 0, done.stdout


# ---- circles ----

class House:
    """A tree of a few files and the objects that the Makefile would make of them."""

    def __init__(self, root, files):
        self.root, self.build = root, root / "build"
        plant(root, files)
        for name in files:
            if name.endswith((".c", ".cu")):
                self.compile(name)

    def object(self, name):
        if name.endswith(".cu"):
            return self.build / "obj/pic" / (name + ".o")
        return self.build / ("obj/pic" if "/cuda/" in name else "obj") / (name[:-2] + ".o")

    def compile(self, name):
        out = self.object(name)
        out.parent.mkdir(parents=True, exist_ok=True)
        language = ["g++", "-x", "c++"] if name.endswith(".cu") and shutil.which("g++") else ["gcc", "-x", "c"]
        subprocess.run([*language, "-I.", "-MMD", "-MP", "-c", "-o", out, name], cwd=self.root, check=True)

    def circles(self):
        return run("circles.py", self.build, self.root)


SHARED = 'int low(int x);\nint high(int x);\n'
CIRCLES = {
    "of headers": ({"core/a.h": '#pragma once\n#include "core/b.h"\n', "core/b.h": '#pragma once\n#include "core/c.h"\n',
                    "core/c.h": '#pragma once\n#include "core/a.h"\n', "core/a.c": '#include "core/a.h"\nint core_a;\n'},
                   "circle: core/a.h core/b.h core/c.h"),
    "behind a shared header": ({"core/s.h": SHARED,
                                "core/low.c": '#include "core/s.h"\nint low(int x) { return x > 9 ? high(x) : x; }\n',
                                "core/high.c": '#include "core/s.h"\nint high(int x) { return low(x / 2); }\n'},
                               "circle: core/high.c core/low.c"),
    "through a table of functions": (
        {"core/s.h": SHARED + "extern int (*const core_table[])(int);\n",
         "core/table.c": '#include "core/s.h"\nint (*const core_table[])(int) = {low};\n',
         "core/low.c": '#include "core/s.h"\nint low(int x) { return core_table[0](x); }\n'},
        "circle: core/low.c core/table.c"),
    "through a third file, across folders": (
        {"wire/s.h": SHARED + "int middle(int x);\n",
         "tracker/map/low.c": '#include "wire/s.h"\nint low(int x) { return high(x); }\n',
         "tracker/ops/middle.c": '#include "wire/s.h"\nint middle(int x) { return low(x); }\n',
         "tracker/server/high.c": '#include "wire/s.h"\nint high(int x) { return middle(x); }\n'},
        "circle: tracker/map/low.c tracker/ops/middle.c tracker/server/high.c"),
    "between host and device": (
        {"kernels/cuda/s.h": f'#ifdef __cplusplus\nextern "C" {{\n#endif\n{SHARED}#ifdef __cplusplus\n}}\n#endif\n',
         "kernels/cuda/low.cu": '#include "kernels/cuda/s.h"\nint low(int x) { return high(x); }\n',
         "kernels/cuda/high.c": '#include "kernels/cuda/s.h"\nint high(int x) { return low(x); }\n'},
        "circle: kernels/cuda/high.c kernels/cuda/low.cu"),
}


@pytest.mark.parametrize("what", CIRCLES)
def test_planted_circle(what, tmp_path):
    files, words = CIRCLES[what]
    done = House(tmp_path, files).circles()
    assert done.returncode == 1 and words in done.stdout.splitlines(), done
    assert done.stdout.splitlines()[-1] == "circles: 1", done


STRAIGHT = {"core/s.h": SHARED, "core/low.c": '#include "core/s.h"\nint low(int x) { return x; }\n',
            "core/high.c": '#include "core/s.h"\nint high(int x) { return low(x / 2); }\n'}


def test_no_circle_and_a_double(tmp_path):
    house = House(tmp_path, STRAIGHT)
    done = house.circles()
    assert done.returncode == 0 and done.stdout == "circles: none\n", done
    plant(tmp_path, {"wire/low.c": '#include "core/s.h"\nint low(int x) { return -x; }\n'})
    house.compile("wire/low.c")
    done = house.circles()
    assert done.returncode == 1 and "double: low is defined by core/low.c and wire/low.c" in done.stdout, done


def test_circles_are_not_judged_by_old_objects(tmp_path):
    house = House(tmp_path, STRAIGHT)
    later = os.stat(house.object("core/low.c")).st_mtime + 5
    for name in ("core/low.c", "core/s.h"):  # a source, a header it includes
        before = os.stat(tmp_path / name).st_mtime
        os.utime(tmp_path / name, (later, later))
        done = house.circles()
        assert done.returncode == 2 and "is older than" in done.stdout, done
        os.utime(tmp_path / name, (before, before))
    house.object("core/low.c").unlink()
    done = house.circles()
    assert done.returncode == 2 and "no object of core/low.c" in done.stdout, done
    done = run("circles.py", tmp_path / "nothing", tmp_path)
    assert done.returncode == 2, done


def test_circles_say_what_they_did_not_see(tmp_path):
    plant(tmp_path, {"kernels/cuda/b.h": '#pragma once\n#include "kernels/cuda/a.h"\n', "kernels/cuda/a.h": "#pragma once\n",
                     "kernels/cuda/k.cu": '#include "kernels/cuda/b.h"\n', "kernels/cuda/h.c": ""})
    house = House(tmp_path, STRAIGHT)
    done = house.circles()
    assert done.returncode == 0 and "(2 files of kernels/cuda/: their includes alone, no toolkit)" in done.stdout, done
    plant(tmp_path, {"kernels/cuda/a.h": '#pragma once\n#include "kernels/cuda/b.h"\n'})
    done = house.circles()
    assert done.returncode == 1 and "circle: kernels/cuda/a.h kernels/cuda/b.h" in done.stdout, done
    house.compile("kernels/cuda/h.c")  # half a backend is no answer
    done = house.circles()
    assert done.returncode == 2 and "no object of kernels/cuda/k.cu" in done.stdout, done


# ---- sizes ----

def test_functions_are_counted():
    text = r'''
#define LOOP(a, b) for (;;) { }
struct point { int x, y; };
static const struct point table[] = {{1, 2}, {f(3, 4), 5}};
typedef void visit_fn(void *arg, int a, int b, int c, int d, int e);
int declared(int a, int b, int c, int d, int e, int f);
int none(void) { char c = '{'; return c; }
static int two(int a, int (*with)(int, int, int)) { if (a) { LOOP(a, 1) } return with(a, "}\"", 2); }
struct point *one(const struct point *p) /* { */
{ // }
    return (struct point *)p;
}
CLONES(static, three, (float *a, const float *b, int n), (a, b, n)) { a[0] = b[n]; }
TARGET static void TILE(four)(int a, int b, int c, int d) { }
extern "C" {
__global__ void __launch_bounds__(256, 2) five(int a, int b, int c, int d, int e) { }
}
template <int N> __device__ inline float six(int a, int b, int c, int d, int e, int f) { return N; }
'''
    names = "none two one three four five six".split()
    found = [(name, count, length) for _, name, count, length in sizes.functions(text)]
    assert [f[0] for f in found] == names
    assert [f[1] for f in found] == [0, 2, 1, 3, 4, 5, 6]
    assert [f[2] for f in found] == [1, 1, 4, 1, 1, 1, 1]


def small(count, parameters="int a"):
    return "".join(f"int core_{i}({parameters}) {{ return a; }}\n" for i in range(count))


SIZES = {
    "a long file": ({"core/a.c": "int x;\n" * 801, "core/b.c": small(9), "core/c.c": ""}, "core/a.c:801: more than 800 lines"),
    "a long test": ({"tests/unit/core/a.c": "int x;\n" * 801, "core/b.c": small(9)}, "more than 800 lines"),
    "a long function": ({"core/a.c": "int core_a(void) {\n" + "\n" * 69 + "}\n"}, "core/a.c:1: core_a has 71 lines"),
    "long files": ({f"core/{i}.c": small(250) for i in range(5)}, "the median file has 250 lines"),
    "many parameters": ({"core/a.c": small(94), "core/b.c": small(6, "int a, int b, int c, int d, int e, int f")},
                        "6.0 % of the functions have more than 5 parameters"),
    "nothing to look at": ({"docs/a.c": ""}, "no sources here"),
}


@pytest.mark.parametrize("what", SIZES)
def test_planted_size(what, tmp_path):
    files, words = SIZES[what]
    plant(tmp_path, files)
    done = run("sizes.py", tmp_path)
    assert done.returncode == 1 and words in done.stdout and "sizes: 1 violations" in done.stdout, done


def test_small_tree(tmp_path):
    plant(tmp_path, {"core/a.c": small(96), "core/b.c": small(4, "int a, int b, int c, int d, int e, int f"),
                     "core/c.c": "int core_a(void) {\n" + "\n" * 68 + "}\n", "core/d.c": "int x;\n" * 800,
                     "core/e.h": ""})
    done = run("sizes.py", tmp_path)
    assert done.returncode == 0, done.stdout


# ---- style ----

STYLES = {
    "no first line": ("core/a.c", "#include <stdio.h>\n", "core/a.c:1: opens without a comment"),
    "an empty first line": ("tests/unit/core/a.c", "/*\n * What it is. */\n", "opens without a comment"),
    "another suffix": ("core/a_impl.h", "/* A. */\n", "is _private.h"),
    "strcpy": ("core/a.c", "/* A. */\nvoid core_a(char *t) {\n    strcpy (t, 0);\n}\n", "core/a.c:3: strcpy is not used"),
    "sprintf": ("core/a.c", "/* A. */\nint x = 1 + sprintf(t, 0);\n", "core/a.c:2: sprintf is not used"),
    "a cut text": ("core/a.c", "/* A. */\nvoid core_a(void) {\n    snprintf(t, 1, \"\");\n}\n", "core/a.c:3: write (void)snprintf"),
    "a cut text in a branch": ("core/a.c", "/* A. */\nvoid core_a(int x) {\n    if (x)\n\n        snprintf(t, 1, \"\");\n}\n",
                               "core/a.c:5: write (void)snprintf"),
}


@pytest.mark.parametrize("what", STYLES)
def test_planted_style(what, tmp_path):
    name, text, words = STYLES[what]
    plant(tmp_path, {name: text})
    done = run("style.py", tmp_path)
    assert done.returncode == 1 and words in done.stdout and "style: 1 violations" in done.stdout, done


def test_good_style(tmp_path):
    plant(tmp_path, {"core/a.c": "/* A: atoi() and sprintf() are not used. */\nint n =\n    snprintf(t, 1, \"strcpy(\");\n"
                                 "void a(void) {\n    (void)snprintf(t, 1, \"\");\n    s->gets(x);\n}\n",
                     "core/a_private.h": "// B\n"})
    done = run("style.py", tmp_path)
    assert done.returncode == 0, done.stdout
