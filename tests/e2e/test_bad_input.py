"""Bad input: the message says what is wrong and where, the exit code is right, nothing is half-written."""
import gzip
import json
import os
import re
import shutil
import struct
import subprocess

import pytest

from sweeps import BIN, idx, needs, sweep, until, write
from wire import ulid

SHEET = """\
name: sheet
hyperparameters:
  lr: {type: log, minval: 1.0e-3, maxval: 1.0e-1}
  act: {type: categorical, vals: [relu, tanh]}
searcher: {name: random, metric: val_error, max_trials: 2, max_time: 5, time_metric: steps}
resources: {slots_per_trial: 1, max_slots: 2}
reproducibility: {experiment_seed: 7, virtual_shards: 8}
data:
  train: {format: idx, images: images.idx, labels: labels.idx}
  validation_split: 0.2
model:
  - {dense: {out: 32}}
  - "${act}"
  - {dense: {out: 10}}
training:
  loss: cross_entropy
  optimizer: {name: sgd, lr: "${lr}"}
  global_batch_size: 64
"""


def refused(lab, *args, code=2, **more):
    """One line on standard error, nothing on standard output, nothing started, nothing stored."""
    done = lab.run(*args, code=code, **more)
    assert done.out == ""
    assert done.err.startswith("trireme: ") and done.err.count("\n") == 1, done.err
    assert not lab.processes() and not (lab.path / "store").exists()
    return done.err


# ---- the sweep file: (old text, new text, words of the message, line in the file) ----

SHEETS = {
    "unknown key": ("virtual_shards: 8", "virtual_shard: 8", ["virtual_shard'", "'virtual_shards'"], 7),
    "unknown key at the root": ("model:", "modell:", ["modell", "model"], 11),
    "unknown key in training": ("global_batch_size: 64", "global_batchsize: 64",
                                ["global_batchsize", "global_batch_size"], 18),
    "wrong type": ("max_time: 5", "max_time: soon", ["max_time", "soon"], 5),
    "a text for a number": ("virtual_shards: 8", 'virtual_shards: "8"', ["virtual_shards"], 7),
    "a number for a list": ("model:\n  - {dense: {out: 32}}\n  - \"${act}\"\n  - {dense: {out: 10}}\n",
                            "model: 7\n", ["model", "list"], 11),
    "minval > maxval": ("minval: 1.0e-3, maxval: 1.0e-1", "minval: 0.5, maxval: 0.1",
                        ["lr", "minval 0.5", "maxval 0.1"], 3),
    "log of zero": ("minval: 1.0e-3", "minval: 0.0", ["lr", "minval > 0"], 3),
    "exponents": ("minval: 1.0e-3, maxval: 1.0e-1", "minval: -3, maxval: -1, base: 10",
                  ["exponents", "minval: 0.001, maxval: 0.1"], 3),
    "undefined ${x}": ('lr: "${lr}"', 'lr: "${rate}"', ["${rate}", "hyperparameters"], 17),
    "misspelt ${x}": ('- "${act}"', '- "${atc}"', ["${atc}", "'act'"], 13),
    "${ without }": ('lr: "${lr}"', 'lr: "${lr"', ["'${'"], 17),
    "P does not divide V": ("slots_per_trial: 1, max_slots: 2", "slots_per_trial: 3, max_slots: 3",
                            ["slots_per_trial", "3", "divide", "8"], 6),
    "V is no power of two": ("virtual_shards: 8", "virtual_shards: 12", ["power of two", "12"], 7),
    "batch not divisible by V": ("global_batch_size: 64", "global_batch_size: 60",
                                 ["global_batch_size", "60", "multiple", "8"], 18),
    "batch of zero": ("global_batch_size: 64", "global_batch_size: 0", ["global_batch_size", "0"], 18),
    "no ranks": ("slots_per_trial: 1", "slots_per_trial: 0", ["slots_per_trial"], 6),
    "a layer of no width": ("out: 32", "out: 0", ["model[0]", "out"], 12),
    "no trials": ("max_trials: 2", "max_trials: 0", ["max_trials"], 5),
    "no time": ("max_time: 5", "max_time: 0", ["max_time"], 5),
    "an empty model": ("model:\n  - {dense: {out: 32}}\n  - \"${act}\"\n  - {dense: {out: 10}}\n",
                       "model: []\n", ["model"], 11),
    "no choice": ("vals: [relu, tanh]", "vals: []", ["act", "vals"], 4),
    "the same choice twice": ("vals: [relu, tanh]", "vals: [relu, relu]", ["vals[1]", "twice"], 4),
    "a duplicate key": ("loss: cross_entropy", "loss: cross_entropy\n  loss: mse",
                        ["duplicate key 'loss'", "line 16"], 17),
    "a duplicate hyperparameter": ("  act: {", "  lr: 0.1\n  act: {", ["duplicate key 'lr'", "line 3"], 4),
    "an unknown searcher": ("name: random", "name: rndom", ["rndom", "random"], 5),
    "a searcher to come": ("name: random", "name: asha", ["asha"], 5),
    "an unknown layer": ("- {dense: {out: 10}}", "- {densse: {out: 10}}", ["densse", "dense"], 14),
    "an unknown choice of layer": ("vals: [relu, tanh]", "vals: [relu, tahn]", ["tahn", "tanh"], None),
    "an unknown optimizer": ("name: sgd", "name: sdg", ["sdg", "sgd"], 17),
    "an unknown loss": ("loss: cross_entropy", "loss: crossentropy", ["cross_entropy"], 16),
    "an unknown format": ("format: idx", "format: idxx", ["idx"], 9),
    "a metric without its data": ("metric: val_error", "metric: test_error", ["data.test"], 5),
    "a metric without validation": ("  validation_split: 0.2\n", "", ["validation"], 5),
    "a missing section": ("training:\n  loss: cross_entropy\n  optimizer: {name: sgd, lr: \"${lr}\"}\n"
                          "  global_batch_size: 64\n", "", ["training", "missing"], None),
    "an unknown device": ("model:", "device: gpu\nmodel:", ["device", "cuda"], 11),
    "no such precision": ("loss: cross_entropy", "precision: fp16\n  loss: cross_entropy", ["precision", "bf16"], 16),
    "too many on a GPU": ("slots_per_trial: 1,", "slots_per_trial: 1, slots_per_gpu: 100,", ["slots_per_gpu"], 6),
    "a condition on nobody": ("maxval: 1.0e-1}", "maxval: 1.0e-1, when: {nobody: 1}}", ["nobody"], 3),
    "a condition that never holds": ("maxval: 1.0e-1}", "maxval: 1.0e-1, when: {act: gelu}}", ["never"], 3),
    "max_slots too few": ("slots_per_trial: 1, max_slots: 2", "slots_per_trial: 4, max_slots: 2",
                          ["max_slots", "slots_per_trial"], 6),
    "no YAML": ("name: sheet", "name: [sheet", [], None),
    "tabs": ("  loss: cross_entropy", "\tloss: cross_entropy", [], 16),
}


