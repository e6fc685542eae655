"""Trials as people ask for them: the ranking of a sweep whenever asked, a trial's attempts as one curve."""
import re

import pytest

from sweeps import Lab, needs, sweep as small_sweep, wait_for_step, write
from wire import ulid

CONFIG = {"language": 3, "metric": "val_error", "metric_of": "best", "smaller_is_better": True,
          "time_metric": "epochs", "training": {"global_batch_size": 10}, "checkpoint": {"every": 1, "keep": "best"}, "hyperparameters": {"lr": 0.5, "h": "1"}}
MANIFEST = {"data": {"train": 100}}  # ten steps an epoch


def points(first, last, value=lambda s: 1 / s):
    return [(s, 1000 + s, value(s)) for s in range(first, last + 1)]


@pytest.fixture(scope="module")
def sweep():
    """A lab with a sweep of three trials; the second was lost at step 60 and resumed from step 40; the tracker stays."""
    one = Lab()
    try:
        one.daemon("tracker")
        one.sweep = ulid()
        one.runs = {}

        def attempt(w, trial, number, params, state, steps, summary=None, resumed=None):
            run = one.runs[trial, number] = ulid()
            w.write("run.create", run=run, experiment="ranked", sweep=one.sweep, trial=trial, attempt=number,
                    params=params, config=CONFIG)
            w.log(run, {"train_loss": points(*steps)})
            if errors := [(s, 1, 1 / s) for s in range(10, steps[1] + 1, 10) if s >= steps[0]]:
                w.log(run, {"val_error": errors})
            manifest = MANIFEST | ({"resumed_from": {"run": resumed, "step": steps[0] - 1}} if resumed else {})
            w.write("run.update", run=run, manifest=manifest, summary=summary or {})
            if state != "running":
                w.write("run.update", run=run, state=state)
            return run

        def summary(last, best, step):
            return {"steps": 100, "metrics": {"val_error": last},
                    "best": {"step": step, "metric": "val_error", "value": best, "weights_digest": "be" * 32}}

        with one.wire() as w:
            w.write("sweep.create", sweep=one.sweep, name="ranked", config={"searcher": {"name": "grid"}})
            attempt(w, 1, 1, {"h": "1", "lr": 0.5}, "completed", (1, 100), summary(0.25, 0.125, 70))
            lost = attempt(w, 2, 1, {"h": 1, "lr": 0.25}, "failed", (1, 60))
            attempt(w, 2, 2, {"h": 1, "lr": 0.25}, "completed", (41, 100), summary(0.0625, 0.0625, 100), lost)
            attempt(w, 3, 1, {"h": True, "lr": 1.0}, "failed", (1, 15))
            attempt(w, 4, 1, {"h": "relu", "lr": 2.0}, "running", (1, 5))
            w.log(one.runs[4, 1], {"val_error": [(20, 1, 0.1), (30, 2, 0.2)]})
            w.write("sweep.update", sweep=one.sweep, state="completed", summary={"planned": 3, "finished": 3})
        yield one
    finally:
        one.stop()


def test_a_sweep_is_ranked_whenever_asked(sweep):
    out = sweep.run("show", sweep.sweep).out
    table = [re.split(r"  +", line.strip()) for line in out.split("\n\n")[1].splitlines()]
    assert table[0] == ["rank", "trial", "run", "state", "val_error", "last", "at epoch", "lr", "h"]
    assert [row[1:2] + row[3:] for row in table[1:]] == [
        ["2", "completed", "0.0625", "0.0625", "10", "0.25", "1"],
        ["4", "running", "0.1", "0.2", "-", "2.0", "relu"],
        ["1", "completed", "0.125", "0.25", "7", "0.5", '"1"'],
        ["3", "failed", "-", "-", "-", "1.0", "true"]]
    assert table[1][2] == sweep.runs[2, 2], "the newest attempt"
    assert "3 planned, 3 finished" in out and "grid" in out
    assert sweep.run("show", "ranked").out == out, "by its name"
    told = sweep.run("show", sweep.sweep, "--json").json
    assert [t["run"] for t in told["trials"]] == [sweep.runs[1, 1], sweep.runs[2, 2], sweep.runs[3, 1], sweep.runs[4, 1]]
    assert told["trials"][0]["best"] == {"step": 70, "metric": 0.125} and told["trials"][0]["metric"] == 0.125
    for name in ("nosuch", "no such: 3", "no:best"):
        assert "no run and no sweep" in sweep.run("show", name, code=4).err


def test_the_attempts_at_a_trial_are_one_curve(sweep):
    trial = f"{sweep.sweep}/2"
    told = sweep.run("metrics", trial, "train_loss", "val_error", "--json").json
    assert told["train_loss"] == {"steps": list(range(1, 101)), "values": [1 / s for s in range(1, 101)]}
    assert told["val_error"]["steps"] == list(range(10, 101, 10))
    assert sweep.run("metrics", "ranked/2", "train_loss", "val_error", "--json").json == told
    csv = sweep.run("metrics", trial, "--csv").out.splitlines()
    assert len(csv) == 1 + 100 + 10
    assert len(sweep.run("metrics", trial, "train_loss", "--csv", "-n", "20").out.splitlines()) <= 21
    assert "step 1:" not in sweep.run("metrics", trial).out and "last 0.01 at step 100" in sweep.run("metrics", trial).out

    for command in (["metrics", sweep.runs[2, 2], "--csv"], ["show", sweep.runs[2, 2]],
                    ["compare", sweep.runs[2, 2], sweep.runs[1, 1]]):
        done = sweep.run(*command)
        assert "begins at step 40" in done.err and trial in done.err, command
    assert sweep.run("metrics", trial).err == sweep.run("metrics", sweep.runs[1, 1]).err == ""


