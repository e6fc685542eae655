"""`trireme artifacts` and `trireme artifact`: a run's files, listed and fetched whole."""
import hashlib
import os
import subprocess

import pytest

from sweeps import BIN, Lab
from wire import endpoint, ulid

BYTES = os.urandom(3 << 20)  # more than one chunk


@pytest.fixture(scope="module")
def stored():
    """(lab, run): a run with two artifacts; the tracker stays."""
    one = Lab()
    try:
        one.daemon("tracker")
        run = ulid()
        with one.wire() as w:
            w.write("run.create", run=run, experiment="files")
            w.put(run, "a/large.bin", BYTES)
            w.put(run, "note.txt", b"")
        yield one, run
    finally:
        one.stop()


def test_they_are_listed(stored):
    lab, run = stored
    files = lab.run("artifacts", run[:20], "--json").json
    assert files == [{"path": "a/large.bin", "size": len(BYTES), "digest": hashlib.sha256(BYTES).hexdigest()},
                     {"path": "note.txt", "size": 0, "digest": hashlib.sha256(b"").hexdigest()}]
    out = lab.run("artifacts", run).out
    assert "a/large.bin" in out and "3.1 MB" in out, out
    assert lab.run("artifacts", ulid(), code=4).out == ""


def test_more_than_one_reply_holds(stored):
    """run.get leaves files in folders out where they do not fit, and says how many there are; nobody misses one."""
    lab, _ = stored
    run, count, meta = ulid(), 52, {f"k{i}": "x" * 10000 for i in range(6)}
    paths = sorted([f"checkpoints/{i:012}.safetensors" for i in range(count)] + ["model.safetensors", "z"])
    with lab.wire() as w:
        w.write("run.create", run=run, experiment="many")
        for path in paths:
            digest = hashlib.sha256(path.encode()).hexdigest()
            w.send("artifact.begin", run=run, path=path, size=len(path), digest=digest, meta=meta)
            w.send("artifact.chunk", frames=[path.encode()], digest=digest, offset=0)
            w.send("artifact.commit", run=run, path=path, digest=digest)
        for _ in range(3 * len(paths)):
            w.receive()
        got = w.request("run.get", run=run)["run"]
        some = [a["path"] for a in got["artifacts"]]
        assert got["artifacts_total"] == len(paths) > len(some) and {"model.safetensors", "z"} < set(some)
        pages, after = [], {}
        while True:
            page = w.request("artifact.list", run=run, limit=20, **after)
            pages.append([a["path"] for a in page["artifacts"]])
            if not page["more"]:
                break
            after = {"after": pages[-1][-1]}
        assert sum(pages, []) == paths and len(pages) > 2 and all(len(p) <= 20 for p in pages)
    assert [a["path"] for a in lab.run("artifacts", run, "--json").json] == paths
    assert lab.run("artifact", run, paths[count - 1], "-o", "-").out == paths[count - 1]


def test_they_are_fetched_whole(stored, tmp_path):
    lab, run = stored
    file = tmp_path / "large"
    file.write_bytes(b"old")
    done = lab.run("artifact", run, "a/large.bin", "-o", file)
    assert done.out == "" and file.read_bytes() == BYTES
    assert [p.name for p in tmp_path.iterdir()] == ["large"], "nothing else is left"
    lab.run("artifact", run, "note.txt", "-o", file)
    assert file.read_bytes() == b""
    with open(tmp_path / "out", "wb") as out:
        lab.run("artifact", run, "a/large.bin", "-o", "-", stdout=out)
    assert (tmp_path / "out").read_bytes() == BYTES
    with open("/dev/full", "wb") as out:
        lab.run("artifact", run, "a/large.bin", "-o", "-", stdout=out, code=7)


def test_what_is_not_there_is_said(stored, tmp_path):
    lab, run = stored
    file = tmp_path / "x"
    done = lab.run("artifact", run, "a/large", "-o", file, code=4)
    assert "'a/large'" in done.err and f"trireme artifacts {run}" in done.err
    lab.run("artifact", ulid(), "note.txt", "-o", file, code=4)
    assert "-o is missing" in lab.run("artifact", run, "note.txt", code=2).err
    assert "is a directory" in lab.run("artifact", run, "note.txt", "-o", tmp_path, code=2).err
    assert not file.exists()


def test_what_is_there_already_stays_what_it_is(stored, tmp_path):
    """A link, a pipe, standard output by its name: written to, never replaced by a file."""
    lab, run = stored
    (tmp_path / "link").symlink_to("file")
    lab.run("artifact", run, "a/large.bin", "-o", tmp_path / "link")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "file").read_bytes() == BYTES
    (tmp_path / "out").symlink_to("/proc/self/fd/1")
    done = subprocess.run([BIN / "trireme", "artifact", run, "a/large.bin", "-o", tmp_path / "out"], env=lab.env,
                          stdout=subprocess.PIPE, timeout=120)
    assert done.returncode == 0 and done.stdout == BYTES and (tmp_path / "out").is_symlink()


def test_the_tracker_of_another_home(stored, tmp_path):
    """`--tracker` of each of these reaches it, and no daemon of one's own is started."""
    theirs, run = stored
    where = endpoint(theirs.path, "tracker")
    mine = Lab()
    try:
        assert mine.run("artifacts", run, "--tracker", where, "--json").json[1]["path"] == "note.txt"
        mine.run("artifact", run, "note.txt", "-o", tmp_path / "x", "--tracker", where)
        assert mine.run("show", run, "--tracker", where, "--json").json["run"] == run
        assert mine.run("models", "--tracker", where, "--json").json == []
        for args in (["export", run, "-o", tmp_path / "out"], ["promote", run, "m"],
                     ["export", f"--tracker={where}", run, "-o", tmp_path / "out"]):
            more = [] if f"--tracker={where}" in args else ["--tracker", where]
            done = mine.run(*args, *more, code=None)
            assert done.code in (2, 5) and run in done.err, "the run was found there, and has no model"
            assert mine.run(*(a for a in args if "--tracker" not in str(a)), code=4).out == "", "here it is not"
        for args in (["export", run, "-o", "x"], ["promote", run, "m"], ["show", run], ["artifacts", run]):
            assert "--keys" in mine.run(*args, "--keys", "k", code=2).err
            assert "--tracker-key" in mine.run(*args, "--tracker", "tcp://h:1", "--keys", "k", code=2).err
    finally:
        assert not mine.stop()
