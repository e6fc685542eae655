"""`trireme replay`: exact on any number of ranks, and the first divergent step where it is not."""
import hashlib
import os
import re
import shutil
import signal
import struct
from pathlib import Path

import pytest

from sweeps import CNN, CONFIGS, GRID_STEPS, Lab, needs, sweep, until, wait_for_step, write
from wire import ulid

pytestmark = pytest.mark.usefixtures("built")
FIELDS = {"run", "verdict", "ranks", "steps", "weights_digest", "first_divergent_step", "reason"}
STEPS = 40


@pytest.fixture
def built():
    needs("trireme-coordinator", "trireme-worker")


@pytest.fixture(scope="module")
def trained(tmp_path_factory, small):
    """One run on two ranks, with a tracker that stays: (lab, trial, data directory of its own)."""
    needs("trireme-coordinator", "trireme-worker")
    d = tmp_path_factory.mktemp("trained")
    data = shutil.copytree(small, d / "data")
    one = Lab()
    config = sweep(data, steps=STEPS, slots=2, model=CNN, lr=0.01)
    trial = one.run("run", write(d, config), "--json").json["trials"][0]
    one.daemon("tracker")
    yield one, trial, data
    one.stop()


def replay(lab, run, *args, code=0):
    done = lab.run("replay", run, "--json", *args, code=code, timeout=60)
    assert set(done.json) >= FIELDS, done
    return done.json


@pytest.mark.parametrize("ranks", [1, 2, 4, 8])
def test_exact_on_any_number_of_ranks(trained, ranks):
    lab, trial, _ = trained
    answer = replay(lab, trial["run"], "--ranks", ranks)
    assert answer["verdict"] == "exact" and answer["ranks"] == ranks
    assert answer["run"] == trial["run"] and answer["steps"] == STEPS
    assert answer["weights_digest"] == trial["weights_digest"]
    assert answer["first_divergent_step"] is None


def test_as_many_ranks_as_the_run_had(trained):
    lab, trial, _ = trained
    assert replay(lab, trial["run"][:20])["ranks"] == 2


def test_words_for_people(trained):
    lab, trial, _ = trained
    done = lab.run("replay", trial["run"], "--ranks", "1")
    assert "exact" in done.out and str(STEPS) in done.out


def test_until(trained):
    lab, trial, _ = trained
    answer = replay(lab, trial["run"], "--ranks", "1", "--until", "17")
    assert answer["verdict"] == "exact" and answer["steps"] == 17
    assert answer["weights_digest"] != trial["weights_digest"]


def test_until_beyond_the_end(trained):
    lab, trial, _ = trained
    done = lab.run("replay", trial["run"], "--ranks", "1", "--until", 10 * STEPS, "--json", code=None)
    assert done.code == 2 or (done.code == 0 and done.json["steps"] == STEPS), done


def test_ranks_are_refused_before_one_starts(trained):
    """P divides V, or not a rank is started; and no more than the machine's memory and descriptors allow."""
    lab, trial, _ = trained
    done = lab.run("replay", trial["run"], "--ranks", "1000", code=2, timeout=20)
    assert "--ranks 1000 does not divide the run's virtual_shards" in done.err, done.err
    assert "trireme-worker" not in done.err and "mpirun" not in done.err, done.err


def test_ranks_that_do_not_divide(trained):
    lab, trial, _ = trained
    done = lab.run("replay", trial["run"], "--ranks", "3", code=2)
    assert "3" in done.err and "8" in done.err, done


def test_without_a_tracker(trained):
    """Replay needs no daemon to run: it starts a tracker for itself."""
    lab, trial, _ = trained
    lab.kill("trireme-tracker", signo=signal.SIGTERM)
    until(lambda: not lab.processes("trireme-tracker"), "the tracker's end")
    try:
        assert replay(lab, trial["run"], "--ranks", "1", "--until", "3")["verdict"] == "exact"
        assert not lab.processes(), "and stops it"
    finally:
        lab.daemon("tracker")


