"""Whole sweeps through real processes: results, bits, and how a sweep ends when it does not go well."""
import math
import re
import signal

import pytest

from sweeps import CNN, CONFIGS, MLP, bits_of, by_point, needs, sweep, until, wait_for_step, write
from wire import endpoint

pytestmark = pytest.mark.usefixtures("built")


@pytest.fixture
def built():
    needs("trireme-coordinator", "trireme-worker")


def run(lab, tmp_path, config, *args, code=0, **more):
    return lab.run("run", write(tmp_path, config), "--json", *args, code=code, **more)


def digests(result):
    return [t["weights_digest"] for t in result["trials"]]


# ---- what run --json promises ----

def test_the_promised_object(digits):
    r = digits.result
    assert set(r) >= {"sweep", "state", "trials", "best"} and r["state"] == "completed"
    assert re.fullmatch("[0-9A-HJKMNP-TV-Z]{26}", r["sweep"])
    assert [t["trial"] for t in r["trials"]] == [1, 2, 3, 4]
    for t in r["trials"]:
        assert set(t) >= {"trial", "run", "state", "hyperparameters", "metrics", "weights_digest"}
        assert t["state"] == "completed" and set(t["hyperparameters"]) == {"lr"}
        assert 1e-3 <= t["hyperparameters"]["lr"] <= 1e-1
        assert 0 < t["metrics"]["val_error"] < 1 and math.isfinite(t["metrics"]["val_loss"])
        assert re.fullmatch("[0-9a-f]{64}", t["weights_digest"])
    best = min(r["trials"], key=lambda t: t["metrics"]["val_error"])
    assert r["best"]["run"] == best["run"] and r["best"]["trial"] == best["trial"]
    assert r["best"]["metric"] == best["metrics"]["val_error"]
    assert best["metrics"]["val_error"] < 0.25, "it learns"
    assert len(set(digests(r))) == 4 and len({t["run"] for t in r["trials"]}) == 4


def test_leaderboard(lab, small, tmp_path):
    """Without --json the best stands on top, and nothing is left running."""
    config = sweep(small, searcher={"name": "grid"}, lr="${lr}", steps=30,
                   hyperparameters={"lr": {"type": "categorical", "vals": [1e-6, 0.01]}})
    done = lab.run("run", write(tmp_path, config))
    rows = [line.split() for line in done.out.splitlines()]
    assert rows[0][:3] == ["rank", "trial", "run"] and {"val_error", "lr"} <= set(rows[0])
    assert rows[1][0] == "1" and "0.01" in rows[1] and "1e-06" in rows[2]
    assert "best: run" in done.err and "sweep:" in done.err
    lab.assert_quiet()


def test_quiet(lab, small, tmp_path):
    """And what the environment says is recorded by name: of what looks like a secret, not its value."""
    lab.env |= {"OMP_TOKEN": "hunter2", "AWS_SECRET_ACCESS_KEY": "hunter2", "OMPI_MCA_note": "mine"}
    done = run(lab, tmp_path, sweep(small, steps=5), "--quiet")
    assert done.err == ""
    recorded = lab.run("show", done.json["best"]["run"], "--json").json["manifest"]["environment"]
    assert recorded["OMP_TOKEN"] == "(set)" and recorded["OMPI_MCA_note"] == "mine", recorded
    assert not any(name.startswith("AWS") for name in recorded), recorded
    files = [f for f in lab.path.rglob("*") if f.is_file()]
    assert len(files) > 3 and not [f for f in files if b"hunter2" in f.read_bytes()]


# ---- searchers ----

def test_grid_with_a_condition(lab, small, tmp_path):
    """dropout exists only where act is relu; a layer that mentions it is left out elsewhere."""
    config = sweep(small, steps=10, searcher={"name": "grid"},
                   hyperparameters={
                       "act": {"type": "categorical", "vals": ["relu", "tanh"]},
                       "rate": {"type": "double", "minval": 0.1, "maxval": 0.5, "count": 3,
                                "when": {"act": "relu"}}},
                   model=[{"dense": {"out": 8}}, "${act}", {"dropout": "${rate}"},
                          {"dense": {"out": 10}}])
    result = run(lab, tmp_path, config).json
    points = [t["hyperparameters"] for t in result["trials"]]
    assert points == [{"act": "relu", "rate": 0.1}, {"act": "relu", "rate": 0.3},
                      {"act": "relu", "rate": 0.5}, {"act": "tanh"}] or \
        [p.get("rate") for p in points] == pytest.approx([0.1, 0.3, 0.5, None])
    layers = lab.run("show", result["trials"][3]["run"], "--json").json["manifest"]["config"]["model"]
    assert layers == [{"dense": {"out": 8}}, "tanh", {"dense": {"out": 10}}]


