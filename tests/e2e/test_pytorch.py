"""Whole nets beside PyTorch, step by step: the same weights, the same batches, the same losses within float32's
reach. `make proof` and `make test-peers` make the peers' environment and run this."""
import gzip
import json
import os
import pathlib
import struct
import subprocess

import numpy as np
import pytest

from wire import Wire, endpoint

ROOT = pathlib.Path(__file__).resolve().parents[2]
PYTHON = ROOT / "build" / "peers" / "bin" / "python"
FASHION = pathlib.Path("/usr/share/datasets/fashion-mnist")
STEPS, BATCH = 40, 64

pytestmark = [pytest.mark.proof, pytest.mark.skipif(not PYTHON.exists() or not FASHION.exists(),
                                                    reason="no peers' environment: make test-peers")]

NETS = {
    "mlp": ("[{dense: {out: 48}}, relu, {dense: {out: 32}}, gelu, {dense: {out: 10}}]", 8,
            {"0": (48, 784), "2": (32, 48), "4": (10, 32)}, ()),
    # one virtual shard: PyTorch's batch norm sees the whole batch. No bias before a batch norm: its true gradient is
    # zero, and Adam would make steps of full length out of rounding noise
    "cnn": ("[{conv2d: {out: 8, kernel: 3, padding: same, bias: false}}, batch_norm, relu, {max_pool: 2}, "
            "{conv2d: {out: 16, kernel: 3, padding: same, bias: false}}, batch_norm, relu, {avg_pool: 2}, flatten, {dense: {out: 10}}]", 1,
            {"0": (8, 1, 3, 3), "4": (16, 8, 3, 3), "9": (10, 784)}, {"1": 8, "5": 16}),
}
OPTIMIZERS = {"sgd": "{name: sgd, lr: 0.01, momentum: 0.9, nesterov: true}", "adam": "{name: adam, lr: 0.001}",
              "adamw": "{name: adamw, lr: 0.001, weight_decay: 0.01}"}
RATES = {"sgd": 0.01, "adam": 0.001, "adamw": 0.001}


def random_weights(layers, norms):
    draw = np.random.default_rng(1)
    weights = {}
    for name, shape in layers.items():
        bound = 1 / np.sqrt(np.prod(shape[1:]))
        weights[f"{name}.weight"] = draw.uniform(-bound, bound, shape).astype(np.float32)
        if len(shape) == 2:
            weights[f"{name}.bias"] = draw.uniform(-bound, bound, shape[0]).astype(np.float32)
    for name, channels in dict(norms).items():
        weights[f"{name}.weight"] = draw.uniform(0.5, 1.5, channels).astype(np.float32)
        weights[f"{name}.bias"] = draw.uniform(-0.1, 0.1, channels).astype(np.float32)
        weights[f"{name}.running_mean"] = np.zeros(channels, np.float32)
        weights[f"{name}.running_var"] = np.ones(channels, np.float32)
    return weights


def write_safetensors(path, tensors):
    header, at = {}, 0
    for name, t in tensors.items():
        header[name] = {"dtype": "F32", "shape": list(t.shape), "data_offsets": [at, at + t.nbytes]}
        at += t.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(t.tobytes() for t in tensors.values()))


def read_safetensors(data):
    size, = struct.unpack_from("<Q", data)
    header = json.loads(data[8:8 + size])
    header.pop("__metadata__", None)
    return {n: np.frombuffer(data[8 + size + h["data_offsets"][0]:8 + size + h["data_offsets"][1]], "<f4").reshape(h["shape"])
            for n, h in header.items()}


def images_and_labels():
    images = np.frombuffer(gzip.open(FASHION / "t10k-images-idx3-ubyte.gz").read(), np.uint8, offset=16)
    labels = np.frombuffer(gzip.open(FASHION / "t10k-labels-idx1-ubyte.gz").read(), np.uint8, offset=8)
    return images.reshape(-1, 784).astype(np.float32) * np.float32(0.00392156862745098), labels.astype(np.int64)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("net", NETS)
def test_same_losses_and_weights(net, optimizer, home, bin_dir, tmp_path, daemons):
    layers, shards, shapes, norms = NETS[net]
    weights = random_weights(shapes, norms)
    write_safetensors(tmp_path / "w.safetensors", weights)
    (tmp_path / "s.yaml").write_text(f"""
name: twin
searcher: {{name: single, metric: val_error, max_time: {STEPS}, time_metric: steps}}
reproducibility: {{virtual_shards: {shards}}}
data:
  dir: {FASHION}
  train: {{format: idx, images: t10k-images-idx3-ubyte.gz, labels: t10k-labels-idx1-ubyte.gz}}
  shuffle: false
  validation_split: 0.2
  transforms: [{{scale: 0.00392156862745098}}]
model: {layers}
training: {{loss: cross_entropy, optimizer: {OPTIMIZERS[optimizer]}, global_batch_size: {BATCH},
           initial_weights: {tmp_path}/w.safetensors}}
""")
    out = subprocess.run([bin_dir / "trireme", "run", tmp_path / "s.yaml", "--json", "--quiet"], check=True,
                         stdout=subprocess.PIPE)
    run = json.loads(out.stdout)["best"]["run"]
    daemons("trireme-tracker")
    with Wire(endpoint(str(home), "tracker")) as wire:
        ours = np.frombuffer(wire.request("run.metrics", run=run, key="train_loss").frames[2], "<f8")
        final = read_safetensors(wire.request("artifact.get", run=run, path="model.safetensors").frames[0])

    images, labels = images_and_labels()
    np.save(tmp_path / "x.npy", images[:STEPS * BATCH])
    np.save(tmp_path / "y.npy", labels[:STEPS * BATCH])
    np.savez(tmp_path / "w.npz", **weights)
    (tmp_path / "case.json").write_text(json.dumps({
        "net": net, "weights": f"{tmp_path}/w.npz", "images": f"{tmp_path}/x.npy", "labels": f"{tmp_path}/y.npy",
        "batch": BATCH, "steps": STEPS, "optimizer": optimizer, "lr": RATES[optimizer], "out": f"{tmp_path}/out.npz"}))
    twin = subprocess.run([PYTHON, ROOT / "tests/bench/peers/pytorch_twin.py", tmp_path / "case.json"], check=True,
                          stdout=subprocess.PIPE, env=dict(os.environ, OMP_NUM_THREADS="1"))
    theirs = np.array(json.loads(twin.stdout)["losses"])
    assert len(ours) == STEPS
    # the first step is one forward pass; after that rounding differences grow through the steps
    assert abs(ours[0] - theirs[0]) <= 2e-6 * theirs[0]
    np.testing.assert_allclose(ours, theirs, rtol=2e-3)
    after = np.load(tmp_path / "out.npz")
    for name, tensor in final.items():
        np.testing.assert_allclose(tensor, after[name], atol=2e-3, rtol=2e-3, err_msg=name)
