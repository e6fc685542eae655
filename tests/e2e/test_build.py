"""What the Makefile builds: with and without the GPU backend, and what the results are linked against."""
import os
import re
import subprocess

import pytest

from sweeps import BIN, ROOT

BACKEND = BIN.parent / "lib" / "libtrireme-cuda.so"


def needed(file):
    out = subprocess.run(["readelf", "-d", file], check=True, capture_output=True, text=True).stdout
    return re.findall(r"NEEDED.*\[(.*)\]", out)


def test_nothing_needs_the_driver():
    """libcuda comes with the driver: what links it does not even start on a machine without one."""
    for file in [*BIN.iterdir(), *([BACKEND] if BACKEND.exists() else [])]:
        libraries = needed(file)
        assert not [n for n in libraries if n.startswith(("libcuda.", "libnvidia"))], file
        if file != BACKEND:
            assert not [n for n in libraries if re.match(r"lib(cu|nv|nccl)", n)], f"{file} must run without CUDA"


@pytest.mark.toolkit
def test_the_backend_shows_one_symbol():
    if not BACKEND.exists():
        pytest.skip("no CUDA toolkit here: the backend was not built")
    out = subprocess.run(["nm", "-D", "--defined-only", BACKEND], check=True, capture_output=True, text=True).stdout
    assert [line.split()[-1] for line in out.splitlines()] == ["trireme_backend"]


def test_every_architecture_is_compiled():
    """sm_80, sm_90a, and PTX without the `a`, which is the one that later cards can take."""
    flags = subprocess.run(["make", "-s", "--eval=show:; @echo '$(NVCC_FLAGS)'", "show"], cwd=ROOT, check=True,
                           capture_output=True, text=True, env={**os.environ, "MAKEFLAGS": ""}).stdout
    assert re.findall(r"code=(\w+)", flags) == ["sm_80", "sm_90a", "compute_90"]
    assert "--fmad=false" in flags, "contraction would change bits"


def test_without_cuda(tmp_path):
    """CUDA=0: no backend is built, and the worker says so instead of looking for one."""
    done = subprocess.run(["make", "-j2", "CUDA=0", f"BUILD={tmp_path}", f"{tmp_path}/bin/trireme-worker"], cwd=ROOT,
                          capture_output=True, text=True, timeout=600, env={**os.environ, "MAKEFLAGS": ""})
    assert done.returncode == 0, done.stderr[-2000:]
    assert not (tmp_path / "lib" / "libtrireme-cuda.so").exists()
    config = tmp_path / "trial.json"
    config.write_text('{"seed": 1, "max_time": 1, "device": "cuda", "data": {"train": {"format": "npy"}}, "model": '
                      '["relu"], "training": {"loss": "mse", "global_batch_size": 8, "optimizer": {"name": "sgd", '
                      '"lr": 0.1}}}')
    env = {k: v for k, v in os.environ.items() if k != "TRIREME_CUDA_BACKEND"}
    done = subprocess.run([tmp_path / "bin" / "trireme-worker", "--train", config], capture_output=True, text=True,
                          timeout=240, env=env)
    assert done.returncode == 8
    assert "device cuda" in done.stderr and "CUDA=1" in done.stderr, done.stderr


def test_cuda_1_without_a_toolkit(tmp_path):
    done = subprocess.run(["make", "CUDA=1", "CUDA_HOME=/nonexistent", f"BUILD={tmp_path}", "build"], cwd=ROOT,
                          capture_output=True, text=True, env={**os.environ, "MAKEFLAGS": ""})
    assert done.returncode != 0 and "nvcc" in done.stderr and "make deps CUDA=1" in done.stderr
