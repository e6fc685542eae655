"""Training on GPUs, whole trials of it: one digest whatever the ranks, the exchange, where the data lies and the
order in which threads run; killed and resumed elsewhere; not finite; a device that fails; memory that is short;
replay. On the stand-ins of the CUDA libraries (tests/standin), with nets and data as small as they can be.
(One process that stays warm: tests/unit/worker/test_trainer_gpu.c.)"""
import json
import os
import random
import re
import signal
import subprocess
import time

import pytest

from sweeps import BIN, PATIENCE, Lab, exact_metrics, idx, needs, sweep, until, write
from test_exchange_device import MPI_ENV, NAMES, alive, ranks_of

STANDIN = BIN.parent / "standin" / "lib"
ENV = {"TRIREME_CUDA_BACKEND": str(STANDIN / "libtrireme-cuda.so"), "TRIREME_NCCL": str(STANDIN / "libnccl.so.2"),
       "TRIREME_STANDIN_GPUS": "8"}
SAME = "weights_digest", "state_digest", "chain", "steps"

pytestmark = [pytest.mark.toolkit, pytest.mark.skipif(not (STANDIN / "libtrireme-cuda.so").exists(),
                                                      reason=f"no stand-ins in {STANDIN}: make standin")]

MLP = [{"dense": {"out": 24}}, "gelu", {"dropout": 0.2}, {"dense": {"out": 17}}, "sigmoid", {"dense": {"out": 4}}]
CNN = [{"conv2d": {"out": 4, "kernel": 3, "padding": "same"}}, "batch_norm", "relu", {"max_pool": 2},
       {"conv2d": {"out": 6, "kernel": 3, "stride": 2, "padding": 1}}, "gelu", {"avg_pool": {"kernel": 2, "stride": 1}},
       {"dropout": 0.2}, "flatten", {"dense": {"out": 12}}, "tanh", {"dense": {"out": 4}}]
