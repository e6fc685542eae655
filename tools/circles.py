#!/usr/bin/env python3
"""Prints every circle of files in the house: files that need each other, directly or through others.

A file needs the headers that it includes, and the sources that define the functions and tables which its
object leaves open (nm): so a circle cannot hide behind a shared header or a table of functions. Headers and
sources count apart: a.c needs b.c only where it calls it. Two files that define the same global are told,
too: nobody could say which of them a third one means.

Objects that are missing or older than what they were made from are an error, not an answer. Sources of the
GPU backend have objects only where a CUDA toolkit is; elsewhere their includes alone are looked at, and the
last line says so. Ends with 1 where there is a circle, with 2 where it cannot tell.

usage: circles.py [BUILD] [ROOT]"""
import collections
import pathlib
import re
import subprocess
import sys

from files import C_SUFFIXES, Tree
from layers import NAME, USES, directives, room_of

GPU = "kernels/cuda/"
DEFINED, UNDEFINED = "TDBRSGVWCiu", "Uwv"
COMPILERS = "DW.ref."  # weak references to its run time, a copy in each C++ object


class CannotTell(Exception):
    pass


def include_edges(tree, names):
    for name in names:
        for _, rest in directives(tree.text(name)):
            match = NAME.match(rest)
            if match and match[1] == '"':
                yield name, match[2], f'"{match[2]}"'


def object_of(build, name):
    if name.endswith(".cu"):
        return build / "obj/pic" / (name + ".o")
    return build / ("obj/pic" if name.startswith(GPU) else "obj") / (name[:-2] + ".o")


def check_fresh(tree, name, path):
    """An object is younger than its source and than all that its .d file names."""
    parts = [name]
    deps = path.with_suffix(".d")
    if not deps.exists():
        raise CannotTell(f"{deps} is missing; run make first")
    rule = deps.read_text().replace("\\\n", " ").split("\n")[0]
    parts += rule.split(":", 1)[1].split()
    made = path.stat().st_mtime
    for part in parts:
        part = tree.root / part  # an absolute one stays as it is
        if not part.exists() or part.stat().st_mtime > made:
            raise CannotTell(f"{path} is older than {part}; run make first")


def objects(tree, build, names):
    """source -> its object; the GPU backend's only where it was built, all of it or nothing"""
    found, missing = {}, []
    for name in names:
        if not name.endswith((".c", ".cu")):
            continue
        path = object_of(build, name)
        if path.exists():
            check_fresh(tree, name, path)
            found[name] = path
        else:
            missing.append(name)
    gpu_built = any(name.startswith(GPU) for name in found)
    for name in missing:
        if gpu_built or not name.startswith(GPU):
            raise CannotTell(f"no object of {name} in {build}; run make first")
    return found, missing


def symbols(paths):
    """object -> (defined, undefined) global symbols"""
    table = {str(path): (set(), set()) for path in paths}
    done = subprocess.run(["nm", "-g", "-A", *table], capture_output=True, text=True)
    if done.returncode != 0:
        raise CannotTell(f"nm: {done.stderr.strip()[:300]}")
    for line in done.stdout.split("\n"):
        where, _, rest = line.rpartition(":")
        fields = rest.split()
        if len(fields) >= 2 and fields[-2] in UNDEFINED:
            table[where][1].add(fields[-1])
        elif len(fields) >= 2 and fields[-2] in DEFINED:
            table[where][0].add(fields[-1])
    return table


def symbol_edges(found):
    """Edges, and the globals that two sources define."""
    table = symbols(found.values())
    owners = collections.defaultdict(set)
    for name, path in found.items():
        for symbol in table[str(path)][0] - {"main"}:
            owners[symbol].add(name)
    edges = [(name, owner, symbol) for name, path in found.items()
             for symbol in table[str(path)][1] for owner in owners.get(symbol, ())]
    return edges, {s: sorted(o) for s, o in owners.items() if len(o) > 1 and not s.startswith(COMPILERS)}


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


def look(tree, build):
    """(lines to print, how many circles and doubles, what was not looked at)"""
    names = [n for n in tree.names if room_of(n) in USES and n.endswith(C_SUFFIXES)]
    found, missing = objects(tree, build, names)
    if not found:
        raise CannotTell(f"no sources in {tree.root}")
    edges, doubles = symbol_edges(found)
    graph, why = collections.defaultdict(set), collections.defaultdict(set)
    for source, target, what in [*include_edges(tree, names), *edges]:
        if target in names:
            graph[source].add(target)
            graph[target]
            why[source, target].add(what)
    lines, circles = [], components(graph)
    circles += [[name] for name in names if name in graph[name] and not name.endswith((".c", ".cu"))]
    for part in circles:
        lines.append("circle: " + " ".join(part))
        lines += [f"  {s} -> {t}: {', '.join(sorted(why[s, t])[:4])}"
                  for s in part for t in sorted(graph[s] & set(part))]
    lines += [f"double: {symbol} is defined by {' and '.join(files)}" for symbol, files in sorted(doubles.items())]
    return lines, len(circles) + len(doubles), missing


def main():
    build = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "build").resolve()
    try:
        lines, count, missing = look(Tree(sys.argv[2] if len(sys.argv) > 2 else "."), build)
    except CannotTell as e:
        print(f"circles: {e}")
        return 2
    note = f" ({len(missing)} files of {GPU}: their includes alone, no toolkit)" if missing else ""
    print("\n".join(lines + [f"circles: {count or 'none'}{note}"]))
    return 1 if count else 0


if __name__ == "__main__":
    sys.exit(main())
