"""What the Makefile builds: with and without the GPU backend, and what the results are linked against."""
import os
import re
import shutil
import subprocess

import pytest

from sweeps import BIN, ROOT, built_with

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


def make(*arguments):
    return subprocess.run(["make", *map(str, arguments)], cwd=ROOT, capture_output=True, text=True, timeout=600,
                          env={**os.environ, "MAKEFLAGS": ""})


def compiled(build, *options):
    """{object: how it is compiled} of a worker that would be built there from nothing."""
    lines = make("-n", "-s", f"BUILD={build}", *options, f"{build}/bin/trireme-worker").stdout.splitlines()
    found = [(line, re.search(rf" -c -o {build}/obj/(\S+\.o) (?!{build}/)", line)) for line in lines]
    return {match[1]: line for line, match in found if match}


def lend_objects(build, *options):
    """What is compiled with these options as it was in this tree need not be compiled again."""
    ours, theirs = compiled(build, *built_with()), compiled(build, *options)
    assert ours and theirs.keys() <= ours.keys()
    make(f"BUILD={build}", *built_with(), build / "flags")
    if (build / "flags").read_bytes() == (BIN.parent / "flags").read_bytes():
        for name in (n for n in theirs if theirs[n] == ours[n] and (BIN.parent / "obj" / n).exists()):
            (build / "obj" / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(BIN.parent / "obj" / name, build / "obj" / name)
    make(f"BUILD={build}", *options, build / "flags")
    os.utime(build / "flags", (0, 0))


def test_without_cuda(tmp_path):
    """CUDA=0: no backend is built, and the worker says so instead of looking for one."""
    options = [*built_with(), "CUDA=0"]  # of two, make takes the later one
    lend_objects(tmp_path, *options)
    done = make("-j2", *options, f"BUILD={tmp_path}", tmp_path / "bin/trireme-worker")
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