def test_set_overrides_any_key(lab, small, tmp_path):
    config = sweep(small, steps=500, searcher={"name": "random", "max_trials": 9}, lr="${lr}",
                   hyperparameters={"lr": {"type": "double", "minval": 0.001, "maxval": 0.01}})
    done = run(lab, tmp_path, config, "--set", "searcher.max_time=7", "--set", "searcher.max_trials=2",
               "--set=training.optimizer={name: sgd, lr: '${lr}'}", "--set", "hyperparameters.lr=0.5",
               "--set", "model.0.dense.out=12", "--set", "name=renamed")
    assert done.json["name"] == "renamed" and len(done.json["trials"]) == 2
    shown = lab.run("show", done.json["trials"][0]["run"], "--json").json
    assert shown["manifest"]["config"]["training"]["optimizer"] == {"name": "sgd", "lr": 0.5}
    assert max(m["last_step"] for m in shown["metrics"] if m["key"] == "train_loss") == 7


def random_sweep(data, **more):
    return sweep(data, steps=20, searcher={"name": "random", "max_trials": 4}, lr="${lr}",
                 hyperparameters={"lr": {"type": "log", "minval": 1e-4, "maxval": 1e-1}}, **more)


def test_one_seed_one_result(lab, small, tmp_path):
    """Random is a function of the seed: two homes, two groups or one, the same bits; another seed, others."""
    first = run(lab, tmp_path, random_sweep(small)).json
    two = run(lab, tmp_path, random_sweep(small, max_slots=2)).json
    assert bits_of(first) == bits_of(two)
    assert {t["run"] for t in first["trials"]}.isdisjoint(t["run"] for t in two["trials"])
    other = run(lab, tmp_path, random_sweep(small), "--set", "reproducibility.experiment_seed=6").json
    assert set(by_point(other)).isdisjoint(by_point(first))
    assert set(digests(other)).isdisjoint(digests(first))


def test_the_same_in_another_home(lab, digits):
    """The shipped configuration, trained again by other processes in another home."""
    again = lab.run("run", CONFIGS / "digits-quick.yaml", "--json",
                    "--set", "resources.slots_per_trial=2").json
    assert bits_of(again) == bits_of(digits.result)


# ---- the same bits on any number of ranks ----

@pytest.mark.parametrize("model", ["mlp", "cnn"])
def test_one_digest_on_any_number_of_ranks(lab, small, tmp_path, model):
    config = lambda p: sweep(small, name=model, steps=16 if model == "mlp" else 8, slots=p,
                             model=CNN if model == "cnn" else MLP, lr=0.01, searcher={},
                             training={"loss": "cross_entropy", "global_batch_size": 64,
                                       "optimizer": {"name": "adamw", "lr": 0.01},
                                       "schedule": {"name": "cosine", "warmup_steps": 3},
                                       "clip_norm": 1.0, "eval_every": 4})
    results = {p: run(lab, tmp_path, config(p), timeout=60).json for p in (1, 2, 4, 8)}
    for p, r in results.items():
        assert bits_of(r) == bits_of(results[1]), f"{p} ranks"
    lab.daemon("tracker")
    with lab.wire() as w:
        curves = {p: {k: [(s, v) for s, _, v in w.metric(r["trials"][0]["run"], k)[0]]
                      for k in ("train_loss", "grad_norm", "val_loss", "val_error")}
                  for p, r in results.items()}
    assert len(curves[1]["train_loss"]) == (16 if model == "mlp" else 8)
    for p in (2, 4, 8):
        assert curves[p] == curves[1], f"curves on {p} ranks"


# ---- failures ----

