#!/usr/bin/env python3
"""Measures training on a GPU beside PyTorch on the same card in the same run; prints a table and writes build/bench-gpu.json.

    gpu.py [--only training|sweeps] [--no-peers] [--peer-seconds N] [--out FILE]

Values are medians. What is compared runs in turns: ours, PyTorch, ours again. A program that fails ends the benchmark with
its words: nothing is guessed. On the stand-ins of the CUDA libraries (tests/standin) a few steps are made to try the
benchmark itself; its figures mean nothing and say so. It needs Python and the executables alone; PyTorch is taken from
build/peers or from the Python that runs this.

Variables: BUILD (the build tree), FASHION_MNIST (the data set's folder), PEER_LD_LIBRARY_PATH (PyTorch's, if another).
"""
import argparse
import csv
import importlib.util
import json
import os
import pathlib
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = (ROOT / os.environ.get("BUILD", "build")).resolve()
FASHION = pathlib.Path(os.environ.get("FASHION_MNIST") or "/usr/share/datasets/fashion-mnist")
ENV = dict(os.environ, OMP_NUM_THREADS="1", OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1",
           OMPI_MCA_pml="ob1", OMPI_MCA_btl="self,vader", OMPI_MCA_btl_vader_single_copy_mechanism="none")
PRECISIONS = "fp32", "tf32", "bf16"
BATCH = 256
TARGETS = {"mlp": 3, "cnn": 1.5}  # times PyTorch
PRICE = 1.07                      # of exact bits
results = []


def machine():
    """The GPUs that can be used; ends the benchmark where there is none."""
    if not (BUILD / "bin/trireme-worker").exists():
        sys.exit(f"bench-gpu: no executables in {BUILD}/bin: run make first")
    said = json.loads(run([BUILD / "bin/trireme-worker", "--devices", "--json"]))
    gpus = [g for g in said["gpus"] if g.get("gpu")]
    if not gpus:
        why = said.get("no_gpu") or "; ".join(g.get("error", "a GPU does not answer") for g in said["gpus"])
        sys.exit(f"bench-gpu: no GPU: {why}")
    return {"gpus": gpus, "cpu": said["cpu"], "libraries": said["libraries"], "date": time.strftime("%Y-%m-%d"),
            "standin": gpus[0]["gpu"] == "stand-in"}


def run(command, **options):
    done = subprocess.run([str(c) for c in command], env=options.pop("env", ENV), stdout=subprocess.PIPE, text=True,
                          timeout=options.pop("timeout", 600), **options)
    if done.returncode != 0:
        sys.exit(f"bench-gpu: {' '.join(map(str, command))} ended with exit code {done.returncode}")
    return done.stdout


def json_lines(text):
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]


def record(name, value, unit, peer=None, ratio=None, target=None, met=None, **more):
    results.append({"name": name, "value": value, "unit": unit, "peer": peer, "ratio": ratio, "target": target,
                    "met": met} | more)
    shown = f"{value:.4g} {unit}".strip()
    beside = "" if peer is None else f"{peer['name']} {peer['value']:.4g} {peer['unit']}"
    by = "" if ratio is None else f"{ratio:.2f}x"
    verdict = "stand-in" if here["standin"] else "" if met is None else "met" if met else "MISSED"
    print(f"{name:34} {shown:>18} {beside:>44} {by:>8}  {target or '':8} {verdict}", flush=True)


# ---- training ----

def ours(precision, *cases, loose=False, ranks=1, exchange="auto"):
    """{case: line} of bench_train: five runs each, cases interleaved."""
    command = ["mpirun", "--oversubscribe", "--bind-to", "none", "-n", ranks] if ranks > 1 else []
    command += [BUILD / "tests/bench/worker/bench_train", "--device", "cuda", "--precision", precision, "--exchange",
                exchange, *(["--loose"] if loose else []), *(["--steps", "1"] if here["standin"] else []), *cases]
    return {line["case"]: line for line in json_lines(run(command))}


def peer_python():
    """A Python with PyTorch for GPUs; None: there is none."""
    beside = BUILD / "peers/bin/python"
    return str(beside) if beside.exists() else sys.executable if importlib.util.find_spec("torch") else None


