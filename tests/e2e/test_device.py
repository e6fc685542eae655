"""`device: auto | cpu | cuda` from outside: what is said where there is no GPU, and who gets which GPU, on the
stand-ins of the CUDA libraries (tests/standin)."""
import json
import os
import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from sweeps import BIN, CONFIGS, PATIENCE, needs, sweep, write

BACKEND = BIN.parent / "lib" / "libtrireme-cuda.so"
STANDIN = BIN.parent / "standin" / "lib"
DRIVER = Path("/dev/nvidiactl").exists() or Path("/proc/driver/nvidia").exists()
LR = {"lr": {"type": "categorical", "vals": [0.01, 0.02, 0.03, 0.04]}}

pytestmark = pytest.mark.toolkit


@pytest.fixture(autouse=True)
def built():
    needs("trireme-coordinator", "trireme-worker")


@pytest.fixture
def gpus(lab):
    """gpus(2): a machine with two of them."""
    if not (STANDIN / "libtrireme-cuda.so").exists():
        pytest.skip(f"no stand-ins in {STANDIN}: make standin")

    def make(count, **more):
        lab.env |= {"TRIREME_CUDA_BACKEND": str(STANDIN / "libtrireme-cuda.so"),
                    "TRIREME_NCCL": str(STANDIN / "libnccl.so.2"), "TRIREME_STANDIN_GPUS": str(count), **more}

    return make


def without(lab, backend="/nonexistent/libtrireme-cuda.so"):
    """A machine whose GPU backend is not there."""
    lab.env["TRIREME_CUDA_BACKEND"] = str(backend)


def reason(lab):
    """Why there is no GPU, by trireme version; a worker says the same and ends with 0."""
    said = lab.run("version", "--json").json
    assert said["gpus"] == []
    done = lab.run("--devices", "--json", program="trireme-worker")
    assert done.err == "" and done.json["no_gpu"] == said["no_gpu"]
    return said["no_gpu"]


def small_sweep(small, **more):
    config = sweep(small, steps=8, searcher={"name": "grid"}, lr="${lr}", hyperparameters=LR)
    config["resources"] = {"slots_per_trial": 1, "max_slots": 4}
    config["training"]["optimizer"]["lr"] = "${lr}"
    return config | more


def launched(lab):
    """What the groups of this home saw, in the order of their start."""
    log = (lab.path / "log" / "coordinator.log").read_text()
    return [m[1] for m in re.finditer(r" launch pid=\d+ ranks=\d+ log=\S+(?: CUDA_VISIBLE_DEVICES=(\S+))?", log)]


# ---- no GPU ----

def test_what_the_machine_offers(lab):
    without(lab)
    said = lab.run("version", "--json").json
    assert said["isa"] and said["cores"] >= 1 and said["libraries"]["onednn"] and said["gpus"] == []
    text = lab.run("version").out
    assert re.search(r"^gpu +none: looked for the GPU backend \(/nonexistent/", text, re.M), text
    listed = lab.run("--devices", program="trireme-worker").out
    assert re.search(r"^cpu +.*\d+ cores", listed, re.M) and re.search(r"^gpu +none: looked", listed, re.M)


def test_each_reason_has_its_words(lab, tmp_path):
    without(lab)
    missing = reason(lab)
    assert "/nonexistent/libtrireme-cuda.so" in missing and "CUDA=1" in missing
    damaged = tmp_path / "libtrireme-cuda.so"
    damaged.write_bytes((BIN / "trireme").read_bytes()[:100])
    without(lab, damaged)
    short = reason(lab)
    assert str(damaged) in short and "does not load" in short
    assert len({missing, short}) == 2
    if not BACKEND.exists() or DRIVER:
        pytest.skip("no GPU backend was built, or a driver is here")
    without(lab, BACKEND)
    driver = reason(lab)
    assert "NVIDIA driver" in driver and "580 or later" in driver
    assert len({missing, short, driver}) == 3


SLOW = r"""
#include <stdio.h>
#include <time.h>
#include <unistd.h>
__attribute__((constructor)) static void load(void) {
    FILE *f = fopen("%s", "r+");
    int left = 0;
    if (!f || fscanf(f, "%%d", &left) != 1 || left < 1)
        return;
    rewind(f);
    fprintf(f, "%%d\n", left - 1);
    fclose(f);
    for (;;)
        pause();
}
"""