def test_an_absurd_learning_rate_fails_its_trial_only(lab, small, tmp_path):
    config = sweep(small, steps=60, searcher={"name": "grid"}, lr="${lr}",
                   hyperparameters={"lr": {"type": "categorical", "vals": [0.01, 1e6, 0.02]}},
                   model=[{"dense": {"out": 16}}, "relu", {"dense": {"out": 10}}],
                   training={"loss": "cross_entropy", "global_batch_size": 64,
                             "optimizer": {"name": "sgd", "lr": "${lr}"}})
    done = run(lab, tmp_path, config, code=1)
    states = [t["state"] for t in done.json["trials"]]
    assert states == ["completed", "failed", "completed"]
    failed = done.json["trials"][1]
    assert re.search(r"step \d+", failed["reason"]) and "finite" in failed["reason"], failed
    assert re.search(r"(model\[\d\]|loss|gradient)", failed["reason"]), "it names the layer"
    assert "dense" in failed["reason"] or "model[" in failed["reason"], failed["reason"]
    assert f"trial 2 failed: {failed['reason']}" in done.err
    assert done.json["best"]["trial"] in (1, 3), "NaN never wins"
    runs = lab.run("ls", done.json["sweep"], "--json").json
    assert sum(r["trial"] == 2 for r in runs) == 1, "NaN comes again: it is not tried again"
    assert next(r for r in runs if r["trial"] == 2)["state"] == "failed"


def test_smaller_is_better_false(lab, small, tmp_path):
    config = sweep(small, steps=30, lr="${lr}",
                   searcher={"name": "grid", "metric": "val_loss", "smaller_is_better": False},
                   hyperparameters={"lr": {"type": "categorical", "vals": [1e-6, 0.01]}})
    result = run(lab, tmp_path, config).json
    assert result["best"]["trial"] == 1


# ---- Ctrl-C ----

def test_interrupted_and_resumed(lab, reference):
    child = lab.start("run", reference.file, "--json")
    wait_for_step(lab, 600, trial=2)
    child.send_signal(signal.SIGINT)
    done = lab.finish(child, timeout=30)
    assert done.code == 11, done
    assert "trireme resume" in done.err
    lab.assert_quiet()
    sweep_id = re.search(r"trireme resume (\w{26})", done.err).group(1)
    states = {r["state"] for r in lab.run("ls", sweep_id, "--json").json}
    assert done.json["state"] == "paused" and {t["state"] for t in done.json["trials"]} == states, "as they were left"
    stored, = (s for s in lab.run("ls", "--json").json if s["sweep"] == sweep_id)
    assert done.json["best"] == stored["summary"]["best"]
    assert "running" not in states and "queued" not in states, states
    result = lab.run("resume", sweep_id[:20], "--json").json
    assert bits_of(result) == bits_of(reference.result)
    lab.assert_quiet()
    again = lab.run("resume", sweep_id, "--json", code=None)
    assert again.code in (0, 5), "a completed sweep has nothing left to resume"


def test_resumed_on_another_number_of_ranks(lab, reference):
    """Interrupted on two ranks, finished on one, and on four: the same bits."""
    child = lab.start("run", reference.file, "--json")
    wait_for_step(lab, 600)
    child.send_signal(signal.SIGTERM)
    sweep_id = re.search(r"trireme resume (\w{26})", lab.finish(child).err).group(1)
    child = lab.start("resume", sweep_id, "--slots-per-trial", "1", "--json")
    wait_for_step(lab, 600, trial=3)
    child.send_signal(signal.SIGINT)
    assert lab.finish(child).code == 11
    result = lab.run("resume", sweep_id, "--slots-per-trial", "4", "--json").json
    assert bits_of(result) == bits_of(reference.result)


# ---- daemons that stay ----

@pytest.fixture
def standing(lab):
    lab.daemon("tracker")
    lab.daemon("coordinator", "--max-slots", "2")
    return lab


def test_submit_status_and_wait(standing, small, tmp_path):
    sweep_id = standing.run("submit", write(tmp_path, sweep(small, steps=30))).out.strip()
    until(lambda: standing.run("ls", "--state", "completed", "--ids").out.strip() == sweep_id,
          "the end of the submitted sweep")
    status = standing.run("status", "--json").json
    assert [s["sweep"] for s in status["sweeps"]].count(sweep_id) <= 1
    assert status["groups"], "the group stays warm"
    result = standing.run("submit", write(tmp_path, sweep(small, steps=30)), "--wait", "--json").json
    assert result["state"] == "completed"
    shown = standing.run("show", result["trials"][0]["run"], "--json").json
    assert shown["state"] == "completed"
    assert standing.run("submit", tmp_path / "sweep.yaml", "--json").json["sweep"]
    assert len(standing.processes("trireme-worker")) >= 1


