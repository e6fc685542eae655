#!/usr/bin/env python3
"""What tests left out and why: a table at the end of `make test`, `make e2e` and `make proof`.

    skipped.py FOLDER [PART…]      rows of FOLDER/PART.tsv (default: every part there)
    skipped.py --gpu-only FOLDER   ends with 1 if anything else than what needs a GPU was left out

A row is "count<TAB>file<TAB>reason". tools/run-tests.sh writes them for programs, tests/e2e/conftest.py for pytest.
Reasons that differ only in a path are one reason.
"""
import argparse
import pathlib
import re
import sys

GPU = re.compile(r"\bGPUs?\b(?! backend)|\bcompute-sanitizer\b")
WIDE = 110


def rows(folder, parts):
    files = [folder / f"{p}.tsv" for p in parts] if parts else sorted(folder.glob("*.tsv"))
    for file in files:
        for line in file.read_text().splitlines() if file.exists() else []:
            count, name, reason = line.split("\t", 2)
            yield int(count), name, re.sub(r"(?<=\s)/\S+/(\S+)", r"\1", reason).strip()


def shorten(names):
    """The files, as many as fit."""
    text = ", ".join(names[:6])
    return text + (f" and {len(names) - 6} more" if len(names) > 6 else "")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gpu-only", action="store_true", help="fail where something else than a GPU was missing")
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("part", nargs="*")
    args = parser.parse_args()
    table = {}
    for count, name, reason in rows(args.folder, args.part):
        by_file = table.setdefault(reason, {})
        by_file[name] = by_file.get(name, 0) + count
    if not table:
        print("skipped: nothing")
        return 0
    total = sum(sum(f.values()) for f in table.values())
    print(f"skipped: {total} test{'s' if total != 1 else ''}, and why")
    for reason, by_file in sorted(table.items(), key=lambda r: -sum(r[1].values())):
        print(f"  {sum(by_file.values()):5}  {reason[:WIDE]}")
        print(f"         {shorten(sorted(by_file))}")
    other = [r for r in table if not GPU.search(r)]
    if args.gpu_only and other:
        print(f"FAIL: {len(other)} of these reasons are no GPU that is missing: nothing else may be left out here",
              file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
