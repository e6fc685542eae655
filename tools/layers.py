#!/usr/bin/env python3
"""Checks who includes whom (docs/DESIGN.md, section 2), which library header stands in which file,
and that no file is over 800 lines. Prints each violation as file:line and ends with 1."""
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else ".").resolve()
LINES_MAX = 800

# room: the rooms it may include
USES = {
    "core": set(),
    "kernels": {"core"},
    "client": {"core"},
    "tracker": {"core"},
    "coordinator": {"core", "client"},
    "worker": {"core", "kernels", "client"},
    "serving": {"core", "kernels", "client"},
}

# a library's header: the places that may include it (a file, or a folder ending in '/')
LIBRARIES = {
    r"zmq\.h": ["core/net.c"],
    r"yaml\.h": ["core/yaml.c"],
    r"jansson\.h": ["core/json.c"],
    r"openssl/.*": ["core/hash.c"],
    r"lmdb\.h": ["tracker/lmdb.c"],
    r"zstd\.h": ["tracker/squeeze.c"],
    r"microhttpd\.h": ["tracker/http.c", "serving/http.c"],
    r"(dnnl|oneapi/).*": ["kernels/cpu/"],
    r"(cuda|cublas|cudnn).*": ["kernels/cuda/"],
    r"mpi\.h": ["worker/world.c"],
    r"nccl\.h": ["worker/nccl.c"],
    r"zlib\.h": ["worker/source.c"],
}

INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')


def sources():
    try:
        out = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, check=True,
                             capture_output=True, text=True).stdout.split("\n")
        names = [n for n in out if n]
    except (OSError, subprocess.CalledProcessError):
        names = [str(p.relative_to(ROOT)) for p in ROOT.rglob("*") if p.is_file()]
    return [n for n in names if n.endswith((".c", ".h", ".cu", ".py", ".sh")) and (ROOT / n).exists()]


def main():
    bad = []
    for name in sorted(sources()):
        lines = (ROOT / name).read_text(errors="replace").split("\n")
        if len(lines) > LINES_MAX + 1:
            bad.append(f"{name}:{len(lines)}: more than {LINES_MAX} lines; it wants a seam")
        room = name.split("/")[0]
        if room not in USES or not name.endswith((".c", ".h", ".cu")):
            continue
        for number, line in enumerate(lines, 1):
            match = INCLUDE.match(line)
            if not match:
                continue
            kind, what = match.groups()
            for pattern, places in LIBRARIES.items():
                if re.fullmatch(pattern, what) and kind == "<":
                    if not any(name == p or (p.endswith("/") and name.startswith(p)) for p in places):
                        bad.append(f"{name}:{number}: <{what}> belongs in {' or '.join(places)}")
            if kind == '"':
                other = what.split("/")[0]
                if "/" not in what:
                    bad.append(f'{name}:{number}: "{what}" is not written from the root')
                elif other != room and other not in USES[room]:
                    bad.append(f"{name}:{number}: {room} may not include {other} ({what})")
    for b in bad:
        print(b)
    print(f"layers: {len(bad)} violations" if bad else "layers: ok")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
