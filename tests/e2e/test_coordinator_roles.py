"""Who may ask the coordinator what, over TCP."""
import pytest

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

    admin = connect(where=where, server_key=keys.public, pair=keys.client("admin"))
    assert refused(admin, "run.get", run=ulid()) == "invalid"  # the tracker's
    admin.request("coordinator.shutdown")
    assert coordinator.process.wait(20) == 0
