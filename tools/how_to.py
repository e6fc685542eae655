#!/usr/bin/env python3
"""The patches inside docs/how-to/*.md: one block ```diff for each file, as `git diff` writes it.

usage: how_to.py PAGE               prints the page's patch
       how_to.py PAGE --apply       applies it to this tree
       how_to.py PAGE --from TREE   writes the blocks anew from the uncommitted changes of a clone
       how_to.py PAGE --refresh     the same from a copy of this tree to which they were applied by patch(1), which
                                    forgives more than git: for when the code around an example has moved
PAGE: add-a-command, or a path."""
import pathlib
import re
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[1]
PAGES = ROOT / "docs" / "how-to"
BLOCK = re.compile(r"^```diff\n(.*?)^```$", re.M | re.S)
TARGET = re.compile(r"^\+\+\+ b/(.*)$", re.M)


def page_of(name):
    return pathlib.Path(name) if name.endswith(".md") else PAGES / f"{name}.md"


def blocks(page):
    return BLOCK.findall(page.read_text())


def patch(page):
    return "".join(blocks(page))


def files(page):
    """Paths that the page's patch touches, new ones too."""
    return TARGET.findall(patch(page))


def apply(text, tree, *options):
    return subprocess.run(["git", "apply", "-C1", *options], cwd=tree, input=text, capture_output=True, text=True)


def git(tree, *arguments):
    return subprocess.run(["git", *arguments], cwd=tree, check=True, capture_output=True, text=True).stdout


def take_from(page, tree):
    git(tree, "add", "-AN")

    def fresh(match):
        name = TARGET.search(match[1])[1]
        diff = git(tree, "diff", "-U2", "--src-prefix=a/", "--dst-prefix=b/", "--", name)
        if not diff:
            sys.exit(f"{page.name}: {name} is not changed in {tree}")
        kept = [line for line in diff.split("\n") if not re.match(r"diff |index |new file mode", line)]
        return "```diff\n" + "\n".join(kept) + "```"
    page.write_text(BLOCK.sub(fresh, page.read_text()))


def refresh(page):
    with tempfile.TemporaryDirectory() as copy:
        git(ROOT, "clone", "-q", "--no-hardlinks", str(ROOT), copy)
        subprocess.run(["patch", "-p1", "-s", "--no-backup-if-mismatch", "-F3"], cwd=copy, input=patch(page), text=True,
                       check=True)
        take_from(page, copy)


def main():
    if len(sys.argv) < 2 or sys.argv[1].startswith("-"):
        sys.exit(__doc__)
    page, options = page_of(sys.argv[1]), sys.argv[2:]
    if options == ["--refresh"]:
        refresh(page)
    elif options[:1] == ["--from"] and len(options) == 2:
        take_from(page, options[1])
    elif options == ["--apply"]:
        done = apply(patch(page), ROOT)
        sys.exit(f"{page.name}: {done.stderr.strip()}" if done.returncode != 0 else 0)
    elif not options:
        print(patch(page), end="")
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main()