def test_changed_data_is_found_before_training(trained):
    lab, trial, data = trained
    path = data / "images.idx"
    original = path.read_bytes()
    changed = bytearray(original)
    changed[16 + 784 * 1000 + 400] ^= 1
    path.write_bytes(changed)
    try:
        done = lab.run("replay", trial["run"], "--ranks", "1", "--json", code=5, timeout=60)
        assert done.json["verdict"] == "refused" and done.json["steps"] == 0
        assert "data" in done.json["reason"], done.json
        assert done.json["first_divergent_step"] is None
    finally:
        path.write_bytes(original)
    assert replay(lab, trial["run"], "--ranks", "1")["verdict"] == "exact"


def test_missing_data(trained):
    lab, trial, data = trained
    (data / "labels.idx").rename(data / "elsewhere.idx")
    try:
        done = lab.run("replay", trial["run"], "--ranks", "1", "--json", code=4, timeout=60)
        assert done.json["verdict"] == "refused" and "labels.idx" in done.json["reason"], done
    finally:
        (data / "elsewhere.idx").rename(data / "labels.idx")


# ---- a trace that was tampered with ----

HEADER = struct.Struct("<8sIIQQQ32s32s")


def chained(bits):
    """chain_s = SHA-256(chain_{s-1} | s as u64 | loss bits as u32), as worker/train/trace.h has it."""
    chain = bytes(32)
    for step, b in enumerate(bits, 1):
        chain = hashlib.sha256(chain + struct.pack("<QI", step, b)).digest()
    return chain


def tampered(trace, loss_step=None, mark_step=None, fix_chain=True):
    """The same trace with another loss at one step, or another weights digest at one mark."""
    magic, version, zero, first, steps, marks, before, chain = HEADER.unpack_from(trace)
    assert magic == b"TRITRACE" and version == 2 and first == 0 and before == bytes(32)
    bits = list(struct.unpack_from(f"<{steps}I", trace, HEADER.size))
    assert chained(bits) == chain, "the chain is what its definition says"
    tail = bytearray(trace[HEADER.size + 4 * steps:])
    if loss_step is not None:
        bits[loss_step - 1] ^= 1
    for m in range(marks):
        if struct.unpack_from("<Q", tail, 72 * m)[0] == mark_step:
            tail[72 * m + 8] ^= 1
    return HEADER.pack(magic, version, zero, first, steps, marks, before, chained(bits) if fix_chain else chain) + \
        struct.pack(f"<{steps}I", *bits) + bytes(tail)


@pytest.fixture
def trace(trained):
    """(run, trace, put): a copy of the run that no sweep has closed, and a way to replace its trace."""
    lab, trial, _ = trained
    with lab.wire() as w:
        run = w.request("run.get", run=trial["run"])["run"]
        copy = ulid()
        w.write("run.create", run=copy, experiment=run["experiment"], config=run["config"])
        w.write("run.update", run=copy, manifest=run["manifest"], summary=run["summary"])
        for a in run["artifacts"]:
            w.write("artifact.begin", run=copy, path=a["path"], size=a["size"], digest=a["digest"])
            w.write("artifact.commit", run=copy, path=a["path"], digest=a["digest"])
        w.write("run.update", run=copy, state="completed")
        path = "trace/000000.bin"
        yield copy, w.get(run=copy, path=path), lambda data: w.put(copy, path, data)


@pytest.mark.parametrize("what, step", [("loss_step", 23), ("mark_step", 20), ("loss_step", 1)])
def test_divergence_names_its_first_step(trained, trace, what, step):
    lab, _, _ = trained
    run, original, put = trace
    put(tampered(original, **{what: step}))
    answer = replay(lab, run, "--ranks", "1", code=3)
    assert answer["verdict"] == "diverged" and answer["first_divergent_step"] == step
    assert answer["reason"]
    text = lab.run("replay", run, "--ranks", "1", code=3)
    assert re.search(rf"\b{step}\b", text.out + text.err) and "diverged" in text.out + text.err
    if step > 1:
        assert replay(lab, run, "--until", step - 1)["verdict"] == "exact"


