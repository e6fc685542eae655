#!/usr/bin/env python3
"""Checks which room and which folder includes which (docs/DESIGN.md, section 2), which library header
is included where, and that no file is over 800 lines. Prints each violation as file:line and ends with 1."""
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else ".").resolve()
LINES_MAX = 800
SUFFIXES = (".c", ".h", ".cu", ".cuh")

# room: the rooms it may include
USES = {
    "core": set(),
    "wire": {"core"},
    "spec": {"core"},
    "kernels": {"core", "spec"},
    "client": {"core", "wire"},
    "client/cli": {"core", "wire", "spec"},
    "tracker": {"core", "wire"},
    "coordinator": {"core", "wire", "spec"},
    "worker": {"core", "wire", "spec", "kernels"},
    "serving": {"core", "wire", "spec", "kernels"},
}

# folder of a room: the other folders of that room it may include. Files beside the folders (main.c)
# may include all of them.
INNER = {
    "client/cli": set(),
    "kernels/graph": {"run", "cpu", "cuda"},
    "kernels/run": {"graph", "cpu"},
    "kernels/cpu": {"graph", "run"},
    "kernels/cuda": {"graph", "run"},
    "coordinator/search": set(),
    "coordinator/state": {"search", "core"},
    "coordinator/core": {"search", "state"},
    "coordinator/shell": {"search", "state", "core"},
    "worker/world": set(),
    "worker/data": set(),
    "worker/train": {"world", "data"},
    "worker/group": {"world", "data", "train"},
    "tracker/map": {"ops"},
    "tracker/series": {"map"},
    "tracker/blobs": {"map", "ops"},
    "tracker/ops": {"map", "series", "blobs"},
    "tracker/server": {"map", "ops"},
    "serving/export": set(),
}

# a library's header: the places that may include it (a file, or a folder ending in '/')
LIBRARIES = {
    r"zmq\.h": ["wire/net.c"],
    r"yaml\.h": ["core/yaml.c"],
    r"jansson\.h": ["core/json.c"],
    r"openssl/.*": ["core/hash.c"],
    r"lmdb\.h": ["tracker/map/lmdb.c"],
    r"zstd\.h": ["tracker/series/squeeze.c"],
    r"microhttpd\.h": ["tracker/server/http.c", "serving/http.c"],
    r"(dnnl|oneapi/).*": ["kernels/cpu/"],
    r"(cuda|cublas|cudnn).*": ["kernels/cuda/"],
    r"mpi\.h": ["worker/world/world.c"],
    r"nccl\.h": ["worker/world/nccl.c"],
    r"zlib\.h": ["worker/data/source.c"],
}

INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')


def sources():
    try:
        out = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, check=True,
                             capture_output=True, text=True).stdout.split("\n")
        names = [n for n in out if n]
    except (OSError, subprocess.CalledProcessError):
        names = [str(p.relative_to(ROOT)) for p in ROOT.rglob("*") if p.is_file()]
    return [n for n in names if n.endswith(SUFFIXES + (".py", ".sh")) and (ROOT / n).exists()]


def inclusion(name, what):
    """What is wrong with file `name` including "what", or None."""
    if "/" not in what:
        return f'"{what}" is not written from the root'
    room, other = name.split("/")[0], what.split("/")[0]
    folder, target = "/".join(name.split("/")[:2]), "/".join(what.split("/")[:2])
    if other != room:
        allowed = USES.get(folder, USES[room])
        return None if other in allowed else f"{folder if folder in USES else room} may not include {other} ({what})"
    if name.count("/") < 2 or folder == target:
        return None
    if what.count("/") >= 2 and target.split("/")[1] in INNER.get(folder, set()):
        return None
    return f"{folder} may not include {target if what.count('/') >= 2 else what} ({what})"


def check_file(name, lines):
    room = name.split("/")[0]
    if len(lines) > LINES_MAX + 1:
        yield len(lines), f"more than {LINES_MAX} lines; it wants a seam"
    if room not in USES or not name.endswith(SUFFIXES):
        return
    if name.count("/") >= 2 and "/".join(name.split("/")[:2]) not in INNER:
        yield 1, f"the folder {'/'.join(name.split('/')[:2])} is not listed in tools/layers.py"
    for number, line in enumerate(lines, 1):
        match = INCLUDE.match(line)
        if not match:
            continue
        kind, what = match.groups()
        if kind == '"':
            wrong = inclusion(name, what)
            if wrong:
                yield number, wrong
            continue
        for pattern, places in LIBRARIES.items():
            if re.fullmatch(pattern, what) and not any(
                    name == p or (p.endswith("/") and name.startswith(p)) for p in places):
                yield number, f"<{what}> belongs in {' or '.join(places)}"


def main():
    bad = [f"{name}:{number}: {what}" for name in sorted(sources())
           for number, what in check_file(name, (ROOT / name).read_text(errors="replace").split("\n"))]
    for b in bad:
        print(b)
    print(f"layers: {len(bad)} violations" if bad else "layers: ok")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
