#!/usr/bin/env python3
"""Collects every benchmark, beside peers with --peers; prints a table and writes build/bench.json.

    bench.py [--peers] [--only PREFIX] [--runs N]

What is compared runs in turns on the same machine, with one thread a rank; a value is the median of
`runs` runs. A program that fails ends the benchmark: nothing is guessed. BUILD names the build tree.
"""
import argparse
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "e2e"))
from wire import Wire, endpoint  # noqa: E402
import numpy as np  # noqa: E402

BUILD = (ROOT / os.environ.get("BUILD", "build")).resolve()
PEERS = BUILD / "peers"
ENV = dict(os.environ, OMP_NUM_THREADS="1", MKL_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1",
           TRIREME_BIN=str(BUILD / "bin"), OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1",
           OMPI_MCA_pml="ob1", OMPI_MCA_btl="self,vader", OMPI_MCA_btl_vader_single_copy_mechanism="none")
PACKAGES = {"torch": "torch", "ray.tune": "ray[tune]", "optuna": "optuna", "mlflow": "mlflow", "onnxruntime": "onnxruntime",
            "onnx": "onnx", "numpy": "numpy"}  # by module
results = []


def record(name, value, unit, runs, peer=None, ratio=None, target=None):
    results.append({"name": name, "value": value, "unit": unit, "runs": runs, "peer": peer, "ratio": ratio})
    shown = f"{value:.4g} {unit}".strip()
    beside = "" if peer is None else f"{peer['name']} {peer['value']:.4g} {peer['unit']}"
    by = "" if ratio is None else f"{ratio:.2f}x"
    print(f"{name:32} {shown:>22} {beside:>34} {by:>9}  {target or ''}", flush=True)


def run(command, **options):
    done = subprocess.run([str(c) for c in command], env=ENV, stdout=subprocess.PIPE, text=True,
                          timeout=options.pop("timeout", 600), **options)
    if done.returncode != 0:
        sys.exit(f"bench: {' '.join(map(str, command))} ended with exit code {done.returncode}")
    return done.stdout


def lines(command, **options):
    """The JSON lines that a program printed, by name."""
    found = [json.loads(line) for line in run(command, **options).splitlines() if line.startswith("{")]
    return {f["name"]: f for f in found}


def cpu_name():
    for line in open("/proc/cpuinfo", encoding="ascii", errors="replace"):
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return "unknown"


def mpirun(ranks):
    # one rank: unbound, as a peer's process is; several: each on its own core
    return ["mpirun", "--oversubscribe", "--bind-to", "core" if ranks <= os.cpu_count() else "none", "-n", ranks]


# ---- training ----

def train_ms(ranks, *cases):
    """{case: ms a step}, one run each, of the real trainer: cases are interleaved by the program."""
    out = run([*mpirun(ranks), BUILD / "tests/bench/worker/bench_train", *cases])
    return {f["case"]: f["step_ms"] for f in map(json.loads, out.splitlines())}


def torch_ms(net, batch, ranks, steps):
    script = ROOT / "tests/bench/peers/pytorch_train.py"
    if ranks == 1:
        command = [PEERS / "bin/python", script, net, batch, steps]
    else:
        command = [PEERS / "bin/python", "-m", "torch.distributed.run", "--nproc-per-node", ranks, script, net,
                   batch, steps]
    return lines(command)[f"pytorch.{net}"]["value"]


def bench_training(runs, peers):
    kernels = lines([BUILD / "tests/bench/kernels/bench_step", "gemm", runs])
    peak = kernels["kernels.gemm.peak"]["value"]
    record("kernels.gemm.peak", peak, "GFLOP/s", runs)
    # flops of 784-512-512-10 at batch 256: forward, weight gradients, and data gradients but the first
    flops = 2 * 256 * (2 * 784 * 512 + 3 * 512 * 512 + 3 * 512 * 10)
    one, two = [], []
    for _ in range(runs):
        one.append(train_ms(1, "mlp256", "mlp256-v1", "mlp1024"))
        two.append(train_ms(2, "mlp256", "mlp1024"))
    median = statistics.median
    ms = median(a["mlp256"] for a in one)
    record("train.mlp.step_ms", ms, "ms", runs)
    record("train.mlp.peak_share", flops / (ms * 1e6) / peak, "", runs, target=">= 0.70")
    record("train.exact_price", median(a["mlp256"] / a["mlp256-v1"] for a in one), "", runs, target="<= 1.12")
    record("train.mlp.scaling2", median(a["mlp256"] / b["mlp256"] for a, b in zip(one, two)), "", runs,
           target=">= 1.6")
    record("train.mlp.scaling2_b1024", median(a["mlp1024"] / b["mlp1024"] for a, b in zip(one, two)), "", runs,
           target=">= 1.8")
    if not peers:
        return
    for net, batch, steps, target in (("mlp", 256, 60, 2), ("tiny", 64, 400, 3), ("cnn", 256, 8, 2.5)):
        for ranks in (1, 2):
            ours, theirs = [], []
            for _ in range(runs):
                ours.append(train_ms(ranks, f"{net}{batch}")[f"{net}{batch}"])
                theirs.append(torch_ms(net, batch, ranks, steps))
            name = f"train.{net}.vs_pytorch" + ("" if ranks == 1 else "_ddp2")
            record(name, median(ours), "ms", runs,
                   {"name": "PyTorch" if ranks == 1 else "DDP/gloo", "value": median(theirs), "unit": "ms"},
                   median(b / a for a, b in zip(ours, theirs)), f">= {target}")