def test_a_trial_as_one_run(sweep):
    told = sweep.run("show", f"{sweep.sweep}/2", "--json").json
    assert told["run"] == sweep.runs[2, 2]
    assert [(a["attempt"], a["run"], a["first_step"]) for a in told["attempts"]] == [
        (1, sweep.runs[2, 1], 0), (2, sweep.runs[2, 2], 40)]
    loss = next(m for m in told["metrics"] if m["key"] == "train_loss")
    assert (loss["count"], loss["last_step"], loss["max"], loss["min"]) == (100, 100, 1.0, 0.01)
    out = sweep.run("show", f"{sweep.sweep}/2").out
    assert sweep.runs[2, 1] in out and "from step" in out
    columns = sweep.run("compare", f"{sweep.sweep}/2", f"{sweep.sweep}/1", "--json").json
    assert [c["run"] for c in columns] == [sweep.runs[2, 2], sweep.runs[1, 1]]
    side = sweep.run("compare", f"{sweep.sweep}/2", f"{sweep.sweep}/1").out
    assert re.search(r"best step +100 +70", side) and re.search(r"best value +0.0625 +0.125", side), side
    assert "has no trial 9" in sweep.run("show", f"{sweep.sweep}/9", code=4).err
    for wrong in ("/2", f"{sweep.sweep}/", f"{sweep.sweep}/x", f"{sweep.sweep}/-1"):
        assert "SWEEP/TRIAL" in sweep.run("metrics", wrong, code=2).err
    sweep.run("metrics", f"{ulid()}/1", code=4)
    sweep.run("replay", "nosuch", code=4)
    sweep.run("metrics", "nosuch", code=4)


def test_which_weights_a_run_has(sweep):
    """The best of these were not kept: there are no files at all."""
    out = sweep.run("show", sweep.runs[1, 1]).out
    assert "of step 70 (val_error 0.125); those weights were not kept" in out
    assert sweep.run("show", sweep.runs[1, 1], "--json").json["weights"] is None
    with sweep.wire() as w:
        run = ulid()
        w.write("run.create", run=run, experiment="x", config=CONFIG)
        for path in ("best.safetensors", "model.safetensors"):
            w.put(run, path, path.encode())
        w.write("run.update", run=run, summary={
            "steps": 40, "metrics": {"val_error": 0.25}, "weights_digest": "1a" * 32,
            "best": {"step": 30, "metric": "val_error", "value": 0.125, "weights_digest": "be" * 32}})
    out = sweep.run("show", run).out
    assert "of step 30 (val_error 0.125), in best.safetensors" in out
    assert "of step 40 (val_error 0.25), in model.safetensors" in out
    for which, step, digest in (("best", 30, "be"), ("last", 40, "1a"), ("30", 30, "be")):
        told = sweep.run("show", f"{run}:{which}", "--json").json["weights"]
        assert (told["step"], told["digest"]) == (step, digest * 32)
    assert "kept no weights of step 7" in sweep.run("show", f"{run}:7", code=4).err
    sweep.run("show", f"{run}:worst", code=2)
    assert "--until" in sweep.run("replay", f"{run}:best", "--until", "3", code=2).err


def test_a_trial_that_lost_a_group(lab, small, tmp_path):
    """Real processes: every step once, whatever was lost in between."""
    needs("trireme-coordinator", "trireme-worker")
    steps = 2000
    file = write(tmp_path, small_sweep(small, steps=steps, checkpoint={"every": 100}, training={
        "loss": "cross_entropy", "optimizer": {"name": "sgd", "lr": 0.01}, "global_batch_size": 64, "eval_every": 100}))
    child = lab.start("run", file, "--json")
    wait_for_step(lab, 200)
    lab.kill("trireme-worker")
    result = lab.finish(child).json
    trial, name = result["trials"][0], f"{result['sweep']}/1"
    assert trial["attempt"] == 2 and trial["state"] == "completed"
    told = lab.run("metrics", name, "train_loss", "--json").json["train_loss"]
    assert told["steps"] == list(range(1, steps + 1))
    own = lab.run("metrics", trial["run"], "train_loss", "--json")
    begins = own.json["train_loss"]["steps"][0] - 1
    assert begins % 100 == 0 and begins > 0 and f"begins at step {begins}" in own.err and name in own.err
    shown = lab.run("show", name, "--json").json
    assert [a["first_step"] for a in shown["attempts"]] == [0, begins]
    assert f"{trial['run']}" in lab.run("show", result["sweep"]).out
