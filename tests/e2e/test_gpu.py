"""What a GPU must show: the same bits in every run, after every kill, on any number of ranks of one
card; memory that is planned, and given back. On a real GPU (`make test-gpu`), or with
TRIREME_CUDA_BACKEND on the stand-ins (tests/standin), where the nets are smaller. Where no GPU
answers, everything here is skipped, with the reason.

It needs pytest and the executables alone, so that it runs on a machine where little else is:

    pytest --noconftest tests/e2e/test_gpu.py          TRIREME_BIN, FASHION_MNIST say where
"""
import copy
import json
import math
import os
import pathlib
import random
import re
import shutil
import signal
import subprocess
import tempfile
import time

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
BIN = pathlib.Path(os.environ.get("TRIREME_BIN") or ROOT / "build" / "bin")
UNIT = BIN.parent / "tests" / "unit" / "kernels"
FASHION = pathlib.Path(os.environ.get("FASHION_MNIST") or "/usr/share/datasets/fashion-mnist")
SANITIZER_S = int(os.environ.get("TRIREME_SANITIZER_S") or 600)
# Ranks find each other in this machine alone, and share its first GPU.
ENV = {**os.environ, "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1", "OMPI_MCA_pml": "ob1",
       "OMPI_MCA_btl": "self,vader", "OMPI_MCA_btl_vader_single_copy_mechanism": "none", "OMP_NUM_THREADS": "1"}


def what_is_here():
    """(the GPUs that can be used, why there is none)."""
    if not (BIN / "trireme-worker").exists():
        return [], f"no executables in {BIN}: run make first"
    done = subprocess.run([BIN / "trireme-worker", "--devices", "--json"], capture_output=True, text=True, env=ENV)
    if done.returncode != 0:
        return [], done.stderr.strip() or f"trireme-worker --devices ended with {done.returncode}"
    said = json.loads(done.stdout)
    usable = [g for g in said["gpus"] if g.get("gpu")]
    return usable, said.get("no_gpu") or "; ".join(g.get("error", "a GPU does not answer") for g in said["gpus"])


GPUS, WHY = what_is_here()
STANDIN = bool(GPUS) and GPUS[0]["gpu"] == "stand-in"
if GPUS and not STANDIN:
    ENV["CUDA_VISIBLE_DEVICES"] = (os.environ.get("CUDA_VISIBLE_DEVICES") or "0").split(",")[0]

pytestmark = [pytest.mark.skipif(not GPUS, reason=f"no GPU: {WHY}"),
              pytest.mark.skipif(not FASHION.exists(), reason=f"no Fashion-MNIST in {FASHION}")]
hardware = pytest.mark.skipif(STANDIN, reason="stand-ins are no hardware")

PRECISIONS = "fp32", "tf32", "bf16"
STEPS, EVERY = (6, 2) if STANDIN else (8000, 200)  # long enough to be killed in
BATCH = 64 if STANDIN else 256
WIDE = 4 if STANDIN else 1  # by how much the stand-ins' nets are narrower

