"""Every file in configs/ is read, previewed and planned; so is what README and docs/SWEEP.md show."""
import json
import os
import re
import resource
import subprocess

import pytest

from sweeps import BIN, CONFIGS, needs, sweep, write

FILES = sorted(CONFIGS.glob("*.yaml"))
EXPECTED = {  # trials, trainable parameters of the first trial's model
    "digits-quick": (4, 784 * 32 + 32 + 32 * 10 + 10),
    "fashion-mlp": (12, None),
    "fashion-cnn": (2, 9 * 32 + 32 + 2 * 32 + 32 * 64 * 9 + 64 + 2 * 64 + 64 * 49 * 128 + 128 + 1290),
    "grid-conditional": (6, None),
    "single-schedule": (1, None),
}


@pytest.fixture(autouse=True)
def built():
    needs("trireme-coordinator", "trireme-worker")


def test_there_is_one_per_feature():
    assert {"fashion-mlp", "fashion-cnn", "digits-quick"} <= {f.stem for f in FILES}
    text = "".join(f.read_text() for f in FILES)
    for word in ("single", "grid", "random", "when:", "batch_norm", "max_pool", "avg_pool", "conv2d", "dropout",
                 "gelu", "tanh", "sigmoid", "sgd", "adam", "cosine", "step", "warmup_steps", "clip_norm",
                 "normalize: fit", "mean:", "test:", "checkpoint", "eval_every", "digest_every"):
        assert word in text, f"no configuration shows {word}"


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.stem)
def test_preview(lab, file):
    got = lab.run("preview", file, "--json", "--trials", "1000").json
    trials = got["trials"]
    assert [t["trial"] for t in trials] == list(range(1, len(trials) + 1))
    assert got["planned"] == len(trials)
    text = json.dumps([t["config"] for t in trials])
    assert "${" not in text, "every choice is filled in"
    layers = got["plan"]["model"]["layers"]
    assert layers and all(l["name"] and l["in"] and l["out"] for l in layers)
    classes = trials[0]["config"]["training"]["loss"] == "cross_entropy"
    assert layers[-1]["out"] == [10 if classes else 1]
    if file.stem in EXPECTED:
        planned, parameters = EXPECTED[file.stem]
        assert got["planned"] == planned
        assert parameters is None or got["plan"]["model"]["trainable"] == parameters
    assert not lab.processes() and not (lab.path / "store").exists(), "a preview starts and stores nothing"


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.stem)
def test_preview_for_people(lab, file):
    done = lab.run("preview", file)
    assert "parameters" in done.out and "layer" in done.out and "trial" in done.out
    assert "\033" not in done.out


def test_the_demo_has_at_least_twelve_trials():
    text = (CONFIGS / "fashion-mlp.yaml").read_text()
    assert int(re.search(r"max_trials: (\d+)", text).group(1)) >= 12


def test_preview_is_what_run_does(lab, small, tmp_path):
    config = sweep(small, steps=3, searcher={"name": "random", "max_trials": 3}, lr="${lr}",
                   hyperparameters={"lr": {"type": "log", "minval": 1e-4, "maxval": 1e-1}})
    file = write(tmp_path, config)
    seen = [t["hyperparameters"] for t in lab.run("preview", file, "--json").json["trials"]]
    done = [t["hyperparameters"] for t in lab.run("run", file, "--json").json["trials"]]
    assert seen == done and len(done) == 3


def test_preview_of_the_first_trials(lab):
    got = lab.run("preview", CONFIGS / "fashion-mlp.yaml", "--json", "--trials", "2", "--no-model").json
    assert len(got["trials"]) == 2 and got["planned"] == 12 and "plan" not in got


def test_preview_does_not_need_the_data(lab, tmp_path):
    config = sweep(tmp_path / "nowhere")
    assert lab.run("preview", write(tmp_path, config), "--json", "--no-model").json["planned"] == 1


