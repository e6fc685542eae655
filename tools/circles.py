#!/usr/bin/env python3
"""Prints every circle of files in the house: files that need each other, directly or through others.

A file needs the headers that it includes, and the sources that define the functions and tables which
its object file leaves open (nm): so a circle cannot hide behind a shared header. Ends with 1 where
there is one. usage: circles.py [BUILD]"""
import collections
import pathlib
import re
import subprocess
import sys

BUILD = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "build")
ROOMS = "core wire spec kernels client tracker coordinator worker serving".split()
INCLUDE = re.compile(r'^\s*#\s*include\s*"([^"]+)"', re.M)
SUFFIXES = (".c", ".h", ".cu", ".cuh")


def stem(name):
    return re.sub(r"\.(c|h|cu|cuh)$", "", name)


def sources():
    return sorted(str(p) for room in ROOMS for p in pathlib.Path(room).rglob("*") if p.suffix in SUFFIXES)


def include_edges(names):
    for name in names:
        for what in INCLUDE.findall(pathlib.Path(name).read_text(errors="replace")):
            yield name, what, f'"{what}"'


def objects(names):
    """source -> its object file; a kernel source is compiled for the backend's shared object."""
    for name in names:
        if name.endswith(".c"):
            for base in ("obj", "obj/pic"):
                path = BUILD / base / (stem(name) + ".o")
                if path.exists():
                    yield name, path
                    break
        elif name.endswith(".cu"):
            path = BUILD / "obj/pic" / (name + ".o")
            if path.exists():
                yield name, path


def symbols(path):
    """(defined, undefined) global symbols of an object file"""
    out = subprocess.run(["nm", "-g", str(path)], check=True, capture_output=True, text=True).stdout
    defined, undefined = set(), set()
    for line in out.split("\n"):
        fields = line.split()
        if len(fields) == 2 and fields[0] in "Uw":
            undefined.add(fields[1])
        elif len(fields) == 3 and fields[1] in "TDBRCVW":
            defined.add(fields[2])
    return defined, undefined


def symbol_edges(names):
    table = {name: symbols(path) for name, path in objects(names)}
    owners = collections.defaultdict(set)
    for name, (defined, _) in table.items():
        if not name.endswith("/main.c"):
            for symbol in defined:
                owners[symbol].add(name)
    for name, (_, undefined) in table.items():
        for symbol in undefined:
            if len(owners[symbol]) == 1:
                yield name, next(iter(owners[symbol])), symbol


def components(graph):
    """Strongly connected components of more than one file (Tarjan 1972, without recursion)."""
    index, low, on, stack, found = {}, {}, set(), [], []
    for root in sorted(graph):
        if root in index:
            continue
        work = [(root, iter(sorted(graph[root])))]
        index[root] = low[root] = len(index)
        stack.append(root)
        on.add(root)
        while work:
            node, rest = work[-1]
            for nxt in rest:
                if nxt not in index:
                    index[nxt] = low[nxt] = len(index)
                    stack.append(nxt)
                    on.add(nxt)
                    work.append((nxt, iter(sorted(graph[nxt]))))
                    break
                if nxt in on:
                    low[node] = min(low[node], index[nxt])
            else:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[node])
                if low[node] == index[node]:
                    part = []
                    while not part or part[-1] != node:
                        part.append(stack.pop())
                        on.discard(part[-1])
                    if len(part) > 1:
                        found.append(sorted(part))
    return found


def main():
    names = sources()
    if not any(True for _ in objects(names)):
        sys.exit(f"circles: no object files in {BUILD}; run make first")
    known = set(names)
    graph, why = collections.defaultdict(set), collections.defaultdict(list)
    for source, target, what in [*include_edges(names), *symbol_edges(names)]:
        if source != target and target in known:
            graph[source].add(target)
            graph[target]
            why[source, target].append(what)
    found = components(graph)
    for part in found:
        print("circle: " + " ".join(part))
        for source in part:
            for target in sorted(graph[source] & set(part)):
                print(f"  {source} -> {target}: {', '.join(sorted(set(why[source, target]))[:4])}")
    print(f"circles: {len(found)}" if found else "circles: none")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
