"""Times PyTorch training steps of the three benchmark nets, one core per rank.

    python pytorch_train.py NET BATCH [STEPS]                      one rank
    torchrun --nproc-per-node 2 pytorch_train.py NET BATCH [STEPS] DDP over gloo, BATCH in all

Prints one JSON line {"name", "value" (median ms a step), "unit", "batch"} on rank 0.
"""
import json
import os
import statistics
import sys
import time

import torch
from torch import nn

NETS = {
    "mlp": (lambda: nn.Sequential(nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(),
                                  nn.Linear(512, 10)), (784,)),
    "tiny": (lambda: nn.Sequential(nn.Linear(784, 64), nn.ReLU(), nn.Linear(64, 10)), (784,)),
    "cnn": (lambda: nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(3136, 128), nn.ReLU(), nn.Linear(128, 10)), (1, 28, 28)),
}


def time_steps(net, optimizer, x, y, steps):
    loss_of = nn.CrossEntropyLoss()
    times = []
    for _ in range(steps):
        begin = time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        loss = loss_of(net(x), y)
        loss.backward()
        optimizer.step()
        loss.item()
        times.append(time.perf_counter() - begin)
    return statistics.median(times[len(times) // 5:]) * 1e3


def main():
    name, batch = sys.argv[1], int(sys.argv[2])
    steps = int(sys.argv[3]) if len(sys.argv) > 3 else 30
    world = int(os.environ.get("WORLD_SIZE", "1"))
    torch.set_num_threads(1)
    torch.manual_seed(1)
    if world > 1:
        torch.distributed.init_process_group("gloo")
    make, shape = NETS[name]
    rows = batch // world
    x, y = torch.rand(rows, *shape), torch.randint(0, 10, (rows,))
    best = None
    # channels-last is what PyTorch recommends for convolutions: take the faster of the two
    for layout in ([torch.contiguous_format, torch.channels_last] if name == "cnn" else [None]):
        net, data = make(), x
        if layout is not None:
            net, data = net.to(memory_format=layout), x.to(memory_format=layout)
        if world > 1:
            net = nn.parallel.DistributedDataParallel(net)
        optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3, foreach=True)
        ms = time_steps(net, optimizer, data, y, steps)
        best = ms if best is None else min(best, ms)
    if world == 1 or torch.distributed.get_rank() == 0:
        print(json.dumps({"name": f"pytorch.{name}", "value": best, "unit": "ms/step", "batch": batch,
                          "version": torch.__version__}), flush=True)
    if world > 1:
        torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main()