# All by run; every eighth by the others too: they read files by the same function.
@pytest.mark.parametrize("command, case", [("run", c) for c in SHEETS] + [
    (command, c) for c in list(SHEETS)[::8] for command in ("submit", "preview")])
def test_sweep_file(lab, tmp_path, command, case):
    old, new, words, line = SHEETS[case]
    assert SHEET.count(old) == 1, "the case changes one place"
    file = tmp_path / "sheet.yaml"
    file.write_text(SHEET.replace(old, new))
    message = refused(lab, command, file)
    assert "sheet.yaml" in message, message
    assert line is None or re.search(rf"sheet\.yaml:{line}:\d+: ", message), message
    for word in words:
        assert word in message, message


@pytest.mark.parametrize("case", list(SHEETS)[::4])
def test_preview_run_and_submit_refuse_in_the_same_words(lab, tmp_path, case):
    old, new, _, _ = SHEETS[case]
    file = tmp_path / "sheet.yaml"
    file.write_text(SHEET.replace(old, new))
    assert len({refused(lab, command, file) for command in ("preview", "run", "submit")}) == 1


@pytest.mark.parametrize("text, words", [
    ("searcher.max_tme=3", ["max_tme", "max_time"]), ("nonsense", ["key=value"]),
    ("training.global_batch_size=many", ["global_batch_size", "many"]), ("name=", ["missing"]),
    ("training.global_batch_size=60", ["multiple"]), ("resources={slots_per_trial: 3, max_slots: 3}", ["divide"])])
def test_set(lab, tmp_path, text, words):
    (tmp_path / "sheet.yaml").write_text(SHEET)
    message = refused(lab, "run", tmp_path / "sheet.yaml", "--set", text)
    assert all(w in message for w in words), message


def test_grid_without_count(lab, tmp_path):
    (tmp_path / "sheet.yaml").write_text(SHEET.replace("name: random", "name: grid"))
    assert "count: N" in refused(lab, "run", tmp_path / "sheet.yaml")


def test_sweep_file_that_is_none(lab, tmp_path):
    assert "nowhere.yaml" in refused(lab, "run", tmp_path / "nowhere.yaml", code=4)
    refused(lab, "run", tmp_path, code=None)
    (tmp_path / "empty.yaml").write_text("")
    assert "empty.yaml" in refused(lab, "run", tmp_path / "empty.yaml")
    (tmp_path / "list.yaml").write_text("[1, 2]\n")
    assert "a map" in refused(lab, "run", tmp_path / "list.yaml")
    (tmp_path / "bytes.yaml").write_bytes(bytes(range(256)))
    assert "bytes.yaml" in refused(lab, "run", tmp_path / "bytes.yaml")
    (tmp_path / "deep.yaml").write_text("a: " + "[" * 2000 + "]" * 2000)
    refused(lab, "run", tmp_path / "deep.yaml")
    (tmp_path / "bomb.yaml").write_text("a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
        f"{chr(98 + i)}: &{chr(98 + i)} [{','.join([f'*{chr(97 + i)}'] * 9)}]\n" for i in range(8)))
    refused(lab, "run", tmp_path / "bomb.yaml", timeout=20)


