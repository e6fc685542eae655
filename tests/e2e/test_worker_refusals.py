"""What `trireme-worker --train` refuses, it refuses with file, line and column, and once: rank 0 speaks
for all ranks, whether the command line, the text, the configuration or the data is at fault."""
import os
import re
import subprocess

import pytest

MPI_ENV = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}

TRIAL = """{
  "seed": 1, "max_time": 1, "virtual_shards": 4,
  "data": {"train": {"format": "csv", "file": "FILE", "label": "y"}},
  "model": [
    {"dense": {"out": 4}},
    {"dropout": 0.5},
    {"dense": {"out": 2}}
  ],
  "training": {"loss": "cross_entropy", "global_batch_size": 4,
    "optimizer": {"name": "sgd", "lr": 0.1, "momentum": 0.5}}
}
"""


@pytest.fixture
def refused(bin_dir, tmp_path):
    """Trains a text on some ranks; the lines of standard error that are the worker's, and the file."""

    def go(text, ranks, *options):
        file = tmp_path / "trial.json"
        file.write_text(text)
        program = [str(bin_dir / "trireme-worker"), *(options or ("--train", str(file)))]
        if ranks > 1:
            program = ["mpirun", "--oversubscribe", "--bind-to", "none", "-n", str(ranks), *program]
        done = subprocess.run(program, capture_output=True, text=True, timeout=400,
                              env={**os.environ, **MPI_ENV})
        assert done.returncode == 2 and done.stdout == "", (done.returncode, done.stderr)
        return [line for line in done.stderr.split("\n") if "trireme-worker: " in line], file

    return go


@pytest.mark.parametrize("ranks", [1, 4])
@pytest.mark.parametrize("old, new, place", [
    ('"max_time": 1,', '"max_time": 1', "2:43"),
    ('"dropout": 0.5', '"dropout": 1.5', "6:17"),
    ('{"dense": {"out": 2}}', '{"dence": {"out": 2}}', "7:"),
    ('"momentum": 0.5', '"momentum": 1.5', "10:"),
    ('"virtual_shards": 4', '"virtual_shards": 3', "2:"),
    ('"global_batch_size": 4', '"global_batch_size": 6', "9:"),
])
def test_a_refusal_has_its_place_and_comes_once(refused, ranks, old, new, place):
    assert old in TRIAL
    lines, file = refused(TRIAL.replace(old, new), ranks)
    assert len(lines) == 1 and f"{file}:{place}" in lines[0], lines


@pytest.mark.parametrize("ranks", [1, 4])
def test_a_refused_line_of_data_comes_once(refused, tmp_path, ranks):
    table = tmp_path / "table.csv"
    table.write_text("x,y\n1,0\n2,1\n3\n")
    lines, _ = refused(TRIAL.replace("FILE", str(table)), ranks)
    assert len(lines) == 1 and f"{table}:4: 1 fields; the first line has 2" in lines[0], lines


@pytest.mark.parametrize("ranks", [1, 4])
def test_a_refused_command_line_comes_once(refused, ranks):
    lines, _ = refused(TRIAL, ranks, "--exchange", "pigeons")
    assert len(lines) == 1 and "--exchange must be" in lines[0], lines


# What an option belongs to; every one that the help lists is here or in GENERAL.
BELONGS = {
    "need-gpu": ([], {"devices"}), "json": ([], {"replay", "devices", "plan"}), "until": (["3"], {"replay"}),
    "tracker": (["ipc:///none"], {"coordinator", "replay"}), "tracker-key": (["k"], {"coordinator", "replay"}),
    "keys": (["none"], {"coordinator", "replay"}), "coordinator-key": (["k"], {"coordinator"}),
    "checkpoint": (["c"], {"train"}), "weights-out": (["w"], {"train"}), "best-out": (["b"], {"train"}),
    "assume-gpu": (["8"], {"plan"}), "assume-ranks": (["2"], {"plan"}),
}
MODES = {"coordinator": ["ipc:///none"], "replay": ["r"], "train": ["none"], "plan": ["none"], "devices": []}
GENERAL = {"device", "gpu-share", "stream-data", "eager", "exchange", "levels", "data-cache-bytes", "version", "help"}


def test_an_option_that_a_mode_ignores_is_refused(bin_dir):
    def go(*words):
        return subprocess.run([str(bin_dir / "trireme-worker"), *words], capture_output=True, text=True, timeout=120)

    listed = set(re.findall(r"--([a-z][a-z-]*)", "\n".join(
        re.match(r" {0,6}(-\w, )?--\S+|", line).group() for line in go("--help").stdout.split("\n"))))
    assert listed == set(BELONGS) | set(MODES) | GENERAL
    for mode, value in MODES.items():
        for option, (words, modes) in BELONGS.items():
            if mode not in modes:
                done = go("--" + mode, *value, "--" + option, *words)
                assert done.returncode == 2 and f"--{option} belongs to --" in done.stderr + done.stdout, (mode, option, done)
        other = "train" if mode != "train" else "replay"
        done = go("--" + mode, *value, "--" + other, *MODES[other])
        assert done.returncode == 2 and "are two things to do" in done.stderr, (mode, other, done)
    assert "--assume-ranks belongs to --assume-gpu" in go("--plan", "none", "--assume-ranks", "2").stderr


@pytest.mark.parametrize("old, new, place, says", [
    ('"max_time": 1,', '"max_time": 1, "bitwise": false,', "2:40: the", "does not offer bitwise: false"),
    ('"dropout": 0.5', '"dense": {"out": 90000}}, {"dense": {"out": 90000}', "6:32", "of memory for each rank"),
])
def test_what_this_machine_cannot_do_has_its_place(refused, tmp_path, old, new, place, says):
    table = tmp_path / "table.csv"
    table.write_text("x,y\n1,0\n2,1\n3,0\n4,1\n")
    lines, file = refused(TRIAL.replace(old, new).replace("FILE", str(table)), 1)
    assert len(lines) == 1 and f"{file}:{place}" in lines[0] and says in lines[0], lines