def test_a_slow_first_load_is_not_no_gpu(lab, tmp_path):
    """A backend whose libraries take for ever to load, so many times: each try is a process of its own."""
    count, library = tmp_path / "count", tmp_path / "libslow.so"
    (tmp_path / "slow.c").write_text(SLOW % count)
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", library, tmp_path / "slow.c"], check=True)
    without(lab, library)
    lab.env["TRIREME_DEVICES_WAIT_MS"] = "300"

    def ask(times, code, *args, program="trireme-worker"):
        count.write_text(f"{times}\n")
        return lab.run(*args, program=program, code=code)

    assert "CUDA's libraries were not loaded in 0.3 s" in ask(1, 0, "--devices").out
    last = ask(2, 3, "--devices", "--need-gpu")
    assert [int(n) for n in re.findall(r"try (\d) of 3: no GPU: CUDA's libraries were not loaded", last.err)] == [1, 2]
    assert "is not a GPU backend of Trireme" in last.out  # the third try did load it
    assert count.read_text().strip() == "0"
    never = ask(9, 3, "version", "--need-gpu", "--json", program="trireme")
    assert never.json["gpus"] == [] and "were not loaded" in never.json["no_gpu"]
    assert count.read_text().strip() == "6"
    assert "--need-gpu belongs to --devices" in lab.run("--need-gpu", program="trireme-worker", code=2).err


def test_a_gpu_that_is_needed_and_there(lab, gpus):
    gpus(1)
    assert lab.run("--devices", "--need-gpu", "--json", program="trireme-worker").json["gpus"][0]["gpu"] == "stand-in"
    assert "stand-in" in lab.run("version", "--need-gpu").out


def test_a_sweep_that_insists_ends_at_once(lab, small, tmp_path):
    without(lab)
    file = write(tmp_path, small_sweep(small, device="cuda"))
    for args in [file], [file, "--device", "cuda"]:
        done = lab.run("run", *args, code=8)
        assert "device cuda: looked for the GPU backend" in done.err and "CUDA=1" in done.err, done
        lab.assert_quiet()
    assert "device cuda: looked" in lab.run("preview", file, code=8).err
    assert "--device must be" in lab.run("coordinator", "--device", "gpu", code=2).err
    done = lab.run("run", file, "--device", "gpu", code=2)
    assert "device" in done.err and "cuda" in done.err


def test_auto_and_an_override_take_the_cpu(lab, small, tmp_path):
    without(lab)
    file = write(tmp_path, small_sweep(small, device="cuda"))
    for device in "auto", "cpu":
        result = lab.run("run", file, "--device", device, "--json").json
        assert {t["state"] for t in result["trials"]} == {"completed"}
    assert set(launched(lab)) == {None}
    assert " no_gpu " in (lab.path / "log" / "coordinator.log").read_text()


def test_submitted_to_a_coordinator_without_one(lab, small, tmp_path):
    without(lab)
    lab.daemon("tracker")
    lab.daemon("coordinator")
    file = write(tmp_path, small_sweep(small, device="cuda", max_restarts=1))
    done = lab.run("submit", file, "--wait", code=1)
    assert "trial 1 failed: " in done.err and "device cuda: looked for the GPU backend" in done.err


def test_precision_needs_a_gpu(lab, small, tmp_path):
    without(lab)
    config = small_sweep(small, max_restarts=0)
    config["training"]["precision"] = "bf16"
    assert "bf16" in lab.run("run", write(tmp_path, config), code=2).err
    done = lab.run("run", "--no-check", write(tmp_path, config), code=1)
    assert "bf16" in done.err and "trial 1 failed: " in done.err
    config = small_sweep(small, max_restarts=0)
    config["reproducibility"]["bitwise"] = False
    for code, no in (2, []), (1, ["--no-check"]):
        assert "bitwise: false" in lab.run("run", *no, write(tmp_path, config), code=code).err


