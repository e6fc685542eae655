"""The `trireme` command, as scripts and people meet it: help, answers, JSON, ids, exit codes."""
import csv
import fcntl
import io
import json
import os
import re
import stat
import struct
import subprocess
import termios
from pathlib import Path

import pytest

from sweeps import BIN, CONFIGS, needs, sweep, write
from wire import ulid

COMMANDS = ("run submit preview ls show metrics compare artifacts artifact replay resume cancel status export promote seal models "
            "audit keygen tracker coordinator worker keys wire completion version").split()
PROGRAM = {"tracker": "trireme-tracker", "coordinator": "trireme-coordinator",
           "worker": "trireme-worker", "export": "trireme-export", "promote": "trireme-export"}
ANSI = re.compile("\033")


# ---- without a daemon ----

def test_help_lists_every_command(lab):
    done = lab.run("--help")
    listed = re.findall(r"^  ([a-z]+) ", done.out, re.M)
    assert sorted(listed) == sorted(COMMANDS)
    assert done.err == ""


def test_no_command_prints_help_and_fails(lab):
    done = lab.run(code=2)
    assert done.out == "" and "usage: trireme" in done.err


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_every_command(lab, command):
    needs(PROGRAM.get(command, "trireme"))
    done = lab.run(command, "--help", timeout=20)
    assert done.out.strip(), "help goes to standard output"
    if command not in ("wire",):
        assert "usage" in done.out.lower() or "--help" in done.out, done.out
    assert not ANSI.search(done.out + done.err)
    lab.assert_quiet()


@pytest.mark.parametrize("command", [c for c in COMMANDS if c not in ("wire", "completion")])
def test_help_tells_defaults(lab, command):
    """Every option that takes a number or one of some words; of people's commands, every option with a value."""
    needs(PROGRAM.get(command, "trireme"))
    for line in lab.run(command, "--help").out.split("options:")[1].splitlines():
        option = re.match(r"  (?:-\w, |    )--([a-z-]+) (\S+) +(.*)", line)
        if option is None or option[1] in ("set", "ready-fd"):
            continue
        daemon = command in ("tracker", "coordinator", "worker")
        if not daemon or option[2] == "N" or "|" in option[2]:
            assert "default" in option[3], line


@pytest.mark.parametrize("typed, meant", [("rnu", "run"), ("mterics", "metrics"), ("prevew", "preview")])
def test_unknown_command_suggests(lab, typed, meant):
    done = lab.run(typed, code=2)
    assert typed in done.err and f"'{meant}'" in done.err and done.out == ""


def test_unknown_command_without_a_neighbour(lab):
    assert "--help" in lab.run("xyzzyplugh", code=2).err


@pytest.mark.parametrize("args, word", [
    (["run", "--jsn", "x.yaml"], "--json"), (["ls", "--stat", "failed"], "--state"),
    (["replay", "--rank", "2", "X"], "--ranks"), (["metrics", "--cvs", "X"], "--csv")])
def test_unknown_option_suggests(lab, args, word):
    done = lab.run(*args, code=2)
    assert args[1] in done.err and f"'{word}'" in done.err


@pytest.mark.parametrize("args, word", [
    (["run"], "usage: trireme run FILE"), (["run", "a.yaml", "b.yaml"], "unexpected operand 'b.yaml'"),
    (["show"], "RUN|SWEEP"), (["metrics"], "metrics RUN"), (["compare", "01J"], "RUN RUN"),
    (["replay"], "replay RUN"), (["resume"], "resume SWEEP"), (["cancel"], "cancel SWEEP"),
    (["preview"], "preview FILE"), (["version", "x"], "unexpected operand 'x'"), (["replay", "X", "--ranks", "0"], "--ranks must be"),
    (["replay", "X", "--ranks", "two"], "'two'"), (["ls", "--limit"], "--limit needs a value"),
    (["completion", "fish"], "bash"), (["keygen", "--role", "king"], "king"),
    (["keygen", "--name", "a/b"], "--name")])
