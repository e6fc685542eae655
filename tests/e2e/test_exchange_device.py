"""Ranks with a GPU each, and ranks that share one: the worker as it is, against stand-ins of the CUDA
libraries (tests/standin). The digest is that of one rank by NCCL and by way of host memory; what
cannot be is refused in words; a rank that dies takes its group along."""
import json
import os
import pathlib
import re
import signal
import subprocess
import time

import pytest

FASHION = pathlib.Path("/usr/share/datasets/fashion-mnist")
MPI_ENV = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
           "OMPI_MCA_btl_vader_single_copy_mechanism": "none", "OMPI_MCA_pml": "ob1",
           "OMPI_MCA_btl": "self,vader"}

pytestmark = [pytest.mark.toolkit, pytest.mark.skipif(not FASHION.exists(), reason="dataset-fashion-mnist is missing")]

MLP = {
    "seed": 5, "virtual_shards": 8, "time_metric": "steps", "max_time": 6, "metric": "val_error",
    "data": {"train": {"format": "idx", "images": str(FASHION / "t10k-images-idx3-ubyte.gz"),
                       "labels": str(FASHION / "t10k-labels-idx1-ubyte.gz")},
             "validation_split": 0.005, "transforms": [{"scale": 0.00392156862745098}]},
    "model": [{"dense": {"out": 64}}, "relu", {"dense": {"out": 10}}],
    "training": {"loss": "cross_entropy", "global_batch_size": 64, "clip_norm": 1.0,
                 "optimizer": {"name": "adamw", "lr": 0.002}},
}
NO_CLIP = {**MLP, "training": {k: v for k, v in MLP["training"].items() if k != "clip_norm"}}
SAME = "weights_digest", "state_digest", "chain", "steps"
NAMES = {"nccl": "nccl", "messages": "staged messages", "memory": "staged memory"}


@pytest.fixture(scope="module")
def standin(bin_dir):
    folder = bin_dir.parent / "standin" / "lib"
    if not (folder / "libtrireme-cuda.so").exists():
        pytest.skip(f"no stand-ins in {folder}: make standin")
    return {"TRIREME_CUDA_BACKEND": str(folder / "libtrireme-cuda.so"),
            "TRIREME_NCCL": str(folder / "libnccl.so.2"), "TRIREME_STANDIN_GPUS": "8"}


@pytest.fixture
def start(bin_dir, standin, tmp_path):
    """A world of ranks on GPUs, as a process."""
    def go(config, ranks, *options, **env):
        file = tmp_path / "trial.json"
        file.write_text(json.dumps(config))
        alone = [str(bin_dir / "trireme-worker"), "--train", str(file), "--device", "cuda", *options]
        world = ["mpirun", "--oversubscribe", "--bind-to", "none", "-n", str(ranks), *alone]
        return subprocess.Popen(alone if ranks == 1 else world, stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE, text=True,
                                env={**os.environ, **MPI_ENV, **standin, **env})

    return go


@pytest.fixture
def train(start):
    def go(config, ranks, *options, **env):
        world = start(config, ranks, *options, **env)
        out, words = world.communicate(timeout=400)
        assert world.returncode == 0, words
        return json.loads(out)

    return go


@pytest.fixture
def refuse(start):
    def go(config, ranks, *options, **env):
        world = start(config, ranks, *options, **env)
        _, words = world.communicate(timeout=60)
        return world.returncode, words

    return go


@pytest.fixture(scope="module")
def known():
    return {}


@pytest.fixture
def expected(train, known):
    def go(name, config):
        if name not in known:
            known[name] = train(config, 1)
        return [known[name][k] for k in SAME]

    return go


@pytest.mark.parametrize("how", NAMES)
@pytest.mark.parametrize("ranks", [2, 4, 8])
def test_any_number_of_ranks(train, expected, how, ranks):
    for name, config in ("clip", MLP), ("no clip", NO_CLIP):
        many = train(config, ranks, "--exchange", how)
        assert many["exchange"] == NAMES[how] and many["ranks"] == ranks
        assert [many[k] for k in SAME] == expected(name, config)