@pytest.mark.slow
def test_a_driver_that_hangs(lab, small, tmp_path):
    """Whoever asks waits eight seconds; then it is a machine without a GPU, for all groups."""
    source, library = tmp_path / "hang.c", tmp_path / "libtrireme-cuda.so"
    source.write_text("#include <unistd.h>\n__attribute__((constructor)) static void f(void) { for (;;) pause(); }\n")
    subprocess.run([os.environ.get("CC", "gcc"), "-shared", "-fPIC", "-o", library, source], check=True)
    without(lab, library)
    version = lab.start("version", "--json")
    begin = time.monotonic()
    result = lab.run("run", write(tmp_path, small_sweep(small)), "--json").json
    assert {t["state"] for t in result["trials"]} == {"completed"}
    assert time.monotonic() - begin < 40 * PATIENCE
    said = json.loads(version.communicate()[0])
    assert version.returncode == 0 and "were not loaded in 8 s" in said["no_gpu"]


# ---- plans for a GPU that is not here ----

def test_preview_for_a_gpu(lab):
    file = CONFIGS / "fashion-gpu.yaml"
    plan = lab.run("preview", file, "--json", "--assume-gpu", "80").json["plan"]
    assert plan["ranks"] == 1 and plan["budget"]["recorded"]
    text = lab.run("preview", file, "--assume-gpu", "80", "--assume-ranks", "2").out
    assert "on GPUs of 80 GiB, one for each of 2 ranks" in text and "4 shards at a time" in text
    assert re.search(r"^total +\d+\.\d{3} +all of the above", text, re.M), text
    assert "device auto" in text
    assert re.search(r"planned on .+ \(\S+\)", lab.run("preview", file, "--device", "cpu").out)
    wide = ["--set", "training.global_batch_size=4194304", "--set", "hyperparameters.hidden={type: const, val: 65536}"]
    done = lab.run("preview", file, "--assume-gpu", "4", *wide, code=None)
    assert done.code not in (0, None) and "GiB" in done.err, done
    for args in ["--assume-ranks", "2"], ["--assume-gpu", "80", "--no-model"]:
        assert "--assume-gpu" in lab.run("preview", file, *args, code=2).err


# ---- GPUs ----

def test_version_lists_gpus(lab, gpus):
    gpus(2)
    said = lab.run("version", "--json").json
    assert [g["index"] for g in said["gpus"]] == [0, 1] and "no_gpu" not in said
    assert all(g["gpu"] and g["memory"] > 1 << 30 and g["isa"].startswith("sm_") for g in said["gpus"])
    assert {"cuda", "driver", "cublas", "cudnn", "nccl", "onednn"} <= set(said["libraries"])
    text = lab.run("version").out
    assert len(re.findall(r"^gpu [01] .* GiB, sm_", text, re.M)) == 2 and re.search("^cudnn ", text, re.M)


def test_a_gpu_that_is_full_is_no_reason_to_refuse(lab, gpus, small, tmp_path):
    """One rank, planned alone beside others, says nothing about a group: told, and left to the group."""
    config = small_sweep(small, device="cuda", max_restarts=0, model=[{"dense": {"out": 32768}}, {"dense": {"out": 10}}])
    file = write(tmp_path, config)
    gpus(1, TRIREME_STANDIN_MEMORY=str(700 << 20))
    assert "GiB are free" in lab.run("preview", file, code=2).err
    done = lab.run("run", file, code=1)
    assert "the first trial was not checked: " in done.err and "trial 1 failed: " in done.err, done


def test_a_driver_without_gpus(lab, gpus):
    gpus(0)
    assert "shows no GPU" in reason(lab)
    gpus(1, TRIREME_STANDIN_DRIVER="35")
    assert "580 or later" in reason(lab)


def test_a_gpu_that_is_taken(lab, gpus, small, tmp_path):
    """In exclusive mode, held by another process: left out by auto, the end of who insists."""
    gpus(2, TRIREME_STANDIN_FAIL="cudaSetDevice:1:46")
    taken, free = lab.run("version", "--json").json["gpus"]
    assert "exclusive mode" in taken["error"] and free["gpu"]
    gpus(1)
    file = write(tmp_path, small_sweep(small))
    assert "exclusive mode" in lab.run("run", file, "--device", "cuda", code=8).err
    lab.assert_quiet()
    result = lab.run("run", file, "--json").json
    assert {t["state"] for t in result["trials"]} == {"completed"}
    assert set(launched(lab)) == {None}


