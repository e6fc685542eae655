#!/usr/bin/env python3
"""Sweeps under kills, stops, tiny disks and failing writes, with real processes.

    chaos.py [--rounds 200] [--seed N] [--only N]          (make chaos: CHAOS_ROUNDS, CHAOS_SEED, CHAOS_ONLY)

Each round runs one small sweep in a home of its own and disturbs it: one to three times it kills or stops the command,
the coordinator, the tracker, mpirun or a rank (KILL, TERM, INT, HUP, STOP and CONT); or a disk of 64 KiB to 4 MiB lies
under the home, TMPDIR or /dev/shm; or writes of the tracker fail with EIO. A command that ends early is taken up with
`trireme resume`. All the while a bystander logs to a run of its own and keeps account of what was acknowledged. At the end:

- every command ended with an exit code that the README gives it, and 10 s later nothing of the home ran any more;
- the results have the bits of an undisturbed sweep, and so has every point of every attempt; no attempt's curve has a gap
  or a step twice, and together they have all steps; what was acknowledged is there, once;
- nothing lies about: no spool, no socket, no file in /dev/shm or TMPDIR.

What a round does follows from the seed and its number alone (what it hits also from how fast the machine is). Run as root
it has its own /dev/shm and mounts its disks where nobody else sees them; otherwise rounds with disks are left out, and said.
"""
import argparse
import collections
import contextlib
import json
import os
import pathlib
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "e2e"))
import sweeps  # noqa: E402
from sweeps import ROOT, SANITIZED, Lab, bits_of, running_step, sweep, until, write  # noqa: E402
from test_faults import Bystander, curves  # noqa: E402
from wire import NoAnswer, Wire, WireError, endpoint  # noqa: E402

STEPS = 1200
QUIET_S = 10
PATIENCE_S = 30  # times sweeps.PATIENCE, for whatever must happen at some time: a machine may be busy
VICTIMS = {"command": "trireme", "coordinator": "trireme-coordinator", "tracker": "trireme-tracker", "mpirun": "mpirun",
           "rank 0": "trireme-worker", "rank 1": "trireme-worker"}
SIGNALS = ["KILL", "KILL", "KILL", "TERM", "INT", "HUP", "STOP"]
DISKS = [64, 256, 1024, 4096]  # KiB
# What a command may end with that was told to end, or whose disk is bad (README, "What scripts may rely on").
INTERRUPTED, DISK = {11}, {7, 8, 11, 12}
STEP = re.compile(r"trial (\d+): (\d+)/")
FULL = re.compile(r"full|no space|space left|disk|has not said hello", re.I)


class Fault(Exception):
    """What a round has found."""


def crowd():
    """How many want a core that is there for one; 1 on a quiet machine."""
    return max(1, os.getloadavg()[0] / os.cpu_count())


def expect(condition, what):
    if not condition:
        raise Fault(what)


class Witness(Bystander):
    """A bystander to whom a failing disk is one more reason to ask again."""

    def ask(self, op, frames=(), **fields):
        while True:
            try:
                return super().ask(op, frames, **fields)
            except WireError as e:
                if e.code not in ("io", "internal", "corrupt") or self.ending.is_set():
                    raise
                self.seq -= 1  # the same number: what was stored is not stored twice
                self.hang_up()
                time.sleep(0.05)

    def check(self, few):
        """`few`: hardly anything may have been said."""
        expect(self.error is None, f"the bystander: {self.error!r}")
        if not self.acknowledged:
            expect(few, "the bystander got nothing acknowledged")
            return
        with self.lab.wire() as w:
            points, _ = w.metric(self.run_id, "x")
        steps = [s for s, _, _ in points]
        expect(len(steps) == len(set(steps)), "a resend was applied twice")
        stored = {s: v for s, _, v in points}
        missing = sorted(s for s, v in self.acknowledged.items() if stored.get(s) != v)
        expect(not missing, f"{len(missing)} acknowledged points are gone: {missing[:10]}")