def pytorch(net, precision):
    """Its fastest variant. One that is still being compiled after `peer_seconds` is left out, and named."""
    command = [peer_python(), str(ROOT / "tests/bench/peers/pytorch_gpu.py"), net, str(BATCH), precision]
    if here["standin"]:
        command += ["--device", "cpu", "--steps", "1"]
    env = dict(ENV, OMP_NUM_THREADS="8")
    if "PEER_LD_LIBRARY_PATH" in env:  # PyTorch finds its own CUDA libraries; ours may be others
        env["LD_LIBRARY_PATH"] = env["PEER_LD_LIBRARY_PATH"]
    child = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True, start_new_session=True)
    try:
        text, late = child.communicate(timeout=peer_seconds)[0], False
    except subprocess.TimeoutExpired:
        os.killpg(child.pid, signal.SIGKILL)
        text, late = child.communicate()[0], True
    except KeyboardInterrupt:
        os.killpg(child.pid, signal.SIGKILL)
        raise
    found = json_lines(text)
    if not found:
        sys.exit(f"bench-gpu: {' '.join(command)} measured nothing (exit code {child.returncode})")
    return min(found, key=lambda f: f["step_ms"]), found, late


def medians(lines):
    return statistics.median(ms for line in lines for ms in line["runs"])


def bench_net(net, precision, peers):
    case, name = f"{net}{BATCH}", f"gpu.{net}.{precision}"
    before = ours(precision, case)
    best = all_of = peer = None
    if peers:
        best, all_of, late = pytorch(net, precision)
        peer = {"name": f"PyTorch {best['variant']}", "value": best["step_ms"] * 1e3, "unit": "us"}
    after = ours(precision, case, f"{case}-v1")
    loose = ours(precision, f"{case}-v1", loose=True)[f"{case}-v1"]
    ms = medians([before[case], after[case]])
    if peer is None:
        record(name, ms * 1e3, "us/step", runs=before[case]["runs"] + after[case]["runs"])
    else:
        ratio = best["step_ms"] / ms
        record(name, ms * 1e3, "us/step", peer, ratio, f">= {TARGETS[net]}", ratio >= TARGETS[net],
               runs=before[case]["runs"] + after[case]["runs"], variants=all_of, peer_timed_out=late)
    record(f"{name}.steps_per_s", 1e3 / ms, "1/s")
    record(f"{name}.mfu", after[case]["mfu"], "")
    # bitwise: false on one rank, without virtual shards: what a program that promises nothing would do
    price = ms / loose["step_ms"]
    record(f"{name}.exact_price", price, "", target=f"<= {PRICE}", met=price <= PRICE)
    record(f"{name}.shards_price", ms / medians([after[f"{case}-v1"]]), "")


def bench_ranks(gpus):
    """Several GPUs: NCCL's reductions (bitwise: false) beside the exact exchange."""
    for ranks in (n for n in (2, 4, 8) if n <= gpus):
        for precision in "fp32", "bf16":
            exact = ours(precision, "mlp1024", "cnn256", ranks=ranks, exchange="nccl")
            loose = ours(precision, "mlp1024", "cnn256", ranks=ranks, exchange="nccl", loose=True)
            for case in exact:
                price = exact[case]["step_ms"] / loose[case]["step_ms"]
                record(f"gpu.{case}.{precision}.ranks{ranks}", exact[case]["step_ms"] * 1e3, "us/step")
                record(f"gpu.{case}.{precision}.ranks{ranks}.exact_price", price, "", target=f"<= {PRICE}",
                       met=price <= PRICE)


def bench_training(peers):
    if peers and peer_python() is None:
        sys.exit("bench-gpu: no PyTorch: run `make bench-peers` once, or with --no-peers")
    if here["standin"]:
        print("stand-in: without the CNN, a step of which takes it minutes")
    for net in ["mlp"] if here["standin"] else TARGETS:
        for precision in PRECISIONS:
            bench_net(net, precision, peers)
    bench_ranks(len(here["gpus"]))


# ---- sweeps ----

SHORT = """
name: bench
hyperparameters: {{lr: {{type: log, minval: 0.001, maxval: 0.01}}}}
searcher: {{name: random, metric: val_error, max_trials: 100, max_time: {steps}, time_metric: steps}}
resources: {{slots_per_trial: 1, max_slots: 1}}
device: cuda
data:
  dir: {fashion}
  train: {{format: idx, images: t10k-images-idx3-ubyte.gz, labels: t10k-labels-idx1-ubyte.gz}}
  validation_split: {split}
  transforms: [{{scale: 0.00392156862745098}}]
model: [{{dense: {{out: 64}}}}, relu, {{dense: {{out: 10}}}}]
training: {{loss: cross_entropy, optimizer: {{name: adamw, lr: "${{lr}}"}}, global_batch_size: 64, eval_every: {steps}}}
checkpoint: {{every: {steps}}}
"""