@pytest.mark.parametrize("how", NAMES)
@pytest.mark.parametrize("levels", ["4,2", "2,2,2"])
def test_levels(train, expected, how, levels):
    many = train(MLP, 8, "--exchange", how, "--levels", levels)
    assert [many[k] for k in SAME] == expected("clip", MLP)


def test_the_way_is_chosen(train, expected):
    """A GPU for each rank: NCCL. One for all, or no library: by way of the host, and the same bits."""
    assert train(MLP, 2)["exchange"] == "nccl"
    for env in {"TRIREME_STANDIN_GPUS": "1"}, {"TRIREME_NCCL": "/nowhere/libnccl.so.2"}:
        shared = train(MLP, 2, **env)
        assert shared["exchange"] == "staged memory"
        assert [shared[k] for k in SAME] == expected("clip", MLP)


@pytest.mark.parametrize("env, words", [
    ({"TRIREME_STANDIN_GPUS": "1"}, r"ranks 0 and 1 share a GPU \(.*\), and NCCL wants one for each"),
    ({"TRIREME_NCCL": "/nowhere/libnccl.so.2"}, r"NCCL cannot be loaded \(/nowhere/libnccl.so.2"),
    ({"TRIREME_STANDIN_NCCL_VERSION": "21707"}, r"is version 2.17.7, 2.18 or newer is needed"),
])
def test_refusals(refuse, env, words):
    code, said = refuse(MLP, 2, "--exchange", "nccl", **env)
    assert code == 8 and re.search(words, said), said


def test_library_sums(train, expected):
    """NCCL adds in an order of its own, which four ranks show; what goes by the host stays exact."""
    loose = {**MLP, "bitwise": False}
    exact = expected("clip", MLP)
    by_nccl, by_host = train(loose, 4), train(loose, 4, "--exchange", "memory")
    assert by_nccl["weights_digest"] != exact[0] and by_host["weights_digest"] == exact[0]
    assert by_nccl["metrics"]["train_loss"] == pytest.approx(by_host["metrics"]["train_loss"], 1e-3)


@pytest.mark.parametrize("how", NAMES)
def test_not_finite(refuse, how):
    """One rank's flag stops all, at the same step."""
    config = {**NO_CLIP, "max_time": 60, "model": [{"dense": {"out": 64}}, {"dense": {"out": 10}}],
              "training": {**NO_CLIP["training"], "optimizer": {"name": "sgd", "lr": 1000000}}}
    alone, many = refuse(config, 1), refuse(config, 4, "--exchange", how)
    step = re.search(r"step \d+: \w+ is not finite", alone[1])
    assert alone[0] == many[0] != 0 and step, alone
    assert step.group(0) in many[1], many


def test_a_lost_peer_is_noticed(refuse):
    code, words = refuse(MLP, 2, "--exchange", "nccl", TRIREME_STANDIN_NCCL_FAIL="9")
    assert code != 0 and "a peer was lost" in words and "aborts its communicator" in words


def ranks_of(world):
    """The worker processes under an mpirun."""
    found = []
    for stat in pathlib.Path("/proc").glob("[0-9]*/stat"):
        try:
            name, rest = stat.read_text().split("(", 1)[1].rsplit(")", 1)
        except OSError:
            continue
        if name == "trireme-worker" and int(rest.split()[1]) == world.pid:
            found.append(int(stat.parent.name))
    return sorted(found)


def alive(pid):
    """A zombie is not: its new parent may be slow to reap it."""
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize("how", NAMES)
def test_killed_in_the_midst(start, tmp_path, how):
    checkpoint = tmp_path / "c.safetensors"
    world = start({**NO_CLIP, "max_time": 1000000, "checkpoint": {"every": 2}}, 4, "--exchange", how,
                  "--checkpoint", str(checkpoint))
    end = time.monotonic() + 240
    while not checkpoint.exists() and world.poll() is None and time.monotonic() < end:
        time.sleep(0.01)
    ranks = ranks_of(world)
    assert len(ranks) == 4, world.communicate(timeout=60)
    os.kill(ranks[-1], signal.SIGKILL)
    end = time.monotonic() + 60
    world.communicate(timeout=60)
    assert world.returncode != 0
    while any(map(alive, ranks)) and time.monotonic() < end:
        time.sleep(0.01)
    assert not [pid for pid in ranks if alive(pid)]