# ---- shapes ----

SHAPES = [
    ([{"dense": {"out": 16}}, {"conv2d": {"out": 4, "kernel": 3}}, {"dense": {"out": 10}}],
     ["model[1]", "conv2d"]),
    ([{"max_pool": 64}, "flatten", {"dense": {"out": 10}}], ["model[0]", "max_pool"]),
    ([{"conv2d": {"out": 4, "kernel": 29, "padding": "valid"}}, "flatten", {"dense": {"out": 10}}],
     ["model[0]", "conv2d"]),
    ([{"dense": {"out": 16}}, "relu", {"dense": {"out": 7}}], ["10", "7"])]


@pytest.mark.parametrize("model, words", SHAPES)
@pytest.mark.parametrize("command", ["preview", "run", "submit"])
def test_shapes_between_layers(lab, small, tmp_path, model, words, command):
    needs("trireme-coordinator", "trireme-worker")
    message = refused(lab, command, write(tmp_path, sweep(small, model=model)))
    assert all(w in message for w in words) and re.search(r"sweep\.yaml:\d+:\d+: ", message), message


@pytest.mark.parametrize("model, words", SHAPES)
def test_shapes_within_a_trial(lab, small, tmp_path, model, words):
    needs("trireme-coordinator", "trireme-worker")
    done = lab.run("run", "--no-check", write(tmp_path, sweep(small, model=model)), code=1)
    assert all(w in done.err for w in words), done
    lab.assert_quiet()


# ---- data files ----

def truncate(path):
    path.write_bytes(path.read_bytes()[:-1000])


def patch(path, at, data):
    raw = bytearray(path.read_bytes())
    raw[at:at + len(data)] = data
    path.write_bytes(raw)


def regzip(path, cut=0, spoil=None):
    raw = bytearray(gzip.compress(path.read_bytes()))
    if spoil is not None:
        raw[spoil] ^= 0xFF
    path.write_bytes(raw[:len(raw) - cut])


DATA = {
    "missing images": (lambda d: (d / "images.idx").unlink(), ["images.idx", "No such file or directory"]),
    "missing labels": (lambda d: (d / "labels.idx").unlink(), ["labels.idx"]),
    "a folder": (lambda d: ((d / "labels.idx").unlink(), (d / "labels.idx").mkdir()), ["labels.idx"]),
    "an empty file": (lambda d: (d / "images.idx").write_bytes(b""), ["images.idx", "empty"]),
    "truncated": (lambda d: truncate(d / "images.idx"), ["images.idx", "truncated"]),
    "truncated gzip": (lambda d: regzip(d / "images.idx", cut=5000), ["images.idx", "truncated"]),
    "damaged gzip": (lambda d: regzip(d / "images.idx", spoil=9000), ["images.idx"]),
    "bytes too many": (lambda d: (d / "labels.idx").open("ab").write(b"xyz"), ["labels.idx"]),
    "wrong magic": (lambda d: patch(d / "images.idx", 0, b"\x89PNG"), ["images.idx", "magic"]),
    "images and labels exchanged": (
        lambda d: ((d / "images.idx").rename(d / "x"), (d / "labels.idx").rename(d / "images.idx"),
                   (d / "x").rename(d / "labels.idx")), ["idx"]),
    "label out of range": (lambda d: patch(d / "labels.idx", 8 + 123, b"\x0b"),
                           ["12 classes", "10 outputs"]),
    "label count": (lambda d: idx(d / "labels.idx", (1999,), (d / "labels.idx").read_bytes()[8:-1]),
                    ["labels.idx", "1999", "2000"]),
    "no samples": (lambda d: (idx(d / "images.idx", (0, 28, 28), b""), idx(d / "labels.idx", (0,), b"")),
                   ["images.idx"]),
    "images of no size": (lambda d: idx(d / "images.idx", (2000, 0, 28), b""), ["images.idx"]),
    "huge sizes": (lambda d: patch(d / "images.idx", 4, b"\xff" * 12), ["images.idx"]),
    "fewer samples than a batch": (
        lambda d: (idx(d / "images.idx", (30, 28, 28), (d / "images.idx").read_bytes()[16:16 + 30 * 784]),
                   idx(d / "labels.idx", (30,), (d / "labels.idx").read_bytes()[8:38])), ["64"]),
}


