"""One weights digest on 1, 2, 4 and 8 ranks, by messages and by shared memory, in one and two levels,
and when the world was killed and went on with another number of ranks: `trireme-worker --train`."""
import contextlib
import copy
import json
import os
import pathlib
import random
import shlex
import shutil
import signal
import subprocess
import time

import pytest

import sweeps

FASHION = pathlib.Path("/usr/share/datasets/fashion-mnist")
MPI_ENV = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
           "OMPI_MCA_btl_vader_single_copy_mechanism": "none", "OMPI_MCA_pml": "ob1",
           "OMPI_MCA_btl": "self,vader"}

pytestmark = pytest.mark.skipif(not FASHION.exists(), reason="dataset-fashion-mnist is missing")

DATA = {"train": {"format": "idx", "images": str(FASHION / "t10k-images-idx3-ubyte.gz"),
                  "labels": str(FASHION / "t10k-labels-idx1-ubyte.gz")},
        "validation_split": 0.2,
        "transforms": [{"scale": 0.00392156862745098}, {"normalize": "fit"}]}

MLP = {
    "seed": 5, "virtual_shards": 8, "time_metric": "steps", "max_time": 150, "metric": "val_error",
    "data": DATA,
    "model": [{"dense": {"out": 64}}, "gelu", {"dropout": 0.2}, {"dense": {"out": 10}}],
    "training": {"loss": "cross_entropy", "global_batch_size": 64, "clip_norm": 1.0,
                 "optimizer": {"name": "adamw", "lr": 0.002}, "eval_every": 50,
                 "schedule": {"name": "cosine", "warmup_steps": 10}},
    "checkpoint": {"every": 20}, "digest_every": 25,
}

# Statistics and clipping over several buckets: test_one_of_them_has_several_buckets.
CNN = {
    "seed": 6, "virtual_shards": 8, "time_metric": "steps", "max_time": 30, "metric": "val_error",
    "data": {**DATA, "validation_split": 0.05},
    "model": [{"conv2d": {"out": 8, "kernel": 3, "padding": "same"}}, "batch_norm", "relu",
              {"max_pool": 2}, {"conv2d": {"out": 16, "kernel": 3, "padding": "same"}},
              "batch_norm", "relu", {"avg_pool": 2}, "flatten", {"dense": {"out": 96}}, "batch_norm",
              "relu", {"dropout": 0.3}, {"dense": {"out": 10}}],
    "training": {"loss": "cross_entropy", "global_batch_size": 64, "clip_norm": 0.5,
                 "optimizer": {"name": "sgd", "lr": 0.05, "momentum": 0.9, "nesterov": True}},
    "checkpoint": {"every": 4}, "digest_every": 10,
}

MODELS = {"mlp": MLP, "cnn": CNN}
SAME = "weights_digest", "state_digest", "chain", "steps"


def command(bin_dir, file, ranks, *options):
    alone = [str(bin_dir / "trireme-worker"), "--train", str(file), *map(str, options)]
    return alone if ranks == 1 else ["mpirun", "--oversubscribe", "--bind-to", "none", "-n",
                                     str(ranks), *alone]


@pytest.fixture
def train(bin_dir, tmp_path):
    def go(config, ranks=1, *options, fails=False):
        file = tmp_path / "trial.json"
        file.write_text(json.dumps(config))
        done = subprocess.run(command(bin_dir, file, ranks, *options), capture_output=True,
                              text=True, timeout=400, env={**os.environ, **MPI_ENV})
        if fails:
            return done.returncode, done.stderr
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return go


@pytest.fixture(scope="module")
def known():
    return {}


@pytest.fixture
def expected(train, known):
    """What one rank makes of a model, once."""
    def go(name):
        if name not in known:
            known[name] = train(MODELS[name])
        return known[name]

    return go


def test_one_of_them_has_several_buckets(bin_dir, tmp_path):
    """Slots, statistics and norms are per bucket: a net of one shows nothing of them."""
    file = tmp_path / "trial.json"
    file.write_text(json.dumps(CNN))
    plan = json.loads(subprocess.check_output([bin_dir / "trireme-worker", "--plan", file], text=True, timeout=120))
    assert plan["engine"]["buckets"] >= 2


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("ranks", [2, 4, 8])
def test_any_number_of_ranks(train, expected, name, ranks):
    one = expected(name)
    for how in "messages", "memory":
        many = train(MODELS[name], ranks, "--exchange", how)
        assert many["ranks"] == ranks and many["exchange"] == how
        assert [many[k] for k in SAME] == [one[k] for k in SAME]
        assert sweeps.exact_metrics(many["metrics"]) == sweeps.exact_metrics(one["metrics"])


@pytest.mark.parametrize("levels", ["4,2", "2,4", "2,2,2"])
@pytest.mark.parametrize("how", ["messages", "memory"])
def test_two_levels(train, expected, levels, how):
    many = train(MLP, 8, "--levels", levels, "--exchange", how)
    assert [many[k] for k in SAME] == [expected("mlp")[k] for k in SAME]


def test_twice_is_the_same(train, expected):
    assert train(MLP)["chain"] == expected("mlp")["chain"]
    other = train({**MLP, "seed": 7})
    assert other["chain"] != expected("mlp")["chain"]


