"""One grammar: what `trireme preview` and `trireme run` say of a file, `trireme-worker --train` says of its trial, and each
refusal has file, line and column. The unit test of the same name has 12,000 files; here a few dozen go through the programs."""
import copy
import json
import re
import subprocess

import pytest

from sweeps import BIN, needs, sweep, until, write

DENSE = {"dense": {"out": 10}}


def layers(*head):
    """A model that begins with these and fits the digits of `small`."""
    return {"model": [*head, "flatten", DENSE]}


def by(**optimizer):
    return {"optimizer": {"lr": 0.01, **optimizer}}


def steps(*transforms):
    return {"transforms": list(transforms)}


# What no trial can do: the words, and where they point (a text of the file that begins there).
REFUSED = {
    "dropout": (layers({"dropout": 0.9995}), "model[0].dropout.rate", "0.9995"),
    "batch norm": (layers({"batch_norm": {"eps": 0}}), "model[0].batch_norm.eps", "0"),
    "adam": (by(name="adam", eps=0), "training.optimizer.eps", "0"),
    "momentum": (by(name="sgd", momentum=1.0), "training.optimizer.momentum", "1.0"),
    "nesterov": (by(name="sgd", nesterov=True), "nesterov needs a momentum", "true"),
    "same": (layers({"conv2d": {"out": 4, "kernel": 2, "padding": "same"}}), "same needs an odd kernel", '"same"'),
    "betas": (by(name="adam", betas=[0.9, 1.0]), "training.optimizer.betas[1]", "1.0"),
    "three numbers": (layers({"max_pool": [2, 2, 2]}), "model[0].max_pool.kernel", "["),
    "a word": (layers({"conv2d": {"out": 4, "padding": "sane"}}), "nearest is 'same'", '"sane"'),
    "a layer": (layers("rleu"), "nearest is 'relu'", '"rleu"'),
    "a key": (by(name="adam", momentum=0.9), "unknown key 'momentum'", '"momentum"'),
    "a schedule": ({"schedule": {"name": "step", "every": 2}}, "training.schedule.factor is missing", "{"),
    "std": (steps({"normalize": {"mean": 0, "std": 0}}), "data.transforms[0].normalize.std", "0"),
    "a transform": (steps({"crop": 1}), "data.transforms[0] must be one of", "{"),
    "a batch": ({"global_batch_size": 60}, "not a multiple of virtual_shards", "60"),
}

# What only the engine took.
TAKEN = {
    "dense": {"model": [{"dense": 10}]},
    "kernel": layers({"conv2d": {"out": 2, "kernel": [3, 5]}}),
    "stride and padding": layers({"conv2d": {"out": 2, "kernel": 3, "stride": [2, 1], "padding": [0, 1]}}),
    "max_pool": layers("max_pool"),
    "normalize": steps({"scale": 0.00392156862745098}, {"normalize": {"mean": [0.5], "std": [0.25]}}),
    "nothing": layers({"relu": {}}, {"batch_norm": None}, {"avg_pool": [1, 2]}),
    "weights": {"initial_weights": None},
}


def changed(config, change):
    config = copy.deepcopy(config)
    for key, value in change.items():
        home = config if key == "model" else config["data"] if key == "transforms" else config["training"]
        home[key] = value
    return config


def trial_of(config):
    """What the sweep would make of it, made here."""
    data = config["data"] | {"dir": str(config["data"]["dir"])}
    return {"language": 2, "seed": 1, "virtual_shards": 8, "time_metric": "steps", "max_time": 2, "metric": "val_error",
            "data": data, "model": config["model"], "training": config["training"]}


def train(path, config):
    """(exit code, answer or message) of `trireme-worker --train`."""
    file = path / "trial.json"
    file.write_text(json.dumps(trial_of(config), indent=1))
    done = subprocess.run([BIN / "trireme-worker", "--train", file, "--device", "cpu"], capture_output=True, text=True, timeout=240)
    return done.returncode, done.stderr if done.returncode else json.loads(done.stdout), file


def points_at(message, file, text):
    """The message's place in the file is where `text` begins."""
    place = re.search(re.escape(str(file)) + r":(\d+):(\d+): ", message)
    assert place, message
    line = file.read_text().splitlines()[int(place[1]) - 1]
    assert line[int(place[2]) - 1:].startswith(text), (message, line)