def steps_of(w, sweep_id):
    """[(run, key, [steps as stored])] of all attempts."""
    found = []
    for run in w.request("run.list", sweep=sweep_id, limit=1000)["runs"]:
        for key in ("train_loss", "val_loss", "val_error"):
            with contextlib.suppress(WireError):
                found.append((run["run"], key, [s for s, _, _ in w.metric(run["run"], key, rank=0)[0]]))
    return found


class Undisturbed:
    """The sweep file, and what it gives when nobody disturbs it."""

    def __init__(self, directory):
        data = digits_of(directory)
        config = sweep(data, name="chaos", steps=STEPS, slots=2, max_slots=2, searcher={"name": "grid"},
                       model=[{"dense": {"out": 48}}, "relu", {"dropout": 0.1}, {"dense": {"out": 10}}],
                       hyperparameters={"lr": {"type": "log", "minval": 1e-3, "maxval": 1e-2, "count": 3}},
                       checkpoint={"every": 100}, digest_every=100, max_restarts=20,
                       training={"loss": "cross_entropy", "optimizer": {"name": "adamw", "lr": "${lr}"},
                                 "global_batch_size": 64, "eval_every": 100})
        self.file = write(directory, config)
        lab = Lab()
        try:
            self.result = lab.run("run", self.file, "--json", timeout=PATIENCE_S * crowd()).json
            lab.daemon("tracker")
            with lab.wire() as w:
                self.curves = curves(w, self.result["sweep"])
                self.order = {key: s for _, key, s in steps_of(w, self.result["sweep"])}
        finally:
            lab.stop()


def digits_of(directory):
    """sweeps.small without pytest."""
    data = directory / "data"
    data.mkdir()

    class Factory:
        @staticmethod
        def mktemp(_):
            return data

    return sweeps.small.__wrapped__(Factory)


# ---- a round ----