def test_wrong_arguments(lab, args, word):
    done = lab.run(*args, code=2)
    assert word in done.err and done.out == ""
    assert done.err.startswith("trireme: ") and done.err.count("\n") == 1, done.err
    assert not (lab.path / "store").exists(), "nothing is started for a wrong command line"


def test_each_command_takes_so_many_operands(lab):
    """One less or one more: refused, before anything else is looked at."""
    operands = {"run": (1, 1), "submit": (1, 1), "preview": (1, 1), "cancel": (1, 1), "resume": (1, 1), "replay": (1, 1),
                "show": (1, 1), "seal": (1, 1), "completion": (1, 1), "artifacts": (1, 1), "artifact": (2, 2), "ls": (0, 1),
                "keys": (0, 1), "models": (0, 3), "keygen": (0, 0), "version": (0, 0), "audit": (0, 0), "status": (0, 0)}
    for command, (least, most) in operands.items():
        done = lab.run(command, *["x"] * most, "last", code=2)
        assert f"{command}: unexpected operand 'last'; usage: trireme {command}" in done.err, done.err
        if least > 0:
            done = lab.run(command, *["x"] * (least - 1), code=2)
            assert f"{command} needs another operand; usage: trireme {command}" in done.err, done.err
    assert not (lab.path / "store").exists()


def test_preview_of_what_editors_and_people_hand_over(lab, tmp_path):
    """A byte order mark is no text; a directory is no sweep file."""
    plain = (CONFIGS / "digits-quick.yaml").read_text()
    marked = tmp_path / "marked.yaml"
    marked.write_bytes(b"\xef\xbb\xbf" + plain.encode())
    bare = tmp_path / "bare.yaml"
    bare.write_text(plain)
    told = [lab.run("preview", f, "--no-model", "--json").json["trials"] for f in (marked, bare)]
    assert told[0] == told[1] and told[0]
    for command in ("preview", "run", "submit"):
        assert "is a directory" in lab.run(command, tmp_path, code=2).err
    small = tmp_path / "small.yaml"
    small.write_text("name: x\ntraining:\n  lr: 1e-400\n")
    assert "3:7: the number is too small" in lab.run("preview", small, code=2).err
    lab.assert_quiet()


def test_version(lab):
    text = lab.run("--version").out
    described = lab.run("version", "--json").json
    assert text.strip() == f"trireme {described['version']}"
    assert re.fullmatch("[0-9a-f]{64}", described["build"]) and described["wire"] == 1
    assert described["cores"] >= 1 and described["home"] == str(lab.path)
    plain = lab.run("version").out
    assert described["build"] in plain and described["cpu"] in plain


def test_wire_reference_is_the_committed_page(lab):
    page = (CONFIGS.parent / "docs" / "WIRE.md").read_text()
    assert lab.run("wire").out == page, "run `make docs`"


def test_keygen(lab):
    done = lab.run("keygen", "--name", "ada", "--role", "viewer")
    secret, public = lab.path / "keys" / "ada.secret", lab.path / "keys" / "ada.public"
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    key, role, name = public.read_text().split()
    assert (role, name) == ("viewer", "ada") and len(key) == 40
    assert done.out.strip() == key == secret.read_text().split()[0]
    before = secret.read_bytes()
    assert "ada.secret already exists" in lab.run("keygen", "--name", "ada", code=5).err
    assert secret.read_bytes() == before, "a key is never overwritten"


def test_a_home_is_its_owners(lab):
    old = os.umask(0)
    try:
        lab.run("ls")
    finally:
        os.umask(old)
    modes = {p.name: stat.S_IMODE(p.stat().st_mode) for p in lab.path.rglob("*")}
    assert modes["data.mdb"] == modes["tracker.log"] == 0o600 and modes["store"] == 0o700
    assert [name for name, mode in modes.items() if mode & 0o077] == []


