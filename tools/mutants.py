#!/usr/bin/env python3
"""Plants one fault at a time and asks the tests whether they notice.

    mutants.py [--count 200] [--seed 1] [--room ROOM] [--fresh | --again] [--quick] [--report]       (make mutants)

In a copy of the tree (build/mutants/tree, built warm) one line of a C file is changed: a condition negated, < to <=,
+ to -, && to ||, a constant by one, a statement or a break dropped, a failure returned as STATUS_OK. Changes that do not
compile, or give the same object code, do not count. Then those tests run that reach the line (reach.py counts that once,
in about half an hour): unit tests, simulation and fuzz, with sanitizers, for all changes first; then, for those that
survived, end-to-end tests, the room's own files first, for about two minutes; the first test that fails has noticed.
What fails without a change as well is set aside, and said. Equivalent changes are listed, with a reason,
in tools/mutants-equivalent.txt.

Every answer is written down at once (build/mutants/seed-N.jsonl): run it again, and it goes on where it was. --again asks
today's tests about the survivors; --fresh begins with today's sources. Where that is allowed, tests run in a namespace of
their own: a mutant that writes or kills what it should not finds a read-only machine without other processes.
"""
import argparse
import collections
import dataclasses
import itertools
import json
import os
import pathlib
import random
import re
import shutil
import signal
import subprocess
import sys
import time

from reach import Reach

ROOT = pathlib.Path(__file__).resolve().parents[1]
EQUIVALENT = ROOT / "tools" / "mutants-equivalent.txt"
ROOMS = "core", "wire", "spec", "kernels", "client", "tracker", "coordinator", "worker", "serving"
E2E = {
    "core": ["cli", "bad_input", "sweep", "grammar", "tracker_faults"],
    "wire": ["tracker", "library", "cli", "tracker_faults", "sweep", "faults"],
    "spec": ["bad_input", "cli", "sweep", "configs", "replay"],
    "kernels": ["replay", "old_stores", "worker_exact", "configs"],
    "client": ["cli", "trials", "artifacts", "models", "options", "output", "daemons", "library", "bad_input", "sweep", "export"],
    "tracker": ["tracker", "tracker_faults", "cli", "export", "old_stores"],
    "coordinator": ["sweep", "coordinator_roles", "daemons", "trials", "bad_input", "old_stores", "ends", "faults"],
    "worker": ["worker_refusals", "worker_exact", "worker_group", "tables", "replay", "grammar", "bad_input", "faults", "configs"],
    "serving": ["export", "weights", "models", "cli"],
}
PYTHON = "/usr/bin/python3"
HUNG = 124
CHECKED = "build/san"  # programs run with sanitizers, as in `make proof`: what leaks or reads too far is noticed
PATIENCE_S = 120  # end to end, for a change that nobody notices
# Seen from inside: the tree is /mnt, /tmp and /dev/shm are fresh, everything else can only be read.
CELL = """mount -t tmpfs none /dev/shm && mount --bind "$0" /mnt && mount -t tmpfs none /tmp && mount -o remount,bind,ro / || exit 125
cd /mnt; "$@"; rc=$?; exit $rc"""


# ---- what can be changed ----

@dataclasses.dataclass(frozen=True)
class Change:
    file: str
    line: int
    kind: str
    before: str
    after: str

    @property
    def room(self):
        return self.file.split("/")[0]

    def __str__(self):
        return f"{self.file}:{self.line}: {self.kind}: {self.before.strip()}  ->  {self.after.strip()}"


def masked(text):
    """The same text with comments, literals and preprocessor lines blanked out."""
    blank = lambda m: re.sub(r"[^\n]", " ", m.group())
    text = re.sub(r"/\*.*?\*/|//[^\n]*|\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*'", blank, text, flags=re.S)
    return re.sub(r"^[ \t]*#(?:[^\n]*\\\n)*[^\n]*", blank, text, flags=re.M)