@pytest.mark.parametrize("name", REFUSED)
def test_refused_alike(lab, small, tmp_path, name):
    needs("trireme-worker")
    change, words, text = REFUSED[name]
    config = changed(sweep(small, steps=2), change)
    file = write(tmp_path, config)
    for command in ("preview", "run"):
        said = lab.run(command, file, code=2).err
        assert words in said, said
        points_at(said, file, text)
    code, said, trial = train(tmp_path, config)
    assert code == 2 and words in said, said
    points_at(said, trial, text)
    assert not lab.processes() and not (lab.path / "store").exists()


@pytest.mark.parametrize("name", TAKEN)
def test_taken_alike(lab, small, tmp_path, name):
    needs("trireme-coordinator", "trireme-worker")
    config = changed(sweep(small, steps=2), TAKEN[name])
    code, answer, _ = train(tmp_path, config)
    assert code == 0, answer
    file = write(tmp_path, config)
    lab.run("preview", file, "--json")
    trials = lab.run("run", file, "--json").json["trials"]
    assert [t["state"] for t in trials] == ["completed"]


def test_unused_hyperparameters(lab, small, tmp_path):
    config = sweep(small, lr="${lr}", hyperparameters={"lr": 0.1, "width": {"type": "int", "minval": 1, "maxval": 9}})
    file = write(tmp_path, config)
    assert "hyperparameters.width is not used" in lab.run("preview", file, code=2).err
    config["model"] = [{"dense": "${width}"}, "relu", DENSE]
    file = write(tmp_path, config)
    said = lab.run("preview", file, "--set", "model.0=relu", code=2).err
    assert "--set model.0=relu: nothing would use hyperparameters.width" in said
    for gone in ("null", "{dense: 3}"):  # neither is a value for it
        said = lab.run("preview", file, "--set", f"model.0={gone}", code=2).err
        assert said.rstrip().endswith("--set hyperparameters.width=VALUE"), said
    said = lab.run("preview", file, "--set", "model.9=relu", code=2).err
    assert "there is no 'model.9': the list has items 0 to 2" in said
    lab.run("preview", file, "--set", "model.2.dense.out=12")


def test_keys_complete_set(lab):
    paths = lab.run("keys", "--paths").out.splitlines()
    assert {"searcher.max_time", "training.optimizer.lr", "data.train.images"} <= set(paths)
    assert len(paths) == len(set(paths))
    assert "keys --paths" in lab.run("completion", "bash").out


# What `--set` takes and refuses: no null becomes a map, no message names a file that is not there.
SETS = {
    "training.clip_norm=null": "training.clip_norm must be a number",
    "checkpoint=null": "checkpoint must be a map, not null",
    "training.schedule={name: cosine": "--set training.schedule={name: cosine: did not find expected",
    "name=*a": "--set name=*a: aliases are not supported",
    "searcher.max_trials=1e400": "too large for a double",
    "model.9=relu": "there is no 'model.9'",
}


@pytest.mark.parametrize("what", SETS)
def test_set_is_refused(lab, small, tmp_path, what):
    said = lab.run("preview", write(tmp_path, sweep(small)), "--set", what, code=2).err
    assert SETS[what] in said and "(null)" not in said, said


def test_set_takes_a_layer_out(lab, small, tmp_path):
    file = write(tmp_path, changed(sweep(small), layers("relu")))
    plan = lab.run("preview", file, "--set", "model.0=null", "--json").json
    assert "relu" not in json.dumps(plan["trials"][0]["config"]["model"])


def test_interrupted_preview_leaves_nothing(lab, small, tmp_path):
    """The worker that plans ends with the command that asked, and leaves no file."""
    wide = write(tmp_path, sweep(small, model=[{"dense": 8000}, {"dense": 4000}, {"dense": 10}]))
    preview = lab.start("preview", wide)
    until(lambda: any("--plan" in p.argv for p in lab.processes()), "a worker that plans")
    preview.kill()
    until(lambda: not any("--plan" in p.argv for p in lab.processes()), "its end")
