"""What `trireme-worker --train` refuses, it refuses with file, line and column, and once: rank 0 speaks
for all ranks, whether the command line, the text, the configuration or the data is at fault."""
import os
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