SWAPS = {
    "compare": (r" (<=|>=|==|!=|<|>) ", {"<": "<=", "<=": "<", ">": ">=", ">=": ">", "==": "!=", "!=": "=="}),
    "sign": (r" (\+=|-=|\+|-) ", {"+": "-", "-": "+", "+=": "-=", "-=": "+="}),
    "logic": (r" (&&|\|\|) ", {"&&": "||", "||": "&&"}),
    "bool": (r"\b(true|false)\b", {"true": "false", "false": "true"}),
}
STATEMENT = re.compile(r"^\s+(?:\(void\))?[a-z_][\w.>\[\]*()-]*(?:\(.*\)| (?:[+|&^*/-]|<<|>>)?= .*|\+\+|--);$")
KINDS = [*SWAPS, "negate", "constant", "drop", "return", "break"]


def changes_of_line(line, mask, before, returns):
    """(kind, the changed line) of one line; `before` is the masked line above, `returns` the function's type."""
    for kind, (pattern, to) in SWAPS.items():
        for m in re.finditer(pattern, mask):
            yield kind, line[:m.start(1)] + to[m[1]] + line[m.end(1):]
    m = re.match(r"^(\s*(?:\} else )?(?:if|while) \()(.*)(\)(?: \{)?\s*)$", mask)
    if m and m[2].count("(") == m[2].count(")"):
        yield "negate", f"{line[:m.end(1)]}!({line[m.start(2):m.end(2)]}){line[m.start(3):]}"
    for m in re.finditer(r"(?<![\w.\[])(\d+)(?![\w.])", mask):
        for n in (int(m[1]) + 1, int(m[1]) - 1):
            if n >= 0:
                yield "constant", line[:m.start(1)] + str(n) + line[m.end(1):]
    indent = re.match(r"\s*", line)[0]
    if STATEMENT.match(mask) and not mask.strip().startswith("return") and (before == "" or before[-1] in ";{}):"):
        yield "drop", f"{indent};"
    if mask.strip() == "break;":
        yield "break", f"{indent};"
    if returns == "enum status" and re.match(r"\s+return (?!STATUS_OK).*;$", mask):
        yield "return", f"{indent}return STATUS_OK;"


def changes_of(path, text):
    above, returns = "", ""
    for number, (line, mask) in enumerate(zip(text.split("\n"), masked(text).split("\n")), 1):
        mask = mask.rstrip()
        m = re.match(r"^(?:static |inline |MUST_USE )*([a-z][\w ]*?[\w*]) ?\**\w+\(", mask)
        if m and not mask.endswith(";"):
            returns = m[1]
        if line.startswith((" ", "\t")):
            for kind, after in changes_of_line(line, mask, above.strip(), returns):
                if after != line:
                    yield Change(path, number, kind, line, after)
        if mask.strip():
            above = mask


def equivalents():
    """Lines "file | before | after | reason"; line numbers move, texts do not."""
    table = {}
    for line in EQUIVALENT.read_text().splitlines() if EQUIVALENT.exists() else []:
        if line.strip() and not line.startswith("#"):
            file, before, after, reason = (p.strip() for p in line.split(" | ", 3))
            table[(file, before, after)] = reason
    return table


# ---- the copy ----

