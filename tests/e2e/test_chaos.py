"""tests/chaos, a short run of it: kills, stops, tiny disks and failing writes on real sweeps."""
import os
import subprocess
import sys

import pytest

from sweeps import BIN, FASHION, ROOT, needs


@pytest.mark.parametrize("rounds, seed", [(4, "1"), pytest.param(200, None, marks=pytest.mark.proof)])
def test_chaos(rounds, seed):
    """The long run has a new seed each time; its output says how to repeat it."""
    needs("trireme-coordinator", "trireme-worker")
    if not FASHION.exists():
        pytest.skip(f"no Fashion-MNIST in {FASHION} (apt install dataset-fashion-mnist)")
    env = {k: v for k, v in os.environ.items() if not k.startswith("CHAOS_")} | {"TRIREME_BIN": str(BIN)}
    seed = os.environ.get("CHAOS_SEED") or seed
    done = subprocess.run([sys.executable, ROOT / "tests/chaos/chaos.py", "--rounds", str(rounds),
                           *(["--seed", seed] if seed else [])], text=True, env=env, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT)
    assert done.returncode == 0, done.stdout