@pytest.mark.parametrize("case", DATA)
def test_data_file_before_a_run(lab, small, tmp_path, case):
    """Refused with the file's name: nothing is started, nothing is stored."""
    needs("trireme-coordinator", "trireme-worker")
    spoil, words = DATA[case]
    data = shutil.copytree(small, tmp_path / "data")
    spoil(data)
    message = refused(lab, "run", write(tmp_path, sweep(data)), code=None)
    for word in ["sweep.yaml:", *words]:
        assert word in message, message


@pytest.mark.parametrize("case", DATA)
def test_data_file(lab, small, tmp_path, case):
    """The trial fails with the file's name; it is not tried again, and the store says so."""
    needs("trireme-coordinator", "trireme-worker")
    spoil, words = DATA[case]
    data = shutil.copytree(small, tmp_path / "data")
    spoil(data)
    done = lab.run("run", "--no-check", write(tmp_path, sweep(data)), "--json", code=1, timeout=60)
    trial = done.json["trials"][0]
    assert trial["state"] == "failed" and trial["attempt"] == 1, trial
    for word in words:
        assert word in trial["reason"], trial["reason"]
    assert trial["reason"] in done.err
    runs = lab.run("ls", "--runs", "--json").json
    assert [r["state"] for r in runs] == ["failed"] and runs[0]["reason"] == trial["reason"]
    lab.assert_quiet()


def test_csv_line_and_column(lab, tmp_path):
    needs("trireme-coordinator", "trireme-worker")
    rows = [f"{i % 7},{i % 3},{'ab'[i % 2]}" for i in range(400)]
    rows[200] = "1,oops,a"
    (tmp_path / "t.csv").write_text("x,y,label\n" + "\n".join(rows) + "\n")
    config = sweep(tmp_path, model=[{"dense": {"out": 2}}])
    config["data"] = {"dir": str(tmp_path), "validation_split": 0.2,
                      "train": {"format": "csv", "file": "t.csv", "label": "lable"}}
    reason = lab.run("run", "--no-check", write(tmp_path, config), "--json", code=1).json["trials"][0]["reason"]
    assert "t.csv" in reason and "lable" in reason, reason
    rows[200] = "1,2"
    (tmp_path / "t.csv").write_text("x,y,label\n" + "\n".join(rows) + "\n")
    config["data"]["train"]["label"] = "label"
    reason = lab.run("run", "--no-check", write(tmp_path, config), "--json", code=1).json["trials"][0]["reason"]
    assert "t.csv:202" in reason, reason
    assert reason in lab.run("run", tmp_path / "sweep.yaml", code=2).err