def test_the_configs_run_for_a_moment(lab):
    """A few steps of each that is not run elsewhere."""
    for stem, more in (("grid-conditional", ["--set", "searcher.max_trials=6"]),
                       ("single-schedule", [])):
        got = lab.run("run", CONFIGS / f"{stem}.yaml", "--json", "--set", "searcher.time_metric=steps",
                      "--set", "searcher.max_time=6", "--set", "training.eval_every=3", *more).json
        assert {t["state"] for t in got["trials"]} == {"completed"}, got
        assert got["best"]["metric"] is not None


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.stem)
def test_planned_for_a_gpu_that_is_not_here(lab, file):
    """Memory, buckets and whether a step is recorded, by arithmetic: for 80 and 141 GB and P = 1 … 8."""
    config = lab.run("preview", file, "--json", "--no-model").json["trials"][0]["config"]
    path = write(lab.path, config, "trial.json")
    seen = {}
    for gib in 80, 141:
        for ranks in (n for n in (1, 2, 4, 8) if config["virtual_shards"] % n == 0):
            done = subprocess.run([BIN / "trireme-worker", "--plan", path, "--assume-gpu", str(gib),
                                   "--assume-ranks", str(ranks)], check=True, capture_output=True, text=True)
            plan = json.loads(done.stdout)
            budget, buckets = plan["budget"], plan["buckets"]
            parts = "vectors", "optimizer", "partials", "activations", "operators", "inbox", "batch", "library"
            assert budget["total"] == sum(budget[p] for p in parts) < gib << 30
            assert budget["recorded"] and budget["data"] > 0, "a small net on its own card waits for nobody"
            assert budget["walk"] * ranks == config["virtual_shards"]
            assert buckets[0]["end"] * 4 == plan["model"]["bytes"] and buckets[-1]["begin"] == 0
            assert all(a["begin"] == b["end"] for a, b in zip(buckets, buckets[1:]))
            seen.setdefault("buckets", buckets)
            assert buckets == seen["buckets"], "the same on any number of ranks"


# ---- a plan takes nothing ----

def test_a_plan_is_what_trains(lab, small):
    """What a plan counts is what an engine that trains has taken, to the byte."""
    config = sweep(small, steps=1, device="cpu", model=[
        {"conv2d": {"out": 8, "kernel": 3, "padding": 1}}, "batch_norm", "relu", {"max_pool": 2},
        {"conv2d": {"out": 4, "kernel": 5}}, "tanh", {"max_pool": 3}, {"avg_pool": 2}, "flatten",
        {"dropout": 0.3}, {"dense": {"out": 32}}, "batch_norm", "gelu", {"dense": {"out": 10}}])
    file = write(lab.path, config)
    planned = lab.run("preview", file, "--json").json["plan"]["engine"]
    run = lab.run("run", file, "--json").json["trials"][0]["run"]
    assert planned == lab.run("show", run, "--json").json["manifest"]["engine"] and planned["bytes"]["workspace"] > 0


def test_a_large_net_is_planned_without_its_memory(lab, small):
    """0.6 GB of weights, and as much for gradients: in an address space that could hold neither."""
    config = sweep(small, steps=1, device="cpu",
                   model=[{"dense": {"out": 12000}}, "relu", {"dense": {"out": 12000}}, {"dense": {"out": 10}}])
    most = 1 << 30
    sanitized = os.environ.get("TRIREME_TEST_CFLAGS")  # whose programs take an address space of their own
    trial = lab.run("preview", write(lab.path, config), "--json", "--no-model").json["trials"][0]["config"]
    done = subprocess.run([BIN / "trireme-worker", "--plan", write(lab.path, trial, "trial.json")], check=True,
                          capture_output=True, text=True,
                          preexec_fn=lambda: sanitized or resource.setrlimit(resource.RLIMIT_AS, (most, most)))
    said = json.loads(done.stdout)
    assert said["model"]["bytes"] > most // 2 and said["engine"]["bytes"]["workspace"] > most