class Round:
    def __init__(self, seed, number, scene, undisturbed, eio):
        self.draw = random.Random(f"{seed}/{number}")
        self.scene, self.reference, self.eio = scene, undisturbed, eio
        self.lab = Lab()
        self.scratch = pathlib.Path(tempfile.mkdtemp(prefix="trireme-tmp-"))
        self.lab.env |= {"TMPDIR": str(self.scratch)}
        self.did, self.hits, self.orderly = [], 0, True
        self.errors = open(self.lab.path.with_name(self.lab.path.name + ".err"), "w+")
        self.child = self.sweep_id = None
        self.told = set()  # the codes that the running command may end with, besides 0
        self.mounts = []

    # -- the command --
    def begin(self):
        self.sweep_id = self.sweep_id or self.known_sweep()
        what = ["resume", self.sweep_id] if self.sweep_id else ["run", self.reference.file]
        self.told = set()
        self.out = tempfile.TemporaryFile("w+")
        self.child = self.lab.start(*what, "--json", stdout=self.out, stderr=self.errors)

    def known_sweep(self):
        """The sweep that an earlier command has stored, if it came to that."""
        if not (self.lab.path / "store").exists() or self.lab.processes("trireme-tracker"):
            return None
        done = self.lab.run("ls", "--ids", code=None, timeout=PATIENCE_S * crowd())
        expect(done.code == 0, f"ls ended with {done.code}: {done.err.strip()[-300:]}")
        return done.out.split()[0] if done.out.split() else None

    def said(self):
        self.errors.flush()
        return pathlib.Path(self.errors.name).read_text(errors="replace")

    def over(self):
        return self.child.poll() is not None

    def patiently(self, condition, what):
        """The condition, at some time. It is waited for in vain when no step was done for a long while: how long a
        sweep takes is the machine's business."""
        seen, deadline = None, 0
        while not condition():
            now = time.monotonic()
            at = STEP.findall(self.said())[-1:]
            if at != seen:
                seen, deadline = at, now + PATIENCE_S * sweeps.PATIENCE * min(crowd(), 4)
            elif now > deadline:
                raise Fault(f"waited in vain for {what}: {self.said().strip()[-300:]!r}; {self.lab.processes()}")
            time.sleep(0.02)

    def end(self):
        """The exit code; within 10 s nothing of the home is left."""
        self.patiently(self.over, "the end of the command")
        code = self.child.returncode
        allowed = {0} | self.told
        expect(code in allowed, f"exit code {code}, not {sorted(allowed)}: {self.said().strip()[-400:]}")
        self.quiet()
        return code

    def quiet(self):
        try:
            self.lab.assert_quiet(QUIET_S * min(crowd(), 3))
        except AssertionError:
            raise Fault(f"still there {QUIET_S} s after the end: {self.lab.processes()}") from None

    # -- kills and stops --
    def moment(self):
        """Waits for a moment of the sweep: soon after the start, or a step of a trial. Ends with the command."""
        if self.draw.random() < 0.15:
            name = self.draw.choice(["trireme-tracker", "trireme-coordinator", "mpirun", "trireme-worker"])
            until(lambda: self.over() or self.lab.processes(name), name, PATIENCE_S * crowd())
            return f"as {name} starts"
        trial, step = self.draw.randint(1, 3), self.draw.randint(1, STEPS - 200)
        with self.lab.wire("coordinator") as w:
            def passed():
                at, now = running_step(w)
                return self.over() or at > trial or (at == trial and now > step)
            self.patiently(passed, f"step {step} of trial {trial}")
        return f"at {trial}/{step}"

    def disturb(self):
        victim, signal_name = self.draw.choice(list(VICTIMS)), self.draw.choice(SIGNALS)
        pause = self.draw.uniform(0.05, 1.5)
        when = self.moment()
        name = VICTIMS[victim]
        rank = int(victim[-1]) if victim.startswith("rank") else None
        found = [p for p in self.lab.processes(name, rank) if victim != "command" or p.pid == self.child.pid]
        if not found:
            return
        if victim == "command" and signal_name != "STOP":
            # Before it has taken hold of its signals it dies of them.
            self.told |= {-getattr(signal, f"SIG{signal_name}")} if signal_name == "KILL" or "starts" in when else set()
            self.told |= INTERRUPTED
        elif signal_name != "STOP" and victim == "coordinator":
            self.told |= INTERRUPTED  # told to end, it interrupts what runs
        if signal_name in ("KILL", "HUP") and victim in ("tracker", "coordinator", "command"):
            self.orderly = False  # its sockets stay where they are
        with contextlib.suppress(ProcessLookupError):
            os.kill(found[0].pid, getattr(signal, f"SIG{signal_name}"))
            self.hits += 1
            self.did.append(f"{signal_name} {victim} {when}")
            if signal_name == "STOP":
                time.sleep(pause)  # the disturbance itself
                os.kill(found[0].pid, signal.SIGCONT)

    def kills(self):
        for _ in range(self.draw.randint(1, 3)):
            if self.over():
                if self.end() == 0:
                    return
                self.begin()
            self.disturb()

    # -- disks --
    def mount(self, where, kib):
        where.mkdir(exist_ok=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={kib}k,mode=1777", "none", where], check=True)
        self.mounts.append(where)
        self.did.append(f"{kib} KiB under {'the home' if where == self.lab.path else where.name if where != self.scratch else 'TMPDIR'}")

    def enlarge(self, where):
        subprocess.run(["mount", "-o", "remount,size=512m", where], check=True)

    def small_home(self):
        """It ends with 7, or says within a while that the disk is full, and goes on once there is room."""
        self.mount(self.lab.path, self.draw.choice(DISKS))
        self.begin()
        self.told |= DISK
        until(lambda: self.over() or FULL.search(self.said()), "a word about the full disk", PATIENCE_S * crowd())
        self.enlarge(self.lab.path)
        if self.over() and self.end() != 0:
            expect(FULL.search(self.said()), f"a full disk, and not a word of it: {self.said()[-300:]!r}")
            self.begin()

    def small_tmp(self):
        self.mount(self.scratch, self.draw.choice(DISKS))
        self.begin()
        self.told |= DISK | {1}
        if self.end() != 0:
            expect(len(self.said().strip()) > 20, "nothing said")
            self.enlarge(self.scratch)
            self.begin()

    def small_shm(self):
        self.mount(pathlib.Path("/dev/shm"), self.draw.choice(DISKS))
        self.begin()

    def failing_writes(self):
        program = self.draw.choice(["trireme-tracker"] * 3 + ["trireme-worker", "trireme-coordinator"])
        first, count = self.draw.randint(1, 250), self.draw.choice([1, 1, 3, 20])
        self.lab.env |= {"LD_PRELOAD": str(self.eio), "EIO_UNDER": str(self.lab.path), "EIO_PROGRAM": program,
                         "EIO_FIRST": str(first), "EIO_COUNT": str(count), "EIO_ONCE": str(self.lab.path) + ".once"}
        self.did.append(f"EIO in {program}, write {first}{f' and {count - 1} more' if count > 1 else ''}")
        self.orderly = False
        self.begin()
        self.told |= DISK | {6}

    # -- all of it --
    def run(self):
        bystander = Witness(self.lab)
        try:
            if self.scene in ("kills", "small /dev/shm", "EIO"):
                {"kills": self.begin, "small /dev/shm": self.small_shm, "EIO": self.failing_writes}[self.scene]()
                bystander.start()
            if self.scene == "kills":
                self.kills()
            elif self.scene == "small home":
                self.small_home()
            elif self.scene == "small TMPDIR":
                self.small_tmp()
            for _ in range(4):
                if self.end() == 0:
                    break
                for name in ("LD_PRELOAD", "EIO_PROGRAM"):
                    self.lab.env.pop(name, None)
                self.begin()
            expect(self.child.returncode == 0, f"four times resumed and still {self.child.returncode}")
            self.finish_bystander(bystander)
            self.check(bystander)
            self.lying_about()
        except AssertionError as e:
            raise Fault(str(e)[:2000]) from None
        finally:
            self.finish_bystander(bystander)

    @staticmethod
    def finish_bystander(bystander):
        bystander.ending.set()
        if bystander.ident is not None:
            bystander.join(60)

    def check(self, bystander):
        self.out.seek(0)
        result = json.loads(self.out.read())
        expect(result["state"] == "completed", f"the sweep is {result['state']}")
        expect(bits_of(result) == bits_of(self.reference.result), "other bits than the undisturbed sweep")
        self.lab.daemon("tracker")
        with self.lab.wire() as w:
            states = collections.Counter(r["state"] for r in
                                         w.request("run.list", sweep=result["sweep"], limit=1000)["runs"])
            expect(not {"running", "queued"} & set(states), f"runs still open: {dict(states)}")
            expect(curves(w, result["sweep"]) == self.reference.curves, "curves with gaps, or other bits")
            for run, key, steps in steps_of(w, result["sweep"]):
                expect(len(steps) == len(set(steps)), f"run {run}, {key}: a step twice")
                whole = self.reference.order[key]
                first = whole.index(steps[0]) if steps else 0
                expect(steps == whole[first:first + len(steps)],
                       f"run {run}, {key}: a gap in {steps[:5]} … {steps[-5:]}")
        if bystander.ident is not None:
            bystander.check(few=self.scene == "EIO")
        tracker = self.lab.children[-1]
        tracker.terminate()
        code = tracker.wait(60)
        expect(code == 0, f"the tracker ended with {code} after SIGTERM")
        self.quiet()

    def lying_about(self):
        spools = [p.name for p in self.lab.path.rglob("*.spool*")]
        expect(not spools, f"spools left: {spools}")
        sockets = [p.name for p in self.lab.path.rglob("*.sock")]
        expect(not sockets or not self.orderly, f"sockets left: {sockets}")
        here = [str(p.relative_to(self.scratch)) for p in self.scratch.rglob("*")]
        expect(not here, f"left in TMPDIR: {here[:10]}")
        if os.environ.get("CHAOS_ALONE"):
            shm = os.listdir("/dev/shm")
            expect(not shm, f"left in /dev/shm: {shm}")

    def close(self):
        self.lab.stop()
        self.errors.close()
        for where in reversed(self.mounts):
            subprocess.run(["umount", "-l", where], check=False)
        shutil.rmtree(self.lab.path, ignore_errors=True)
        shutil.rmtree(self.scratch, ignore_errors=True)
        for name in (self.errors.name, str(self.lab.path) + ".once"):
            pathlib.Path(name).unlink(missing_ok=True)
        if os.environ.get("CHAOS_ALONE"):
            for name in os.listdir("/dev/shm"):
                os.unlink(f"/dev/shm/{name}")


def scenes(rounds, seed):
    """Mostly kills; of every ten rounds one has a disk and one a bad one. Alone, all have their turn early."""
    draw = random.Random(seed)
    alone = os.environ.get("CHAOS_ALONE")
    disks = ["small home", "small TMPDIR", "small /dev/shm", "EIO"] if alone else ["EIO"]
    draw.shuffle(disks)
    return [disks[i // 5 % len(disks)] if i % 5 == 2 else "kills" for i in range(rounds)]


def alone(arguments):
    """Again, in a mount namespace with a /dev/shm of its own."""
    script = 'mount -t tmpfs -o mode=1777 none /dev/shm && CHAOS_ALONE=1 exec "$@"'
    os.execvp("unshare", ["unshare", "-m", "sh", "-c", script, "sh", sys.executable, __file__, *arguments])


def leave_out(why):
    """Says so, and tells tools/skipped.py."""
    print(f"chaos: {why}", flush=True)
    if os.environ.get("SKIPPED"):
        table = pathlib.Path(os.environ["SKIPPED"])
        table.parent.mkdir(parents=True, exist_ok=True)
        with table.open("a") as out:
            print(1, "tests/chaos/chaos.py", why, sep="\t", file=out)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=int(os.environ.get("CHAOS_ROUNDS") or 200))
    parser.add_argument("--seed", type=int, default=int(os.environ.get("CHAOS_SEED") or time.time_ns() % 1_000_000))
    parser.add_argument("--only", type=int, default=int(os.environ.get("CHAOS_ONLY") or 0), help="one round, by its number")
    parser.add_argument("--keep", type=pathlib.Path, default=ROOT / "build" / "chaos", help="where failed rounds leave their logs")
    args = parser.parse_args()
    if os.geteuid() == 0 and not os.environ.get("CHAOS_ALONE") and shutil.which("unshare"):
        if subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode == 0:
            alone([*(["--rounds", str(args.rounds)]), "--seed", str(args.seed), "--only", str(args.only), "--keep", str(args.keep)])
    if not os.environ.get("CHAOS_ALONE"):
        leave_out("no root, no namespace: rounds with disks are left out")
    print(f"chaos: seed {args.seed}, {args.rounds} rounds", flush=True)
    with tempfile.TemporaryDirectory(prefix="trireme-chaos-") as directory:
        directory = pathlib.Path(directory)
        eio = directory / "eio.so"
        subprocess.run([os.environ.get("CC", "cc"), "-shared", "-fPIC", "-O1", "-o", eio, HERE / "eio.c", "-ldl"], check=True)
        undisturbed = Undisturbed(directory)
        failed, hits = [], 0
        for number, scene in enumerate(scenes(args.rounds, args.seed), 1):
            if args.only and number != args.only:
                continue
            if scene == "EIO" and SANITIZED:
                continue  # a sanitizer wants to be the first library
            start = time.monotonic()
            one = Round(args.seed, number, scene, undisturbed, eio)
            try:
                one.run()
                verdict = "ok"
            except Fault as e:
                verdict = f"FAIL: {e}"
                failed.append(number)
                kept = args.keep / f"seed-{args.seed}-round-{number}.txt"
                kept.parent.mkdir(parents=True, exist_ok=True)
                kept.write_text(f"{scene}: {one.did}\n{e}\n--- stderr of the commands\n{one.said()}\n{one.lab.logs()}")
            finally:
                hits += one.hits
                one.close()
            print(f"{number:4} {time.monotonic() - start:5.1f} s  {scene}: {'; '.join(one.did)}: {verdict}", flush=True)
    print(f"chaos: seed {args.seed}: {args.rounds if not args.only else 1} rounds, {hits} kills and stops, {len(failed)} failed"
          f"{f' (rounds {failed}; CHAOS_ONLY={failed[0]} repeats one, logs in {args.keep})' if failed else ''}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