class Sweep:
    """A finished sweep in a home of its own."""

    def __init__(self, file, *options):
        self.home = tempfile.mkdtemp(prefix="trireme-gpu-")  # short: sockets lie below it
        self.env = dict(ENV, TRIREME_HOME=self.home)
        path = pathlib.Path(file)
        if not path.exists():
            path = pathlib.Path(self.home, "sweep.yaml")
            path.write_text(file)
        begin = time.perf_counter()
        done = subprocess.run([BUILD / "bin/trireme", "run", path, "--json", "--quiet", *options], env=self.env,
                              stdout=subprocess.PIPE, text=True, timeout=540)
        self.seconds = time.perf_counter() - begin
        if done.returncode != 0:
            sys.exit(f"bench-gpu: trireme run ended with exit code {done.returncode}; see {self.home}/log")
        self.trials = sorted(json.loads(done.stdout)["trials"], key=lambda t: t["trial"])
        if any(t["state"] != "completed" for t in self.trials):
            sys.exit("bench-gpu: not every trial completed")

    def gaps_ms(self):
        """Between the last point of a trial and the first step of the next."""
        tracker = subprocess.Popen([BUILD / "bin/trireme-tracker", "--home", self.home], env=self.env,
                                   stderr=subprocess.DEVNULL)
        try:
            spans = []
            for trial in self.trials:
                text = run([BUILD / "bin/trireme", "metrics", trial["run"], "--csv"], env=self.env)
                rows = list(csv.DictReader(text.splitlines()))
                times = {k: [int(r["time_ns"]) for r in rows if r["key"] == k] for k in ("train_loss", "val_loss")}
                spans.append((min(times["train_loss"]), max(times["train_loss"] + times["val_loss"])))
            spans.sort()
            return [(b[0] - a[1]) / 1e6 for a, b in zip(spans, spans[1:])]
        finally:
            tracker.terminate()
            tracker.wait(10)

    def remove(self):
        shutil.rmtree(self.home, ignore_errors=True)


def bench_sweeps(peers):
    standin = here["standin"]
    short = Sweep(SHORT.format(fashion=FASHION, steps=2 if standin else 100, split=0.01 if standin else 0.2))
    gaps = short.gaps_ms()
    used = [t["metrics"]["memory_bytes"] for t in short.trials]
    p50 = statistics.median(gaps)
    record("gpu.trial.warm_start_p50_ms", p50, "ms", target="<= 10", met=p50 <= 10, p90=sorted(gaps)[len(gaps) * 9 // 10])
    record("gpu.sweep.hundred_trials_s", short.seconds, "s")
    record("gpu.memory.first_trial", used[0] / 2**20, "MiB")
    record("gpu.memory.growth_100_trials", (used[-1] - used[0]) / 2**20, "MiB", target="<= 0", met=used[-1] <= used[0])
    short.remove()
    for share in (1,) if standin else (1, 4):
        options = ["--set", "device=cuda", "--set", f"data.dir={FASHION}", "--set", f"resources.slots_per_gpu={share}",
                   "--set", f"resources.max_slots={share}"]
        if standin:
            options += ["--set", "searcher.max_time=1", "--set", "searcher.time_metric=steps", "--set", "searcher.max_trials=2",
                        "--set", "data.validation_split=0.001"]
        demo = Sweep(ROOT / "configs/fashion-mlp.yaml", *options)
        best = min(t["metrics"]["val_error"] for t in demo.trials)
        record(f"gpu.demo_s.{share}_per_gpu", demo.seconds, "s", best_val_error=best, trials=len(demo.trials))
        demo.remove()


def main():
    global here, peer_seconds
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="training or sweeps")
    parser.add_argument("--no-peers", action="store_true", help="without PyTorch")
    parser.add_argument("--peer-seconds", type=int, default=240, help="for PyTorch, each time, compilation included")
    parser.add_argument("--out", type=pathlib.Path, default=BUILD / "bench-gpu.json")
    args = parser.parse_args()
    here, peer_seconds = machine(), args.peer_seconds
    first = here["gpus"][0]
    print(f"{len(here['gpus'])} x {first['gpu']}, {first['isa']}, {here['libraries']}, {here['date']}")
    if here["standin"]:
        print("stand-in: no hardware, the figures mean nothing")
    print(flush=True)
    try:
        for name, bench in (("training", bench_training), ("sweeps", bench_sweeps)):
            if name.startswith(args.only):
                bench(not args.no_peers)
    finally:  # what was measured before an error stays
        args.out.write_text(json.dumps({"machine": here, "results": results}, indent=1) + "\n")
        print(f"\nwrote {args.out}")


if __name__ == "__main__":
    main()