def test_a_key_has_a_plain_name_and_metrics_one_form(lab):
    assert "--name" in lab.run("keygen", "-n", "a\nb", code=2).err
    assert "exclude each other" in lab.run("metrics", "0" * 26, "--csv", "--json", code=2).err


def test_keygen_elsewhere(lab, tmp_path):
    lab.env.pop("USER", None)
    lab.run("keygen", "-o", tmp_path / "nameless")
    assert (tmp_path / "nameless" / "me.secret").exists(), "whoever has no name is me"
    lab.run("keygen", "--name", "bob", "-o", tmp_path / "deep" / "keys")
    assert sorted(p.name for p in (tmp_path / "deep" / "keys").iterdir()) == ["bob.public", "bob.secret"]


def bash_completes(lab, *words):
    """What bash offers for the last word."""
    line = " ".join(words)
    script = f"""source <(trireme completion bash)
COMP_WORDS=({' '.join(f"'{w}'" for w in words)}); COMP_CWORD={len(words) - 1}; COMP_LINE='{line}'
_trireme; printf '%s\\n' "${{COMPREPLY[@]}}" """
    env = lab.env | {"PATH": f"{BIN}:{os.environ['PATH']}"}
    return subprocess.run(["bash", "-c", script], env=env, capture_output=True, text=True,
                          check=True, timeout=240).stdout.split()


def test_completion(lab, tmp_path):
    assert sorted(bash_completes(lab, "trireme", "re")) == ["replay", "resume"]
    assert set(COMMANDS) <= set(bash_completes(lab, "trireme", ""))
    assert bash_completes(lab, "trireme", "replay", "--r") == ["--ranks"]
    assert bash_completes(lab, "trireme", "run", "--launch", "sr") == ["srun"]
    keys = bash_completes(lab, "trireme", "run", "x.yaml", "--set", "tra")
    assert {"training.loss=", "training.optimizer.lr="} <= set(keys) and all(k.startswith("tra") for k in keys)
    for option in "--set", "-s":
        assert bash_completes(lab, "trireme", "preview", option, "searcher.max_ti") == ["searcher.max_time="]
    assert "searcher.max_time=" not in bash_completes(lab, "trireme", "ls", "-s", "")
    (tmp_path / "my.yaml").write_text("name: x\nhyperparameters: {wd: {type: log}}\n"
                                      "model:\n- dense: {out: 3}\n- relu\n- {dense: {out: 2}}\n")
    for line in ["run", f"{tmp_path}/my.yaml", "--set"], ["preview", "-s"]:
        more = [f"{tmp_path}/my.yaml"] if "-s" in line else []
        offered = bash_completes(lab, "trireme", *line[:-1], *more, line[-1], "model.")
        assert offered == [f"model.{p}=" for p in ("0", "0.dense", "0.dense.out", "1", "2", "2.dense", "2.dense.out")]
    assert bash_completes(lab, "trireme", "run", f"{tmp_path}/my.yaml", "--set", "=", "model.2.dense.") == ["model.2.dense.out="]
    assert "hyperparameters.wd.type=" in bash_completes(lab, "trireme", "run", f"{tmp_path}/my.yaml", "--set", "hyper")
    assert bash_completes(lab, "trireme", "run", "--set", "model.") == [], "no file, no elements"
    assert bash_completes(lab, "trireme", "run", f"{tmp_path}/none.yaml", "--set", "searcher.max_ti") == ["searcher.max_time="]
    (tmp_path / "bad.yaml").write_text("name: [\n")
    assert bash_completes(lab, "trireme", "run", f"{tmp_path}/bad.yaml", "--set", "searcher.max_ti") == ["searcher.max_time="]
    assert bash_completes(lab, "trireme", "run", f"{tmp_path}/my") == [f"{tmp_path}/my.yaml"]


# ---- an empty home ----

