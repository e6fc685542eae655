"""RUN:best, RUN:last, RUN:STEP: which of a run's weights are exported, promoted, shown and replayed."""
import hashlib
import json
import re
import struct
import subprocess

import numpy as np
import pytest

from sweeps import needs, sweep, write
from test_export import MLP, Made, export, parameters, safetensors  # noqa: F401: a fixture
from wire import endpoint, ulid

SHAPE = (48,)
SEEDS = {"best": 2, "step": 3, "last": 1}  # Made's own is 1
ENDED = {"steps": 40, "metrics": {"val_error": 0.25, "val_loss": 1.5},
         "best": {"step": 30, "metric": "val_error", "value": 0.125, "weights_digest": "be" * 32}}


def weights(which):
    return safetensors(parameters(MLP, SHAPE, np.random.default_rng(SEEDS[which])))


def made(wire, metric_of="best", keep="all", summary=ENDED, files=None, **more):
    checkpoint = parameters(MLP, SHAPE, np.random.default_rng(SEEDS["step"]))
    checkpoint |= {f"slot0/{name}": t for name, t in checkpoint.items()}
    kept = {"best.safetensors": weights("best"), "checkpoints/000000000020.safetensors": safetensors(checkpoint)}
    config = {"language": 3, "metric": "val_error", "metric_of": metric_of, "checkpoint": {"every": 1, "keep": keep}}
    one = Made(wire, MLP, SHAPE, config=config, summary=summary, files=kept if files is None else files,
               state="running", **more)
    wire.log(one.run, {"val_error": [(10, 1, 0.5), (30, 3, 0.125), (40, 4, 0.25)],
                       "val_loss": [(10, 1, 2.0), (30, 3, 1.25), (40, 4, 1.5)]})
    wire.write("run.update", run=one.run, state="completed")
    return one


def names(file):
    """The tensors of a safetensors file."""
    length, = struct.unpack("<Q", file[:8])
    return sorted(k for k in json.loads(file[8:8 + length]) if k != "__metadata__")


def numbers(file):
    """The bytes of the tensors of a safetensors file."""
    length, = struct.unpack("<Q", file[:8])
    return file[8 + length:]


@pytest.fixture
def told(bin_dir, home):
    """What trireme-export says on standard error."""
    def call(*args):
        done = subprocess.run([str(bin_dir / "trireme-export"), *map(str, args)], capture_output=True, text=True,
                              timeout=240)
        assert done.returncode == 0, done.stderr
        return done.stderr

    return call


def test_each_by_its_name(wire, export, tmp_path):  # noqa: F811
    one = made(wire)
    for which, step in (("best", 30), ("last", 40), ("step", 20)):
        asked = f"{one.run}:{20 if which == 'step' else which}"
        answer = export(asked, "--format", "safetensors", "-o", tmp_path / which)
        assert (answer["which"], answer["step"]) == (which, step) and "note" not in answer
        file = (tmp_path / which / "model.safetensors").read_bytes()
        assert answer["digest"] == hashlib.sha256(file).hexdigest()
        if which != "step":
            assert file == weights(which)
        else:
            assert names(file) == sorted(parameters(MLP, SHAPE, np.random.default_rng(0))), "no optimizer's slots"
        export(asked, "-o", tmp_path / which)
        card = json.loads((tmp_path / which / "model.json").read_text())
        assert (card["which"], card["step"]) == (which, step)
    assert export(f"{one.run}:30", "-o", tmp_path)["which"] == "best"
    assert export(f"{one.run}:40", "-o", tmp_path)["which"] == "last"


def test_a_bare_run_follows_metric_of_and_says_so(wire, export, told, tmp_path):  # noqa: F811
    for metric_of, other in (("best", "last"), ("last", "best")):
        one = made(wire, metric_of)
        answer = export(one.run, "-o", tmp_path)
        assert answer["which"] == metric_of and f"{one.run}:{other}" in answer["note"]
        said = told(one.run, "-o", tmp_path)
        assert "step 30 (val_error 0.125)" in said and "step 40 (val_error 0.25)" in said
        assert f"taking its {metric_of} weights" in said and f"{one.run}:{other}" in said


