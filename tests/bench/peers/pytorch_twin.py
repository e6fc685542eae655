"""Trains the same net as a run of ours in PyTorch, from the same weights on the same batches.

    python pytorch_twin.py CASE.json

CASE: {"net": "mlp"|"cnn", "weights": FILE.npz, "images": FILE.npy (N, 784) float32, "labels": FILE.npy, "batch", "steps",
"optimizer": "sgd"|"adam"|"adamw", "lr", "out": FILE.npz}. Prints {"losses": [...]}; writes the final weights to "out".
"""
import json
import sys

import numpy as np
import torch
from torch import nn




def build(net):
    if net == "mlp":
        return nn.Sequential(nn.Linear(784, 48), nn.ReLU(), nn.Linear(48, 32), nn.GELU(), nn.Linear(32, 10))
    return nn.Sequential(nn.Conv2d(1, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2),
                         nn.Conv2d(8, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(), nn.AvgPool2d(2),
                         nn.Flatten(), nn.Linear(784, 10))


def main():
    case = json.load(open(sys.argv[1]))
    torch.set_num_threads(1)
    net = build(case["net"])
    weights = np.load(case["weights"])
    net.load_state_dict({k: torch.from_numpy(weights[k]) for k in weights.files}, strict=False)
    images, labels = np.load(case["images"]), np.load(case["labels"])
    lr = case["lr"]
    optimizer = {"sgd": lambda p: torch.optim.SGD(p, lr=lr, momentum=0.9, nesterov=True),
                 "adam": lambda p: torch.optim.Adam(p, lr=lr),
                 "adamw": lambda p: torch.optim.AdamW(p, lr=lr, weight_decay=0.01)}[case["optimizer"]](net.parameters())
    loss_of, losses, b = nn.CrossEntropyLoss(), [], case["batch"]
    net.train()
    for step in range(case["steps"]):
        x = torch.from_numpy(images[step * b:(step + 1) * b])
        if case["net"] == "cnn":
            x = x.reshape(-1, 1, 28, 28)
        loss = loss_of(net(x), torch.from_numpy(labels[step * b:(step + 1) * b]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    np.savez(case["out"], **{k: v.numpy() for k, v in net.state_dict().items()})
    print(json.dumps({"losses": losses}))


if __name__ == "__main__":
    main()