def test_run_uses_the_daemons_that_are_there(standing, small, tmp_path):
    run(standing, tmp_path, sweep(small, steps=5))
    assert standing.processes("trireme-tracker") and standing.processes("trireme-coordinator")


def test_cancel_a_sweep(standing, small, tmp_path):
    endless = sweep(small, steps=10_000_000, searcher={"name": "random", "max_trials": 3})
    child = standing.start("submit", write(tmp_path, endless), "--wait", "--json")
    wait_for_step(standing, 20)
    sweep_id = standing.run("status", "--json").json["sweeps"][-1]["sweep"]
    standing.run("cancel", sweep_id, "--reason", "enough")
    done = standing.finish(child, 30)
    assert done.code == 11 and done.json["state"] == "cancelled"
    assert {t["state"] for t in done.json["trials"]} == {"cancelled"}
    shown = standing.run("show", sweep_id, "--json").json
    assert shown["state"] == "cancelled" and "enough" in shown["reason"]
    assert {r["state"] for r in standing.run("ls", sweep_id, "--json").json} == {"cancelled"}
    quick = standing.run("submit", write(tmp_path, sweep(small, steps=5)), "--wait", "--json")
    assert quick.json["state"] == "completed", "the groups are free again"


def test_cancel_one_trial(standing, small, tmp_path):
    config = sweep(small, steps=30_000, searcher={"name": "grid"},
                   hyperparameters={"lr": {"type": "categorical", "vals": [0.01, 0.02]}}, lr="${lr}")
    child = standing.start("submit", write(tmp_path, config), "--wait", "--json")
    number = wait_for_step(standing, 20)
    sweep_id = standing.run("status", "--json").json["sweeps"][-1]["sweep"]
    standing.run("cancel", sweep_id, "--trial", number, "--reason", "not this one")
    result = standing.finish(child, 60).json
    states = {t["trial"]: t["state"] for t in result["trials"]}
    assert states.pop(number) == "cancelled" and set(states.values()) == {"completed"}
    assert result["best"]["trial"] != number


def test_two_sweeps_at_once(standing, small, tmp_path):
    """They share the slots; neither waits for the other's end, neither changes the other's bits."""
    alone = run(standing, tmp_path, random_sweep(small)).json
    children = [standing.start("submit", write(tmp_path, random_sweep(small) | {"name": n}, f"{n}.yaml"),
                               "--wait", "--json") for n in ("left", "right")]
    for child in children:
        done = standing.finish(child)
        assert done.code == 0 and bits_of(done.json) == bits_of(alone), done


def test_submit_without_a_coordinator(lab, small, tmp_path):
    done = lab.run("submit", write(tmp_path, sweep(small)), code=8)
    assert "trireme coordinator" in done.err


def test_a_second_run_beside_the_first(lab, small, tmp_path):
    """Two `trireme run` in one home: the second uses the first's daemons."""
    endless = sweep(small, steps=1_000_000, max_slots=2)
    first = lab.start("run", write(tmp_path, endless, "endless.yaml"))
    wait_for_step(lab, 5)
    assert run(lab, tmp_path, sweep(small, steps=10)).json["state"] == "completed"
    first.send_signal(signal.SIGINT)
    assert lab.finish(first, 30).code == 11


def test_group_by_hand_joins_the_pool(lab, small, tmp_path):
    """Any world that says hello works for the sweep: nothing is launched by the coordinator."""
    lab.daemon("tracker")
    lab.daemon("coordinator", "--launch", "none", "--max-slots", "2")
    child = lab.start("submit", write(tmp_path, sweep(small, steps=10)), "--wait", "--json")
    until(lambda: lab.run("status", "--json").json["sweeps"], "the sweep to be known")
    worker = lab.start("worker", "--coordinator", endpoint(lab.path, "coordinator"), "--tracker",
                       endpoint(lab.path, "tracker"))
    done = lab.finish(child, 30)
    assert done.code == 0 and done.json["state"] == "completed"
    groups = lab.run("status", "--json").json["groups"]
    assert len(groups) == 1 and groups[0]["ranks"] == 1 and worker.poll() is None
