"""Tables through real processes: a bad cell is refused by its place, what is doubtful is said, no digit is lost, and a
sweep does not go on with other data."""
import os
import re
import shutil
import signal

import pytest

from sweeps import needs, wait_for_step

SHEET = """\
name: table
searcher: {name: single, metric: val_error, max_time: %(epochs)d, time_metric: epochs}
resources: {slots_per_trial: 1, max_slots: 1}
reproducibility: {experiment_seed: 7, virtual_shards: 2}
data:
  train: {format: csv, file: d.csv, label: y%(keys)s}
  validation_split: 0.2
  transforms: [{normalize: fit}]
model:
  - {dense: {out: 8}}
  - relu
  - {dense: {out: %(out)d}}
training:
  loss: cross_entropy
  optimizer: {name: sgd, lr: 0.05, momentum: 0.9}
  global_batch_size: 8
"""


@pytest.fixture(autouse=True)
def built():
    needs("trireme-coordinator", "trireme-worker")


def table(directory, rows, header="y,a,b", encoding="utf-8", **sheet):
    """A table and the sheet that reads it, out=3 and 20 epochs where nothing else is said."""
    (directory / "d.csv").write_bytes(("\n".join([header, *rows]) + "\n").encode(encoding))
    file = directory / "s.yaml"
    file.write_text(SHEET % ({"epochs": 20, "out": 3, "keys": ""} | sheet))
    return file


def rows(n=60):
    return [f"{i % 3},{i % 7}.5,{(i * 37) % 11}" for i in range(n)]


# what is wrong: (the row, its number from 0, the words of the message)
CELLS = {
    "nothing": ("1,NA,3", 30, ["d.csv:32:3: column a has no value ('NA')", "data.train.missing"]),
    "a word": ("1,2.5,many", 30, ["d.csv:32:7: 'many' in column b is not a number", "types: {b: words}"]),
    "a stray label": ("-1,2.5,3", 0, ["d.csv:2:1: '-1' in column y is not a class"]),
    "half a label": ("1.5,2.5,3", 7, ["d.csv:9:1: '1.5' in column y is not a class"]),
    "a word as label": ("x,2.5,3", 7, ["d.csv:9:1: 'x' in column y is not a number"]),
}


@pytest.mark.parametrize("what", CELLS)
def test_one_bad_cell(lab, tmp_path, what):
    row, number, words = CELLS[what]
    cells = rows()
    cells[number] = row
    done = lab.run("preview", table(tmp_path, cells), code=2)
    assert "s.yaml:6:30: data.train.file: " in done.err and all(w in done.err for w in words), done.err
    assert done.out == ""


def test_a_table_as_a_whole(lab, tmp_path):
    """The separator, the names, the label, a split that leaves nothing: each with its place."""
    semicolons = [r.replace(",", ";") for r in rows()]
    file = table(tmp_path, semicolons, header="y;a;b")
    assert 'the separator seems to be \';\': say so with data.train.separator: ";"' in lab.run("preview", file, code=2).err
    plan = lab.run("preview", file, "--set", 'data.train.separator=";"', "--json").json["plan"]
    assert [c["name"] for c in plan["data"]["inputs"]] == ["a", "b"]
    file = table(tmp_path, rows())
    file.write_text(file.read_text().replace("label: y", "label: z"))
    assert re.search(r"s\.yaml:6:\d+: .*no column 'z' for the label; there are y, a, b", lab.run("preview", file, code=2).err)
    file.write_text(file.read_text().replace("label: z", "label: y").replace("split: 0.2", "split: 0.001"))
    message = lab.run("preview", file, code=2).err
    assert re.search(r"s\.yaml:7:\d+: data.validation_split 0.001 of 60 samples", message), message
    days = [f"{r},2026-11-{i % 28 + 1:02d}" for i, r in enumerate(rows())]
    file = table(tmp_path, days, header="y,a,b,day")
    assert "data.train.exclude: [day]" in lab.run("preview", file, code=2).err
    file = table(tmp_path, days, header="y,a,b,day", keys=", exclude: [day]")
    assert lab.run("preview", file, "--json").json["plan"]["model"]["layers"][0]["in"] == [2]
    lab.assert_quiet()


def test_preview_lists_columns(lab, tmp_path):
    cells = [f"{i % 3 + 1},{1764320000 + i},{'red' if i % 2 else 'grün'}" for i in range(60)]
    file = table(tmp_path, cells, header="y,t,colour", out=5)
    done = lab.run("preview", file)
    assert re.search(r"t +number +1 +1764320000 to 1764320059", done.out), done.out
    assert re.search(r"colour +words +2 +grün, red", done.out), done.out
    assert re.search(r"y +label: 4 classes", done.out), done.out
    assert "the labels are 1 to 3; classes count from 0" in done.err, done.err
    assert "ends with 5 outputs, the data has 4 classes" in done.err, done.err
    assert "in float32" not in done.err, done.err
    done = lab.run("preview", file, "--set", "data.transforms=[]", "--json")
    assert "column t: 48 different values become 1 in float32" in done.err, done.err
    assert len(done.json["plan"]["warnings"]) == 3