def test_the_card_has_the_metrics_of_its_weights(wire, export, tmp_path):  # noqa: F811
    one = made(wire)
    answer = export("promote", one.run, "digits@live")
    assert (answer["which"], answer["step"], answer["weights_digest"]) == ("best", 30, "be" * 32)
    card = wire.request("model.get", name="digits")["model"]["card"]
    assert card["metrics"] == {"val_error": 0.125, "val_loss": 1.25}
    assert card["weights"]["path"] == "best.safetensors" and card["weights_digest"] == "be" * 32
    export("promote", f"{one.run}:last", "digits")
    card = wire.request("model.get", name="digits")["model"]["card"]
    assert card["metrics"] == ENDED["metrics"] and card["which"] == "last" and card["step"] == 40
    for version, which in ((1, "best"), (2, "last")):
        assert export(f"digits@{version}", "--format", "safetensors", "-o", tmp_path)["which"] == which
        assert (tmp_path / "digits.safetensors").read_bytes() == weights(which)
    assert export("promote", f"{one.run}:20", "digits")["step"] == 20
    assert export("digits@3", "-o", tmp_path)["step"] == 20


def test_what_was_not_kept_is_said(wire, export, tmp_path):  # noqa: F811
    one = made(wire)
    said = export(f"{one.run}:7", "-o", tmp_path, code=4)
    assert "step 7" in said and "best (step 30), last (step 40), 20" in said
    bare = made(wire, keep="last", files={})
    assert "did not keep" in export(f"{bare.run}:best", "-o", tmp_path, code=4)
    answer = export(bare.run, "-o", tmp_path)
    assert answer["which"] == "last" and "were not kept" in answer["note"]
    old = Made(wire, MLP, SHAPE, config={"language": 2})
    assert f"{old.run}:last" in export(f"{old.run}:best", "-o", tmp_path, code=4)
    answer = export(old.run, "-o", tmp_path)
    assert answer["which"] == "last" and "note" not in answer
    for wrong in (":", ":worst", ":-1", ":1e3"):
        assert "best, last or" in export(old.run + wrong, "-o", tmp_path, code=2)


def test_the_last_evaluation_was_the_best(wire, export, tmp_path):  # noqa: F811
    same = ENDED | {"best": ENDED["best"] | {"step": 40}}
    answer = export(made(wire, summary=same).run, "-o", tmp_path)
    assert answer["which"] == "best" and "note" not in answer
    answer = export(made(wire, summary=same, files={}).run, "-o", tmp_path)
    assert answer["which"] == "best" and "note" not in answer


@pytest.fixture
def resumed(wire):
    """Two attempts at a trial, the second from step 20 of the first: its best is of step 10, carried over."""
    of, config = ulid(), {"language": 3, "metric": "val_error", "metric_of": "best", "checkpoint": {"keep": "all"}}
    wire.write("sweep.create", sweep=of, name="resumed", config={})
    best = {"step": 10, "metric": "val_error", "value": 0.125, "weights_digest": "be" * 32}
    first = Made(wire, MLP, SHAPE, config=config, state="running", sweep={"sweep": of, "trial": 3, "attempt": 1}, files={
        "best.safetensors": weights("best"), "checkpoints/000000000020.safetensors": weights("step")})
    wire.log(first.run, {"val_error": [(10, 1, 0.125), (20, 2, 0.375)], "val_loss": [(10, 1, 1.25), (20, 2, 1.5)]})
    wire.write("run.update", run=first.run, state="preempted")
    second = Made(wire, MLP, SHAPE, config=config, state="running", sweep={"sweep": of, "trial": 3, "attempt": 2},
                  resumed_from={"run": first.run, "step": 20}, files={"best.safetensors": weights("best")},
                  summary={"steps": 40, "metrics": {"val_error": 0.25, "val_loss": 2.0}, "best": best})
    wire.log(second.run, {"val_error": [(30, 3, 0.5), (40, 4, 0.25)], "val_loss": [(30, 3, 1.75), (40, 4, 2.0)]})
    wire.write("run.update", run=second.run, state="completed")
    return first.run, second.run


def test_a_step_of_an_attempt_before(resumed, bin_dir, export, told, tmp_path):  # noqa: F811
    first, second = resumed
    answer = export(f"{second}:20", "--format", "safetensors", "-o", tmp_path)
    assert (answer["which"], answer["step"], answer["run"]) == ("step", 20, first)
    assert numbers((tmp_path / "model.safetensors").read_bytes()) == numbers(weights("step"))
    assert f"from run {first}, attempt 1 at the same trial" in told(f"{second}:20", "-o", tmp_path)
    export(f"{second}:20", "-o", tmp_path)
    assert json.loads((tmp_path / "model.json").read_text())["metrics"] == {"val_error": 0.375, "val_loss": 1.5}
    assert "only a completed or stopped run" in export("promote", f"{second}:20", "digits", code=5)
    assert "best (step 10), last (step 40)" in export(f"{second}:15", "-o", tmp_path, code=4)
    shown = subprocess.run([str(bin_dir / "trireme"), "show", f"{second}:20"], capture_output=True, text=True, timeout=240)
    assert f"from run {first}, attempt 1" in shown.stderr and "of step 20, in checkpoints/" in shown.stdout