class Tree:
    """The copy, its build, and what tests did before anything was changed."""

    def __init__(self, build, fresh, counted):
        self.home = build / "mutants"
        self.path = self.home / "tree"
        if fresh:
            shutil.rmtree(self.home, ignore_errors=True)
        if not (self.home / "ready").exists():
            shutil.rmtree(self.path, ignore_errors=True)
            (self.home / "renewed.json").unlink(missing_ok=True)
            self.copy(build)
        self.planted = self.home / "planted"  # where a change is, while one is: "file\n" and what was there
        self.restore()
        self.known = self.home / "unchanged.json"
        self.seconds = json.loads(self.known.read_text()) if self.known.exists() else {}
        self.cell = self.run(["true"], 60)[0] == 0
        self.reach = Reach(counted or self.path)
        self.new_programs, self.new_nodes = [], []

    def plant(self, file, text):
        self.planted.write_text(f"{file}\n{(self.path / file).read_text()}")
        (self.path / file).write_text(text)

    def restore(self):
        """As it was, also after a run that was killed."""
        if self.planted.exists():
            file, text = self.planted.read_text().split("\n", 1)
            (self.path / file).write_text(text)
            self.planted.unlink()

    def copy(self, build):
        self.renew(shutil.copy2)
        (self.path / "build").mkdir()
        for part in ("obj", "lib", "bin", "flags", "build_id.c"):
            if (build / part).exists():
                subprocess.run(["cp", "-a", build / part, self.path / "build" / part], check=True)
        self.cell = False
        self.build()
        (self.home / "ready").write_text("")

    def build(self):
        print("mutants: building the copy", flush=True)
        if not self.make("build", warm=False) or not self.make("unit-exes", "sim-exes", "fuzz-exes", warm=False, build=CHECKED):
            sys.exit("mutants: the tree does not build")
        for part in ("build/bin", f"{CHECKED}/tests"):
            shutil.rmtree(self.path / f"{part}-unchanged", ignore_errors=True)
            shutil.copytree(self.path / part, self.path / f"{part}-unchanged")

    def renew(self, copy=shutil.copy):
        """Copies what is not as it is here; returns it. Without its times a copy is newer than what was built of it."""
        listed = subprocess.run(["git", "ls-files", "-zco", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True,
                                check=True).stdout.split("\0")
        names = [n for n in listed if n and (ROOT / n).is_file()]
        changed = [n for n in names if not (self.path / n).is_file() or (ROOT / n).read_bytes() != (self.path / n).read_bytes()]
        for name in changed:
            (self.path / name).parent.mkdir(parents=True, exist_ok=True)
            copy(ROOT / name, self.path / name)
        return changed

    def again(self):
        """Takes over today's sources; tests that nobody has counted are asked about every change."""
        kept = self.home / "renewed.json"
        changed = sorted({*self.renew(), *(json.loads(kept.read_text()) if kept.exists() else [])})
        kept.write_text(json.dumps(changed))
        self.build()
        for name in [n for n in self.seconds if n.startswith("build")]:
            del self.seconds[name]
        self.new_programs = [f"{CHECKED}/{n[:-2]}" for n in changed if re.match(r"tests/(unit|sim|fuzz)/.*\.c$", n)]
        files = [n for n in changed if re.match(r"tests/e2e/test_.*\.py$", n)]
        if files:
            out = self.run([PYTHON, "-m", "pytest", "-q", "--collect-only", "-p", "no:cacheprovider", "-m", "not proof", *files],
                           120)[1]
            self.new_nodes = [l for l in out.splitlines() if l in files or "::" in l and l not in self.reach.known()]
        print(f"mutants: {len(self.new_programs)} programs and {len(self.new_nodes)} end-to-end tests are new", flush=True)

    def make(self, *targets, warm=True, build="build"):
        """Nothing is made anew because the build's own digest changed."""
        keep = ["-o", f"{build}/flags", "-o", f"{build}/build_id.c"] if warm else []
        options = [f"BUILD={build}", "CUDA=0", *(["SAN=address,undefined"] if build == CHECKED else [])]
        done = subprocess.run(["make", "-s", "-j2", *options, *keep, *targets], cwd=self.path,
                              capture_output=True, text=True, env=clean_environment())
        return done.returncode == 0

    def run(self, command, limit, env=None):
        """(exit code, output) of a command in its cell; 124: it ran out of time."""
        if getattr(self, "cell", True):
            command = ["unshare", "-m", "-p", "-f", "--kill-child", "--mount-proc", "sh", "-c", CELL, str(self.path), *command]
        child = subprocess.Popen(command, cwd=self.path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                                 errors="replace", start_new_session=True, env={**clean_environment(), **(env or {})})
        try:
            out, _ = child.communicate(timeout=limit)
            return child.returncode, out
        except subprocess.TimeoutExpired:
            return HUNG, ""
        finally:
            if child.poll() is None:
                os.killpg(child.pid, signal.SIGKILL)
                child.wait()

    def object_code(self, file):
        """The bytes a file compiles to without debug information; None where it does not compile."""
        asked = subprocess.run(["make", "-n", "V=1", "BUILD=build", "CUDA=0", "-W", file, "-o", "build/flags",
                                f"build/obj/{file[:-2]}.o"], cwd=self.path, capture_output=True, text=True,
                               env=clean_environment()).stdout
        command = next(l for l in asked.splitlines() if l.rstrip().endswith(file) and " -c -o " in l)
        out = self.home / "object.o"
        command = command.replace(f"-o build/obj/{file[:-2]}.o", f"-o {out}").replace(" -MMD -MP", "").replace(" -Werror", "")
        done = subprocess.run(f"{command} -g0", shell=True, cwd=self.path, capture_output=True)
        return out.read_bytes() if done.returncode == 0 else None

    # -- tests, and how long they took before --
    def programs(self, change):
        """Unit tests, simulation and fuzz that reach the line, nearest first."""
        stem, found = pathlib.Path(change.file).stem, []
        for seconds, name in self.reach.programs(change.file, change.line):
            name = name.replace("build/", f"{CHECKED}/", 1)
            kind, room, test = name.split("/")[-3:]
            found.append(((kind != "unit", room != change.room, stem not in test, seconds), name))
        new = [p for p in self.new_programs if change.file.encode() + b"\0" in (self.path / p).read_bytes()]
        return [name for name in dict.fromkeys(new + [n for _, n in sorted(found)]) if self.before(name) is not None]

    def nodes(self, change):
        """End-to-end tests that reach the line, one of each file in turn, the room's own files first; at most PATIENCE_S."""
        files = collections.defaultdict(list)
        for seconds, node in self.reach.nodes(change.file, change.line):
            if node not in self.seconds:  # it fails unchanged
                files[node.split("::")[0]].append((seconds, node))
        own = [f"tests/e2e/test_{f}.py" for f in E2E[change.room]]
        for file in (f for f in own if f in files):  # a daemon that its tests share was counted to one of them
            files[file] += [n for n in self.reach.nodes_of(file) if n not in files[file] and n[1] not in self.seconds]
        turns = [files[f] for f in sorted(files, key=lambda f: (own.index(f) if f in own else len(own), files[f][0]))]
        chosen = [n for n in self.new_nodes if n not in self.seconds and n.split("::")[0] in own]
        left = PATIENCE_S - len(chosen)
        for seconds, node in (t for turn in itertools.zip_longest(*turns) for t in turn if t is not None):
            if seconds <= left:
                chosen.append(node)
                left -= seconds
        return sorted(chosen, key=lambda n: [own.index(f) if (f := n.split("::")[0]) in own else len(own), f])

    def before(self, name):
        """Seconds that a program took unchanged; None where it failed then."""
        if name not in self.seconds:
            start = time.monotonic()
            code, _ = self.run([name.replace("/tests/", "/tests-unchanged/", 1)], 300)
            self.seconds[name] = round(time.monotonic() - start, 2) if code == 0 else None
            if code != 0:
                print(f"mutants: {name} fails unchanged and is set aside", flush=True)
            self.known.write_text(json.dumps(self.seconds, indent=1))
        return self.seconds[name]

    def pytest(self, nodes, where, limit):
        inside = pathlib.Path("/mnt") if self.cell else self.path
        return self.run([PYTHON, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-m", "not proof", "--tb=line", *nodes],
                        limit, {"TRIREME_BIN": str(inside / "build" / where)})

    def set_aside(self, node):
        print(f"mutants: {node} fails unchanged and is set aside", flush=True)
        self.seconds[node] = None
        self.known.write_text(json.dumps(self.seconds, indent=1))


def clean_environment():
    ours = "MAKEFLAGS", "MFLAGS", "MAKELEVEL", "MAKEOVERRIDES", "SKIPPED"
    kept = {k: v for k, v in os.environ.items() if k not in ours and not k.startswith("TRIREME_")}
    return {"MALLOC_PERTURB_": "173", **kept}  # as tools/run-tests.sh sets it


# ---- one change ----

def noticed_by_programs(tree, change):
    """The unit test, simulation or fuzz that notices, or None. The change is in the tree, and compiles."""
    for name in tree.programs(change):
        if not tree.make(name, build=CHECKED):
            return "the linker"
        code, _ = tree.run([name], 60 + 4 * tree.before(name))
        if code != 0:
            return name.removeprefix(f"{CHECKED}/tests/") + (" (hung)" if code == HUNG else "")
    return None


def noticed_end_to_end(tree, change):
    nodes = tree.nodes(change)
    if not nodes:
        return None
    if not tree.make("build"):
        return "the linker"
    while nodes:
        code, out = tree.pytest(nodes, "bin", 120 + 4 * PATIENCE_S)
        if code == HUNG:
            return f"{nodes[0]} … {nodes[-1]} (hung)"
        failed = re.search(r"^(?:FAILED|ERROR) (.+?)(?: - |$)", out, re.M)
        node = next((n for n in nodes if failed and failed[1].startswith(n)), None)
        if node is None:
            return None
        # A test that fails now and then proves nothing: it must pass unchanged, and fail again.
        if tree.pytest([node], "bin-unchanged", 600)[0] != 0:
            tree.set_aside(node)
        elif tree.pytest([node], "bin", 600)[0] != 0:
            return node.removeprefix("tests/")
        nodes = nodes[nodes.index(node) + 1:]
    return None


def try_one(tree, change, same, end_to_end):
    """What became of a change, and by whom: "noticed", "survived", "same code", "does not compile", "equivalent", "gone"; "open":
    no program has noticed, and nobody asked end to end."""
    if (change.file, change.before.strip(), change.after.strip()) in same:
        return "equivalent", same[(change.file, change.before.strip(), change.after.strip())]
    lines = (tree.path / change.file).read_text().split("\n") if (tree.path / change.file).exists() else []
    places = [i for i, line in enumerate(lines) if line == change.before]
    if not places:
        return "gone", ""
    place = min(places, key=lambda i: abs(i + 1 - change.line))  # sources may have been renewed
    unchanged = tree.object_code(change.file)
    lines[place] = change.after
    try:
        tree.plant(change.file, "\n".join(lines))
        code = tree.object_code(change.file)
        if code is None:
            return "does not compile", ""
        if code == unchanged:
            return "same code", ""
        by = (noticed_end_to_end if end_to_end else noticed_by_programs)(tree, change)
        return ("noticed", by) if by else ("survived" if end_to_end else "open", "")
    finally:
        tree.restore()


def pick(draw, sites, seen):
    """A change not seen yet; every kind is as likely as any other."""
    while True:
        kind = draw.choice(KINDS)
        if sites[kind]:
            change = draw.choice(sites[kind])
            if change not in seen:
                return change


# ---- all of them ----

def report(results):
    counted = [r for r in results if r["result"] in COUNTED]
    print(f"\n{'room':14}{'noticed':>9}{'survived':>10}{'open':>6}")
    for room in ROOMS:
        here = collections.Counter(r["result"] for r in counted if r["file"].startswith(room + "/"))
        if here:
            print(f"{room:14}{here['noticed']:9}{here['survived']:10}{here['open']:6}{100 * here['noticed'] / here.total():7.0f} %")
    others = collections.Counter(r["result"] for r in results if r not in counted)
    if others:
        print("not counted: " + ", ".join(f"{n} {what}" for what, n in others.items()))
    for what in ("survived", "open"):
        for r in counted:
            if r["result"] == what:
                print(f"{what}: {r['file']}:{r['line']}: {r['kind']}: {r['before'].strip()}  ->  {r['after'].strip()}")
    seen = sum(r["result"] == "noticed" for r in counted)
    print(f"mutants: {seen} of {len(counted)} noticed ({100 * seen / max(len(counted), 1):.1f} %)")


COUNTED = "noticed", "survived", "open"


class Answers:
    """What is known of each change, in a file that grows by a line an answer; the last one counts."""

    def __init__(self, path):
        self.path, self.known = path, {}
        for line in path.read_text().splitlines() if path.exists() else []:
            r = json.loads(line)
            self.known[Change(r["file"], r["line"], r["kind"], r["before"], r["after"])] = r

    def ask(self, tree, change, same, end_to_end=False):
        start = time.monotonic()
        result, by = try_one(tree, change, same, end_to_end)
        self.known[change] = {**dataclasses.asdict(change), "result": result, "by": by}
        with self.path.open("a") as out:
            print(json.dumps(self.known[change]), file=out)
        if result in COUNTED:
            print(f"{result:8} {time.monotonic() - start:4.0f} s  {change}{'  by ' + by if by else ''}", flush=True)


def sites_of(tree, room):
    """{kind: [change]} of all files that this build compiles."""
    sites = collections.defaultdict(list)
    for path in sorted(p for r in ROOMS for p in (tree.path / r).rglob("*.c")):
        name = str(path.relative_to(tree.path))
        if name.startswith(room) and (tree.path / "build/obj" / f"{name[:-2]}.o").exists():
            for change in changes_of(name, path.read_text()):
                sites[change.kind].append(change)
    return sites


def all_of_them(args, state):
    tree = Tree(args.build.resolve(), args.fresh, args.counted and args.counted.resolve())
    if not tree.cell:
        print("mutants: no namespaces here: a mutant could write where it should not (run as root)", flush=True)
    answers, same, draw = Answers(state), equivalents(), random.Random(args.seed)
    result = lambda c: answers.known[c]["result"]
    if args.again:
        tree.again()
        chosen_ones = list(answers.known)  # of sources that have changed others would be drawn
    else:
        sites, chosen_ones = sites_of(tree, args.room), []
        while sum(result(c) in COUNTED for c in chosen_ones) < args.count and len(chosen_ones) < sum(map(len, sites.values())):
            change = pick(draw, sites, set(chosen_ones))
            if change not in answers.known:
                answers.ask(tree, change, same)
            chosen_ones.append(change)
    for change in chosen_ones:
        if args.again and result(change) == "survived":
            answers.ask(tree, change, same)
        if (change.file, change.before.strip(), change.after.strip()) in same and result(change) != "equivalent" or \
                not args.quick and result(change) == "open":
            answers.ask(tree, change, same, end_to_end=True)
    report([answers.known[c] for c in chosen_ones])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build")
    parser.add_argument("--count", type=int, default=200, help="changes that count")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--room", default="", help="a room, or the beginning of a path (coordinator/shell)")
    parser.add_argument("--fresh", action="store_true", help="begin again with the sources as they are now")
    parser.add_argument("--again", action="store_true", help="ask today's tests about the survivors")
    parser.add_argument("--counted", type=pathlib.Path, help="a copy of the same sources in which reach.py has counted")
    parser.add_argument("--quick", action="store_true", help="nothing end to end")
    parser.add_argument("--report", action="store_true", help="only what is known")
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    name = f"seed-{args.seed}{'-' + args.room.replace('/', '-') if args.room else ''}.jsonl"
    state = args.build.resolve() / "mutants" / name
    print(f"mutants: seed {args.seed}, {args.count} changes; answers in {state}", flush=True)
    if args.report:
        report(list(Answers(state).known.values()))
    else:
        all_of_them(args, state)


if __name__ == "__main__":
    sys.exit(main())