def test_empty_home(lab):
    """A tracker is started for the question and stopped after it."""
    assert lab.run("ls", "--json").json == []
    assert lab.run("ls", "--runs", "--json").json == []
    assert lab.run("models", "--json").json == []
    assert lab.run("audit", "--json").json == []
    assert "0 records" in lab.run("audit").out
    assert lab.run("ls", "--ids").out == ""
    assert "sweep" in lab.run("ls").out, "the titles of an empty table"
    for args in (["show", "01J"], ["metrics", "01J"], ["replay", "01J"], ["ls", "01J"],
                 ["resume", "01J"], ["models", "nobody"], ["models", "nobody@live"]):
        done = lab.run(*args, code=4)
        assert done.out == "" and "no " in done.err, done
    assert "no coordinator runs" in lab.run("status", code=8).err
    lab.assert_quiet()


def test_home_is_private(lab):
    lab.run("ls")
    assert stat.S_IMODE((lab.path / "run").stat().st_mode) == 0o700


def test_default_home(lab, tmp_path):
    del lab.env["TRIREME_HOME"]
    lab.env["XDG_STATE_HOME"] = str(tmp_path / "state")
    assert lab.run("version", "--json").json["home"] == str(tmp_path / "state" / "trireme")
    del lab.env["XDG_STATE_HOME"]
    lab.env["HOME"] = str(tmp_path / "me")
    assert lab.run("version", "--json").json["home"] == str(tmp_path / "me/.local/state/trireme")


# ---- a finished sweep ----

@pytest.fixture
def best(digits):
    return digits.result["best"]["run"]


def test_run_shows_progress_in_plain_lines(digits):
    assert not ANSI.search(digits.progress) and "\r" not in digits.progress
    assert re.search(r"digits-quick  \d/4 trials", digits.progress), digits.progress


def test_ls(digits):
    sweeps = digits.run("ls", "--json").json
    assert [s["sweep"] for s in sweeps] == [digits.result["sweep"]]
    assert sweeps[0]["name"] == "digits-quick" and sweeps[0]["state"] == "completed"
    text = digits.run("ls")
    assert digits.result["sweep"] in text.out and "completed" in text.out
    assert not ANSI.search(text.out)
    best = digits.result["best"]["metric"]
    assert f"{best:.5g}" in text.out, "the best metric stands in the list"
    assert digits.run("ls", "--ids").out.split() == [digits.result["sweep"]]
    assert digits.run("ls", "--state", "failed", "--ids").out == ""


def test_ls_of_a_sweep(digits):
    sweep_id = digits.result["sweep"]
    runs = digits.run("ls", sweep_id, "--json").json
    assert sorted(r["run"] for r in runs) == sorted(t["run"] for t in digits.result["trials"])
    assert {r["state"] for r in runs} == {"completed"}
    table = digits.run("ls", sweep_id).out
    for t in digits.result["trials"]:
        row, = (line.split() for line in table.splitlines() if line.startswith(t["run"]))
        assert f"val_error={t['metric']:.5g}" in row, "what ranks: the best here, not the last"
    assert digits.run("ls", "--runs", "--ids").out.split() == [r["run"] for r in runs]
    assert len(digits.run("ls", "--runs", "--ids", "--limit", "2").out.split()) == 2
    assert "bad" in digits.run("ls", "--state", "bad", code=2).err


def test_show_json(digits, best):
    run = digits.run("show", best, "--json").json
    trial = next(t for t in digits.result["trials"] if t["run"] == best)
    assert run["run"] == best and run["state"] == "completed" and run["trial"] == trial["trial"]
    assert run["params"]["lr"] == trial["hyperparameters"]["lr"]
    assert {m["key"] for m in run["metrics"]} >= {"train_loss", "val_loss", "val_error"}
    assert run["summary"]["metrics"]["val_error"] == trial["metrics"]["val_error"]
    manifest = run["manifest"]
    for key in ("config", "seed", "virtual_shards", "ranks", "data", "build", "version", "libraries",
                "host", "environment"):
        assert key in manifest, key
    assert run["artifacts"], "weights and trace"
    assert all(re.fullmatch("[0-9a-f]{64}", a["digest"]) for a in run["artifacts"])


