"""Who may ask the coordinator what, over TCP."""
import pytest

from test_tracker_faults import Keys, tcp_endpoint
from wire import WireError, endpoint, ulid


def refused(wire, op, **fields):
    with pytest.raises(WireError) as caught:
        wire.request(op, **fields)
    return caught.value.code


def test_viewers_look_and_submitters_act(tracker, daemons, home, connect):
    keys = Keys(home)
    coordinator = daemons("trireme-coordinator", "--launch", "none", "-e", "tcp://127.0.0.1:*", "-e",
                          endpoint(home, "coordinator"), "--keys", keys.secret, "--allowed", keys.allowed)
    where, sweep, group = tcp_endpoint(coordinator), ulid(), ulid()
    lease = {"sweep": sweep, "trial": 1, "run": ulid(), "epoch": 1}

    viewer = connect(where=where, server_key=keys.public, pair=keys.client("viewer"))
    assert viewer.request("hello")["server"] == "trireme-coordinator"
    assert viewer.request("coordinator.status")["sweeps"] == []
    assert refused(viewer, "sweep.status", sweep=sweep) == "not_found"
    for op, fields in {
        "sweep.submit": {"sweep": sweep, "config": {}}, "sweep.cancel": {"sweep": sweep},
        "sweep.resume": {"sweep": sweep}, "coordinator.shutdown": {},
        "group.hello": {"group": group, "ranks": 1, "host": "h", "pid": 1, "device": "cpu", "build": "b"},
        "group.beat": {"group": group}, "group.bye": {"group": group, "reason": "none"},
        "trial.started": {"group": group, "lease": lease, "step": 0},
        "trial.report": {"group": group, "lease": lease, "step": 1, "units": 1.0, "metrics": {}},
        "trial.done": {"group": group, "lease": lease, "step": 1, "units": 1.0, "metrics": {}, "state": "completed"},
    }.items():
        assert refused(viewer, op, **fields) == "denied", op

    submitter = connect(where=where, server_key=keys.public, pair=keys.client("submitter"))
    assert refused(submitter, "sweep.cancel", sweep=sweep) == "not_found"
    assert refused(submitter, "run.get", run=ulid()) == "invalid"  # the tracker's
    submitter.request("coordinator.shutdown")
    assert coordinator.process.wait(20) == 0
