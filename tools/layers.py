#!/usr/bin/env python3
"""Checks who includes whom: which room and which folder uses which (docs/DESIGN.md, section 2), where a
library's header and a private one may be included. Prints each violation as file:line and ends with 1.

usage: layers.py [ROOT]"""
import pathlib
import re
import sys

from files import C_SUFFIXES, Tree

# What nobody includes and no rule of the Makefile builds: a source that hides from this check.
OTHER_SUFFIXES = (".cc", ".cpp", ".cxx", ".hh", ".hpp", ".inc", ".inl", ".def", ".s", ".S")

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
    "kernels/host": set(),
    "kernels/graph": {"host"},
    "kernels/run": {"graph", "host"},
    "kernels/cpu": {"graph", "run", "host"},
    "kernels/cuda": {"graph", "run"},
    "coordinator/search": set(),
    "coordinator/state": {"search"},
    "coordinator/decide": {"search", "state"},
    "coordinator/shell": {"search", "state", "decide"},
    "worker/world": set(),
    "worker/data": set(),
    "worker/train": {"world", "data"},
    "worker/group": {"world", "data", "train"},
    "tracker/map": set(),
    "tracker/series": {"map"},
    "tracker/blobs": {"map"},
    "tracker/ops": {"map", "series", "blobs"},
    "tracker/server": {"map", "ops"},
    "serving/export": set(),
}

# folders that no other room may include
CLOSED = {"kernels/cpu", "kernels/cuda"}

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

INCLUDE = re.compile(r'^\s*(?:#|%:)\s*(?:include|include_next|import|embed)\b\s*(.*)$')
NAME = re.compile(r'([<"])([^>"]+)[>"]')


def room_of(name):
    return name.split("/")[0]


def folder_of(name):
    """kernels/cpu/gemm.h -> kernels/cpu; a file beside the folders has none"""
    return "/".join(name.split("/")[:2]) if name.count("/") >= 2 else None


def private(name, what):
    """A _private.h is its own folder's."""
    if what.endswith("_private.h") and what.rsplit("/", 1)[0] != name.rsplit("/", 1)[0]:
        return f"{what} is private to {what.rsplit('/', 1)[0]}/"
    return None


def between_folders(name, what):
    folder, target = folder_of(name), folder_of(what)
    if folder is None or folder == target or (target and target.split("/")[1] in INNER.get(folder, ())):
        return None
    return f"{folder} may not include {target or what} ({what})"


def between_rooms(name, what):
    if folder_of(what) in CLOSED:
        return f"{room_of(name)} may not include {folder_of(what)} ({what}): only kernels/ knows its backends"
    place = folder_of(name) if folder_of(name) in USES else room_of(name)
    return None if room_of(what) in USES[place] else f"{place} may not include {room_of(what)} ({what})"


def library(name, what):
    for pattern, places in LIBRARIES.items():
        if re.fullmatch(pattern, what) and not any(
                name == p or (p.endswith("/") and name.startswith(p)) for p in places):
            return f"<{what}> belongs in {' or '.join(places)}"
    return None


def inclusion(name, bracket, what):
    """What is wrong with file `name` including `what`, or None."""
    if bracket == "<":
        return f"<{what}> is ours: write it in quotes" if room_of(what) in USES else library(name, what)
    if "/" not in what or room_of(what) not in USES or {"", ".", ".."} & set(what.split("/")):
        return library(name, what) or f'"{what}" is not written from the root'
    if not what.endswith((".h", ".cuh")):
        return f"{what} is not a header"
    between = between_folders if room_of(name) == room_of(what) else between_rooms
    return between(name, what) or private(name, what)


def directives(text):
    """(line number, what follows #include), with comments gone and continued lines joined"""
    text = re.sub(r"\\\n", "\0", text)
    text = re.sub(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"',
                  lambda m: m[0] if m[0][0] == '"' else re.sub(r"[^\n\0]", " ", m[0]), text, flags=re.S)
    number = 1
    for line in text.split("\n"):
        match = INCLUDE.match(line.replace("\0", ""))
        if match:
            yield number, match[1].strip()
        number += 1 + line.count("\0")


def check_file(name, text):
    if folder_of(name) and (folder_of(name) not in INNER or name.count("/") > 2):
        yield 1, f"the folder {name.rsplit('/', 1)[0]} is not listed in tools/layers.py"
        return
    for number, rest in directives(text):
        match = NAME.match(rest)
        if not match:
            yield number, f"#include {rest}: what it includes cannot be read here"
            continue
        wrong = inclusion(name, *match.groups())
        if wrong:
            yield number, wrong


def check(tree):
    for name in tree.names:
        if room_of(name) not in USES or "/" not in name:
            continue
        if name.endswith(OTHER_SUFFIXES):
            yield f"{name}:1: a source ends in {', '.join(C_SUFFIXES)}"
        elif name.endswith(C_SUFFIXES):
            for number, what in check_file(name, tree.text(name)):
                yield f"{name}:{number}: {what}"


def main():
    bad = list(check(Tree(sys.argv[1] if len(sys.argv) > 1 else ".")))
    print("\n".join(bad + [f"layers: {len(bad)} violations" if bad else "layers: ok"]))
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