def trained(lab, small, tmp_path, slots_per_gpu, **more):
    config = small_sweep(small, device="cuda", **more)
    config["resources"]["slots_per_gpu"] = slots_per_gpu
    result = lab.run("run", write(tmp_path, config), "--json").json
    assert [t["state"] for t in result["trials"]] == ["completed"] * 4, result
    lab.assert_quiet()
    return {json.dumps(t["hyperparameters"]): t["weights_digest"] for t in result["trials"]}


def test_groups_share_and_spread(lab, gpus, small, tmp_path):
    """Four groups: two on each of two cards, all on one, one after the other on another; the same bits."""
    gpus(2)
    first = trained(lab, small, tmp_path, 2)
    assert launched(lab) == ["0", "1", "0", "1"]
    gpus(1)
    assert trained(lab, small, tmp_path, 4) == first
    assert launched(lab)[4:] == ["0"] * 4
    gpus(1)
    assert trained(lab, small, tmp_path, 1) == first
    assert launched(lab)[8:] == ["0"], "no group beyond the slots"


def test_resumed_where_there_is_no_gpu(lab, gpus, small, tmp_path):
    gpus(1)
    trained(lab, small, tmp_path, 1)
    without(lab)
    sweep_id = lab.run("ls", "--ids").out.strip()
    assert "device cuda: looked for" in lab.run("resume", sweep_id, code=8).err
    lab.assert_quiet()


def test_a_list_of_the_users_own(lab, gpus, small, tmp_path):
    gpus(2)
    lab.env["CUDA_VISIBLE_DEVICES"] = "6,GPU-12ab"
    trained(lab, small, tmp_path, 1)
    assert launched(lab) == ["6", "GPU-12ab"]


def test_more_ranks_than_slots(lab, gpus, small, tmp_path):
    """A group of two on one card, alone, and a group of two on two: the same bits."""
    gpus(2)
    two = trained(lab, small, tmp_path, 1, resources={"slots_per_trial": 2, "max_slots": 4})
    assert launched(lab) == ["0,1"]
    gpus(1)
    assert trained(lab, small, tmp_path, 1, resources={"slots_per_trial": 2, "max_slots": 4}) == two
    assert launched(lab)[1:] == ["0"]


def test_status_names_the_gpu(lab, gpus, small, tmp_path):
    gpus(1)
    name = lab.run("version", "--json").json["gpus"][0]["gpu"]
    lab.daemon("tracker")
    lab.daemon("coordinator", "--device", "cuda")
    lab.run("submit", write(tmp_path, small_sweep(small, device="cuda")), "--wait")
    groups = lab.run("status", "--json").json["groups"]
    assert groups and {g["device"] for g in groups} == {name}
    assert name in lab.run("status").out


@pytest.mark.parametrize("library, words", [("libcudart.so.13", "libcudart"), ("libcublasLt.so.13", "libcublasLt"),
                                            ("libcudnn.so.9", "libcudnn")])
def test_each_library(lab, gpus, tmp_path, library, words):
    """One after the other is damaged, or gone: its name stands in the reason."""
    gpus(1)
    folder = tmp_path / "lib"
    shutil.copytree(STANDIN, folder)
    (folder / library).write_bytes(b"")
    without(lab, folder / "libtrireme-cuda.so")
    assert words in reason(lab)
    assert words in lab.run("run", CONFIGS / "digits-quick.yaml", "--device", "cuda", code=8).err
    lab.assert_quiet()


# ---- the shell ----

def test_completion_knows_values(lab):
    line = ("source <(trireme completion bash); COMP_WORDS=(trireme run --device c); COMP_CWORD=3; _trireme; "
            "echo ${COMPREPLY[@]}; COMP_WORDS=(trireme preview --assume); COMP_CWORD=2; _trireme; echo ${COMPREPLY[@]}")
    done = subprocess.run(["bash", "-c", line], env=lab.env | {"PATH": f"{BIN}:{os.environ['PATH']}"},
                          capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["cpu cuda", "--assume-gpu --assume-ranks"]