def test_initial_weights(lab, small, tmp_path):
    needs("trireme-coordinator", "trireme-worker")
    config = sweep(small)
    config["training"]["initial_weights"] = str(tmp_path / "w.safetensors")
    reason = lab.run("run", "--no-check", write(tmp_path, config), "--json", code=1).json["trials"][0]["reason"]
    assert "w.safetensors" in reason
    (tmp_path / "w.safetensors").write_bytes(b"")  # no bytes are not "no weights"
    reason = lab.run("run", "--no-check", write(tmp_path, config), "--json", code=1).json["trials"][0]["reason"]
    assert "w.safetensors" in reason and "empty" in reason, reason
    assert "empty" in lab.run("preview", tmp_path / "sweep.yaml", code=2).err
    header = json.dumps({"0.weight": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]}}).encode()
    (tmp_path / "w.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + bytes(16))
    reason = lab.run("run", "--no-check", write(tmp_path, config), "--json", code=1).json["trials"][0]["reason"]
    assert "w.safetensors" in reason and "0.weight" in reason, reason
    message = lab.run("run", tmp_path / "sweep.yaml", code=None).err
    assert "training.initial_weights: " in message and "0.weight" in message, message


def test_more_words_than_a_manifest_holds(lab, tmp_path):
    """Known before a trial starts: `preview` and `run` refuse it; started without a look, the trial fails with the reason."""
    needs("trireme-coordinator", "trireme-worker")
    words = [f"{n:05}" + "w" * 990 for n in range(2600)]
    (tmp_path / "w.csv").write_text("x,y\n" + "".join(f"{n % 7},{word}\n" for n, word in enumerate(words)))
    (tmp_path / "w.yaml").write_text(
        "name: words\nsearcher: {name: single, metric: train_loss, max_time: 1, time_metric: steps}\n"
        "data: {train: {format: csv, file: w.csv, label: y, types: {y: words}}}\nmodel: [{dense: 2600}]\n"
        "training: {loss: cross_entropy, global_batch_size: 8, optimizer: {name: sgd, lr: 0.1}}\n")
    assert "manifest would have" in lab.run("preview", tmp_path / "w.yaml", code=None).err
    done = lab.run("run", "--no-check", tmp_path / "w.yaml", "--json", code=1)
    assert "manifest would have" in done.json["trials"][0]["reason"], done.json


# ---- before anything starts ----

# (old text, new text of the sheet; what happens to the data; the key at fault as the sheet has it; the code)
FIRST_LOOK = {
    "missing images": ("", "", lambda d: (d / "images.idx").unlink(), "images.idx", 4),
    "missing labels": ("", "", lambda d: (d / "labels.idx").unlink(), "labels.idx", 4),
    "another data.dir": ("data:\n", "data:\n  dir: elsewhere\n", lambda d: None, "images.idx", 4),
    "too few outputs": ("- {dense: {out: 10}}", "- {dense: {out: 7}}", lambda d: None, "{dense: {out: 7}}", 2),
    "a layer that does not fit": ("- {dense: {out: 32}}", "- {max_pool: 64}", lambda d: None, "{max_pool: 64}", 2),
    "labels cut short": ("", "", lambda d: truncate(d / "labels.idx"), "labels.idx", None),
}


def sheet(directory, small, old="", new="", trials=200):
    """The sheet with many trials, and its data beside it."""
    shutil.copytree(small, directory, dirs_exist_ok=True)
    text = SHEET.replace("max_trials: 2", f"max_trials: {trials}").replace(old, new) if old else \
        SHEET.replace("max_trials: 2", f"max_trials: {trials}")
    file = directory / "sheet.yaml"
    file.write_text(text)
    return file, text


def place(text, words):
    """line:column of the first place where the words are"""
    before = text[:text.index(words)]
    return f"{before.count(chr(10)) + 1}:{len(before) - before.rfind(chr(10))}"


@pytest.mark.parametrize("case", FIRST_LOOK)
def test_the_first_trial_is_looked_at(lab, small, tmp_path, case):
    """preview, run and submit refuse in the same words, at the key's place; 200 trials make no failed run."""
    needs("trireme-coordinator", "trireme-worker")
    old, new, spoil, key, code = FIRST_LOOK[case]
    file, text = sheet(tmp_path, small, old, new)
    spoil(tmp_path)
    preview = refused(lab, "preview", file, code=code)
    assert f"sheet.yaml:{place(text, key)}: " in preview, preview
    assert refused(lab, "run", file, code=code) == preview
    submit = refused(lab, "submit", file, code=code)
    assert submit.startswith(preview.rstrip()), submit
    assert ("--no-check" in submit) == (code == 4), "only a file may be elsewhere"


def test_the_longer_of_two_names_is_named(lab, small, tmp_path):
    needs("trireme-coordinator", "trireme-worker")
    file, text = sheet(tmp_path, small, "labels: labels.idx", "labels: images.idx.labels")
    assert f"sheet.yaml:{place(text, 'images.idx.labels')}: data.train.labels: " in refused(lab, "run", file, code=4)


def test_a_coordinator_is_not_asked(lab, small, tmp_path):
    needs("trireme-coordinator", "trireme-worker")
    lab.daemon("tracker")
    lab.daemon("coordinator", "--launch", "none")
    file, _ = sheet(tmp_path, small)
    (tmp_path / "images.idx").unlink()
    assert "sheet.yaml:9:32: data.train.images: " in lab.run("submit", file, code=4).err
    assert lab.run("ls", "--json").json == [] and lab.run("ls", "--runs", "--json").json == []
    sweep_id = lab.run("submit", "--no-check", file).out.strip()
    assert [s["sweep"] for s in lab.run("ls", "--json").json] == [sweep_id]


def test_resume_looks_at_the_next_trial(lab, small, tmp_path):
    """A trial that failed is looked at again before anything starts; with its data back, it completes."""
    needs("trireme-coordinator", "trireme-worker")
    data = shutil.copytree(small, tmp_path / "data")
    (data / "images.idx").rename(data / "away")
    failed = lab.run("run", "--no-check", write(tmp_path, sweep(data)), "--json", code=1).json
    lab.assert_quiet()
    done = lab.run("resume", failed["sweep"], code=4)
    assert f"trial 1 of {failed['sweep']}: data.train.images: " in done.err and done.err.count("\n") == 1, done
    assert len(lab.run("ls", "--runs", "--json").json) == 1, "no new run"
    (data / "away").rename(data / "images.idx")
    again = lab.run("resume", failed["sweep"], "--json").json
    assert again["trials"][0]["state"] == "completed"
    lab.assert_quiet()


def test_resume_of_a_sweep_that_never_started(lab, small, tmp_path):
    needs("trireme-coordinator", "trireme-worker")
    file, _ = sheet(tmp_path, small, trials=3)
    (tmp_path / "labels.idx").unlink()
    lab.daemon("tracker")
    child = lab.daemon("coordinator", "--launch", "none")
    sweep_id = lab.run("submit", "--no-check", file).out.strip()
    lab.run("cancel", sweep_id)
    child.terminate()
    child.wait(20)
    done = lab.run("resume", sweep_id, code=4)
    assert f"trial 1 of {sweep_id}: data.train.labels: " in done.err, done


def half_installed(tmp_path, *names):
    """A copy of some of our programs, without the others."""
    for name in names:
        shutil.copy(BIN / name, tmp_path / name)
    return tmp_path / "trireme"


def test_submit_without_a_worker_says_what_was_not_checked(lab, small, tmp_path):
    needs("trireme-coordinator")
    trireme = half_installed(tmp_path, "trireme", "trireme-tracker", "trireme-coordinator")
    done = subprocess.run([trireme, "submit", write(tmp_path, sweep(small))], env=lab.env,
                          capture_output=True, text=True, timeout=240)
    assert "the first trial was not checked: trireme-worker is not installed" in done.stderr, done
    assert done.returncode == 8 and "no coordinator" in done.stderr, "it went on"


def test_a_check_that_takes_too_long_blocks_nothing(lab, small, tmp_path):
    needs("trireme-coordinator", "trireme-worker")
    trireme = half_installed(tmp_path, "trireme", "trireme-tracker", "trireme-coordinator")
    worker = tmp_path / "trireme-worker"
    worker.write_text(f'#!/bin/sh\n[ "$1" = --plan ] && exec sleep 600\nexec {BIN}/trireme-worker "$@"\n')
    worker.chmod(0o755)
    done = subprocess.run([trireme, "run", write(tmp_path, sweep(small, steps=5)), "--json"], text=True,
                          env=lab.env | {"TRIREME_CHECK_MS": "300"}, capture_output=True, timeout=120)
    assert done.returncode == 0 and json.loads(done.stdout)["trials"][0]["state"] == "completed", done
    assert "the first trial was not checked: " in done.stderr and "0.3 s" in done.stderr, done.stderr
    lab.assert_quiet()


def test_submit_for_gpus_that_are_not_here(lab, small, tmp_path):
    """All but the GPU's memory is checked."""
    needs("trireme-coordinator", "trireme-worker")
    if any("gpu" in g for g in lab.run("version", "--json").json["gpus"]):
        pytest.skip("this machine has a GPU")
    file, text = sheet(tmp_path, small)
    done = lab.run("submit", file, "--device", "cuda", code=8)
    assert "the first trial was checked without a GPU: " in done.err and "no coordinator" in done.err
    (tmp_path / "images.idx").unlink()
    assert "data.train.images: " in lab.run("submit", file, "--device", "cuda", code=4).err
    assert "cuda" in lab.run("run", file, "--device", "cuda", code=8).err
    file, _ = sheet(tmp_path, small, "loss: cross_entropy", "precision: bf16\n  loss: cross_entropy")
    done = lab.run("submit", file, code=8)
    assert "checked without a GPU: " in done.err and "bf16" in done.err, done
    (tmp_path / "sheet.yaml").write_text(file.read_text().replace("- {dense: {out: 10}}", "- {dense: {out: 7}}"))
    assert "7 outputs" in lab.run("submit", file, "--device", "cuda", code=2).err


# ---- processes and places ----

def test_no_mpi(lab, small, tmp_path):
    needs("trireme-coordinator", "trireme-worker")
    lab.env["PATH"] = str(tmp_path)
    done = lab.run("run", write(tmp_path, sweep(small)), "--json", code=None, timeout=60)
    assert done.code not in (0, None) and "mpirun" in done.err, done
    lab.assert_quiet()


def test_a_worker_that_is_missing(lab, small, tmp_path):
    """Half an installation: named, and no process left."""
    needs("trireme-coordinator")
    for name in ("trireme", "trireme-tracker", "trireme-coordinator"):
        shutil.copy(BIN / name, tmp_path / name)
    child = subprocess.run([tmp_path / "trireme", "run", write(tmp_path, sweep(small)), "--json"],
                           env=lab.env, capture_output=True, text=True, timeout=240)
    assert child.returncode not in (0, None) and "trireme-worker" in child.stderr, child
    lab.assert_quiet()


@pytest.mark.parametrize("name", ["tracker", "coordinator"])
def test_one_daemon_a_home(lab, name):
    needs(f"trireme-{name}")
    lab.daemon("tracker")
    if name == "coordinator":
        lab.daemon("coordinator")
    done = lab.run(name, code=8, timeout=30)
    assert str(lab.processes(f"trireme-{name}")[0].pid) in done.err, "it names who has it"


@pytest.mark.parametrize("name", ["tracker", "coordinator"])
def test_tcp_needs_keys(lab, name):
    needs(f"trireme-{name}")
    help_text = lab.run(name, "--help").out
    option = next((o for o in ("--tcp", "--bind", "--endpoint", "--listen") if o in help_text), None)
    if option is None:
        pytest.skip(f"{name} has no TCP endpoint")
    if name == "coordinator":
        lab.daemon("tracker")
    done = lab.run(name, option, "tcp://127.0.0.1:0", code=None, timeout=30)
    assert done.code in (2, 9) and "trireme keygen" in done.err, done


def test_home_that_is_a_file(lab, tmp_path):
    (tmp_path / "file").write_text("")
    lab.env["TRIREME_HOME"] = str(tmp_path / "file")
    done = lab.run("ls", code=None)
    assert done.code not in (0, 14) and str(tmp_path / "file") in done.err


@pytest.mark.proof
def test_home_on_a_network_filesystem(lab, tmp_path):
    """FUSE stands for them all: sshfs is one, and statfs(2) tells no more. The rule itself has a unit test."""
    if os.geteuid() != 0 or shutil.which("bindfs") is None or not os.path.exists("/dev/fuse"):
        pytest.skip("needs root, /dev/fuse and bindfs")
    where = tmp_path / "mounted"
    for name in ("below", "mounted"):
        (tmp_path / name).mkdir()
    child = subprocess.Popen(["bindfs", "-f", tmp_path / "below", where], stdout=subprocess.DEVNULL)
    try:
        until(where.is_mount, "the mount")
        lab.env["TRIREME_HOME"] = str(where / "home")
        assert "fuse" in lab.run("ls", code=9).err.lower()
        assert "fuse" in lab.run("tracker", code=9).err.lower()
    finally:
        subprocess.run(["umount", "-l", where], check=True)
        child.wait(20)


def test_full_disk_under_a_sweep(lab, small, tmp_path):
    """A file system of 12 MB under the home: the command says that the disk is full, the sweep waits, nothing
    that was acknowledged is lost, and it goes on once there is room."""
    needs("trireme-coordinator", "trireme-worker")
    if os.geteuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=12m", "none", lab.path],
                                           capture_output=True).returncode != 0:
        pytest.skip("needs the right to mount a tmpfs")
    try:
        config = sweep(small, steps=40, searcher={"name": "random", "max_trials": 6},
                       model=[{"dense": {"out": 1024}}, "relu", {"dense": {"out": 10}}])
        file = write(tmp_path, config)
        words = open(tmp_path / "words", "w+")

        def full():
            text = (tmp_path / "words").read_text()
            return "No space left" in text or " full" in text

        child = lab.start("run", file, "--json", stderr=words)
        until(full, "words about the disk")
        subprocess.run(["mount", "-o", "remount,size=200m", lab.path], check=True)
        done = lab.finish(child, 60)
        assert done.code == 0 and {t["state"] for t in done.json["trials"]} == {"completed"}, done
        lab.assert_quiet()
    finally:
        lab.stop()
        subprocess.run(["umount", "-l", lab.path], capture_output=True)
        lab.path.mkdir(exist_ok=True)


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("unshare") is None, reason="mounting a tmpfs needs root")
def test_no_room_for_a_group(lab, small, tmp_path):
    """A home with 300 KiB, too few for Open MPI's session: the command names the disk, at once and with -q, ends with 7
    when no room comes, and the sweep goes on once there is some."""
    needs("trireme-coordinator", "trireme-worker")
    file = write(tmp_path, sweep(small, steps=2, searcher={"name": "random", "max_trials": 1}))
    inside = (f'mount -t tmpfs -o size=300k none "{lab.path}" || exit 99; cd /; '
              f'"{BIN}/trireme" run "{file}" -q --json; echo "run: $?" >&2; '
              f'mount -o remount,size=100m "{lab.path}"; '
              f'id=$("{BIN}/trireme" ls --ids); '
              f'"{BIN}/trireme" resume "$id" -q >&2')
    done = subprocess.run(["unshare", "-m", "sh", "-c", inside], capture_output=True, text=True, timeout=300,
                          env=lab.env | {"TRIREME_ROOM_WAIT_MS": "1000"}, stdin=subprocess.DEVNULL)
    if done.returncode == 99 or "unshare:" in done.stderr:
        pytest.skip("mounting a tmpfs is not allowed here")
    first = f"no space left on {lab.path} ("
    assert first in done.stderr.splitlines()[0] and "waits until there is more" in done.stderr, done.stderr
    assert "run: 7" in done.stderr and "PMI" not in done.stderr, done.stderr
    assert "trireme resume 01" in done.stderr, done.stderr
    assert done.returncode == 0, done.stderr
    lab.assert_quiet()


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("unshare") is None, reason="mounting a tmpfs needs root")
def test_a_full_tmpdir_is_in_nobodys_way(lab, small, tmp_path):
    """What groups and their launcher need for a while lies in the home, whose room is watched: not in a TMPDIR that
    somebody else has filled."""
    needs("trireme-coordinator", "trireme-worker")
    file = write(tmp_path, sweep(small, steps=2, searcher={"name": "random", "max_trials": 1}))
    full = tmp_path / "full"
    full.mkdir()
    inside = (f'mount -t tmpfs -o size=64k none "{full}" || exit 99; '
              f'head -c 65536 /dev/zero > "{full}/zeros" 2>/dev/null; '
              f'"{BIN}/trireme" run "{file}" -q --json')
    done = subprocess.run(["unshare", "-m", "sh", "-c", inside], capture_output=True, text=True, timeout=300,
                          env=lab.env | {"TMPDIR": str(full)}, stdin=subprocess.DEVNULL)
    if done.returncode == 99 or "unshare:" in done.stderr:
        pytest.skip("mounting a tmpfs is not allowed here")
    assert done.returncode == 0 and json.loads(done.stdout)["state"] == "completed", done
    lab.assert_quiet()