def test_a_trial_by_its_sweep(resumed, bin_dir, home, tmp_path):
    """SWEEP/TRIAL is the newest attempt, wherever it stands on the line."""
    def trireme(*args, code=0):
        done = subprocess.run([str(bin_dir / "trireme"), *map(str, args)], capture_output=True, text=True, timeout=240)
        assert done.returncode == code, done.stderr
        return json.loads(done.stdout) if "--json" in args else done.stderr

    (tmp_path / "3").mkdir()
    where = ["--tracker", endpoint(home, "tracker")]
    for line in (["resumed/3:last", "--json", "-o", tmp_path / "3"], ["-o", tmp_path / "3", "--json", "resumed/3:last"],
                 ["--json", *where, "resumed/3:last", "-o", "3"], ["-o", tmp_path / "3", "--json", "--", "resumed/3:last"]):
        answer = trireme("export", *line[:-1], tmp_path / "3" if line[-1] == "3" else line[-1])
        assert (answer["run"], answer["which"]) == (resumed[1], "last"), line
    assert f"from run {resumed[0]}" in trireme("export", "resumed/3:20", "-o", tmp_path)
    assert trireme("promote", "--json", "resumed/3", "digits@live")["step"] == 10
    refused = trireme("export", "resumed/4", "-o", tmp_path, "--json", code=4)
    assert "no trial 4" in refused["error"]["message"]
    assert "nosuch" in trireme("promote", "nosuch/3", "digits", code=4)
    assert "not a run" in trireme("promote", "resumed/x", "digits", code=4)


def test_a_best_that_was_carried_over_has_all_its_metrics(resumed, wire, export):  # noqa: F811
    assert export("promote", resumed[1], "digits")["step"] == 10
    card = wire.request("model.get", name="digits")["model"]["card"]
    assert card["run"] == resumed[1] and card["metrics"] == {"val_error": 0.125, "val_loss": 1.25}


def test_a_real_run(lab, small, tmp_path):
    """Trained, exported, promoted and replayed by its best; the worst error counts as the best, so it comes early."""
    needs("trireme-coordinator", "trireme-worker", "trireme-export")
    file = write(tmp_path, sweep(small, steps=40, checkpoint={"every": 10, "keep": "all"},
                                 searcher={"smaller_is_better": False}, training={
                                     "loss": "cross_entropy", "optimizer": {"name": "sgd", "lr": 0.05},
                                     "global_batch_size": 64, "eval_every": 10}))
    result = lab.run("run", file, "--json").json
    lab.daemon("tracker")
    run, trial = result["trials"][0]["run"], result["trials"][0]
    shown = lab.run("show", f"{run}:best", "--json").json
    best = shown["summary"]["best"]
    assert shown["weights"] == {"which": "best", "step": best["step"], "path": "best.safetensors",
                                "digest": best["weights_digest"]}
    assert best["step"] < 40 and trial["metric"] == best["value"] > shown["summary"]["metrics"]["val_error"]

    done = lab.run("export", run, "--format", "safetensors", "-o", tmp_path / "out", "--json")
    assert done.json["which"] == "best" and f"{run}:last" in done.err
    digest = next(a["digest"] for a in shown["artifacts"] if a["path"] == "best.safetensors")
    assert done.json["digest"] == digest
    ranked = lab.run("show", result["sweep"]).out.splitlines()[-1].split()
    assert float(ranked[4]) == pytest.approx(best["value"], abs=1e-4) and ranked[6] == str(best["step"]), ranked

    listed = re.search(r"val_error=([0-9.]+)", lab.run("ls", result["sweep"]).out)
    assert float(listed.group(1)) == pytest.approx(best["value"], rel=1e-3)  # what ranks it, not the last

    told = lab.run("replay", f"{run}:best", "--ranks", "1", "--json").json
    assert (told["verdict"], told["steps"], told["weights_digest"]) == ("exact", best["step"], best["weights_digest"])
    told = lab.run("replay", f"{run}:20", "--ranks", "2", "--json").json
    assert (told["verdict"], told["steps"]) == ("exact", 20)
    assert lab.run("promote", f"{run}:20", "m", "--json").json["weights_digest"] == told["weights_digest"]
    lab.run("replay", f"{run}:21", code=4)
    for command in ("metrics", "compare", "artifacts"):
        words = [command, f"{run}:best"] + ([run] if command == "compare" else [])
        assert "the whole run" in lab.run(*words, code=2).err
    assert lab.run("promote", run, "m@live", "--json").json["step"] == best["step"]