@pytest.mark.parametrize("name", MODELS)
def test_killed_and_resumed_elsewhere(bin_dir, tmp_path, train, expected, name):
    """kill -9 of the whole world at a random moment, again and again, each time other ranks."""
    seed = random.randrange(10**6)
    print("seed", seed)
    chance = random.Random(seed)
    checkpoint, file = tmp_path / "checkpoint.safetensors", tmp_path / "trial.json"
    file.write_text(json.dumps(MODELS[name]))
    for ranks in 2, 1, 4:
        stamp = checkpoint.stat().st_mtime_ns if checkpoint.exists() else 0
        world = subprocess.Popen(command(bin_dir, file, ranks, "--checkpoint", checkpoint),
                                 stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                 env={**os.environ, **MPI_ENV}, start_new_session=True)
        while world.poll() is None and (
                not checkpoint.exists() or checkpoint.stat().st_mtime_ns == stamp):
            time.sleep(0.001)
        time.sleep(chance.random() * 0.02)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(world.pid, signal.SIGKILL)
        world.wait(120)
    last = train(MODELS[name], 8, "--checkpoint", checkpoint)
    assert last["resumed_at"] > 0
    assert [last[k] for k in SAME] == [expected(name)[k] for k in SAME]


def test_sigterm_ends_all_ranks_at_one_step(bin_dir, tmp_path, train, expected):
    """A world that ends by itself at SIGTERM leaves at one step; the last checkpoint still resumes."""
    checkpoint, file = tmp_path / "c.safetensors", tmp_path / "trial.json"
    file.write_text(json.dumps(MLP))
    world = subprocess.Popen(command(bin_dir, file, 1, "--checkpoint", checkpoint),
                             stdout=subprocess.PIPE, text=True)
    while world.poll() is None and not checkpoint.exists():
        time.sleep(0.001)
    world.send_signal(signal.SIGTERM)
    out, _ = world.communicate(timeout=120)
    assert world.returncode == 0 and json.loads(out)["steps"] <= 150
    assert train(MLP, 2, "--checkpoint", checkpoint)["chain"] == expected("mlp")["chain"]


def test_weights_out_start_another_training(train, tmp_path):
    weights = tmp_path / "w.safetensors"
    train({**MLP, "max_time": 20}, 1, "--weights-out", weights)
    config = copy.deepcopy({**MLP, "max_time": 20})
    config["training"]["initial_weights"] = str(weights)
    one, two = train(config), train(config, 2)
    assert one["weights_digest"] == two["weights_digest"]
    config["model"][0] = {"dense": {"out": 65}}
    code, words = train(config, fails=True)
    assert code == 2 and "tensor 0.weight has shape (64, 784), the model needs (65, 784)" in words


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("unshare") is None, reason="mounting a /dev/shm needs root")
@pytest.mark.parametrize("size", ["64k", "12m"])
def test_a_small_dev_shm(bin_dir, tmp_path, expected, size):
    """A container's: ranks agree to exchange by messages before a page is touched, say so, and the bits are the same."""
    file = tmp_path / "trial.json"
    file.write_text(json.dumps(MLP))
    inside = f"mount -t tmpfs -o size={size} none /dev/shm && exec " + shlex.join(command(bin_dir, file, 2))
    done = subprocess.run(["unshare", "-m", "sh", "-c", inside], capture_output=True, text=True, timeout=300,
                          env={**os.environ, **MPI_ENV})
    if "unshare" in done.stderr or "mount:" in done.stderr:
        pytest.skip("this machine mounts nothing")
    assert done.returncode == 0, done.stderr
    many = json.loads(done.stdout)
    assert many["exchange"] == "messages" and "shared memory in /dev/shm" in many["exchange_because"], many
    assert done.stderr.count("exchange=messages") == 1, done.stderr
    assert [many[k] for k in SAME] == [expected("mlp")[k] for k in SAME]


@pytest.mark.parametrize("ranks", [1, 2])
def test_an_empty_file_is_not_no_file(train, tmp_path, ranks):
    """Neither weights nor a checkpoint: nothing is trained from a start that nobody asked for."""
    empty = tmp_path / "empty.safetensors"
    empty.touch()
    config = copy.deepcopy({**MLP, "max_time": 4})
    code, words = train(config, ranks, "--checkpoint", empty, fails=True)
    assert code != 0 and f"checkpoint {empty}" in words, words
    config["training"]["initial_weights"] = str(empty)
    code, words = train(config, ranks, fails=True)
    assert code == 2 and f"initial_weights {empty}: the file is empty" in words, words


@pytest.mark.parametrize("change, words", [
    ({"virtual_shards": 1}, "2 ranks do not divide virtual_shards (1)"),
    ({"max_time": 0}, "max_time"),
    ({"seed": None}, "seed"),
])
def test_refusals_end_the_world(train, change, words):
    code, said = train({**MLP, **change}, 2, fails=True)
    assert code == 2 and words in said


def test_checkpoint_of_another_configuration_is_refused(train, tmp_path):
    checkpoint = tmp_path / "c.safetensors"
    train(MLP, 1, "--checkpoint", checkpoint)
    code, said = train({**MLP, "seed": 9}, 2, "--checkpoint", checkpoint, fails=True)
    assert code == 5 and "another configuration" in said
    checkpoint.write_bytes(checkpoint.read_bytes()[:5000])
    code, said = train(MLP, 2, "--checkpoint", checkpoint, fails=True)
    assert code in (2, 6) and str(checkpoint) in said
