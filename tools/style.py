#!/usr/bin/env python3
"""Checks what docs/STYLE.md asks and no compiler sees: each source opens with a comment that says what it is;
private headers have one suffix; what is not used is not used. Prints each violation as file:line and ends with 1.

usage: style.py [ROOT]"""
import re
import sys

from files import C_SUFFIXES, Tree
from layers import USES, room_of
from sizes import code

NOT_USED = re.compile(r"(?<![\w>.])(strcpy|strcat|sprintf|vsprintf|strtok|atoi|atol|atof|alloca|gets)\s*\(")
UNCAST = re.compile(r"(?:[;{})]|\belse)\s*\n\s*(snprintf)\s*\(")  # a statement of its own
OTHER_PRIVATE = re.compile(r"_(impl|internal|intern|priv)\.(h|cuh)$")


def check_file(name, text):
    if not re.match(r"/[*/] ?\S", text):
        yield 1, "opens without a comment that says what it is"
    if OTHER_PRIVATE.search(name):
        yield 1, "the suffix of a private header is _private.h"
    if room_of(name) not in USES:
        return
    plain = code(text)
    for match in NOT_USED.finditer(plain):
        yield plain.count("\n", 0, match.start()) + 1, f"{match[1]} is not used here: it has no bound, or no way to fail"
    for match in UNCAST.finditer(plain):
        yield plain.count("\n", 0, match.start(1)) + 1, \
            "write (void)snprintf(…) where a cut text is meant; use struct buf where it is not"


def main():
    tree = Tree(sys.argv[1] if len(sys.argv) > 1 else ".")
    bad = [f"{name}:{number}: {what}" for name in tree.names
           if name.endswith(C_SUFFIXES + (".cpp",)) and (room_of(name) in USES or room_of(name) == "tests")
           for number, what in check_file(name, tree.text(name))]
    print("\n".join(bad + [f"style: {len(bad)} violations" if bad else "style: ok"]))
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
