"""Times training steps of a benchmark net in PyTorch on one GPU, as fast as PyTorch has them.

    python pytorch_gpu.py NET BATCH PRECISION [--seconds S] [--device cpu --steps N]

NET is mlp or cnn, PRECISION fp32, tf32 or bf16 (autocast, float32 weights). The data set lies on the GPU, converted; a
step gathers a shuffled batch, and is forward, loss, backward and a fused AdamW. Three variants, each with the whole step
as one CUDA graph where it can be:

    graph            the net as it is, the step captured by torch.cuda.graph
    compile+graph    torch.compile(mode="max-autotune-no-cudagraphs"), the step captured
    reduce-overhead  torch.compile(mode="reduce-overhead"): PyTorch's own graphs; the optimizer's launches beside them

The CNN runs channels-last. One JSON line for each variant as it is measured: {"net", "variant", "step_ms" (median),
"runs", "precision", "batch", "version"}; a variant that PyTorch refuses says so on standard error and is left out.
"""
import argparse
import json
import statistics
import sys
import time

import torch
from torch import nn

SAMPLES, RUNS, WARM = 8192, 5, 20
NETS = {
    "mlp": (lambda: nn.Sequential(nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 10)),
            (784,)),
    "cnn": (lambda: nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(3136, 128), nn.ReLU(), nn.Linear(128, 10)), (1, 28, 28)),
}


class Training:
    """A net, its data and its optimizer: step() queues one step."""

    def __init__(self, args, compile_mode):
        make, shape = NETS[args.net]
        self.device, self.batch, self.cuda = torch.device(args.device), args.batch, args.device == "cuda"
        torch.manual_seed(1)
        net, images = make().to(self.device), torch.rand(SAMPLES, *shape, device=self.device)
        if args.net == "cnn":
            net, images = net.to(memory_format=torch.channels_last), images.to(memory_format=torch.channels_last)
        self.images, self.labels = images, torch.randint(0, 10, (SAMPLES,), device=self.device)
        self.net = torch.compile(net, mode=compile_mode) if compile_mode else net
        self.loss = nn.CrossEntropyLoss()
        self.optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3, fused=True, **({"capturable": True} if self.cuda else {}))
        self.rows = torch.empty(args.batch, dtype=torch.int64, device=self.device)
        # in a graph, weights cast for autocast must not be cached from before it
        self.cast = torch.autocast(args.device, torch.bfloat16, enabled=args.precision == "bf16", cache_enabled=False)
        self.at, self.order, self.graph = SAMPLES, None, None

    def work(self):
        x, y = self.images[self.rows], self.labels[self.rows]
        with self.cast:
            loss = self.loss(self.net(x), y)
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def next_rows(self):
        if self.at + self.batch > SAMPLES:
            self.order, self.at = torch.randperm(SAMPLES, device=self.device), 0
        self.rows.copy_(self.order[self.at:self.at + self.batch])
        self.at += self.batch

    def capture(self):
        """The usual way: some steps on a side stream, then one that is recorded."""
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(WARM):
                self.next_rows()
                self.work()
        torch.cuda.current_stream().wait_stream(side)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.work()

    def step(self):
        self.next_rows()
        if self.graph:
            self.graph.replay()
        else:
            self.work()

    def wait(self):
        if self.cuda:
            torch.cuda.synchronize()


def seconds_of(training, steps):
    training.wait()
    begin = time.perf_counter()
    for _ in range(steps):
        training.step()
    training.wait()
    return time.perf_counter() - begin


def measure(args, name, compile_mode, captured):
    training = Training(args, compile_mode)
    if captured:
        training.capture()
    seconds_of(training, args.steps or WARM)
    steps = args.steps or max(WARM, int(args.seconds * WARM / seconds_of(training, WARM)))
    runs = [seconds_of(training, steps) / steps * 1e3 for _ in range(RUNS)]
    print(json.dumps({"net": args.net, "variant": name, "step_ms": statistics.median(runs), "runs": runs, "steps": steps,
                      "precision": args.precision, "batch": args.batch, "version": torch.__version__}), flush=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("net", choices=NETS)
    parser.add_argument("batch", type=int)
    parser.add_argument("precision", choices=["fp32", "tf32", "bf16"])
    parser.add_argument("--seconds", type=float, default=0.3, help="of each of the five runs")
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"], help="cpu: to try the program out")
    parser.add_argument("--steps", type=int, default=0, help="of each run, in place of --seconds")
    args = parser.parse_args()
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = args.precision == "tf32"
    torch.set_float32_matmul_precision("high" if args.precision == "tf32" else "highest")
    torch.backends.cudnn.benchmark = True
    variants = [("graph", None, True), ("compile+graph", "max-autotune-no-cudagraphs", True),
                ("reduce-overhead", "reduce-overhead", False)]
    if args.device == "cpu":
        variants = [("eager", None, False)]
    for variant in variants:
        try:
            measure(args, *variant)
        except Exception as error:  # whatever PyTorch and its compiler raise: the other variants count
            print(f"pytorch_gpu: {variant[0]}: {type(error).__name__}: {str(error)[:300]}", file=sys.stderr, flush=True)
            torch._dynamo.reset()


if __name__ == "__main__":
    main()