# ---- sweeps ----

SWEEP = """
name: bench
hyperparameters: {{lr: {{type: log, minval: 0.001, maxval: 0.01}}}}
searcher: {{name: random, metric: val_error, max_trials: {trials}, max_time: {steps}, time_metric: steps}}
resources: {{slots_per_trial: 1, max_slots: {slots}}}
data:
  dir: /usr/share/datasets/fashion-mnist
  train: {{format: idx, images: t10k-images-idx3-ubyte.gz, labels: t10k-labels-idx1-ubyte.gz}}
  validation_split: 0.2
  transforms: [{{scale: 0.00392156862745098}}]
model: [{{dense: {{out: 64}}}}, relu, {{dense: {{out: 10}}}}]
training: {{loss: cross_entropy, optimizer: {{name: adamw, lr: "${{lr}}"}}, global_batch_size: 64, eval_every: {steps}}}
checkpoint: {{every: {steps}}}
"""


class Sweep:
    """A finished sweep of `trials` trials in a home of its own."""

    def __init__(self, trials, steps, slots):
        self.home = tempfile.mkdtemp(prefix="trireme-bench-", dir=BUILD)
        file = pathlib.Path(self.home) / "sweep.yaml"
        file.write_text(SWEEP.format(trials=trials, steps=steps, slots=slots))
        env = dict(ENV, TRIREME_HOME=self.home)
        begin = time.perf_counter()
        done = subprocess.run([BUILD / "bin/trireme", "run", file, "--json", "--quiet"], env=env,
                              stdout=subprocess.PIPE, timeout=600)
        self.seconds = time.perf_counter() - begin
        if done.returncode != 0:
            sys.exit(f"bench: trireme run ended with exit code {done.returncode}; see {self.home}/log")
        self.result = json.loads(done.stdout)
        if any(t["state"] != "completed" for t in self.result["trials"]):
            sys.exit("bench: not every trial completed")

    def step_times(self):
        """For each trial: (first, last) time of its train_loss points, and its last evaluation, in ns."""
        tracker = subprocess.Popen([BUILD / "bin/trireme-tracker", "--home", self.home], env=ENV,
                                   stderr=subprocess.DEVNULL)
        try:
            with Wire(endpoint(self.home, "tracker")) as wire:
                spans = []
                for trial in self.result["trials"]:
                    loss = wire.request("run.metrics", run=trial["run"], key="train_loss")
                    val = wire.request("run.metrics", run=trial["run"], key="val_loss")
                    times = np.frombuffer(loss.frames[1], "<i8")
                    spans.append((times[0], times[-1], max(times[-1], np.frombuffer(val.frames[1], "<i8")[-1])))
                return sorted(spans)
        finally:
            tracker.terminate()
            tracker.wait(10)

    def remove(self):
        shutil.rmtree(self.home, ignore_errors=True)