# The nets of configs/fashion-mlp.yaml and configs/fashion-cnn.yaml.
MLP = ["flatten", {"dense": {"out": 256 // WIDE}}, "gelu", {"dropout": {"rate": 0.1}}, {"dense": {"out": 128 // WIDE}},
       "gelu", {"dense": {"out": 10}}]
CNN = [{"conv2d": {"out": 32 // WIDE, "kernel": 3, "padding": "same"}}, "batch_norm", "relu", {"max_pool": 2},
       {"conv2d": {"out": 64 // WIDE, "kernel": 3, "padding": "same"}}, "batch_norm", "relu", {"max_pool": 2},
       "flatten", {"dense": {"out": 128 // WIDE}}, "relu", {"dropout": 0.3}, {"dense": {"out": 10}}]
NETS = {"mlp": (MLP, {"name": "adamw", "lr": 0.001, "weight_decay": 0.01}), "cnn": (CNN, {"name": "adam", "lr": 0.002})}
CASES = [(net, precision) for net in NETS for precision in PRECISIONS]
SAME = "weights_digest", "state_digest", "chain", "steps"
SPEED = "samples_per_s", "mfu", "exchange_share", "memory_bytes"  # of the machine, not of the run


def config(net, precision, steps=STEPS, **more):
    model, optimizer = NETS[net]
    return {
        "seed": 7, "virtual_shards": 8, "device": "cuda", "time_metric": "steps", "max_time": steps, "metric": "val_error",
        "data": {"train": {"format": "idx", "images": str(FASHION / "t10k-images-idx3-ubyte.gz"),
                           "labels": str(FASHION / "t10k-labels-idx1-ubyte.gz")},
                 "validation_split": 0.01 if STANDIN else 0.1, "transforms": [{"scale": 1 / 255}, {"normalize": "fit"}]},
        "model": model, "digest_every": EVERY, "checkpoint": {"every": EVERY},
        "training": {"loss": "cross_entropy", "optimizer": optimizer, "precision": precision, "global_batch_size": BATCH,
                     "schedule": {"name": "cosine", "warmup_steps": 2}, "eval_every": steps},
    } | more


class Trainer:
    """trireme-worker --train on this test's folder."""

    def __init__(self, folder):
        self.folder = folder

    def start(self, trial, ranks=1, *options, **env):
        file = self.folder / f"trial-{time.monotonic_ns()}.json"
        file.write_text(json.dumps(trial))
        alone = [BIN / "trireme-worker", "--train", file, *options]
        world = ["mpirun", "--oversubscribe", "--bind-to", "none", "-n", ranks, *alone]
        return subprocess.Popen([str(c) for c in (alone if ranks == 1 else world)], stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE, text=True, start_new_session=True, env={**ENV, **env})

    def end(self, world, timeout=300):
        try:
            out, words = world.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            os.killpg(world.pid, signal.SIGKILL)
            out, words = world.communicate()
            pytest.fail(f"{world.args} did not end in {timeout} s\n{words}")
        except KeyboardInterrupt:
            os.killpg(world.pid, signal.SIGKILL)
            raise
        return world.returncode, out, words

    def __call__(self, trial, ranks=1, *options, **env):
        code, out, words = self.end(self.start(trial, ranks, *options, **env))
        assert code == 0, words
        return json.loads(out)

    def refused(self, trial, ranks=1, *options, **env):
        code, out, words = self.end(self.start(trial, ranks, *options, **env), 60)
        assert code != 0, out
        return code, words


@pytest.fixture
def train(tmp_path):
    return Trainer(tmp_path)


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    """What one rank makes of a net in a precision, once."""
    known, trainer = {}, Trainer(tmp_path_factory.mktemp("expected"))

    def go(net, precision):
        if (net, precision) not in known:
            known[net, precision] = trainer(config(net, precision))
        return known[net, precision]

    return go


def same(got, want):
    assert {k: got[k] for k in SAME} == {k: want[k] for k in SAME}


def exact(metrics):
    return {k: v for k, v in metrics.items() if k not in SPEED}


# ---- the same bits ----

@pytest.mark.parametrize("net, precision", CASES)
def test_two_runs(train, expected, net, precision):
    again = train(config(net, precision))
    same(again, expected(net, precision))
    assert exact(again["metrics"]) == exact(expected(net, precision)["metrics"])


@pytest.mark.parametrize("net, precision", CASES)
def test_killed_and_resumed(train, expected, tmp_path, net, precision):
    """kill -9 at a random moment after a checkpoint, again and again, on one rank and on two."""
    checkpoint, trial = tmp_path / "checkpoint.safetensors", config(net, precision)
    want, chance, seed = expected(net, precision), random.Random(), random.randrange(10**6)
    print("seed", seed)
    chance.seed(seed)
    for ranks in (1, 2):
        stamp = checkpoint.stat().st_mtime_ns if checkpoint.exists() else 0
        world = train.start(trial, ranks, "--checkpoint", checkpoint)
        while world.poll() is None and (not checkpoint.exists() or checkpoint.stat().st_mtime_ns == stamp):
            time.sleep(0.001)
        time.sleep(chance.random() * 0.02)
        assert world.poll() is None, "the trial ended before it was killed: it must be longer"
        os.killpg(world.pid, signal.SIGKILL)
        world.communicate(timeout=120)
    last = train(trial, 1, "--checkpoint", checkpoint)
    assert 0 < last["resumed_at"] < STEPS
    same(last, want)


@pytest.mark.parametrize("ranks", [2, 4, 8])
@pytest.mark.parametrize("net, precision", CASES)
def test_ranks_on_one_card(train, net, precision, ranks, known_short):
    """NCCL refuses two ranks on one GPU: bytes go by way of the host, and the bits are one rank's."""
    want = known_short(net, precision)
    for how in ("memory", "messages") if ranks == 2 else ("memory",):
        many = train(short(net, precision), ranks, "--exchange", how)
        assert many["ranks"] == ranks and many["exchange"] == f"staged {how}"
        same(many, want)
        assert exact(many["metrics"]) == exact(want["metrics"])


def short(net, precision):
    return config(net, precision, steps=3 if STANDIN else 300)


@pytest.fixture(scope="module")
def known_short(tmp_path_factory):
    known, trainer = {}, Trainer(tmp_path_factory.mktemp("short"))

    def go(net, precision):
        if (net, precision) not in known:
            known[net, precision] = trainer(short(net, precision))
        return known[net, precision]

    return go


@pytest.mark.parametrize("net", NETS)
def test_data_streamed(train, known_short, net):
    """Data in host memory, fetched by a thread as it is needed: the bits of data on the GPU."""
    same(train(short(net, "fp32"), 1, "--stream-data"), known_short(net, "fp32"))


@pytest.mark.parametrize("net", NETS)
def test_precisions_differ_in_their_last_bits(known_short, net):
    got = {p: known_short(net, p) for p in PRECISIONS}
    assert len({r["weights_digest"] for r in got.values()}) == 3
    for p in "tf32", "bf16":
        assert got[p]["metrics"]["val_loss"] == pytest.approx(got["fp32"]["metrics"]["val_loss"], rel=0.15)


@pytest.mark.parametrize("net", NETS)
def test_close_to_the_cpu(train, known_short, net):
    trial = short(net, "fp32")
    trial["device"] = "cpu"
    cpu, gpu = train(trial)["metrics"], known_short(net, "fp32")["metrics"]
    if STANDIN:  # so few steps that rounding has not grown
        assert gpu["train_loss"] == pytest.approx(cpu["train_loss"], rel=1e-4)
    else:
        assert gpu["val_loss"] == pytest.approx(cpu["val_loss"], rel=0.05)
        assert gpu["val_error"] < 0.25


@hardware
@pytest.mark.parametrize("net, precision", CASES)
def test_it_learns(expected, net, precision):
    metrics = expected(net, precision)["metrics"]
    assert metrics["val_error"] < 0.2 and math.isfinite(metrics["val_loss"])


@pytest.mark.skipif(len(GPUS) < 2, reason="one GPU")
@pytest.mark.parametrize("net, precision", CASES)
def test_a_gpu_for_each_rank(train, known_short, net, precision):
    every = ",".join(str(g["index"]) for g in GPUS)
    for ranks in (n for n in (2, 4, 8) if n <= len(GPUS)):
        many = train(short(net, precision), ranks, "--exchange", "nccl", CUDA_VISIBLE_DEVICES=every)
        assert many["exchange"] == "nccl"
        same(many, known_short(net, precision))


# ---- refusals ----

def test_nccl_on_a_shared_card_is_refused(train):
    code, words = train.refused(short("mlp", "fp32"), 2, "--exchange", "nccl")
    assert code == 8 and re.search(r"ranks 0 and 1 share a GPU .*NCCL wants one for each", words), words


@hardware
def test_no_visible_gpu_is_refused(train):
    code, words = train.refused(short("mlp", "fp32"), CUDA_VISIBLE_DEVICES="-1")
    assert code == 8 and "CUDA_VISIBLE_DEVICES" in words


# ---- memory ----

def hungry(memory, batch):
    """A net whose activations take a third more than a card's memory, whatever its size."""
    width = 512 if STANDIN else 8192
    layers = math.ceil(1.35 * memory / (batch * width * 4))
    assert layers <= 250, "the card is larger than this test can fill"
    trial = config("mlp", "fp32", steps=1, virtual_shards=1)
    trial["model"] = [{"dense": {"out": width}}, *["relu"] * layers, {"dense": {"out": 10}}]
    trial["data"] = {"train": {"format": "idx", "images": str(FASHION / "train-images-idx3-ubyte.gz"),
                               "labels": str(FASHION / "train-labels-idx1-ubyte.gz")},
                     "transforms": [{"scale": 1 / 255}]}
    trial["training"]["global_batch_size"] = batch
    del trial["training"]["schedule"], trial["checkpoint"]
    return trial


def test_out_of_memory_is_refused_and_the_largest_batch_fits(train):
    memory = 150_000_000 if STANDIN else GPUS[0]["memory"]
    env = {"TRIREME_STANDIN_MEMORY": str(memory)} if STANDIN else {}
    trial = hungry(memory, 512 if STANDIN else 49152)
    code, words = train.refused(trial, **env)
    found = re.search(r"the largest training.global_batch_size that fits is (\d+)", words)
    assert found and "GiB are free" in words, words
    fits = copy.deepcopy(trial)
    fits["training"]["global_batch_size"] = int(found.group(1))
    assert train(fits, **env)["steps"] == 1


# ---- many trials in one process ----

SWEEP = """
name: short trials
hyperparameters:
  lr: {{type: log, minval: 0.001, maxval: 0.01}}
  hidden: {{type: categorical, vals: [16, 48]}}
  act: {{type: categorical, vals: [relu, gelu]}}
  precision: {{type: categorical, vals: [fp32, tf32, bf16]}}
searcher: {{name: random, metric: val_error, max_trials: {trials}, max_time: {steps}, time_metric: steps}}
resources: {{slots_per_trial: 1, max_slots: 1}}
device: cuda
data:
  dir: {fashion}
  train: {{format: idx, images: t10k-images-idx3-ubyte.gz, labels: t10k-labels-idx1-ubyte.gz}}
  validation_split: {split}
  transforms: [{{scale: 0.00392156862745098}}]
model: [{{dense: {{out: "${{hidden}}"}}}}, "${{act}}", {{dropout: 0.1}}, {{dense: {{out: 10}}}}]
training:
  {{loss: cross_entropy, optimizer: {{name: adamw, lr: "${{lr}}"}}, precision: "${{precision}}", global_batch_size: 64,
   eval_every: {steps}}}
checkpoint: {{every: {steps}}}
"""


@pytest.fixture(scope="module")
def sweep():
    """A finished sweep of short trials of six kinds of plan, one after another in one worker."""
    home = tempfile.mkdtemp(prefix="trireme-gpu-")  # short: sockets lie below it
    file = pathlib.Path(home) / "sweep.yaml"
    file.write_text(SWEEP.format(trials=100, steps=2 if STANDIN else 50, fashion=FASHION, split=0.01 if STANDIN else 0.2))
    env = {**ENV, "TRIREME_HOME": home}
    done = subprocess.run([BIN / "trireme", "run", file, "--json", "--quiet"], capture_output=True, text=True, env=env,
                          timeout=300)
    logs = "".join(p.read_text(errors="replace")[-2000:] for p in pathlib.Path(home, "log").glob("*"))
    assert done.returncode == 0, done.stderr + logs
    yield env, json.loads(done.stdout)["trials"]
    shutil.rmtree(home, ignore_errors=True)


def test_a_hundred_trials_leave_no_memory_behind(sweep):
    """The card's memory in use, as the driver tells it, is that of the first round of all kinds."""
    _, trials = sweep
    assert len(trials) == 100 and all(t["state"] == "completed" for t in trials)
    trials = sorted(trials, key=lambda t: t["trial"])
    used = [t["metrics"]["memory_bytes"] for t in trials]
    kinds = [tuple(t["hyperparameters"][k] for k in ("hidden", "act", "precision")) for t in trials]
    seen = max(kinds.index(kind) for kind in set(kinds)) + 1  # trials until each kind had its turn
    assert seen <= 80, kinds
    print(f"device memory: first {seen} trials at most {max(used[:seen]):.0f}, last 20 {max(used[-20:]):.0f} bytes")
    assert max(used[-20:]) <= max(used[:seen]) + (2 << 20)


def test_a_trial_after_others_has_the_bits_of_a_fresh_process(sweep, train):
    env, trials = sweep
    for trial in random.Random(3).sample(trials[1:], 4):
        shown = subprocess.run([BIN / "trireme", "show", trial["run"], "--json"], capture_output=True, text=True, env=env)
        assert shown.returncode == 0, shown.stderr
        alone = train(json.loads(shown.stdout)["config"])
        assert alone["weights_digest"] == trial["weights_digest"], trial


# ---- compute-sanitizer ----

SANITIZER = shutil.which("compute-sanitizer") or shutil.which("compute-sanitizer", path="/usr/local/cuda/bin")


@hardware
@pytest.mark.skipif(SANITIZER is None, reason="compute-sanitizer is not installed")
@pytest.mark.parametrize("tool", ["memcheck", "racecheck"])
@pytest.mark.parametrize("program", ["test_cuda", "test_cuda_operators"])
def test_sanitized(tool, program):
    if not (UNIT / program).exists():
        pytest.skip(f"{UNIT / program} is not built")
    library = os.environ.get("TRIREME_CUDA_BACKEND") or str(BIN.parent / "lib" / "libtrireme-cuda.so")
    command = [SANITIZER, "--tool", tool, "--error-exitcode", "86", UNIT / program]
    world = subprocess.Popen([str(c) for c in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                             start_new_session=True, env={**ENV, "TRIREME_CUDA_BACKEND": library})
    try:
        out, _ = world.communicate(timeout=SANITIZER_S)
    except subprocess.TimeoutExpired:
        os.killpg(world.pid, signal.SIGKILL)
        out, _ = world.communicate()
        found = re.findall(r"=========.*(?:Invalid|Race|Error|hazard).*", out)
        assert not found, "\n".join(found[:20])
        pytest.skip(f"{tool} of {program} was clean for {SANITIZER_S} s, and not at its end (TRIREME_SANITIZER_S)")
    assert world.returncode == 0, out[-6000:]