def test_seconds_since_1970(lab, tmp_path):
    """Two halves of 200 seconds: what float32 cannot tell apart is told apart, and the run names its inputs."""
    cells = [f"{i // 100},{1764320000 + i},{i % 3}.5" for i in range(200)]
    result = lab.run("run", table(tmp_path, cells, header="y,t,b", out=2, epochs=20), "--json").json
    assert result["best"]["metric"] <= 0.05, result
    manifest = lab.run("show", result["best"]["run"], "--json").json["manifest"]
    assert [c["name"] for c in manifest["data"]["inputs"]] == ["t", "b"]
    assert manifest["data"]["outputs"] == {"name": "y", "kind": "classes", "count": 2}
    assert lab.run("replay", result["best"]["run"], "--json").json["verdict"] == "exact"


def test_latin1_is_refused_before_training(lab, tmp_path):
    cells = [f"{'groß' if i % 2 else 'klein'},{i % 7},{i % 5}" for i in range(60)]
    done = lab.run("run", table(tmp_path, cells, encoding="latin-1"), code=2)
    assert "d.csv:3:1: a word in column y is not UTF-8 (byte 0xdf after 'gro')" in done.err, done.err
    done = lab.run("run", "--no-check", tmp_path / "s.yaml", "--json", code=1)
    assert "is not UTF-8" in done.json["trials"][0]["reason"], done


def test_a_folder_that_is_not_utf8(lab, tmp_path, monkeypatch):
    """Of the sweep file: refused in words. Where the command is called, or what the environment says: escaped."""
    file = table(tmp_path, rows(), epochs=1)
    folder = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9")
    shutil.copytree(tmp_path, folder)
    done = lab.run("run", f"{folder}/s.yaml", code=2)
    assert f"its folder's name is not UTF-8 (byte 0xe9 after '{tmp_path}/caf')" in done.err, done.err
    lab.env["OMPI_MCA_note"] = os.fsdecode(b"caf\xe9")
    monkeypatch.chdir(folder)
    run = lab.run("run", file, "--json").json["best"]["run"]
    manifest = lab.run("show", run, "--json").json["manifest"]
    assert manifest["environment"]["OMPI_MCA_note"] == r"caf\xe9", manifest
    lab.run("export", run, "-o", tmp_path / "out")


def test_resume_with_other_data(lab, tmp_path):
    """Refused before it starts; without that look, the trial fails instead of going on."""
    file = table(tmp_path, rows(), epochs=1000000)
    child = lab.start("run", file, "--json", "--set", "checkpoint.every=500", "--set", "training.eval_every=500")
    wait_for_step(lab, 4000)
    child.send_signal(signal.SIGINT)
    done = lab.finish(child)
    assert done.code == 11, done
    trial, best = done.json["trials"][0], done.json["best"]  # of what was evaluated; nothing has finished
    assert best["trial"] == 1 and best["run"] == trial["run"] and best["metric"] == trial["metric"], done
    sweep = re.search(r"trireme resume (\w{26})", done.err).group(1)
    text = (tmp_path / "d.csv").read_text()
    (tmp_path / "d.csv").write_text(text.replace("1,1.5,", "1,9.5,", 1))
    done = lab.run("resume", sweep, code=5)
    assert "the data files have changed since run" in done.err and "put them back" in done.err, done.err
    done = lab.run("resume", sweep, "--no-check", "--json", code=1)
    assert "the checkpoint was made with other data" in done.json["trials"][0]["reason"], done
    lab.assert_quiet()


def test_what_looks_alike_and_is_not(lab, tmp_path):
    """Blanks around labels, line ends of old Macs, separators of thousands: said with line and column, never taken for
    something else."""
    said = lab.run("preview", table(tmp_path, [r if i != 7 else "1 " + r[1:] for i, r in enumerate(rows())]), code=None)
    assert said.code == 0, "blanks around numbers are none of a number's"
    words = [["no", "yes", "yes "][i % 3] + f",{i % 7},{i % 5}" for i in range(60)]
    refused = lab.run("preview", table(tmp_path, words), code=2).err
    assert "d.csv:4:1: 'yes ' in column y differs from another word of the column by blanks alone" in refused
    said = lab.run("preview", table(tmp_path, words, keys=", types: {y: words}"))
    assert "words have blanks around them" in said.out + said.err
    words = [["no ", "yes ", "so "][i % 3] + f",{i % 7},{i % 5}" for i in range(60)]
    assert "'no '" in (said := lab.run("preview", table(tmp_path, words))).out + said.err
    file = table(tmp_path, rows())
    (tmp_path / "d.csv").write_bytes((tmp_path / "d.csv").read_bytes().replace(b"\n", b"\r"))
    assert "d.csv:1: a carriage return that no newline follows" in lab.run("preview", file, code=2).err
    for cell in ("\"1,234\"", "1'234", "\"12,345,678.5\"", "1 234"):
        every = [f"{i % 3},{cell.replace('1', str(1 + i % 2), 1)},{i % 5}" for i in range(12)]
        refused = lab.run("preview", table(tmp_path, every), code=2).err
        assert "d.csv:2:3:" in refused and "a separator of thousands" in refused, refused