def test_a_broken_trace_is_corrupt(trained, trace):
    lab, _, _ = trained
    run, original, put = trace
    put(tampered(original, loss_step=23, fix_chain=False))
    done = lab.run("replay", run, "--ranks", "1", code=6)
    assert "trace" in done.err


# ---- whatever became of the run ----

def test_a_run_that_was_interrupted_and_resumed(lab, reference):
    """Its second attempt began at a checkpoint; its replay begins at step 1 and is exact all the way."""
    child = lab.start("run", reference.file, "--json")
    wait_for_step(lab, 600)
    lab.kill("trireme-worker", rank=1)
    wait_for_step(lab, 1600)
    child.send_signal(signal.SIGINT)
    sweep_id = re.search(r"trireme resume (\w{26})", lab.finish(child).err).group(1)
    result = lab.run("resume", sweep_id, "--json").json
    trial = result["trials"][0]
    assert trial["attempt"] >= 3 or trial["attempt"] == 2
    shown = lab.run("show", trial["run"], "--json").json
    assert shown["manifest"]["resumed_from"]["step"] >= 200
    answer = replay(lab, trial["run"], "--ranks", "1")
    assert answer["verdict"] == "exact" and answer["steps"] == GRID_STEPS
    assert answer["weights_digest"] == reference.result["trials"][0]["weights_digest"]


@pytest.mark.parametrize("signo", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupted_replay_says_so(trained, signo):
    lab, trial, _ = trained
    child = lab.start("replay", trial["run"], "--json")
    until(lambda: lab.processes("trireme-worker"), "the replay's rank")
    for rank in lab.processes("trireme-worker"):
        os.kill(rank.pid, signal.SIGSTOP)  # or it might be done before the signal comes
    child.send_signal(signo)
    done = lab.finish(child)
    assert done.code == 11 and done.json["error"]["code"] == "cancelled" and "replay was interrupted" in done.err
    until(lambda: not lab.processes("trireme-worker"), "the rank's end")


@pytest.mark.parametrize("who", ["trireme", "mpirun"])
def test_a_killed_replay_leaves_nothing(trained, who):
    """No rank, and none of the files of tens of MiB through which ranks of a node talk."""
    lab, trial, _ = trained
    child = lab.start("replay", trial["run"], "--json", "--ranks", "2")
    ranks = until(lambda: len(lab.processes("trireme-worker")) == 2 and lab.processes("trireme-worker"), "two ranks")
    for rank in ranks:
        os.kill(rank.pid, signal.SIGSTOP)
    places = [Path(ranks[0].environ[f"OMPI_MCA_{name}"])
              for name in ("btl_vader_backing_directory", "orte_tmpdir_base")]
    assert all(p.is_dir() for p in places), places
    os.kill(child.pid if who == "trireme" else lab.processes("mpirun")[0].pid, signal.SIGKILL)
    assert lab.finish(child).code != 0
    until(lambda: not lab.processes("trireme-worker") and not lab.processes("trireme-keeper"), "the end of all")
    assert not [p for p in places if p.exists()] and not list((lab.path / "run").glob("group-*"))


def test_the_best_of_digits(digits):
    best = digits.result["best"]["run"]
    answer = replay(digits, best, "--ranks", "2")
    assert answer["verdict"] == "exact" and answer["ranks"] == 2


def test_by_steps_with_every_option(lab, tmp_path):
    """configs/single-schedule.yaml: strides, pooling, clipping, warm-up, steps."""
    result = lab.run("run", CONFIGS / "single-schedule.yaml", "--json", "--set", "searcher.max_time=120",
                     "--set", "training.eval_every=60").json
    answer = replay(lab, result["trials"][0]["run"], "--ranks", "4")
    assert answer["verdict"] == "exact" and answer["steps"] == 120


def test_unknown_run(lab):
    done = lab.run("replay", "01ARZ3NDEKTSV4RRFFQ69G5FAV", code=4)
    assert "01ARZ3NDEKTSV4RRFFQ69G5FAV" in done.err
