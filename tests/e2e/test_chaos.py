"""tests/chaos, a short run of it: kills, stops, tiny disks and failing writes on real sweeps."""
import os
import subprocess
import sys

import pytest

from sweeps import BIN, FASHION, ROOT, needs


def test_chaos():
    """Four rounds of one seed, one of them with failing writes or a small disk. `make proof` runs 40, `make chaos` 200,
    each time with a new seed."""
    needs("trireme-coordinator", "trireme-worker")
    if not FASHION.exists():
        pytest.skip(f"no Fashion-MNIST in {FASHION} (apt install dataset-fashion-mnist)")
    env = {k: v for k, v in os.environ.items() if k != "SKIPPED" and not k.startswith("CHAOS_")}
    done = subprocess.run([sys.executable, ROOT / "tests/chaos/chaos.py", "--rounds", "4",
                           "--seed", os.environ.get("CHAOS_SEED") or "1"], text=True, env=env | {"TRIREME_BIN": str(BIN)},
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert done.returncode == 0, done.stdout