def bench_sweeps(runs, peers):
    starts = []
    for _ in range(runs):
        sweep = Sweep(trials=12, steps=100, slots=1)
        spans = sweep.step_times()
        starts.append(statistics.median((b[0] - a[2]) / 1e6 for a, b in zip(spans, spans[1:])))
        sweep.remove()
    warm = statistics.median(starts)
    peer = ratio = None
    if peers:
        trivial = lines([PEERS / "bin/python", ROOT / "tests/bench/peers/ray_tune.py", 40, 0.0, 1],
                        stderr=subprocess.DEVNULL, cwd="/tmp")["ray.sweep"]["ms_per_trial"]
        peer, ratio = {"name": "Ray Tune, reused actors", "value": trivial, "unit": "ms"}, trivial / warm
    record("trial.warm_start_p50_ms", warm, "ms", runs, peer, ratio, "<= 20")
    if not peers:
        return
    optuna = lines([PEERS / "bin/python", ROOT / "tests/bench/peers/optuna_random.py", 100])["optuna.sqlite"]
    record("trial.warm_start_vs_optuna", warm, "ms", runs,
           {"name": "Optuna on SQLite, no training", "value": optuna["value"], "unit": "ms"}, optuna["value"] / warm)
    # 100 trials of about 0.3 s each: how many steps that is, this machine says
    probe = Sweep(trials=2, steps=400, slots=1)
    ns = statistics.median(s[1] - s[0] for s in probe.step_times()) / 399
    probe.remove()
    steps = max(100, int(0.3e9 / ns))
    sweep = Sweep(trials=100, steps=steps, slots=2)
    work = statistics.median((s[2] - s[0]) / 1e9 for s in sweep.step_times())
    theirs = lines([PEERS / "bin/python", ROOT / "tests/bench/peers/ray_tune.py", 100, work, 2],
                   stderr=subprocess.DEVNULL, cwd="/tmp")["ray.sweep"]
    record("sweep.tiny.vs_ray", sweep.seconds, "s", 1,
           {"name": f"Ray Tune, {work:.2f} s each", "value": theirs["value"], "unit": "s"},
           theirs["value"] / sweep.seconds)
    sweep.remove()


# ---- tracker ----

def bench_tracker(runs, peers):
    found = []
    for _ in range(runs):
        with tempfile.TemporaryDirectory(prefix="trireme-bench-", dir=BUILD, ignore_cleanup_errors=True) as d:
            found.append(lines([BUILD / "tests/bench/wire/bench_tracker", d]))
    median = {n: statistics.median(f[n]["value"] for f in found) for n in found[0]}
    units = {n: f["unit"] for n, f in found[0].items()}
    peer = None
    if peers:
        peer = lines([PEERS / "bin/python", ROOT / "tests/bench/peers/mlflow_points.py", 20, 10],
                     stderr=subprocess.DEVNULL, cwd="/tmp")["mlflow.points"]
    for name, value in median.items():
        beside = ratio = None
        if peer and name == "tracker.points_per_s":
            beside, ratio = {"name": "MLflow + SQLite", "value": peer["value"], "unit": "points/s"}, value / peer["value"]
        if peer and name == "tracker.ack_p50_ms":
            beside = {"name": "MLflow, one metric", "value": peer["single_ms"], "unit": "ms"}
            ratio = peer["single_ms"] / value
        record(name, value, units[name], runs, beside, ratio)


MISSING = """
import importlib.util, sys
def found(name):
    try:
        return importlib.util.find_spec(name)
    except ModuleNotFoundError:
        return None
print(*(name for name in sys.argv[1:] if not found(name)))
"""


def install_peers(modules):
    if not (PEERS / "bin/python").exists():
        made = subprocess.run([sys.executable, "-m", "venv", PEERS])
        if made.returncode != 0:
            sys.exit("bench: no virtual environment; install python3-venv")
    missing = [PACKAGES[m] for m in run([PEERS / "bin/python", "-c", MISSING, *modules]).split()]
    if missing:
        print(f"bench: installing {', '.join(missing)} from PyPI into", PEERS.relative_to(ROOT), "(minutes)", flush=True)
        if subprocess.run([PEERS / "bin/python", "-m", "pip", "install", "-q", "--no-compile", *missing]).returncode != 0:
            sys.exit("bench: PyPI was not reachable: no peers")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", action="store_true", help="beside PyTorch, Ray Tune, Optuna and MLflow")
    parser.add_argument("--install-peers", nargs="*", metavar="MODULE", choices=PACKAGES,
                        help="make their environment, measure nothing; all, or those that are named")
    parser.add_argument("--only", default="", help="training, sweeps or tracker")
    parser.add_argument("--runs", type=int, default=5)
    args = parser.parse_args()
    if args.peers or args.install_peers is not None:
        install_peers(args.install_peers or PACKAGES)
    if args.install_peers is not None:
        return
    print(f"{cpu_name()}, {os.cpu_count()} cores, {time.strftime('%Y-%m-%d')}\n")
    for name, bench in (("training", bench_training), ("sweeps", bench_sweeps), ("tracker", bench_tracker)):
        if name.startswith(args.only):
            bench(args.runs, args.peers)
    out = BUILD / "bench.json"
    out.write_text(json.dumps(results, indent=1) + "\n")
    print(f"\nwrote {out.relative_to(ROOT) if out.is_relative_to(ROOT) else out}")


if __name__ == "__main__":
    main()