def test_show_text(digits, best):
    done = digits.run("show", best)
    trial = next(t for t in digits.result["trials"] if t["run"] == best)
    for word in (best, "parameters", "lr", "val_error", "manifest", "artifact",
                 trial["weights_digest"]):
        assert word in done.out, word
    assert not ANSI.search(done.out)


def test_show_a_sweep(digits):
    shown = digits.run("show", digits.result["sweep"], "--json").json
    assert shown["sweep"] == digits.result["sweep"] and shown["config"]["name"] == "digits-quick"


def test_unique_prefixes(digits, best):
    """Any prefix that only one run has, in either case; one that several have is refused."""
    runs = [t["run"] for t in digits.result["trials"]]
    length = next(n for n in range(1, 27) if sum(r.startswith(best[:n]) for r in runs) == 1)
    for prefix in (best[:length], best[:length].lower(), best):
        assert digits.run("show", prefix, "--json").json["run"] == best
    shared = os.path.commonprefix(runs)
    if shared:
        done = digits.run("show", shared, code=4)
        assert "ambiguous" in done.err or "several" in done.err, done.err
        assert done.out == ""
    unknown = ulid()
    assert unknown in digits.run("show", unknown, code=4).err
    assert digits.run("show", "not-an-id!", code=None).code in (2, 4)


def test_metrics_curve(digits, best):
    done = digits.run("metrics", best, "train_loss")
    assert "train_loss" in done.out and "last" in done.out and len(done.out.splitlines()) >= 12
    assert not ANSI.search(done.out)
    every = digits.run("metrics", best).out
    assert "train_loss" in every and "val_error" in every


def test_metrics_csv_has_every_bit(digits, best):
    rows = digits.run("metrics", best, "--csv").out.splitlines()
    assert rows[0] == "key,step,time_ns,value"
    printed = {}
    for row in rows[1:]:
        key, step, when, value = row.split(",")
        printed.setdefault(key, []).append((int(step), int(when), struct.pack("<d", float(value))))
    assert set(printed) >= {"train_loss", "val_error", "val_loss", "lr"}
    with digits.wire() as w:
        for key, points in printed.items():
            stored, _ = w.metric(best, key, rank=0)
            assert points == [(s, t, struct.pack("<d", v)) for s, t, v in stored], key
    steps = [s for s, _, _ in printed["train_loss"]]
    assert steps == list(range(1, len(steps) + 1)), "one point a step, from 1"


def test_metrics_csv_quotes_names(lab):
    """RFC 4180: a program that reads CSV gets the names back."""
    lab.daemon("tracker")
    names = ["plain", "a,b", 'say "x"', 'both, "of" them', "'single'", "a;b c"]
    with lab.wire() as w:
        run = ulid()
        w.write("run.create", run=run, experiment="csv", config={})
        for i, name in enumerate(names):
            w.log(run, {name: [(1, 10, i + 0.5), (2, 20, -i)]})
    rows = list(csv.DictReader(io.StringIO(lab.run("metrics", run, "--csv").out)))
    assert {(r["key"], r["step"], float(r["value"])) for r in rows} == {
        (n, s, v) for i, n in enumerate(names) for s, v in (("1", i + 0.5), ("2", -i))}
    assert all(set(r) == {"key", "step", "time_ns", "value"} for r in rows)


def test_metrics_json(digits, best):
    curves = digits.run("metrics", best, "train_loss", "val_error", "--json").json
    assert set(curves) == {"train_loss", "val_error"}
    assert len(curves["train_loss"]["steps"]) == len(curves["train_loss"]["values"]) > 0
    few = digits.run("metrics", best, "train_loss", "--json", "--points", "10").json["train_loss"]
    assert 2 <= len(few["steps"]) <= 10
    assert few["steps"][0] == 1 and few["steps"][-1] == curves["train_loss"]["steps"][-1]