ADAMW = {"name": "adamw", "lr": 0.01}
MOMENTUM = {"name": "sgd", "lr": 0.05, "momentum": 0.9, "nesterov": True}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Images of 10 by 10 in 4 classes: a lit quarter in noise. 320 of them, and 40,000 to run out of room."""
    folder, chance = tmp_path_factory.mktemp("images"), random.Random(1)
    labels = bytes(chance.randrange(4) for _ in range(320))
    pixels = bytes(chance.randrange(160) + 90 * (x // 5 + 2 * (y // 5) == label)
                   for label in labels for y in range(10) for x in range(10))
    idx(folder / "images.idx", (320, 10, 10), pixels)
    idx(folder / "labels.idx", (320,), labels)
    idx(folder / "many.idx", (40000, 10, 10), pixels * 125)
    idx(folder / "many-labels.idx", (40000,), labels * 125)
    return folder


@pytest.fixture
def config(data):
    def make(model, optimizer, images="images.idx", labels="labels.idx", **more):
        training = {"loss": "cross_entropy", "global_batch_size": 32, "optimizer": optimizer}
        rest = {k: more.pop(k) for k in list(more) if k in ("max_time", "virtual_shards", "device", "checkpoint")}
        return {"seed": 5, "virtual_shards": 8, "time_metric": "steps", "max_time": 6, "metric": "val_error",
                "device": "cuda", "digest_every": 4, "model": model, "training": training | more,
                "data": {"train": {"format": "idx", "images": str(data / images), "labels": str(data / labels)},
                         "validation_split": 0.2, "transforms": [{"scale": 1 / 255}, {"normalize": "fit"}]}} | rest

    return make


@pytest.fixture
def start(tmp_path):
    """A world of ranks as a process; `alone`: variables of the last rank only."""
    needs("trireme-worker")

    def go(config, ranks, *options, mode="--train", alone=None, **env):
        file = tmp_path / "trial.json"
        file.write_text(json.dumps(config))
        rank = [str(BIN / "trireme-worker"), mode, str(file), *map(str, options)]
        world = ["mpirun", "--oversubscribe", "--bind-to", "none", "-n", str(ranks - bool(alone)), *rank]
        for name, value in (alone or {}).items():
            world += [":", "-n", "1", "-x", f"{name}={value}", *rank]
        return subprocess.Popen(rank if ranks == 1 else world, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                text=True, env={**os.environ, **MPI_ENV, **ENV, "OMP_NUM_THREADS": "1", **env})

    return go


@pytest.fixture
def ended(start):
    """(exit code, what was printed, what was said)"""
    def go(*args, **more):
        world = start(*args, **more)
        try:
            out, words = world.communicate(timeout=40 * PATIENCE)
        except subprocess.TimeoutExpired:
            world.kill()
            out, words = world.communicate()
            pytest.fail(f"{world.args} hangs\n{out}\n{words}")
        return world.returncode, out, words

    return go


@pytest.fixture
def train(ended):
    def go(*args, **more):
        code, out, words = ended(*args, **more)
        assert code == 0, words
        return json.loads(out)

    return go


def bits(result):
    return [result[k] for k in SAME], exact_metrics(result["metrics"])


# ---- one digest ----

# (ranks, exchange, data streamed): every number of ranks meets every exchange once, every net both kinds of data.
CASES = {
    "mlp-fp32": (MLP, MOMENTUM, {}, [(2, "memory", True), (8, "nccl", False)]),
    "mlp-tf32": (MLP, ADAMW, {"precision": "tf32", "clip_norm": 0.5}, [(4, "messages", True), (2, "nccl", False)]),
    "mlp-bf16": (MLP, ADAMW, {"precision": "bf16"}, [(8, "memory", False), (4, "nccl", True)]),
    "cnn-fp32": (CNN, ADAMW, {"clip_norm": 0.5}, [(8, "messages", False), (2, "nccl", True)]),
    "cnn-tf32": (CNN, MOMENTUM, {"precision": "tf32"}, [(4, "memory", False), (8, "nccl", True)]),
    "cnn-bf16": (CNN, ADAMW, {"precision": "bf16", "clip_norm": 0.5}, [(2, "messages", True), (4, "nccl", False)]),
}


@pytest.mark.parametrize("name", CASES)
def test_one_digest(config, train, name):
    """Threads, blocks and free nodes of a graph come in another order each time: races would show."""
    model, optimizer, training, worlds = CASES[name]
    trial = config(model, optimizer, **training)
    expected = bits(train(trial, 1))
    assert bits(train(trial, 1, "--stream-data", TRIREME_STANDIN_ORDER="reverse")) == expected
    for order, (ranks, how, streamed) in zip(("random:1", "reverse"), worlds):
        many = train(trial, ranks, "--exchange", how, *["--stream-data"] * streamed, TRIREME_STANDIN_ORDER=order)
        assert many["exchange"] == NAMES[how] and many["ranks"] == ranks
        assert bits(many) == expected, (ranks, how, streamed, order)


def test_another_seed_has_other_bits(config, train):
    trial = config(CNN, ADAMW, precision="bf16")
    assert train(trial, 1)["chain"] != train({**trial, "seed": 6}, 1)["chain"]


# ---- killed ----

@pytest.mark.parametrize("how, ranks, then", [("memory", 2, 4), ("nccl", 4, 1)])
def test_killed_and_resumed_elsewhere(config, start, train, tmp_path, how, ranks, then):
    trial = config(MLP, ADAMW, max_time=100, clip_norm=0.5, eval_every=100, checkpoint={"every": 4})
    checkpoint = tmp_path / "c.safetensors"
    world = start(trial, ranks, "--exchange", how, "--checkpoint", checkpoint)
    until(lambda: checkpoint.exists() or world.poll() is not None, "a checkpoint", 40)
    group = ranks_of(world)
    assert len(group) == ranks, world.communicate(timeout=60)
    os.kill(group[-1], signal.SIGKILL)
    until(lambda: not any(map(alive, group)), "the end of the group")
    assert world.wait(5 * PATIENCE) != 0
    world.communicate()
    last = train(trial, then, "--checkpoint", checkpoint)
    assert 0 < last["resumed_at"] < 100 and last["ranks"] == then
    assert [last[k] for k in SAME] == [train(trial, 1)[k] for k in SAME]


# ---- not finite ----

@pytest.mark.parametrize("how", ["memory", "nccl"])
def test_not_finite_is_told_as_the_cpu_tells_it(config, ended, how):
    """The step and the layer, on the CPU, on a GPU, on two."""
    said = [ended(config([{"dense": {"out": 8}}, {"dense": {"out": 8}}, {"dense": {"out": 4}}],
                         {"name": "sgd", "lr": 40.0}, max_time=60, device=device), ranks, *options)
            for device, ranks, options in (("cpu", 1, []), ("cuda", 1, []), ("cuda", 2, ["--exchange", how]))]
    assert [code for code, _, _ in said] == [10, 10, 10], said
    words = [re.search(r"step \d+: .*", words) for _, _, words in said]
    assert re.fullmatch(r"step [2-9]: (loss|gradient) is not finite; model\[\d\] dense: .*", words[0].group(0))
    assert [w.group(0) for w in words] == [words[0].group(0)] * 3


# ---- a device that fails ----

ECC, ILLEGAL = "ECC cannot restore", "a kernel reached outside its memory"


@pytest.mark.parametrize("fails, code, words", [
    ("cudaLaunchKernel:20:700", 8, ILLEGAL),
    ("cudaGraphLaunch:3:214", 8, ECC),
    ("cudaMemcpyAsync:9:214", 8, ECC),
    ("cudaGraphInstantiate:1:2", 13, "make a recording: out of memory"),
    ("cudaGraphInstantiate:1:1", 8, "make a recording: invalid argument"),
    ("cudaMalloc:7:2", 13, "no memory for"),
    ("cudaHostAlloc:1:2", 13, "no memory for"),
])
def test_a_device_that_fails(config, ended, fails, code, words):
    begin = time.monotonic()
    got, out, said = ended(config(CNN, ADAMW, max_time=1000), 1, TRIREME_STANDIN_FAIL=fails)
    assert (got, out) == (code, "") and words in said, said
    assert time.monotonic() - begin < 10 * PATIENCE


@pytest.mark.parametrize("how, fails, code, words", [
    ("memory", "cudaLaunchKernel:70:700", 8, ILLEGAL),
    ("messages", "cudaLaunchKernel:150:214", 8, ECC),
    ("memory", "cudaMalloc:7:2", 13, "no memory for"),
    ("nccl", "cudaGraphLaunch:3:214", 8, ECC),
    ("nccl", "cudaGraphInstantiate:1:2", 13, "make a recording: out of memory"),
])
def test_one_of_two_devices_fails(config, ended, how, fails, code, words):
    """The other rank does not wait for ever, and what is told is the cause."""
    begin = time.monotonic()
    got, out, said = ended(config(CNN, ADAMW, max_time=1000), 2, "--exchange", how,
                           alone={"TRIREME_STANDIN_FAIL": fails})
    assert (got, out) == (code, "") and words in said, said
    assert time.monotonic() - begin < 15 * PATIENCE


def test_a_lost_device_takes_one_group_along_and_no_trial(data, lab):
    """Its group ends; others train what it had. In each process here the tenth step of a GPU is its last."""
    needs("trireme-coordinator", "trireme-worker")
    lab.env |= ENV | {"TRIREME_STANDIN_FAIL": "cudaGraphLaunch:10:214"}
    trials = sweep(data, steps=8, model=MLP, batch=32, lr="${lr}", device="cuda", searcher={"name": "grid"},
                   hyperparameters={"lr": {"type": "categorical", "vals": [0.01, 0.02, 0.03]}})
    result = lab.run("run", write(lab.path, trials), "--json").json
    assert [t["state"] for t in result["trials"]] == ["completed"] * 3, result
    assert ECC in lab.logs()


# ---- memory that is short ----

@pytest.fixture
def least(ended):
    """The least memory of a GPU, to a MiB, on which a trial can be planned."""
    def go(config):
        low, high = 1, 1024
        while high - low > 1:
            middle = (low + high) // 2
            code, _, words = ended(config, 1, mode="--plan", TRIREME_STANDIN_MEMORY=str(middle << 20))
            assert code in (0, 2, 8), words  # the last: not even for the libraries
            low, high = (low, middle) if code == 0 else (middle, high)
        return high << 20

    return go


WIDE = [{"conv2d": {"out": 16, "kernel": 1}}, "gelu", {"dropout": 0.1}, "tanh", "gelu", "flatten",
        {"dense": {"out": 4}}]


def test_the_largest_batch_that_fits(config, ended, train, least):
    """Refused before the first step with a batch that would do; that one trains, one more does not."""
    def of(batch):
        return config(WIDE, ADAMW, global_batch_size=batch, virtual_shards=1, max_time=1)

    memory = str(least(of(128)))
    code, out, words = ended(of(256), 1, TRIREME_STANDIN_MEMORY=memory)
    fits = re.search(r"the largest training\.global_batch_size that fits is (\d+)", words)
    assert code == 2 and out == "" and fits, words
    batch = int(fits.group(1))
    assert 128 <= batch < 256
    assert train(of(batch), 1, TRIREME_STANDIN_MEMORY=memory)["steps"] == 1
    assert fits.group(0) in ended(of(batch + 1), 1, TRIREME_STANDIN_MEMORY=memory)[2]


def test_data_that_does_not_fit_is_streamed(config, ended, train, least):
    trial = config(CNN, ADAMW, images="many.idx", labels="many-labels.idx", max_time=3)
    trial["data"]["validation_split"] = 0.002
    small, large = str(least(trial)), str(1 << 30)

    def feed(memory):
        code, out, words = ended(trial, 1, mode="--plan", TRIREME_STANDIN_MEMORY=memory)
        assert code == 0, words
        return json.loads(out)["loader"]

    assert (feed(small), feed(large)) == ("streamed", "resident")
    streamed, resident = (train(trial, 1, TRIREME_STANDIN_MEMORY=m) for m in (small, large))
    assert bits(streamed) == bits(resident)


# ---- replay ----

@pytest.fixture(scope="module")
def recorded(tmp_path_factory, data):
    """A run on two GPUs, with a tracker that stays: (lab, trial)."""
    needs("trireme-coordinator", "trireme-worker")
    one = Lab()
    one.env |= ENV
    trial = sweep(data, steps=8, slots=2, model=CNN, batch=32, device="cuda",
                  training={"loss": "cross_entropy", "optimizer": ADAMW, "global_batch_size": 32,
                            "precision": "bf16", "clip_norm": 0.5})
    try:
        result = one.run("run", write(tmp_path_factory.mktemp("recorded"), trial), "--json").json["trials"][0]
        assert result["state"] == "completed", one.logs()
        one.daemon("tracker")
        yield one, result
    finally:
        one.stop()


@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_replay_on_other_numbers_of_ranks(recorded, ranks):
    lab, trial = recorded
    answer = lab.run("replay", trial["run"], "--ranks", ranks, "--json").json
    assert answer["verdict"] == "exact" and (answer["ranks"], answer["steps"]) == (ranks, 8)
    assert answer["weights_digest"] == trial["weights_digest"]
    spoken = lab.run("replay", trial["run"], "--ranks", ranks).out
    assert spoken.startswith("exact") and "although" not in spoken, "the same algorithms for any number of shards"


def test_the_manifest_says_what_computed(recorded):
    lab, trial = recorded
    manifest = lab.run("show", trial["run"], "--json").json["manifest"]
    assert manifest["device"]["device"] == "cuda" and manifest["exchange"] == "nccl"
    assert manifest["engine"]["precision"] == "bf16" and manifest["ranks"] == 2
    assert {"cuda", "cublas", "cudnn", "mpi"} <= manifest["libraries"].keys()
    algorithms = manifest["engine"]["algorithms"]
    assert algorithms["model[0] conv2d"] and algorithms["model[9] dense"]


def test_replay_without_a_gpu_says_why(recorded):
    lab, trial = recorded
    gone = {"TRIREME_CUDA_BACKEND": "/nowhere/libtrireme-cuda.so"}
    lab.env |= gone
    try:
        done = lab.run("replay", trial["run"], "--ranks", "1", code=None)
        assert done.code == 8 and "exact" not in done.out, done
        assert "/nowhere/libtrireme-cuda.so" in done.out + done.err, done
    finally:
        lab.env |= ENV
