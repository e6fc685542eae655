"""Who may ask the coordinator what, over TCP."""
import pytest

from sweeps import sweep, until
from test_tracker_faults import Keys, tcp_endpoint
from wire import WireError, endpoint, ulid


def refused(wire, op, **fields):
    with pytest.raises(WireError) as caught:
        wire.request(op, **fields)
    return caught.value.code


GROUP = {"group.hello", "group.beat", "group.bye", "trial.started", "trial.report", "trial.done"}
PEOPLE = {"sweep.submit", "sweep.cancel", "sweep.resume"}


def test_each_role_has_its_own_rights(tracker, daemons, home, connect):
    keys = Keys(home)
    coordinator = daemons("trireme-coordinator", "--launch", "none", "-e", "tcp://127.0.0.1:*", "-e",
                          endpoint(home, "coordinator"), "--keys", keys.secret, "--allowed", keys.allowed)
    where, sweep, group = tcp_endpoint(coordinator), ulid(), ulid()
    lease = {"sweep": sweep, "trial": 1, "run": ulid(), "epoch": 1}
    asked = {
        "sweep.submit": {"sweep": sweep, "config": {}}, "sweep.cancel": {"sweep": sweep},
        "sweep.resume": {"sweep": sweep}, "coordinator.shutdown": {},
        "group.hello": {"group": group, "ranks": 1, "host": "h", "pid": 1, "device": "cpu", "build": "b"},
        "group.beat": {"group": group}, "group.bye": {"group": group, "reason": "none"},
        "trial.started": {"group": group, "lease": lease, "step": 0},
        "trial.report": {"group": group, "lease": lease, "step": 1, "units": 1.0, "metrics": {}},
        "trial.done": {"group": group, "lease": lease, "step": 1, "units": 1.0, "metrics": {}, "state": "completed"},
    }
    for role, may in {"viewer": set(), "submitter": PEOPLE, "worker": GROUP, "coordinator": set()}.items():
        wire = connect(where=where, server_key=keys.public, pair=keys.client(role))
        assert wire.request("hello")["server"] == "trireme-coordinator"
        assert wire.request("coordinator.status")["sweeps"] == []
        assert refused(wire, "sweep.status", sweep=sweep) == "not_found"
        for op, fields in asked.items():
            try:
                wire.request(op, **fields)
                code = None
            except WireError as error:
                code = error.code
            assert (code != "denied") == (op in may), (role, op, code)

    (keys.allowed / "viewer.public").unlink()  # its connection is ended, and the tracker notes it
    records = until(lambda: connect().request("audit.list")["records"], "the audit record")
    assert [(r["actor"], r["action"], r["details"]["role"], r["details"]["connections"]) for r in records] == [
        ("trireme-coordinator", "revoke", "viewer", 1)]

    admin = connect(where=where, server_key=keys.public, pair=keys.client("admin"))
    assert refused(admin, "run.get", run=ulid()) == "invalid"  # the tracker's
    admin.request("coordinator.shutdown")
    assert coordinator.process.wait(20) == 0


def test_groups_have_keys_of_their_own(daemons, home, connect, small):
    """Over TCP the coordinator writes as `coordinator`, and the groups that it launches as `worker`."""
    keys = Keys(home)
    tracker = daemons("trireme-tracker", "-e", "tcp://127.0.0.1:*", "--keys", keys.secret, "--allowed", keys.allowed)

    def file_of(role):
        path = keys.directory / f"{role}.secret"
        path.write_text("\n".join(keys.client(role)) + "\n")
        path.chmod(0o600)
        return path

    daemons("trireme-coordinator", "--max-slots", "1", "--tracker", tcp_endpoint(tracker), "--tracker-key", keys.public,
            "--keys", file_of("coordinator"), "--worker-keys", file_of("worker"))
    sweep_id = ulid()
    people = connect("coordinator")
    people.request("sweep.submit", sweep=sweep_id, config=sweep(small, steps=20), base=str(home))
    status = until(lambda: (s := people.request("sweep.status", sweep=sweep_id)["sweep"])["state"] != "active" and s,
                   "the end of the sweep", 60)
    assert status["state"] == "completed", status
    reader = connect(where=tcp_endpoint(tracker), server_key=keys.public, pair=keys.client("viewer"))
    run = reader.request("run.get", run=status["trials"][0]["run"])["run"]
    assert run["state"] == "completed" and run["manifest"] and run["summary"]["weights_digest"]