def test_metrics_unknown_key(digits, best):
    assert "val_eror" in digits.run("metrics", best, "val_eror", code=4).err


def test_compare(digits):
    runs = [t["run"] for t in digits.result["trials"]][:3]
    table = digits.run("compare", *runs).out
    assert all(r in table for r in runs) and re.search(r"^lr ", table, re.M), table
    assert re.search(r"^metric val_error", table, re.M)
    assert "virtual_shards" not in table, "what is the same in all stays away"
    assert "virtual_shards" in digits.run("compare", *runs, "--all").out
    listed = digits.run("compare", *runs, "--json").json
    assert [r["run"] for r in listed] == runs


def through_a_terminal(*args, env, rows=40, columns=200):
    """What a command writes to a pseudo-terminal of this size."""
    import pty
    try:
        main, end = pty.openpty()
    except OSError as e:  # a bare chroot without /dev/pts
        pytest.skip(f"no pseudo-terminal: {e}")
    fcntl.ioctl(end, termios.TIOCSWINSZ, struct.pack("4H", rows, columns, 0, 0))
    child = subprocess.Popen([BIN / "trireme", *map(str, args)], env=env, stdin=end, stdout=end, stderr=end,
                             close_fds=True)
    os.close(end)
    text = b""
    while True:
        try:
            part = os.read(main, 4096)
        except OSError:  # EIO: the other end is closed
            break
        if not part:
            break
        text += part
    os.close(main)
    assert child.wait(60) == 0, text
    return text.decode()


def test_colour_only_where_a_terminal_is(digits):
    """Under a pseudo-terminal there is colour, unless NO_COLOR is set."""
    plain = {k: v for k, v in digits.env.items() if k != "NO_COLOR"}
    assert ANSI.search(through_a_terminal("ls", env=plain))
    assert not ANSI.search(through_a_terminal("ls", env=plain | {"NO_COLOR": "1"}))


def test_a_terminal_shows_a_picture(lab, small, tmp_path):
    """Drawn again in its place, a row for each trial that runs, none wider than the screen; the ranking stays."""
    needs("trireme-coordinator", "trireme-worker")
    text = through_a_terminal("run", write(tmp_path, sweep(small)), env=lab.env | {"NO_COLOR": "1"}, columns=100)
    pictures = [p.split("\r\n") for p in re.split(r"\r(?:\x1b\[\d+A)?\x1b\[J", text)[1:]]
    drawn = [p for p in pictures if re.search(r"/\d+ trials?, \d+ running", p[-1])]
    assert drawn and all(len(row) < 100 for p in drawn for row in p), pictures
    for p in drawn:
        trials = [re.match(r"  trial (\d+): [\d.]+/\d+ ", row) for row in p[:-1]]
        assert all(trials) and len({m[1] for m in trials}) == len(trials), p
    assert pictures[-1] not in drawn and "val_error" in "".join(pictures[-1]), "the ranking, below no picture"


def test_every_json_answer_parses(digits, best):
    for args in (["ls"], ["ls", "--runs"], ["ls", digits.result["sweep"]], ["show", best],
                 ["metrics", best], ["compare", best, best], ["models"], ["audit"], ["version"],
                 ["preview", CONFIGS / "digits-quick.yaml"]):
        done = digits.run(*args, "--json")
        assert isinstance(json.loads(done.out), (dict, list)), args
        assert done.err == "", (args, done.err)