# ---- ids ----

def test_unknown_ids(lab):
    unknown = ulid()
    for args in (["show", unknown], ["ls", unknown], ["metrics", unknown], ["replay", unknown],
                 ["resume", unknown], ["compare", unknown, unknown]):
        done = lab.run(*args, code=4)
        assert unknown in done.err and done.out == ""
    for args in (["export", unknown, "-o", lab.path / "x"], ["promote", unknown, "m"]):
        if (BIN / "trireme-export").exists():
            assert unknown in lab.run(*args, code=4).err
    assert not (lab.path / "x").exists()


def test_what_a_stranger_may_send_to_the_coordinator(lab):
    """Malformed, of a newer version, unknown, out of bounds, not for strangers: an answer each, and it lives."""
    needs("trireme-coordinator")
    lab.daemon("tracker")
    child = lab.daemon("coordinator")
    with lab.wire("coordinator", timeout_s=5) as w:
        for frames, code in (((b"{",), "invalid"), ((b"\xff\xfe",), "invalid"), ((b"",), "invalid"),
                             ((b"[]",), "invalid"), ((b'{"v":1}',), "invalid"),
                             ((b'{"v":2,"id":"a","op":"coordinator.status"}',), "too_new"),
                             ((b'{"v":1,"id":"a","op":"coordinator.sttus"}',), "invalid"),
                             ((b'{"v":1,"id":"a","op":"run.create"}',), "invalid"),
                             ((b'{"v":1,"id":"a","op":"sweep.status","sweep":"x"}',), "invalid"),
                             ((b'{"v":1,"id":"a","op":"coordinator.status","more":1}',), "invalid"),
                             ((b'{"v":1,"id":"a","op":"sweep.status","sweep":"' + ulid().encode() + b'"}',),
                              "not_found"),
                             ((b"[" * 5000,), "invalid"),
                             ((b'{"v":1,"id":"a","op":"group.beat","group":"' + ulid().encode() + b'"}',),
                              "not_found")):
            reply = w.raw(*frames)
            assert reply["ok"] is False and reply["error"]["code"] == code, (frames, reply)
            assert reply["error"]["message"]
        lease = {"sweep": ulid(), "trial": 1, "run": ulid(), "epoch": 1}
        reply = w.raw(json.dumps({"v": 1, "id": "b", "op": "trial.done", "group": ulid(), "lease": lease,
                                  "state": "completed", "units": 1, "step": 1, "metrics": {},
                                  "client": "x", "seq": 1}).encode())
        assert reply["error"]["code"] in ("conflict", "not_found")
        bad = w.raw(json.dumps({"v": 1, "id": "c", "op": "sweep.submit", "sweep": ulid(), "client": "x",
                                "seq": 2, "config": {"name": "x"}}).encode())
        assert bad["error"]["code"] == "invalid" and "missing" in bad["error"]["message"]
        assert w.request("coordinator.status")["sweeps"] == []
    assert child.poll() is None


def test_a_daemon_that_is_killed_as_it_starts(lab, tmp_path):
    """It is started again, as one is that is killed later; what is said of it is not another one's last word."""
    needs("trireme-coordinator")
    trireme = half_installed(tmp_path, "trireme", "trireme-coordinator")
    tracker = tmp_path / "trireme-tracker"
    tracker.write_text(f'#!/bin/sh\n[ -e {tmp_path}/once ] || {{ : >{tmp_path}/once; kill -9 $$; }}\n'
                       f'exec {BIN}/trireme-tracker "$@"\n')
    tracker.chmod(0o755)
    done = subprocess.run([trireme, "ls"], env=lab.env, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done
    assert "the tracker was killed by signal 9 as it started; starting it again" in done.stderr
    tracker.write_text("#!/bin/sh\nkill -9 $$\n")
    done = subprocess.run([trireme, "ls"], env=lab.env, capture_output=True, text=True, timeout=240)
    assert done.returncode == 8 and done.stderr.endswith("killed by signal 9 as it started: it logged nothing\n"), done
