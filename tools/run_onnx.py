#!/usr/bin/python3
"""Runs an exported ONNX file on IDX test data and prints accuracy and error: a program that shares no
line with Trireme. It uses onnxruntime where that can be imported, and numpy with the onnx package otherwise.

    tools/run_onnx.py model.onnx t10k-images-idx3-ubyte.gz t10k-labels-idx1-ubyte.gz [--numpy] [--batch N]
"""
import argparse
import gzip
import math
import struct
import sys
import time

import numpy as np
import onnx
from onnx import numpy_helper

IDX_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def read_idx(path):
    """An array from an IDX file, plain or gzip."""
    with open(path, "rb") as f:
        gz = f.read(2) == b"\x1f\x8b"
    with (gzip.open if gz else open)(path, "rb") as f:
        data = f.read()
    zero, kind, dims = struct.unpack(">HBB", data[:4])
    if zero != 0 or kind not in IDX_TYPES:
        sys.exit(f"{path}: not an IDX file")
    shape = struct.unpack(f">{dims}I", data[4:4 + 4 * dims])
    return np.frombuffer(data, IDX_TYPES[kind], offset=4 + 4 * dims).reshape(shape)


# ---- the operators of an export, in numpy ----

_erf = np.vectorize(math.erf, otypes=[np.float64])


def erf(x):
    """Exactly for few numbers; Abramowitz and Stegun 7.1.26 refined is not needed: a table with cubic
    interpolation over [-6, 6] is within 1e-12 of math.erf."""
    if x.size <= 65536:
        return _erf(x).astype(x.dtype)
    step, edge = 1 / 512, 6.0
    if not hasattr(erf, "table"):
        grid = np.arange(-edge, edge + step / 2, step)
        erf.table = grid, _erf(grid), 2 / math.sqrt(math.pi) * np.exp(-grid * grid)
    grid, value, slope = erf.table
    z = np.clip(x.astype(np.float64), -edge, edge - 1e-9)
    i = ((z + edge) / step).astype(np.int64)
    t = (z - grid[i]) / step
    h00, h10 = (1 + 2 * t) * (1 - t) ** 2, t * (1 - t) ** 2
    h01, h11 = t * t * (3 - 2 * t), t * t * (t - 1)
    y = h00 * value[i] + h10 * step * slope[i] + h01 * value[i + 1] + h11 * step * slope[i + 1]
    return y.astype(x.dtype)


def windows(x, kernel, strides):
    """(N, C, H', W', kh, kw), a view."""
    view = np.lib.stride_tricks.sliding_window_view(x, kernel, axis=(2, 3))
    return view[:, :, ::strides[0], ::strides[1]]


def conv(x, weight, bias, kernel_shape, strides, pads):
    x = np.pad(x, ((0, 0), (0, 0), (pads[0], pads[2]), (pads[1], pads[3])))
    view = windows(x, kernel_shape, strides)
    n, c, h, w = view.shape[:4]
    columns = view.transpose(0, 2, 3, 1, 4, 5).reshape(n * h * w, -1)
    y = columns @ weight.reshape(weight.shape[0], -1).T
    if bias is not None:
        y += bias
    return y.reshape(n, h, w, -1).transpose(0, 3, 1, 2)


def batch_norm(x, scale, bias, mean, var, epsilon=1e-5):
    shape = [1, -1] + [1] * (x.ndim - 2)
    factor = (scale / np.sqrt(var + epsilon)).reshape(shape)
    return (x - mean.reshape(shape)) * factor + bias.reshape(shape)


def gemm(a, b, c=None, transB=0):
    y = a @ (b.T if transB else b)
    return y if c is None else y + c


def softmax(x, axis=-1):
    e = np.exp(x - x.max(axis=axis, keepdims=True))
    return e / e.sum(axis=axis, keepdims=True)


OPS = {
    "Add": np.add, "Sub": np.subtract, "Mul": np.multiply, "Div": np.divide,
    "Gemm": gemm,
    "Conv": lambda x, w, b=None, *, kernel_shape, strides, pads: conv(x, w, b, kernel_shape, strides, pads),
    "BatchNormalization": batch_norm,
    "MaxPool": lambda x, *, kernel_shape, strides: windows(x, kernel_shape, strides).max(axis=(4, 5)),
    "AveragePool": lambda x, *, kernel_shape, strides: windows(x, kernel_shape, strides).mean(axis=(4, 5)),
    "Relu": lambda x: np.maximum(x, 0),
    "Tanh": np.tanh,
    "Sigmoid": lambda x: (1 + np.tanh(x / 2)) / 2,
    "Erf": erf,
    "Flatten": lambda x, axis=1: x.reshape(int(np.prod(x.shape[:axis], dtype=int)), -1),
    "Identity": lambda x: x,
    "Cast": lambda x, *, to: x.astype({1: np.float32, 11: np.float64}[to]),
    "Softmax": softmax,
}


class Graph:
    """An ONNX graph in numpy, evaluated in `dtype`."""

    def __init__(self, model, dtype=np.float32):
        self.graph, self.dtype = model.graph, dtype
        self.constants = {t.name: self.typed(numpy_helper.to_array(t)) for t in self.graph.initializer}
        wide = self.graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.DOUBLE
        self.input_dtype = np.float64 if wide else dtype
        self.outputs = [o.name for o in self.graph.output]

    def typed(self, t):
        return t if t.dtype == np.float64 else t.astype(self.dtype)

    def run(self, x):
        values = {**self.constants, self.graph.input[0].name: x.astype(self.input_dtype)}
        for node in self.graph.node:
            attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
            y = OPS[node.op_type](*(values[name] for name in node.input), **attributes)
            values[node.output[0]] = np.asarray(y, self.dtype)
        return {name: values[name] for name in self.outputs}


def open_model(path, numpy_only=False):
    """(name of the engine, function from a batch to {output: array})."""
    if not numpy_only:
        try:
            import onnxruntime
        except ImportError:
            pass
        else:
            session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
            names = [o.name for o in session.get_outputs()]
            first = session.get_inputs()[0].name
            return (f"onnxruntime {onnxruntime.__version__}",
                    lambda x: dict(zip(names, session.run(None, {first: x.astype(np.float32)}))))
    return f"numpy {np.__version__}", Graph(onnx.load(path)).run


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("images")
    parser.add_argument("labels")
    parser.add_argument("--numpy", action="store_true", help="do not use onnxruntime")
    parser.add_argument("--batch", type=int, default=250)
    args = parser.parse_args()

    model = onnx.load(args.model)
    onnx.checker.check_model(model)
    engine, run = open_model(args.model, args.numpy)
    images, labels = read_idx(args.images), read_idx(args.labels)
    if len(images) != len(labels):
        sys.exit(f"{len(images)} images, but {len(labels)} labels")
    shape = [d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim[1:]]
    started, correct = time.monotonic(), 0
    for at in range(0, len(images), args.batch):
        x = images[at:at + args.batch].reshape(-1, *shape)
        logits = run(x)["logits"]
        correct += int((logits.argmax(axis=1) == labels[at:at + args.batch]).sum())
    n = len(images)
    print(f"{args.model}: {n} images by {engine} in {time.monotonic() - started:.1f} s: "
          f"accuracy={correct / n:.6f} error={(n - correct) / n:.6f}")


if __name__ == "__main__":
    main()