def test_completion_knows_runs(digits, best):
    assert best in bash_completes(digits, "trireme", "show", best[:20])
    assert digits.result["sweep"] in bash_completes(digits, "trireme", "resume", "")
    assert bash_completes(digits, "trireme", "resume", "digits-q") == ["digits-quick"]
    assert {"val_error", "val_loss"} <= set(bash_completes(digits, "trireme", "metrics", best, "val_"))
    assert bash_completes(digits, "trireme", "artifact", best, "model.s") == ["model.safetensors"]
    assert "completed" in bash_completes(digits, "trireme", "ls", "--state", "comp")
    assert bash_completes(digits, "trireme", "run", "x.yaml", "--set", "=", "searcher.max_ti") == ["searcher.max_time="]


# ---- models and the audit ----

def unwritten(lab, run):
    """What acts says that it did where its answer is lost, and does nothing where nobody could read it."""
    versions = 2
    for json in ([], ["--json"]):
        with open("/dev/full", "wb") as full:
            done = subprocess.run([BIN / "trireme", "promote", run, "digits", *json], env=lab.env, stdout=full,
                                  stderr=subprocess.PIPE, text=True, timeout=120)
        versions += 1
        assert done.returncode == 7 and f"digits version {versions} was made, but: write to standard output" in done.stderr
    for args in (["promote", run, "digits"], ["models", "alias", "digits@other", "1"], ["keygen", "-n", "lost"],
                 ["run", "none.yaml"], ["replay", run]):
        done = subprocess.run([BIN / "trireme", *args], env=lab.env, preexec_fn=lambda: os.close(1), timeout=120,
                              stderr=subprocess.PIPE, text=True)
        assert done.returncode == 12 and "standard output" in done.stderr, (args, done)
    for args in (["audit", "--json"], ["keys"], ["wire"], ["show", run, "--json"]):
        done = subprocess.run([BIN / "trireme", *args], env=lab.env, preexec_fn=lambda: os.close(1), timeout=120)
        assert done.returncode == 12, args
    model, = lab.run("models", "--json").json
    assert model["newest"] == versions and model["aliases"] == {"live": 2}
    assert not list(Path(lab.path).glob("keys/lost*"))


def test_promoted_model_and_audit(lab, small, tmp_path):
    needs("trireme-export", "trireme-coordinator", "trireme-worker")
    best = lab.run("run", write(tmp_path, sweep(small)), "--json").json["best"]["run"]
    lab.daemon("tracker")
    lab.run("promote", best, "digits@live")
    models = lab.run("models", "--json").json
    assert models[0]["name"] == "digits" and models[0]["aliases"] == {"live": 1}
    assert "live" in lab.run("models").out
    for line in ["promote", best], ["export"], ["models"]:
        assert bash_completes(lab, "trireme", *line, "dig") == ["digits"], line
    card = lab.run("models", "digits@live", "--json").json
    assert card["run"] == best and card["version"] == 1
    lab.run("promote", best[:20], "digits@live", "--comment", "again")
    unwritten(lab, best)
    records = lab.run("audit", "--json").json
    assert [r["sequence"] for r in records] == list(range(1, len(records) + 1)) and len(records) >= 2
    assert all(a["digest"] == b["previous"] for a, b in zip(records, records[1:]))
    titles, *rows, end = [re.split(r"\s{2,}", row.strip()) for row in lab.run("audit").out.splitlines()]
    assert titles == "# when who action subject version alias comment digest".split()
    assert all(len(row) == len(titles) for row in rows) and end == [f"{len(rows)} records, chain intact"]
    for row, record in zip(rows, records):
        assert row[0] == str(record["sequence"]) and row[2:5] == [record[k] for k in ("actor", "action", "subject")]
        said = [record["details"].get(k) for k in ("version", "alias", "comment")]
        assert row[5:8] == ["-" if v is None else str(v) for v in said] and record["digest"].startswith(row[8])
    assert ["2", "live", "again"] in [row[5:8] for row in rows], rows
    assert lab.run("models", "digits@live", "--json").json["version"] == 2
    assert "nobody" in lab.run("models", "digits@nobody", code=4).err
