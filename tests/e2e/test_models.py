"""Registered models on the command line: names that can be exported, versions, aliases that go back."""
import socket

import pytest

from sweeps import Lab, ROOT
from test_export import Made
from wire import WireError, endpoint, ulid

CARD = {"weights": {"path": "model.safetensors", "digest": "ab" * 32, "size": 1}}


@pytest.fixture(scope="module")
def models():
    """(lab, runs): `digits` in three versions, the third is live; the tracker stays."""
    one = Lab()
    try:
        one.daemon("tracker")
        runs = [ulid() for _ in range(3)]
        with one.wire() as w:
            for run in runs:
                w.write("run.create", run=run, experiment="models")
                w.write("run.update", run=run, state="completed")
                w.write("model.promote", name="digits", run=run, alias="live", actor="ada", card=CARD)
        yield one, runs
    finally:
        one.stop()


def test_a_version_by_number_or_alias(models):
    lab, runs = models
    for what, version in (("digits", 3), ("digits@live", 3), ("digits@2", 2)):
        told = lab.run("models", what).json
        assert (told["version"], told["run"]) == (version, runs[version - 1]), what
    assert lab.run("models", "digits@9", code=4).out == ""
    lab.run("models", "digits@dead", code=4)


def test_an_alias_goes_back(models):
    lab, runs = models
    done = lab.run("models", "alias", "digits@live", "1", "-m", "version 3 is worse", "--actor", "bob")
    assert done.out == "digits version 1 is now @live\n"
    assert lab.run("models", "digits@live").json["run"] == runs[0]
    record = lab.ask("audit.list")["records"][-1]
    assert (record["actor"], record["details"]["comment"]) == ("bob", "version 3 is worse")
    told = lab.run("models", "alias", "digits@live", "3", "--json").json
    assert (told["name"], told["alias"], told["version"]) == ("digits", "live", 3) and told["audit"]
    assert lab.run("models", "digits@live").json["version"] == 3
    lab.run("models", "alias", "digits@live", "7", code=4)
    lab.run("models", "alias", "nobody@live", "1", code=4)
    for wrong in (["digits", "1"], ["digits@live", "one"], ["digits@2", "1"], ["digits@a/b", "1"]):
        assert lab.run("models", "alias", *wrong, code=2).out == ""
    assert "unexpected operand" in lab.run("models", "digits", "1", code=2).err
    assert "models alias" in lab.run("models", "digits", "--comment", "x", code=2).err


@pytest.mark.parametrize("name", ["../x", "a/b", "m@a@b", "", ".", "..", "@live", "a\nb", "a\033[31m", "a\u202eb",
                                  "x" * 201, "a b", "m@", "m@1", "m@a/b"])
def test_a_name_that_cannot_be_exported_is_not_given(models, name):
    lab, runs = models
    done = lab.run("promote", runs[0], name, code=2)
    assert "name" in done.err or "alias" in done.err, done.err
    assert "\033" not in done.err and "\u202e" not in done.err
    assert [m["name"] for m in lab.run("models", "--json").json] == ["digits"]


def test_a_run_is_sealed_by_hand(models):
    lab, _ = models
    run, going = ulid(), ulid()
    with lab.wire() as w:
        for one in (run, going):
            w.write("run.create", run=one, experiment="by hand")
        w.write("run.update", run=run, state="completed")
        w.log(run, {"after": [(1, 1, 1.0)]})  # a run of no sweep stays open after its end
        done = lab.run("seal", run, "-m", "published", "--actor", "ada")
        assert run in done.out and "sealed by ada" in done.out
        with pytest.raises(WireError) as caught:
            w.log(run, {"after": [(2, 2, 2.0)]})
        assert caught.value.code == "conflict"
        w.write("run.update", run=run, tags={"note": "still free"})
    assert "ada: published" in lab.run("show", run).out
    assert lab.run("seal", run, "--json").json["sealed"]["actor"] == "ada", "sealed once"
    assert "running" in lab.run("seal", going, code=5).err
    told = lab.run("seal", going, "--state", "failed", "--json").json
    assert told["state"] == "failed" and told["sealed"]["comment"] is None
    record = lab.ask("audit.list", limit=1000)["records"][-1]
    assert (record["action"], record["subject"]) == ("seal", going)
    lab.run("seal", ulid(), code=4)
    lab.run("seal", going, "--state", "running", code=2)


def test_handing_off_over_tcp_with_a_key(lab, tmp_path):
    """A submitter of another account: shows, exports, promotes a sweep's run, moves an alias; a viewer does not."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        where = f"tcp://127.0.0.1:{s.getsockname()[1]}"
    keys, allowed = tmp_path / "keys", tmp_path / "allowed"
    allowed.mkdir()
    for name, role in (("server", "admin"), ("ada", "submitter"), ("bob", "viewer"), ("wil", "worker")):
        lab.run("keygen", "--name", name, "--role", role, "-o", keys)
        if name != "server":
            (keys / f"{name}.public").rename(allowed / name)
    server = (keys / "server.public").read_text().split()[0]
    lab.daemon("tracker", "--endpoint", endpoint(lab.path, "tracker"), "--endpoint", where, "--keys",
               keys / "server.secret", "--allowed", allowed)
    with lab.wire() as w:
        run = Made(w, [{"dense": {"out": 10}}], (6,), sweep=True).run
    other = Lab()

    def call(who, *args, code=0):
        return other.run(*args, "--tracker", where, "--keys", keys / f"{who}.secret", "--tracker-key", server, code=code)

    try:
        assert call("ada", "promote", run, "net@live", "--json").json["version"] == 1
        assert call("ada", "promote", run, "net", "--json").json["version"] == 2
        call("ada", "models", "alias", "net@live", "2")
        told = call("bob", "export", "net@live", "-o", tmp_path / "out", "--json").json
        assert told["version"] == 2 and (tmp_path / "out" / "net.onnx").exists()
        assert call("bob", "show", run, "--json").json["run"] == run
        assert call("bob", "artifacts", run, "--json").json[0]["path"] == "model.onnx"
        for args in (["promote", run, "net"], ["models", "alias", "net@live", "1"], ["seal", run]):
            call("bob", *args, code=9)
        assert "needs the role" in call("wil", "promote", run, "net", code=9).err
        refusal = call("ada", "run", ROOT / "configs/digits-quick.yaml", "--json", code=9).json["error"]
        assert refusal["code"] == "denied" and "needs the role" in refusal["message"]  # at once, not after 21 starts
    finally:
        assert not other.stop()
